"""The scoring service: with a test client, and as the real server where it is killed and loaded."""

import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET
from msgspec.structs import replace

httpx = pytest.importorskip("httpx")
sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi", reason="the service is not installed: pip install -e .[serve,dev]")

from fastapi.testclient import TestClient

from benchmark.scoring import protocols
from benchmark.scoring.entry import plain, read
from benchmark.scoring.figures import Bin, Distribution, Quantiles, Spread
from benchmark.scoring.labels import Labels, from_arrays, read_labels
from benchmark.service import app as service
from benchmark.service import privacy
from benchmark.service import store as service_store
from benchmark.service import worker as service_worker
from benchmark.service.database import ServiceError, open_store
from benchmark.service.log import Lines
from benchmark.service.privacy import SMALLEST_GROUP
from benchmark.service.settings import Settings
from headposeplus.errors import SubmissionError
from headposeplus.raw.manifest import ids_sha256
from headposeplus.rotations import from_matrix, to_matrix

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
FRAMES = 400


def make_labels():
    """Labels of four sequences, one of them of fewer frames than may be told of."""
    random = np.random.default_rng(7)
    angles = random.normal(0, (15, 25, 8), (FRAMES, 3))
    names = ["a"] * 150 + ["b"] * 120 + ["c"] * 100 + ["d"] * 30
    ids = np.array([f"{name}/{number:05d}" for number, name in enumerate(names)])
    return from_arrays(ids, to_matrix(angles))


def make_protocol(labels, name="lab/faces@1"):
    angles = from_matrix(labels.rotations)
    return replace(
        protocols.find("biwi+/pda@1"),
        id=name,
        title="Faces of the lab",
        test_set="faces",
        frames=len(labels.ids),
        frames_sha256=ids_sha256(labels.ids),
        label_mean=tuple(angles.mean(axis=0).round(3).tolist()),
        label_std=tuple(angles.std(axis=0).round(3).tolist()),
    )


LABELS = make_labels()
PROTOCOL = make_protocol(LABELS)


def predictions(error=2.0, seed=0, labels=LABELS):
    """A CSV with these labels and noise, and a TOML."""
    angles = from_matrix(labels.rotations) + np.random.default_rng(seed).normal(0, error, (len(labels.ids), 3))
    rows = [f"{name},{','.join(f'{value:.4f}' for value in row)}" for name, row in zip(labels.ids, angles, strict=True)]
    return ("id,pitch,yaw,roll\n" + "\n".join(rows) + "\n").encode()


def about(name="My method", protocol=PROTOCOL.id, **more):
    fields = {
        "protocol": protocol, "name": name, "authors": "A. Author", "training_data": "SynHead++",
        "selection": "last epoch", "uses_target_images": True, "convention": "pyr", "camera": "rgb", **more,
    }  # fmt: skip
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items()).encode()


def files(data=None, text=None):
    return {"predictions": ("p.csv", data or predictions()), "about": ("p.toml", text or about())}


# What a child process runs in place of the scoring; it imports them from here.
def hang(*_args, **_kwargs):
    time.sleep(600)


def end(*_args, **_kwargs):
    os._exit(3)


def fill_memory(*_args, **_kwargs):
    return [bytes(1 << 28) for _ in range(64)]


def fail_with_a_label(_predictions, _about, _protocol, labels, **_kwargs):
    sys.stderr.write(f"label {labels.rotations[0]}\n")
    raise ValueError(f"label {labels.rotations[0, 0, 0]}")


def find_program(name):
    """A program of PostgreSQL's server, which stands in the PATH or where the system's packages put it."""
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None)
    if found is None:
        pytest.skip(f"no PostgreSQL server is installed: {name} is not in the PATH nor in /usr/lib/postgresql")
    return found


@pytest.fixture(scope="session")
def postgres():
    """The folder of the socket of a PostgreSQL server, which runs as another user where the tests run as root."""
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
    return new_database(request, request.param, tmp_path / "serve.db")


def new_database(request, kind, file):
    if kind == "sqlite":
        return f"sqlite:///{file}"
    folder = request.getfixturevalue("postgres")
    name = f"hpp_{time.monotonic_ns()}"
    administer(folder, f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={folder}"


def administer(folder, statement):
    psycopg = pytest.importorskip("psycopg")
    with closing(psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True)) as connection:
        connection.execute(statement)


@pytest.fixture
def lite(tmp_path):
    return f"sqlite:///{tmp_path / 'serve.db'}"


def settings(database, **more):
    return Settings(database, (PROTOCOL,), LABELS, **{"daily": 100, "per_minute": 1000, **more})


def new_token(database, name="lab"):
    engine = open_store(database)
    try:
        return service_store.add_token(engine, name)
    finally:
        engine.dispose()


@contextmanager
def serving(database, assess=None, **more):
    """A client of a service whose worker runs."""
    with TestClient(service.create_app(settings(database, **more), assess), follow_redirects=False) as client:
        yield client


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def send(client, token, parts=None, **fields):
    return client.post("/api/submissions", files=parts or files(), data=fields, headers=bearer(token))


