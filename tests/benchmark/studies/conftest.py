"""A pool of two tiny miniatures."""

import pytest

from benchmark.studies.pool import make_pool

PEOPLE = (3, 4)


@pytest.fixture(scope="session")
def members(once):
    """The datasets of the two members of a pool."""
    return once("pool", lambda out: make_pool(out, "tiny", 0, PEOPLE, 32, 1))[1]
