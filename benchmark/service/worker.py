"""Scoring in child processes, so that no submission can bring the service down.

A child gets the bytes of one submission and the labels, and sends back an answer as JSON. It has a limit on its time
and, where the system has them, on its memory and its processor time.
"""

from __future__ import annotations

import json
import math
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

import msgspec
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from benchmark.service import store
from benchmark.service.challenge import part_errors
from benchmark.service.database import refusal
from benchmark.service.log import event, place, short_id
from benchmark.service.verdict import Verdict, faulty, tell
from headposeplus.faults import Fault
from headposeplus.tasks import end_with_parent, fork_server

if TYPE_CHECKING:
    from benchmark.scoring.labels import Labels
    from benchmark.scoring.protocols import Protocol

AT_ONCE = 2  # scorings
ATTEMPTS = 3  # of a scoring that ends without an answer, for instance with the service
MEMORY = 2 << 30  # bytes that a scoring may take beyond what it starts with
_LONGEST_ANSWER = 64 << 20  # bytes
_LOOK = 0.1  # seconds between two looks whether the service stops
_IDLE = 1.0  # seconds after which a thread looks at the queue unasked
_PLAIN_CSV = "send the plain CSV of the template; if it is that, tell the organisers the id of this submission"
_PRELOADED = [f"benchmark.{name}" for name in ("cli.main", "service.worker", "scoring.score", "board.entries")]

# What scores: benchmark.scoring.score.assess, or in its place another function that a child process can import.
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
    look: bool = False  # for what looks odd beside the labels, and for nothing else


class Answer(msgspec.Struct, frozen=True):
    """What came of a task.

    ``verdict`` is None where the child ended without one. ``judged`` is whether the submission was assessed to the
    end. ``event`` and ``detail`` are for the log.
    """

    verdict: Verdict | None
    key: str = ""
    judged: bool = False
    event: str = ""
    detail: str = ""


# msgspec looks a type up when it is first converted to; two threads that do so at once end the process.
msgspec.json.Decoder(Answer)


class Stopped(Exception):
    """The service stops, and a scoring with it."""


def find_protocol(name: str, about: bytes, protocols: Sequence[Protocol]) -> Protocol | None:
    """Return the protocol of a submission: the one of this name, else the one that its description names.

    The description may name a protocol or a task. Where neither names any, the only protocol is meant, if there is
    but one.
    """
    from benchmark.scoring.submission import read_about

    described = read_about(about)[0]  # the scoring tells what is wrong with it
    for wanted, field in ((name, "id"), (described.protocol, "id"), (described.task, "task")):
        if wanted:
            fitting = [protocol for protocol in protocols if getattr(protocol, field) == wanted]
            if len(fitting) == 1 or field == "id":
                return fitting[0] if fitting else None
    return protocols[0] if len(protocols) == 1 else None


def _assess(task: Task) -> Answer:
    """Return the answer to a task, whatever the submission holds."""
    protocol = find_protocol(task.protocol, task.about, task.protocols)
    if protocol is None:
        served = ", ".join(protocol.id for protocol in task.protocols)
        unknown = Fault("the protocol is not one that this service scores", f"name one of {served}", field="protocol")
        return Answer(faulty(unknown), judged=True)
    if task.look:
        from benchmark.scoring.check import check
        from benchmark.scoring.protocols import reference

        found = check(task.predictions, task.about, reference(protocol, task.labels))
        return Answer(Verdict(None, tell(found.faults), tell(found.suspicions)), judged=True)
    assess = task.assess
    if assess is None:
        from benchmark.scoring import score as scoring

        assess = scoring.assess
    outcome = assess(task.predictions, task.about, protocol, task.labels, secret=True)
    verdict = Verdict(outcome.entry, tell(outcome.faults), tell(outcome.suspicions))
    if outcome.entry is None:
        return Answer(verdict, judged=True)
    from benchmark.board.entries import key

    return Answer(verdict, key(outcome.entry), judged=True)


def _failed(what: str, detail: str) -> Answer:
    """Return the answer where a scoring broke off; ``detail`` is for the log."""
    return Answer(faulty(Fault(what, _PLAIN_CSV, "predictions")), event="failed", detail=detail)


