"""The service behind a reverse proxy: who asks, and all addresses below a path.

Visitors have the addresses 127.0.1.1 and up, the proxy asks from another one, and all are this machine.
"""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

from benchmark.service.app import create_app
from tests.benchmark.service.cases import (
    PROTOCOL,
    about,
    bearer,
    files,
    new_token,
    outcome,
    predictions,
    send,
    servers,
    serving,
    settings,
    visitor,
)

PAGE = (Path(__file__).parents[3] / "docs/challenge.md").read_text(encoding="utf-8")
PROXY = "127.0.3.1" if sys.platform == "linux" else "127.0.0.1"  # from where a proxy asks, where it can choose
JSON = "/api/protocols"


# ---- proxies


@contextmanager
def own(folder, server, strip):
    """A reverse proxy of a few lines, which adds who asks to X-Forwarded-For."""
    there = urlsplit(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {key: value for key, value in self.headers.items() if key.lower() != "x-forwarded-for"}
            said = [*self.headers.get_all("X-Forwarded-For", []), self.client_address[0]]
            headers |= {"X-Forwarded-For": ", ".join(said), "X-Forwarded-Proto": "http", "Connection": "close"}
            onward = http.client.HTTPConnection(there.hostname, there.port, source_address=(PROXY, 0), timeout=60)
            path = self.path.removeprefix("/heads") if strip else self.path
            onward.request(self.command, path, asked, headers)
            answer = onward.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            onward.close()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()


def snippet(language, server):
    """What the page says for a proxy, with the address of a server."""
    text = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]
    assert text.count("127.0.0.1:8000") == 1
    return text.replace("127.0.0.1:8000", urlsplit(server).netloc)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(folder, port, *command):
    """A proxy of the system, once it answers."""
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"HOME": str(folder)})
    end = time.monotonic() + 30
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, (folder / "proxy.log").read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextmanager
def nginx(folder, server, strip):
    """The snippet of the page in a real nginx."""
    location, port = snippet("nginx", server), free_port()
    location = location.replace("{\n", f"{{\n    proxy_bind {PROXY};\n", 1)
    if strip:
        location = re.sub(r"(proxy_pass [^;]+);", r"\1/;", location)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; {'user root;' if os.geteuid() == 0 else ''}\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}server {{\nlisten 127.0.0.1:{port};\n{location}}}\n}}\n"
    )
    with running(folder, port, "nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")) as url:
        yield url


@contextmanager
def caddy(folder, server, strip):
    """The snippet of the page in a real Caddy, without its TLS."""
    site, port = snippet("caddy", server), free_port()
    site = site.replace("faces.example.org {", f"http://127.0.0.1:{port} {{\n    bind 127.0.0.1", 1)
    if strip:
        site = re.sub(r"reverse_proxy (/\S+) (\S+)", r"handle_path \1 {\n    reverse_proxy \2\n    }", site)
    (folder / "Caddyfile").write_text(f"{{\n    admin off\n}}\n{site}")
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with running(folder, port, *command) as url:
        yield url


@pytest.fixture(params=[own, nginx, caddy], ids=lambda proxy: proxy.__name__)
def proxy(request):
    name = request.param.__name__
    if name != "own" and shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return request.param


@pytest.fixture(scope="module")
def begin(tmp_path_factory):
    """Start the service below /heads once for each limit and trusted proxy; return it, and a token."""
    folder = tmp_path_factory.mktemp("serve")
    with servers(folder) as start:

        @cache
        def run(limit, trusted):
            database = f"sqlite:///{folder / f'{limit}-{trusted}.db'}"
            words = ("--root-path", "/heads", "--behind-proxy", trusted, "--per-minute", limit)
            return start(database, *words), new_token(database)

        yield run


