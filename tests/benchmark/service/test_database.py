"""The service's database: limits, claims, backups, versions."""

import concurrent.futures
import json
import os
import re
import sqlite3
import threading
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmark.service import store
from benchmark.service.database import TABLES, ServiceError, open_database, read_url
from benchmark.service.verdict import ToldFault, Verdict, read_verdict, write_verdict
from benchmark.upkeep.postgres import administer
from tests.benchmark.service.cases import (
    closing_engine,
    files,
    make_older,
    new_database,
    new_token,
    outcome,
    rows_of,
    send,
    serving,
)
from tests.circumstances import small_disk


def test_the_daily_limit_holds_under_concurrency(database):
    new_token(database)
    with closing_engine(database) as engine:

        def add(number):
            try:
                return store.add_submission(engine, "lab", b"%d" % number, b"y", "", True, 5)
            except store.DailyLimitError as error:
                assert 0 < error.seconds <= 86_400
                return None

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            names = [name for name in pool.map(add, range(40)) if name]
        assert len(names) == 5 and len(set(names)) == 5
        # Faulty ones do not count; another submitter has a limit of their own.
        store.finish(engine, store.claim(engine), Verdict(), keep=False)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert len([name for name in pool.map(add, range(40, 60)) if name]) == 1
        # A scoring that broke off may have seen labels: it does.
        store.finish(engine, store.claim(engine), Verdict())
        assert add(60) is None
        store.add_token(engine, "other")
        assert store.add_submission(engine, "other", b"x", b"y", "", True, 5)


def test_the_day_ends_at_midnight_utc(lite, monkeypatch):
    new_token(lite)
    time_now = datetime(2026, 3, 1, 23, 59, 30, tzinfo=timezone.utc)
    monkeypatch.setattr(store, "now", lambda: time_now)
    with closing_engine(lite) as engine:
        store.add_submission(engine, "lab", b"x", b"y", "", True, 1)
        with pytest.raises(store.DailyLimitError) as error:
            store.add_submission(engine, "lab", b"x2", b"y", "", True, 1)
        assert error.value.seconds == 31
        time_now += timedelta(seconds=31)
        assert store.add_submission(engine, "lab", b"x2", b"y", "", True, 1)


def test_a_clock_that_was_ahead_locks_nobody_out(lite, monkeypatch):
    new_token(lite)
    time_now = datetime(2031, 3, 1, 12, tzinfo=timezone.utc)
    monkeypatch.setattr(store, "now", lambda: time_now)
    with closing_engine(lite) as engine:
        store.add_submission(engine, "lab", b"1", b"y", "", True, 1)
        for time_now in (datetime(2026, 3, 1, 12, tzinfo=timezone.utc), datetime(2026, 3, 2, tzinfo=timezone.utc)):
            store.add_submission(engine, "lab", str(time_now).encode(), b"y", "", True, 1)
            with pytest.raises(store.DailyLimitError):
                store.add_submission(engine, "lab", b"more", b"y", "", True, 1)


def test_the_same_bytes_sent_again_are_the_same_submission(database):
    new_token(database)
    new_token(database, "other")
    with closing_engine(database) as engine:

        def add(*changed, by="lab"):
            given = {"predictions": b"x", "about": b"y", "protocol": "", "publish": True} | dict(changed)
            return store.add_submission(engine, by, **given, daily=5)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            names = set(pool.map(lambda _: add(), range(20)))
        assert len(names) == 1 and store.counts(engine)["queued"] == 1
        others = {add(("predictions", b"z")), add(("about", b"z")), add(("protocol", "z")), add(("publish", False))}
        assert len(others | names | {add(by="other")}) == 6
        job = store.claim(engine)
        assert {job.id} == names == {add()} and store.counts(engine)["running"] == 1
        # What was faulty may have been so for want of memory: it is scored anew, in its place.
        store.finish(engine, job, Verdict(faults=(ToldFault("", "odd", ""),)), keep=False)
        assert add() == job.id and store.find_submission(engine, job.id).verdict == Verdict()
        assert store.find_submission(engine, job.id).status == "queued"
        taken = [store.claim(engine) for _ in range(6)]
        again = next(one for one in taken if one.id == job.id)
        assert (again.attempt, again.predictions, again.about) == (1, b"x", b"y") and store.claim(engine) is None


