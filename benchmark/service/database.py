"""The service's tables and its connection to the database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.files import bytes_sha256
from headposeplus.progress import progress

SCHEMA = 6
_MOVING = 5  # the version of tables out of whose rows predictions are being moved
QUEUED, RUNNING, SCORED, FAULTY = "queued", "running", "scored", "faulty"
LONGEST_NAME = 80
_BUSY = 30  # seconds that a writer waits for another one of SQLite
_STEP = 32  # submissions whose predictions are moved at once: a transaction holds as much
_CAN_DROP_COLUMNS = (3, 35)  # SQLite since then

TABLES = sa.MetaData()
VERSIONS = sa.Table("hpp_schema", TABLES, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
SUBMITTERS = sa.Table(
    "hpp_submitters",
    TABLES,
    sa.Column("name", sa.String(LONGEST_NAME), primary_key=True),
    sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("revoked", sa.String(32)),
)
SUBMISSIONS = sa.Table(
    "hpp_submissions",
    TABLES,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("submitter", sa.ForeignKey(SUBMITTERS.c.name), nullable=False),
    sa.Column("received", sa.String(32), nullable=False),
    sa.Column("finished", sa.String(32)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("protocol", sa.Text, nullable=False),  # its id, or empty where the description names it
    sa.Column("publish", sa.Boolean, nullable=False),
    sa.Column("about", sa.LargeBinary, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("verdict", sa.Text),  # JSON: entry, faults and suspicions
    sa.Index("hpp_submissions_status", "status", "received"),
    sa.Index("hpp_submissions_submitter", "submitter", "received"),
    sa.Index("hpp_submissions_key", "key", "finished"),  # since version 3
    # Since version 5: SQLite takes either of the first two for what is scored of a team, as they happen to be made.
    sa.Index("hpp_submissions_team", "submitter", "status"),
)
# Apart from the rows that lists read: a file has many MiB. Until version 4 it was a column there.
PREDICTIONS = sa.Table(
    "hpp_predictions",
    TABLES,
    sa.Column("submission", sa.ForeignKey(SUBMISSIONS.c.id), primary_key=True),
    sa.Column("predictions", sa.LargeBinary, nullable=False),  # the row is dropped where they are faulty
)
_ROWS_BEFORE = sa.table(SUBMISSIONS.name, sa.column("id"), sa.column("predictions"))  # until version 5
# Version 1 had neither of these. What was scored under it has no row in the second: all of it was told then.
CHALLENGES = sa.Table(
    "hpp_challenges",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("opened", sa.String(32), nullable=False),
    sa.Column("closed", sa.String(32)),
    sa.Column("secret", sa.String(64), nullable=False),
    sa.Column("private", sa.Float, nullable=False),
    sa.Column("step", sa.Float, nullable=False),
    sa.Column("deadline", sa.String(32)),  # since version 4
    sa.Column("changes", sa.Integer, nullable=False, server_default="0"),  # of its board; since version 5
)
TOLD = sa.Table(
    "hpp_told",
    TABLES,
    sa.Column("submission", sa.ForeignKey(SUBMISSIONS.c.id), primary_key=True),
    sa.Column("submitter", sa.ForeignKey(SUBMITTERS.c.name), nullable=False),
    sa.Column("protocol", sa.Text, nullable=False),
    sa.Column("mae", sa.Float, nullable=False),  # as it is told while the challenge is open
    sa.Column("improved", sa.Boolean, nullable=False),
    sa.Column("public", sa.Float, nullable=False),
    sa.Column("private", sa.Float),
    sa.Column("looked", sa.Boolean, nullable=False),  # whether suspicions that need labels were looked for
    sa.Index("hpp_told_submitter", "submitter", "protocol"),
    sa.Index("hpp_told_looked", "looked"),  # since version 3
)


class ServiceError(HeadposeError):
    """The scoring service cannot start, or its database is not as it should be."""


class OlderError(ServiceError):
    """The tables of a database are of an earlier version, and should stay so."""


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(timezone.utc)


def timestamp(time: datetime) -> str:
    """Return a time as the tables hold it."""
    return time.isoformat(timespec="microseconds")


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text, such as a token, in hexadecimal."""
    return bytes_sha256(text.encode("utf-8", "replace"))


