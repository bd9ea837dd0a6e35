"""Runs planned for a study, and trained side by side."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from baselines.method import Settings
from benchmark.training.job import Job, Options, folder_of, is_finished, job_from_options
from benchmark.training.loop import LOG
from benchmark.training.presets import Preset
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options as BuildOptions
from headposeplus.datasets.info import INFO
from headposeplus.errors import TrainingError
from headposeplus.miniature.write import write_miniature
from headposeplus.tasks import progress

MINIATURE_SIZE = 32


class Planned(NamedTuple):
    """A run to be, and the words of the command that does it."""

    job: Job
    words: list[str]

    @property
    def name(self) -> str:
        """The method and the seed."""
        return f"{self.job.method.name}, seed {self.job.seed}"

    @property
    def folder(self) -> Path:
        """Where it will be."""
        return folder_of(self.job)


def expected_lines(job: Job) -> int:
    """Return how many lines the log of a job's second stage will have; 0 without one, or where only the data tell."""
    preset = job.preset
    if not (preset.epoch_samples and job.method.trains):
        return 0
    return (preset.warm + preset.ramp + preset.hold[job.task]) * (preset.epoch_samples // preset.batch + 1)


def run_side_by_side(planned: list[Planned], jobs: int, label: str) -> None:
    """Run the commands of ``hpp`` that have not ended yet, some at a time, with one progress bar for all.

    Raises
    ------
    TrainingError
        If a run fails; the message holds the last line that it printed. The others are stopped, and can go on. Also
        if a folder holds a run with other settings or data.
    """
    waiting = [run for run in planned if not is_finished(run.job)]
    done = len(planned) - len(waiting)
    running: dict[subprocess.Popen[bytes], Planned] = {}

    def share(run: Planned) -> float:
        log, lines = run.folder / LOG, expected_lines(run.job)
        return min(log.read_bytes().count(b"\n") / lines, 1.0) if lines and log.exists() else 0.0

    with progress(len(planned), label, "run", done) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    run = waiting.pop(0)
                    run.folder.mkdir(parents=True, exist_ok=True)
                    with (run.folder / "output.txt").open("wb") as output:
                        command = [sys.executable, "-m", "benchmark", *run.words]
                        running[subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)] = run
                for process, run in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[process]
                    done += 1
                    if process.returncode:
                        raise TrainingError(f"{run.name}: {_last_words(run, process.returncode)}")
                bar.set_postfix_str(", ".join(run.name for run in running.values()), refresh=False)
                bar.update(round(done + sum(map(share, running.values())), 2) - bar.n)
                time.sleep(0.2)
        finally:
            for process in running:
                process.terminate()


def _last_words(run: Planned, status: int) -> str:
    if status < 0:
        return (
            f"the process was killed (signal {-status}), perhaps for want of memory; "
            "run the same command again to go on, with a lower --jobs or --batch"
        )
    lines = (run.folder / "output.txt").read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it printed nothing").removeprefix("Error: ")


def make_miniature(out: Path, scale: str, seed: int, jobs: int) -> Path:
    """Write and build the miniature of a seed, where it is not there yet; return the folder of its datasets."""
    folder = out / f"miniature-{scale}-{seed}"
    data = folder / "data"
    if not (data / "synhead++" / INFO).exists():
        source = write_miniature(folder / "raw", scale, seed, jobs)
        build_datasets(source, data, BuildOptions(size=MINIATURE_SIZE), jobs)
    return data


def _words(options: dict[str, Any]) -> list[str]:
    """Return options as they are typed."""
    renamed = {"highest_lambda": "lambda", "compiled": "compile"}
    words: list[str] = []
    for name, value in options.items():
        flag = f"--{renamed.get(name, name)}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, str(value)]
    return words


def plan(
    task: str, methods: list[str], data: dict[int, Path], runs: Path, preset: Preset, options: dict[str, Any]
) -> list[Planned]:
    """Return the runs of methods with the seeds that ``data`` has datasets for.

    ``options`` are those of ``hpp benchmark`` that are not as they are by default.
    """
    half = {"float32": False, "bfloat16": True}.get(options.get("precision", ""))
    how = Options(half=half, **{name: options[name] for name in Options._fields if name in options})
    planned = []
    for method in methods:
        for seed, folder in data.items():
            words = ["benchmark", "--method", method, "--task", task, "--data", str(folder), "--out", str(runs)]
            words += ["--preset", preset.name, "--seed", str(seed), *_words(options)]
            job = job_from_options(
                method, task, folder, runs, preset.name, options.get("weights"), options.get("batch"),
                _settings(options), how, seed, "",
            )  # fmt: skip
            planned.append(Planned(job, words))
    return planned


def _settings(options: dict[str, Any]) -> Settings:
    return Settings(**{name: options[name] for name in Settings._fields if name in options})
