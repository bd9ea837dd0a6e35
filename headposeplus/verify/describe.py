"""Reports of :mod:`headposeplus.verify` as text: tables, faults and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from headposeplus.datasets.info import describe_digests
from headposeplus.raw.manifest import TESTED
from headposeplus.raw.source import found_at
from headposeplus.raw.targets import STILLS
from headposeplus.verify.report import (
    COUNTS,
    DEGREES,
    LABEL_TOLERANCE,
    BesidePublished,
    DataReport,
    LabelCheck,
    LabelStatistics,
    RawReport,
    SequenceCheck,
    SequenceLabels,
    StillsCheck,
    Totals,
    count,
)

LISTED = 20  # faults that are printed; the report holds all
_NAMES = {
    "biwi": ("raw Biwi", "frames"),
    "synhead": ("raw SynHead", "images"),
    **{name: (f"raw {stills.title}", "images") for name, stills in STILLS.items()},
}


def _describe_labels(name: str, labels: Sequence[LabelCheck | SequenceLabels], unit: str = "sequence") -> str:
    """Return a line that sums up the comparison of each sequence, or other unit, with the manifest."""
    states = Counter(check.state.partition(":")[0] for check in labels)
    counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    differences = [check.difference for check in labels if check.difference is not None]
    largest = f"; largest difference {max(differences):.5f}" if differences else ""
    return f"{name} labels, mean and deviation of a {unit} ({DEGREES}; within {LABEL_TOLERANCE}): {counted}{largest}"


def _describe_faults(report: RawReport | DataReport) -> list[str]:
    """Return a report's warnings and first faults."""
    lines = [str(warning) for warning in report.warnings]
    if report.faults:
        lines += ["", f"{count(len(report.faults))}:", *map(str, report.faults[:LISTED])]
    if len(report.faults) > LISTED:
        lines.append(f"and {len(report.faults) - LISTED:,} more, in --json")
    return lines


def _table(rows: list[dict[str, str]], right: tuple[str, ...] = ()) -> str:
    align = ["right" if name in right else "left" for name in rows[0]]
    return tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True, colalign=align)


def describe(report: RawReport | DataReport) -> str:
    """Return a report as text: tables, faults and verdicts."""
    return describe_raw(report) if isinstance(report, RawReport) else describe_data(report)


# ---- raw copies


def describe_raw(report: RawReport) -> str:
    """Return a report of :func:`headposeplus.verify.raw.verify_raw` as text: a table, faults and verdicts."""
    lines = [_units(report), ""]
    lines += found_at(report.roots)
    how = "every file was decoded" if report.deep else "of images, the beginning and end were read; --deep decodes"
    lines.append(f"manifest {report.manifest.file}, SHA-256 {report.manifest.sha256[:12]}; {how}")
    if sequences := [unit for unit in report.units if isinstance(unit, SequenceCheck)]:
        lines += _describe_biwi(sequences)
    for name, stills in STILLS.items():
        parts = [unit for unit in report.units if unit.dataset == name and isinstance(unit, StillsCheck)]
        if labels := [part.labels for part in parts if part.unit == TESTED]:
            lines.append(_describe_labels(stills.title, labels, "part"))
    if synhead := report.totals.get("synhead"):
        lines.append(
            f"SynHead: {synhead.poses:,} poses in {synhead.tracks} of {synhead.tracks_expected} tracks, "
            f"{synhead.backgrounds:,} background images"
        )
    verdicts = [_verdict(*_NAMES[dataset], totals) for dataset, totals in report.totals.items()]
    return "\n".join([*lines, *_describe_faults(report), "", *verdicts])


