"""What the database of the scoring service holds: who may submit, what they sent, and what came of it.

SQLite or PostgreSQL, with the same tables. Times are text, ISO 8601 in UTC, so that they sort and a copy from one
database to the other is plain. A submission is committed before it is acknowledged.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.engine import Engine

from benchmark.scoring.entry import PartErrors
from benchmark.service.challenge import climb, read_challenge, refusal_of
from benchmark.service.database import (
    CHALLENGES,
    FAULTY,
    LONGEST_NAME,
    PREDICTIONS,
    QUEUED,
    RUNNING,
    SCORED,
    SUBMISSIONS,
    SUBMITTERS,
    TOLD,
    ServiceError,
    now,
    text_sha256,
    timestamp,
    writing,
)
from benchmark.service.verdict import Verdict, read_verdict, write_verdict
from headposeplus.faults import Fault, shell_line
from headposeplus.files import bytes_sha256


class DailyLimitError(Exception):
    """A submitter has sent as many as a day allows; ``seconds`` are left of it."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class ClosedError(Exception):
    """The challenge takes no more submissions; its words say why."""


class Submitter(NamedTuple):
    """Someone who has, or had, a token; ``scored`` and ``faulty`` count what came of their submissions."""

    name: str
    created: str
    revoked: str | None
    scored: int
    faulty: int


class Job(NamedTuple):
    """A submission to score, for the ``attempt``-th time."""

    id: str
    submitter: str
    attempt: int
    protocol: str
    predictions: bytes
    about: bytes


class Told(NamedTuple):
    """What is told of a scored submission while the challenge is open, and the parts that its figure comes from."""

    mae: float
    improved: bool
    step: float
    parts: PartErrors


class SubmissionState(NamedTuple):
    """A submission and its state. ``verdict``, ``key`` and ``told`` are empty until it is scored.

    ``counts`` is whether it counts against the day's limit.
    """

    id: str
    submitter: str
    status: str
    received: str
    finished: str | None
    publish: bool
    key: str
    verdict: Verdict
    told: Told | None
    counts: bool


def mark(submitter: str) -> str:
    """Return the few letters that stand for a submitter in the keys of their entries."""
    return text_sha256(submitter)[:6]


def add_token(engine: Engine, name: str) -> str:
    """Return a new token for a submitter; the database keeps its hash only.

    Raises
    ------
    ServiceError
        If the name is unfit, or has a token that is valid.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ServiceError(f"{name[:40]!r}: expected a name of 1 to {LONGEST_NAME} printable characters")
    token = secrets.token_urlsafe(32)
    with writing(engine) as connection:
        row = connection.execute(sa.select(SUBMITTERS.c.revoked).where(SUBMITTERS.c.name == name)).first()
        if row is None:
            values = {"name": name, "token_sha256": text_sha256(token), "created": timestamp(now())}
            connection.execute(SUBMITTERS.insert().values(values))
        elif row.revoked is None:
            mend = f"revoke it first: {shell_line('hpp', 'serve', 'token', 'revoke', name)}"
            raise ServiceError(Fault(f"{name!r} has a token already", mend))
        else:
            fresh = {"token_sha256": text_sha256(token), "revoked": None}
            connection.execute(SUBMITTERS.update().where(SUBMITTERS.c.name == name).values(fresh))
    return token


def revoke(engine: Engine, name: str) -> None:
    """Make a submitter's token invalid; raises ServiceError if there is none that is valid."""
    with writing(engine) as connection:
        valid = (SUBMITTERS.c.name == name) & SUBMITTERS.c.revoked.is_(None)
        done = connection.execute(SUBMITTERS.update().where(valid).values(revoked=timestamp(now())))
        if not done.rowcount:
            raise ServiceError(Fault(f"{name!r} has no valid token", "hpp serve token list names those that have"))


def list_submitters(engine: Engine) -> list[Submitter]:
    """Return all submitters by name."""
    amounts = [sa.func.count().filter(SUBMISSIONS.c.status == status) for status in (SCORED, FAULTY)]
    query = (
        sa.select(SUBMITTERS.c.name, SUBMITTERS.c.created, SUBMITTERS.c.revoked, *amounts)
        .select_from(SUBMITTERS.outerjoin(SUBMISSIONS))
        .group_by(SUBMITTERS.c.name, SUBMITTERS.c.created, SUBMITTERS.c.revoked)
        .order_by(SUBMITTERS.c.name)
    )
    with engine.connect() as connection:
        return [Submitter(*row) for row in connection.execute(query)]


