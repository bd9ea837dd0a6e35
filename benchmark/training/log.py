"""The log of a stage, ``log.jsonl``: a line for each step, and one for each epoch that has ended."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.training.checkpoint import CHECKPOINT, Place
from headposeplus.errors import TrainingError
from headposeplus.faults import Fault, shown, unreadable
from headposeplus.files import parse_json, written

LOG = "log.jsonl"
_ANEW = "delete its folder and train again"

Fact = float | str


class StepRecord(NamedTuple):
    """A step: its number within the stage, its learning rate and lambda, its loss and the parts of that by name."""

    stage: int
    epoch: int
    step: int
    rate: float
    lam: float
    losses: dict[str, float]

    def to_json(self) -> dict[str, Fact]:
        """Return the record as plain values."""
        place = {"stage": self.stage, "epoch": self.epoch, "step": self.step}
        return {**place, "rate": self.rate, "lambda": self.lam, **self.losses}


class EpochRecord(NamedTuple):
    """An epoch that has ended, and what is known of it by name."""

    stage: int
    epoch: int
    facts: dict[str, Fact]

    def to_json(self) -> dict[str, Fact]:
        """Return the record as plain values."""
        return {"stage": self.stage, "epoch": self.epoch, "epoch_end": True, **self.facts}


class StageLog(NamedTuple):
    """The records of a stage."""

    steps: list[StepRecord]
    epochs: list[EpochRecord]


def read_log(path: Path) -> StageLog:
    """Return the records of a log; raises TrainingError if it is none."""
    try:
        lines = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
        ends = [line.pop("epoch_end", False) for line in lines]
        for line in lines:
            _check_line(line)
        steps = [_step_of(line) for line, ended in zip(lines, ends, strict=True) if not ended]
        epochs = [EpochRecord(line.pop("stage"), line.pop("epoch"), line) for line in itertools.compress(lines, ends)]
    except OSError as error:
        raise TrainingError(unreadable(path, error, "the log of a run")) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = f"expected the log of a run ({type(error).__name__}: {error})"
        raise TrainingError(Fault(wrong, _ANEW, path)) from error
    if not steps:
        raise TrainingError(Fault("expected the log of a run (no step)", _ANEW, path))
    return StageLog(steps, epochs)


def _check_line(line: dict[str, object]) -> None:
    """Raise ValueError if a line says something of another kind than the writer's."""
    for name, value in line.items():
        kind = int if name in ("stage", "epoch", "step") else str if name == "drawn" else int | float
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ValueError(f"{name} {shown(value)}")


def _step_of(line: Any) -> StepRecord:
    stage, epoch, step, rate, lam = (line.pop(name) for name in ("stage", "epoch", "step", "rate", "lambda"))
    return StepRecord(stage, epoch, step, rate, lam, losses=line)


class LogWriter:
    """Appends records to a log and, if asked, TensorBoard; cuts off what came after the checkpoint.

    Parameters
    ----------
    folder
        That of the stage.
    place
        What the checkpoint says of the log.
    tensorboard
        Whether TensorBoard gets the records, too.
    step
        The number of steps at the checkpoint.

    Raises
    ------
    TrainingError
        If TensorBoard is wanted and not installed, or the log is not as it was at the checkpoint.
    HeadposeError
        If the log cannot be written.
    """

    def __init__(self, folder: Path, place: Place, tensorboard: bool, step: int) -> None:
        self._path = folder / LOG
        with written(self._path):
            self._file = self._path.open("a+b")
            self._file.seek(0)
            before = self._file.read(place.log)
            self._digest = hashlib.sha256(before)
            if place.log and self._digest.hexdigest() != place.log_sha256:
                self._file.close()
                what = "damaged or changed since its checkpoint was written"
                raise TrainingError(Fault(what, f"delete {CHECKPOINT} beside it to train this stage again", self._path))
            self._file.truncate(place.log)
            self._file.seek(place.log)
        self._board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise TrainingError(
                    "`tensorboard`: the package is not installed: pip install 'headposeplus[tensorboard]'"
                ) from error
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write_steps(self, records: Sequence[StepRecord]) -> None:
        """Write the records of some steps."""
        with written(self._path):
            for record in records:
                self._write(record.to_json(), record.step, "")
            self._file.flush()

    def write_epoch(self, record: EpochRecord, step: int) -> None:
        """Write the record of an epoch that ended at a step."""
        with written(self._path):
            self._write(record.to_json(), step, "epoch/")
            self._file.flush()

    def place(self, epochs: int) -> Place:
        """Return what a checkpoint after some epochs says."""
        return Place(epochs, self._file.tell(), self._digest.hexdigest())

    def _write(self, values: dict[str, Fact], step: int, board_prefix: str) -> None:
        line = json.dumps(values).encode() + b"\n"
        self._file.write(line)
        self._digest.update(line)
        if self._board:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(board_prefix + name, value, step)

    def close(self) -> None:
        """Close the files; what could not be written has been told."""
        with suppress(OSError):
            self._file.close()
        if self._board:
            self._board.close()


def lines_in(folder: Path) -> int:
    """Return how many lines the log in a folder has by now; 0 where there is none."""
    path = folder / LOG
    return path.read_bytes().count(b"\n") if path.exists() else 0


def values_of(records: Iterable[EpochRecord], name: str) -> list[float]:
    """Return a fact of each epoch; an empty list where it is not told."""
    return [float(record.facts[name]) for record in records if name in record.facts]