# ---- through them


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_each_visitor_has_a_limit_of_their_own(proxy, begin, tmp_path):
    server, _ = begin(2, "127.0.0.1" if proxy is caddy else PROXY)  # Caddy cannot choose from where it asks
    network = f"127.{1 + [own, nginx, caddy].index(proxy)}.1"  # each proxy has its own visitors
    address = server.url.removesuffix("/heads")
    with proxy(tmp_path, address, strip=False) as url:
        for number in range(1, 41):
            with visitor(url, f"{network}.{number}") as client:
                # What a visitor says of where they are counts for nothing.
                said = [{"X-Forwarded-For": f"9.9.{number}.{i}"} for i in range(3)]
                assert [client.get(f"/heads{JSON}", headers=one).status_code for one in said] == [200, 200, 429]
    # Nobody but the proxy says who asks, not even on its machine: here are some who would pass as others.
    for peer in (f"{network}.77", "127.0.0.1") if proxy is own else (f"{network}.77",):
        with visitor(address, peer) as client:
            said = [{"X-Forwarded-For": f"{network}.{90 + i}"} for i in range(3)]
            assert [client.get(f"/heads{JSON}", headers=one).status_code for one in said] == [200, 200, 429]
    (told,) = [line for line in server.lines() if line["event"] == "forwarded"]
    assert told["address"].endswith(".1.77") and "--behind-proxy does not name" in told["detail"]


def linked(text):
    """Every address that a page names, but for those outside and pictures that it holds."""
    found = re.findall(r'(?:href|src|action)="([^"]*)"', text)
    return {address for address in found if not address.startswith(("data:", "#", "https://"))}


@pytest.mark.parametrize("strip", [False, True])
def test_all_addresses_are_below_the_path(proxy, strip, begin, tmp_path):
    server, token = begin(1000, f"127.0.0.1,{PROXY}")
    assert server.url.endswith("/heads")
    with proxy(tmp_path, server.url.removesuffix("/heads"), strip) as url, visitor(url) as client:
        # A person's upload, larger than what a proxy takes by itself, and a program's.
        form = {"token": token, "publish": "true"}
        page = {"Accept": "text/html"}
        sent = client.post("/heads/api/submissions", files=files(b"x" * (3 << 20)), data=form, headers=page)
        assert sent.status_code == 303 and sent.headers["location"].startswith("/heads/submissions/")
        sent = send(client_below(client), token, files(predictions(), about("Method")))
        assert sent.headers["location"].startswith("/heads/api/submissions/")
        scored = client.get(f"{sent.headers['location']}?wait=60").json()
        assert scored["status"] == "scored" and scored["entry_url"].startswith("/heads/entries/")
        assert scored["url"].startswith("/heads/submissions/")
        (listed,) = client.get(f"/heads{JSON}").json()["protocols"]
        assert listed["template"] == f"/heads/api/template/{PROTOCOL.id}"

        wrong = {"token": "wrong"}
        refused = client.post("/heads/api/submissions", files=files(), data=wrong, headers=page)
        missing = client.get("/heads/none", headers=page)
        assert (refused.status_code, missing.status_code) == (401, 404)
        assert 'role="alert"' in refused.text  # the form again, with what was wrong
        waiting = {"/heads/", scored["url"], listed["template"], *linked(refused.text), *linked(missing.text)}
        seen = set()
        while waiting - seen:
            path = (waiting - seen).pop()
            seen.add(path)
            assert path.startswith("/heads/"), path
            if path != "/heads/api/submissions":  # where the form is sent
                answer = client.get(path, headers=page)
                assert answer.status_code == 200, path
                if answer.headers["content-type"].startswith("text/html"):
                    waiting |= linked(answer.text)
                if path == "/heads/submit":
                    assert f"{url}/heads/api/submissions\n" in answer.text  # the line for curl
        assert {"/heads/submit", scored["entry_url"], f"/heads/api{scored['url'].removeprefix('/heads')}"} < seen
        assert client.get("/heads/healthz").json()["status"] == "ok"

        # To the board, and to an address without its slash.
        assert client.get("/heads", follow_redirects=True).text == client.get("/heads/").text
        assert client.get("/heads/submit/").headers["location"] == "/heads/submit"
    name = scored["id"]
    assert name not in server.log.read_text() and name[:8] in server.log.read_text()


