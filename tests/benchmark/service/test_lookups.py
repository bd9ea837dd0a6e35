"""What a request asks of the database takes no longer where there are many submissions."""

import pytest
import sqlalchemy as sa

from benchmark.service import store
from benchmark.service.database import (
    PREDICTIONS,
    QUEUED,
    RUNNING,
    SCORED,
    SUBMISSIONS,
    connect,
    open_database,
    read_url,
)
from benchmark.service.pages import show_submission
from benchmark.service.verdict import Verdict, read_verdict
from benchmark.upkeep.bench_databases import fill, scored
from benchmark.upkeep.bench_lookups import TEAM, name_of, team_of, token_of

VERDICT = scored(0)
ROWS = (2 * TEAM, 20 * TEAM)
ADDED = sa.select(SUBMISSIONS.c.id).where(SUBMISSIONS.c.about == b"y")


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """The engines of a small and of a large database, and a counter of the instructions that SQLite runs for each."""
    engines = {}
    for rows in ROWS:
        url = f"sqlite:///{tmp_path_factory.mktemp('lookups') / 'serve.db'}"
        engine = connect(read_url(url))
        fill(engine, rows, VERDICT, seed=0)
        engine.dispose()
        engines[rows] = open_database(url)
    yield engines
    for engine in engines.values():
        engine.dispose()


def steps(engine, do):
    """Return how many instructions SQLite runs, and what comes of it."""
    count = 0

    def step():
        nonlocal count
        count += 1
        return 0

    def watched(raw, *_others):
        raw.set_progress_handler(step, 1)

    engine.dispose()
    sa.event.listen(engine, "connect", watched)
    try:
        found = do(engine)
    finally:
        sa.event.remove(engine, "connect", watched)
        engine.dispose()
    return count, found


LOOKUPS = {
    "token": lambda engine: store.find_submitter(engine, token_of(1)) == team_of(1),
    "accept": lambda engine: store.add_submission(engine, team_of(1), b"x", b"y", "", True, 10_000) != "",
    "claim": lambda engine: store.claim(engine).predictions == b"x",
    "look": lambda engine: store.claim_unlooked(engine) is None,
    "put back": lambda engine: store.put_back(engine) == 1,
    "page": lambda engine: show_submission(engine, name_of(1), "").on_board,
    "page, best": lambda engine: show_submission(engine, name_of(1), "", "best").entry_url is not None,
    "board": lambda engine: store.board_state(engine)[0] == 0,
    "health": lambda engine: store.counts(engine, (QUEUED, RUNNING)) == {QUEUED: 1, RUNNING: 0},
}


@pytest.mark.parametrize("backwards", [False, True])
def test_no_lookup_grows_with_the_number_of_submissions(databases, backwards):
    for engine in databases.values():  # SQLite's choice between two may follow the order in which they were made
        with engine.begin() as connection:
            for table in (PREDICTIONS, SUBMISSIONS):  # what these tests add
                connection.execute(sa.delete(table).where(next(iter(table.c)).in_(ADDED)))
            for index in sorted(SUBMISSIONS.indexes, key=lambda index: index.name, reverse=backwards):
                index.drop(connection)
                index.create(connection)
    small, large = ({what: steps(engine, do) for what, do in LOOKUPS.items()} for engine in databases.values())
    assert all(right for one in (small, large) for _, right in one.values()), (small, large)
    grown = {what: (small[what][0], large[what][0]) for what in LOOKUPS}
    assert not {what: both for what, both in grown.items() if both[1] > 1.5 * both[0] + 20}
    # Counting is what it would find: to count all grows.
    counted = [steps(engine, lambda one: store.counts(one)[SCORED])[0] for engine in databases.values()]
    assert counted[1] > 3 * counted[0]


def test_a_page_reads_no_entries_but_its_own(databases, monkeypatch):
    read = []
    for module in ("store", "entries"):
        monkeypatch.setattr(
            f"benchmark.service.{module}.read_verdict", lambda text: read.append(1) or read_verdict(text)
        )
    assert show_submission(databases[ROWS[1]], name_of(1), "", "best").entry.improved
    assert len(read) == 2  # its own, and that of its key, which is the same here


def test_lists_read_no_predictions(databases):
    """They lie in a table of their own, of which only a scoring reads."""
    engine, asked = databases[ROWS[0]], []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_others):
        asked.append(statement.partition("FROM")[0])

    store.list_submitters(engine)
    store.find_submission(engine, name_of(1))
    show_submission(engine, name_of(1), "", "last")
    assert asked and not [words for words in asked if "hpp_predictions.predictions" in words]
    store.add_submission(engine, team_of(0), b"more", b"y", "", True, 10_000)
    store.finish(engine, store.claim(engine), Verdict())
    assert [words for words in asked if "hpp_predictions.predictions" in words]
