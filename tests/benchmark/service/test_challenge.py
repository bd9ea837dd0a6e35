"""What an open challenge tells: to those who ask honestly, and to those who attack it; and what its end tells."""

import json
import re
import time
from datetime import datetime, timezone
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from fastapi.testclient import TestClient
from msgspec.structs import replace

from benchmark.scoring.labels import from_arrays
from benchmark.service import entries, store
from benchmark.service.app import create_app
from benchmark.service.challenge import climb, open_challenge
from benchmark.service.database import ServiceError, open_database
from benchmark.service.pages import show_submission
from benchmark.service.standing import listing
from benchmark.service.worker import Task, Worker, _assess
from benchmark.upkeep import soak_attacks
from headposeplus.rotations import from_matrix, to_matrix
from tests.benchmark.service.cases import (
    LABELS,
    PROTOCOL,
    about,
    bearer,
    closing_engine,
    files,
    make_older,
    make_protocol,
    new_token,
    outcome,
    predictions,
    send,
    serving,
    settings,
)

STEP = 0.1
ROWS = len(LABELS.ids)
TRUE = from_matrix(LABELS.rotations)
# Every answer may hold these numbers and words only: none of the figures of an entry that a scoring makes.
FIGURES = ("intervals", "deviation", "scores_of_seeds", "quantiles", "distribution", "by", "vectors", "conventions",
           "bootstrap", "parts", "public", "private")  # fmt: skip


def csv(angles):
    rows = [f"{name},{a:.4f},{b:.4f},{c:.4f}" for name, (a, b, c) in zip(LABELS.ids, angles.tolist(), strict=True)]
    return ("id,pitch,yaw,roll\n" + "\n".join(rows) + "\n").encode()


class Attacker:
    """Plays submissions through what scores them and what tells of them, without HTTP and child processes."""

    def __init__(self, database, **others):
        self.database, self.submitter = database, "lab"
        for name in ("lab", "other"):
            new_token(database, name)
        self.settings = settings(database, **others)
        create_app(self.settings)  # opens the challenge
        self.engine = open_database(database)
        _, self.public = open_challenge(self.engine, LABELS, None, None)
        self.worker = Worker(self.engine, (PROTOCOL,), LABELS, self.public, 60.0, None)
        self.answers = []

    def ask(self, angles, **fields):
        """Everything that the service tells of some predictions, as text, and the figure."""
        data = angles if isinstance(angles, bytes) else csv(angles)
        name = store.add_submission(self.engine, self.submitter, data, about(**fields), "", True, 10_000)
        job = store.claim(self.engine)
        task = Task(job.predictions, job.about, job.protocol, (PROTOCOL,), LABELS, 60.0, None)
        self.worker._finish(job, _assess(task), 0)
        state = show_submission(self.engine, name, "")
        self.answers.append(state)
        return state

    def figure(self, angles):
        return self.ask(angles).entry.scores.mae

    def mae(self, angles):
        """The MAE on the public part, computed by itself."""
        rows = np.isin(LABELS.subjects, list(self.public))
        return np.abs((angles - TRUE + 180) % 360 - 180)[rows].mean()


@pytest.fixture
def attacker(lite, monkeypatch):
    from benchmark.scoring import score

    # The bootstrap takes its time and tells nothing here.
    real = score.assess
    monkeypatch.setattr(score, "assess", lambda *a, **k: real(*a, resamples=2, **k))
    found = Attacker(lite)
    yield found
    found.engine.dispose()


SECRET = soak_attacks.Secret("labels", TRUE, LABELS.sequences)


def off(error, bias=0.0, seed=0):
    return soak_attacks.guesses(TRUE, LABELS.sequences, error, bias, seed)


# ---- the Ladder


def test_a_figure_is_new_only_a_step_below_the_best_told():
    assert climb(4.3241, None, STEP) == 4.3
    assert climb(4.2001, 4.3, STEP) is None and climb(4.1999, 4.3, STEP) == 4.2 and climb(9.0, 4.3, STEP) is None
    assert climb(1.234, 3.0, 0.5) == 1.0 and climb(0.0, 0.1, 0.1) is None


# ---- the attacks


def test_offsets_tell_nothing(attacker):
    """Of errors by groups, +-40 degrees make linear equations: of the one figure they make none."""
    base = off(3.0, bias=3.0)
    found = soak_attacks.play("offsets", soak_attacks.by_offsets, base, SECRET, attacker.figure)
    first, *told = [answer.entry.scores.mae for answer in attacker.answers]
    assert first == pytest.approx(attacker.mae(base), abs=STEP / 2 + 0.01)
    assert len(told) == 24 and set(told) == {first} and found.informative == 0
    assert {answer.entry.improved for answer in attacker.answers[1:]} == {False}
    assert found.after == found.before > found.in_full + 0.3  # which is what they gain elsewhere


