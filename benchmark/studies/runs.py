"""Runs planned for a study, and trained side by side in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from benchmark.loaders.launch import ranks_here
from benchmark.scoring.submission import Submission, read_submission
from benchmark.training.job import OptionValue, TrainingJob, make_job
from benchmark.training.log import lines_in
from benchmark.training.presets import TASKS, Preset
from benchmark.training.run import run
from benchmark.training.settings import is_finished
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options as BuildOptions
from headposeplus.datasets.info import INFO
from headposeplus.errors import HeadposeError, TrainingError
from headposeplus.faults import Fault, shell_line
from headposeplus.files import written
from headposeplus.miniature.write import write_miniature
from headposeplus.progress import progress
from headposeplus.tasks import end_with_parent, fork_server, started_alone

MINIATURE_SIZE = 32
OUTPUT = "output.txt"  # what a run prints, in its folder
_LOOK = 0.2  # seconds between two looks at how far the runs are
_PATIENCE = 10.0  # seconds that a run has to end in when it is told to
# The first optimizer imports torch._dynamo, which takes two seconds. None of these starts a thread or wakes a GPU.
_PRELOADED = ["torch._dynamo", "benchmark.training.run", "benchmark.studies.runs"]


def make_miniature(out: Path, scale: str, seed: int, jobs: int) -> Path:
    """Write and build the miniature of a seed, where it is not there yet; return the folder of its datasets."""
    folder = out / f"miniature-{scale}-{seed}"
    data = folder / "data"
    if not (data / "synhead++" / INFO).exists():
        source = write_miniature(folder / "raw", scale, seed, jobs)
        build_datasets(source, data, BuildOptions(size=MINIATURE_SIZE), jobs)
    return data


def _words(options: Mapping[str, OptionValue]) -> list[str]:
    """Return options as a user types them."""
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
    task: str,
    methods: Sequence[str],
    data: Mapping[int, Path],
    runs: Path,
    preset: str | Preset,
    options: Mapping[str, OptionValue],
) -> list[TrainingJob]:
    """Return the runs of methods with the seeds that ``data`` has datasets for.

    ``preset`` is one of the toolkit, its name, or the path of a file; ``options`` are those of ``hpp benchmark`` that
    are not as they are by default. A run's command is the one of ``hpp benchmark`` that does the same.
    """
    jobs, typed = [], preset if isinstance(preset, str) else preset.name
    for method in methods:
        for seed, folder in data.items():
            words = ["hpp", "benchmark", "--method", method, "--task", task, "--data", str(folder), "--out", str(runs)]
            words += ["--preset", typed, "--seed", str(seed), *_words(options)]
            jobs.append(make_job(method, task, folder, runs, preset, seed, options, shell_line(*words)))
    return jobs


def expected_lines(job: TrainingJob) -> int:
    """Return how many lines the log of a job's second stage will have; 0 without one, or where only the data tell."""
    preset = job.preset
    if not (preset.epoch_samples and job.method.trains):
        return 0
    return preset.stage2_epochs(TASKS[job.task].kind) * (preset.epoch_samples // preset.batch + 1)


def _share_done(job: TrainingJob) -> float:
    """Return which share of a run is done, as far as its log tells."""
    lines = expected_lines(job)
    return min(lines_in(job.folder) / lines, 1.0) if lines else 0.0


def submissions(jobs: Sequence[TrainingJob], log: Path) -> Iterator[Submission]:
    """Run jobs one after the other in this process, and yield what each submits; what they print goes to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8", errors="backslashreplace") as file, redirect_stderr(file):
        for job in jobs:
            yield read_submission(run(job))


class _Running(NamedTuple):
    """A run in a process, and the end of the pipe through which it says what went wrong."""

    job: TrainingJob
    process: BaseProcess
    receiver: Connection


def run_side_by_side(jobs: Sequence[TrainingJob], at_once: int, label: str) -> None:
    """Run the jobs that have not ended yet, some at a time, with one progress bar for all.

    Each has a process of its own, and what it prints goes to ``output.txt`` in its folder.

    Raises
    ------
    TrainingError
        If a run fails; the message says why. The others are stopped, and can go on. Also if a folder holds a run with
        other settings or data, or ``torchrun`` has started several of these processes.
    """
    if ranks_here().world > 1:
        what = "starts the processes that it needs itself"
        raise TrainingError(Fault(what, "run it without torchrun, or train one network: hpp benchmark", label))
    waiting = [job for job in jobs if not is_finished(job)]
    running: list[_Running] = []
    with progress(len(jobs), label, "run", len(jobs) - len(waiting)) as bar, _stopping_all(running):
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_start(waiting.pop(0)))
            # A fault ends the pipe's writer: it may fill the pipe, and then waits until it is read.
            connection.wait([end for child in running for end in (child.process.sentinel, child.receiver)], _LOOK)
            for ended in [child for child in running if child.receiver.poll() or not child.process.is_alive()]:
                _check_ended(ended)
                running.remove(ended)
            bar.set_postfix_str(", ".join(child.job.title for child in running), refresh=False)
            done = len(jobs) - len(waiting) - len(running) + sum(_share_done(child.job) for child in running)
            bar.update(round(done, 2) - bar.n)


def _start(job: TrainingJob) -> _Running:
    """Start a run in a process of its own."""
    job.folder.mkdir(parents=True, exist_ok=True)
    context = fork_server(_PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_apart, args=(sender, job), name=job.title)
    with started_alone(_run_apart):
        process.start()
    sender.close()
    return _Running(job, process, receiver)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _run_apart(sender: Connection, job: TrainingJob) -> None:
    """Run a job, and send the fault that ended it, if there is one: what a process of its own does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the parent, which ends its children
    signal.signal(signal.SIGTERM, _exit)  # half-written files are removed
    end_with_parent()
    try:
        with written(job.folder / OUTPUT), (job.folder / OUTPUT).open("wb") as output:
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
        run(job)
    except Exception as error:
        fault = _fault_of(error)
        print(f"Error: {' '.join(map(str.strip, str(fault).splitlines()))}", file=sys.stderr)
        sender.send(fault)
        sys.exit(1)


def _fault_of(error: Exception) -> Fault:
    """Return what a user is told of an error; one that nobody foresaw prints its traceback."""
    if isinstance(error, HeadposeError):
        return error.fault
    if isinstance(error, MemoryError):
        return Fault("out of memory", "lower `jobs` or `batch`")
    if isinstance(error, OSError) and error.strerror:
        return Fault(error.strerror, file=str(error.filename or ""))
    traceback.print_exc()
    return Fault(f"{type(error).__name__}: {error}")


def _check_ended(ended: _Running) -> None:
    """Raise TrainingError, which says why, if a run that has ended did not succeed."""
    with ended.receiver as receiver:
        fault = _received(receiver) if receiver.poll() else None  # before the wait: the run may still be sending
        ended.process.join()
    status = ended.process.exitcode or 0
    if not status:
        return
    if status < 0:
        fault = Fault(
            f"the process was killed (signal {-status}), perhaps for want of memory",
            "run the same command again to go on, with a lower `jobs` or `batch`",
        )
    fault = fault or Fault(f"it ended with status {status}", file=ended.job.folder / OUTPUT)
    raise TrainingError(fault._replace(what=f"{ended.job.title}: {fault.what}"))


def _received(receiver: Connection) -> Fault | None:
    try:
        fault: Fault = receiver.recv()
    except EOFError:
        return None
    return fault


@contextmanager
def _stopping_all(running: list[_Running]) -> Iterator[None]:
    """End the processes that still run when the block is left, also when SIGTERM ends this process."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _exit) if in_main else None  # elsewhere Python allows no handler
    try:
        yield
    finally:
        for child in running:
            child.process.terminate()
        for child in running:
            child.process.join(_PATIENCE)
            child.process.kill()
            child.process.join()
            child.receiver.close()
        if in_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
