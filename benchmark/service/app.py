"""The scoring service: predictions come by HTTP, are scored against labels that stay here, and stand on a live board.

A submission is committed to the database before it is acknowledged, and scored by :mod:`benchmark.service.worker`.
Nothing that leaves tells of a single frame: see :func:`shown`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException

from benchmark.scoring.entry import plain
from benchmark.scoring.protocols import plain as protocol_as_plain
from benchmark.scoring.protocols import reference
from benchmark.scoring.submission import template as template_of
from benchmark.service import store as service_store
from benchmark.service.database import FAULTY, QUEUED, RUNNING, SCORED, ServiceError, open_store
from benchmark.service.door import _Door, _pass, _Rate
from benchmark.service.log import event, log_to_stderr, short_id
from benchmark.service.pages import _PLAIN, _add_pages, _answer, _as_json, _described, _wants_page
from benchmark.service.privacy import shown
from benchmark.service.settings import _SUBMISSIONS, MAX_ABOUT, Settings
from benchmark.service.worker import Assess, Worker
from headposeplus import __version__

if TYPE_CHECKING:
    from benchmark.scoring.protocols import Protocol
_AROUND = 64 << 10  # bytes of a form beside its two files
_LONGEST_WAIT = 60.0  # seconds that an answer may be waited for
_STORING = 4  # submissions that are written at once: each is in memory then


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
    engine = open_store(settings.database)
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
        raise ServiceError(
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
        return JSONResponse({"id": name, "status": QUEUED, "url": url}, 202, {"Location": f"/api{url}"})

    @app.get(f"{_SUBMISSIONS}/{{name}}")
    async def submission(name: str, wait: float = Query(0.0, ge=0, le=_LONGEST_WAIT)) -> Response:
        end, pause = time.monotonic() + wait, 0.1
        while True:
            found = await run_in_threadpool(_described, engine, name)
            left = end - time.monotonic()
            if left <= 0 or found["status"] in (SCORED, FAULTY):
                return JSONResponse(_as_json(found), headers={"Cache-Control": "no-store"})
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, 1.0)


def _no_token() -> HTTPException:
    detail = "no valid token: send Authorization: Bearer TOKEN, or the field token, with one from the organisers"
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


def _add_api(app: FastAPI, engine: Engine, served: Sequence[Protocol], ids: dict[str, Any]) -> None:
    protocols = {protocol.id: protocol for protocol in served}

    @app.get("/api/entries")
    def entries() -> Response:
        board = [plain(shown(entry)) | {"key": key} for key, entry in service_store.board(engine)]
        return JSONResponse({"entries": board})

    @app.get("/api/protocols")
    def list_protocols() -> Response:
        listed = [
            protocol_as_plain(protocol) | {"template": f"/api/template/{name}"} for name, protocol in protocols.items()
        ]
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
        queued = {status: found[status] for status in (QUEUED, RUNNING)}
        return JSONResponse({"status": "ok", "version": __version__, **queued})
