"""The demo: everything, once, on a small miniature."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmark.board import entries as scoreboard
from benchmark.board.screen import describe_board
from benchmark.board.site import INDEX
from benchmark.scoring import score as scoring
from benchmark.scoring.entry import Entry
from benchmark.studies.records import read_record, write_record
from benchmark.studies.runs import plan, run_side_by_side
from benchmark.training.job import PREDICTIONS, OptionValue, TrainingJob
from benchmark.training.presets import PRESETS
from headposeplus import tables
from headposeplus.build.build import build_datasets
from headposeplus.build.summary import describe
from headposeplus.build.work import Options as BuildOptions
from headposeplus.datasets import plots
from headposeplus.datasets.dataset import open_dataset, read_angles
from headposeplus.files import write_text
from headposeplus.miniature.write import write_miniature
from headposeplus.progress import duration
from headposeplus.tasks import cores

SCALE, SIZE, TASK, PRESET = "small", 32, "pda", "miniature"
FIRST, ADAPTED, AUGMENTED = "source-only", ("source-only-mixed", "dann", "padaco"), "mean-teacher"
CLOSE = 0.5  # degrees that one run does not decide
TIMES, LOG = "times.json", "demo.log"
# What each step does, by the name under which its time is kept.
STEPS = {
    "write the miniature": "a raw Biwi and SynHead in their own layout, drawn by a procedure",
    "build the datasets": "Biwi+, SynHead+, SynBiwi+ and SynHead++, from the raw files",
    "draw the pictures": "crops with their poses, and the label spaces of source and target",
    f"train on the source, and {AUGMENTED} on augmented images": "the first stage of each method",
    f"adapt with {' and '.join(ADAPTED[1:])}": "the second stage: target images are seen, their labels are not",
    "score": "the predictions of all methods, and put them on a scoreboard",
}
NEXT = (
    "What to do next: open {page} in a browser. Then build the datasets from raw copies of your own "
    "(docs/datasets.md), or score predictions that you have (docs/submitting.md)."
)
CHANCE = (
    "What to believe: the figures are of drawn heads and one run of each method, a look at the tool. On another seed, "
    "two methods that differ by less than half a degree may well change places. What holds over many draws is in "
    "docs/findings.md."
)


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


class _Steps:
    """Tells each step as it begins and ends, takes its time, and keeps a log with more than is told."""

    def __init__(self, log: Path, tell: Callable[[str], object]) -> None:
        self.seconds: dict[str, float] = {}
        self._log, self._tell, self._lines = log, tell, list[str]()

    @contextmanager
    def step(self, part: str) -> Iterator[None]:
        """Tell a step, and how long it took."""
        self.tell(f"step {len(self.seconds) + 1} of {len(STEPS)}: {part}", f"  {STEPS[part]}")
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start
        self.tell(f"  done in {duration(self.seconds[part])}", "")

    def tell(self, *lines: str) -> None:
        """Tell lines of text as they fit, and put them into the log as they are."""
        for line in tables.prose(*lines):
            self._tell(line)
        self.keep(*lines)

    def keep(self, *lines: str) -> None:
        """Put lines into the log alone."""
        self._lines += lines
        if self._log.parent.exists():  # the first step makes it
            write_text(self._log, "\n".join(self._lines) + "\n")


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
        labels = {name: read_angles(dataset) for name, dataset in datasets.items()}
        pairs = [
            ("da: SynBiwi+ to Biwi+", labels["synbiwi+"], labels["biwi+"]),
            ("pda: SynHead++ to Biwi+", labels["synhead++"], labels["biwi+"]),
        ]
        plots.label_spaces(pairs, folders.spaces)


def _train(folders: _Folders, seed: int, jobs: int, steps: _Steps) -> list[Path]:
    """Train all methods, and return the paths of their predictions."""
    first, augmented = _plan([FIRST], folders, seed), _plan([AUGMENTED], folders, seed, "all")
    adapted = _plan(ADAPTED, folders, seed)
    *_, train, adapt, _ = STEPS
    with steps.step(train):
        run_side_by_side(first + augmented, jobs, "first stages")
    with steps.step(adapt):
        run_side_by_side(adapted, jobs, "second stages")
    return [job.folder / PREDICTIONS for job in first + adapted + augmented]


def run_demo(out: Path, seed: int, tell: Callable[[str], object]) -> None:
    """Write a miniature, build the datasets, train, score and tell the scoreboard; parts that exist are kept.

    ``OUT/times.json`` says how many seconds each part took in a run from nothing, and ``OUT/demo.log`` holds what is
    told and more. ``tell`` is given lines to show.
    """
    folders, jobs, fresh = _Folders(out), cores(), not out.exists()
    raw, data, board, steps = folders.raw, folders.data, folders.board, _Steps(out / LOG, tell)
    write, build, picture, *_, last = STEPS
    with steps.step(write):
        source = write_miniature(raw, SCALE, seed, jobs)
    with steps.step(build):
        summary = build_datasets(source, data, BuildOptions(size=SIZE), jobs)
        with tables.whole_rows():
            steps.keep("", *describe(summary, data).splitlines(), "")
    with steps.step(picture):
        _draw(folders, seed)
    predictions = _train(folders, seed, jobs, steps)
    with steps.step(last):
        scored = [scoring.score(path, data).entry for path in predictions]
        for path, entry in zip(predictions, scored, strict=True):
            scoreboard.add(board, entry, [path])
        page = scoreboard.build(board)
    if fresh:
        seconds = {part: round(value, 1) for part, value in steps.seconds.items()}
        write_record(out / TIMES, DemoTimes(jobs, seconds))
    steps.tell(*describe_board(scoreboard.entries(board)).splitlines(), "")
    steps.tell(shown(scored), CHANCE, NEXT.format(page=board / INDEX), "")
    steps.tell(f"datasets {data}", f"runs     {folders.runs}", f"details  {out / LOG}")
    steps.keep(f"raw miniature {raw}", f"crops {folders.crops}", f"label spaces {folders.spaces}", f"page {page}")


def shown(scored: Sequence[Entry]) -> str:
    """Return in a sentence what the scores show, the first being those of a network that saw no target image."""
    first, best = scored[0], min(scored, key=lambda entry: entry.scores.mae)
    begin = (
        "What was shown: networks learned poses from one kind of drawn heads and estimated those of another. "
        f"{first.name}, which saw no image of the other kind, errs by {first.scores.mae:.2f} degrees"
    )
    if best is first:
        return f"{begin}, and none that saw some does better."
    close = first.scores.mae - best.scores.mae < CLOSE
    remark = ", which one run cannot tell apart" if close else ""
    return f"{begin}; the best that saw some, {best.name}, by {best.scores.mae:.2f}{remark}."
