"""Backups of the service's database."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from benchmark.service.database import (
    ServiceError,
    _connect,
    _schema,
    _submissions,
    _tables,
    _writing,
    open_store,
    read_url,
    short,
    shown_url,
)
from headposeplus.files import whole_or_absent

_ROWS = 8  # rows that a copy holds at a time: each may have predictions of many MiB


def backup(database: str, file: Path) -> int:
    """Write all of a database, as it is at one moment, into a new SQLite file; return the number of submissions.

    Raises
    ------
    ServiceError
        If the file exists, or the database cannot be read.
    """
    if file.exists():
        raise ServiceError(f"{file}: exists already; name a new file")
    source = open_store(database, create=False)
    with whole_or_absent(file) as temporary:
        target = _connect(URL.create("sqlite", database=str(temporary)), wal=False)
        return _copy(source, target)


def restore(file: Path, database: str) -> int:
    """Copy a backup into a database that is empty, or not yet there; return the number of submissions.

    Raises
    ------
    ServiceError
        If the file is no backup, or the database holds anything of a service.
    """
    if not file.exists():
        raise ServiceError(f"{file}: no such backup; hpp serve backup FILE writes one")
    source = open_store(f"sqlite:///{file}", create=False, wal=False)
    target = open_store(database)
    with target.connect() as connection:
        held = [connection.execute(sa.select(sa.func.count()).select_from(t)).scalar() for t in _tables.sorted_tables]
    if held != [1 if table is _schema else 0 for table in _tables.sorted_tables]:
        raise ServiceError(f"{shown_url(read_url(database))}: is not empty; restore into a new database")
    return _copy(source, target)


def _copy(source: Engine, target: Engine) -> int:
    """Copy all rows, read in one transaction and written in one; return the number of submissions."""
    copied = 0
    try:
        # One snapshot for all tables; SQLite's transactions always are.
        level = {"isolation_level": "REPEATABLE READ"} if source.dialect.name == "postgresql" else {}
        with source.connect().execution_options(**level) as reading, reading.begin(), _writing(target) as writing:
            _tables.create_all(writing)
            writing.execute(_schema.delete())
            for table in _tables.sorted_tables:
                rows = reading.execution_options(yield_per=_ROWS).execute(sa.select(table)).mappings()
                for some in rows.partitions():
                    writing.execute(table.insert(), [dict(row) for row in some])
                    copied += len(some) if table is _submissions else 0
    except SQLAlchemyError as error:
        raise ServiceError(f"{shown_url(target.url)}: the copy failed: {short(error)}") from error
    finally:
        source.dispose()
        target.dispose()
    return copied