def outcome(client, sent, wait=60):
    assert sent.status_code == 202, sent.text
    found = client.get(f"/api/submissions/{sent.json()['id']}?wait={wait}", timeout=wait + 10)
    assert found.status_code == 200, found.text
    return found.json()


# The whole way.


def test_a_submission_is_scored_and_stands_on_the_board(database):
    token = new_token(database)
    with serving(database) as client:
        sent = send(client, token)
        assert sent.json()["status"] == "queued" and sent.headers["location"] == f"/api/submissions/{sent.json()['id']}"
        found = outcome(client, sent)
        assert (found["status"], found["faults"]) == ("scored", []) and found["publish"] is True
        # An independent way: noise of a normal distribution has the mean size sigma * sqrt(2 / pi).
        assert found["entry"]["scores"]["mae"] == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.05)
        assert "My method" in client.get("/").text
        assert "My method" in client.get(found["entry_url"]).text
        board = client.get("/api/entries").json()["entries"]
        assert [entry["name"] for entry in board] == ["My method"]
        assert f"/entries/{board[0]['key']}" == found["entry_url"]

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
        # Another submitter's does not.
        outcome(client, send(client, theirs, files(text=about(notes="theirs"))))
        assert {entry["notes"] for entry in client.get("/api/entries").json()["entries"]} == {"newer", "theirs"}


def test_what_is_not_published_is_seen_by_those_who_know_its_address_alone(lite):
    token = new_token(lite)
    with serving(lite) as client:
        found = outcome(client, send(client, token, publish="false"))
        assert found["status"] == "scored" and found["entry"]["scores"] and found["entry_url"] is None
        assert client.get("/api/entries").json() == {"entries": []}
        assert "My method" not in client.get("/").text
        assert "not published" in client.get(found["url"]).text


def test_an_entry_is_taken_off_the_board(database, hpp):
    token = new_token(database)
    with serving(database) as client:
        found = outcome(client, send(client, token))
        key = found["entry_url"].rpartition("/")[2]
        assert "My method" in client.get("/").text and client.get(f"/entries/{key}").status_code == 200
        assert f"{key} is off the board" in hpp("serve", "withdraw", key, "--database", database).output
        assert "My method" not in client.get("/").text and client.get(f"/entries/{key}").status_code == 404
        assert client.get("/api/entries").json() == {"entries": []}
        assert client.get(f"/api/submissions/{found['id']}").json()["status"] == "scored"
        again = hpp("serve", "withdraw", key, "--database", database, expect=1).output
        assert "no published entry has this key" in again


def test_faults_are_told_and_the_predictions_dropped(database):
    token = new_token(database)
    lines = predictions().decode().splitlines()
    lines[3] = lines[3].partition(",")[0] + ",x,1,2"
    with serving(database) as client:
        found = outcome(client, send(client, token, files("\n".join([*lines[:-1]]).encode())))
        assert found["status"] == "faulty" and found["entry"] is None and len(found["faults"]) >= 2
        assert all(set(fault) == {"what", "where", "mend"} for fault in found["faults"])
        assert any("missing" in fault["what"] for fault in found["faults"])
        page = client.get(found["url"]).text
        assert "missing" in page and 'http-equiv="refresh"' not in page
        assert client.get("/api/entries").json() == {"entries": []}
    with closing_engine(database) as engine, engine.connect() as connection:
        kept = connection.execute(sa.text("SELECT predictions FROM hpp_submissions")).scalar()
    assert kept is None


@contextmanager
def closing_engine(database):
    engine = open_store(database)
    yield engine
    engine.dispose()


def test_a_suspicion_is_told_without_a_figure(lite):
    token = new_token(lite)
    head, *rows = predictions().decode().splitlines()
    swapped = "\n".join([head.replace("pitch,yaw", "yaw,pitch"), *rows]).encode()
    with serving(lite) as client:
        found = outcome(client, send(client, token, files(swapped)))
        assert found["status"] == "scored" and "swapped" in found["suspicions"][0]["what"]
        assert not re.search(r"\d\.\d", json.dumps([found["suspicions"], found["entry"]["suspicions"]]))
        assert "swapped" in client.get(found["url"]).text


def test_several_protocols_on_the_same_labels(lite):
    other = replace(make_protocol(LABELS, "lab/others@1"), task="cross", training_data="any")
    token = new_token(lite)
    app = service.create_app(settings(lite)._replace(protocols=(PROTOCOL, other)))
    with TestClient(app) as client:
        said = outcome(client, send(client, token, files(text=about(protocol=other.id))))
        named = outcome(client, send(client, token, files(text=about(protocol="")), protocol=PROTOCOL.id))
        unsaid = outcome(client, send(client, token, files(text=about(protocol=""))))
        assert said["entry"]["protocol"]["id"] == other.id and named["entry"]["protocol"]["id"] == PROTOCOL.id
        assert unsaid["status"] == "faulty" and f"{PROTOCOL.id}, {other.id}" in unsaid["faults"][0]["mend"]
        listed = client.get("/api/protocols").json()["protocols"]
        assert [one["id"] for one in listed] == [PROTOCOL.id, other.id]
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
        found = outcome(client, send(client, token, files("\n".join(rows).encode(), filled.encode())))
        assert found["status"] == "scored", found["faults"]
        assert client.get("/api/template/none@1").status_code == 404
        assert client.get(f"{url}?format=exe").status_code == 422


