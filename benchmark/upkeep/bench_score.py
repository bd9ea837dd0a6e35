"""Benchmark of scoring: a submission of the size of the real Biwi, with all metrics and intervals, on one core."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import pandas as pd
import tomli_w

from benchmark.scoring import protocols
from benchmark.scoring.check import check
from benchmark.scoring.evaluation import RESAMPLES, measure
from benchmark.scoring.labels import Labels, from_arrays
from headposeplus import __version__
from headposeplus.beside import python
from headposeplus.poses.columns import ANGLE_COLUMNS
from headposeplus.progress import progress
from headposeplus.raw import manifest
from headposeplus.raw.ids import frame_id
from headposeplus.rotations import from_matrix, to_matrix
from headposeplus.tasks import processor

MOST = 1.0  # seconds that a score should take after start-up
_NOISE = 6.0  # degrees
_ABOUT = {
    "name": "bench",
    "authors": "bench",
    "training_data": "none",
    "selection": "none",
    "convention": "pyr",
    "camera": "rgb",
    "uses_target_images": False,
    "seed": 0,
}


class ScoreSeconds(msgspec.Struct, frozen=True):
    """Seconds to start up, to read and check predictions, and to score them, a value a run."""

    start_up: list[float]
    check: list[float]
    score: list[float]


class ScoreFigures(msgspec.Struct, frozen=True):
    """What :func:`bench_score` measures; ``bytes`` is the size of the CSV."""

    toolkit: str
    processor: str
    cores: int
    seed: int
    frames: int
    bytes: int
    resamples: int
    seconds: ScoreSeconds


def random_labels(seed: int) -> Labels:
    """Return labels of every frame of real Biwi, drawn at random with the mean and deviation of its sequence."""
    rng = np.random.default_rng(seed)
    ids, angles = [], []
    for name, row in manifest.listed_sequences(manifest.read()).items():
        (mean, std), numbers = np.split(row.statistics, 2), row.numbers
        ids += [frame_id(name, number) for number in numbers]
        angles.append(np.clip(rng.normal(mean, std, (len(numbers), 3)), -85, 85))
    return from_arrays(np.array(ids), to_matrix(np.concatenate(angles)), source="random labels", camera="rgb")


def submission_bytes(labels: Labels, seed: int) -> tuple[bytes, bytes]:
    """Return a CSV of noisy predictions of all frames, and its TOML."""
    noise = np.random.default_rng(seed).normal(0, _NOISE, (len(labels.ids), 3))
    table = pd.DataFrame(from_matrix(labels.rotations) + noise, columns=ANGLE_COLUMNS)
    table.insert(0, "id", labels.ids)
    return table.to_csv(index=False, float_format="%.5f").encode(), tomli_w.dumps(_ABOUT).encode()


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Keep to one core while the block runs, where the system allows it."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        if before:
            os.sched_setaffinity(0, {min(before)})
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def bench_score(repeats: int = 5, seed: int = 0) -> ScoreFigures:
    """Measure checking and scoring a submission of real Biwi's frames on one core.

    Checking reads the file, lists faults and fits other readings of its columns; scoring computes every metric and the
    bootstrap. Both are what ``hpp score`` does after start-up, which a fresh process that only imports them measures.
    """
    labels = random_labels(seed)
    reference = protocols.reference(None, labels, "cross")
    data, about = submission_bytes(labels, seed)
    seconds = ScoreSeconds([], [], [])

    def since(began: float) -> float:
        return round(time.perf_counter() - began, 3)

    with _on_one_core(), progress(repeats, "score", "run") as bar:
        for _ in range(repeats):
            began = time.perf_counter()
            subprocess.run(python("import benchmark.cli.main, benchmark.board.report"), check=True)
            seconds.start_up.append(since(began))
            began = time.perf_counter()
            checked = check(data, about, reference)
            seconds.check.append(since(began))
            assert checked.rotations is not None, checked.faults
            began = time.perf_counter()
            measure(checked.rotations[None], reference, RESAMPLES, seed)
            seconds.score.append(since(began))
            bar.update()
    return ScoreFigures(__version__, processor(), 1, seed, len(labels.ids), len(data), RESAMPLES, seconds)


def describe_score(figures: ScoreFigures) -> str:
    """Return the figures of :func:`bench_score` as text."""
    seconds = figures.seconds
    check_time, score_time = statistics.median(seconds.check), statistics.median(seconds.score)
    return (
        f"{figures.frames:,} predictions ({figures.bytes / 2**20:.1f} MiB of CSV), all metrics, "
        f"{figures.resamples:,} resamples: {check_time + score_time:.2f} s on one core (at most {MOST:.0f}), "
        f"of which {check_time:.2f} s to read and check them and {score_time:.2f} s to score; start-up "
        f"{statistics.median(seconds.start_up):.2f} s. Median of {len(seconds.check)} runs on {figures.processor}."
    )