def test_a_lost_answer_and_a_retry_leave_one_row(lite):
    token = new_token(lite)
    with serving(lite, daily=1) as client:
        first = send(client, token)
        scored = outcome(client, first)
        assert send(client, token).json()["id"] == first.json()["id"]
        assert outcome(client, first) == scored and send(client, token, files(b"x")).status_code == 429


def mode(path):
    return oct(path.stat().st_mode & 0o777)


def test_databases_and_backups_are_their_owners_alone(lite, tmp_path, hpp):
    token, path = new_token(lite), Path(lite.removeprefix("sqlite:///"))
    before = os.umask(0)
    try:
        with serving(lite) as client:
            outcome(client, send(client, token))
            beside = [path, *path.parent.glob(f"{path.name}-*")]
            assert len(beside) == 3 and {mode(file) for file in beside} == {"0o600"}
        hpp("serve", "backup", tmp_path / "backup.db", "--database", lite)
        assert mode(tmp_path / "backup.db") == "0o600"
        hpp("serve", "restore", tmp_path / "backup.db", "--database", f"sqlite:///{tmp_path / 'new.db'}")
        assert mode(tmp_path / "new.db") == "0o600"
        path.chmod(0o664)  # as an earlier version left it; the group is the owner's choice
        with closing_engine(lite):
            assert mode(path) == "0o660"
    finally:
        os.umask(before)


def test_a_full_disk_is_told_as_one(tmp_path):
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        database = f"sqlite:///{disk / 'a.db'}"
        token = new_token(database)
        with serving(database) as client:
            sent = [send(client, token, files(bytes([48 + i]) * 200_000)) for i in range(8)]
            refused = [response for response in sent if response.status_code != 202]
            assert refused and {response.status_code for response in refused} == {503}
            assert {response.json()["detail"] for response in refused} == {
                "the disk of the database is full; try again in a moment"
            }


def test_each_row_is_claimed_once(database):
    new_token(database)
    with closing_engine(database) as engine:
        names = [store.add_submission(engine, "lab", b"%d" % i, b"y", "", True, 100) for i in range(30)]
        taken = []

        def work():
            while job := store.claim(engine):
                taken.append(job.id)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == sorted(names)
        assert store.put_back(engine, unspent=True) == 30
        job = store.claim(engine)
        assert job.attempt == 1 and job.id == names[0]  # the oldest first
        # What was finished once is not finished again.
        store.finish(engine, job, Verdict())
        store.finish(engine, job, Verdict(faults=(ToldFault("", "late", ""),)))
        assert store.find_submission(engine, job.id).verdict.faults == ()


