"""The database of the scoring service: who may submit, what they sent, and what came of it.

SQLite or PostgreSQL, with the same three tables. Times are text, ISO 8601 in UTC, so that they sort and a copy from one
database to the other is plain. What is queued is committed before it is acknowledged.
"""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmark.scoring.entry import Entry, Listed, from_plain
from benchmark.service.database import (
    FAULTY,
    LONGEST_NAME,
    QUEUED,
    RUNNING,
    SCORED,
    ServiceError,
    _hash,
    _submissions,
    _submitters,
    _text,
    _writing,
    now,
)


class DailyLimitError(Exception):
    """A submitter has sent as many as a day allows; ``seconds`` are left of it."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


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


class Submission(NamedTuple):
    """What is known of a submission. ``entry`` is None and ``key`` empty until it is scored."""

    id: str
    submitter: str
    status: str
    received: str
    finished: str | None
    publish: bool
    key: str
    entry: Entry | None
    faults: list[dict[str, str]]
    suspicions: list[dict[str, str]]


def mark(submitter: str) -> str:
    """Return a few letters that stand for a submitter in the keys of their entries."""
    return _hash(submitter)[:6]


def add_token(engine: Engine, name: str) -> str:
    """Return a new token for a submitter, of which only the hash is kept.

    Raises
    ------
    ServiceError
        If the name is unfit, or has a token that is valid.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ServiceError(f"{name[:40]!r}: expected a name of 1 to {LONGEST_NAME} printable characters")
    token = secrets.token_urlsafe(32)
    with _writing(engine) as connection:
        row = connection.execute(sa.select(_submitters.c.revoked).where(_submitters.c.name == name)).first()
        if row is None:
            values = {"name": name, "token_sha256": _hash(token), "created": _text(now())}
            connection.execute(_submitters.insert().values(values))
        elif row.revoked is None:
            raise ServiceError(f"{name!r} has a token already; revoke it first: hpp serve token revoke {name!r}")
        else:
            fresh = {"token_sha256": _hash(token), "revoked": None}
            connection.execute(_submitters.update().where(_submitters.c.name == name).values(fresh))
    return token


def revoke(engine: Engine, name: str) -> None:
    """Make a submitter's token invalid; raises ServiceError if there is none that is valid."""
    with _writing(engine) as connection:
        valid = (_submitters.c.name == name) & _submitters.c.revoked.is_(None)
        done = connection.execute(_submitters.update().where(valid).values(revoked=_text(now())))
        if not done.rowcount:
            raise ServiceError(f"{name!r} has no valid token; hpp serve token list names those that have")


def list_submitters(engine: Engine) -> list[Submitter]:
    """Return all submitters by name."""
    amounts = [sa.func.count().filter(_submissions.c.status == status) for status in (SCORED, FAULTY)]
    query = (
        sa.select(_submitters.c.name, _submitters.c.created, _submitters.c.revoked, *amounts)
        .select_from(_submitters.outerjoin(_submissions))
        .group_by(_submitters.c.name, _submitters.c.created, _submitters.c.revoked)
        .order_by(_submitters.c.name)
    )
    with engine.connect() as connection:
        return [Submitter(*row) for row in connection.execute(query)]


def find_submitter(engine: Engine, token: str) -> str | None:
    """Return whose valid token this is, or None."""
    valid = (_submitters.c.token_sha256 == _hash(token)) & _submitters.c.revoked.is_(None)
    with engine.connect() as connection:
        return connection.execute(sa.select(_submitters.c.name).where(valid)).scalar()


def add_submission(
    engine: Engine, submitter: str, predictions: bytes, about: bytes, protocol: str, publish: bool, daily: int
) -> str:
    """Queue a submission and return its id, which nobody can guess.

    Those of the UTC day that are queued, running or scored count against ``daily``, faulty ones do not.

    Raises
    ------
    DailyLimitError
        If there are as many already.
    """
    name, time = secrets.token_urlsafe(24), now()
    today = _text(time)[:10]
    mine = sa.select(sa.func.count()).where(
        _submissions.c.submitter == submitter, _submissions.c.received >= today, _submissions.c.status != FAULTY
    )
    row = {
        "id": name, "submitter": submitter, "received": _text(time), "status": QUEUED, "attempts": 0,
        "protocol": protocol, "publish": publish, "predictions": predictions, "about": about,
    }  # fmt: skip
    with _writing(engine) as connection:
        # PostgreSQL: those of one submitter come one after another. SQLite has but one writer, and ignores this.
        connection.execute(sa.select(_submitters.c.name).where(_submitters.c.name == submitter).with_for_update())
        if (connection.execute(mine).scalar() or 0) >= daily:
            midnight = time.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            raise DailyLimitError(int((midnight - time).total_seconds()) + 1)
        connection.execute(_submissions.insert().values(row))
    return name


