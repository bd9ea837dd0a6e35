"""The demo: everything, once, on a small miniature."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmark import scoreboard
from benchmark.presets import PRESETS
from benchmark.train import LOG, run_from_options
from headposeplus import plots, shards
from headposeplus.build import build_datasets
from headposeplus.build_shards import Options
from headposeplus.errors import TrainingError
from headposeplus.files import cores, progress, write_json
from headposeplus.miniature.write import write_miniature
from headposeplus.summary import describe

SCALE, SIZE, TASK, PRESET = "small", 32, "pda", "miniature"
ADAPTED = ("dann", "padaco", "control-uniform", "control-padaco")


def _options(method: str, data: Path, runs: Path, seed: int) -> list[str]:
    return ["benchmark", "--method", method, "--task", TASK, "--data", str(data), "--out", str(runs),
            "--preset", PRESET, "--device", "cpu", "--threads", "1", "--seed", str(seed)]  # fmt: skip


def _steps(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def train_side_by_side(methods: tuple[str, ...], data: Path, runs: Path, seed: int) -> None:
    """Train the second stages of several methods, one on each core, with one progress bar for all.

    Raises
    ------
    TrainingError
        If a run fails; the message holds the last line that it printed.
    """
    preset = PRESETS[PRESET]
    folders = {method: runs / f"{TASK}-{PRESET}-seed{seed}" / method for method in methods}
    waiting = [method for method in methods if not (folders[method] / "predictions.csv").exists()]
    per_method = (preset.warm + preset.ramp + preset.hold[TASK]) * ((preset.epoch_samples or 0) // preset.batch + 1)
    total = per_method * len(waiting)
    running: dict[str, subprocess.Popen[bytes]] = {}
    label = f"stage 2, {len(waiting)} methods"
    with progress(total, label, "step") as bar:
        counted = list(waiting)
        try:
            while waiting or running:
                while waiting and len(running) < cores():
                    method = waiting.pop(0)
                    folders[method].mkdir(parents=True, exist_ok=True)
                    with (folders[method] / "output.txt").open("wb") as output:
                        running[method] = subprocess.Popen(
                            [sys.executable, "-m", "benchmark", *_options(method, data, runs, seed)],
                            stdout=output,
                            stderr=subprocess.STDOUT,
                        )
                for method, process in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[method]
                    if process.returncode:
                        lines = (folders[method] / "output.txt").read_text(errors="replace").split("\n")
                        last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
                        raise TrainingError(f"{method}: {last}")
                bar.update(sum(_steps(folders[method] / LOG) for method in counted) - bar.n)
                time.sleep(0.2)
        finally:
            for process in running.values():
                process.terminate()


def _draw(data: Path, crops: Path, spaces: Path, seed: int) -> None:
    datasets = {name: shards.open_dataset(data / name) for name in shards.NAMES}
    if not crops.exists():
        plots.sample_crops([datasets[name] for name in ("biwi+", "synhead+", "synbiwi+")], crops, seed)
    if not spaces.exists():
        labels = {name: shards.read_labels(dataset)[1] for name, dataset in datasets.items()}
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
        write_miniature(raw, SCALE, seed, jobs)
    with timed("build the datasets"):
        summary = build_datasets(
            data, raw / "hpdb", raw / "synhead2_release", None, None, Options(size=SIZE), jobs,
            raw / "data_manifest.csv", seed,
        )  # fmt: skip
    click.echo(f"\n{describe(summary, data)}\n")
    with timed("draw the pictures"):
        _draw(data, crops, spaces, seed)
    with timed("train on the source (stage 1)"):
        options = _options("source-only", data, runs, seed)
        predictions = [
            run_from_options(
                method="source-only", task=TASK, data=data, out=runs, preset=PRESET, weights=None, device="cpu",
                batch=None, neighbours=10, threshold=3.5, threads=None, seed=seed,
                command=shlex.join(["hpp", *options]),
            )
        ]  # fmt: skip
    with timed(f"adapt with {len(ADAPTED)} methods (stage 2), side by side"):
        train_side_by_side(ADAPTED, data, runs, seed)
    with timed("score"):
        predictions += [predictions[0].parents[1] / method / "predictions.csv" for method in ADAPTED]
        for path in predictions:
            scoreboard.add(board, scoreboard.score(path, data))
        page = scoreboard.build(board)
    if fresh:
        write_json(out / "times.json", {"cores": jobs, "seconds": {k: round(v, 1) for k, v in seconds.items()}})

    entries = scoreboard.entries(board)
    click.echo(f"\n{entries[0]['protocol']['id']}: errors in degrees\n\n{scoreboard.table(entries, 'simple')}\n")
    for label, path in (
        ("raw miniature", raw), ("datasets", data), ("sample crops", crops), ("label spaces", spaces),
        ("predictions", predictions[2]), ("scoreboard page", page),
    ):  # fmt: skip
        click.echo(f"{label:16} {path}")
