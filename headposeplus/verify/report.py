"""Reports of :mod:`headposeplus.verify.raw` and :mod:`headposeplus.verify.datasets`: what they share, and as text.

A report is made of plain JSON values and does not depend on the number of processes. A fault is one line that
names the file, what was expected and the way to mend it; a warning is worth knowing but leaves the data whole.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from headposeplus import __version__
from headposeplus.files import sha256
from headposeplus.raw import manifest
from headposeplus.rotations import Floats, from_matrix

Report = dict[str, Any]

# The manifest's four digits and the six of pose.txt move a sequence's mean by less than a tenth of this.
LABEL_TOLERANCE = 1e-3  # degrees
DEGREES = "degrees, convention pyr, RGB camera"
COUNTS = ("expected", "present", "missing", "extra", "unreadable", "truncated")  # of frames or images
LISTED = 20  # faults that are printed; the report holds all


def begin(manifest_file: Path | None, deep: bool) -> Report:
    """Return the beginning of a report."""
    path = manifest_file or manifest.default_path()
    return {
        "toolkit": __version__,
        "manifest": {"file": str(path), "sha256": sha256(path)},
        "deep": deep,
        "convention": "pyr",
        "camera": "rgb",
        "label_tolerance_degrees": LABEL_TOLERANCE,
    }


def faults(report: Report) -> int:
    """Return how many faults a report lists; 0 means that everything is as it should be."""
    return len(report["faults"])


def count(number: int) -> str:
    """Return a number of faults in words."""
    return f"{number:,} fault{'s' * (number != 1)}"


def statistics(rotations: Floats) -> dict[str, list[float]]:
    """Return mean and deviation (divided by n, as in the manifest) of rotations (n, 3, 3), ``pyr``, in degrees."""
    angles = from_matrix(rotations)
    return {"mean": angles.mean(axis=0).round(6).tolist(), "std": angles.std(axis=0).round(6).tolist()}


def compare_labels(rotations: Floats, row: dict[str, Any], where: str, lines: list[str]) -> Report:
    """Return the statistics of a Biwi sequence's rotations (n, 3, 3; RGB camera) beside those of the manifest's row.

    Where they differ, a fault line that begins with ``where`` is added.
    """
    found = statistics(rotations)
    values = np.array([*found["mean"], *found["std"]])
    listed = np.array([float(row[name]) for name in manifest.LABEL_STATISTICS])
    difference = np.abs(values - listed)
    if np.isnan(listed).any():
        return {"state": "not in the manifest", **found}
    for i in np.flatnonzero(difference > LABEL_TOLERANCE):
        name = manifest.LABEL_STATISTICS[i].replace("_", " ")
        lines.append(f"{where}: {name} {values[i]:.4f}, expected {listed[i]:.4f} {DEGREES}; "
                     "restore the sequence's pose.txt and rgb.cal from the raw archive")  # fmt: skip
    state = "deviates" if (difference > LABEL_TOLERANCE).any() else "as in the manifest"
    return {"state": state, **found, "difference": round(float(difference.max()), 6)}


def _describe_labels(name: str, labels: list[Report]) -> str:
    """Return a line that sums up what :func:`compare_labels` found of each sequence."""
    states = Counter(entry["state"].partition(":")[0] for entry in labels)
    counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    differences = [entry["difference"] for entry in labels if "difference" in entry]
    largest = f"; largest difference {max(differences):.5f}" if differences else ""
    return f"{name} labels, mean and deviation of a sequence ({DEGREES}; within {LABEL_TOLERANCE}): {counted}{largest}"


def _describe_faults(report: Report) -> list[str]:
    """Return a report's warnings and first faults."""
    found = report["faults"]
    lines = list(report["warnings"])
    if found:
        lines += ["", f"{count(len(found))}:", *found[:LISTED]]
    if len(found) > LISTED:
        lines.append(f"and {len(found) - LISTED:,} more, in --json")
    return lines


def _table(rows: list[dict[str, str]], right: tuple[str, ...] = ()) -> str:
    align = ["right" if name in right else "left" for name in rows[0]]
    return tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True, colalign=align)


