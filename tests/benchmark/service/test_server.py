"""The service as a server of its own, which is killed and loaded."""

import concurrent.futures
import re
import signal
import socket
import time
from contextlib import closing

import pytest
import sqlalchemy as sa

from benchmark.service import store
from benchmark.service.challenge import close
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
    upload,
    visitor,
)


def send_at_once(url, token, numbers):
    """Send a submission for each number, all at once; return their ids."""

    def send_one(number):
        with visitor(url) as client:
            sent = send(client, token, files(predictions(seed=number), about(f"Method {number}")))
            assert sent.status_code == 202, sent.text
            return sent.json()["id"]

    with concurrent.futures.ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(send_one, numbers))


def statuses(url, names, wait):
    with visitor(url, timeout=90) as client:
        return [client.get(f"/api/submissions/{name}?wait={wait}").json()["status"] for name in names]


@pytest.mark.slow
def test_fifty_in_flight_outlive_sigterm_and_a_kill(database, start):
    token = new_token(database)
    server = start(database)
    names = send_at_once(server.url, token, range(50))
    assert server.stop() in (0, -signal.SIGTERM)
    lines = server.lines()
    assert {line["status"] for line in lines if line["event"] == "request"} == {202}
    with closing_engine(database) as engine, engine.connect() as connection:
        counts = store.counts(engine)
        assert counts["running"] == 0 and sum(counts.values()) == 50 and counts["queued"] > 0
        assert [sum(line["event"] == kind for line in lines) for kind in ("queued", "scored")] == [50, counts["scored"]]
        attempts = sa.text("SELECT max(attempts) FROM hpp_submissions WHERE status = 'queued'")
        assert connection.execute(attempts).scalar() == 0  # being stopped does not count as one

    again = start(database)
    names += send_at_once(again.url, token, range(50, 58))
    again.stop(signal.SIGKILL)
    with closing_engine(database) as engine:
        counts = store.counts(engine)
        assert sum(counts.values()) == 58 and counts["queued"] + counts["running"] > 0

    last = start(database)
    assert len(set(names)) == 58 and statuses(last.url, names, 60) == ["scored"] * 58
    with closing_engine(database) as engine:
        close(engine)  # then all of them stand on the board
    with visitor(last.url) as client:
        board = client.get("/api/entries").json()["entries"]
    assert {entry["name"] for entry in board} == {f"Method {number}" for number in range(58)}
    assert last.stop() in (0, -signal.SIGTERM)
    assert {line["status"] for line in last.lines() if line["event"] == "request"} == {200}


@pytest.mark.slow
def test_logs_are_lines_of_json_without_a_secret(lite, start):
    token = new_token(lite)
    server = start(lite, "--max-mib", "1")
    with visitor(server.url) as client:
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
    from selenium.webdriver.support.ui import Select

    browser.implicitly_wait(30)  # a click returns before the page that it asks for is there
    token = new_token(lite)
    server = start(lite)
    (tmp_path / "p.csv").write_bytes(predictions())
    (tmp_path / "p.toml").write_bytes(about("By a TOML"))
    typed = {"token": "wrong", "name": HOSTILE, "authors": "A", "training_data": "SynHead++", "selection": "last epoch"}

    def find(name):
        return browser.find_element("id", name)

    def seen():
        names = [*typed, "uses_target_images", "convention", "camera"]
        return {name: find(name).get_attribute("value") for name in names}

    def wait_for(title):
        deadline = time.monotonic() + 60
        while browser.title != title:  # the page looks again by itself
            assert time.monotonic() < deadline, browser.page_source
            time.sleep(0.2)

    browser.get(f"{server.url}/submit")
    for name, text in typed.items():
        find(name).send_keys(text)
    for name, word in (("uses_target_images", "yes"), ("convention", "pyr"), ("camera", "rgb")):
        next(option for option in Select(find(name)).options if option.text.startswith(word)).click()
    find("predictions").send_keys(str(tmp_path / "p.csv"))
    before = seen()
    browser.find_element("css selector", "form button").click()
    assert "no valid token" in browser.find_element("css selector", "[role=alert]").text
    assert seen() == before | {"token": ""}
    assert browser.execute_script("return document.activeElement.getAttribute('role')") == "alert"
    browser.find_element("css selector", "[role=alert] a").click()  # leads to the field
    assert browser.current_url.endswith("#token")
    find("token").send_keys(token)
    browser.find_element("css selector", "form button").click()
    assert browser.execute_script("return document.querySelector(':invalid:not(form)').id") == "predictions"
    find("predictions").send_keys(str(tmp_path / "p.csv"))
    browser.find_element("css selector", "form button").click()
    wait_for("Submission: scored")
    assert browser.find_element("css selector", "h1 bdi").text.startswith("</script><script>")
    browser.find_element("link text", "The entry's page").click()
    assert browser.find_element("css selector", "h1").text.startswith("</script><script>")
    assert browser.execute_script("return window.hacked") is None

    browser.get(f"{server.url}/submit")
    browser.find_element("css selector", "summary").click()
    find("toml-token").send_keys(token)
    find("toml-predictions").send_keys(str(tmp_path / "p.csv"))
    find("toml-about").send_keys(str(tmp_path / "p.toml"))
    browser.find_element("css selector", "details button").click()
    wait_for("Submission: scored")
    assert browser.find_element("css selector", "h1 bdi").text == "By a TOML"
    problems = [line["message"] for line in browser.get_log("browser") if "401 (Unauthorized)" not in line["message"]]
    assert problems == []