def test_health_tells_when_the_database_is_away(request, tmp_path):
    database = new_database(request, "postgresql", tmp_path)
    folder, name = request.getfixturevalue("postgres"), re.search(r"hpp_\d+", database)[0]
    token = new_token(database)
    with serving(database) as client:
        assert client.get("/healthz").status_code == 200
        administer(folder, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        administer(folder, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        health = client.get("/healthz")
        assert health.status_code == 503 and "cannot be reached" in health.json()["status"]
        for refused in (send(client, token), client.get("/"), client.get("/api/entries")):
            assert refused.status_code == 503 and "database cannot be reached" in refused.json()["detail"]
        administer(folder, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert client.get("/healthz").status_code == 200
        assert outcome(client, send(client, token))["status"] == "scored"


@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_backup_goes_from_one_database_to_the_other(request, tmp_path, source, target, hpp):
    first = new_database(request, source, tmp_path / "a.db")
    second = new_database(request, target, tmp_path / "b.db")
    token = new_token(first)
    with serving(first) as client:
        scored = outcome(client, send(client, token))
        outcome(client, send(client, token, files(b"nonsense")))
        with closing_engine(first) as engine:
            store.add_submission(engine, "lab", bytes(range(256)) * 1000, b"\xff\x00", "", False, 100)
            assert "3 submissions" in hpp("serve", "backup", tmp_path / "backup.db", "--database", first).output
            assert store.find_submission(engine, scored["id"]).status == "scored"  # it goes on
    assert not list(tmp_path.glob("backup.db-*"))
    assert "3 submissions restored" in hpp("serve", "restore", tmp_path / "backup.db", "--database", second).output
    before = {
        name: [list(row) for row in rows] for name, rows in rows_of(f"sqlite:///{tmp_path / 'backup.db'}").items()
    }
    after = {name: [list(row) for row in rows] for name, rows in rows_of(second).items()}
    assert len(before["hpp_submissions"]) == 3 and before == after
    for served in (second, f"sqlite:///{tmp_path / 'backup.db'}"):
        with serving(served) as client:
            assert [entry["name"] for entry in client.get("/api/entries").json()["entries"]] == ["My method"]
            assert outcome(client, send(client, token))["status"] == "scored"


def test_what_cannot_be_backed_up_or_restored_is_said(lite, tmp_path, hpp):
    new_token(lite)
    backup = tmp_path / "backup.db"
    hpp("serve", "backup", backup, "--database", lite)
    assert "exists already" in hpp("serve", "backup", backup, "--database", lite, expect=1).output
    assert "is not empty" in hpp("serve", "restore", backup, "--database", lite, expect=1).output
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE x (y)")
    assert "holds no tables" in hpp("serve", "restore", other, "--database", "sqlite:///new.db", expect=1).output
    (tmp_path / "text.db").write_text("no database at all, but long enough to be one" * 50)
    output = hpp(
        "serve", "backup", tmp_path / "x.db", "--database", f"sqlite:///{tmp_path / 'text.db'}", expect=1
    ).output
    assert "cannot be opened: file is not a database" in output and not (tmp_path / "x.db").exists()
    missing = f"sqlite:///{tmp_path / 'none.db'}"
    assert "no such database" in hpp("serve", "backup", tmp_path / "x.db", "--database", missing, expect=1).output
    assert not (tmp_path / "none.db").exists()


def test_tables_of_version_2_get_the_indices_that_they_lack(database):
    new_token(database)
    make_older(database, 2)
    for _ in range(2):
        with closing_engine(database) as engine, engine.connect() as connection:
            for table in ("hpp_submissions", "hpp_told"):
                there = {index["name"] for index in sa.inspect(connection).get_indexes(table)}
                assert {index.name for index in TABLES.tables[table].indexes} <= there
            assert connection.execute(sa.text("SELECT version FROM hpp_schema")).scalars().all() == [6]


def test_tables_of_another_version_are_refused(database):
    new_token(database)
    with closing_engine(database) as engine, engine.begin() as connection:
        connection.execute(sa.text("UPDATE hpp_schema SET version = 99"))
    with pytest.raises(ServiceError, match="its tables have version 99, this toolkit's have version 6"):
        open_database(database)


def test_a_verdict_keeps_its_bytes():
    """The JSON that databases hold already."""
    kept = next((Path(__file__).resolve().parents[3] / "results/demo/scoreboard").glob("*.json"))
    faults = [{"where": "p.csv", "what": "x", "mend": "y"}]
    entry = json.loads(kept.read_text(encoding="utf-8")) | {"name": "\u00e9"}
    for verdict in (
        {"entry": entry, "faults": [], "suspicions": []},
        {"entry": None, "faults": faults, "suspicions": []},
    ):
        text = json.dumps(verdict)
        assert write_verdict(read_verdict(text)) == text
    assert read_verdict(text).faults == (ToldFault("p.csv", "x", "y"),)


def test_a_database_is_named_by_its_url():
    for url, says in (
        ("mysql://a:secret@b/c", "`database` names 'mysql'; expected sqlite:///FILE or postgresql://"),
        ("sqlite://", "`database` names no file, and what is in memory is lost; expected sqlite:///FILE"),
        ("no url: secret", "`database` is not the URL of a database; expected sqlite:///FILE"),
    ):
        with pytest.raises(ServiceError) as error:
            read_url(url)
        assert says in str(error.value) and "secret" not in str(error.value)