# What leaves.


def test_no_label_leaves(lite):
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
        texts = {path: client.get(path).text for path in paths}
    values = np.concatenate([from_matrix(LABELS.rotations).ravel(), LABELS.rotations.ravel()])
    forms = {f"{value:.{digits}f}" for value in values.tolist() for digits in (4, 5, 6)}
    for path, text in texts.items():
        assert not forms & set(re.findall(r"-?\d+\.\d+", text)), path
    entry = scored["entry"]
    groups = [group for kind in entry["by"].values() for group in kind]
    assert {group["name"] for group in entry["by"]["sequence"]} == {"a", "b", "c"}  # d has 30 frames
    assert groups and all(group["frames"] >= SMALLEST_GROUP for group in groups)
    assert "worst" not in json.dumps(entry)


def test_an_error_that_is_one_frames_does_not_leave():
    percents, spread = tuple(map(float, range(101))), Spread(2.34567, 3.0, 0.98765, 0.99, 1.0)
    kept = read(next((Path(__file__).resolve().parents[3] / "results/demo/scoreboard").glob("*.json")).read_bytes())
    entry = replace(
        kept,
        protocol=replace(PROTOCOL, frames=2000),
        scores=replace(kept.scores, mae=1.23456),
        quantiles=Quantiles(percents, percents),
        distribution=Distribution(spread, spread),
        by=replace(kept.by, yaw=(Bin(0, 15, 49, 1.0, 1.0), Bin(15, 30, 50, 2.0, 2.0))),
    )
    found = privacy.shown(entry)
    # 50 of 2000 frames are 2.5 %: beyond that the quantiles stay as they are there.
    clipped = (3.0, 3.0, 3.0, *percents[3:98], 97.0, 97.0, 97.0)
    assert found.quantiles == Quantiles(clipped, clipped) and found.scores.mae == 1.23
    assert found.by.yaw == (Bin(15, 30, 50, 2.0, 2.0),)
    assert all(part.frames >= 50 for part in (*found.by.pitch, *found.by.yaw_pitch, *found.by.subject))
    assert found.distribution.mae == Spread(2.35, 3.0, 0.988, 0.99, 1.0)
    assert found.protocol.label_mean == PROTOCOL.label_mean and entry.quantiles.mae == percents

    found = privacy.shown(replace(entry, protocol=replace(PROTOCOL, frames=400)))
    assert found.quantiles.mae[:14] == (13.0,) * 14 and found.distribution.geodesic.p95 is UNSET
    assert "p95" not in plain(found)["distribution"]["mae"]
    found = privacy.shown(replace(entry, protocol=replace(PROTOCOL, frames=99)))
    assert not {"quantiles", "distribution"} & set(plain(found))


def test_hostile_texts_stay_texts(lite):
    token = new_token(lite)
    texts = about(
        HOSTILE, authors=f'"{HOSTILE}', link="javascript:alert(1)", notes="=cmd|' /C calc'!A0", commit=HOSTILE
    )
    with serving(lite) as client:
        parts = {"predictions": (f"../../etc/{HOSTILE}\x00.csv", predictions()), "about": ("/etc/passwd", texts)}
        found = outcome(client, send(client, token, parts))
        if found["status"] == "faulty":  # the link may be refused
            assert "link" in json.dumps(found["faults"])
            parts["about"] = ("x", texts.replace(b"javascript:alert(1)", b""))
            pages = [client.get(found["url"]).text]
            found = outcome(client, send(client, token, parts))
        else:
            pages = []
        assert found["status"] == "scored", found["faults"]
        pages += [client.get(path).text for path in ("/", found["entry_url"], found["url"])]
        bad = outcome(client, send(client, token, files(f"id,{HOSTILE}\n{HOSTILE},1\n".encode(), about(HOSTILE))))
        pages.append(client.get(bad["url"]).text)
    for page in pages:
        assert "<script>window" not in page and "<img" not in page and 'href="javascript' not in page


def test_every_answer_has_an_id_and_the_headers_of_security(lite):
    with serving(lite) as client:
        for path in ("/", "/submit", "/api/entries", "/healthz", "/entries/none", "/none", "/api/submissions/none"):
            for accept in ("text/html", "*/*"):
                found = client.get(path, headers={"Accept": accept})
                assert re.fullmatch("[0-9a-f]{16}", found.headers["x-request-id"])
                assert found.headers["x-content-type-options"] == "nosniff"
                assert found.headers["x-frame-options"] == "DENY" and found.headers["referrer-policy"] == "no-referrer"
                if found.headers["content-type"].startswith("text/html"):
                    policy = found.headers["content-security-policy"]
                    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
                    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


