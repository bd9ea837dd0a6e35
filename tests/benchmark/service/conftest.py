"""Fixtures of the tests of the service: databases of both kinds."""

import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

if not all(find_spec(name) for name in ("fastapi", "httpx", "sqlalchemy")):
    collect_ignore_glob = ["test_*.py"]  # the service is not installed: pip install -e .[serve,dev]


@pytest.fixture(scope="session")
def postgres():
    """The folder of the socket of a PostgreSQL server, which runs as another user where the tests run as root."""
    from tests.benchmark.service.cases import find_program

    initdb, pg_ctl = find_program("initdb"), find_program("pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="hpp-postgres-"))
    before = []
    if os.geteuid() == 0:
        if not shutil.which("runuser"):
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        shutil.chown(folder, "postgres")
        before = ["runuser", "-u", "postgres", "--"]

    def run(*arguments):
        subprocess.run([*before, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    run(initdb, "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses='' -c fsync=off -c max_connections=200 -k {folder}"
    run(pg_ctl, "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "start")
    yield folder
    run(pg_ctl, "-D", folder / "data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """The URL of a database that does not exist yet, or is empty."""
    from tests.benchmark.service.cases import new_database

    return new_database(request, request.param, tmp_path / "serve.db")


@pytest.fixture
def lite(tmp_path):
    return f"sqlite:///{tmp_path / 'serve.db'}"


@pytest.fixture
def start(tmp_path):
    """Start servers, and end those that still run."""
    from tests.benchmark.service.cases import servers

    with servers(tmp_path) as run:
        yield run
