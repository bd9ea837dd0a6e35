"""Running tasks in parallel processes, with a progress bar."""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, ModuleType
from typing import Any, TypeVar

from headposeplus.beside import found_afresh
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.groups import core_quota
from headposeplus.progress import Bar, progress

Task = TypeVar("Task")
Result = TypeVar("Result")

# Of a worker: that it was told to leave, and that it is doing a task.
_leaving, _working = threading.Event(), threading.Event()
_hiding = threading.Lock()  # the script, while a process starts


def cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use: those it is bound to, or as many as it has time on.

    ``root`` is where ``/proc`` and ``/sys`` lie.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(math.ceil(min(bound, core_quota(root))), 1)


def one_thread_each() -> None:
    """Let the libraries that processes to come load compute with one thread each, which is when they decide it.

    The threads of processes side by side wait for one another: the fit of a selection rule took eighty times as long.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def fork_server(preloaded: list[str]) -> Any:
    """Return how processes start: forked from one that holds the heavy modules ``preloaded``, where the system can.

    In a folder with packages named as ours it holds none, since it would look for them there first.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    one_thread_each()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded if found_afresh() else [])
    return context


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
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker) as executor:
            yield executor


@contextmanager
def started_alone(function: Callable[..., object]) -> Iterator[None]:
    """Let processes that start here, to call a function, not run the user's script again.

    Each would begin by doing so, for what the script defines; one that is not guarded by ``if __name__ ==
    "__main__":`` would begin all over, and one from standard input cannot be run. A function that the script itself
    defines needs it.
    """
    while isinstance(function, partial):
        function = function.func
    if function.__module__ == "__main__":
        yield
        return
    with _hiding:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


def _begin_worker() -> None:
    """Let Ctrl+C, which reaches every process, end a task without a traceback; what it was writing is cleared."""
    signal.signal(signal.SIGINT, _leave)
    end_with_parent()


def _leave(number: int, frame: FrameType | None) -> None:
    _leaving.set()
    if _working.is_set():  # a worker that left between two tasks would break the pool, which then may wait for ever
        sys.exit(128 + number)


def _do(function: Callable[[Task], Result], task: Task) -> Result:
    """Return ``function`` of a task in a worker; one that was told to leave begins no other that the pool has ready."""
    _working.set()
    try:
        if _leaving.is_set():
            sys.exit(128 + signal.SIGINT)
        return function(task)
    finally:
        _working.clear()


def end_with_parent() -> None:
    """Let this process end with the one that started it, however that ends: else it would wait for ever, or go on."""
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    executor: int | Executor,
    label: str,
    unit: str = "part",
    sizes: Sequence[int] | None = None,
    done: int = 0,
) -> list[Result]:
    """Return ``function`` of each task, in order, with a progress bar.

    ``executor`` is what :func:`workers` yields, or a number of processes for these tasks alone. The bar counts units,
    ``sizes`` of each task, or one, beside those that were ``done`` before.

    Raises
    ------
    HeadposeError
        If a worker dies; whatever the function raises is raised here.
    """
    tasks = list(tasks)
    if isinstance(executor, int) and min(executor, len(tasks)) > 1:
        with workers(min(executor, len(tasks))) as processes:
            return run_tasks(function, tasks, processes, label, unit, sizes, done)
    with begun(function, tasks, executor, label, unit, sizes, done) as results:
        return results()


@contextmanager
def begun(
    function: Callable[[Task], Result],
    tasks: list[Task],
    executor: int | Executor,
    label: str,
    unit: str = "part",
    sizes: Sequence[int] | None = None,
    done: int = 0,
) -> Iterator[Callable[[], list[Result]]]:
    """Begin tasks as :func:`run_tasks` does them; yield what waits for their results and returns or raises the same.

    So further tasks can begin before the last of these are done. Those that wait at the end are given up. A number
    in place of an executor is one process, this one, which does them at once.
    """
    sizes = [1] * len(tasks) if sizes is None else sizes
    with progress(done + sum(sizes), label, unit, done) as bar:
        if isinstance(executor, int):
            here = []
            for task, size in zip(tasks, sizes, strict=True):
                here.append(function(task))
                bar.update(size)
            bar.close()
            yield lambda: here
            return
        call = partial(_do, function) if isinstance(executor, ProcessPoolExecutor) else function
        with started_alone(function):
            futures: list[Future[Result]] = [executor.submit(call, task) for task in tasks]
        finished: SimpleQueue[Future[Result]] = SimpleQueue()
        for future, size in zip(futures, sizes, strict=True):
            future.add_done_callback(partial(_count, bar, size, finished))
        try:
            yield partial(_results, futures, finished, bar, label)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)


def _count(bar: Bar, size: int, finished: SimpleQueue[Future[Result]], future: Future[Result]) -> None:
    """Count a task that has ended, in the executor's thread, and hand it to the one that waits."""
    try:
        if not future.cancelled() and not future.exception():
            bar.update(size)
    finally:
        finished.put(future)


def _results(
    futures: list[Future[Result]], finished: SimpleQueue[Future[Result]], bar: Bar, label: str
) -> list[Result]:
    try:
        for _ in futures:
            finished.get().result()  # the first that fails ends the wait, whichever it is
    except Exception as error:
        if isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker":  # Dask's own
            raise HeadposeError(
                f"{label}: a worker process was killed, perhaps for want of memory; "
                "run the same command again to go on, with lower `jobs`"
            ) from error
        raise
    bar.close()
    return [future.result() for future in futures]


def processor_flags() -> frozenset[str]:
    """Return what this machine's processor says that it can do, as Linux names it; nothing elsewhere."""
    return frozenset(_told_by_linux("/proc/cpuinfo", "flags").split())


def processor() -> str:
    """Return the name of this machine's processor."""
    return _told_by_linux("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def peak_bytes() -> int:
    """Return the most memory that this process has held; 0 where the system does not tell."""
    # Unlike getrusage's, Linux's own figure does not begin with that of the process that started this one.
    told = _told_by_linux("/proc/self/status", "VmHWM").split()
    return int(told[0]) * 1024 if told else 0


def _told_by_linux(path: str, name: str) -> str:
    """Return what stands behind a name, first in a file of names and values; nothing elsewhere than on Linux."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
