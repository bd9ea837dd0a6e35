"""The demo: everything, once, on a small miniature."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmark.board import entries as scoreboard
from benchmark.board.markdown import table
from benchmark.scoring import score as scoring
from benchmark.studies.records import read_record, write_record
from benchmark.studies.runs import plan, run_side_by_side
from benchmark.training.job import PREDICTIONS, OptionValue, TrainingJob
from benchmark.training.presets import PRESETS
from headposeplus.build.build import build_datasets
from headposeplus.build.summary import describe
from headposeplus.build.work import Options as BuildOptions
from headposeplus.datasets import plots
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.miniature.write import write_miniature
from headposeplus.tasks import cores

SCALE, SIZE, TASK, PRESET = "small", 32, "pda", "miniature"
FIRST, ADAPTED, AUGMENTED = "source-only", ("source-only-mixed", "dann", "padaco"), "mean-teacher"
CHANCE = (
    "One run of each method is a look at the tool: on another seed, two methods that differ by less than half a degree "
    "may well change places. What holds over many draws is in docs/findings.md."
)
TIMES = "times.json"


class DemoTimes(msgspec.Struct, frozen=True):
    """How many seconds each part of a demo took, on how many cores."""

    cores: int
    seconds: dict[str, float]


def read_times(path: Path) -> DemoTimes:
    """Return the times of a demo that was run from nothing; raises HeadposeError if they are not there."""
    return read_record(path, DemoTimes, "the times of a demo")


class _Folders:
    """Where the parts of a demo are."""

    def __init__(self, out: Path) -> None:
        self.raw, self.data, self.runs, self.board = (out / name for name in ("raw", "data", "runs", "scoreboard"))
        self.crops, self.spaces = out / "crops.png", out / "label_spaces.png"


class _Watch:
    """Takes the time of each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start


def _plan(methods: Sequence[str], folders: _Folders, seed: int, augment: str = "none") -> list[TrainingJob]:
    # A thread a run: what comes out does not depend on how many cores there are.
    options: dict[str, OptionValue] = {"device": "cpu", "threads": 1}
    options |= {} if augment == "none" else {"augment": augment}
    return plan(TASK, methods, {seed: folders.data}, folders.runs, PRESETS[PRESET], options)


def _draw(folders: _Folders, seed: int) -> None:
    datasets = {name: open_dataset(folders.data / name) for name in ("biwi+", "synhead+", "synbiwi+", "synhead++")}
    if not folders.crops.exists():
        plots.sample_crops([datasets[name] for name in ("biwi+", "synhead+", "synbiwi+")], folders.crops, seed)
    if not folders.spaces.exists():
        labels = {name: read_labels(dataset)[1] for name, dataset in datasets.items()}
        pairs = [
            ("da: SynBiwi+ to Biwi+", labels["synbiwi+"], labels["biwi+"]),
            ("pda: SynHead++ to Biwi+", labels["synhead++"], labels["biwi+"]),
        ]
        plots.label_spaces(pairs, folders.spaces)


def _train(folders: _Folders, seed: int, jobs: int, watch: _Watch) -> list[Path]:
    """Train all methods, and return the paths of their predictions."""
    first, augmented = _plan([FIRST], folders, seed), _plan([AUGMENTED], folders, seed, "all")
    adapted = _plan(ADAPTED, folders, seed)
    with watch.time(f"train on the source, and {AUGMENTED} on augmented images"):
        run_side_by_side(first + augmented, jobs, "first stages")
    with watch.time(f"adapt with {' and '.join(ADAPTED[1:])}"):
        run_side_by_side(adapted, jobs, "second stages")
    return [job.folder / PREDICTIONS for job in first + adapted + augmented]


def run_demo(out: Path, seed: int, tell: Callable[[str], object]) -> None:
    """Write a miniature, build the datasets, train, score and tell the scoreboard; parts that exist are kept.

    ``OUT/times.json`` says how many seconds each part took in a run from nothing. ``tell`` is given text to show.
    """
    folders, watch, jobs, fresh = _Folders(out), _Watch(), cores(), not out.exists()
    raw, data, board = folders.raw, folders.data, folders.board
    with watch.time("write the miniature"):
        source = write_miniature(raw, SCALE, seed, jobs)
    with watch.time("build the datasets"):
        summary = build_datasets(source, data, BuildOptions(size=SIZE), jobs)
    tell(f"\n{describe(summary, data)}\n")
    with watch.time("draw the pictures"):
        _draw(folders, seed)
    predictions = _train(folders, seed, jobs, watch)
    with watch.time("score"):
        for path in predictions:
            scoreboard.add(board, scoring.score(path, data).entry, [path])
        page = scoreboard.build(board)
    if fresh:
        seconds = {part: round(value, 1) for part, value in watch.seconds.items()}
        write_record(out / TIMES, DemoTimes(jobs, seconds))

    entries = scoreboard.entries(board)
    tell(f"\n{entries[0].entry.protocol.id}: errors in degrees\n\n{table(entries, 'simple')}\n\n{CHANCE}\n")
    places = {
        "raw miniature": raw,
        "datasets": data,
        "sample crops": folders.crops,
        "label spaces": folders.spaces,
        "predictions": predictions[-1],
        "scoreboard page": page,
    }
    for label, place in places.items():
        tell(f"{label:16} {place}")
