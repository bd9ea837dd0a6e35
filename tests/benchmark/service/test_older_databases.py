"""Databases that an earlier release has made: nothing of them is lost, whatever happens on the way."""

import hashlib
import os
import subprocess
import threading

import pytest
import sqlalchemy as sa

from benchmark.service import database as module
from benchmark.service import store
from benchmark.service.database import open_database
from benchmark.service.verdict import ToldFault, Verdict
from headposeplus.beside import python
from tests.benchmark.service.cases import (
    closing_engine,
    make_older,
    new_database,
    new_token,
    outcome,
    rows_of,
    send,
    serving,
)

FAULTY = 3  # of the submissions
MANY = 2 * module._STEP + 10
# Ends while the second of three steps is being made, before it is committed.
KILLED = """
import os, sys
from benchmark.service import database
move, times = database._move, []
def moved(*arguments):
    move(*arguments)
    times.append(1)
    if len(times) == 2:
        os._exit(9)
database._move = moved
database.open_database(sys.argv[1])
"""


@pytest.fixture
def older(database):
    """A database of version 4 with many submissions; also the rows that it had."""
    fill(database)
    before = rows_of(database)
    make_older(database, 4)
    return database, before


def fill(database):
    new_token(database)
    with closing_engine(database) as engine:
        for number in range(MANY):
            store.add_submission(engine, "lab", b"%d" % number * 1000, b"y", "", True, 1000)
        for _ in range(FAULTY):
            store.finish(engine, store.claim(engine), Verdict(faults=(ToldFault("", "odd", ""),)), keep=False)


def version_of(database):
    """The version of the tables, and how many predictions are where they were and where they go."""
    engine = module.connect(module.read_url(database))
    with engine.connect() as connection:
        found = [
            connection.execute(sa.text(query)).scalar()
            for query in (
                "SELECT version FROM hpp_schema",
                "SELECT count(predictions) FROM hpp_submissions",
                "SELECT count(*) FROM hpp_predictions",
            )
        ]
    engine.dispose()
    return found


def test_a_kill_on_the_way_loses_nothing(older):
    database, before = older
    killed = subprocess.run([*python(KILLED), database], capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == 9, killed.stderr
    assert version_of(database) == [5, MANY - FAULTY - module._STEP, module._STEP]
    assert rows_of(database) == before  # it goes on where it was
    with closing_engine(database) as engine:
        columns = {column["name"] for column in sa.inspect(engine).get_columns("hpp_submissions")}
        assert "predictions" not in columns and store.claim(engine).predictions == b"3" * 1000


def test_what_an_earlier_service_still_writes_is_moved(older, monkeypatch):
    database, _ = older
    insert = sa.text("UPDATE hpp_submissions SET predictions = :late WHERE status = 'faulty'")
    steps = []

    def late(connection, which):
        move(connection, which)
        steps.append(which)
        if len(steps) == 3:  # behind the name to which the steps have come
            connection.execute(insert, {"late": b"late"})

    move = module._move
    monkeypatch.setattr(module, "_move", late)
    kept = rows_of(database)["hpp_predictions"]
    assert len(kept) == MANY and sum(bytes(row[1]) == b"late" for row in kept) == FAULTY


def test_several_may_bring_a_database_up_to_date_at_once(older):
    database, before = older
    faults = []

    def bring():
        try:
            open_database(database).dispose()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=bring) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and rows_of(database) == before


def test_no_predictions_pass_through_the_service(older):
    """The database copies them: of many MiB each, they would not fit."""
    database, _ = older
    engine = module.connect(module.read_url(database))
    asked = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_others):
        asked.append(" ".join(statement.split()))

    module._check_version(engine, create=False, upgrade=True)
    engine.dispose()
    assert any(words.startswith("INSERT INTO hpp_predictions (submission, predictions) SELECT") for words in asked)
    given_out = [words.partition(" FROM ")[0] for words in asked if words.startswith("SELECT")]
    assert given_out and not [words for words in given_out if "predictions" in words]
    assert not [words for words in asked if words.startswith("INSERT") and "VALUES" in words]


def test_an_old_sqlite_keeps_an_empty_column(lite, monkeypatch):
    fill(lite)
    make_older(lite, 4)
    monkeypatch.setattr(module.sqlite3, "sqlite_version_info", (3, 34, 1))
    with closing_engine(lite) as engine, engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(moved) FROM hpp_submissions")).scalar() == 0
        assert store.add_submission(engine, "lab", b"new", b"y", "", True, 1000)
    assert len(rows_of(lite)["hpp_predictions"]) == MANY - FAULTY + 1


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_an_older_backup_is_restored_and_stays_as_it_is(request, tmp_path, hpp, target):
    backup, database = tmp_path / "backup.db", new_database(request, target, tmp_path / "new.db")
    token = new_token(f"sqlite:///{backup}")
    with serving(f"sqlite:///{backup}") as client:
        scored = outcome(client, send(client, token))
    before = rows_of(f"sqlite:///{backup}")
    make_older(f"sqlite:///{backup}", 4)
    held = hashlib.sha256(backup.read_bytes()).digest()
    assert "1 submissions restored" in hpp("serve", "restore", backup, "--database", database).output
    assert hashlib.sha256(backup.read_bytes()).digest() == held
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    after = rows_of(database)
    assert after["hpp_predictions"] == before["hpp_predictions"]
    with serving(database) as client:
        assert client.get(f"/api/submissions/{scored['id']}").json()["entry"] == scored["entry"]
        assert outcome(client, send(client, token))["id"] == scored["id"]


def test_an_older_backup_needs_room_beside_the_database(tmp_path, hpp):
    backup, new_folder = tmp_path / "backup.db", tmp_path / "none" / "new.db"
    fill(f"sqlite:///{backup}")
    make_older(f"sqlite:///{backup}", 4)
    told = hpp("serve", "restore", backup, "--database", f"sqlite:///{new_folder}", expect=1).output
    assert "cannot be written: No such file or directory" in told and len(told.splitlines()) == 1
    assert os.path.getsize(backup)