def _units(report: RawReport) -> str:
    """Return a table with a row for each sequence and track, and the totals."""
    rows = []
    for unit in report.units:
        row = {"dataset": unit.dataset, "unit": unit.unit, "subject": unit.subject}
        for kind in COUNTS:
            number = getattr(unit, kind)
            row[kind] = "?" if number is None else f"{number:,}"
        rows.append(row | {"state": unit.state})
    for dataset, totals in report.totals.items():
        row = {"dataset": dataset, "unit": "total", "subject": ""}
        row |= {kind: f"{getattr(totals, kind):,}" for kind in COUNTS}
        rows.append(row | {"state": f"{totals.complete} of {totals.units} complete"})
    return _table(rows, COUNTS)


def _describe_biwi(checks: list[SequenceCheck]) -> list[str]:
    optional = [check.optional for check in checks]

    def have(kind: str) -> int:
        return sum(getattr(files, kind) or 0 for files in optional)

    lines = [
        _describe_labels("Biwi", [check.labels for check in checks]),
        f"Biwi's optional parts, whose absence is no fault: depth of {have('depth'):,} frames, "
        f"pose.bin of {have('annotations'):,}, masks of {have('masks'):,}; "
        f"depth.cal of {have('depth_cal')} sequences, meshes of {have('meshes')}",
    ]
    if compared := have("compared"):
        degrees = max(files.largest_degrees or 0 for files in optional)
        mm = max(files.largest_mm or 0 for files in optional)
        lines.append(
            f"pose.bin against pose.txt: {compared:,} compared, largest difference {degrees:.5f} degrees "
            f"(geodesic) and {mm:.5f} mm"
        )
    return lines


def _verdict(name: str, things: str, totals: Totals) -> str:
    """Return whether a raw copy is complete, ``things`` being what it counts."""
    if totals.missing or totals.faults:
        counted = f"{totals.missing:,} of {totals.expected:,} {things} missing; {count(totals.faults)}"
        return f"{name}: not complete: {counted}"
    return f"{name}: complete: {totals.present:,} of {totals.expected:,} {things}"


# ---- built datasets


def describe_data(report: DataReport) -> str:
    """Return a report of :func:`headposeplus.verify.datasets.verify_data` as text: tables, faults and a verdict."""
    rows = [
        {
            "dataset": check.name,
            "rows": f"{check.rows:,}" if isinstance(check.rows, int) else "?",
            "shards": f"{check.shards:,}",
            "MB": f"{check.bytes / 1e6:,.1f}",
            "mean pitch, yaw, roll": _three(check.labels.mean) if check.labels else "",
            "deviation": _three(check.labels.std) if check.labels else "",
            "state": check.state,
        }
        for check in report.datasets
    ]
    lines = [_table(rows, ("rows", "shards", "MB"))] if rows else []
    lines.append(f"Angles in {DEGREES}.")
    if digests := {check.name: check.labels_sha256 for check in report.datasets if check.labels_sha256}:
        lines.append(describe_digests(digests))
    lines.append("")
    if sequences := report.statistics.biwi:
        lines.append(_describe_labels("Biwi+", sequences))
        if partial := [check for check in sequences if check.present and check.mean is None]:
            some = ", ".join(f"{check.unit} ({check.present} of {check.expected})" for check in partial)
            lines.append(f"not comparable, for frames that are absent: {some}")
    for name, parts in (report.statistics.stills or {}).items():
        lines.append(_describe_labels(name, parts, "part"))
    if report.statistics.union:
        lines += [_beside_published(report.statistics.union), f"({DEGREES})"]
    lines += [*_describe_faults(report), ""]
    read = f"{report.hashes_checked:,} hashes checked, {report.bytes_read:,} bytes read"
    read += ", every crop decoded" if report.deep else ""
    verdict = count(len(report.faults)) if report.faults else "whole"
    return "\n".join([*lines, f"{report.folder}: {verdict}: {read}"])


def _beside_published(pair: BesidePublished) -> str:
    def row(name: str, values: LabelStatistics) -> dict[str, str]:
        return {"SynHead++": name, "mean pitch, yaw, roll": _three(values.mean), "deviation": _three(values.std)}

    return _table([row("these data", pair.found), row(pair.published.source, pair.published)])


def _three(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