# Who may send, and how much.


def test_who_has_no_valid_token_is_told_so_in_one_line(lite):
    token = new_token(lite)
    with serving(lite) as client:
        for headers in ({}, bearer("wrong"), {"Authorization": "Basic eDp5"}, bearer(""), {"Authorization": "Bearer"}):
            refused = client.post("/api/submissions", files=files(), headers=headers)
            assert refused.status_code == 401 and "no valid token" in refused.json()["detail"]
            assert refused.headers["www-authenticate"] == "Bearer"
        page = client.post("/api/submissions", files=files(), data={"token": HOSTILE}, headers={"Accept": "text/html"})
        assert page.status_code == 401 and "no valid token" in page.text and "<form" in page.text
        assert send(client, token).status_code == 202
        with closing_engine(lite) as engine:
            service_store.revoke(engine, "lab")
        assert send(client, token).status_code == 401
        fresh = new_token(lite)  # the same submitter may come back
        assert send(client, token).status_code == 401 and send(client, fresh).status_code == 202


def test_the_form_works_without_a_script(lite):
    token = new_token(lite)
    with serving(lite) as client:
        page = client.get("/submit").text
        assert 'action="/api/submissions"' in page and "<script" not in page
        sent = client.post(
            "/api/submissions", files=files(), data={"token": token, "publish": "true"},
            headers={"Accept": "text/html,application/xhtml+xml"},
        )  # fmt: skip
        assert sent.status_code == 303 and sent.headers["location"].startswith("/submissions/")
        name = sent.headers["location"].rpartition("/")[2]
        waiting = client.get(sent.headers["location"]).text
        assert ('http-equiv="refresh"' in waiting) == ("queued" in waiting or "running" in waiting)
        assert client.get(f"/api/submissions/{name}?wait=60").json()["status"] == "scored"
        done = client.get(sent.headers["location"])
        assert 'http-equiv="refresh"' not in done.text and "My method" in done.text
        assert done.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("request_of", "status", "says"),
    [
        (lambda: {"json": {"predictions": "x"}}, 415, "expected multipart/form-data"),
        (lambda: {"content": b"x" * 100}, 415, "expected multipart/form-data"),
        (
            lambda: {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b; charset=punycode"}},
            415,
            "without a charset",
        ),
        (lambda: {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        (lambda: {"content": b"nothing", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, ""),
        (lambda: {"files": {"about": ("a", about())}}, 422, "the file predictions is missing"),
        (lambda: {"files": {"predictions": ("a", b""), "about": ("a", about())}}, 422, "missing or empty"),
        (lambda: {"files": {"predictions": ("a", b"x")}}, 422, "about is missing"),
        (lambda: {"files": {"predictions": ("a", b"x"), "about": ("a", b"")}}, 422, "about is missing or empty"),
        (lambda: {"files": {"predictions": (None, b"x"), "about": ("a", b"x")}}, 422, "predictions is missing"),
        (lambda: {"files": files(), "data": {"publish": "perhaps"}}, 422, "expected true or false"),
        (lambda: {"files": [("predictions", ("a", b"x"))] * 3}, 400, "Too many files"),
        (lambda: {"files": files(), "data": {f"f{i}": "x" for i in range(9)}}, 400, "Too many fields"),
        (lambda: {"files": files(text=b"#" * 70_000)}, 413, "about has 70,000 bytes; at most 65,536"),
        (lambda: {"files": {"predictions": ("a", b"x"), "about": (None, "#" * 70_000)}}, 400, "maximum size"),
    ],
)  # fmt: skip
def test_what_is_no_submission_is_refused_in_one_line(lite, request_of, status, says):
    token = new_token(lite)
    with serving(lite) as client:
        given = request_of()
        given["headers"] = given.get("headers", {}) | bearer(token)
        refused = client.post("/api/submissions", **given)
        assert refused.status_code == status and says in refused.json()["detail"], refused.text
        assert "\n" not in refused.json()["detail"]
        with closing_engine(lite) as engine:
            assert sum(service_store.counts(engine).values()) == 0


def test_the_description_may_be_text(lite):
    token = new_token(lite)
    with serving(lite) as client:
        parts = {"predictions": ("p.csv", predictions()), "about": (None, about())}
        assert outcome(client, send(client, token, parts))["status"] == "scored"


def test_other_errors_are_one_line(lite):
    with serving(lite) as client:
        for method, path, status in (
            ("GET", "/none", 404), ("GET", "/entries/none", 404), ("GET", "/api/submissions/none", 404),
            ("GET", "/submissions/none", 404), ("DELETE", "/api/entries", 405), ("GET", "/api/submissions", 405),
            ("GET", "/api/submissions/none?wait=x", 422), ("GET", "/api/submissions/none?wait=1e9", 422),
            ("GET", "/docs", 404), ("GET", "/openapi.json", 404), ("GET", "/entries/..%2f..%2fetc%2fpasswd", 404),
        ):  # fmt: skip
            found = client.request(method, path)
            assert found.status_code == status and list(found.json()) == ["detail"], path
            assert found.json()["detail"] and "\n" not in found.json()["detail"]
            page = client.request(method, path, headers={"Accept": "text/html"})
            assert page.status_code == status and "<h1>" in page.text


def upload(length):
    """The body of a form with a file, in chunks."""
    yield b'--b\r\nContent-Disposition: form-data; name="predictions"; filename="p"\r\n\r\n'
    for _ in range(length >> 16):
        yield b"x" * (1 << 16)


def test_uploads_are_cut_off_while_they_are_read(lite):
    token = new_token(lite)
    kind = bearer(token) | {"Content-Type": "multipart/form-data; boundary=b"}
    with serving(lite, max_bytes=1 << 20) as client:
        refused = client.post("/api/submissions", content=upload(1 << 24), headers=kind)
        assert refused.status_code == 413 and "larger than" in refused.json()["detail"]
        declared = client.post("/api/submissions", content=b"x", headers=kind | {"Content-Length": str(1 << 30)})
        assert declared.status_code == 413 and f"{1 << 30:,}" in declared.json()["detail"]
        larger = send(client, token, files(b"x" * ((1 << 20) + 1)))
        assert larger.status_code == 413 and "predictions has 1,048,577 bytes" in larger.json()["detail"]
        with closing_engine(lite) as engine:
            assert sum(service_store.counts(engine).values()) == 0


def test_the_daily_limit_holds_under_concurrency(database):
    new_token(database)
    with closing_engine(database) as engine:

        def add(_):
            try:
                return service_store.add_submission(engine, "lab", b"x", b"y", "", True, 5)
            except service_store.DailyLimitError as error:
                assert 0 < error.seconds <= 86_400
                return None

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            names = [name for name in pool.map(add, range(40)) if name]
        assert len(names) == 5 and len(set(names)) == 5
        # Faulty ones do not count; another submitter has a limit of their own.
        job = service_store.claim(engine)
        service_store.finish(engine, job, {"entry": None, "faults": [], "suspicions": []})
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert len([name for name in pool.map(add, range(20)) if name]) == 1
        service_store.add_token(engine, "other")
        assert service_store.add_submission(engine, "other", b"x", b"y", "", True, 5)


def test_the_day_ends_at_midnight_utc(lite, monkeypatch):
    new_token(lite)
    time_now = datetime(2026, 3, 1, 23, 59, 30, tzinfo=timezone.utc)
    monkeypatch.setattr(service_store, "now", lambda: time_now)
    with closing_engine(lite) as engine:
        service_store.add_submission(engine, "lab", b"x", b"y", "", True, 1)
        with pytest.raises(service_store.DailyLimitError) as error:
            service_store.add_submission(engine, "lab", b"x", b"y", "", True, 1)
        assert error.value.seconds == 31
        time_now += timedelta(seconds=31)
        assert service_store.add_submission(engine, "lab", b"x", b"y", "", True, 1)


def test_the_daily_limit_is_told(lite):
    token = new_token(lite)
    with serving(lite, daily=1) as client:
        assert send(client, token).status_code == 202
        refused = send(client, token)
        assert refused.status_code == 429 and "1 submission" in refused.json()["detail"]
        assert 0 < int(refused.headers["retry-after"]) <= 86_401


def test_the_rate_limit_holds_under_concurrency(lite):
    token, other = new_token(lite), new_token(lite, "other")
    with serving(lite, per_minute=20) as client:

        def ask(_):
            return client.get("/api/protocols", headers=bearer(token)).status_code

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, range(50)))
        assert found.count(200) == 20 and found.count(429) == 30
        refused = client.get("/api/protocols", headers=bearer(token))
        assert "more than 20 requests in a minute" in refused.json()["detail"]
        assert 0 < int(refused.headers["retry-after"]) <= 61
        assert client.get("/api/protocols", headers=bearer(other)).status_code == 200
        # Without a token it is the address, and a token that is none is no way around.
        found = [client.get("/api/protocols", headers=bearer(f"wrong{i}")).status_code for i in range(25)]
        assert found == [200] * 20 + [429] * 5
        assert client.get("/healthz").status_code == 200


def test_a_form_counts_for_the_token_too(lite):
    token = new_token(lite)
    with serving(lite, per_minute=3) as client:
        found = [send(client, token).status_code for _ in range(2)]
        sent = client.post("/api/submissions", files=files(), data={"token": token})
        late = client.post("/api/submissions", files=files(), data={"token": token})
        assert [*found, sent.status_code, late.status_code] == [202, 202, 202, 429]


# Nothing brings it down.


@pytest.mark.parametrize(
    ("assess", "says", "event"),
    [
        (hang, "more than 1.5 seconds", "killed"),
        (end, "ended 3 times without an answer", "ended"),
        (fill_memory, "more than 2 GiB of memory", "failed"),
        (fail_with_a_label, "the scoring itself failed", "failed"),
    ],
)
def test_a_scoring_that_goes_wrong_is_a_fault_and_the_service_goes_on(lite, assess, says, event, caplog, capfd):
    token = new_token(lite)
    caplog.set_level("INFO", "hpp.serve")
    with serving(lite, assess, seconds=1.5 if assess is hang else 30) as client:
        found = outcome(client, send(client, token))
        assert found["status"] == "faulty" and says in found["faults"][0]["what"]
        assert event in [record.message for record in caplog.records]
        health = client.get("/healthz").json()
        assert (health["status"], health["queued"], health["running"]) == ("ok", 0, 0)
    lines = [Lines().format(record) for record in caplog.records]
    shown = "\n".join(lines) + json.dumps(found) + "".join(capfd.readouterr())
    assert "label" not in shown and f"{LABELS.rotations[0, 0, 0]:.4f}" not in shown


def test_each_row_is_claimed_once(database):
    new_token(database)
    with closing_engine(database) as engine:
        names = [service_store.add_submission(engine, "lab", b"x", b"y", "", True, 100) for _ in range(30)]
        taken = []

        def work():
            while job := service_store.claim(engine):
                taken.append(job.id)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == sorted(names)
        assert service_store.put_back(engine, unspent=True) == 30
        job = service_store.claim(engine)
        assert job.attempt == 1 and job.id == names[0]  # the oldest first
        # What was finished once is not finished again.
        verdict = {"entry": None, "faults": [], "suspicions": []}
        service_store.finish(engine, job, verdict)
        service_store.finish(engine, job, verdict | {"faults": [{"what": "late"}]})
        assert service_store.find_submission(engine, job.id).faults == []


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


# As a server of its own.


class Server:
    """``hpp serve`` in a process of its own, on a free port."""

    def __init__(self, database, folder, *options):
        self.log = folder / f"log-{time.monotonic_ns()}.jsonl"
        arguments = ["--database", database, "--port", "0", "--daily", "1000", "--per-minute", "100000", *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmark", "serve", *map(str, arguments)], stderr=log, stdout=log
            )
        deadline = time.monotonic() + 60
        while not (found := re.search(r'"url": "(http:[^"]+)/"', self.log.read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        self.url = found[1]

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path):
    """Start servers, and end those that still run."""
    servers = []
    labels, protocol = tmp_path / "labels.csv", tmp_path / "protocol.toml"
    labels.write_bytes(predictions(0))
    made = protocols.write(protocol, PROTOCOL.id, "pda", read_labels(labels), PROTOCOL.title, "rgb")
    assert made.id == PROTOCOL.id

    def run(database, *options):
        servers.append(Server(database, tmp_path, "--protocol", protocol, "--labels", labels, *options))
        return servers[-1]

    yield run
    for server in servers:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


def send_many(url, token, count):
    """Send submissions at once; return their ids and how long each took to be acknowledged."""

    def one(number):
        with httpx.Client(base_url=url, timeout=60) as client:
            sent = send(client, token, files(predictions(seed=number), about(f"Method {number}")))
            assert sent.status_code == 202, sent.text
            return sent.json()["id"]

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def statuses(url, names, wait):
    with httpx.Client(base_url=url, timeout=90) as client:
        return [client.get(f"/api/submissions/{name}?wait={wait}").json()["status"] for name in names]


@pytest.mark.slow
def test_fifty_in_flight_end_without_a_loss(database, start):
    token = new_token(database)
    server = start(database)
    names = send_many(server.url, token, 50)
    assert len(set(names)) == 50
    assert statuses(server.url, names, 60) == ["scored"] * 50
    board = httpx.get(f"{server.url}/api/entries").json()["entries"]
    assert {entry["name"] for entry in board} == {f"Method {number}" for number in range(50)}
    assert server.stop() in (0, -signal.SIGTERM)
    lines = server.lines()
    assert {line["status"] for line in lines if line["event"] == "request"} == {200, 202}
    assert [sum(line["event"] == kind for line in lines) for kind in ("queued", "scored")] == [50, 50]


@pytest.mark.slow
def test_what_was_acknowledged_outlives_a_kill(database, start):
    token = new_token(database)
    server = start(database)
    names = send_many(server.url, token, 8)
    server.stop(signal.SIGKILL)
    with closing_engine(database) as engine:
        found = service_store.counts(engine)
        assert sum(found.values()) == 8 and found["queued"] + found["running"] > 0
    again = start(database)
    assert statuses(again.url, names, 60) == ["scored"] * 8


@pytest.mark.slow
def test_sigterm_puts_running_scorings_back(lite, start):
    token = new_token(lite)
    server = start(lite)
    names = send_many(server.url, token, 8)
    assert server.stop() in (0, -signal.SIGTERM)
    with closing_engine(lite) as engine, engine.connect() as connection:
        found = service_store.counts(engine)
        assert found["running"] == 0 and sum(found.values()) == 8 and found["queued"] > 0
        attempts = sa.text("SELECT max(attempts) FROM hpp_submissions WHERE status = 'queued'")
        assert connection.execute(attempts).scalar() == 0  # being stopped does not count as one
    assert statuses(start(lite).url, names, 60) == ["scored"] * 8


@pytest.mark.slow
def test_logs_are_lines_of_json_without_a_secret(lite, start):
    token = new_token(lite)
    server = start(lite, "--max-mib", "1")
    with httpx.Client(base_url=server.url, timeout=60) as client:
        sent = send(client, token)
        name = outcome(client, sent)["id"]
        client.get(f"/submissions/{name}")
        client.get('/none"%0a{}', headers=bearer("wrong-token"))
        # As a real upload: the answer is read although the whole of it was not.
        late = send(client, token, files(b"x" * (3 << 20)))
        assert late.status_code == 413 and "bytes; at most" in late.json()["detail"]
        kind = bearer(token) | {"Content-Type": "multipart/form-data; boundary=b"}
        chunked = client.post("/api/submissions", content=upload(1 << 22), headers=kind)
        assert chunked.status_code == 413 and "larger than" in chunked.json()["detail"]
    with closing(socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))) as raw:
        raw.sendall(b"\x00\xff nonsense\r\n\r\n")
        raw.recv(1000)
    server.stop()
    text = server.log.read_text()
    lines = server.lines()  # every line is JSON
    assert token not in text and name not in text and "wrong-token" not in text and name[:8] in text
    requests = [line for line in lines if line["event"] == "request"]
    assert all({"time", "id", "method", "path", "status", "ms", "submitter"} <= set(line) for line in requests)
    assert requests[0]["submitter"] == "lab" and requests[0]["id"] == sent.headers["x-request-id"]
    assert {"queued", "scored", "listening"} <= {line["event"] for line in lines}
    assert not re.findall(r"\d\.\d{4}", text.replace("127.0.0.1", ""))