def _as_json(answer: Answer) -> bytes:
    """Return an answer as it goes from a child to the service; raises ValueError if the entry holds a NaN."""
    text = json.dumps(msgspec.to_builtins(answer), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")


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
    for limit, most in wanted:
        with suppress(OSError, ValueError):  # a lower limit is there already
            resource.setrlimit(limit, (most, most))


def _child(sender: Connection, task: Task) -> None:
    """Assess a submission in a child process and send the answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the service, which ends its children
    end_with_parent()
    with open(os.devnull, "w") as nowhere:  # a library's warning may quote a label
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    _limit(task.seconds)
    try:
        data = _as_json(_assess(task))
    except MemoryError:
        data = _as_json(_failed(f"it needed more than {MEMORY >> 30} GiB of memory", "MemoryError"))
    except Exception as error:
        data = _as_json(_failed("the scoring itself failed", place(error)))
    sender.send_bytes(data)
    sender.close()


def score_apart(task: Task, stop: threading.Event) -> Answer:
    """Return the answer of a child process to a task; without one where it ended before.

    Raises
    ------
    Stopped
        If ``stop`` was set meanwhile.
    """
    context = fork_server(_PRELOADED)
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
                return Answer(faulty(Fault(what, mend, "predictions")), event="killed", detail="timeout")
        return msgspec.convert(json.loads(receiver.recv_bytes(_LONGEST_ANSWER)), Answer)
    except (EOFError, OSError):
        return Answer(None, event="ended", detail="no answer")
    finally:
        process.kill()
        process.join()
        receiver.close()


class Worker:
    """Scores what is queued, a few submissions at once, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        engine: Engine,
        protocols: tuple[Protocol, ...],
        labels: Labels,
        public: frozenset[str],
        seconds: float,
        assess: Assess | None,
    ) -> None:
        self._engine, self._public, self._looking = engine, public, threading.Lock()
        self._blank = Task(b"", b"", "", protocols, labels, seconds, assess)
        self._stop = threading.Event()
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"scoring-{i}") for i in range(AT_ONCE)]

    def start(self) -> None:
        """Begin, with what an earlier service left running or queued."""
        left = store.put_back(self._engine)
        if left:
            event("put back", submissions=left)
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
                job = store.claim(self._engine)
                if job is not None:
                    self._score(job)
                    continue
                if self._look():
                    continue
            except SQLAlchemyError as error:  # it may come back
                event("database", detail=refusal(error))
                self._stop.wait(_IDLE)
            with suppress(queue.Empty):
                self._news.get(timeout=_IDLE)

    def _score(self, job: store.Job) -> None:
        began = time.monotonic()
        task = self._blank._replace(predictions=job.predictions, about=job.about, protocol=job.protocol)
        try:
            answer = score_apart(task, self._stop)
        except Stopped:
            self._insist(lambda: store.put_back(self._engine, job.id, unspent=True))
            event("put back", submission=short_id(job.id), submitter=job.submitter)
            return
        except Exception as error:  # whatever it is: a thread that ended would leave the queue standing
            answer = Answer(None, event="ended", detail=type(error).__name__)
        if answer.verdict is None and job.attempt < ATTEMPTS:
            event(answer.event, submission=short_id(job.id), submitter=job.submitter, detail=answer.detail)
            self._insist(lambda: store.put_back(self._engine, job.id))
            return
        self._finish(job, answer, round(1000 * (time.monotonic() - began)))

    def _finish(self, job: store.Job, answer: Answer, milliseconds: int) -> None:
        """Write the verdict on a submission, or that there is none after the last attempt."""
        verdict = answer.verdict
        if verdict is None:
            what = f"the scoring ended {ATTEMPTS} times without an answer"
            verdict = faulty(Fault(what, _PLAIN_CSV, "predictions"))
        scored = verdict.entry is not None
        # A submitter's key stays theirs: another's entry with the same name does not take its place.
        key = f"{answer.key}-{store.mark(job.submitter)}" if scored else ""
        parts = None if verdict.entry is None else part_errors(verdict.entry, self._public)
        keep = scored or not answer.judged
        self._insist(lambda: store.finish(self._engine, job, verdict, key, keep, parts))
        name = answer.event or ("scored" if scored else "faulty")
        fields = {"submission": short_id(job.id), "submitter": job.submitter, "ms": milliseconds}
        event(name, **fields, **({"detail": answer.detail} if answer.detail else {}))

    def _look(self) -> bool:
        """Look for what is odd about a scored submission beside the labels; return whether there was one.

        How long that takes depends on the labels, so that nobody waits for it: it is done while nothing is queued.
        """
        if not self._looking.acquire(blocking=False):
            return False
        try:
            job = store.claim_unlooked(self._engine)
            if job is None:
                return False
            task = self._blank._replace(predictions=job.predictions, about=job.about, protocol=job.protocol, look=True)
            try:
                found = score_apart(task, self._stop).verdict
            except Stopped:
                return False
            except Exception as error:
                event("look", submission=short_id(job.id), detail=type(error).__name__)
                found = None
            store.add_suspicions(self._engine, job.id, found or Verdict())
            return True
        finally:
            self._looking.release()

    def _insist(self, write: Callable[[], object]) -> None:
        """Write to the database, again while it is away, until the service stops: its next start mends the rest."""
        while True:
            try:
                write()
                return
            except SQLAlchemyError as error:
                event("database", detail=refusal(error))
                if self._stop.wait(_IDLE):
                    return
