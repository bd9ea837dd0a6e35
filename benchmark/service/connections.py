"""Limits on connections that ask nothing: how long they may be silent, and how many there may be.

The server has none of its own: whoever held a few hundred open kept everybody else out.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from benchmark.board import site
from benchmark.service.door import network_of
from benchmark.service.log import event

HEAD = 15.0  # seconds in which the head of a request has to come, from the connection or the last answer on
_STALLED = 60.0  # seconds in which a client has to take more of an answer that waits for it
_PER_ADDRESS = 64
_ASKED = (
    8  # connections of an address beyond those that are taken, of which it is awaited who asks: a browser gets a page
)
_ASKING = 1.0  # seconds in which that has to be seen
_MOST_FILES = 65_536
_OTHER_FILES = 64  # of the database, the scorings and the log


class Limits(NamedTuple):
    """What connections may do. Times are in seconds; ``proxies`` may have more than ``per_address``."""

    total: int
    proxies: tuple[str, ...] = ()
    per_address: int = _PER_ADDRESS
    head: float = HEAD
    stalled: float = _STALLED


class Room(NamedTuple):
    """How many connections this process can hold, and how many it may accept at once."""

    total: int
    at_once: int


def make_room() -> Room:
    """Let this process open as many files as it may, where the system can, and return what that allows.

    As many stay free as it takes that accepting never fails: the server tries that again and again.
    """
    try:
        import resource
    except ImportError:
        return Room(256, 64)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return room_of(files)


def room_of(files: int) -> Room:
    """Return the connections that so many files allow: an upload is a second file of its own."""
    at_once = max(8, min(64, files // 32))
    # Some are accepted before the first of them is known to be too many.
    return Room(max(16, (files - _OTHER_FILES - 4 * at_once) // 2), at_once)


class _Guarded(H11Protocol):
    """A connection with limits, which it shares with all others of its kind: those that are ``held`` by address."""

    limits: Limits
    trusted: Any  # whose connections are those of proxies
    held: Counter[str]
    _timer: asyncio.TimerHandle | None = None
    _held_for = ""
    _since = 0.0
    _seen: object = None
    _refused = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else "unknown"
        address = network_of(host)
        self._held_for = address
        self.held[address] += 1
        most = self.limits.total if host in self.trusted else self.limits.per_address
        if self.held[address] > most or self.held.total() > self.limits.total:
            whose = "" if self.held.total() > self.limits.total else "of one address "
            event("refused", address=address, detail=f"more connections {whose}than are taken")
            self._refused = f"more open connections {whose}than are taken; close some, or try again"
            if whose and self.held[address] <= most + _ASKED:
                self._timer = self.loop.call_later(_ASKING, self._refuse)
            else:
                self._refuse()
            return
        self._look()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._refuse(page=b"text/html" in data)
        else:
            super().data_received(data)

    def _refuse(self, page: bool = False) -> None:
        if not self.transport.is_closing():
            self.transport.write(_refusal(self._refused, page))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.held[self._held_for] -= 1
        if not self.held[self._held_for]:
            del self.held[self._held_for]
        super().connection_lost(exc)

    def _look(self) -> None:
        """End the connection if for too long no head has come, or nothing of an answer was taken."""
        now = self.loop.time()
        silent = self.cycle is None or self.cycle.response_complete
        unsent = self.transport.get_write_buffer_size()
        seen = (self.cycle, silent, unsent)
        if seen != self._seen:
            self._seen, self._since = seen, now
        patience = self.limits.stalled if unsent else self.limits.head
        if (silent or unsent) and now - self._since >= patience:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(min(self.limits.head, self.limits.stalled) / 8, self._look)


def guarded(limits: Limits) -> type[asyncio.Protocol]:
    """Return the server's protocol of a connection, with limits.

    A connection beyond them is told so and closed; one that is silent for too long is ended.
    """

    class Guarded(_Guarded):
        pass

    Guarded.limits, Guarded.held = limits, Counter()
    Guarded.trusted = ProxyHeadersMiddleware(_nothing, list(limits.proxies)).trusted_hosts
    return Guarded


async def _nothing(*_: object) -> None:
    """Stand in for an application."""


@cache
def _refusal(detail: str, page: bool) -> bytes:
    """Return a whole answer, as it goes over a connection that is closed then: a page for a browser, or JSON."""
    kind, text = "application/json", json.dumps({"detail": detail})
    if page:
        kind = "text/html; charset=utf-8"
        then = "Then load this page again."
        text = site.render("error.html", heading="Too many connections", problem=detail, then=then)
    body = text.encode()
    head = (
        f"HTTP/1.1 429 Too Many Requests\r\nContent-Type: {kind}\r\nConnection: close\r\n"
        f"X-Content-Type-Options: nosniff\r\nRetry-After: {HEAD:.0f}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