@pytest.mark.slow
def test_a_person_sends_predictions_with_a_browser(lite, start, browser, tmp_path):
    token = new_token(lite)
    server = start(lite)
    (tmp_path / "p.csv").write_bytes(predictions())
    (tmp_path / "p.toml").write_bytes(about(HOSTILE))

    def fill(word):
        browser.get(f"{server.url}/submit")
        browser.find_element("name", "token").send_keys(word)
        browser.find_element("name", "predictions").send_keys(str(tmp_path / "p.csv"))
        browser.find_element("name", "about").send_keys(str(tmp_path / "p.toml"))
        browser.find_element("css selector", "form button").click()

    fill("wrong")
    assert "no valid token" in browser.find_element("css selector", "[role=alert]").text
    fill(token)
    deadline = time.monotonic() + 60
    while browser.title != "Submission: scored":  # the page looks again by itself
        assert time.monotonic() < deadline, browser.page_source
        time.sleep(0.2)
    assert browser.find_element("css selector", "h1 bdi").text.startswith("</script><script>")
    browser.find_element("link text", "All figures of the entry").click()
    assert browser.find_element("css selector", "h1").text.startswith("</script><script>")
    assert browser.execute_script("return window.hacked") is None
    problems = [line["message"] for line in browser.get_log("browser") if "401 (Unauthorized)" not in line["message"]]
    assert problems == []


