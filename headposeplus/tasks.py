"""Running tasks in parallel processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tqdm import tqdm

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault

Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread_each() -> None:
    """Let the libraries that processes to come load compute with one thread each, which is when they decide it.

    The threads of processes side by side wait for one another: the fit of a selection rule took eighty times as long.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def fork_server(preloaded: list[str]) -> Any:
    """Return how processes start: forked from one that holds the heavy modules ``preloaded``, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    one_thread_each()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded)
    return context


def progress(total: int, label: str, unit: str, done: int = 0, shown: bool = True) -> tqdm[NoReturn]:
    """Return a progress bar on standard error; where that is no terminal, a line now and then."""
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total,
        initial=done,
        desc=label,
        unit=unit,
        mininterval=interval,
        dynamic_ncols=True,
        disable=not (total and shown),
    )


@contextmanager
def workers(jobs: int, dask: str | None = None) -> Iterator[int | Executor]:
    """Yield what :func:`run_tasks` takes to run several rounds of tasks in the same processes.

    ``dask`` is the address of a Dask scheduler, such as ``tcp://host:8786``; its workers need this package and see
    the same folders. Else there are ``jobs`` processes on this machine, and with one job none but this one.

    Raises
    ------
    HeadposeError
        If Dask is not installed, or no scheduler answers.
    """
    if dask:
        try:
            from distributed import Client
            from distributed.comm import get_address_host_port
        except ImportError as error:
            raise HeadposeError("`dask` needs the package distributed: pip install 'headposeplus[dask]'") from error
        try:
            # Asked first: a client that fails to connect leaves threads behind.
            socket.create_connection(get_address_host_port(dask), timeout=10).close()
            client = Client(dask, timeout="10s")
        except (OSError, ValueError) as error:
            raise HeadposeError(Fault(f"no Dask scheduler answers there: {error}", file=dask)) from error
        with client, client.get_executor(pure=False) as executor:
            yield executor
    elif jobs <= 1:
        yield 1
    else:
        # Fresh processes: a fork would copy the locks of threads that other libraries have started.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_quietly) as executor:
            yield executor


def _leave_quietly() -> None:
    """Let Ctrl+C, which reaches every process, end a worker without a traceback; what it was writing is cleared."""
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(128 + number))


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], executor: int | Executor, label: str
) -> list[Result]:
    """Return ``function`` of each task, in order, with a progress bar.

    ``executor`` is what :func:`workers` yields, or a number of processes for these tasks alone.

    Raises
    ------
    HeadposeError
        If a worker dies; whatever the function raises is raised here.
    """
    tasks = list(tasks)
    if isinstance(executor, int) and min(executor, len(tasks)) > 1:
        with workers(min(executor, len(tasks))) as processes:
            return run_tasks(function, tasks, processes, label)
    with progress(len(tasks), label, "part") as bar:
        if isinstance(executor, int):
            results = []
            for task in tasks:
                results.append(function(task))
                bar.update()
            return results
        return _run_in(executor, function, tasks, label, bar)


def _run_in(
    executor: Executor, function: Callable[[Task], Result], tasks: list[Task], label: str, bar: tqdm[NoReturn]
) -> list[Result]:
    futures: list[Future[Result]] = [executor.submit(function, task) for task in tasks]
    try:
        for future in as_completed(futures):
            future.result()
            bar.update()
    except BaseException as error:
        for future in futures:
            future.cancel()
        wait(futures)
        if isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker":  # Dask's own
            raise HeadposeError(
                f"{label}: a worker process was killed, perhaps for want of memory; "
                "run the same command again to go on, with lower `jobs`"
            ) from error
        raise
    return [future.result() for future in futures]


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def processes_here() -> int:
    """Return how many processes ``torchrun`` has started on this machine, which share its memory and its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
