"""Benchmark of scoring: a submission of the size of the real Biwi, with all metrics and intervals, on one core."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

from benchmark.scoring import protocols
from benchmark.scoring.check import check
from benchmark.scoring.evaluation import RESAMPLES, measure
from benchmark.scoring.labels import Labels, from_arrays
from headposeplus import __version__
from headposeplus.poses.columns import ANGLE_COLUMNS
from headposeplus.raw import biwi, manifest
from headposeplus.rotations import ANGLES, from_matrix, to_matrix
from headposeplus.tasks import processor, progress

MOST = 1.0  # seconds that a score should take after start-up
_NOISE = 6.0  # degrees
_ABOUT = {
    "name": "bench", "authors": "bench", "training_data": "none", "selection": "none", "convention": "pyr",
    "camera": "rgb", "uses_target_images": False, "seed": 0,
}  # fmt: skip


def random_labels(seed: int) -> Labels:
    """Return labels of every frame of real Biwi, drawn at random with the mean and deviation of its sequence."""
    table = manifest.read()
    rows = table[table["dataset"] == "biwi"].set_index("unit")
    rng = np.random.default_rng(seed)
    ids, angles = [], []
    for name, numbers in manifest.biwi_frames(table).items():
        mean, std = (rows.loc[name, [f"{kind}_{axis}" for axis in ANGLES]].to_numpy(float) for kind in ("mean", "std"))
        ids += [biwi.frame_id(name, number) for number in numbers]
        angles.append(np.clip(rng.normal(mean, std, (len(numbers), 3)), -85, 85))
    return from_arrays(np.array(ids), to_matrix(np.concatenate(angles)), source="random labels")


def submission_bytes(labels: Labels, seed: int) -> tuple[bytes, bytes]:
    """Return a CSV of noisy predictions of all frames, and its TOML."""
    noise = np.random.default_rng(seed).normal(0, _NOISE, (len(labels.ids), 3))
    table = pd.DataFrame(from_matrix(labels.rotations) + noise, columns=ANGLE_COLUMNS)
    table.insert(0, "id", labels.ids)
    return table.to_csv(index=False, float_format="%.5f").encode(), tomli_w.dumps(_ABOUT).encode()


def bench_score(repeats: int = 5, seed: int = 0) -> dict[str, Any]:
    """Measure checking and scoring a submission of real Biwi's frames on one core; return plain values.

    Checking reads the file, lists faults and fits other readings of its columns; scoring computes every metric and the
    bootstrap. Both are what ``hpp score`` does after start-up, which a fresh process that only imports them measures.
    """
    before = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    labels = random_labels(seed)
    reference = protocols.reference(None, labels, "cross")
    data, about = submission_bytes(labels, seed)
    found: dict[str, list[float]] = {"start_up": [], "check": [], "score": []}
    try:
        if before:
            os.sched_setaffinity(0, {min(before)})
        with progress(repeats, "score", "run") as bar:
            for _ in range(repeats):
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", "import benchmark.cli.main, benchmark.board.report"], check=True)
                found["start_up"].append(time.perf_counter() - began)
                began = time.perf_counter()
                checked = check(data, about, reference)
                found["check"].append(time.perf_counter() - began)
                assert checked.rotations is not None, checked.faults
                began = time.perf_counter()
                measure(checked.rotations[None], reference, RESAMPLES, seed)
                found["score"].append(time.perf_counter() - began)
                bar.update()
    finally:
        if before:
            os.sched_setaffinity(0, before)
    return {
        "toolkit": __version__,
        "processor": processor(),
        "cores": 1,
        "seed": seed,
        "frames": len(labels.ids),
        "bytes": len(data),
        "resamples": RESAMPLES,
        "seconds": {name: [round(value, 3) for value in values] for name, values in found.items()},
    }


def describe_score(record: dict[str, Any]) -> str:
    """Return the figures of :func:`bench_score` as text."""
    seconds = record["seconds"]
    check_time, score_time, start = (statistics.median(seconds[name]) for name in ("check", "score", "start_up"))
    return (
        f"{record['frames']:,} predictions ({record['bytes'] / 2**20:.1f} MiB of CSV), all metrics, "
        f"{record['resamples']:,} resamples: {check_time + score_time:.2f} s on one core (at most {MOST:.0f}), "
        f"of which {check_time:.2f} s to read and check them and {score_time:.2f} s to score; start-up {start:.2f} s. "
        f"Median of {len(seconds['check'])} runs on {record['processor']}."
    )
