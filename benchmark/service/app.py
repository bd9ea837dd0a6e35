"""The scoring service: predictions come by HTTP, are scored against labels that stay here, and stand on a live board.

A submission is committed to the database before it is acknowledged, and scored by :mod:`benchmark.service.worker`.
While the challenge is open, an answer tells one figure of an entry (:mod:`benchmark.service.challenge`), afterwards all
but those of single frames (:mod:`benchmark.service.privacy`).
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as AnyHTTPException

from benchmark.scoring.protocols import Reference, reference
from benchmark.scoring.protocols import plain as protocol_as_plain
from benchmark.scoring.submission import template as template_of
from benchmark.service import store
from benchmark.service.challenge import current, open_challenge
from benchmark.service.connections import HEAD, Limits, guarded, make_room
from benchmark.service.database import QUEUED, RUNNING, ServiceError, open_database, refusal
from benchmark.service.door import Door, Proxied, RateLimit
from benchmark.service.log import event, log_to_stderr
from benchmark.service.pages import add_pages, error_response, no_database_response
from benchmark.service.results import board_csv
from benchmark.service.settings import MAX_ABOUT, ServiceSettings
from benchmark.service.standing import as_plain, listing
from benchmark.service.submissions import add_submissions
from benchmark.service.worker import Assess, Worker
from headposeplus import __version__
from headposeplus.faults import Fault

_WAITING = 512  # connections, to be accepted
_AROUND = 64 << 10  # bytes of a form beside its two files
_PLAIN = {404: "there is nothing at this address", 405: "this address does not answer this method"}


def create_app(settings: ServiceSettings, assess: Assess | None = None) -> FastAPI:
    """Return the service; its worker runs while the app does.

    ``assess`` stands in for :func:`benchmark.scoring.score.assess`; a child process must be able to import it.

    Raises
    ------
    ServiceError
        If the database cannot be used, or the labels have too few subjects.
    SubmissionError
        If the labels are not those of a protocol.
    """
    references = [reference(protocol, settings.labels) for protocol in settings.protocols]
    ids = {tested.protocol.id: tested.ids for tested in references if tested.ids is not None}
    engine = open_database(settings.database)
    labels = settings.labels._replace(dataset=None)  # its files are of no use to a scoring
    before = current(engine)
    challenge, public = open_challenge(engine, labels, settings.private, settings.step, settings.deadline)
    worker = Worker(engine, settings.protocols, labels, public, settings.seconds, assess)

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        if challenge.deadline != (before and before.deadline):
            event("deadline", was=before and before.deadline, now=challenge.deadline)
        await run_in_threadpool(worker.start)
        yield
        await run_in_threadpool(worker.stop)
        engine.dispose()

    app = FastAPI(lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings, app.state.step = settings, challenge.step
    _handle_errors(app)
    add_pages(app, engine, settings, {tested.protocol.id: _people(tested) for tested in references})
    add_submissions(app, engine, settings, worker)
    _add_api(app, engine, settings, ids)
    longest = settings.max_bytes + MAX_ABOUT + _AROUND
    app.add_middleware(Door, engine=engine, rate=RateLimit(settings.per_minute), longest=longest, root=settings.root)
    app.add_middleware(Proxied, proxies=settings.proxies)
    return app


def _people(tested: Reference) -> int:
    return 0 if tested.labels is None else len(np.unique(tested.labels.subjects))


def run(settings: ServiceSettings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, which put the scorings that run back into the queue.

    Raises
    ------
    ServiceError
        If the database cannot be used, or the address cannot be listened at.
    """
    app, room = create_app(settings), make_room()
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_WAITING)
    except OSError as error:
        what = f"cannot listen at {host}, port {port}: {error.strerror or error}"
        raise ServiceError(Fault(what, "choose another `port` or `host`")) from error
    log_to_stderr()
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # those of 127.0.0.1 would be believed; Proxied asks who may say so
        http=guarded(Limits(room.total, settings.proxies)),
        ws="none",
        backlog=room.at_once,
        timeout_keep_alive=int(HEAD),
        timeout_graceful_shutdown=5,
    )
    with closing(listening):
        shown_host = f"[{host}]" if ":" in host else host
        url = f"http://{shown_host}:{listening.getsockname()[1]}{settings.root}/"
        event("listening", url=url, version=__version__)
        with suppress(KeyboardInterrupt):  # it has shut down then
            _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    """The server, where many may wait to be accepted and few are at a time: each of them takes a file at once."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_WAITING)


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(AnyHTTPException)
    async def refused(request: Request, error: AnyHTTPException) -> Response:
        detail = str(error.detail)
        if isinstance(error, HTTPException):
            return error_response(request, error.status_code, detail, error.headers)
        return error_response(request, error.status_code, _PLAIN.get(error.status_code, detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return error_response(request, 422, f"{first['loc'][-1]}: {str(first['msg']).lower()}")

    @app.exception_handler(SQLAlchemyError)
    async def away(request: Request, error: SQLAlchemyError) -> Response:
        event("database", detail=refusal(error))
        return no_database_response(request, error)


def _add_api(app: FastAPI, engine: Engine, settings: ServiceSettings, ids: Mapping[str, np.ndarray]) -> None:
    protocols = {protocol.id: protocol for protocol in settings.protocols}

    @app.get("/api/entries")
    def entries() -> Response:
        return JSONResponse({"entries": [as_plain(listed) for listed in listing(engine, settings.stands)]})

    @app.get("/api/entries.csv")
    def entries_csv() -> Response:
        attached = {"Content-Disposition": 'attachment; filename="entries.csv"'}
        text = board_csv(listing(engine, settings.stands))
        return PlainTextResponse(text, media_type="text/csv", headers=attached)

    @app.get("/api/protocols")
    def list_protocols() -> Response:
        listed = [
            protocol_as_plain(protocol) | {"template": f"{settings.root}/api/template/{name}"}
            for name, protocol in protocols.items()
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
            waiting = store.counts(engine, (QUEUED, RUNNING))
        except SQLAlchemyError as error:
            return JSONResponse({"status": refusal(error), "version": __version__}, 503)
        return JSONResponse({"status": "ok", "version": __version__, **waiting})
