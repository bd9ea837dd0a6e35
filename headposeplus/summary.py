"""What a build tells its user: a table of the datasets, and what to know of them."""

from __future__ import annotations

from pathlib import Path

from tabulate import tabulate

from headposeplus.build import ORDER_REPORT, Options, Summary, build_datasets
from headposeplus.files import cores

_COLUMNS = 4  # of the table of rendering orders
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
        report = summary.order
        cells = [f"{c.order} {c.error:.3f} ({c.behind:.0f})" for c in report.candidates]
        table = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
        lines += [
            f"SynHead's rendering order, inferred from {report.pairs} pairs of images: {report.order}",
            f"(margin {report.margin:.1f} standard errors; {report.biwi})",
            "All candidates by error (0 the same image, 1 unrelated), and standard errors behind the best:",
            tabulate(table, tablefmt="plain", disable_numparse=True),
            f"recorded in {out / 'synhead+' / ORDER_REPORT}",
            "",
        ]
    for info in summary.datasets:
        if "face_not_visible" in info:
            lines.append(f"{info['name']}: {info['face_not_visible']:,} frames left out because no face is visible")
        if "residual" in info:
            for measure, name in (("euler", "mean Euler error"), ("geodesic", "geodesic error")):
                r = info["residual"][measure]
                lines.append(
                    f"{info['name']}: {name} to the Biwi poses: mean {r['mean']:.2f}, median {r['median']:.2f}, "
                    f"95th percentile {r['p95']:.2f} degrees"
                )
    lines += summary.notes
    if summary.left_out:
        lines += ["", f"{len(summary.left_out):,} damaged or incomplete frames were left out:"]
        lines += summary.left_out[:_LISTED]
        more = len(summary.left_out) - _LISTED
        lines += [f"... and {more:,} more, listed in dataset.json"] if more > 0 else []
    return "\n".join([*lines, "", f"datasets in {out}"])


def build_and_describe(
    out: Path,
    biwi: Path | None,
    synhead: Path | None,
    boxes: Path | None,
    size: int,
    render_order: str | None,
    visible_margin: float,
    lossless: bool,
    strict: bool,
    manifest: Path | None,
    seed: int,
    jobs: int | None,
) -> tuple[str, int]:
    """Build the datasets; return the summary and how many damaged frames were left out."""
    options = Options(size, visible_margin, lossless, strict)
    summary = build_datasets(out, biwi, synhead, boxes, render_order, options, jobs or cores(), manifest, seed)
    return describe(summary, out), len(summary.left_out)
