"""Who may send to the service, what, and how much."""

import concurrent.futures
import io
import zipfile

import pytest

from benchmark.service import store
from tests.benchmark.service.cases import (
    HOSTILE,
    about,
    bearer,
    closing_engine,
    files,
    new_token,
    outcome,
    predictions,
    send,
    serving,
    upload,
)


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
            store.revoke(engine, "lab")
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
        (lambda: {"files": files(), "data": {f"f{i}": "x" for i in range(30)}}, 400, "Too many fields"),
        (lambda: {"files": files(text=b"#" * 70_000)}, 413, "about has 70,000 bytes; at most 65,536"),
        (lambda: {"files": {"predictions": ("a", b"x"), "about": (None, "#" * 70_000)}}, 400, "maximum size"),
    ],
)  # fmt: skip
def test_what_is_no_submission_is_refused_in_one_line(lite, request_of, status, says):
    token = new_token(lite)
    with serving(lite) as client:
        request = request_of()
        request["headers"] = request.get("headers", {}) | bearer(token)
        refused = client.post("/api/submissions", **request)
        assert refused.status_code == status and says in refused.json()["detail"], refused.text
        assert "\n" not in refused.json()["detail"]
        with closing_engine(lite) as engine:
            assert sum(store.counts(engine).values()) == 0


def zipped(*entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def test_a_zip_is_taken_and_a_bomb_is_a_fault(lite):
    token = new_token(lite)
    with serving(lite) as client:
        plain = outcome(client, send(client, token))["entry"]["scores"]
        entries = [("sent/predictions.csv", predictions()), ("__MACOSX/sent/._predictions.csv", b"\0\5")]
        found = outcome(client, send(client, token, files(zipped(*entries))))
        assert found["status"] == "scored" and found["entry"]["scores"] == plain
        bomb = zipped(("predictions.csv", bytes(65 << 20)))
        found = outcome(client, send(client, token, files(bomb)))
        assert len(bomb) < 100_000 and found["status"] == "faulty"
        assert [fault["what"] for fault in found["faults"]] == ["more than 64 MiB unpacked"]
    with serving(lite, max_bytes=1000) as client:
        assert "at most 1,000 are taken" in send(client, token, files(zipped(*entries))).json()["detail"]


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
            response = client.request(method, path)
            assert response.status_code == status and list(response.json()) == ["detail"], path
            assert response.json()["detail"] and "\n" not in response.json()["detail"]
            page = client.request(method, path, headers={"Accept": "text/html"})
            assert page.status_code == status and "<h1>" in page.text


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
            assert sum(store.counts(engine).values()) == 0


def test_the_daily_limit_is_told(lite):
    token = new_token(lite)
    with serving(lite, daily=1) as client:
        assert send(client, token).status_code == 202
        refused = send(client, token, files(predictions(seed=1)))
        assert refused.status_code == 429 and "1 submission" in refused.json()["detail"]
        assert 0 < int(refused.headers["retry-after"]) <= 86_401


def test_the_rate_limit_holds_under_concurrency(lite):
    token, other = new_token(lite), new_token(lite, "other")
    with serving(lite, per_minute=20) as client:

        def ask(_):
            return client.get("/api/protocols", headers=bearer(token)).status_code

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(ask, range(50)))
        assert codes.count(200) == 20 and codes.count(429) == 30
        refused = client.get("/api/protocols", headers=bearer(token))
        assert "more than 20 requests in a minute" in refused.json()["detail"]
        assert 0 < int(refused.headers["retry-after"]) <= 61
        assert client.get("/api/protocols", headers=bearer(other)).status_code == 200
        # Without a token it is the address, and a token that is none is no way around.
        codes = [client.get("/api/protocols", headers=bearer(f"wrong{i}")).status_code for i in range(25)]
        assert codes == [200] * 20 + [429] * 5
        assert client.get("/healthz").status_code == 200


def test_a_form_counts_for_the_token_too(lite):
    token = new_token(lite)
    with serving(lite, per_minute=3) as client:
        codes = [send(client, token).status_code for _ in range(2)]
        sent = client.post("/api/submissions", files=files(), data={"token": token})
        late = client.post("/api/submissions", files=files(), data={"token": token})
        assert [*codes, sent.status_code, late.status_code] == [202, 202, 202, 429]