def read_url(database: str) -> URL:
    """Return the URL of a database, with the driver that the service uses.

    Raises
    ------
    ServiceError
        If it is no URL of SQLite or PostgreSQL.
    """
    expected = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
    try:
        url = sa.make_url(database)
        kind = url.get_backend_name() if url.drivername != "postgres" else "postgresql"
    except SQLAlchemyError as error:
        # Not the text itself: it may hold a password.
        raise ServiceError(Fault("`database` is not the URL of a database", expected)) from error
    if kind == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise ServiceError(Fault(f"`database` names {kind[:40]!r}", expected))
    if url.database in (None, "", ":memory:"):
        raise ServiceError(Fault("`database` names no file, and what is in memory is lost", expected))
    return url


def connect(url: URL, wal: bool = True) -> Engine:
    """Return the engine of a database; ``wal`` is whether SQLite writes ahead into a file of its own.

    Raises
    ------
    ServiceError
        If the driver of PostgreSQL is not installed.
    """
    if url.get_backend_name() == "postgresql":
        try:
            return sa.create_engine(url, pool_pre_ping=True, pool_size=8, connect_args={"connect_timeout": 5})
        except ImportError as error:
            raise ServiceError(f"PostgreSQL needs psycopg: pip install 'headposeplus[serve]' ({error})") from error
    _keep_private(Path(str(url.database)))
    engine = sa.create_engine(url, pool_size=8, connect_args={"timeout": _BUSY})

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where the next function says so
        connection.execute("PRAGMA foreign_keys = ON")
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what is acknowledged outlives a power cut

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _keep_private(file: Path) -> None:
    """Let nobody but the owner read a new file of SQLite, nor others an old one: it holds what submitters sent.

    What SQLite writes beside a file takes its mode.
    """
    with suppress(OSError):  # what is wrong with the path, SQLite tells
        os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))
    for path in (file, *(file.with_name(file.name + ending) for ending in ("-wal", "-shm"))):
        with suppress(OSError):  # it is not there, or another's
            path.chmod(path.stat().st_mode & ~0o007)


def shown_url(url: URL) -> str:
    """Return a database's URL without its password."""
    return url.render_as_string(hide_password=True)


def open_database(database: str, create: bool = True, wal: bool = True, upgrade: bool = True) -> Engine:
    """Return the engine of a database; make its tables where there are none, and bring those up to date that are old.

    Raises
    ------
    ServiceError
        If it cannot be opened, has tables of a later version, or, unless ``create``, has none.
    OlderError
        If it has tables of an earlier version, unless ``upgrade``.
    """
    url = read_url(database)
    file = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
    if not create and file is not None and not file.exists():
        raise ServiceError(Fault("no such database", "hpp serve token add NAME --database URL makes one", file))
    engine = connect(url, wal)
    try:
        _check_version(engine, create, upgrade)
    except SQLAlchemyError as error:
        engine.dispose()
        raise ServiceError(Fault(f"cannot be opened: {driver_words(error)}", file=shown_url(url))) from error
    except ServiceError:
        engine.dispose()
        raise
    return engine


def _check_version(engine: Engine, create: bool, upgrade: bool) -> None:
    """Raise a ServiceError if the tables are not of this version; with ``create`` make them where there are none."""
    place = shown_url(engine.url)
    with writing(engine) if create else engine.connect() as connection:
        if not sa.inspect(connection).has_table(VERSIONS.name):
            if not create:
                raise ServiceError(Fault("holds no tables of the scoring service", file=place))
            TABLES.create_all(connection)
            connection.execute(VERSIONS.insert().values(version=SCHEMA))
        version = connection.execute(sa.select(sa.func.max(VERSIONS.c.version))).scalar()
    if version in range(1, SCHEMA) and not upgrade:
        raise OlderError(Fault(f"its tables have version {version}", file=place))
    if version in range(1, _MOVING):
        with writing(engine) as connection:
            if connection.execute(
                VERSIONS.update().where(VERSIONS.c.version == version).values(version=_MOVING)
            ).rowcount:
                _complete(connection)
        version = _MOVING
    if version == _MOVING:
        _move_predictions(engine)
        version = SCHEMA
    if version != SCHEMA:
        what = f"its tables have version {version}, this toolkit's have version {SCHEMA}"
        raise ServiceError(Fault(what, "use the release of the toolkit that made them, or another database", place))


