"""A challenge: how little is told of scores while it is open, and that it was closed.

While it is open, a submitter learns one figure for each protocol, the MAE on the public part of the subjects, and that
through a Ladder (Blum and Hardt, "The Ladder: A Reliable Leaderboard for Machine Learning Competitions", ICML 2015): a
new figure only where it is a step better than the best told before, rounded to the step, and else that one again.
Which subjects are public follows from a secret that the database keeps.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from benchmark.scoring.entry import Entry, PartErrors
from benchmark.service.database import (
    CHALLENGES,
    ServiceError,
    now,
    shown_url,
    text_sha256,
    timestamp,
    writing,
)
from benchmark.service.terms import told_time
from headposeplus.faults import Fault, plural

if TYPE_CHECKING:
    from benchmark.scoring.labels import Labels

PRIVATE, STEP = 0.5, 0.1  # the share of the subjects in the private part, and degrees, where nobody says others
CLOSED = "the challenge is closed, and no more submissions are taken; all figures are on the board"
FEWEST = 2  # subjects of each part
_ONLY = 1  # a database holds one challenge


class Challenge(NamedTuple):
    """The challenge of a database. ``private`` is the share of the subjects in the private part, ``step`` in degrees.

    ``opened``, ``closed`` and ``deadline`` are times; the second is None while it is open, and the last where nothing
    but ``closed`` ends it.
    """

    opened: str
    closed: str | None
    secret: str
    private: float
    step: float
    deadline: str | None = None


def read_challenge(connection: Connection) -> Challenge | None:
    """Return the challenge of a database; None where no service has opened it yet."""
    columns = [CHALLENGES.c[name] for name in Challenge._fields]
    row = connection.execute(sa.select(*columns).where(CHALLENGES.c.id == _ONLY)).first()
    return None if row is None else Challenge(*row)


def current(engine: Engine) -> Challenge | None:
    """Return the challenge of a database as it is now; None where no service has opened it yet."""
    with engine.connect() as connection:
        return read_challenge(connection)


def is_open(engine: Engine) -> bool:
    """Return whether next to nothing may be told: it was not closed."""
    challenge = current(engine)
    return challenge is None or challenge.closed is None


def refusal_of(challenge: Challenge | None, at: str) -> str:
    """Return why a challenge takes no submissions at a time, in words for everyone; nothing while it takes them."""
    if challenge is None:
        return ""
    if challenge.closed is not None:
        return CLOSED
    if challenge.deadline is None or at <= challenge.deadline:
        return ""
    return (
        f"the deadline was {told_time(challenge.deadline)}, and no more submissions are taken; what came before is "
        "scored, and all figures are told when the organisers close the challenge"
    )


def open_challenge(
    engine: Engine, labels: Labels, private: float | None, step: float | None, deadline: str | None = None
) -> tuple[Challenge, frozenset[str]]:
    """Return the challenge of a database and the subjects of its public part.

    Where there is none yet it is opened with these settings; None takes the usual. ``deadline`` may be another one at
    each start: None leaves it as it is, and an empty one takes it away.

    Raises
    ------
    ServiceError
        If it was opened with other settings, a part would have too few subjects, or another deadline is over already.
    """
    with writing(engine) as connection:
        challenge = read_challenge(connection)
        if challenge is None:
            challenge = Challenge(
                timestamp(now()),
                None,
                secrets.token_hex(32),
                PRIVATE if private is None else private,
                STEP if step is None else step,
            )
            connection.execute(CHALLENGES.insert().values(id=_ONLY, **challenge._asdict()))
        public = _public_subjects(labels, challenge)
        challenge = _with_deadline(connection, challenge, deadline)
    for name, given in (("private", private), ("step", step)):
        held = getattr(challenge, name)
        if given is not None and given != held:
            what = f"its challenge was opened with {name} {held:g}, not {given:g}, and some of it may have been told"
            mend = f"leave `{name}` out, or open another challenge in another database"
            raise ServiceError(Fault(what, mend, shown_url(engine.url)))
    return challenge, public


def _with_deadline(connection: Connection, challenge: Challenge, deadline: str | None) -> Challenge:
    """Return a challenge that ends at this deadline, written down where it was another one."""
    if deadline is None or (deadline or None) == challenge.deadline:
        return challenge
    if deadline and deadline < timestamp(now()):
        mend = "give one to come; hpp serve close ends a challenge now"
        raise ServiceError(Fault(f"`deadline` {told_time(deadline)} is over already", mend))
    connection.execute(CHALLENGES.update().where(CHALLENGES.c.id == _ONLY).values(deadline=deadline or None))
    return challenge._replace(deadline=deadline or None)


def close(engine: Engine) -> None:
    """Close the challenge of a database: its service takes no more submissions, and tells all figures.

    Raises
    ------
    ServiceError
        If there is none, or it is closed already.
    """
    place = shown_url(engine.url)
    with writing(engine) as connection:
        open_now = (CHALLENGES.c.id == _ONLY) & CHALLENGES.c.closed.is_(None)
        if connection.execute(CHALLENGES.update().where(open_now).values(closed=timestamp(now()))).rowcount:
            return
        challenge = read_challenge(connection)
    if challenge is None:
        raise ServiceError(Fault("holds no challenge", "hpp serve opens one", place))
    raise ServiceError(Fault(f"its challenge was closed at {str(challenge.closed)[:19]} UTC", file=place))


def _public_subjects(labels: Labels, challenge: Challenge) -> frozenset[str]:
    """Return the subjects of the public part; raise a ServiceError if a part would have too few."""
    people = sorted(np.unique(labels.subjects).tolist())
    if not challenge.private:
        return frozenset(people)
    if len(people) < 2 * FEWEST:
        what = f"{plural(len(people), 'subject')}: a public and a private part of {FEWEST} each need {2 * FEWEST}"
        mend = (
            "give labels that say the `subject` of each frame, or let `private` be 0: then the figure told is of all "
            "subjects, and none is left to rank by of which submitters had no word"
        )
        raise ServiceError(Fault(what, mend, labels.source))
    people.sort(key=lambda name: text_sha256(f"{challenge.secret}/{name}"))
    few = min(max(round(challenge.private * len(people)), FEWEST), len(people) - FEWEST)
    return frozenset(people[few:])


def part_errors(entry: Entry, public: frozenset[str]) -> PartErrors:
    """Return the MAE of an entry with all its figures, on the public subjects and on the others."""

    def mae(inside: bool) -> float | None:
        groups = [group for group in entry.by.subject if (group.name in public) is inside]
        frames = sum(group.frames for group in groups)
        return sum(group.frames * group.mae for group in groups) / frames if frames else None

    told = mae(inside=True)
    assert told is not None, "the public part has subjects"
    return PartErrors(told, mae(inside=False))


def climb(mae: float, best: float | None, step: float) -> float | None:
    """Return the figure that an error is told as, if it is a step below the best told before; else None."""
    if best is not None and mae >= best - step:
        return None
    return round(step * round(mae / step), 6)