def describe_raw(report: Report) -> str:
    """Return a report of :func:`headposeplus.verify.raw.verify_raw` as text: a table, faults and verdicts."""
    rows = [
        {
            "dataset": unit["dataset"],
            "unit": unit["unit"],
            "subject": unit["subject"],
            **{kind: "?" if unit[kind] is None else f"{unit[kind]:,}" for kind in COUNTS},
            "state": unit["state"],
        }
        for unit in report["units"]
    ]
    for dataset, totals in report["totals"].items():
        total = {kind: f"{totals[kind]:,}" for kind in COUNTS}
        state = f"{totals['complete']} of {totals['units']} complete"
        rows.append({"dataset": dataset, "unit": "total", "subject": "", **total, "state": state})
    lines = [_table(rows, COUNTS), ""]
    lines += [f"raw {name} found at {root}" for name, root in report["roots"].items()]
    how = "every file was decoded" if report["deep"] else "of images, the beginning and end were read; --deep decodes"
    lines.append(f"manifest {report['manifest']['file']}, SHA-256 {report['manifest']['sha256'][:12]}; {how}")
    if "biwi" in report["totals"]:
        lines += _describe_biwi([unit for unit in report["units"] if unit["dataset"] == "biwi"])
    if about := report["totals"].get("synhead"):
        lines.append(
            f"SynHead: {about['poses']:,} poses in {about['tracks']} of {about['tracks_expected']} tracks, "
            f"{about['backgrounds']:,} background images"
        )
    lines += [*_describe_faults(report), ""]
    for key, name, what in (("biwi", "raw Biwi", "frames"), ("synhead", "raw SynHead", "images")):
        if totals := report["totals"].get(key):
            if totals["missing"] or totals["faults"]:
                counted = f"{totals['missing']:,} of {totals['expected']:,} {what} missing; {count(totals['faults'])}"
                lines.append(f"{name}: not complete: {counted}")
            else:
                lines.append(f"{name}: complete: {totals['present']:,} of {totals['expected']:,} {what}")
    return "\n".join(lines)


def _describe_biwi(units: list[Report]) -> list[str]:
    optional = [unit["optional"] for unit in units]
    have = {kind: sum(entry[kind] for entry in optional) for kind in optional[0]}
    lines = [
        _describe_labels("Biwi", [unit["labels"] for unit in units]),
        f"Biwi's optional parts, whose absence is no fault: depth of {have['depth']:,} frames, "
        f"pose.bin of {have['annotations']:,}, masks of {have['masks']:,}; "
        f"depth.cal of {have['depth_cal']} sequences, meshes of {have['meshes']}",
    ]
    if have.get("compared"):
        degrees, mm = (max(entry[kind] for entry in optional) for kind in ("largest_degrees", "largest_mm"))
        lines.append(
            f"pose.bin against pose.txt: {have['compared']:,} compared, largest difference {degrees:.5f} degrees "
            f"(geodesic) and {mm:.5f} mm"
        )
    return lines


def _three(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def describe_data(report: Report) -> str:
    """Return a report of :func:`headposeplus.verify.datasets.verify_data` as text: tables, faults and a verdict."""
    rows = [
        {
            "dataset": unit["name"],
            "rows": f"{unit['rows']:,}" if isinstance(unit["rows"], int) else "?",
            "shards": f"{unit['shards']:,}",
            "MB": f"{unit['bytes'] / 1e6:,.1f}",
            "mean pitch, yaw, roll": _three(unit["labels"]["mean"]) if "labels" in unit else "",
            "deviation": _three(unit["labels"]["std"]) if "labels" in unit else "",
            "state": unit["state"],
        }
        for unit in report["datasets"]
    ]
    lines = [_table(rows, ("rows", "shards", "MB"))] if rows else []
    lines += [f"Angles in {DEGREES}.", ""]
    if sequences := report["statistics"].get("biwi+"):
        lines.append(_describe_labels("Biwi+", sequences))
        if partial := [entry for entry in sequences if entry["state"].startswith("not comparable")]:
            some = ", ".join(f"{entry['unit']} ({entry['present']} of {entry['expected']})" for entry in partial)
            lines.append(f"not comparable, for frames that are absent: {some}")
    if pair := report["statistics"].get("synhead++"):
        beside = [
            {"SynHead++": name, "mean pitch, yaw, roll": _three(values["mean"]), "deviation": _three(values["std"])}
            for name, values in (("these data", pair["found"]), (pair["published"]["source"], pair["published"]))
        ]
        lines += [_table(beside), f"({DEGREES})"]
    lines += [*_describe_faults(report), ""]
    read = f"{report['hashes_checked']:,} hashes checked, {report['bytes_read']:,} bytes read"
    read += ", every crop decoded" if report["deep"] else ""
    verdict = count(faults(report)) if faults(report) else "whole"
    return "\n".join([*lines, f"{report['folder']}: {verdict}: {read}"])
