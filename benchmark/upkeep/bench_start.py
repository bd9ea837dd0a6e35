"""How long commands take that have next to nothing to do: what is left is to start, and to import."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmark.upkeep.aims import describe_aims
from headposeplus import __version__, tables
from headposeplus.beside import python
from headposeplus.progress import progress
from headposeplus.tasks import cores, processor

ROUNDS = 5
_ROWS = 40  # of the predictions that are scored
# Tells the KiB at most in the end. What the system notes for a parent is at least what the parent itself has.
_PEAK = (
    "import atexit, sys; "
    "peak = lambda: open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]; "
    "atexit.register(lambda: print(peak(), file=sys.stderr))"
)
_SAID = "--convention pyr --camera rgb --labels-convention pyr --labels-camera rgb --task cross"


class Timed(NamedTuple):
    """A command, by its words, and the seconds that it should take at most."""

    words: str
    aim: float


LISTS = ("--help", "methods", "presets", "protocols", "subsets")
COMMANDS = (
    *(Timed(words, 0.3) for words in LISTS),
    *(Timed(f"{words} mine.csv --labels labels.csv {_SAID}", 0.6) for words in ("check", "score")),
)


class StartFigures(msgspec.Struct, frozen=True):
    """Wall seconds, the processor's seconds and MiB at most of a command, a value a round, and its aim in seconds."""

    command: str
    aim: float
    seconds: list[float]
    cpu_seconds: list[float]
    mebibytes: list[float]


class StartUp(msgspec.Struct, frozen=True):
    """What :func:`bench_start` measures."""

    toolkit: str
    processor: str
    cores: int
    commands: list[StartFigures]


def bench_start(commands: Sequence[Timed] = COMMANDS, rounds: int = ROUNDS) -> StartUp:
    """Measure commands in processes of their own, in turn, so that what else the machine does meets each of them.

    Each has run once before, so that its files are in memory. ``check`` and ``score`` have 40 predictions to read.
    """
    found: dict[Timed, list[tuple[float, float, float]]] = {command: [] for command in commands}
    with (
        tempfile.TemporaryDirectory() as folder,
        progress((rounds + 1) * len(commands), "start", "command") as bar,
    ):
        _write_predictions(Path(folder))
        for number in range(rounds + 1):
            for command in commands:
                measured = _run(command.words, Path(folder))
                if number:
                    found[command].append(measured)
                bar.update()
    rows = []
    for command, figures in found.items():
        seconds, cpu, most = ([round(value, 3) for value in column] for column in zip(*figures, strict=True))
        rows.append(StartFigures(" ".join(command.words.split()[:1]), command.aim, seconds, cpu, most))
    return StartUp(__version__, processor(), cores(), rows)


def _write_predictions(folder: Path) -> None:
    rows = [f"a{number:03},{number},{-number},1" for number in range(_ROWS)]
    labels = ["id,pitch,yaw,roll,subject", *(f"{row},{number % 7}" for number, row in enumerate(rows))]
    (folder / "mine.csv").write_text("\n".join(["id,pitch,yaw,roll", *rows]))
    (folder / "labels.csv").write_text("\n".join(labels))


def _run(words: str, folder: Path) -> tuple[float, float, float]:
    """Return the wall seconds, the processor's seconds and the MiB at most of a command that succeeds."""
    code = f"{_PEAK}; from benchmark.cli.main import main; main({words.split()})"
    began = time.perf_counter()
    process = subprocess.Popen(
        python(code), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=-1
    )
    assert process.stderr is not None
    with process.stderr as stream:
        told = stream.read().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"hpp {words}: exit status {process.returncode}")
    return seconds, used.ru_utime + used.ru_stime, int(told[-1]) / 1024


def describe_start(figures: StartUp, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_start` as text."""
    rows = [
        {
            "command": f"hpp {one.command}",
            "seconds": f"{statistics.median(one.seconds):.2f}",
            "aim": f"{one.aim:g}",
            "least to most": f"{min(one.seconds):.2f} to {max(one.seconds):.2f}",
            "CPU, s": f"{statistics.median(one.cpu_seconds):.2f}",
            "MiB": f"{max(one.mebibytes):.0f}",
        }
        for one in figures.commands
    ]
    reached = {f"hpp {one.command}": round(statistics.median(one.seconds), 2) <= one.aim for one in figures.commands}
    note = (
        f"From the start of the process to its end, on {figures.processor} with {figures.cores} cores; median of "
        f"{len(figures.commands[0].seconds)} rounds in turn. check and score read {_ROWS} predictions and their labels."
        f" {describe_aims(reached)}"
    )
    return tables.with_note(rows, note, layout)
