"""What organisers say of a challenge, its deadline, and what an empty board says."""

import re
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient

from benchmark.service import announcement, challenge, pages, store
from benchmark.service.announcement import as_html
from benchmark.service.app import create_app
from benchmark.service.challenge import current
from benchmark.service.database import ServiceError, open_database
from benchmark.service.settings import Words
from benchmark.service.terms import TEMPLATE, Terms, read_deadline, read_terms, time_left, told_time
from headposeplus.errors import HeadposeError
from tests.benchmark.service.cases import (
    HOSTILE,
    PROTOCOL,
    about,
    closing_engine,
    files,
    make_older,
    new_token,
    outcome,
    predictions,
    send,
    serving,
    settings,
)

NOON = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)
END = read_deadline("2030-01-31 17:00")


@pytest.fixture
def clock(monkeypatch):
    """Let the service's time be another; a list whose only value is it."""
    times = [NOON]
    for module in (store, challenge, announcement, pages):
        monkeypatch.setattr(module, "now", lambda: times[0])
    return times


# ---- times


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2030-01-31T18:00+01:00", "2030-01-31T17:00:00.000000+00:00"),
        ("2030-01-31 18:00", "2030-01-31T18:00:00.000000+00:00"),
        (" 2030-01-31T18:00:30Z", "2030-01-31T18:00:30.000000+00:00"),
        (datetime(2030, 1, 31, 18), "2030-01-31T18:00:00.000000+00:00"),
        ("none", ""),
    ],
)
def test_a_deadline_is_a_moment_in_utc_where_no_zone_is_said(text, stamp):
    assert read_deadline(text) == stamp


def test_times_are_told_in_words():
    assert told_time(END) == "2030-01-31 17:00 UTC"
    assert told_time(read_deadline("2030-01-31T18:00:30Z")) == "2030-01-31 18:00:30 UTC"
    end = datetime(2030, 1, 31, 17, tzinfo=timezone.utc)
    told = [time_left(END, end - timedelta(minutes=left)) for left in (4320, 2880, 2879, 120, 119, 2, 1, 0, -5)]
    assert told == [
        "3 days left", "2 days left", "47 hours left", "2 hours left", "119 minutes left", "2 minutes left",
        "less than two minutes left", "less than two minutes left", "over",
    ]  # fmt: skip


# ---- the file


