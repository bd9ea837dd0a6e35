"""The published submissions of a database."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmark.scoring.entry import Entry
from benchmark.service.database import SUBMISSIONS, TOLD
from benchmark.service.store import TOLD_COLUMNS, WITH_TOLD, Told, published, told_of
from benchmark.service.verdict import read_verdict


class Placed(NamedTuple):
    """What decides whether a published submission stands on the board; ``public`` is its MAE on the public part.

    ``told`` is what is told of it; None where it was scored before there were challenges, and all was told.
    """

    key: str
    team: str
    protocol: str
    received: str
    told: Told | None
    public: float


class Standing(NamedTuple):
    """A published submission: what decides where it stands, when it was scored, its entry with all figures."""

    placed: Placed
    finished: str
    entry: Entry


def board(engine: Engine) -> list[Standing]:
    """Return the published entries, the oldest first.

    Predictions that were sent again under the same name have the same key; the newest entry counts, with the best
    figure that was told of the key.
    """
    return [_standing(*one) for one in _newest(engine, published(), SUBMISSIONS.c.verdict)]


def published_by(engine: Engine, submitter: str) -> list[Placed]:
    """Return what decides where the published entries of one submitter stand, the oldest first.

    That takes next to no time also of a submitter who sent many: their entries are not read.
    """
    # Before there were challenges the entry alone held it.
    verdict = sa.case((TOLD.c.submission.is_(None), SUBMISSIONS.c.verdict)).label("verdict")
    mine = published() & (SUBMISSIONS.c.submitter == submitter)
    return [_placed(row, told, None if told else _entry(row.verdict)) for row, told in _newest(engine, mine, verdict)]


def published_entry(engine: Engine, key: str) -> Standing | None:
    """Return the published entry of a key, or None."""
    found = _newest(engine, published() & (SUBMISSIONS.c.key == key), SUBMISSIONS.c.verdict)
    return _standing(*found[0]) if found else None


def _newest(
    engine: Engine, which: sa.ColumnElement[bool], verdict: sa.ColumnElement[str | None]
) -> list[tuple[Any, Told | None]]:
    """Return the newest submission of each key, with the best figure that was told of the key."""
    own = [SUBMISSIONS.c[name] for name in ("key", "submitter", "received", "finished")]
    query = sa.select(*own, verdict, TOLD.c.protocol, *TOLD_COLUMNS).select_from(WITH_TOLD).where(which)
    found: dict[str, tuple[Any, Told | None]] = {}
    with engine.connect() as connection:
        for row in connection.execute(query.order_by(SUBMISSIONS.c.finished)):
            told = told_of(row)
            _, before = found.get(row.key, (None, None))
            if before and before.improved and told and not told.improved:
                told = told._replace(mae=before.mae, improved=True)
            found[row.key] = row, told
    return list(found.values())


def _standing(row: Any, told: Told | None) -> Standing:
    entry = _entry(row.verdict)
    return Standing(_placed(row, told, entry), row.finished, entry)


def _placed(row: Any, told: Told | None, entry: Entry | None) -> Placed:
    """Return where a row stands: as it was told, else as its ``entry`` says."""
    if told is not None:
        return Placed(row.key, row.submitter, row.protocol, row.received, told, told.parts.public)
    assert entry is not None, "what was told of no part is read"
    return Placed(row.key, row.submitter, entry.protocol.id, row.received, None, entry.scores.mae)


def _entry(verdict: str) -> Entry:
    """Return the entry of a stored verdict on a submission that was scored."""
    entry = read_verdict(verdict).entry
    assert entry is not None
    return entry
