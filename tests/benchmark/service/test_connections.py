"""Connections that ask nothing, against real servers: they keep nobody out."""

import logging
import shutil
import socket
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress

import httpx
import pytest
import uvicorn

from benchmark.service.connections import Limits, guarded, room_of
from benchmark.service.log import Once
from tests.benchmark.service.cases import new_token, send, visitor

linux = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("prlimit"), reason="needs prlimit and addresses 127.0.0.2 and up"
)


def address_of(url):
    return "127.0.0.1", httpx.URL(url).port


def connect(url, address=None):
    return socket.create_connection(address_of(url), timeout=20, source_address=address and (address, 0))


def status_of(url):
    with visitor(url) as client:
        return client.get("/").status_code


def is_open(connection):
    """Whether the other end has not closed: nothing can be read, not even the end."""
    connection.setblocking(False)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return False


# ---- the service


@linux
def test_three_hundred_silent_connections_keep_nobody_out(lite, start):
    """As many as the process may open files at first, from one address; some of them in the middle of a head."""
    token = new_token(lite)
    server = start(lite, files="300:512")
    with ExitStack() as stack:
        silent = []
        for number in range(300):
            silent.append(stack.enter_context(closing(connect(server.url))))
            if number < 50 and number % 2:
                with suppress(OSError):
                    silent[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        with visitor(server.url, "127.0.0.9") as honest:
            assert honest.get("/healthz").json()["status"] == "ok"
            assert send(honest, token).status_code == 202
        end = time.monotonic() + 10  # of some it is awaited who asks
        while sum(map(is_open, silent)) > 64:
            assert time.monotonic() < end
            time.sleep(0.05)
        # Who has too many is told so.
        silent[-1].setblocking(True)
        answer = silent[-1].recv(1000).decode()
        assert answer.startswith("HTTP/1.1 429") and "more open connections of one address than are taken" in answer
    server.stop()
    lines = server.lines()
    refused = [line for line in lines if line["event"] == "refused"]
    assert len(lines) < 30 and 1 <= len(refused) <= 3 and refused[0]["address"] == "127.0.0.1"
    assert not [line for line in lines if "error" in line]


@linux
def test_a_proxy_may_have_more_than_a_visitor(lite, start):
    server = start(lite, "--behind-proxy", "127.0.0.5")
    with ExitStack() as stack:
        of_proxy = [stack.enter_context(closing(connect(server.url, "127.0.0.5"))) for _ in range(150)]
        with visitor(server.url, "127.0.0.5") as proxy:
            assert proxy.get("/healthz", headers={"X-Forwarded-For": "9.9.9.9"}).status_code == 200
        assert all(map(is_open, of_proxy))


def test_accepting_has_files_to_spare():
    for files in (256, 1024, 65_536):
        room = room_of(files)
        assert 2 * room.total + 4 * room.at_once + 64 <= files and room.total >= 64


# ---- the protocol, with short times


async def app(scope, receive, send_on):
    """Answers after a while, or with more than a client takes."""
    import asyncio

    if scope["path"] == "/slow":
        await asyncio.sleep(1.0)
    large = bytes(16 << 20) if scope["path"] == "/large" else b"ok"
    length = (b"content-length", str(len(large)).encode())
    await send_on({"type": "http.response.start", "status": 200, "headers": [length]})
    await send_on({"type": "http.response.body", "body": large})


@contextmanager
def running(**limits):
    config = uvicorn.Config(
        app, http=guarded(Limits(100, **limits)), lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


def seconds_until_closed(connection, trickle=b""):
    began = time.monotonic()
    while is_open(connection):
        assert time.monotonic() < began + 20
        with suppress(OSError):
            connection.send(trickle)
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_head_has_to_come_in_time():
    ask = b"GET / HTTP/1.1\r\nHost: x\r\n"
    with running(head=0.6) as url:
        for begin, trickle in ((b"", b""), (ask, b""), (ask, b"X: y\r\n"), (b"G", b"E")):
            with closing(connect(url)) as silent:
                silent.sendall(begin)
                assert seconds_until_closed(silent, trickle) >= 0.5, begin
        with closing(connect(url)) as second:  # after an answer as well
            second.sendall(ask + b"\r\n")
            time.sleep(0.2)
            assert second.recv(1000).endswith(b"ok")
            second.sendall(ask)
            assert seconds_until_closed(second, b"X: y\r\n") >= 0.3
        # An answer may take longer, and requests may follow each other for longer.
        with visitor(url) as honest:
            assert honest.get("/slow").text == "ok"
            assert [honest.get("/").text for _ in range(8) if not time.sleep(0.15)] == ["ok"] * 8


def test_an_answer_has_to_be_taken():
    with running(head=5, stalled=0.6) as url, closing(connect(url)) as lazy:
        lazy.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(2.0)
        lazy.setblocking(True)
        taken = 0
        with suppress(ConnectionError):
            while part := lazy.recv(1 << 20):
                taken += len(part)
        assert taken < 16 << 20


def test_connections_are_counted_while_they_are_open():
    with running(per_address=2) as url:
        for _ in range(3):  # those that are closed count no more
            with closing(connect(url)), closing(connect(url)), closing(connect(url)) as third:
                assert third.recv(1000).startswith(b"HTTP/1.1 429")
            end = time.monotonic() + 10
            while status_of(url) != 200:
                assert time.monotonic() < end
                time.sleep(0.02)


def test_a_browser_beyond_the_limit_gets_a_page():
    ask = b"GET / HTTP/1.1\r\nHost: x\r\nAccept: %s\r\n\r\n"
    with running(per_address=2) as url, closing(connect(url)), closing(connect(url)):
        for accept, kind, says in (
            (b"text/html,*/*;q=0.8", "text/html", "<h1>Too many connections</h1>"),
            (b"*/*", "application/json", '{"detail": "more open connections of one address'),
        ):
            with closing(connect(url)) as third, third.makefile("rb") as answer:
                third.sendall(ask % accept)
                told = answer.read().decode()
            head, _, body = told.partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 429") and f"Content-Type: {kind}" in head and says in body
            assert f"Content-Length: {len(body.encode())}" in head
        # Who asks is not awaited of many.
        with ExitStack() as stack:
            began = time.monotonic()
            silent = [stack.enter_context(closing(connect(url))) for _ in range(40)]
            while sum(map(is_open, silent)) > 8:
                assert time.monotonic() < began + 10
                time.sleep(0.02)
            while any(map(is_open, silent)):
                assert time.monotonic() < began + 10
                time.sleep(0.02)


# ---- the log


def test_an_event_is_logged_once_in_a_while_with_its_count():
    once = Once(10.0)

    def passes(seconds, **fields):
        record = logging.LogRecord("x", logging.INFO, "", 0, "refused", None, None)
        record.created, record.fields = 1000.0 + seconds, fields
        return record.fields if once.filter(record) else None

    assert passes(0, address="a") == {"address": "a"}
    assert [passes(i / 1000, address="a") for i in range(5000)] == [None] * 5000
    assert passes(1, address="b") == {"address": "b"}
    assert passes(11, address="a") == {"address": "a", "again": 5000}
    assert passes(12, address="a") is None and passes(30, address="a") == {"address": "a", "again": 1}
    for number in range(5000):  # what is remembered is not more and more
        passes(40, address=number)
    assert len(once._last) <= 1000
