"""Databases of the service with many submissions, to be measured: as an earlier release made them, and up to date."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import numpy as np
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.engine import Engine

from benchmark.scoring import protocols
from benchmark.scoring.labels import from_arrays
from benchmark.scoring.score import assess
from benchmark.service.database import (
    CHALLENGES,
    PREDICTIONS,
    SCHEMA,
    SCORED,
    SUBMISSIONS,
    SUBMITTERS,
    TABLES,
    TOLD,
    VERSIONS,
    connect,
    open_database,
    read_url,
    text_sha256,
    timestamp,
    writing,
)
from benchmark.service.verdict import Verdict, write_verdict
from benchmark.upkeep import postgres
from benchmark.upkeep.bench_lookups import FILE, TEAM, name_of, team_of, token_of
from benchmark.upkeep.bench_score import submission_bytes
from headposeplus.raw.manifest import ids_sha256
from headposeplus.rotations import to_matrix

BEFORE, NOW = 4, SCHEMA  # the versions of the tables that are filled, and that they are brought to
PROTOCOL = "lab/faces@1"
_EVERY = timedelta(minutes=10)  # between two submissions
_CHUNK = 1_000  # rows that are written at once
_ENGINES = ("SQLite", "PostgreSQL")


class Database(msgspec.Struct, frozen=True):
    """A filled database: that of the earlier version, None unless that is measured, and one brought up to date."""

    engine: str
    rows: int
    before: str | None
    now: str
    seconds: float


def scored(seed: int) -> str:
    """Return a verdict as a scoring writes it, on a few frames, as the database keeps it."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"{group}/{number:05d}" for group in "abcd" for number in range(60)])
    angles = np.clip(rng.normal(0, (15, 25, 8), (len(ids), 3)), -85, 85)
    labels = from_arrays(ids, to_matrix(angles), camera="rgb")
    protocol = replace(
        protocols.find("biwi+/pda@1"),
        id=PROTOCOL,
        test_set="faces",
        frames=len(ids),
        frames_sha256=ids_sha256(ids),
        label_mean=tuple(angles.mean(axis=0).tolist()),
        label_std=tuple(angles.std(axis=0).tolist()),
    )
    outcome = assess(*submission_bytes(labels, seed), protocol, labels, secret=True)
    assert outcome.entry is not None, outcome.faults
    few = replace(outcome.entry.by, pitch=(), yaw=(), roll=(), yaw_pitch=())  # which make it large
    return write_verdict(Verdict(replace(outcome.entry, by=few)))


def _tables_of_before(connection: sa.Connection) -> None:
    """Make the tables as version 4 had them."""
    for table in TABLES.sorted_tables:
        if table is PREDICTIONS:
            continue
        words = str(sa.schema.CreateTable(table).compile(dialect=connection.dialect))
        kind = "BYTEA" if connection.dialect.name == "postgresql" else "BLOB"
        lines = [line for line in words.splitlines(keepends=True) if not line.startswith("\tchanges ")]
        lines = [f"\tpredictions {kind}, \n{line}" if line.startswith("\tabout ") else line for line in lines]
        connection.execute(sa.text("".join(lines)))
        for index in table.indexes:
            index.create(connection)
    connection.execute(VERSIONS.insert().values(version=BEFORE))


def fill(engine: Engine, rows: int, verdict: str, seed: int) -> None:
    """Fill a new database as a service of version 4 would have: all are scored, two of three are published."""
    rng = np.random.default_rng(seed)
    first = datetime.now(timezone.utc) - rows * _EVERY
    old = sa.table(SUBMISSIONS.name, *(sa.column(one.name, one.type) for one in SUBMISSIONS.c))
    old.append_column(sa.column("predictions", sa.LargeBinary))
    teams = rows // TEAM
    with writing(engine) as connection:
        _tables_of_before(connection)
        challenge = {"id": 1, "opened": timestamp(first), "secret": "secret", "private": 0.5, "step": 0.1}
        words = sa.insert(sa.table(CHALLENGES.name, *(sa.column(name) for name in challenge)))
        connection.execute(words.values(challenge))
        known = [
            {"name": team_of(i), "token_sha256": text_sha256(token_of(i)), "created": timestamp(first)}
            for i in range(teams)
        ]
        connection.execute(SUBMITTERS.insert(), known)
        for start in range(0, rows, _CHUNK):
            numbers = range(start, min(start + _CHUNK, rows))
            common = [{"submitter": team_of(number % teams), "protocol": PROTOCOL} for number in numbers]
            sent = [
                {
                    "id": name_of(number), "received": timestamp(first + number * _EVERY), "status": SCORED,
                    "finished": timestamp(first + number * _EVERY + _EVERY / 2), "attempts": 1, "about": b"about",
                    "publish": number % 3 > 0, "key": f"key-{number}", "verdict": verdict,
                    "predictions": rng.bytes(FILE),
                }
                for number in numbers
            ]  # fmt: skip
            figures = {"mae": 5.0, "improved": True, "public": 5.0, "private": 6.0, "looked": True}
            told = [{"submission": one["id"], **figures} for one in sent]
            connection.execute(sa.insert(old), [a | b for a, b in zip(common, sent, strict=True)])
            connection.execute(TOLD.insert(), [a | b for a, b in zip(common, told, strict=True)])


def _settle(url: str) -> None:
    """Let PostgreSQL do what its service does for itself after a while."""
    engine = connect(read_url(url))
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE"))
    engine.dispose()


def databases(
    folder: Path, socket: Path, sizes: Sequence[int], verdict: str, seed: int, keep: bool
) -> Iterator[Database]:
    """Yield a database of each engine and size; with ``keep`` the earlier version of it stays, too."""
    for kind in _ENGINES:
        for rows in sizes:
            name, before = f"hpp_{rows}", f"hpp_{rows}_before"
            if kind == "SQLite":
                now, then = (f"sqlite:///{folder / one}.db" for one in (name, before))
            else:
                now, then = (postgres.url(socket, one) for one in (name, before))
                postgres.administer(socket, f"CREATE DATABASE {name}")
            engine = connect(read_url(now))
            fill(engine, rows, verdict, seed)
            engine.dispose()
            if keep and kind == "SQLite":
                shutil.copy(folder / f"{name}.db", folder / f"{before}.db")
            elif keep:
                postgres.administer(socket, f"CREATE DATABASE {before} TEMPLATE {name}")
            began = time.perf_counter()
            open_database(now, create=False).dispose()
            seconds = time.perf_counter() - began
            for url in (now, then) if keep else (now,):
                _settle(url)
            yield Database(kind, rows, then if keep else None, now, round(seconds, 2))
