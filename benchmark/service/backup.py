"""Backups of the service's database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from benchmark.service.database import (
    PREDICTIONS,
    SUBMISSIONS,
    TABLES,
    VERSIONS,
    OlderError,
    ServiceError,
    connect,
    driver_words,
    open_database,
    read_url,
    shown_url,
    writing,
)
from headposeplus.faults import Fault
from headposeplus.files import whole_or_absent, written

_ROWS = 500  # rows that a copy holds at a time
_FILES = 8  # of these: each may have predictions of many MiB


def write_backup(database: str, file: Path) -> int:
    """Write all of a database, as it is at one moment, into a new SQLite file; return the number of submissions.

    Raises
    ------
    ServiceError
        If the file exists, or the database cannot be read.
    """
    if file.exists():
        raise ServiceError(Fault("exists already", "name a new file", file))
    source = open_database(database, create=False)
    with whole_or_absent(file) as temporary:
        target = connect(URL.create("sqlite", database=str(temporary)), wal=False)
        return _copy(source, target)


def restore_backup(file: Path, database: str) -> int:
    """Copy a backup into a database that is empty, or not yet there; return the number of submissions.

    Raises
    ------
    ServiceError
        If the file is no backup, or the database holds anything of a service.
    """
    if not file.exists():
        raise ServiceError(Fault("no such backup", "hpp serve backup FILE writes one", file))
    with _up_to_date(file, read_url(database)) as source:
        target = open_database(database)
        with target.connect() as connection:
            tables = TABLES.sorted_tables
            rows = [connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() for table in tables]
        if rows != [1 if table is VERSIONS else 0 for table in tables]:
            raise ServiceError(Fault("is not empty", "restore into a new database", shown_url(target.url)))
        return _copy(source, target)


@contextmanager
def _up_to_date(file: Path, target: URL) -> Iterator[Engine]:
    """Yield a backup with the tables of this version.

    One of an earlier version stays as it is, for the release that wrote it: a copy of it is brought up to date, where
    the database is to be, which has room for it.
    """
    try:
        source = open_database(f"sqlite:///{file}", create=False, wal=False, upgrade=False)
    except OlderError:
        room = Path(str(target.database)).absolute().parent if target.get_backend_name() == "sqlite" else gettempdir()
        with written(Path(room) / file.name), TemporaryDirectory(prefix=".hpp-restore-", dir=room) as folder:
            copy = shutil.copyfile(file, Path(folder) / file.name)
            yield open_database(f"sqlite:///{copy}", create=False, wal=False)
    else:
        yield source


def _copy(source: Engine, target: Engine) -> int:
    """Copy all rows, read in one transaction and written in one; return the number of submissions."""
    copied = 0
    try:
        # One snapshot for all tables; SQLite's transactions always are.
        level = {"isolation_level": "REPEATABLE READ"} if source.dialect.name == "postgresql" else {}
        with source.connect().execution_options(**level) as reading, reading.begin(), writing(target) as connection:
            TABLES.create_all(connection)
            connection.execute(VERSIONS.delete())
            for table in TABLES.sorted_tables:
                some_rows = _FILES if table is PREDICTIONS else _ROWS
                rows = reading.execution_options(yield_per=some_rows).execute(sa.select(table)).mappings()
                for some in rows.partitions():
                    connection.execute(table.insert(), [dict(row) for row in some])
                    copied += len(some) if table is SUBMISSIONS else 0
    except SQLAlchemyError as error:
        raise ServiceError(Fault(f"the copy failed: {driver_words(error)}", file=shown_url(target.url))) from error
    finally:
        source.dispose()
        target.dispose()
    return copied
