"""``hpp serve`` that is killed while predictions are sent to it, or held by connections that ask nothing.

It is seen from outside alone: by HTTP, by its log, and by its database.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmark.upkeep.soak_kills import GRACE, hpp, kill, must_run
from benchmark.upkeep.soak_record import Killed, Sent, Silent
from headposeplus.files import leftovers as half_written
from headposeplus.rotations import Floats

_FILES = 12  # sent to a service before and after its kill
_AT_ONCE = 4
_START = 60.0  # seconds that a service may take to listen
_PROTOCOL = "soak/faces@1"
_PAGES = ("/", "/submit", "/healthz", "/api/entries", "/api/protocols")
_VISITOR = "127.0.0.9"  # the address of honest visitors; the others' is 127.0.0.1


class Server:
    """``hpp serve`` in a session of its own, on a free port; ``files`` is how many it may open, as prlimit takes it."""

    def __init__(self, folder: Path, *options: str | Path, files: str | None = None) -> None:
        self.log = folder / f"log-{time.monotonic_ns()}.jsonl"
        limits = ("--port", "0", "--daily", "100000", "--per-minute", "1000000")
        before = ["prlimit", f"--nofile={files}"] if files else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*before, *hpp("serve", *limits, *options)], stdout=log, stderr=log, start_new_session=True
            )

    def listening(self) -> str:
        """Return where it listens, once it does; raises OSError if it ends before, or takes too long."""
        end = time.monotonic() + _START
        while time.monotonic() < end:
            text = self.log.read_text()
            if found := re.search(r'"url": "(http:[^"]+)/"', text):
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise ConnectionError(f"it does not listen: {self.log.read_text()}")

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it by a signal; return its status."""
        self.process.send_signal(how)
        return self.process.wait(30)


class Challenge(NamedTuple):
    """What a service of secret labels is started with, and the poses (n, 3) of its frames, in degrees."""

    options: tuple[str | Path, ...]
    protocol: str
    ids: np.ndarray
    angles: Floats

    def csv(self, angles: Floats) -> bytes:
        """Return predictions (n, 3) as a file."""
        rows = (f"{name},{a:.4f},{b:.4f},{c:.4f}" for name, (a, b, c) in zip(self.ids, angles.tolist(), strict=True))
        return "\n".join(["id,pitch,yaw,roll", *rows, ""]).encode()


