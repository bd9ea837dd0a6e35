"""The scoring service with a test client: from a submission to the board, and what leaves."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from msgspec import UNSET
from msgspec.structs import replace

from benchmark.board.site import entry_page
from benchmark.scoring.entry import plain, read
from benchmark.scoring.figures import Bin, Distribution, Quantiles, Spread
from benchmark.service import privacy
from benchmark.service.app import create_app
from benchmark.service.privacy import SMALLEST_GROUP
from headposeplus.rotations import from_matrix
from tests.benchmark.service.cases import (
    HOSTILE,
    LABELS,
    PROTOCOL,
    about,
    closing_engine,
    files,
    make_protocol,
    new_token,
    outcome,
    predictions,
    send,
    serving,
    settings,
)


def test_a_submission_is_scored_and_stands_on_the_board(database):
    token = new_token(database)
    with serving(database) as client:
        sent = send(client, token)
        assert sent.json()["status"] == "queued" and sent.headers["location"] == f"/api/submissions/{sent.json()['id']}"
        submission = outcome(client, sent)
        assert (submission["status"], submission["faults"]) == ("scored", []) and submission["publish"] is True
        # An independent way: noise of a normal distribution has the mean size sigma * sqrt(2 / pi).
        assert submission["entry"]["scores"] == {"mae": pytest.approx(2 * np.sqrt(2 / np.pi), abs=0.2)}
        assert "My method" in client.get("/").text
        assert "My method" in client.get(submission["entry_url"]).text
        board = client.get("/api/entries").json()["entries"]
        assert [entry["name"] for entry in board] == ["My method"]
        assert f"/entries/{board[0]['key']}" == submission["entry_url"]

        again = outcome(client, send(client, token, files(predictions(error=1, seed=1), about("Better"))))
        assert again["status"] == "scored"
        assert [entry["name"] for entry in client.get("/api/entries").json()["entries"]] == ["Better", "My method"]
        page = client.get("/").text
        assert page.index("Better") < page.index("My method")
        assert client.get("/healthz").json()["status"] == "ok"


def test_the_same_predictions_again_take_the_place_of_the_older_entry(lite):
    mine, theirs = new_token(lite), new_token(lite, "other")
    with serving(lite) as client:
        first = outcome(client, send(client, mine, files(text=about(notes="older"))))
        second = outcome(client, send(client, mine, files(text=about(notes="newer"))))
        assert first["entry_url"] == second["entry_url"]
        assert [entry["notes"] for entry in client.get("/api/entries").json()["entries"]] == ["newer"]
        assert first["entry"]["scores"] == second["entry"]["scores"]
        assert (first["entry"]["improved"], second["entry"]["improved"]) == (True, False)
        # Another submitter's does not.
        outcome(client, send(client, theirs, files(text=about(notes="theirs"))))
        assert {entry["notes"] for entry in client.get("/api/entries").json()["entries"]} == {"newer", "theirs"}


def test_what_is_not_published_is_seen_by_those_who_know_its_address_alone(lite):
    token = new_token(lite)
    with serving(lite) as client:
        submission = outcome(client, send(client, token, publish="false"))
        assert submission["status"] == "scored" and submission["entry"]["scores"] and submission["entry_url"] is None
        assert client.get("/api/entries").json() == {"entries": []}
        assert "My method" not in client.get("/").text
        assert "not published" in client.get(submission["url"]).text


def test_an_entry_is_taken_off_the_board(database, hpp):
    token = new_token(database)
    with serving(database) as client:
        submission = outcome(client, send(client, token))
        key = submission["entry_url"].rpartition("/")[2]
        assert "My method" in client.get("/").text and client.get(f"/entries/{key}").status_code == 200
        assert f"{key} is off the board" in hpp("serve", "withdraw", key, "--database", database).output
        assert "My method" not in client.get("/").text and client.get(f"/entries/{key}").status_code == 404
        assert client.get("/api/entries").json() == {"entries": []}
        assert client.get(f"/api/submissions/{submission['id']}").json()["status"] == "scored"
        again = hpp("serve", "withdraw", key, "--database", database, expect=1).output
        assert "no published entry has this key" in again


def test_faults_are_told_and_the_predictions_dropped(database):
    token = new_token(database)
    lines = predictions().decode().splitlines()
    lines[3] = lines[3].partition(",")[0] + ",x,1,2"
    with serving(database) as client:
        submission = outcome(client, send(client, token, files("\n".join([*lines[:-1]]).encode())))
        assert submission["status"] == "faulty" and submission["entry"] is None and len(submission["faults"]) >= 2
        assert all(set(fault) == {"what", "where", "mend"} for fault in submission["faults"])
        assert any("missing" in fault["what"] for fault in submission["faults"])
        page = client.get(submission["url"]).text
        assert "missing" in page and 'http-equiv="refresh"' not in page
        assert client.get("/api/entries").json() == {"entries": []}
    with closing_engine(database) as engine, engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM hpp_predictions")).scalar() == 0


def test_several_protocols_on_the_same_labels(lite):
    other = replace(make_protocol(LABELS, "lab/others@1"), task="cross", training_data="any")
    token = new_token(lite)
    app = create_app(settings(lite)._replace(protocols=(PROTOCOL, other)))
    with TestClient(app) as client:
        described = outcome(client, send(client, token, files(text=about(protocol=other.id))))
        named = outcome(client, send(client, token, files(text=about(protocol="")), protocol=PROTOCOL.id))
        unsaid = outcome(client, send(client, token, files(text=about(protocol=""))))
        assert described["entry"]["protocol"]["id"] == other.id and named["entry"]["protocol"]["id"] == PROTOCOL.id
        assert unsaid["status"] == "faulty" and f"{PROTOCOL.id}, {other.id}" in unsaid["faults"][0]["mend"]
        listed = client.get("/api/protocols").json()["protocols"]
        assert [protocol["id"] for protocol in listed] == [PROTOCOL.id, other.id]
        assert "<select" in client.get("/submit").text
        refused = send(client, token, protocol="biwi+/pda@1")
        assert refused.status_code == 422 and other.id in refused.json()["detail"]


def test_the_template_can_be_filled_in_and_sent(lite):
    token = new_token(lite)
    with serving(lite) as client:
        url = client.get("/api/protocols").json()["protocols"][0]["template"]
        csv, toml = client.get(url), client.get(f"{url}?format=toml")
        assert csv.headers["content-type"].startswith("text/csv") and PROTOCOL.id in toml.text
        assert csv.text.splitlines()[1:] == [f"{name},,," for name in LABELS.ids]
        filled = re.sub(r'^(name|authors|training_data|selection) = ""', r'\1 = "SynHead++"', toml.text, flags=re.M)
        rows = [line.replace(",,,", ",1,2,3") for line in csv.text.splitlines()]
        rows[1] = rows[1].replace("1,2,3", "3,2,1")
        submission = outcome(client, send(client, token, files("\n".join(rows).encode(), filled.encode())))
        assert submission["status"] == "scored", submission["faults"]
        assert client.get("/api/template/none@1").status_code == 404
        assert client.get(f"{url}?format=exe").status_code == 422


# What leaves.


def test_no_label_leaves(lite, hpp):
    """Of an entry whose predictions are the labels and noise, of a faulty one, and of every page there is."""
    token = new_token(lite)
    with serving(lite) as client:
        scored = outcome(client, send(client, token))
        faulty = outcome(client, send(client, token, files(b"id,pitch,yaw,roll\na/00000,1,2,3\n")))
        paths = [
            "/", "/submit", "/api/entries", "/api/protocols", f"/api/template/{PROTOCOL.id}", "/healthz",
            f"/api/template/{PROTOCOL.id}?format=toml", scored["entry_url"], scored["url"], faulty["url"],
            f"/api{scored['url']}", f"/api{faulty['url']}",
        ]  # fmt: skip
        texts = {("open", path): client.get(path).text for path in paths}
        hpp("serve", "close", "--database", lite)
        texts |= {("closed", path): client.get(path).text for path in paths}
        entry = client.get(f"/api{scored['url']}").json()["entry"]
    values = np.concatenate([from_matrix(LABELS.rotations).ravel(), LABELS.rotations.ravel()])
    forms = {f"{value:.{digits}f}" for value in values.tolist() for digits in (4, 5, 6)}
    for where, text in texts.items():
        assert not forms & set(re.findall(r"-?\d+\.\d+", text)), where
    groups = [group for kind in entry["by"].values() for group in kind]
    assert {group["name"] for group in entry["by"]["sequence"]} == {"a", "b", "c"}  # d has 30 frames
    assert groups and all(group["frames"] >= SMALLEST_GROUP for group in groups)
    assert "worst" not in json.dumps(entry)


def test_an_error_that_is_one_frames_does_not_leave():
    percents, spread = tuple(map(float, range(101))), Spread(2.34567, 3.0, 0.05765, 0.10123, 0.15123)
    kept = read(next((Path(__file__).resolve().parents[3] / "results/demo/scoreboard").glob("*.json")).read_bytes())
    entry = replace(
        kept,
        protocol=replace(PROTOCOL, frames=2000),
        scores=replace(kept.scores, mae=1.23456),
        quantiles=Quantiles(percents, percents),
        distribution=Distribution(spread, spread),
        by=replace(kept.by, yaw=(Bin(0, 15, 49, 1.0, 1.0), Bin(15, 30, 50, 2.0, 2.0))),
    )
    found = privacy.publishable(entry)
    # 50 of 2000 frames are 2.5 %: beyond that the quantiles stay as they are there.
    clipped = (3.0, 3.0, 3.0, *percents[3:98], 97.0, 97.0, 97.0)
    assert found.quantiles == Quantiles(clipped, clipped) and found.scores.mae == 1.23
    assert found.by.yaw == (Bin(15, 30, 50, 2.0, 2.0),)
    assert all(part.frames >= 50 for part in (*found.by.pitch, *found.by.yaw_pitch, *found.by.subject))
    assert found.distribution.mae == Spread(2.35, 3.0, 0.05, 0.1, 0.15)
    assert found.protocol.label_mean == PROTOCOL.label_mean and entry.quantiles.mae == percents

    found = privacy.publishable(replace(entry, protocol=replace(PROTOCOL, frames=400)))
    assert found.quantiles.mae[:14] == (13.0,) * 14 and found.distribution.geodesic.p95 is UNSET
    # Within 5 and within 10 degrees lie fewer than 50 of 400: nobody is told how many.
    assert plain(found)["distribution"]["mae"] == {"median": 2.35, "within_15": 0.15}
    page = entry_page(found, few=SMALLEST_GROUP)
    curve = page[page.index("Share of frames below an error") :].partition("</figure>")[0]
    assert "drawn from 13 to 87 % of the frames" in curve and "99th frame" not in page
    assert "The 50 frames with the least error and the 50 with the largest are not shown." in curve
    assert "Figures of fewer than 50 frames are not shown" in page and '<td class="n">15 %</td>' in page
    found = privacy.publishable(replace(entry, protocol=replace(PROTOCOL, frames=99)))
    assert not {"quantiles", "distribution"} & set(plain(found))


def test_hostile_texts_stay_texts(lite):
    token = new_token(lite)
    texts = about(
        HOSTILE, authors=f'"{HOSTILE}', link="javascript:alert(1)", notes="=cmd|' /C calc'!A0", commit=HOSTILE
    )
    with serving(lite) as client:
        parts = {"predictions": (f"../../etc/{HOSTILE}\x00.csv", predictions()), "about": ("/etc/passwd", texts)}
        submission = outcome(client, send(client, token, parts))
        if submission["status"] == "faulty":  # the link may be refused
            assert "link" in json.dumps(submission["faults"])
            parts["about"] = ("x", texts.replace(b"javascript:alert(1)", b""))
            pages = [client.get(submission["url"]).text]
            submission = outcome(client, send(client, token, parts))
        else:
            pages = []
        assert submission["status"] == "scored", submission["faults"]
        pages += [client.get(path).text for path in ("/", submission["entry_url"], submission["url"])]
        bad = outcome(client, send(client, token, files(f"id,{HOSTILE}\n{HOSTILE},1\n".encode(), about(HOSTILE))))
        pages.append(client.get(bad["url"]).text)
    for page in pages:
        assert "<script>window" not in page and "<img" not in page and 'href="javascript' not in page


def test_every_answer_has_an_id_and_the_headers_of_security(lite):
    with serving(lite) as client:
        for path in ("/", "/submit", "/api/entries", "/healthz", "/entries/none", "/none", "/api/submissions/none"):
            for accept in ("text/html", "*/*"):
                response = client.get(path, headers={"Accept": accept})
                assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])
                assert response.headers["x-content-type-options"] == "nosniff"
                assert (
                    response.headers["x-frame-options"] == "DENY"
                    and response.headers["referrer-policy"] == "no-referrer"
                )
                if response.headers["content-type"].startswith("text/html"):
                    policy = response.headers["content-security-policy"]
                    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
                    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