@pytest.mark.slow
def test_served_from_built_datasets(built, lite, start, tmp_path):
    data, _ = built
    labels = read_labels(data)
    made = protocols.write(tmp_path / "mini.toml", "lab/mini@1", "pda", labels, "Miniature", "rgb")
    token = new_token(lite)
    server = Server(lite, tmp_path, "--protocol", tmp_path / "mini.toml", "--data", data)
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            sent = send(client, token, files(predictions(labels=labels), about(protocol=made.id)))
            found = outcome(client, sent)
            assert found["status"] == "scored", found["faults"]
            assert client.get(found["entry_url"]).status_code == 200
    finally:
        server.stop()


# Backups.


def rows_of(database):
    with closing_engine(database) as engine, engine.connect() as connection:
        return {
            table: [tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY 1"))]
            for table in ("hpp_schema", "hpp_submitters", "hpp_submissions")
        }


@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_backup_goes_from_one_database_to_the_other(request, tmp_path, source, target, hpp):
    first = new_database(request, source, tmp_path / "a.db")
    second = new_database(request, target, tmp_path / "b.db")
    token = new_token(first)
    with serving(first) as client:
        scored = outcome(client, send(client, token))
        outcome(client, send(client, token, files(b"nonsense")))
        with closing_engine(first) as engine:
            service_store.add_submission(engine, "lab", bytes(range(256)) * 1000, b"\xff\x00", "", False, 100)
            assert "3 submissions" in hpp("serve", "backup", tmp_path / "backup.db", "--database", first).output
            assert service_store.find_submission(engine, scored["id"]).status == "scored"  # it goes on
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
    said = hpp("serve", "backup", tmp_path / "x.db", "--database", f"sqlite:///{tmp_path / 'text.db'}", expect=1).output
    assert "cannot be opened: file is not a database" in said and not (tmp_path / "x.db").exists()
    missing = f"sqlite:///{tmp_path / 'none.db'}"
    assert "no such database" in hpp("serve", "backup", tmp_path / "x.db", "--database", missing, expect=1).output
    assert not (tmp_path / "none.db").exists()


def test_tables_of_another_version_are_refused(database):
    new_token(database)
    with closing_engine(database) as engine, engine.begin() as connection:
        connection.execute(sa.text("UPDATE hpp_schema SET version = 99"))
    with pytest.raises(ServiceError, match="its tables have version 99, this toolkit's have version 1"):
        open_store(database)


# Commands.


def test_tokens_are_shown_once_and_kept_as_a_hash(database, tmp_path, hpp):
    token = hpp("serve", "token", "add", "Lab A", "--database", database).output.strip()
    assert re.fullmatch(r"[\w-]{43}", token)
    assert token not in str(rows_of(database))
    assert "has a token already" in hpp("serve", "token", "add", "Lab A", "--database", database, expect=1).output
    listed = hpp("serve", "token", "list", "--database", database).output
    assert "Lab A" in listed and token not in listed
    assert "revoked" in hpp("serve", "token", "revoke", "Lab A", "--database", database).output
    with closing_engine(database) as engine:
        assert service_store.find_submitter(engine, token) is None
        assert service_store.list_submitters(engine)[0].revoked
    again = hpp("serve", "token", "revoke", "Lab A", "--database", database, expect=1).output
    assert "has no valid token" in again
    for name in ("", " ", "x" * 81, "a\nb"):
        assert "expected a name" in hpp("serve", "token", "add", name, "--database", database, expect=1).output


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "name a protocol with --protocol"),
        (["--protocol", "biwi+/pda@1"], 2, "either --labels or --data"),
        (["--protocol", "none@1", "--labels", "{labels}"], 1, "none@1: no such protocol"),
        (["--protocol", "biwi+/pda@1", "--labels", "{labels}"], 1, "not the test set of biwi+/pda@1"),
        (["--protocol", "biwi+/pda@1", "--labels", "{tmp}/none.csv"], 1, "none.csv: no such file"),
        (["--protocol", "biwi+/pda@1", "token", "list"], 2, "put --protocol after token"),
        (["token", "list", "--database", "mysql://a:secret@b/c"], 1, "--database names 'mysql'"),
        (["token", "list", "--database", "sqlite://"], 1, "names no file"),
        (["token", "list", "--database", "no url: secret"], 1, "is not the URL of a database"),
        (["token", "list", "--database", "postgresql://a:secret@127.0.0.1:1/c"], 1, "cannot be opened"),
        (["token", "add", "x", "--database", "sqlite:////none/none/x.db"], 1, "cannot be opened: unable to open"),
    ],
)
def test_what_a_user_can_mend_is_one_line(tmp_path, hpp, arguments, status, says):
    (tmp_path / "labels.csv").write_bytes(predictions(0))
    words = [word.format(labels=tmp_path / "labels.csv", tmp=tmp_path) for word in arguments]
    output = hpp("serve", *words, expect=status).output
    assert len([line for line in output.splitlines() if line.startswith("Error: ")]) == 1
    assert says in output and "secret" not in output.replace("no url: secret", "") and "Traceback" not in output