def find_submitter(engine: Engine, token: str) -> str | None:
    """Return whose valid token this is, or None."""
    valid = (SUBMITTERS.c.token_sha256 == text_sha256(token)) & SUBMITTERS.c.revoked.is_(None)
    with engine.connect() as connection:
        return connection.execute(sa.select(SUBMITTERS.c.name).where(valid)).scalar()


def add_submission(
    engine: Engine, submitter: str, predictions: bytes, about: bytes, protocol: str, publish: bool, daily: int
) -> str:
    """Queue a submission and return its id, which nobody else can guess.

    The same bytes from the same submitter, who may have lost the answer and sent them again, are the same submission.
    One that was faulty is scored anew. Submissions of the UTC day that are queued, running or scored count against
    ``daily``, faulty ones do not.

    Raises
    ------
    DailyLimitError
        If there are as many already.
    ClosedError
        If the challenge is closed, or its deadline over.
    """
    time = now()
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    # To its end: a clock that was wrong may have left submissions of days to come.
    of_today = SUBMISSIONS.c.received.between(timestamp(time)[:10], timestamp(midnight))
    mine = sa.select(sa.func.count()).where(SUBMISSIONS.c.submitter == submitter, of_today, counting())
    row = {"received": timestamp(time), "status": QUEUED, "attempts": 0}
    row |= {"finished": None, "key": None, "verdict": None}
    with writing(engine) as connection:
        _lock(connection, submitter)
        theirs = sa.select(SUBMITTERS.c.token_sha256).where(SUBMITTERS.c.name == submitter)
        name = _id(str(connection.execute(theirs).scalar()), predictions, about, protocol, publish)
        same = SUBMISSIONS.c.id == name
        status = connection.execute(sa.select(SUBMISSIONS.c.status).where(same)).scalar()
        if status not in (None, FAULTY):
            return name
        over = refusal_of(read_challenge(connection), timestamp(time))
        if over:
            raise ClosedError(over)
        if (connection.execute(mine).scalar() or 0) >= daily:
            raise DailyLimitError(int((midnight - time).total_seconds()) + 1)
        if status == FAULTY:
            connection.execute(SUBMISSIONS.update().where(same).values(row))
            connection.execute(PREDICTIONS.delete().where(PREDICTIONS.c.submission == name))
        else:
            row |= {"id": name, "submitter": submitter, "protocol": protocol, "publish": publish, "about": about}
            connection.execute(SUBMISSIONS.insert().values(row))
        connection.execute(PREDICTIONS.insert().values(submission=name, predictions=predictions))
    return name


def _id(secret: str, predictions: bytes, about: bytes, protocol: str, publish: bool) -> str:
    """Return the id of a submission, which follows from what it holds and from a secret of its submitter."""
    parts = [bytes_sha256(predictions), bytes_sha256(about), text_sha256(protocol), str(publish)]
    digest = hmac.digest(secret.encode(), " ".join(parts).encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:24]).decode()


def counting() -> sa.ColumnElement[bool]:
    """Return what holds of a submission that counts: labels may have been looked at.

    They were not where it is faulty and its predictions are dropped; a scoring that broke off keeps them.
    """
    kept = sa.exists().where(PREDICTIONS.c.submission == SUBMISSIONS.c.id).correlate(SUBMISSIONS)
    return (SUBMISSIONS.c.status != FAULTY) | kept


def _lock(connection: sa.Connection, submitter: str) -> None:
    """Let what concerns a submitter come one after another: on PostgreSQL; SQLite has but one writer."""
    connection.execute(sa.select(SUBMITTERS.c.name).where(SUBMITTERS.c.name == submitter).with_for_update())


