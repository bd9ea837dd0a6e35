"""Whose name stands on the board, and which of a team's entries does."""

import concurrent.futures

import pytest
from fastapi.testclient import TestClient
from msgspec.structs import replace

from benchmark.service import store
from benchmark.service.app import create_app
from benchmark.service.challenge import close
from benchmark.service.database import ServiceError
from benchmark.service.standing import listing
from benchmark.service.worker import Task, _assess
from tests.benchmark.service.cases import (
    LABELS,
    PROTOCOL,
    about,
    closing_engine,
    files,
    new_token,
    outcome,
    predictions,
    send,
    serving,
    settings,
)

OTHER = "lab/b@1"


@pytest.fixture(scope="module")
def verdict():
    """What a scoring writes."""
    return _assess(Task(predictions(), about(), "", (PROTOCOL,), LABELS, 60.0, None)).verdict


def scored(engine, verdict, team, name, public, private=None, publish=True, protocol=PROTOCOL.id):
    """Put a scored submission into a database, with the MAE of both parts; return its id."""
    sent = store.add_submission(engine, team, f"{name} {public}".encode(), b"y", "", publish, 100)
    entry = replace(verdict.entry, name=name, protocol=replace(PROTOCOL, id=protocol))
    parts = store.PartErrors(public, private)
    key = f"{protocol.replace('/', '-')}-{name}-{team}"
    store.finish(engine, store.claim(engine), replace(verdict, entry=entry), key, parts=parts)
    return sent


# ---- the team


def test_the_board_shows_the_name_of_the_token(database):
    """Whatever the description claims; the method is the second line."""
    mine = new_token(database, "Team <Anna>")
    claimed = files(text=about("Fast net", authors="Team Bert, the winners", link="https://example.org/paper"))
    with serving(database) as client:
        sent = outcome(client, send(client, mine, claimed))
        page, entry, address = (client.get(path).text for path in ("/", sent["entry_url"], sent["url"]))
        row = page[page.index('<tr class="row') : page.index("</tr>", page.index('<tr class="row'))]
        assert "<bdi>Team &lt;Anna&gt;</bdi></a>" in row and "Team Bert" not in page
        assert row.index("Team &lt;Anna&gt;") < row.index("Fast net") and 'href="https://example.org/paper"' in row
        assert "Sent by <b><bdi>Team &lt;Anna&gt;</bdi></b>; authors, in their words:" in entry
        assert "<bdi>Team &lt;Anna&gt;</bdi>" in address and sent["team"] == "Team <Anna>"
        listed = client.get("/api/entries").json()["entries"]
        assert [(one["team"], one["name"]) for one in listed] == [("Team <Anna>", "Fast net")]


# ---- best, last, all


@pytest.fixture
def teams(database, verdict):
    """Two teams: of a, a better entry stands before the last one, and one that is no step better than those."""
    new_token(database, "a")
    new_token(database, "b")
    create_app(settings(database))
    with closing_engine(database) as engine:
        names = {
            name: scored(engine, verdict, *entry)
            for name, *entry in (
                ("first", "a", "first", 5.00, 5.50),
                ("good", "a", "good", 4.00, 4.90),
                ("hidden", "a", "hidden", 3.00, 3.10, False),
                ("near", "a", "near", 3.97, 4.10),
                ("late", "a", "late", 4.50, 4.00),
                ("elsewhere", "a", "elsewhere", 9.00, 9.00, True, OTHER),
                ("theirs", "b", "theirs", 6.00, 1.00),
                ("again", "b", "again", 5.50, 2.00),
            )
        }
        yield engine, names


def on(engine, stands):
    return [(one.team, one.entry.name) for one in listing(engine, stands)]


