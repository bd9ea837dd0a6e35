"""What came of submissions, as tables: of all for the organisers, and of the board for everybody."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmark.board.words import SCORES, short
from benchmark.scoring.entry import Entry, Listed, ListedHeadline
from benchmark.service.database import SUBMISSIONS, TOLD, ServiceError
from benchmark.service.store import counting
from benchmark.service.verdict import ToldFault
from headposeplus.faults import Fault
from headposeplus.files import read_file, write_text

_FORMULA = ("=", "+", "-", "@")  # at the beginning of a cell that a spreadsheet computes


class Result(NamedTuple):
    """A submission and what came of it. Times are in UTC, ``told`` to ``mae`` in degrees.

    ``told`` is the figure that the team learnt while the challenge was open, and ``improved`` whether it was of this
    submission; ``public`` and ``private`` are the MAE on the parts of the subjects, ``mae`` is that on all. ``counts``
    is whether the day's limit has one less for it; the address of an entry's page ends in its ``key``. ``fault`` is the
    first of a faulty one.
    """

    team: str
    method: str
    protocol: str
    received: str
    status: str
    published: bool
    told: float | None
    improved: bool | None
    public: float | None
    private: float | None
    mae: float | None
    counts: bool
    key: str
    fault: str


class _Named(msgspec.Struct):
    id: str


class _Score(msgspec.Struct):
    mae: float


class _Entry(msgspec.Struct):
    name: str
    protocol: _Named
    scores: _Score


class _Verdict(msgspec.Struct):
    """Those parts of a verdict that a row has; to read all of it takes long."""

    entry: _Entry | None
    faults: tuple[ToldFault, ...]


def results(engine: Engine) -> list[Result]:
    """Return all submissions in the order in which they came."""
    names = ("submitter", "protocol", "received", "status", "publish", "key", "verdict")
    columns = [*(SUBMISSIONS.c[name] for name in names), *(TOLD.c[name] for name in ("improved", "public", "private"))]
    query = sa.select(*columns, TOLD.c.mae.label("told"), counting().label("counts"))
    query = query.select_from(SUBMISSIONS.outerjoin(TOLD)).order_by(SUBMISSIONS.c.received, SUBMISSIONS.c.id)
    with engine.connect() as connection:
        return [_result(row) for row in connection.execute(query)]


def _result(row: Any) -> Result:
    verdict = msgspec.convert(json.loads(row.verdict), _Verdict) if row.verdict else _Verdict(None, ())
    entry = verdict.entry
    first = verdict.faults[0] if verdict.faults else None
    return Result(
        team=row.submitter,
        method=short(entry.name) if entry else "",
        protocol=entry.protocol.id if entry else row.protocol,
        received=row.received[:19],
        status=row.status,
        published=row.publish,
        told=row.told,
        improved=row.improved,
        public=_rounded(row.public),
        private=_rounded(row.private),
        mae=_rounded(entry.scores.mae if entry else None),
        counts=bool(row.counts),
        key=row.key or "",
        fault=short(str(Fault(first.what, first.mend, first.where)), 300) if first else "",
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def as_csv(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV; no cell is a formula to a spreadsheet, whatever its text begins with."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([list(names), *([_cell(value) for value in row] for row in rows)])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        return value
    line = " ".join(value.split())  # a tab or a line's end before it would hide what begins a formula
    return f"'{line}" if line.startswith(_FORMULA) else line


def write_results(engine: Engine, file: Path) -> list[Result]:
    """Write all submissions into a CSV, whole or not at all, and return them.

    Raises
    ------
    ServiceError
        If there is a file that holds something else than results.
    """
    if file.exists() and not read_file(file).startswith(as_csv(Result._fields, []).encode()):
        raise ServiceError(Fault("exists already, and holds no results", "name a new file", file))
    found = results(engine)
    write_text(file, as_csv(Result._fields, found))
    return found


_BOARD = ("team", "method", "protocol", "public", "private", *SCORES, "training_data", "target_images", "key")


def board_csv(board: Sequence[Listed | ListedHeadline]) -> str:
    """Return the board as CSV, in its order: while the challenge is open, the figure told alone, as ``public``."""
    return as_csv(_BOARD, [_board_row(listed) for listed in board])


def _board_row(listed: Listed | ListedHeadline) -> list[object]:
    entry = listed.entry
    if isinstance(listed, Listed) and isinstance(entry, Entry):
        public, private = (listed.parts.public, listed.parts.private) if listed.parts else (None, None)
        scores: list[float | None] = [getattr(entry.scores, name) for name in SCORES]
    else:
        public, private, scores = entry.scores.mae, None, [None] * len(SCORES)
    said = (short(entry.training_data), entry.uses_target_images, listed.key)
    return [listed.team, short(entry.name), entry.protocol.id, public, private, *scores, *said]