def test_an_address_in_use_is_one_line(lite, tmp_path, hpp):
    labels = tmp_path / "labels.csv"
    labels.write_bytes(predictions(0))
    protocols.write(tmp_path / "p.toml", PROTOCOL.id, "pda", read_labels(labels), "Faces", "rgb")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        output = hpp("serve", "--protocol", tmp_path / "p.toml", "--labels", labels, "--database", lite,
                     "--port", port, expect=1).output  # fmt: skip
    assert f"Error: cannot listen at 127.0.0.1, port {port}" in output and "--port" in output


def test_labels_of_another_protocol_are_refused(lite):
    other = LABELS._replace(rotations=LABELS.rotations[::-1])
    turned = Labels(*other[:5]).take(np.arange(FRAMES - 1))
    with pytest.raises(SubmissionError, match="not the test set of lab/faces@1"):
        service.create_app(settings(lite)._replace(labels=turned))


def test_what_is_not_installed_is_named():
    code = """
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name.split(".")[0] == "fastapi":
            raise ModuleNotFoundError("No module named 'fastapi'", name=name)
sys.meta_path.insert(0, Absent())
from benchmark.cli.common import Commands
from benchmark.cli.serve import serve
main = Commands("hpp", commands={"serve": serve})
main(["serve", "token", "list"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "pip install 'headposeplus[serve]' (No module named 'fastapi')" in done.stderr


def test_a_description_names_its_protocol():
    other = replace(PROTOCOL, id="lab/b@1", task="da")
    both = (PROTOCOL, other)
    find = service_worker.find_protocol
    assert find("lab/b@1", about(), both) == other and find("", about(), both) == PROTOCOL
    assert find("", about(protocol="", task="da"), both) == other
    assert find("", about(protocol=""), both) is None and find("", b"\xff[[[", both) is None
    assert find("", b"x = " + b"[" * 60_000, (PROTOCOL,)) == PROTOCOL
    assert find("", about(protocol="none@1"), (PROTOCOL,)) is None
