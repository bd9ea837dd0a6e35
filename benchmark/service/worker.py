"""Scoring in child processes, so that no submission can bring the service down.

A child gets the bytes of one submission and the labels, and answers with one line of JSON. It has a limit on its time
and, where the system has them, on its memory and its processor time.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from benchmark.service import store as service_store
from benchmark.service.log import event, place, short_id
from headposeplus.faults import Fault

if TYPE_CHECKING:
    from benchmark.scoring.labels import Labels
    from benchmark.scoring.protocols import Protocol

AT_ONCE = 2  # scorings
ATTEMPTS = 3  # of a scoring that ends without an answer, for instance with the service
MEMORY = 2 << 30  # bytes that a scoring may take beyond what it starts with
_LONGEST_ANSWER = 64 << 20  # bytes
_TOLD = 100  # faults of a submission that are told
_LONGEST_TEXT = 1000  # characters of a fault
_LOOK = 0.1  # seconds between two looks whether the service stops
_IDLE = 1.0  # seconds after which the queue is looked at without having been told
_PRELOADED = [f"benchmark.{name}" for name in ("cli.main", "service.worker", "scoring.score", "board.entries")]

# What scores: benchmark.scoring.assess, or in its place another function that a child process can import.
Assess = Callable[..., Any]


class Task(NamedTuple):
    """What a child process gets."""

    predictions: bytes
    about: bytes
    protocol: str
    protocols: tuple[Protocol, ...]
    labels: Labels
    seconds: float
    assess: Assess | None


class Answer(NamedTuple):
    """What came of a task.

    ``verdict`` holds ``entry``, ``faults`` and ``suspicions``; it is None where the child ended without one.
    ``judged`` is whether the submission was assessed to the end. ``event`` and ``detail`` are for the log.
    """

    verdict: dict[str, Any] | None
    key: str = ""
    judged: bool = False
    event: str = ""
    detail: str = ""


class Stopped(Exception):
    """The service stops, and a scoring with it."""


def _said(fault: Fault) -> dict[str, str]:
    """Return a fault as it is told to a submitter."""
    words = {"where": fault.place, "what": fault.what, "mend": fault.mend}
    return {name: text[:_LONGEST_TEXT] for name, text in words.items()}


def _faulty(fault: Fault) -> dict[str, Any]:
    """Return the verdict on a submission that cannot be scored."""
    return {"entry": None, "faults": [_said(fault)], "suspicions": []}


def find_protocol(name: str, about: bytes, protocols: Sequence[Protocol]) -> Protocol | None:
    """Return the protocol of a submission: the named one, else that or the task which its description names.

    Where there is but one, it is that one, unless the name is another's.
    """
    from benchmark.scoring.submission import read_about

    said = read_about(about)[0]  # what is wrong with it is told later
    for wanted, field in ((name, "id"), (said.get("protocol"), "id"), (said.get("task"), "task")):
        if wanted:
            fitting = [protocol for protocol in protocols if getattr(protocol, field) == wanted]
            if len(fitting) == 1 or field == "id":
                return fitting[0] if fitting else None
    return protocols[0] if len(protocols) == 1 else None


def _assess(task: Task) -> dict[str, Any]:
    """Return the answer of a child, as JSON holds it."""
    protocol = find_protocol(task.protocol, task.about, task.protocols)
    if protocol is None:
        served = ", ".join(protocol.id for protocol in task.protocols)
        unknown = Fault("the protocol is not one that this service scores", f"name one of {served}", field="protocol")
        verdict = _faulty(unknown)
        return {"verdict": verdict, "key": "", "judged": True}
    assess = task.assess
    if assess is None:
        from benchmark.scoring import score as scoring

        assess = scoring.assess
    from benchmark.scoring.entry import plain as entry_as_plain

    outcome = assess(task.predictions, task.about, protocol, task.labels, figures=False)
    verdict = {"entry": outcome.entry and entry_as_plain(outcome.entry)}
    for kind in ("faults", "suspicions"):
        told = getattr(outcome, kind)[:_TOLD]
        verdict[kind] = [_said(fault) for fault in told]
    key = ""
    if outcome.entry is not None:
        from benchmark.board.entries import key as key_of

        key = key_of(outcome.entry)
    return {"verdict": verdict, "key": key, "judged": True}


def _limit(seconds: float) -> None:
    """Limit the memory and the processor time of this process, where the system can."""
    try:
        import resource
    except ImportError:
        return
    wanted = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, 2 * math.ceil(seconds) + 5)]
    with suppress(OSError):  # elsewhere than on Linux the memory in use is not known this way
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        wanted.append((resource.RLIMIT_AS, used + MEMORY))
    for what, most in wanted:
        with suppress(OSError, ValueError):  # a lower limit is there already
            resource.setrlimit(what, (most, most))


def _child(sender: Connection, task: Task) -> None:
    """Assess a submission and send the answer: what runs in a child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the service, which ends its children
    with open(os.devnull, "w") as nowhere:  # a library's warning may quote a label
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    _limit(task.seconds)
    try:
        answer = _assess(task)
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
    except MemoryError:
        text = json.dumps({"failed": f"it needed more than {MEMORY >> 30} GiB of memory", "detail": "MemoryError"})
    except Exception as error:
        text = json.dumps({"failed": "the scoring itself failed", "detail": place(error)})
    sender.send_bytes(text.encode("utf-8", "replace"))
    sender.close()