def test_what_lowers_the_figure_is_no_way_to_climb(attacker):
    """Single frames that are moved one after another, each kept if the figure falls, as without a Ladder it does."""
    base = off(4.0)
    found = soak_attacks.play("climbing", soak_attacks.by_climbing, base, SECRET, attacker.figure)
    assert len({answer.entry.scores.mae for answer in attacker.answers}) == 1 and found.queries == 61
    assert found.after == found.before > found.in_full and found.informative == 0


def test_a_constant_of_a_sequence_is_told_in_steps_alone(attacker):
    """A whole sequence that is mended lowers the figure by steps: it may be told, and nothing finer."""

    def play(sequence, submitter):
        attacker.submitter = submitter  # who has a Ladder of their own
        base, rows = off(1.0), LABELS.sequences == sequence
        base[rows, 1] += soak_attacks.WRONG
        turn_back = partial(soak_attacks.by_shifts, sequence=sequence)
        before = len(attacker.answers)
        found = turn_back(soak_attacks.Base(base, LABELS.sequences), attacker.figure)
        return (base - found)[rows, 1].max(), attacker.answers[before:], rows

    # A private sequence's is not told at all.
    shift, answers, _ = play(next(name for name in "abcd" if name not in attacker.public), "lab")
    assert shift == 0 and len({state.entry.scores.mae for state in answers}) == 1
    shift, answers, rows = play(next(name for name in "abcd" if name in attacker.public), "other")
    told = [state.entry.scores.mae for state in answers]
    assert all(after <= before for before, after in pairwise(told))
    assert all(round(figure / STEP, 6) == round(figure / STEP) for figure in told)
    # Each rung is a step below the last: as many as the whole gain has, and not one a query.
    rungs = [state.entry.scores.mae for state in answers if state.entry.improved]
    assert all(above - below >= STEP - 1e-9 for above, below in pairwise(rungs))
    assert 1 < len(rungs) <= 1 + (rungs[0] - rungs[-1]) / STEP + 1e-6 < 1 + len(told)
    # What that gains: the offset, as coarsely as the step is for the share of this sequence and of one angle.
    share = rows.sum() / np.isin(LABELS.subjects, list(attacker.public)).sum() / 3
    assert abs(shift - soak_attacks.WRONG) <= 2 * STEP / share + 0.5
    print(f"offset of 12 found as {shift:g} by {len(told)} submissions, {len(rungs)} of which told a figure")


def test_faulty_submissions_ask_nothing(attacker, monkeypatch):
    """Predictions beside a fault look like the labels in other columns, orders and units: nothing is said of it."""
    from benchmark.scoring import check

    def looked(*_args):
        raise AssertionError("labels were looked at")

    def no_order(text):
        return b"\n".join([text.split(b"\n")[0], *text.split(b"\n")[1:-1][::-1], b""])

    monkeypatch.setattr(check, "find_suspicions", looked)
    lines = csv(TRUE).split(b"\n")
    broken = {
        "extra": b"\n".join([*lines[:-1], b"none/00000,1,2,3", b""]),
        "missing": b"\n".join(lines[:-2]),
        "twice": b"\n".join([*lines[:-1], lines[1], b""]),
        "no number": csv(TRUE).replace(b",", b",x", 4),
    }
    swapped = {name: data.replace(b"pitch,yaw", b"yaw,pitch") for name, data in broken.items()}
    for data in [*broken.values(), *swapped.values(), *map(no_order, broken.values())]:
        state = attacker.ask(data)
        assert state.status == "faulty" and state.faults and state.suspicions == () and not state.counts
        assert "label" not in json.dumps([fault.what for fault in state.faults])
    # Nor by a fault of the description alone, beside predictions that are right.
    state = attacker.ask(csv(TRUE), camera="depth")
    assert state.status == "faulty" and [fault.where for fault in state.faults] == ["TOML, camera"]
    assert state.suspicions == ()
    # What the labels alone would call faulty is scored, and counts.
    assert attacker.ask(TRUE * np.pi / 7).status == "scored"
    told = [store.find_submission(attacker.engine, state.id) for state in attacker.answers]
    assert [state.counts for state in told] == [False] * (len(told) - 1) + [True]


