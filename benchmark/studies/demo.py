"""The demo: everything, once, on a small miniature."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmark.board import entries as scoreboard
from benchmark.board.markdown import table
from benchmark.scoring import score as scoring
from benchmark.studies.runs import Planned, plan, run_side_by_side
from benchmark.training.job import Options
from benchmark.training.presets import PRESETS
from benchmark.training.run import run
from headposeplus.build.build import build_datasets
from headposeplus.build.summary import describe
from headposeplus.build.work import Options as BuildOptions
from headposeplus.datasets import plots
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.datasets.info import NAMES
from headposeplus.files import write_json
from headposeplus.miniature.write import write_miniature
from headposeplus.tasks import cores

SCALE, SIZE, TASK, PRESET = "small", 32, "pda", "miniature"
ADAPTED = ("dann", "padaco", "control-uniform", "control-padaco")


def _planned(methods: tuple[str, ...], data: Path, runs: Path, seed: int) -> list[Planned]:
    options = {"device": "cpu", "threads": 1}
    return plan(TASK, list(methods), {seed: data}, runs, PRESETS[PRESET], options)


def _draw(data: Path, crops: Path, spaces: Path, seed: int) -> None:
    datasets = {name: open_dataset(data / name) for name in NAMES}
    if not crops.exists():
        plots.sample_crops([datasets[name] for name in ("biwi+", "synhead+", "synbiwi+")], crops, seed)
    if not spaces.exists():
        labels = {name: read_labels(dataset)[1] for name, dataset in datasets.items()}
        pairs = [
            ("da: SynBiwi+ to Biwi+", labels["synbiwi+"], labels["biwi+"]),
            ("pda: SynHead++ to Biwi+", labels["synhead++"], labels["biwi+"]),
        ]
        plots.label_spaces(pairs, spaces)


def run_demo(out: Path, seed: int) -> None:
    """Write a miniature, build the datasets, train, score and print the scoreboard; parts that exist are kept.

    ``OUT/times.json`` says how many seconds each part took in a run from nothing.
    """
    raw, data, runs, board = out / "raw", out / "data", out / "runs", out / "scoreboard"
    crops, spaces, jobs = out / "crops.png", out / "label_spaces.png", cores()
    fresh = not out.exists()
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[part] = time.perf_counter() - start

    with timed("write the miniature"):
        source = write_miniature(raw, SCALE, seed, jobs)
    with timed("build the datasets"):
        summary = build_datasets(source, data, BuildOptions(size=SIZE), jobs)
    click.echo(f"\n{describe(summary, data)}\n")
    with timed("draw the pictures"):
        _draw(data, crops, spaces, seed)
    with timed("train on the source (stage 1)"):
        first = _planned(("source-only",), data, runs, seed)[0]
        predictions = [
            run(first.job._replace(options=Options(device="cpu"), command=shlex.join(["hpp", *first.words])))
        ]  # fmt: skip
    with timed(f"adapt with {len(ADAPTED)} methods (stage 2), side by side"):
        run_side_by_side(_planned(ADAPTED, data, runs, seed), jobs, f"{len(ADAPTED)} methods")
    with timed("score"):
        predictions += [predictions[0].parents[1] / method / "predictions.csv" for method in ADAPTED]
        for path in predictions:
            scoreboard.add(board, scoring.score(path, data).entry, [path])
        page = scoreboard.build(board)
    if fresh:
        write_json(out / "times.json", {"cores": jobs, "seconds": {k: round(v, 1) for k, v in seconds.items()}})

    entries = scoreboard.entries(board)
    click.echo(f"\n{entries[0].entry.protocol.id}: errors in degrees\n\n{table(entries, 'simple')}\n")
    for label, path in (
        ("raw miniature", raw), ("datasets", data), ("sample crops", crops), ("label spaces", spaces),
        ("predictions", predictions[2]), ("scoreboard page", page),
    ):  # fmt: skip
        click.echo(f"{label:16} {path}")
