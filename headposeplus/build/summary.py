"""What a build tells its user: a table of the datasets, and what to know of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from headposeplus import tables
from headposeplus.build.build import Summary
from headposeplus.build.estimate import Estimate
from headposeplus.build.record import ORDER_REPORT
from headposeplus.datasets.card import misplaced_boxes
from headposeplus.datasets.dataset import Dataset
from headposeplus.datasets.info import Info, describe_digests
from headposeplus.faults import plural
from headposeplus.raw import render_order
from headposeplus.raw.source import found_at
from headposeplus.raw.targets import STILLS

_LISTED = 20  # damaged files that are printed; dataset.json holds all


def _angles(labels: dict[str, list[float]], statistic: str) -> str:
    return " ".join(map(tables.rounded, labels.get(statistic, ())))


def _table(datasets: list[Dataset]) -> str:
    rows = [
        {
            "dataset": info.name,
            "images": f"{info.rows:,}",
            "mean pitch, yaw, roll": _angles(info.labels, "mean"),
            "deviation": _angles(info.labels, "std"),
            "boxes": ", ".join(f"{count:,} {source}" for source, count in info.boxes.items()),
            **({"left out": f"{len(info.left_out):,}"} if any(one.info.left_out for one in datasets) else {}),
        }
        for _, info in datasets
    ]
    return tables.table(rows, whole=("mean pitch, yaw, roll", "deviation"))


def _remarks(info: Info) -> list[str]:
    """Return what there is to say of a dataset beside the table."""
    lines = []
    if info.face_not_visible is not None:
        lines.append(f"{info.name}: {plural(info.face_not_visible, 'frame')} left out because no face is visible")
    if info.beyond:
        lines.append(f"{info.name}: {plural(len(info.beyond), 'image')} left out for {STILLS[info.name].limit}:")
        lines += [f"  {line}" for line in info.beyond]
    if info.residual is not None:
        errors = (("mean Euler error", info.residual.euler), ("geodesic error", info.residual.geodesic))
        for name, error in errors:
            before, after = error.before, error.after
            lines.append(
                f"{info.name}: {name} to the Biwi poses: mean {after.mean:.2f}, median {after.median:.2f}, "
                f"95th percentile {after.p95:.2f} degrees (before the turn: mean {before.mean:.2f})"
            )
    return lines


def describe(summary: Summary, out: Path) -> str:
    """Return the summary of a build as text."""
    digests = {info.name: info.labels_sha256 for _, info in summary.datasets if info.labels_sha256}
    lines = [_table(summary.datasets)]
    lines += tables.prose("Angles in degrees: convention pyr, RGB camera.")
    lines += [*tables.prose(*describe_digests(digests), *found_at(summary.roots)), ""]
    if summary.order:
        lines += [render_order.describe(summary.order), f"recorded in {out / 'synhead+' / ORDER_REPORT}", ""]
    for dataset in summary.datasets:
        lines += [*tables.prose(*_remarks(dataset.info)), *map(str, misplaced_boxes(dataset))]
    lines += tables.prose(*summary.notes)
    left_out = list(dict.fromkeys(map(str, summary.left_out)))  # a frame of two datasets is one
    if left_out:
        frames = "frame was" if len(left_out) == 1 else "frames were"
        lines += ["", f"{len(left_out):,} damaged or incomplete {frames} left out:", *left_out[:_LISTED]]
        unlisted = len(left_out) - _LISTED
        lines += [f"... and {unlisted:,} more, listed in dataset.json"] if unlisted > 0 else []
    return "\n".join([*lines, "", f"datasets in {out}"])


def describe_estimates(estimates: list[Estimate], notes: list[str], out: Path) -> str:
    """Return what a build would do as text."""
    rows = [
        {
            "dataset": estimate.name,
            "shards": f"{estimate.shards:,}",
            "to build": f"{estimate.missing:,}",
            "images to build": f"{estimate.images:,}",
            "about": f"{estimate.bytes / 2**20:,.1f} MiB",
            "about seconds": f"{estimate.seconds:,.0f}",
        }
        for estimate in estimates
    ]
    place = _existing(out)
    needed, free = sum(estimate.bytes for estimate in estimates), shutil.disk_usage(place).free
    seconds = sum(estimate.seconds for estimate in estimates)
    lines = [
        f"In all about {needed / 2**20:,.1f} MiB, about {seconds:,.0f} seconds; {free / 2**30:,.1f} GiB are free in "
        f"{place}."
    ]
    if needed > free:
        lines.append("The disk has not enough room.")
    first = "Nothing was built. What is needed, extrapolated from a few images of each dataset:"
    return "\n".join([*tables.prose(first), "", tables.table(rows), "", *tables.prose(*lines, *notes)])


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