def test_one_entry_of_a_team_stands_where_that_is_asked(teams):
    engine, _ = teams
    # While it is open, entries that were told no figure of their own do not stand, whichever are asked for.
    elsewhere = ("a", "elsewhere")
    told = [("a", "good"), ("a", "first"), ("b", "again"), ("b", "theirs")]
    assert on(engine, "all") == [elsewhere, told[0], told[1], told[2], told[3]]
    assert on(engine, "best") == on(engine, "last") == [elsewhere, ("a", "good"), ("b", "again")]
    close(engine)
    # In the order of the private part, by which nothing is chosen.
    assert on(engine, "all")[1:] == [
        ("b", "theirs"), ("b", "again"), ("a", "late"), ("a", "near"), ("a", "good"), ("a", "first"),
    ]  # fmt: skip
    assert on(engine, "best") == [elsewhere, ("b", "again"), ("a", "near")]
    assert on(engine, "last") == [elsewhere, ("b", "again"), ("a", "late")]


def test_an_entry_that_was_told_before_is_sent_again_and_is_the_last(teams, verdict):
    engine, _ = teams
    sent = store.add_submission(engine, "a", b"first 5.0", b"other notes", "", True, 100)
    entry = replace(verdict, entry=replace(verdict.entry, name="first"))
    key = next(one.key for one in listing(engine) if one.entry.name == "first")
    store.finish(engine, store.claim(engine), entry, key, parts=store.PartErrors(5.0, 5.5))
    assert not store.find_submission(engine, sent).told.improved
    assert ("a", "first") in on(engine, "last") and ("a", "good") in on(engine, "best")


def test_a_submitter_is_told_whether_the_entry_stands(teams, database):
    _, names = teams
    with TestClient(create_app(settings(database, stands="best"))) as client:
        shown = {name: client.get(f"/api/submissions/{sent}").json() for name, sent in names.items()}
        assert {name for name, one in shown.items() if one["on_board"]} == {"good", "elsewhere", "again"}
        assert {name for name, one in shown.items() if one["entry_url"]} == {
            "first", "good", "elsewhere", "theirs", "again"
        }  # fmt: skip
        page = client.get(shown["first"]["url"]).text
        assert "of your team's entries, another stands" in page and "and stands on the" not in page
        assert "and stands on the" in client.get(shown["good"]["url"]).text
        assert [one["name"] for one in client.get("/api/entries").json()["entries"]] == ["elsewhere", "good", "again"]
        assert ">first</bdi>" not in client.get("/").text


# ---- whether the board changed


def test_each_change_of_the_board_is_seen_by_every_server_and_nothing_else_is(teams, database, verdict):
    engine, names = teams
    with closing_engine(database) as other:
        states = [store.board_state(other)]

        def changed():
            states.append(store.board_state(other))
            return states[-1] != states[-2]

        key = next(one.key for one in listing(engine) if one.entry.name == "first")
        scored(engine, verdict, "b", "hidden", 1.0, 1.0, publish=False)
        store.add_submission(engine, "b", b"no csv", b"y", "", True, 100)
        store.finish(engine, store.claim(engine), replace(verdict, entry=None))
        assert not changed()  # neither what is not published nor what is faulty
        scored(engine, verdict, "b", "new", 3.0, 3.0)
        assert changed()
        store.add_suspicions(engine, names["hidden"], verdict)
        assert not changed()
        store.add_suspicions(engine, names["good"], verdict)
        assert changed()
        store.withdraw(engine, key)
        assert changed()
        with pytest.raises(ServiceError):
            store.withdraw(engine, key)
        assert not changed()
        close(engine)
        assert changed() and len(set(states)) == 5


def test_changes_at_once_are_all_counted(database, verdict):
    new_token(database)
    create_app(settings(database))
    with closing_engine(database) as first, closing_engine(database) as second:
        jobs = []
        for number in range(12):
            store.add_submission(first, "lab", b"%d" % number, b"y", "", True, 100)
            jobs.append(store.claim(first))
        before = store.board_state(first)

        def finish(number):
            engine, parts = (first, second)[number % 2], store.PartErrors(9.0 - number, None)
            store.finish(engine, jobs[number], verdict, f"key {number}", parts=parts)
            store.add_suspicions(engine, jobs[number].id, verdict)

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(finish, range(12)))
        assert store.board_state(second)[0] == before[0] + 24
