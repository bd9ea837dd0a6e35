"""The score of a run that has ended: here the target's labels are read, and nowhere in training."""

from __future__ import annotations

from pathlib import Path

from benchmark.scoring.entry import Entry
from benchmark.scoring.score import entry_path, score, write_entry
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, plural, shell_line

_ANGLES = ("pitch", "yaw", "roll")


def score_finished(predictions: Path, data: Path) -> Entry | Fault:
    """Return the entry of a run's predictions, which is written beside them, or what is lacking to score them.

    The labels are those of the built datasets in ``data``, which the run had.
    """
    try:
        entry = score(predictions, data).entry
    except HeadposeError as error:
        return error.fault
    write_entry(entry_path(predictions, None), entry)
    return entry


def describe_finished(predictions: Path, found: Entry | Fault) -> str:
    """Return the main figures of a run, or what is lacking and the command that scores it then, as text."""
    if isinstance(found, Fault):
        command = shell_line("hpp", "score", predictions, "--labels", "LABELS")
        return f"not scored: {found._replace(mend='')}; with labels at hand: {command}"
    interval, protocol = "", found.protocol
    if found.intervals:
        low, high = found.intervals.mae
        interval = f" (95 % interval {low:.2f} to {high:.2f})"
    lines = [
        f"MAE {found.scores.mae:.2f}{interval}; "
        f"{', '.join(f'{name} {getattr(found.scores, name):.2f}' for name in _ANGLES)}",
        f"degrees, {protocol.id}: {plural(protocol.frames, 'frame')}, {protocol.convention}, {protocol.camera} camera",
        *(f"suspicion: {suspicion}" for suspicion in found.suspicions),
        f"entry {entry_path(predictions, None)}",
    ]
    return "\n".join(lines)
