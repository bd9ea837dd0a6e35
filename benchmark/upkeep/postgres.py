"""A PostgreSQL server for a while, for tests and benchmarks of the service."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.files import folders


class NoPostgresError(HeadposeError):
    """No PostgreSQL server can be started here."""


def _program(name: str) -> str:
    """Return a program of PostgreSQL's server, which stands in the PATH or where the system's packages put it."""
    packaged = Path("/usr/lib/postgresql")
    programs = [path for version in folders(packaged) if (path := packaged / version / "bin" / name).exists()]
    program = shutil.which(name) or max(map(str, programs), default=None)
    if program is None:
        what = f"no PostgreSQL server is installed: {name} is not in the PATH nor in /usr/lib/postgresql"
        raise NoPostgresError(Fault(what, "install the package postgresql"))
    return program


@contextmanager
def server() -> Iterator[Path]:
    """Yield the folder of the socket of a PostgreSQL server, which is gone afterwards with all that it holds.

    It runs as another user where this process is root's, and does not wait for the disk.

    Raises
    ------
    NoPostgresError
        If none is installed, or this process is root's and cannot become another user.
    """
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    before = []
    if os.name == "posix" and os.geteuid() == 0:
        if not shutil.which("runuser"):
            raise NoPostgresError("PostgreSQL does not run as root, and there is no runuser")
        before = ["runuser", "-u", "postgres", "--"]
    folder = Path(tempfile.mkdtemp(prefix="hpp-postgres-"))

    def run(*arguments: str | Path) -> None:
        subprocess.run([*before, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    try:
        if before:
            shutil.chown(folder, "postgres")
        run(initdb, "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c fsync=off -c max_connections=200 -k {folder}"
        run(pg_ctl, "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "start")
        try:
            yield folder
        finally:
            run(pg_ctl, "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def administer(folder: Path, statement: str) -> None:
    """Run a statement on the server of this folder, outside of a transaction."""
    import psycopg

    with closing(psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True)) as connection:
        connection.execute(statement.encode())


def url(folder: Path, name: str) -> str:
    """Return the URL of a database of the server of this folder."""
    return f"postgresql://postgres@/{name}?host={folder}"