def _complete(connection: Connection) -> None:
    """Give the tables of an earlier version what they lack."""
    TABLES.create_all(connection)
    for index in (*SUBMISSIONS.indexes, *TOLD.indexes):  # of tables that were there
        index.create(connection, checkfirst=True)
    columns = {column["name"] for column in sa.inspect(connection).get_columns(CHALLENGES.name)}
    for column in (CHALLENGES.c.deadline, CHALLENGES.c.changes):
        if column.name not in columns:
            words = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(sa.text(f"ALTER TABLE {CHALLENGES.name} ADD COLUMN {words}"))


def _move_predictions(engine: Engine) -> None:
    """Move predictions out of the rows of submissions, where they were until version 5.

    A few at a time: what is moved stays so if this is interrupted, and the next start goes on. Several may do it at
    once. The database copies them, none comes through this process.
    """
    held = _ROWS_BEFORE.c.predictions.is_not(None)
    with writing(engine) as connection:  # so that nobody drops the column meanwhile
        if not _is_moving(connection):
            return
        left = connection.execute(sa.select(sa.func.count()).select_from(_ROWS_BEFORE).where(held)).scalar_one()
    some = sa.select(_ROWS_BEFORE.c.id).where(held).order_by(_ROWS_BEFORE.c.id).limit(_STEP)
    names: Sequence[str] = [""]
    with progress(left, "bring the database up to date", "submission") as bar:
        while names:
            with writing(engine) as connection:
                if not _is_moving(connection):
                    return
                names = connection.execute(some.where(_ROWS_BEFORE.c.id > names[-1])).scalars().all()
                _move(connection, _ROWS_BEFORE.c.id.in_(names))
            bar.update(len(names))
    with writing(engine) as connection:
        if _is_moving(connection):
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"LOCK TABLE {SUBMISSIONS.name} IN ACCESS EXCLUSIVE MODE"))
            _move(connection, held)  # what a service of an earlier release has written meanwhile: it cannot any more
            old = connection.dialect.name == "sqlite" and sqlite3.sqlite_version_info < _CAN_DROP_COLUMNS
            words = "RENAME COLUMN predictions TO moved" if old else "DROP COLUMN predictions"
            connection.execute(sa.text(f"ALTER TABLE {SUBMISSIONS.name} {words}"))
            connection.execute(VERSIONS.update().values(version=SCHEMA))


def _is_moving(connection: Connection) -> bool:
    """Return whether predictions are still to be moved; nobody else moves any until this transaction ends."""
    query = sa.select(VERSIONS.c.version).with_for_update()  # of no effect on SQLite, where one writes at a time
    return connection.execute(query).scalar() == _MOVING


def _move(connection: Connection, which: sa.ColumnElement[bool]) -> None:
    rows = sa.select(_ROWS_BEFORE.c.id, _ROWS_BEFORE.c.predictions).where(which)
    connection.execute(PREDICTIONS.insert().from_select(["submission", "predictions"], rows))
    connection.execute(_ROWS_BEFORE.update().where(which).values(predictions=None))


def driver_words(error: Exception) -> str:
    """Return the first line of what a database driver says, without the statement and its values."""
    words = str(getattr(error, "orig", None) or error).strip()
    return words.splitlines()[0][:300] if words else type(error).__name__


def refusal(error: SQLAlchemyError) -> str:
    """Return why the database does not do what it should, in words for everyone."""
    cause = getattr(error, "orig", None)
    if "disk is full" in str(cause) or getattr(cause, "sqlstate", "") == "53100":
        return "the disk of the database is full"
    return "the database cannot be reached"


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that writes; on SQLite one at a time."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection
