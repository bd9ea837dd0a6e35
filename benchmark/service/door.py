"""The door that every request passes first: limits on its rate and size, headers, the log."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, cast

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from benchmark.service import store
from benchmark.service.database import refusal
from benchmark.service.log import event, place, short_id
from benchmark.service.pages import error_response, no_database_response

_READING = 120.0  # seconds in which a request's body has to come
_MANY = 10_000  # clients whose requests are remembered
_VIEWS = 20  # pages that an address may look at for each other request that it may make
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # a submission's address is what lets one read it
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RateLimit:
    """Who has made how many requests in the last minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._times: dict[str, deque[float]] = {}

    def count(self, who: str) -> None:
        """Count a request; raise a 429 if there were too many."""
        wait = self._wait(who)
        if wait:
            seconds = int(wait) + 1
            detail = f"more than {self.per_minute} requests in a minute; try again in {seconds} s"
            raise HTTPException(429, detail, {"Retry-After": str(seconds)})

    def _wait(self, who: str) -> float:
        """Return 0 and count a request, or the seconds until one is allowed."""
        time_now = time.monotonic()
        if len(self._times) > _MANY:
            self._times = {name: times for name, times in self._times.items() if times[-1] > time_now - 60}
        times = self._times.setdefault(who, deque())
        while times and times[0] <= time_now - 60:
            times.popleft()
        if len(times) >= self.per_minute:
            return times[0] + 60 - time_now
        times.append(time_now)
        return 0.0


def network_of(host: str) -> str:
    """Return a client's address; of IPv6 the network, since one client owns all of it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # all of IPv4 is one such network
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if address.version == 6 else str(address)


def _host(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])


class _Body:
    """A request's body as it comes, with a limit on its size and on its time."""

    def __init__(self, receive: Receive, longest: int) -> None:
        self._receive = receive
        self._longest = longest
        self._end = time.monotonic() + _READING
        self.read = 0
        self.ended = False

    async def __call__(self) -> Message:
        """Return the next message; raise an HTTPException beyond the limits."""
        if self.ended:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(self._end - time.monotonic(), 0.01))
        except asyncio.TimeoutError as error:
            self.ended = True
            raise HTTPException(408, f"the request did not come within {_READING:g} seconds") from error
        self.read += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        if self.read > self._longest:
            raise HTTPException(413, f"the request is larger than the {self._longest:,} bytes that are taken")
        return message

    async def drain(self) -> None:
        """Read on for a while and forget it: a client that sends without waiting sees no answer before the end."""
        self._longest *= 4
        try:
            while not self.ended:
                await self()
        except HTTPException:
            self.ended = True


def _below(path: str, root: str) -> str:
    """Return the path of a request with the root that a proxy may have taken off."""
    return path if f"{path}/".startswith(f"{root}/") else root + path


def _with_headers(headers: Iterable[tuple[bytes, bytes]], request: Request, name: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with those that it lacks: of security, and the request's id.

    An address of the service is told as a path alone: behind a proxy it may not know its host.
    """
    here = f"{request.url.scheme}://{request.url.netloc}/".encode()
    headers = [
        (key, b"/" + value[len(here) :].lstrip(b"/") if (key, value[: len(here)]) == (b"location", here) else value)
        for key, value in headers
    ]
    present = {key.lower() for key, _ in headers}
    extra = {key.lower().encode(): value.encode() for key, value in (_HEADERS | {"X-Request-Id": name}).items()}
    return headers + [(key, value) for key, value in extra.items() if key not in present]


class Proxied:
    """Takes who asks, and by which scheme, from the headers of trusted proxies; from nobody else's.

    The right-most address of ``X-Forwarded-For`` that is no trusted proxy's is the visitor's: what stands to its left
    is what the visitor sent.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        self._headers = ProxyHeadersMiddleware(cast("Any", app), list(proxies))
        self._told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        host = _host(scope)
        if not self._told and host not in self._headers.trusted_hosts and _is_forwarded(scope):
            self._told = True  # once: anybody may send the header
            detail = "X-Forwarded-For is not believed: --behind-proxy does not name this address"
            event("forwarded", address=host, detail=detail)
        await self._headers(cast("Any", scope), cast("Any", receive), cast("Any", send))


def _is_forwarded(scope: Scope) -> bool:
    return any(name == b"x-forwarded-for" for name, _ in scope.get("headers", ()))


class Door:
    """Gives each request an id, security headers, a place in the rate limit and a line in the log."""

    def __init__(self, app: ASGIApp, engine: Engine, rate: RateLimit, longest: int, root: str) -> None:
        self._app, self._engine, self._rate, self._longest, self._root = app, engine, rate, longest, root
        self._views = RateLimit(_VIEWS * rate.per_minute)  # a class behind one address looks at the board

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["path"], scope["root_path"] = _below(scope["path"], self._root), self._root
        began, status = time.monotonic(), 500
        name = secrets.token_hex(8)
        body = _Body(receive, self._longest)
        request = Request(scope, body)
        request.state.submitter, request.state.rate = None, self._rate
        started = False

        async def send_on(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                waits = "100-continue" in request.headers.get("expect", "") and not body.read
                if request.method == "POST" and not body.ended and not waits:
                    await body.drain()
                status, started = message["status"], True
                message["headers"] = _with_headers(message.get("headers", []), request, name)
            await send(message)

        try:
            refused = await self._refused(request)
            await (refused or self._app)(scope, body, send_on)
        except Exception as error:
            event("error", id=name, detail=place(error))
            if started:
                raise
            detail = f"the service failed; tell the organisers the request's id, {name}"
            await error_response(request, 500, detail)(scope, body, send_on)
        finally:
            _log_request(request, name, status, time.monotonic() - began)

    def _is_view(self, request: Request) -> bool:
        """Return whether somebody without a token looks at a page."""
        path = request.url.path.removeprefix(self._root)
        reads = request.method in ("GET", "HEAD") and not path.startswith("/api/")
        return reads and "authorization" not in request.headers

    async def _refused(self, request: Request) -> Response | None:
        """Return the answer to a request that may not pass, else None; find out who makes it."""
        if request.url.path == f"{self._root}/healthz":
            return None
        if request.url.path == self._root:
            return RedirectResponse(f"{self._root}/", 307)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if kind.lower() == "bearer" and token.strip():
                submitter = await run_in_threadpool(store.find_submitter, self._engine, token.strip())
                request.state.submitter = submitter
            who = f"token {request.state.submitter}" if request.state.submitter else network_of(_host(request.scope))
            (self._views if self._is_view(request) else self._rate).count(who)
            length = request.headers.get("content-length", "")
            if length.isdecimal() and int(length) > self._longest:
                detail = f"the request has {int(length):,} bytes; at most {self._longest:,} are taken"
                raise HTTPException(413, detail)
        except HTTPException as error:
            return error_response(request, error.status_code, error.detail, error.headers)
        except SQLAlchemyError as error:
            event("database", detail=refusal(error))
            return no_database_response(request, error)
        return None


def _log_request(request: Request, name: str, status: int, seconds: float) -> None:
    """Log a request that was answered."""
    event(
        "request",
        id=name,
        method=request.method[:10],
        path=_logged_path(request.url.path),
        status=status,
        ms=round(1000 * seconds, 1),
        submitter=request.state.submitter,
    )


def _logged_path(path: str) -> str:
    """Return a path for the log, without the id that lets one read a submission."""
    return re.sub(r"(/submissions/)([^/]+)", lambda match: match[1] + short_id(match[2]), path)[:200]
