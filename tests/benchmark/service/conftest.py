"""Fixtures of the tests of the service: databases of both kinds."""

from contextlib import ExitStack
from importlib.util import find_spec

import pytest

if not all(find_spec(name) for name in ("fastapi", "httpx", "sqlalchemy")):
    collect_ignore_glob = ["test_*.py"]  # the service is not installed: pip install -e .[serve,dev]


@pytest.fixture(scope="session")
def postgres():
    """The folder of the socket of a PostgreSQL server, which runs as another user where the tests run as root."""
    from benchmark.upkeep.postgres import NoPostgresError, server

    with ExitStack() as stack:
        try:
            folder = stack.enter_context(server())
        except NoPostgresError as error:
            pytest.skip(str(error))
        yield folder


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