def challenge_of(folder: Path, ids: np.ndarray, angles: Floats) -> Challenge:
    """Write labels (n, 3) and a protocol of them into a folder, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    labels, protocol = folder / "labels.csv", folder / "protocol.toml"
    made = Challenge(("--protocol", protocol, "--labels", labels), _PROTOCOL, ids, angles)
    labels.write_bytes(made.csv(angles))
    labels.with_suffix(".toml").write_text('convention = "pyr"\ncamera = "rgb"\n')
    if not protocol.exists():
        must_run(hpp("protocols", "new", protocol, "--id", _PROTOCOL, "--title", "Faces", "--labels", labels))
    return made


def new_token(database: str, name: str) -> str:
    """Return a token of a new submitter."""
    return must_run(hpp("serve", "token", "add", name, "--database", database)).strip()


@contextlib.contextmanager
def serving(folder: Path, *options: str | Path, files: str | None = None) -> Iterator[Server]:
    """Start a service that ends with the context, and kill it if it does not."""
    server = Server(folder, *options, files=files)
    try:
        yield server
        server.stop()
    finally:
        kill(server.process, 0.0)


def _post(client: httpx.Client, token: str, challenge: Challenge, name: str, predictions: bytes) -> str:
    """Send predictions; return the id by which they are acknowledged."""
    about = {
        "protocol": challenge.protocol, "name": name, "authors": "Nobody", "training_data": "none",
        "selection": "none", "uses_target_images": False, "convention": "pyr", "camera": "rgb",
    }  # fmt: skip
    toml = "\n".join(f"{key} = {json.dumps(value)}" for key, value in about.items())
    files = {"predictions": ("p.csv", predictions), "about": ("p.toml", toml.encode())}
    sent = client.post("/api/submissions", files=files, headers={"Authorization": f"Bearer {token}"})
    if sent.status_code != 202:
        raise ConnectionError(sent.text)
    return str(sent.json()["id"])


def _outcome(client: httpx.Client, name: str) -> dict[str, object]:
    """Return what became of a submission, once something has."""
    while True:
        found: dict[str, object] = client.get(f"/api/submissions/{name}?wait=30").json()
        if found["status"] not in ("queued", "running"):
            return found


class Asker:
    """A submitter who is told figures by a service."""

    def __init__(self, client: httpx.Client, token: str, challenge: Challenge) -> None:
        self._client, self._token, self._challenge, self._asked = client, token, challenge, 0

    def figure(self, angles: Floats) -> float:
        """Return the figure that is told of predictions (n, 3)."""
        self._asked += 1
        predictions = self._challenge.csv(angles)
        name = _post(self._client, self._token, self._challenge, f"Attempt {self._asked}", predictions)
        found = _outcome(self._client, name)
        if found["status"] != "scored":
            raise SystemExit(f"a submission of an attack is {found['status']}: {found['faults']}")
        entry = found["entry"]
        assert isinstance(entry, dict)
        return float(entry["scores"]["mae"])


# ---- kills


class _Round(NamedTuple):
    """A service in a folder of its own, the files that are sent to it, and their names."""

    folder: Path
    challenge: Challenge
    database: str
    token: str
    files: list[bytes]

    def start(self) -> Server:
        return Server(self.folder, "--database", self.database, *self.challenge.options)

    def send(self, server: Server, acknowledged: dict[int, str]) -> None:
        """Send all files, several at once, and write down whose receipt is acknowledged, until the service is gone."""

        def send_one(number: int) -> None:
            with contextlib.suppress(OSError, httpx.HTTPError), httpx.Client(base_url=url, timeout=60) as client:
                name = _post(client, self.token, self.challenge, f"Method {number}", self.files[number])
                acknowledged[number] = name

        with contextlib.suppress(OSError):
            url = server.listening()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(send_one, range(len(self.files))))

    def finish(self, server: Server, acknowledged: dict[int, str]) -> None:
        """Send all files and wait until each of them is scored."""
        self.send(server, acknowledged)
        with httpx.Client(base_url=server.listening(), timeout=90) as client:
            for name in acknowledged.values():
                _outcome(client, name)

    def stored(self) -> list[float | None]:
        """Return of each row of the database the MAE on all frames; None of what is not scored."""
        with contextlib.closing(sqlite3.connect(self.database.removeprefix("sqlite:///"))) as connection:
            rows = connection.execute("SELECT status, verdict FROM hpp_submissions").fetchall()
        return [
            json.loads(verdict)["entry"]["scores"]["mae"] if status == "scored" else None for status, verdict in rows
        ]


def _round(folder: Path, challenge: Challenge, files: list[bytes]) -> _Round:
    folder.mkdir(parents=True)
    database = f"sqlite:///{folder / 'serve.db'}"
    return _Round(folder, challenge, database, new_token(database, "lab"), files)


def _kill_while_sending(tried: _Round, after: float) -> tuple[bool, int, dict[int, str]]:
    """Start a service and kill it after some seconds, while files are sent to it.

    Returns whether it ran, how many of its processes outlived it, and what it had acknowledged.
    """
    acknowledged: dict[int, str] = {}
    server = tried.start()
    sending = threading.Thread(target=tried.send, args=(server, acknowledged))
    try:
        sending.start()
        time.sleep(after)
        early = server.process.poll() is None
    finally:
        survivors = kill(server.process, GRACE)
    sending.join()
    return early, survivors, acknowledged


class Receipts(NamedTuple):
    """The ids by which files were acknowledged, by the files' numbers: before a kill, and when they came again."""

    before: dict[int, str]
    again: dict[int, str]


class Stored(NamedTuple):
    """What a database holds of files: ``rows``, ``scored`` as without a kill, and ``lost`` after an acknowledgement."""

    rows: int
    scored: int
    lost: int
    equal: bool