def client_below(client):
    """The client as that of a service at /heads."""
    return visitor(f"{client.base_url}/heads")


# ---- what counts as a visitor


@contextmanager
def asked(database, proxies, peer):
    """Ask as a peer, which passes on X-Forwarded-For; return the status. Each visitor may ask once."""
    app = create_app(settings(database, per_minute=1, proxies=proxies))
    with TestClient(app, client=(peer, 50000)) as client:
        yield lambda *forwarded: client.get(JSON, headers=[("X-Forwarded-For", one) for one in forwarded]).status_code


@pytest.mark.parametrize(
    ("proxies", "peer", "first", "again", "other"),
    [
        (("10.0.0.5",), "10.0.0.5", "1.2.3.4", "9.9.9.9, 1.2.3.4", "1.2.3.5"),
        (("10.0.0.0/24",), "10.0.0.7", "1.2.3.4, 10.0.0.9", "1.2.3.4", "1.2.3.4, 5.6.7.8, 10.0.0.9"),
        (("10.0.0.5",), "10.0.0.5", "1.2.3.4:8080", "1.2.3.4:9090", "[2001:db8::1]:80"),
        (("fd00::5",), "fd00:0::5", "2001:db8:1:1::1", "2001:db8:1:1::2", "2001:db8:1:2::1"),
        (("fd00::/64", "10.0.0.5"), "fd00::77", "1.2.3.4, 10.0.0.5", "1.2.3.4", "1.2.3.4, 10.0.0.6"),
        (("::1",), "::1", "::ffff:1.2.3.4", "1.2.3.4", "::ffff:1.2.3.5"),
    ],
)
def test_the_right_most_address_that_is_no_proxys_counts(lite, proxies, peer, first, again, other):
    with asked(lite, proxies, peer) as ask:
        assert [ask(first), ask(again), ask(other)] == [200, 429, 200]
        assert ask(f"8.8.8.8, {first}") == 429
        assert ask("8.8.8.8", first) == 429  # a header of its own counts no more


@pytest.mark.parametrize(("proxies", "peer"), [((), "127.0.0.1"), ((), "10.0.0.5"), (("10.0.0.5",), "10.0.0.6")])
def test_nobody_else_says_who_asks(lite, proxies, peer, caplog):
    caplog.set_level("INFO", "hpp.serve")
    with asked(lite, proxies, peer) as ask:
        assert [ask("1.2.3.4"), ask("1.2.3.5"), ask()] == [200, 429, 429]
    assert [record.fields["address"] for record in caplog.records if record.getMessage() == "forwarded"] == [peer]


def test_the_scheme_is_that_of_the_trusted_proxy(lite):
    for proxies, scheme in (((), "http"), (("10.0.0.5",), "https")):
        with TestClient(create_app(settings(lite, proxies=proxies)), client=("10.0.0.5", 1)) as client:
            text = client.get("/submit", headers={"X-Forwarded-Proto": "https", "Host": "faces.lab"}).text
        assert f"{scheme}://faces.lab/api/submissions" in text


@pytest.mark.parametrize("root", ["/heads", "/a/b"])
def test_with_a_path_the_service_is_there_as_well_as_at_the_top(lite, root, caplog):
    caplog.set_level("INFO", "hpp.serve")
    token = new_token(lite)
    with serving(lite, root=root) as client:
        name = outcome(client, send(client, token))["id"]
        for before in ("", root):
            assert client.get(f"{before}/submissions/{name}").status_code == 200
            client.get(f"{before}/submissions/{name}/", headers=bearer("wrong"))
        assert client.get(f"{root}{root}/").status_code == client.get(f"{root}s/").status_code == 404
        assert client.get(root).headers["location"] == f"{root}/"
    logged = [record.fields["path"] for record in caplog.records if record.getMessage() == "request"]
    assert f"{root}/submissions/{name[:8]}..." in logged and not any(name in path for path in logged)
