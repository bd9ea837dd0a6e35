"""The scoring service: predictions come by HTTP, are scored against labels that stay here, and stand on a live board.

A submission is committed to the database before it is acknowledged, and scored by :mod:`benchmark.service.worker`.
Nothing that leaves tells of a single frame: see :func:`shown`.
"""

from __future__ import annotations

import asyncio
import html
import ipaddress
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmark.board import site
from benchmark.scoring.protocols import reference
from benchmark.scoring.submission import template as template_of
from benchmark.service import store as service_store
from benchmark.service.worker import Assess, Worker, event, log_to_stderr, place, short_id
from headposeplus import __version__

if TYPE_CHECKING:
    from benchmark.scoring.labels import Labels
    from benchmark.scoring.protocols import Protocol

SMALLEST_GROUP = 50  # frames: figures of fewer do not leave
MAX_ABOUT = 64 << 10  # bytes of a description
_AROUND = 64 << 10  # bytes of a form beside its two files
_READING = 120.0  # seconds in which a request's body has to come
_LONGEST_WAIT = 60.0  # seconds that an answer may be waited for
_STORING = 4  # submissions that are written at once: each is in memory then
_PAGES = 200  # of entries that are kept drawn
_MANY = 10_000  # clients whose requests are remembered
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # a submission's address is what lets one read it
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SUBMISSIONS = "/api/submissions"
_PLAIN = {404: "there is nothing at this address", 405: "this address does not answer this method"}


class Settings(NamedTuple):
    """What a service scores and how much it takes.

    All ``protocols`` are on the same ``labels``. ``daily`` submissions a submitter may have scored on a UTC day;
    ``per_minute`` requests a submitter, or without a token an address, may make; ``max_bytes`` of predictions may be
    sent; ``seconds`` a scoring may take.
    """

    database: str
    protocols: tuple[Protocol, ...]
    labels: Labels
    daily: int = 5
    per_minute: int = 30
    max_bytes: int = 16 << 20
    seconds: float = 60.0