def compare(found: list[float | None], figures: list[float | None], receipts: Receipts) -> Stored:
    """Return what a database holds whose rows have the figures ``found``, where ``figures`` are those of the files."""
    lost = sum(receipts.again.get(number) != name for number, name in receipts.before.items())
    scored = sum(figure is not None and figure in figures for figure in found)
    equal = sorted(map(str, found)) == sorted(map(str, figures)) and not lost
    return Stored(len(found), scored, lost, equal)


def kill_services(
    challenge: Challenge, folder: Path, kills: int, rng: random.Random, step: Callable[[], object]
) -> tuple[Killed, Sent]:
    """Kill services some times while files are sent to them, each with a database of its own, and let them go on."""
    noise = np.random.default_rng(0)
    files = [challenge.csv(challenge.angles + noise.normal(0, 3, challenge.angles.shape)) for _ in range(_FILES)]
    whole = _round(folder / "whole", challenge, files)
    begun = time.monotonic()
    with serving(whole.folder, "--database", whole.database, *challenge.options) as server:
        whole.finish(server, {})
    seconds, figures = time.monotonic() - begun, whole.stored()
    if len(figures) != len(files) or None in figures:
        raise SystemExit(f"a service that was not killed has of {len(files)} files the figures {figures}")
    early = survivors = leftovers = acknowledged = 0
    stored = []
    for number in range(kills):
        tried = _round(folder / f"killed-{number}", challenge, files)
        ran, outlived, before = _kill_while_sending(tried, rng.uniform(0.2, 1.0) * seconds)
        again: dict[int, str] = {}
        with serving(tried.folder, "--database", tried.database, *challenge.options) as server:
            tried.finish(server, again)
        stored.append(compare(tried.stored(), figures, Receipts(before, again)))
        early, survivors, acknowledged = early + ran, survivors + outlived, acknowledged + len(before)
        leftovers += len(half_written(tried.folder))
        step()
    rows, scored, lost, equal = (sum(column) for column in zip(*stored, strict=True))
    killed = Killed(
        command="hpp serve",
        seconds=round(seconds, 1),
        kills=kills,
        early=early,
        survivors=survivors,
        equal=equal,
        leftovers=leftovers,
    )
    return killed, Sent(sent=kills * len(files), acknowledged=acknowledged, rows=rows, scored=scored, lost=lost)


# ---- connections that ask nothing


def _is_open(connection: socket.socket) -> bool:
    """Return whether the other end has not closed: nothing can be read, not even the end."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _held(url: httpx.URL, connections: list[socket.socket], count: int) -> int:
    """Close those connections that the other end has closed, and open new ones; return how many were opened."""
    still = [connection for connection in connections if _is_open(connection)]
    for connection in set(connections) - set(still):
        connection.close()
    connections[:] = still
    opened = count - len(connections)
    for number in range(opened):
        connection = socket.create_connection((url.host, url.port or 80), timeout=20)
        if number % 2:  # in the middle of a head
            with contextlib.suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        connection.setblocking(False)
        connections.append(connection)
    return opened


def stay_silent(challenge: Challenge, folder: Path, count: int, seconds: float) -> Silent:
    """Hold connections to a service that ask nothing, and ask for its pages from another address meanwhile."""
    folder.mkdir(parents=True)
    options = ("--database", f"sqlite:///{folder / 'serve.db'}", *challenge.options)
    held: list[socket.socket] = []
    opened = answered = asked = 0
    slowest = 0.0
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(folder, *options, files=f"{count}:1024"))
        url = server.listening()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            opened += _held(httpx.URL(url), held, count)
            with httpx.Client(transport=httpx.HTTPTransport(local_address=_VISITOR), timeout=30) as visitor:
                for page in _PAGES:
                    begun, asked = time.monotonic(), asked + 1
                    with contextlib.suppress(httpx.HTTPError):
                        answered += visitor.get(f"{url}{page}").status_code == 200
                    slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.2)
        for connection in held:
            connection.close()
    lines = server.lines()
    return Silent(
        connections=count,
        seconds=seconds,
        opened=opened,
        asked=asked,
        answered=answered,
        slowest=round(slowest, 3),
        lines=len(lines),
        requests=sum(line["event"] == "request" for line in lines),
    )