def claim(engine: Engine) -> Job | None:
    """Return the oldest queued submission, and mark it as running; None where nothing is queued."""
    columns = SUBMISSIONS.c
    oldest = sa.select(columns.id).where(columns.status == QUEUED).order_by(columns.received, columns.id).limit(1)
    while True:
        with engine.connect() as connection:
            name = connection.execute(oldest).scalar()
        if name is None:
            return None
        with writing(engine) as connection:
            free = (columns.id == name) & (columns.status == QUEUED)
            taken = SUBMISSIONS.update().where(free).values(status=RUNNING, attempts=columns.attempts + 1)
            if connection.execute(taken).rowcount:
                return _job(connection, name)


def _job(connection: sa.Connection, name: str) -> Job:
    query = sa.select(SUBMISSIONS, PREDICTIONS.c.predictions).join(PREDICTIONS).where(SUBMISSIONS.c.id == name)
    row = connection.execute(query).one()
    return Job(row.id, row.submitter, row.attempts, row.protocol, row.predictions, row.about)


def finish(
    engine: Engine, job: Job, verdict: Verdict, key: str = "", keep: bool = True, parts: PartErrors | None = None
) -> None:
    """Write the verdict on a submission that is running: it is scored if that holds an entry, else faulty.

    Unless ``keep``, its predictions are dropped. ``parts`` are its errors where it is scored; with them it is written
    what may be told while the challenge is open.
    """
    status = FAULTY if verdict.entry is None else SCORED
    values = {"status": status, "verdict": write_verdict(verdict), "key": key or None}
    running = (SUBMISSIONS.c.id == job.id) & (SUBMISSIONS.c.status == RUNNING)
    with writing(engine) as connection:
        _lock(connection, job.submitter)
        values["finished"] = _after(connection, key)
        if not connection.execute(SUBMISSIONS.update().where(running).values(values)).rowcount:
            return
        if not keep:
            connection.execute(PREDICTIONS.delete().where(PREDICTIONS.c.submission == job.id))
        if verdict.entry is not None and parts is not None:
            _tell(connection, job, verdict.entry.protocol.id, parts)
        _note_change(connection, job.id)


def _note_change(connection: sa.Connection, name: str) -> None:
    """Count a change of the board if this submission is on it, at the end of the transaction that makes it.

    Those who ask whether the board changed read one row then, and those who change it wait for one another there last.
    """
    here = sa.exists().where(SUBMISSIONS.c.id == name, published())
    connection.execute(CHALLENGES.update().where(here).values(changes=CHALLENGES.c.changes + 1))


def _after(connection: sa.Connection, key: str) -> str:
    """Return the time, or one after all entries of a key: the newest counts, also where the clock was put back."""
    time = timestamp(now())
    last = connection.execute(sa.select(sa.func.max(SUBMISSIONS.c.finished)).where(SUBMISSIONS.c.key == key)).scalar()
    return time if last is None or last < time else timestamp(datetime.fromisoformat(last) + timedelta(microseconds=1))


def _tell(connection: sa.Connection, job: Job, protocol: str, parts: PartErrors) -> None:
    """Write what is told of a submission while the challenge is open: the next rung of its submitter's Ladder."""
    challenge = read_challenge(connection)
    assert challenge is not None, "a service opens the challenge before it scores"
    mine = (TOLD.c.submitter == job.submitter) & (TOLD.c.protocol == protocol)
    best = connection.execute(sa.select(sa.func.min(TOLD.c.mae)).where(mine)).scalar()
    fresh = climb(parts.public, best, challenge.step)
    row = {"submission": job.id, "submitter": job.submitter, "protocol": protocol, "looked": False}
    row |= {"mae": best if fresh is None else fresh, "improved": fresh is not None}
    connection.execute(TOLD.insert().values(**row, public=parts.public, private=parts.private))


def claim_unlooked(engine: Engine) -> Job | None:
    """Return the oldest scored submission for which suspicions that need labels were not looked for yet, or None."""
    columns = SUBMISSIONS.c
    query = sa.select(columns.id).join(TOLD).where(TOLD.c.looked.is_(False)).order_by(columns.finished).limit(1)
    with engine.connect() as connection:
        name = connection.execute(query).scalar()
        return None if name is None else _job(connection, name)


