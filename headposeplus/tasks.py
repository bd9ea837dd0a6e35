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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TypeAlias, TypeVar

import numpy as np
from tqdm import tqdm

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, shown
from headposeplus.groups import core_quota

Task = TypeVar("Task")
Result = TypeVar("Result")

LINE_EVERY = 30.0  # seconds between the lines that a log gets of what takes long
# Of a worker: that it was told to leave, and that it is doing a task.
_leaving, _working = threading.Event(), threading.Event()


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
    """Return how processes start: forked from one that holds the heavy modules ``preloaded``, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    one_thread_each()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded)
    return context


class _Lines:
    """Progress for a log, with what this package uses of tqdm: a line now and then, and one at the end."""

    def __init__(self, total: int, label: str, unit: str, done: int) -> None:
        self.n: float = done
        self._total, self._label, self._unit, self._postfix = total, label, unit, ""
        self._first, self._began = done, time.monotonic()
        self._shown = self._began

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Add to what is done; write a line if the last one is old."""
        self.n += n
        now = time.monotonic()
        if now - self._shown >= LINE_EVERY and self.n < self._total:
            self._shown = now
            done = self.n - self._first
            left = f", {_duration((now - self._began) * (self._total - self.n) / done)} left" if done > 0 else ""
            self._write(f", {100 * self.n / self._total:.0f} %{left}{self._postfix}")

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> None:
        """Set what stands at the end of the lines to come, as names and values."""
        self.set_postfix_str(", ".join(f"{name}={value}" for name, value in values.items()))

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        """Set what stands at the end of the lines to come."""
        self._postfix = f", {text}" if text else ""

    def close(self) -> None:
        """Write the last line."""
        self._write(f" in {_duration(time.monotonic() - self._began)}")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a log on a full disk ends no work
            done = f"{self.n:,.1f}".removesuffix(".0")  # of runs, parts count, too
            place = f"{self._label}: {done} of {self._total:,} {self._unit}s"
            print(f"{place}{text}", file=sys.stderr, flush=True)


Bar: TypeAlias = "tqdm[NoReturn] | _Lines"


def _duration(seconds: float) -> str:
    """Return a time in words, to its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 else "")
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _can_be_written_over() -> bool:
    """Return whether standard error is a terminal with lines that are seen and can be written over."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0 and os.environ.get("TERM") != "dumb"
    except (OSError, ValueError, AttributeError):  # a file, a pipe, a notebook's stream
        return False


def progress(total: int, label: str, unit: str, done: int = 0, shown: bool = True) -> Bar:
    """Return a progress bar on standard error; where that is no terminal, lines for a log."""
    off = sys.stderr is None or not (total and shown)
    if not (off or _can_be_written_over()):
        return _Lines(total, label, unit, done)
    return tqdm(total=total, initial=done, desc=label, unit=unit, mininterval=0.2, dynamic_ncols=True, disable=off)


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
    sizes = [1] * len(tasks) if sizes is None else sizes
    with progress(done + sum(sizes), label, unit, done) as bar:
        if isinstance(executor, int):
            results = []
            for task, size in zip(tasks, sizes, strict=True):
                results.append(function(task))
                bar.update(size)
            return results
        return _run_in(executor, function, tasks, label, sizes, bar)


def _run_in(
    executor: Executor,
    function: Callable[[Task], Result],
    tasks: list[Task],
    label: str,
    sizes: Sequence[int],
    bar: Bar,
) -> list[Result]:
    call = partial(_do, function) if isinstance(executor, ProcessPoolExecutor) else function
    futures: list[Future[Result]] = [executor.submit(call, task) for task in tasks]
    size_of = dict(zip(futures, sizes, strict=True))
    try:
        for future in as_completed(futures):
            future.result()
            bar.update(size_of[future])
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


class Ranks(NamedTuple):
    """This process among those that train one network: its number, and how many there are.

    Attributes
    ----------
    rank, world
        Its number, from 0, and how many there are.
    local, here
        Its number on this machine, and how many there are here, which share its memory and its cores.
    address, port
        Where they meet; empty and 0 where there is one.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    here: int = 1
    address: str = ""
    port: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def meeting(self) -> str:
        """Where they meet, in words."""
        return f"{self.address}:{self.port}"

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this rank's part (k,) of a batch's rows (n,)."""
        return rows[self.rank :: self.world]


_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
_LAUNCHER = ", ".join((*_NUMBERS[:4], "MASTER_ADDR", _NUMBERS[4]))


def ranks_here() -> Ranks:
    """Return the ranks as ``torchrun`` has set them in the environment; one process without it.

    Raises
    ------
    HeadposeError
        If the variables contradict each other, or only some of them are set.
    """
    numbers: dict[str, int] = {}
    for name in _NUMBERS:
        if (text := os.environ.get(name)) is not None:
            if not (text.isascii() and text.isdecimal()):
                raise _odd_launch(f"{name} is {shown(text)}, expected a number")
            numbers[name] = int(text)
    ranks = Ranks(
        numbers.get("RANK", 0),
        numbers.get("WORLD_SIZE", 1),
        numbers.get("LOCAL_RANK", 0),
        numbers.get("LOCAL_WORLD_SIZE", 1),
    )
    if ranks.rank >= ranks.world:
        size = f"WORLD_SIZE is {ranks.world}" if "WORLD_SIZE" in numbers else "WORLD_SIZE is not set"
        raise _odd_launch(f"RANK is {ranks.rank}, but {size}")
    if not ranks.local < ranks.here <= ranks.world:
        local = f"LOCAL_RANK {ranks.local}, LOCAL_WORLD_SIZE {ranks.here}, WORLD_SIZE {ranks.world}"
        raise _odd_launch(f"{local} contradict each other")
    if ranks.world == 1:
        return ranks
    missing = [name for name in (*_NUMBERS, "MASTER_ADDR") if not os.environ.get(name)]
    if missing:
        raise _odd_launch(f"WORLD_SIZE is {ranks.world}, but {' and '.join(missing)} not set")
    return ranks._replace(address=os.environ["MASTER_ADDR"], port=numbers["MASTER_PORT"])


def _odd_launch(what: str) -> HeadposeError:
    mend = f"unset it to train with one process, or start several with torchrun, which sets {_LAUNCHER}"
    return HeadposeError(Fault(what, mend, "environment"))