def _context() -> Any:
    """Return how children start: forked from a process that holds the heavy modules, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def score_apart(task: Task, stop: threading.Event) -> Answer:
    """Return the answer of a child process to a task; without one where it ended before.

    Raises
    ------
    Stopped
        If ``stop`` was set meanwhile.
    """
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, task), daemon=True)
    process.start()
    sender.close()
    end = time.monotonic() + task.seconds
    try:
        while not receiver.poll(_LOOK):
            if stop.is_set():
                raise Stopped
            if time.monotonic() > end:
                mend = "send the plain CSV of the template; if it is that, tell the organisers"
                what = f"the scoring took more than {task.seconds:g} seconds and was ended"
                return Answer(_faulty(Fault(what, mend, "predictions")), event="killed", detail="timeout")
        answer = json.loads(receiver.recv_bytes(_LONGEST_ANSWER))
    except (EOFError, OSError):
        return Answer(None, event="ended", detail="no answer")
    finally:
        process.kill()
        process.join()
        receiver.close()
    if "failed" in answer:
        mend = "send the plain CSV of the template; if it is that, tell the organisers the id of this submission"
        return Answer(_faulty(Fault(answer["failed"], mend, "predictions")), event="failed", detail=answer["detail"])
    return Answer(**answer)


class Worker:
    """Scores what is queued, a few submissions at once, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self, engine: Engine, protocols: tuple[Protocol, ...], labels: Labels, seconds: float, assess: Assess | None
    ) -> None:
        self._engine = engine
        self._blank = Task(b"", b"", "", protocols, labels, seconds, assess)
        self._stop = threading.Event()
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"scoring-{i}") for i in range(AT_ONCE)]

    def start(self) -> None:
        """Begin, with what an earlier service left running or queued."""
        found = service_store.put_back(self._engine)
        if found:
            event("put back", submissions=found)
        for thread in self._threads:
            thread.start()

    def tell(self) -> None:
        """Say that something was queued."""
        self._news.put(None)

    def stop(self) -> None:
        """End the scorings that run and put them back into the queue."""
        self._stop.set()
        for _ in self._threads:
            self.tell()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                job = service_store.claim(self._engine)
                if job is not None:
                    self._score(job)
                    continue
            except SQLAlchemyError as error:  # it may come back
                event("database", detail=type(error).__name__)
                self._stop.wait(_IDLE)
            with suppress(queue.Empty):
                self._news.get(timeout=_IDLE)

    def _score(self, job: service_store.Job) -> None:
        began = time.monotonic()
        task = self._blank._replace(predictions=job.predictions, about=job.about, protocol=job.protocol)
        try:
            answer = score_apart(task, self._stop)
        except Stopped:
            self._insist(lambda: service_store.put_back(self._engine, job.id, unspent=True))
            event("put back", submission=short_id(job.id), submitter=job.submitter)
            return
        except Exception as error:  # whatever it is: a thread that ended would leave the queue standing
            answer = Answer(None, event="ended", detail=type(error).__name__)
        verdict = answer.verdict
        if verdict is None and job.attempt < ATTEMPTS:
            event(answer.event, submission=short_id(job.id), submitter=job.submitter, detail=answer.detail)
            self._insist(lambda: service_store.put_back(self._engine, job.id))
            return
        if verdict is None:
            verdict = _faulty(Fault(
                f"the scoring ended {ATTEMPTS} times without an answer",
                "send the plain CSV of the template; if it is that, tell the organisers the id of this submission",
                "predictions",
            ))  # fmt: skip
        scored = verdict["entry"] is not None
        # A submitter's key stays theirs: another's entry with the same name does not take its place.
        key = f"{answer.key}-{service_store.mark(job.submitter)}" if scored else ""
        self._insist(lambda: service_store.finish(self._engine, job, verdict, key, keep=scored or not answer.judged))
        event(
            answer.event or ("scored" if scored else "faulty"), submission=short_id(job.id), submitter=job.submitter,
            ms=round(1000 * (time.monotonic() - began)), **({"detail": answer.detail} if answer.detail else {}),
        )  # fmt: skip

    def _insist(self, write: Callable[[], object]) -> None:
        """Write to the database, again while it is away; given up when the service stops, whose next start mends it."""
        while True:
            try:
                write()
                return
            except SQLAlchemyError as error:
                event("database", detail=type(error).__name__)
                if self._stop.wait(_IDLE):
                    return