def test_the_template_is_a_challenge(tmp_path, hpp):
    printed = hpp("serve", "template").output
    assert printed == TEMPLATE and max(map(len, printed.splitlines())) <= 80
    assert "test pictures in the training" not in printed  # what the protocol says, the rules do not contradict
    (tmp_path / "c.toml").write_text(printed.replace("# deadline", "deadline"))
    read = read_terms(tmp_path / "c.toml")
    assert set(re.findall(r"^#? ?(\w+) = ", printed, re.M)) == set(Terms.__struct_fields__)
    assert read_deadline(read.deadline) == END and (read.stands, read.daily) == ("all", 5)
    assert (read.private, read.step) == (challenge.PRIVATE, challenge.STEP)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('titel = "x"', "'titel': an unknown key; did you mean title?"),
        ("colour = 3", "'colour': an unknown key; its keys are title, about, rules, deadline,"),
        ("deadline = 2030-01-31", "deadline: '2030-01-31' is a day: when does it end there?; give a time such as"),
        ("deadline = 18:00:00", "deadline: '18:00:00' is no time of a day; give a time such as 2030-01-31T18:00"),
        ('deadline = "soon"', "deadline: 'soon' is no time; give a time such as 2030-01-31T18:00+01:00, in UTC"),
        ("deadline = 3", "deadline: '3' is no time of a day; give"),
        ('stands = "first"', "stands: not a challenge: invalid enum value 'first', expected one of all, best, last;"),
        ("title = 3", "title: not a challenge: expected str, got int, found '3'; hpp serve template prints one"),
        (f'title = "{"x" * 121}"', "title: not a challenge: expected str of length <= 120"),
        ("step = nan", "step: not a challenge: expected float >= 0.01"),
        ("daily = 0", "daily: not a challenge: expected int >= 1"),
        ("private = 0.95", "private: not a challenge: expected float <= 0.9"),
        ("x = [", "not the TOML of a challenge: "),
        ("\x00", "not the TOML of a challenge: "),
        ("a" * ((1 << 20) + 1), "not the TOML of a challenge: more than 1,048,576 bytes"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line(tmp_path, text, says):
    path = tmp_path / "class.toml"
    path.write_text(text)
    with pytest.raises(HeadposeError) as error:
        read_terms(path)
    assert str(error.value).startswith(f"{path}") and says in str(error.value) and "\n" not in str(error.value)


def test_the_command_tells_what_is_wrong_before_it_listens(tmp_path, lite, hpp):
    labels, protocol = tmp_path / "labels.csv", tmp_path / "p.toml"
    labels.write_bytes(predictions(0))
    hpp("protocols", "new", protocol, "--id", PROTOCOL.id, "--title", "Faces", "--labels", labels,
        "--convention", "pyr", "--camera", "rgb")  # fmt: skip
    (tmp_path / "class.toml").write_text('deadline = "soon"\n')
    served = ["serve", "--protocol", protocol, "--labels", labels, "--convention", "pyr", "--camera", "rgb",
              "--database", lite, "--port", "0"]  # fmt: skip
    for options, status, says in (
        (["--challenge", tmp_path / "class.toml"], 1, "class.toml, deadline: 'soon' is no time; give"),
        (["--challenge", tmp_path / "none.toml"], 1, "none.toml: cannot be read: No such file or directory; expected"),
        (["--deadline", "2030-01-31"], 1, "--deadline: '2030-01-31' is a day: when does it end there?; give"),
        (["--deadline", "2020-01-31T10:00Z"], 1, "--deadline 2020-01-31 10:00 UTC is over already; give one to come"),
        (["--stands", "first"], 2, "'first' is not one of 'all', 'best', 'last'"),
        (["--step", "nan"], 2, "nan is not a number"),
    ):
        output = hpp(*served, *options, expect=status).output
        assert says in output and len(re.findall("^Error: ", output, re.M)) == 1 and "Traceback" not in output
    with closing_engine(lite) as engine:
        assert current(engine) is None  # nothing was opened


def test_options_count_before_the_file(tmp_path, lite, hpp, monkeypatch):
    from benchmark.service import app

    (tmp_path / "labels.csv").write_bytes(predictions(0))
    (tmp_path / "class.toml").write_text('title = "File"\nrules = "- one"\ndaily = 3\nstands = "last"\nstep = 0.2\n')
    hpp("protocols", "new", tmp_path / "p.toml", "--id", PROTOCOL.id, "--title", "Faces", "--labels",
        tmp_path / "labels.csv", "--convention", "pyr", "--camera", "rgb")  # fmt: skip
    calls = []
    monkeypatch.setattr(app, "run", lambda *arguments: calls.append(arguments))
    served = ["serve", "--protocol", tmp_path / "p.toml", "--labels", tmp_path / "labels.csv", "--convention", "pyr",
              "--camera", "rgb", "--database", lite]  # fmt: skip
    hpp(*served, "--challenge", tmp_path / "class.toml", "--title", "Option", "--stands", "best", "--deadline",
        "2030-01-31 17:00")  # fmt: skip
    hpp(*served)
    (given, *_), (plain, *_) = calls
    assert given.words == Words("Option", "", "- one") and (given.stands, given.daily, given.step) == ("best", 3, 0.2)
    assert given.deadline == END and plain.deadline is None
    assert plain.words == Words() and (plain.stands, plain.daily, plain.private, plain.step) == ("all", 5, None, None)


# ---- the deadline


def test_submissions_end_at_the_deadline_and_those_before_it_are_scored(database, clock, hpp):
    token = new_token(database)
    sent_late = files(predictions(1.0), about("Late"))
    with serving(database, deadline=END) as client:
        queued = send(client, token)
        assert "until <b>2030-01-31 17:00 UTC</b>: 5 hours left." in client.get("/").text
        assert "until <b>2030-01-31 17:00 UTC</b>: 5 hours left." in client.get("/submit").text
        clock[0] = NOON + timedelta(hours=5)  # the last moment
        assert send(client, token, files(text=about("At the last moment"))).status_code == 202
        clock[0] += timedelta(microseconds=1)
        refused = send(client, token, sent_late)
        assert refused.status_code == 403
        assert refused.json()["detail"] == (
            "the deadline was 2030-01-31 17:00 UTC, and no more submissions are taken; what came before is scored, and "
            "all figures are told when the organisers close the challenge"
        )
        # Who lost the answer is told it again.
        assert send(client, token).json()["id"] == queued.json()["id"]
        found = outcome(client, queued)
        assert found["status"] == "scored" and set(found["entry"]["scores"]) == {"mae"}  # it is not closed
        assert "The deadline was <b>2030-01-31 17:00 UTC</b>." in client.get("/").text
        assert '<span class="state over">over</span>' in client.get("/").text
        assert "The deadline was 2030-01-31 17:00 UTC" in client.get("/submit").text
        hpp("serve", "close", "--database", database)
        assert send(client, token, sent_late).json()["detail"].startswith("the challenge is closed")
        assert "All figures are told" in client.get("/").text


def test_what_waits_at_the_deadline_is_scored_by_a_later_start(lite, clock):
    new_token(lite)
    create_app(settings(lite, deadline=END))
    with closing_engine(lite) as engine:
        name = store.add_submission(engine, "lab", predictions(), about(), "", True, 5)
        clock[0] = NOON + timedelta(days=1)
        with pytest.raises(store.ClosedError, match="the deadline was"):
            store.add_submission(engine, "lab", predictions(1.0), about(), "", True, 5)
    with serving(lite) as client:  # no deadline is given: the one of the database holds
        assert client.get(f"/api/submissions/{name}?wait=60").json()["status"] == "scored"


def test_a_deadline_is_moved_by_another_start_which_says_so(database, clock, caplog):
    caplog.set_level("INFO", "hpp.serve")

    def moved(deadline):
        caplog.clear()
        with TestClient(create_app(settings(database, deadline=deadline))):
            pass
        with closing_engine(database) as engine:
            held = current(engine).deadline
        return held, [record.fields for record in caplog.records if record.message == "deadline"]

    later = read_deadline("2030-02-07 17:00")
    assert moved(None) == (None, [])
    assert moved(END) == (END, [{"was": None, "now": END}])
    assert moved(None) == moved(END) == (END, [])
    clock[0] = NOON + timedelta(days=2)
    assert moved(END) == (END, [])  # a start after it, with the same file
    assert moved(later) == (later, [{"was": END, "now": later}])
    with pytest.raises(ServiceError, match=r"`deadline` 2030-02-01 10:00 UTC is over already; give one to come"):
        moved(read_deadline("2030-02-01 10:00"))
    assert moved("") == (None, [{"was": later, "now": None}])


def test_two_services_of_a_database_have_one_deadline(database, clock):
    """A second one that is started without, or an hour later: what the database says holds for both at once."""
    token = new_token(database)
    first = create_app(settings(database, deadline=END))
    with TestClient(first) as client:
        create_app(settings(database))
        clock[0] = NOON + timedelta(hours=6)
        assert send(client, token).status_code == 403
        create_app(settings(database, deadline=read_deadline("2030-01-31 19:00")))
        assert send(client, token).status_code == 202 and "60 minutes left" in client.get("/").text


def test_the_time_that_is_left_is_no_reason_to_draw_a_board_anew(lite, clock, monkeypatch):
    drawn = []
    draw = pages.site.board_page
    monkeypatch.setattr(pages.site, "board_page", lambda *words: drawn.append(1) or draw(*words))
    with serving(lite, deadline=END) as client:
        for minutes in (200, 181, 119, 2, 1, 0, -1, -2):
            clock[0] = NOON + timedelta(hours=5, minutes=-minutes)
            text = client.get("/").text
            assert (f"UTC</b>: {time_left(END, clock[0])}." in text) == (minutes >= 0) and "\ue000" not in text
        assert len(drawn) == 2  # before the deadline, and after it


@pytest.mark.parametrize("version", [2, 3])
def test_databases_from_before_deadlines_go_on(database, version):
    token = new_token(database)
    with serving(database) as client:
        old = outcome(client, send(client, token))
    make_older(database, version)
    for _ in range(2):
        engine = open_database(database, create=False)
        assert current(engine).deadline is None and current(engine).step == 0.1
        engine.dispose()
    with serving(database, deadline=read_deadline("2999-01-01 00:00")) as client:
        assert client.get(f"/api/submissions/{old['id']}").json()["entry"]["scores"] == old["entry"]["scores"]
        assert "2999-01-01 00:00 UTC" in client.get("/").text


# ---- what is said


def text_of(page):
    return " ".join(re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", page, flags=re.S).split())


def test_an_empty_board_says_what_the_challenge_is(lite):
    new_token(lite)
    words = Words("Heads of the class", "Predict **poses**.", "- One token a team.")
    with serving(lite, words=words, daily=1, stands="best") as client:
        page = client.get("/").text
        text = text_of(page)
        for said in (
            "Heads of the class", "Predict poses .", "One token a team.", "lab/faces@1", "Faces of the lab",
            "400 frames of 4 subjects", "mean absolute error of pitch, yaw and roll", "in the convention pyr",
            "rgb camera", "1 submission of a team is scored on a day", "a new one only when it is 0.1 degrees better",
            "the one with the lowest MAE on the public part stands", "your team's token",
            "Submissions are taken until the organisers close the challenge.",
        ):  # fmt: skip
            assert said in text, said
        assert 'href="/submit"' in page and '<details class="challenge" open>' in page
        assert 'id="filters"' not in page and "0 rows" not in text  # of a table that is not there


def test_a_board_with_entries_has_that_folded(lite):
    token = new_token(lite)
    with serving(lite, words=Words("Heads of the class")) as client:
        outcome(client, send(client, token))
        page = client.get("/").text
        # It is no board of this project's protocols: of published rows and of domain adaptation it says nothing.
        assert (
            "published rows" not in text_of(page) and "domain adaptation" not in page and 'id="published"' not in page
        )
        assert 'class="tag"' not in page
        assert '<details class="challenge">' in page and "<title>Heads of the class</title>" in page


def test_markdown_is_text_with_no_html_of_theirs():
    hostile = f"# Big\n{HOSTILE}\n\n<div onclick=x>\n\n[a](javascript:alert(1)) ![b](https://x.org/b.png) [c](/etc)\n"
    html = str(as_html(hostile + "[d](https://x.org) `e` | **f**\n\n| g | h |\n|---|---|\n| 1 | 2 |\n"))
    tags = set(re.findall(r"<(\w+)", html))
    assert tags == {"h3", "p", "a", "code", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(re.findall(r'href="([^"]*)"', html)) == {"https://x.org", "https://x.org/b.png"}
    assert html.count('rel="noopener noreferrer nofollow ugc"') == 2 and "<h3>Big</h3>" in html


def test_hostile_words_stay_words(lite):
    with serving(lite, words=Words(HOSTILE, HOSTILE, HOSTILE)) as client:
        page = client.get("/").text
    assert "<script>window" not in page and "<img" not in page and "&lt;script&gt;window" in page