def add_suspicions(engine: Engine, name: str, found: Verdict) -> None:
    """Add to a scored submission what looks odd beside its labels, which is told once the challenge is closed."""
    with writing(engine) as connection:
        text = connection.execute(sa.select(SUBMISSIONS.c.verdict).where(SUBMISSIONS.c.id == name)).scalar_one()
        verdict = read_verdict(text)
        assert verdict.entry is not None
        odd = (*found.faults, *found.suspicions)  # angles in another unit are a fault where labels are at hand
        told = tuple(f"{one.what}; {one.mend}"[:1_000] for one in odd)
        verdict = replace(verdict, entry=replace(verdict.entry, suspicions=told), suspicions=odd)
        values = {"verdict": write_verdict(verdict)}
        connection.execute(SUBMISSIONS.update().where(SUBMISSIONS.c.id == name).values(values))
        connection.execute(TOLD.update().where(TOLD.c.submission == name).values(looked=True))
        _note_change(connection, name)


def put_back(engine: Engine, name: str | None = None, unspent: bool = False) -> int:
    """Queue a running submission again, or all of them; return how many. ``unspent``: the attempt does not count."""
    columns = SUBMISSIONS.c
    running = columns.status == RUNNING if name is None else (columns.status == RUNNING) & (columns.id == name)
    attempts = columns.attempts - 1 if unspent else columns.attempts
    with writing(engine) as connection:
        queued = SUBMISSIONS.update().where(running).values(status=QUEUED, attempts=attempts)
        return connection.execute(queued).rowcount


TOLD_COLUMNS = (TOLD.c.mae.label("told"), TOLD.c.improved, TOLD.c.public, TOLD.c.private, CHALLENGES.c.step)
WITH_TOLD = SUBMISSIONS.outerjoin(TOLD).outerjoin(CHALLENGES, TOLD.c.submission.is_not(None))


def told_of(row: Any) -> Told | None:
    """Return what was told of a row with ``TOLD_COLUMNS``; None where it was scored before there were challenges."""
    if row.told is None:
        return None
    return Told(row.told, row.improved, row.step, PartErrors(row.public, row.private))


def find_submission(engine: Engine, name: str) -> SubmissionState | None:
    """Return the submission of this id, or None."""
    columns = [column for column in SUBMISSIONS.c if column.name != "about"]
    query = sa.select(*columns, counting().label("counts"), *TOLD_COLUMNS).select_from(WITH_TOLD)
    with engine.connect() as connection:
        row = connection.execute(query.where(SUBMISSIONS.c.id == name)).first()
    if row is None:
        return None
    verdict = read_verdict(row.verdict) if row.verdict else Verdict()
    state = (row.id, row.submitter, row.status, row.received, row.finished, row.publish, row.key or "")
    return SubmissionState(*state, verdict, told_of(row), bool(row.counts))


def published() -> sa.ColumnElement[bool]:
    """Return what holds of a submission that is published."""
    return (SUBMISSIONS.c.status == SCORED) & SUBMISSIONS.c.publish.is_(True)


def board_state(engine: Engine) -> tuple[object, ...] | None:
    """Return what changes whenever the board does: one row, however many submissions there are."""
    query = sa.select(CHALLENGES.c.changes, CHALLENGES.c.closed, CHALLENGES.c.deadline)
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return None if row is None else tuple(row)


def withdraw(engine: Engine, key: str) -> None:
    """Take an entry off the board; its submission stays. Raises ServiceError if no published entry has this key."""
    with writing(engine) as connection:
        done = connection.execute(
            SUBMISSIONS.update().where(published(), SUBMISSIONS.c.key == key).values(publish=False)
        )
        if not done.rowcount:
            what = f"{key[:80]!r}: no published entry has this key"
            raise ServiceError(Fault(what, "the address of an entry's page ends in it"))
        connection.execute(CHALLENGES.update().values(changes=CHALLENGES.c.changes + 1))


def counts(engine: Engine, statuses: Sequence[str] = (QUEUED, RUNNING, SCORED, FAULTY)) -> dict[str, int]:
    """Return how many submissions have each of these statuses; to count those that wait takes no time."""
    columns = SUBMISSIONS.c
    query = sa.select(columns.status, sa.func.count()).where(columns.status.in_(statuses)).group_by(columns.status)
    with engine.connect() as connection:
        present = {row[0]: row[1] for row in connection.execute(query)}
    return {status: present.get(status, 0) for status in statuses}