def create_app(settings: Settings, assess: Assess | None = None) -> FastAPI:
    """Return the service; its worker runs while the app does.

    ``assess`` stands in for :func:`benchmark.scoring.score.assess`; a child process must be able to import it.

    Raises
    ------
    ServiceError
        If the database cannot be used.
    SubmissionError
        If the labels are not those of a protocol.
    """
    ids = {protocol.id: reference(protocol, settings.labels).ids for protocol in settings.protocols}
    engine = service_store.open_store(settings.database)
    labels = settings.labels._replace(dataset=None)  # its files are of no use to a scoring
    worker = Worker(engine, settings.protocols, labels, settings.seconds, assess)

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(worker.start)
        yield
        await run_in_threadpool(worker.stop)
        engine.dispose()

    app = FastAPI(lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings = settings
    _handle_errors(app)
    _add_pages(app, engine, any(protocol.test_set.startswith("Biwi+") for protocol in settings.protocols))
    _add_submissions(app, engine, settings, worker)
    _add_api(app, engine, settings.protocols, ids)
    longest = settings.max_bytes + MAX_ABOUT + _AROUND
    app.add_middleware(_Door, engine=engine, rate=_Rate(settings.per_minute), longest=longest)
    return app


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; scorings that run then are put back into the queue.

    Raises
    ------
    ServiceError
        If the database cannot be used, or the address cannot be listened at.
    """
    app = create_app(settings)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise service_store.ServiceError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; choose others with --host and --port"
        ) from error
    log_to_stderr()
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_keep_alive=30, timeout_graceful_shutdown=5
    )
    with closing(listening):
        shown_host = f"[{host}]" if ":" in host else host
        event("listening", url=f"http://{shown_host}:{listening.getsockname()[1]}/", version=__version__)
        with suppress(KeyboardInterrupt):  # it has shut down then
            uvicorn.Server(config).run(sockets=[listening])


def shown(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what of an entry may leave: no figure that tells of a single frame.

    Groups of fewer than 50 frames are left out. An error at a share of the frames is that of one frame: where fewer
    than 50 frames lie beyond it, the nearest is given that has as many. Degrees have two decimals and shares three,
    which one frame among thousands does not move.
    """
    frames = int(entry["protocol"]["frames"])
    kept = {key: value if key == "protocol" else _rounded(value) for key, value in entry.items()}
    kept["by"] = {
        kind: [group for group in groups if group["frames"] >= SMALLEST_GROUP]
        for kind, groups in kept.get("by", {}).items()
    }
    first = -(-100 * SMALLEST_GROUP // frames) if frames else 100  # the percent beyond which lie as many
    if first > 50:
        for kind in ("quantiles", "distribution"):
            kept.pop(kind, None)
        return kept
    kept["quantiles"] = {
        kind: [values[min(max(at, first), 100 - first)] for at in range(len(values))]
        for kind, values in kept.get("quantiles", {}).items()
    }
    if first > 5:
        for spread in kept.get("distribution", {}).values():
            spread.pop("p95", None)
    return kept


def _rounded(value: Any, decimals: int = 2) -> Any:
    if isinstance(value, float):
        return round(value, decimals)
    if isinstance(value, dict):
        return {key: _rounded(held, 3 if key.startswith("within_") else 2) for key, held in value.items()}
    return [_rounded(held) for held in value] if isinstance(value, list) else value


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """Return a page under the policy that it holds itself, which names its script, if it has one."""
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    policy = html.unescape(found[1]) if found else "default-src 'none'"
    framed = {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}
    return HTMLResponse(text, status, framed | dict(headers or {}))


def _submit_page(
    request: Request, problem: str = "", status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    settings: Settings = request.app.state.settings
    text = site.render(
        "submit.html", live=True, problem=problem, protocols=settings.protocols, daily=settings.daily,
        max_mib=settings.max_bytes / (1 << 20), max_about_kib=MAX_ABOUT >> 10, address=str(request.base_url),
    )  # fmt: skip
    return _page(text, status, headers)


def _submission_page(found: dict[str, Any]) -> Response:
    entry = found["entry"]
    text = site.render(
        "submission.html", live=True, submission=found,
        waiting=found["status"] in (service_store.QUEUED, service_store.RUNNING), entry=entry,
        tiles=site.tiles(entry) if entry else [], intervals=bool(entry and entry.get("intervals")),
    )  # fmt: skip
    return _page(text, 200, {"Cache-Control": "no-store"})


def _answer(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as one line: of JSON, or on a page where a browser asks."""
    if not _wants_page(request):
        return JSONResponse({"detail": detail}, status, dict(headers or {}))
    if request.url.path == _SUBMISSIONS:
        return _submit_page(request, detail, status, headers)
    text = site.render(
        "submission.html", live=True, submission=None, entry=None, waiting=False, problem=detail, status=status
    )
    return _page(text, status, headers)


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(AnyHTTPException)
    async def told(request: Request, error: AnyHTTPException) -> Response:
        detail = str(error.detail)
        if isinstance(error, HTTPException):
            return _answer(request, error.status_code, detail, error.headers)
        return _answer(request, error.status_code, _PLAIN.get(error.status_code, detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _answer(request, 422, f"{first['loc'][-1]}: {str(first['msg']).lower()}")

    @app.exception_handler(SQLAlchemyError)
    async def away(request: Request, error: SQLAlchemyError) -> Response:
        event("database", detail=type(error).__name__)
        return _answer(request, 503, "the database cannot be reached; try again in a moment", {"Retry-After": "5"})


class _Pages:
    """Pages that take long to draw, kept until what they show changes: the newest ``most`` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._texts: dict[str, tuple[object, str]] = {}
        self._lock = threading.Lock()  # plots are drawn one at a time

    def find(self, name: str, state: object, draw: Callable[[], str]) -> str:
        """Return a page of this state, drawn where it is not at hand."""
        with self._lock:
            held, text = self._texts.pop(name, (None, ""))
            if held != state:
                text = draw()
            self._texts[name] = state, text
            while len(self._texts) > self._most:
                del self._texts[next(iter(self._texts))]
            return text


def _add_pages(app: FastAPI, engine: Engine, biwi: bool) -> None:
    """Add the pages for people; with ``biwi`` the board has the published rows on Biwi+ as well."""
    boards, pages = _Pages(1), _Pages(_PAGES)

    @app.get("/")
    def board_page() -> Response:
        def draw() -> str:
            return site.board_page([shown(entry) for entry in service_store.board(engine)], live=True, published=biwi)

        return _page(boards.find("", service_store.board_state(engine), draw))

    @app.get("/entries/{key}")
    def entry_page(key: str) -> Response:
        found = service_store.published_entry(engine, key)
        if found is None:
            raise HTTPException(404, "there is no published entry with this key")
        finished, entry = found
        return _page(pages.find(key, finished, lambda: site.entry_page(shown(entry), live=True)))

    @app.get("/submit")
    def submit_page(request: Request) -> Response:
        return _submit_page(request)

    @app.get("/submissions/{name}")
    def submission_page(name: str) -> Response:
        return _submission_page(_described(engine, name))


def _described(engine: Engine, name: str) -> dict[str, Any]:
    """Return a submission as it may leave; raises a 404 if there is none."""
    found = service_store.find_submission(engine, name)
    if found is None:
        raise HTTPException(404, "there is no submission with this id")
    on_board = found.status == service_store.SCORED and found.publish
    return {
        "id": found.id,
        "status": found.status,
        "received": found.received,
        "finished": found.finished,
        "publish": found.publish,
        "url": f"/submissions/{found.id}",
        "entry_url": f"/entries/{found.key}" if on_board else None,
        "faults": found.faults,
        "suspicions": found.suspicions,
        "entry": None if found.entry is None else shown(found.entry),
    }


class _Form(NamedTuple):
    """The fields of a submission as they came."""

    predictions: UploadFile
    about: UploadFile | str
    token: str
    protocol: str
    publish: bool


async def _read_form(request: Request) -> _Form:
    """Return the form of a submission; raises an HTTPException if it is not one."""
    kind = request.headers.get("content-type", "").lower()
    # A charset would choose the codec that decodes the fields, and some take very long.
    if not kind.startswith("multipart/form-data") or "charset" in kind:
        wanted = "multipart/form-data, without a charset"
        raise HTTPException(415, f"expected {wanted}, with the files predictions (CSV) and about (TOML)")
    form = await request.form(max_files=2, max_fields=6, max_part_size=MAX_ABOUT)
    predictions, about = form.get("predictions"), form.get("about")
    if not isinstance(predictions, UploadFile) or not predictions.size:
        raise HTTPException(422, "the file predictions is missing or empty: a CSV with a row for each test frame")
    if about is None or (about.size if isinstance(about, UploadFile) else about.strip()) in (0, ""):
        raise HTTPException(422, "about is missing or empty: the TOML that describes the predictions")
    texts = {name: str(form.get(name, "")).strip() for name in ("token", "protocol", "publish")}
    words = {"": True, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if texts["publish"].lower() not in words:
        raise HTTPException(422, f"publish is {texts['publish'][:20]!r}: expected true or false")
    return _Form(predictions, about, texts["token"], texts["protocol"], words[texts["publish"].lower()])


def _add_submissions(app: FastAPI, engine: Engine, settings: Settings, worker: Worker) -> None:
    storing = anyio.CapacityLimiter(_STORING)

    def queue(form: _Form, submitter: str) -> str:
        predictions = form.predictions.file.read()
        about = form.about.file.read() if isinstance(form.about, UploadFile) else form.about.encode("utf-8", "replace")
        return service_store.add_submission(
            engine, submitter, predictions, about, form.protocol, form.publish, settings.daily
        )

    @app.post(_SUBMISSIONS)
    async def submit(request: Request) -> Response:
        submitter = request.state.submitter
        if submitter is None and request.headers.get("authorization"):
            raise _no_token()
        form = await _read_form(request)
        if submitter is None:
            submitter = (
                await run_in_threadpool(service_store.find_submitter, engine, form.token) if form.token else None
            )
            if submitter is None:
                raise _no_token()
            request.state.submitter = submitter
            _pass(request.state.rate, f"token {submitter}")
        for field, most in (("predictions", settings.max_bytes), ("about", MAX_ABOUT)):
            file = getattr(form, field)
            if isinstance(file, UploadFile) and (file.size or 0) > most:
                raise HTTPException(413, f"{field} has {file.size:,} bytes; at most {most:,} are taken")
        if form.protocol and form.protocol not in [protocol.id for protocol in settings.protocols]:
            served = ", ".join(protocol.id for protocol in settings.protocols)
            raise HTTPException(422, f"protocol {form.protocol[:80]!r} is not scored here; expected {served}")
        try:
            name = await anyio.to_thread.run_sync(partial(queue, form, submitter), limiter=storing)
        except service_store.DailyLimitError as error:
            raise HTTPException(
                429, f"{settings.daily} submissions a day are scored, and that many came; the day ends at 0:00 UTC",
                {"Retry-After": str(error.seconds)},
            ) from error  # fmt: skip
        worker.tell()
        event("queued", submission=short_id(name), submitter=submitter)
        url = f"/submissions/{name}"
        if _wants_page(request):
            return RedirectResponse(url, 303)
        return JSONResponse({"id": name, "status": service_store.QUEUED, "url": url}, 202, {"Location": f"/api{url}"})

    @app.get(f"{_SUBMISSIONS}/{{name}}")
    async def submission(name: str, wait: float = Query(0.0, ge=0, le=_LONGEST_WAIT)) -> Response:
        end, pause = time.monotonic() + wait, 0.1
        while True:
            found = await run_in_threadpool(_described, engine, name)
            left = end - time.monotonic()
            if left <= 0 or found["status"] in (service_store.SCORED, service_store.FAULTY):
                return JSONResponse(found, headers={"Cache-Control": "no-store"})
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, 1.0)


def _no_token() -> HTTPException:
    detail = "no valid token: send Authorization: Bearer TOKEN, or the field token, with one from the organisers"
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


def _add_api(app: FastAPI, engine: Engine, served: Sequence[Protocol], ids: dict[str, Any]) -> None:
    protocols = {protocol.id: protocol for protocol in served}

    @app.get("/api/entries")
    def entries() -> Response:
        return JSONResponse({"entries": [shown(entry) for entry in service_store.board(engine)]})

    @app.get("/api/protocols")
    def list_protocols() -> Response:
        listed = [protocol._asdict() | {"template": f"/api/template/{name}"} for name, protocol in protocols.items()]
        return JSONResponse({"protocols": listed})

    @app.get("/api/template/{name:path}")
    def template(name: str, kind: str = Query("csv", alias="format", pattern="^(csv|toml)$")) -> Response:
        if name not in protocols:
            raise HTTPException(404, f"no protocol has this id; those scored here are {', '.join(protocols)}")
        csv, toml = template_of(protocols[name], ids[name])
        text, media = (csv, "text/csv") if kind == "csv" else (toml, "application/toml")
        attached = {"Content-Disposition": f'attachment; filename="predictions.{kind}"'}
        return PlainTextResponse(text, media_type=media, headers=attached)

    @app.get("/healthz")
    def health() -> Response:
        try:
            found = service_store.counts(engine)
        except SQLAlchemyError:
            return JSONResponse({"status": "the database cannot be reached", "version": __version__}, 503)
        queued = {status: found[status] for status in (service_store.QUEUED, service_store.RUNNING)}
        return JSONResponse({"status": "ok", "version": __version__, **queued})


class _Rate:
    """Who has made how many requests in the last minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._times: dict[str, deque[float]] = {}

    def wait(self, who: str) -> float:
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


def _pass(rate: _Rate, who: str) -> None:
    """Count a request; raises a 429 if there were too many."""
    wait = rate.wait(who)
    if wait:
        seconds = int(wait) + 1
        detail = f"more than {rate.per_minute} requests in a minute; try again in {seconds} s"
        raise HTTPException(429, detail, {"Retry-After": str(seconds)})


def _address(scope: Scope) -> str:
    """Return a client's address; of IPv6 the network, since a client has all of it."""
    host = (scope.get("client") or ("unknown",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if address.version == 6 else str(address)


class _Body:
    """A request's body as it comes, with a limit on its size and on its time."""

    def __init__(self, receive: Receive, longest: int) -> None:
        self._receive = receive
        self._longest = longest
        self._end = time.monotonic() + _READING
        self.read = 0
        self.ended = False

    async def __call__(self) -> Message:
        """Return the next message; raises an HTTPException beyond the limits."""
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
        """Read on for a while and forget it: who sends without waiting would not see an answer before the end."""
        self._longest *= 4
        try:
            while not self.ended:
                await self()
        except HTTPException:
            self.ended = True


class _Door:
    """Gives each request an id, security headers, a place in the rate limit and a line in the log."""

    def __init__(self, app: ASGIApp, engine: Engine, rate: _Rate, longest: int) -> None:
        self._app, self._engine, self._rate, self._longest = app, engine, rate, longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
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
                present = {key.lower() for key, _ in message.get("headers", [])}
                extra = _HEADERS | {"X-Request-Id": name}
                message["headers"] = [*message.get("headers", []), *(
                    (key.lower().encode(), value.encode()) for key, value in extra.items()
                    if key.lower().encode() not in present
                )]  # fmt: skip
            await send(message)

        try:
            refused = await self._refused(request)
            await (refused or self._app)(scope, body, send_on)
        except Exception as error:
            event("error", id=name, detail=place(error))
            if started:
                raise
            detail = f"the service failed; tell the organisers the request's id, {name}"
            await _answer(request, 500, detail)(scope, body, send_on)
        finally:
            event(
                "request", id=name, method=request.method[:10], path=_logged_path(request.url.path), status=status,
                ms=round(1000 * (time.monotonic() - began), 1), submitter=request.state.submitter,
            )  # fmt: skip

    async def _refused(self, request: Request) -> Response | None:
        """Return an answer to a request that may not pass, else None; find out who makes it."""
        if request.url.path == "/healthz":
            return None
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if kind.lower() == "bearer" and token.strip():
                found = await run_in_threadpool(service_store.find_submitter, self._engine, token.strip())
                request.state.submitter = found
            who = f"token {request.state.submitter}" if request.state.submitter else _address(request.scope)
            _pass(self._rate, who)
            length = request.headers.get("content-length", "")
            if length.isdecimal() and int(length) > self._longest:
                detail = f"the request has {int(length):,} bytes; at most {self._longest:,} are taken"
                raise HTTPException(413, detail)
        except HTTPException as error:
            return _answer(request, error.status_code, error.detail, error.headers)
        except SQLAlchemyError as error:
            event("database", detail=type(error).__name__)
            return _answer(request, 503, "the database cannot be reached; try again in a moment", {"Retry-After": "5"})
        return None


def _logged_path(path: str) -> str:
    """Return a path for the log, without what lets one read a submission."""
    found = re.fullmatch(r"((?:/api)?/submissions/)([^/]+)", path)
    return f"{found[1]}{short_id(found[2])}" if found else path[:200]
