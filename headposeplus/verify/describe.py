"""Reports of :mod:`headposeplus.verify` as text: tables, faults and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from headposeplus import tables
from headposeplus.datasets.info import describe_digests
from headposeplus.raw.manifest import LABEL_STATISTICS, TESTED
from headposeplus.raw.source import found_at
from headposeplus.raw.targets import STILLS
from headposeplus.verify.report import (
    COUNTS,
    DEGREES,
    LABEL_TOLERANCE,
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

_COUNTED = COUNTS[:2]  # of the table
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
    return tables.table(rows, right=right)


def describe(report: RawReport | DataReport) -> str:
    """Return a report as text: tables, faults and verdicts."""
    return describe_raw(report) if isinstance(report, RawReport) else describe_data(report)


# ---- raw copies


def describe_raw(report: RawReport) -> str:
    """Return a report of :func:`headposeplus.verify.raw.verify_raw` as text: a table, faults and verdicts."""
    lines = found_at(report.roots)
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
    shown = [_units(report), "", *tables.prose(*lines), *_describe_faults(report), ""]
    return "\n".join([*shown, *tables.prose(*verdicts)])


def _units(report: RawReport) -> str:
    """Return a table with a row for each sequence and track, and the totals; a state names what is not 0."""
    rows = []
    for unit in report.units:
        row = {"dataset": unit.dataset, "unit": unit.unit, "subject": unit.subject}
        for kind in _COUNTED:
            number = getattr(unit, kind)
            row[kind] = "?" if number is None else f"{number:,}"
        rows.append(row | {"state": unit.state})
    for dataset, totals in report.totals.items():
        row = {"dataset": dataset, "unit": "total", "subject": ""}
        row |= {kind: f"{getattr(totals, kind):,}" for kind in _COUNTED}
        wrong = [f"{kind} {getattr(totals, kind):,}" for kind in COUNTS[2:] if getattr(totals, kind)]
        rows.append(row | {"state": ", ".join([f"{totals.complete} of {totals.units} complete", *wrong])})
    return _table(rows, _COUNTED)


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
            "state": check.state,
        }
        for check in report.datasets
    ]
    shown = [_table(rows, ("rows", "shards", "MB")), ""] if rows else []
    if labelled := [_labels_row("labels of", check.name, check.labels) for check in report.datasets if check.labels]:
        shown += [_table(labelled, tuple(labelled[0])[1:]), ""]
    lines = [f"Angles in {DEGREES}."]
    if digests := {check.name: check.labels_sha256 for check in report.datasets if check.labels_sha256}:
        lines += describe_digests(digests)
    lines.append("")
    if sequences := report.statistics.biwi:
        lines.append(_describe_labels("Biwi+", sequences))
        if partial := [check for check in sequences if check.present and check.mean is None]:
            some = ", ".join(f"{check.unit} ({check.present} of {check.expected})" for check in partial)
            lines.append(f"not comparable, for frames that are absent: {some}")
    for name, parts in (report.statistics.stills or {}).items():
        lines.append(_describe_labels(name, parts, "part"))
    shown += tables.prose(*lines)
    if pair := report.statistics.union:
        beside = [
            _labels_row("SynHead++", "these data", pair.found),
            _labels_row("SynHead++", pair.published.source, pair.published),
        ]
        shown += ["", _table(beside, tuple(beside[0])[1:])]
    shown += [*_describe_faults(report), ""]
    read = f"{report.hashes_checked:,} hashes checked, {report.bytes_read:,} bytes read"
    read += ", every crop decoded" if report.deep else ""
    verdict = count(len(report.faults)) if report.faults else "whole"
    return "\n".join([*shown, *tables.prose(f"{report.folder}: {verdict}: {read}")])


def _labels_row(title: str, name: str, labels: LabelStatistics) -> dict[str, str]:
    """Return the row of some labels, whose columns are as :data:`headposeplus.raw.manifest.LABEL_STATISTICS`."""
    values = zip(LABEL_STATISTICS, [*labels.mean, *labels.std], strict=True)
    return {title: name} | {column.replace("_", " "): tables.rounded(value, 4) for column, value in values}
