"""What a build tells its user: a table of the datasets, and what to know of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from tabulate import tabulate

from headposeplus.build.build import Summary
from headposeplus.build.estimate import Estimate
from headposeplus.build.record import ORDER_REPORT
from headposeplus.raw import render_order

_LISTED = 20  # damaged files that are printed; dataset.json holds all


def _angles(values: list[float] | None) -> str:
    return ", ".join(f"{value:.2f}" for value in values) if values else ""


def describe(summary: Summary, out: Path) -> str:
    """Return the summary of a build as text."""
    rows = []
    for info in summary.datasets:
        labels = info.get("labels", {})
        rows.append(
            {
                "dataset": info["name"],
                "images": f"{info['rows']:,}",
                "mean pitch, yaw, roll": _angles(labels.get("mean")),
                "deviation": _angles(labels.get("std")),
                "boxes": ", ".join(f"{count:,} {source}" for source, count in info["boxes"].items()),
                "left out": f"{len(info['left_out']):,}",
            }
        )
    lines = [tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True)]
    lines += ["Angles in degrees: convention pyr, RGB camera.", ""]
    if summary.order:
        lines += [
            render_order.describe(summary.order),
            f"recorded in {out / 'synhead+' / ORDER_REPORT}",
            "",
        ]
    for info in summary.datasets:
        if "face_not_visible" in info:
            lines.append(f"{info['name']}: {info['face_not_visible']:,} frames left out because no face is visible")
        if "residual" in info:
            for measure, name in (("euler", "mean Euler error"), ("geodesic", "geodesic error")):
                r, before = info["residual"][measure]["after"], info["residual"][measure]["before"]
                lines.append(
                    f"{info['name']}: {name} to the Biwi poses: mean {r['mean']:.2f}, median {r['median']:.2f}, "
                    f"95th percentile {r['p95']:.2f} degrees (before the turn: mean {before['mean']:.2f})"
                )
    lines += summary.notes
    if summary.left_out:
        lines += ["", f"{len(summary.left_out):,} damaged or incomplete frames were left out:"]
        lines += summary.left_out[:_LISTED]
        more = len(summary.left_out) - _LISTED
        lines += [f"... and {more:,} more, listed in dataset.json"] if more > 0 else []
    return "\n".join([*lines, "", f"datasets in {out}"])


def describe_estimates(estimates: list[Estimate], notes: list[str], out: Path) -> str:
    """Return what a build would do as text."""
    rows = [
        {
            "dataset": one.name,
            "shards": f"{one.shards:,}",
            "to build": f"{one.missing:,}",
            "images to build": f"{one.images:,}",
            "about": f"{one.bytes / 2**20:,.1f} MiB",
            "about seconds": f"{one.seconds:,.0f}",
        }
        for one in estimates
    ]
    needed, free = sum(one.bytes for one in estimates), shutil.disk_usage(_existing(out)).free
    total = f"{needed / 2**20:,.1f} MiB, about {sum(one.seconds for one in estimates):,.0f} seconds"
    lines = [
        "Nothing was built (--dry-run). What is needed, extrapolated from a few images of each dataset:", "",
        tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True), "",
        f"In all about {total}; {free / 2**30:,.1f} GiB are free in {_existing(out)}.",
    ]  # fmt: skip
    if needed > free:
        lines.append("The disk has not enough room.")
    return "\n".join([*lines, *notes])


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