def test_two_at_once_climb_one_ladder(database):
    """Scorings of a submitter end in any order, on any database; another one, or protocol, has a ladder of its own."""
    new_token(database, "lab")
    new_token(database, "other")
    create_app(settings(database))
    with closing_engine(database) as engine:
        entry = _assess(Task(predictions(), about(), "", (PROTOCOL,), LABELS, 60.0, None)).verdict
        told = {}
        for number, (submitter, mae, protocol) in enumerate((
            ("lab", 4.32, PROTOCOL.id), ("lab", 4.25, PROTOCOL.id), ("lab", 4.11, PROTOCOL.id),
            ("other", 4.25, PROTOCOL.id), ("lab", 4.25, "lab/b@1"), ("lab", 4.05, PROTOCOL.id),
        )):  # fmt: skip
            name = store.add_submission(engine, submitter, b"%d" % number, b"y", "", True, 100)
            verdict = replace(entry, entry=replace(entry.entry, protocol=replace(PROTOCOL, id=protocol)))
            parts = store.PartErrors(mae, None)
            store.finish(engine, store.claim(engine), verdict, "key", parts=parts)
            told[submitter, mae, protocol] = store.find_submission(engine, name).told
        assert [(one.mae, one.improved) for one in told.values()] == [
            (4.3, True), (4.3, False), (4.1, True), (4.2, True), (4.2, True), (4.1, False),
        ]  # fmt: skip


def test_the_newest_entry_of_a_name_counts_also_where_the_clock_was_put_back(database, monkeypatch):
    new_token(database)
    create_app(settings(database))
    entry = _assess(Task(predictions(), about(), "", (PROTOCOL,), LABELS, 60.0, None)).verdict
    with closing_engine(database) as engine:
        for year, notes, mae in ((2031, "ahead", 4.2), (2026, "mended", 4.0), (2026, "last", 3.0)):
            monkeypatch.setattr(store, "now", lambda year=year: datetime(year, 3, 1, 12, tzinfo=timezone.utc))
            store.add_submission(engine, "lab", notes.encode(), b"y", "", True, 100)
            verdict = replace(entry, entry=replace(entry.entry, notes=notes))
            store.finish(engine, store.claim(engine), verdict, "key", parts=store.PartErrors(mae, None))
            (standing,) = entries.board(engine)
            assert standing.entry.notes == notes and standing.placed.told.mae == mae


# ---- what the service tells, over HTTP


def test_an_open_challenge_tells_one_figure_and_a_closed_one_all(database, hpp):
    token = new_token(database)
    head, *rows = predictions(1.0).decode().splitlines()
    swapped = "\n".join([head.replace("pitch,yaw", "yaw,pitch"), *rows]).encode()
    with serving(database) as client:
        odd = outcome(client, send(client, token, files(swapped, about("Swapped"))))
        better = outcome(client, send(client, token, files(predictions(2.0), about("Better"))))
        worse = outcome(client, send(client, token, files(predictions(3.0), about("Worse"))))
        hidden = outcome(client, send(client, token, files(predictions(1.5), about("Hidden")), publish="false"))
        assert [one["status"] for one in (odd, better, worse, hidden)] == ["scored"] * 4
        assert [one["entry"]["improved"] for one in (odd, better, worse, hidden)] == [True, True, False, True]
        assert worse["entry"]["scores"] == better["entry"]["scores"] and worse["entry_url"] is None
        board = client.get("/api/entries").json()["entries"]
        assert [entry["name"] for entry in board] == ["Better", "Swapped"]
        for one in (odd, better, worse, hidden):
            assert one["suspicions"] == [] and one["parts"] is None
            assert not set(FIGURES) & set(one["entry"]) and set(one["entry"]["scores"]) == {"mae"}
        pages = [client.get(url).text for url in ("/", odd["url"], odd["entry_url"], worse["url"])]
        assert "no step of 0.1 degrees better" in pages[-1] and "challenge is open" in pages[0]
        told = {f"{entry['scores']['mae']:.2f}" for entry in board} | {"0.1"}
        for page in pages:  # no number but the figures told, of what stands in the body's text
            text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", page, flags=re.S)
            text = re.sub(r"\d+\.\d+\.\d+|[\w.-]*\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|SHA-256.*", " ", text)
            assert set(re.findall(r"\d+\.\d+", text)) <= told, page

        end = time.monotonic() + 60
        with closing_engine(database) as engine:
            while store.claim_unlooked(engine) is not None:  # what is odd beside the labels is looked for in time
                assert time.monotonic() < end
                time.sleep(0.05)
        assert client.get(odd["url"].replace("/sub", "/api/sub")).json()["suspicions"] == []

        assert "the challenge is closed" in hpp("serve", "close", "--database", database).output
        again = hpp("serve", "close", "--database", database, expect=1).output
        assert "its challenge was closed at" in again and "Traceback" not in again
        refused = send(client, token)
        assert refused.status_code == 403 and refused.json()["detail"].startswith("the challenge is closed")
        assert "The challenge is closed" in client.get("/submit").text
    with serving(database) as client:  # a restart keeps it
        assert send(client, token).status_code == 403
        board = client.get("/api/entries").json()["entries"]
        assert [entry["name"] for entry in board] == ["Better", "Worse", "Swapped"]
        assert all(entry["intervals"] and entry["by"]["subject"] and entry["parts"]["private"] for entry in board)
        found = client.get(f"/api/submissions/{odd['id']}").json()
        assert "columns look swapped" in found["suspicions"][0]["what"]
        assert "columns look swapped" in found["entry"]["suspicions"][0]
        # Both parts together are all frames.
        assert found["parts"]["public"] != found["parts"]["private"]
        assert all(value == round(value, 2) for value in found["parts"].values())
        low, high = sorted(found["parts"].values())
        assert low <= found["entry"]["scores"]["mae"] <= high
        page = client.get("/").text
        assert "private part" in page and "looks odd" in page and page.index("Better") < page.index("Worse")
        assert "columns look swapped" in client.get(found["entry_url"]).text
        assert "Hidden" not in page and client.get(f"/api/submissions/{hidden['id']}").json()["entry"]["by"]["subject"]


