"""What the board shows: which of a team's published entries stand on it, and how much is told of each."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy.engine import Engine

from benchmark.board.standing import figure
from benchmark.scoring.entry import Entry, Headline, Listed, ListedHeadline, PartErrors
from benchmark.scoring.figures import rounded
from benchmark.service import entries, store
from benchmark.service.challenge import is_open
from benchmark.service.privacy import headline, publishable
from benchmark.service.settings import Stands


def shown(entry: Entry, told: store.Told | None, open_now: bool) -> Entry | Headline:
    """Return an entry as it may be shown. What was told in full, before there were challenges, stays so."""
    return headline(entry, told) if open_now and told is not None else publishable(entry)


def parts_of(told: store.Told | None) -> PartErrors | None:
    """Return the errors of both parts of the subjects as they are shown once the challenge is closed."""
    return None if told is None else rounded(told.parts, 2)


def on_board(published: Sequence[entries.Placed], open_now: bool, stands: Stands) -> list[entries.Placed]:
    """Return those published entries that stand on the board.

    While the challenge is open these are among those that were told a figure of their own. Of a team's entries under a
    protocol, ``last`` is the one that came last, and ``best`` the one with the lowest MAE on the public part of the
    subjects, also once it is closed: the private part ranks, and nothing is chosen by it.
    """
    able = [one for one in published if one.told is None or one.told.improved or not open_now]
    if stands == "all":
        return able
    chosen: dict[tuple[str, str], entries.Placed] = {}
    for one in able:
        place = one.team, one.protocol
        held = chosen.get(place)
        if held is None or (one.received > held.received if stands == "last" else one.public < held.public):
            chosen[place] = one
    return list(chosen.values())


def stands_there(engine: Engine, submission: store.SubmissionState, open_now: bool, stands: Stands) -> bool:
    """Return whether a published submission's entry stands on the board."""
    if stands == "all":
        standing = entries.published_entry(engine, submission.key)
        mine = [] if standing is None else [standing.placed]
    else:
        mine = entries.published_by(engine, submission.submitter)
    return submission.key in {one.key for one in on_board(mine, open_now, stands)}


def listing(engine: Engine, stands: Stands = "all") -> list[Listed | ListedHeadline]:
    """Return the board as it may be shown, best first within a protocol.

    While the challenge is open that is the order of the figures told, then of those of the private part, if there is
    one.
    """
    listed: list[Listed | ListedHeadline] = []
    open_now = is_open(engine)
    published = {one.placed.key: one for one in entries.board(engine)}
    for placed in on_board([one.placed for one in published.values()], open_now, stands):
        one = published[placed.key]
        entry, key, team, day = shown(one.entry, placed.told, open_now), placed.key, placed.team, one.finished[:10]
        if isinstance(entry, Entry):
            listed.append(Listed(key, entry, parts=parts_of(placed.told), team=team, day=day))
        else:
            listed.append(ListedHeadline(key, entry, team, day))
    return sorted(listed, key=lambda one: (one.entry.protocol.id, figure(one), one.key))


def as_plain(listed: Listed | ListedHeadline) -> dict[str, object]:
    """Return an entry of the board as the JSON API shows it."""
    parts = {"parts": listed.parts} if isinstance(listed, Listed) and listed.parts else {}
    plain: dict[str, object] = msgspec.to_builtins(listed.entry)
    return {"team": listed.team} | plain | msgspec.to_builtins(parts) | {"key": listed.key}