def claim(engine: Engine) -> Job | None:
    """Return the oldest queued submission, which is then running, or None where nothing is queued."""
    columns = _submissions.c
    oldest = sa.select(columns.id).where(columns.status == QUEUED).order_by(columns.received, columns.id).limit(1)
    while True:
        with engine.connect() as connection:
            name = connection.execute(oldest).scalar()
        if name is None:
            return None
        with _writing(engine) as connection:
            free = (columns.id == name) & (columns.status == QUEUED)
            taken = _submissions.update().where(free).values(status=RUNNING, attempts=columns.attempts + 1)
            if connection.execute(taken).rowcount:
                row = connection.execute(sa.select(_submissions).where(columns.id == name)).one()
                return Job(row.id, row.submitter, row.attempts, row.protocol, row.predictions, row.about)


def finish(engine: Engine, job: Job, verdict: dict[str, Any], key: str = "", keep: bool = True) -> None:
    """Write what came of a submission that is running: scored if the verdict holds an entry, else faulty.

    ``keep`` is whether the predictions are kept.
    """
    status = FAULTY if verdict["entry"] is None else SCORED
    values = {"status": status, "finished": _text(now()), "verdict": json.dumps(verdict), "key": key or None}
    if not keep:
        values["predictions"] = None
    running = (_submissions.c.id == job.id) & (_submissions.c.status == RUNNING)
    with _writing(engine) as connection:
        connection.execute(_submissions.update().where(running).values(values))


def put_back(engine: Engine, name: str | None = None, unspent: bool = False) -> int:
    """Queue a running submission again, or all of them; return how many. ``unspent``: the attempt does not count."""
    columns = _submissions.c
    running = columns.status == RUNNING if name is None else (columns.status == RUNNING) & (columns.id == name)
    attempts = columns.attempts - 1 if unspent else columns.attempts
    with _writing(engine) as connection:
        queued = _submissions.update().where(running).values(status=QUEUED, attempts=attempts)
        return connection.execute(queued).rowcount


def find_submission(engine: Engine, name: str) -> Submission | None:
    """Return the submission of this id, or None."""
    columns = [column for column in _submissions.c if column.name not in ("predictions", "about")]
    with engine.connect() as connection:
        row = connection.execute(sa.select(*columns).where(_submissions.c.id == name)).first()
    if row is None:
        return None
    verdict = json.loads(row.verdict) if row.verdict else {"entry": None, "faults": [], "suspicions": []}
    return Submission(
        row.id, row.submitter, row.status, row.received, row.finished, row.publish, row.key or "",
        verdict["entry"] and from_plain(verdict["entry"]), verdict["faults"], verdict["suspicions"],
    )  # fmt: skip


def _published() -> sa.ColumnElement[bool]:
    return (_submissions.c.status == SCORED) & _submissions.c.publish.is_(True)


def board_state(engine: Engine) -> tuple[int, str]:
    """Return what changes whenever the board does: how many entries there are, and when the last came."""
    query = sa.select(sa.func.count(), sa.func.max(_submissions.c.finished)).where(_published())
    with engine.connect() as connection:
        count, last = connection.execute(query).one()
    return count, last or ""


def board(engine: Engine) -> list[Listed]:
    """Return the published entries, best first within a protocol.

    Of those with one key, which are the same predictions under the same name sent again, the newest counts.
    """
    query = sa.select(_submissions.c.key, _submissions.c.verdict).where(_published()).order_by(_submissions.c.finished)
    with engine.connect() as connection:
        entries = {row.key: from_plain(json.loads(row.verdict)["entry"]) for row in connection.execute(query)}
    order = sorted(entries, key=lambda key: (entries[key].protocol.id, entries[key].scores.mae, key))
    return [Listed(key, entries[key]) for key in order]


def published_entry(engine: Engine, key: str) -> tuple[str, Entry] | None:
    """Return when the published entry of a key was finished, and the entry, or None."""
    query = sa.select(_submissions.c.finished, _submissions.c.verdict).where(_published(), _submissions.c.key == key)
    with engine.connect() as connection:
        row = connection.execute(query.order_by(_submissions.c.finished.desc()).limit(1)).first()
    return None if row is None else (row.finished, from_plain(json.loads(row.verdict)["entry"]))


def withdraw(engine: Engine, key: str) -> None:
    """Take an entry off the board; its submission stays. Raises ServiceError if no published entry has this key."""
    with _writing(engine) as connection:
        done = connection.execute(
            _submissions.update().where(_published(), _submissions.c.key == key).values(publish=False)
        )
        if not done.rowcount:
            raise ServiceError(
                f"{key[:80]!r}: no published entry has this key; the address of an entry's page ends in it"
            )


def counts(engine: Engine) -> dict[str, int]:
    """Return how many submissions have each status."""
    query = sa.select(_submissions.c.status, sa.func.count()).group_by(_submissions.c.status)
    with engine.connect() as connection:
        found = {row[0]: row[1] for row in connection.execute(query)}
    return {status: found.get(status, 0) for status in (QUEUED, RUNNING, SCORED, FAULTY)}