def test_nothing_is_closed_that_is_not_open(lite, hpp):
    assert "no such database" in hpp("serve", "close", "--database", lite, expect=1).output
    new_token(lite)
    assert "holds no challenge; hpp serve opens one" in hpp("serve", "close", "--database", lite, expect=1).output


def test_what_was_queued_before_the_end_is_scored_and_told(lite, hpp):
    token = new_token(lite)
    create_app(settings(lite))
    with closing_engine(lite) as engine:
        name = store.add_submission(engine, "lab", predictions(), about(), "", True, 5)
    hpp("serve", "close", "--database", lite)
    with serving(lite) as client:
        found = client.get(f"/api/submissions/{name}?wait=60", headers=bearer(token)).json()
        assert found["status"] == "scored" and found["entry"]["intervals"]


def test_the_parts_are_a_databases_own_and_stay(lite, tmp_path):
    def parts(database, **options):
        with closing_engine(database) as engine:
            return open_challenge(engine, labels, options.get("private"), options.get("step"))

    ids = np.array([f"{person:02}/{frame}" for person in range(20) for frame in range(3)])
    labels = from_arrays(ids, to_matrix(np.zeros((60, 3))), camera="rgb")
    challenge, public = parts(lite)
    assert len(public) == 10 and (challenge.private, challenge.step) == (0.5, 0.1)
    assert parts(lite) == (challenge, public)  # a restart keeps them
    others = [parts(f"sqlite:///{tmp_path / f'{i}.db'}")[1] for i in range(3)]
    assert len({public, *others}) > 1  # what is public nobody knows from the labels' names
    few = parts(f"sqlite:///{tmp_path / 'few.db'}", private=0.9)[1]
    all_of_them = parts(f"sqlite:///{tmp_path / 'all.db'}", private=0.0)[1]
    assert (len(few), len(all_of_them)) == (2, 20)
    with pytest.raises(ServiceError, match=r"was opened with private 0.5, not 0.3, .*; leave `private` out, or open"):
        parts(lite, private=0.3)
    with pytest.raises(ServiceError, match=r"was opened with step 0.1, not 0.2"):
        parts(lite, step=0.2)
    assert parts(lite, private=0.5) == (challenge, public)


def test_labels_of_too_few_subjects_are_refused_and_nothing_is_opened(lite):
    few = LABELS._replace(subjects=np.where(LABELS.subjects == "a", "a", "b"))
    with pytest.raises(ServiceError, match=r"2 subjects: a public and a private part of 2 each need 4; give labels"):
        create_app(settings(lite)._replace(labels=few))
    app = create_app(settings(lite)._replace(labels=few, private=0.0))
    token = new_token(lite)
    with TestClient(app) as client:
        found = outcome(client, send(client, token))
        exact = np.abs(from_matrix(to_matrix(predicted())) - TRUE).mean()
        assert found["entry"]["scores"]["mae"] == pytest.approx(exact, abs=STEP / 2 + 0.001)


def predicted():
    rows = [line.split(",")[1:] for line in predictions().decode().splitlines()[1:]]
    return np.array(rows, float)


# ---- databases of before


def test_a_database_of_before_goes_on(database):
    """What was told in full stays so; what comes is a challenge's."""
    token = new_token(database)
    with serving(database) as client:
        old = outcome(client, send(client, token, files(text=about("Old"))))
    make_older(database, 1)
    with serving(database) as client:
        assert client.get(f"/api/submissions/{old['id']}").json()["entry"]["intervals"]
        new = outcome(client, send(client, token, files(predictions(1.0), about("New"))))
        assert set(new["entry"]["scores"]) == {"mae"} and "intervals" not in new["entry"]
        board = client.get("/api/entries").json()["entries"]
        assert [entry["name"] for entry in board] == ["New", "Old"] and "Old" in client.get("/").text
        assert client.get(old["entry_url"]).status_code == 200
    with closing_engine(database) as engine:
        assert len(listing(engine)) == 2
    assert make_protocol(LABELS) == PROTOCOL
