"""Taking submissions by HTTP, and telling what came of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import anyio
import msgspec
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import FormData, UploadFile

from benchmark.scoring.protocols import Protocol
from benchmark.service import store
from benchmark.service.database import FAULTY, QUEUED, SCORED
from benchmark.service.form import MOST_FIELDS, Sent, described, has_fields, in_lines, is_filled_in
from benchmark.service.log import event, short_id
from benchmark.service.pages import show_submission, wants_page
from benchmark.service.settings import MAX_ABOUT, SUBMIT, ServiceSettings
from benchmark.service.worker import Worker

_LONGEST_WAIT = 60.0  # seconds that an answer may be waited for
_STORING = 4  # submissions that are written at once: each is in memory then


class Form(NamedTuple):
    """What was sent: the predictions, the TOML, and the other fields, each as far as it is as it should be.

    ``faults`` say what is not, by field; ``status`` is that of the refusal.
    """

    predictions: UploadFile | None
    about: bytes
    token: str
    protocol: str
    publish: bool
    faults: Mapping[str, str]
    status: int


async def _read_form(request: Request, settings: ServiceSettings) -> Form:
    """Return the form of a submission; raise an HTTPException if it is not one."""
    kind = request.headers.get("content-type", "").lower()
    # A charset would choose the codec that decodes the fields, and some take very long.
    if not kind.startswith("multipart/form-data") or "charset" in kind:
        wanted = "multipart/form-data, without a charset"
        raise HTTPException(415, f"expected {wanted}, with the files predictions (CSV) and about (TOML)")
    parts = await request.form(max_files=2, max_fields=MOST_FIELDS, max_part_size=MAX_ABOUT)
    values = {name: text.strip() for name, text in parts.items() if isinstance(text, str)}
    form = _checked(parts, values, settings)
    request.state.sent = Sent(values, form.faults, toml="about" in parts or not has_fields(values))
    return form


def _checked(parts: FormData, values: Mapping[str, str], settings: ServiceSettings) -> Form:
    """Return the parts of a form, and what is wrong with them."""
    faults: dict[str, str] = {}
    known = {protocol.id: protocol for protocol in settings.protocols}
    protocol = values.get("protocol", "")
    if protocol and protocol not in known:
        faults["protocol"] = f"protocol {protocol[:80]!r} is not scored here; expected {', '.join(known)}"
    predictions = parts.get("predictions")
    if not isinstance(predictions, UploadFile) or not predictions.size:
        predictions = None
        faults["predictions"] = "the file predictions is missing or empty: a CSV with a row for each test frame"
    large = _too_large("predictions", predictions, settings.max_bytes)
    about, of_about = _about(parts, values, settings.protocols)
    words = {"": True, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    publish = values.get("publish", "").lower()
    if publish not in words:
        faults["publish"] = f"publish is {publish[:20]!r}: expected true or false"
    large |= _too_large("about", parts.get("about"), MAX_ABOUT)
    faults |= of_about | large
    status = 413 if large else 422
    return Form(predictions, about, values.get("token", ""), protocol, words.get(publish, False), faults, status)


def _too_large(field: str, file: object, most: int) -> dict[str, str]:
    """Return the fault of a file that is too large, by its field; none if it is not."""
    if not isinstance(file, UploadFile) or (file.size or 0) <= most:
        return {}
    return {field: f"{field} has {file.size:,} bytes; at most {most:,} are taken"}


def _about(parts: FormData, values: Mapping[str, str], protocols: Sequence[Protocol]) -> tuple[bytes, dict[str, str]]:
    """Return the TOML that came, or that the fields stand for, and what is wrong with it by field."""
    about, filled_in = parts.get("about"), is_filled_in(values)
    toml = b""
    if isinstance(about, UploadFile):
        toml = about.file.read(MAX_ABOUT)
    elif about:
        toml = about.encode("utf-8", "replace")
    if toml.strip() and filled_in:
        return toml, {"about": "there is a TOML, and fields beside it say what it says: send one of both"}
    if toml.strip() or ("about" in parts and not filled_in):
        return toml, {} if toml.strip() else {
            "about": "about is missing or empty: the TOML that describes the predictions"
        }
    if not has_fields(values):
        return b"", {"about": "about is missing: the TOML that describes the predictions, or its fields in the form"}
    of_id = {protocol.id: protocol for protocol in protocols}
    chosen = protocols[0] if len(protocols) == 1 else of_id.get(values.get("protocol", ""))
    toml, faults = described(values, chosen)
    if chosen is None and not values.get("protocol"):
        faults = {"protocol": f"choose one of {', '.join(of_id)}", **faults}
    return toml, faults


async def _announce(request: Request) -> None:
    """Find out what a form that is refused says of the challenge above it; nothing while the database is away."""
    with suppress(SQLAlchemyError):
        request.state.announcement = await run_in_threadpool(request.app.state.announced)


async def _find_submitter(request: Request, form: Form, engine: Engine) -> str:
    """Return who submits, by the token of the header or else of the form; raise a 401 if there is no valid one."""
    if request.state.submitter is None:
        submitter = await run_in_threadpool(store.find_submitter, engine, form.token) if form.token else None
        if submitter is None:
            mend = "copy it once more as the organisers gave it" if form.token else "give the one from the organisers"
            request.state.sent = request.state.sent._replace(faults={"token": f"no valid token; {mend}", **form.faults})
            raise _no_token()
        request.state.submitter = submitter
        request.state.rate.count(f"token {submitter}")
    return str(request.state.submitter)


def _no_token() -> HTTPException:
    detail = "no valid token: send Authorization: Bearer TOKEN, or the field token, with one from the organisers"
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


def _queue(engine: Engine, daily: int, submitter: str, form: Form) -> str:
    """Write a submission to the database and return its id; raise a 429 if the day's limit is reached."""
    assert form.predictions is not None, "a form without faults has them"
    predictions = form.predictions.file.read()
    try:
        return store.add_submission(engine, submitter, predictions, form.about, form.protocol, form.publish, daily)
    except store.ClosedError as error:
        raise HTTPException(403, str(error)) from error
    except store.DailyLimitError as error:
        detail = f"{daily} submissions a day are scored, and that many came; the day ends at 0:00 UTC"
        raise HTTPException(429, detail, {"Retry-After": str(error.seconds)}) from error


def add_submissions(app: FastAPI, engine: Engine, settings: ServiceSettings, worker: Worker) -> None:
    """Add the address where submissions are sent, and the one where their state is asked for."""
    storing = anyio.CapacityLimiter(_STORING)

    @app.post(SUBMIT)
    async def submit(request: Request) -> Response:
        if request.state.submitter is None and request.headers.get("authorization"):
            raise _no_token()
        form = await _read_form(request, settings)
        if wants_page(request):
            await _announce(request)
        submitter = await _find_submitter(request, form, engine)
        if form.faults:
            raise HTTPException(form.status, "; also ".join(in_lines(form.faults)))
        write = partial(_queue, engine, settings.daily, submitter, form)
        name = await anyio.to_thread.run_sync(write, limiter=storing)
        worker.tell()
        event("queued", submission=short_id(name), submitter=submitter)
        url = f"{settings.root}/submissions/{name}"
        if wants_page(request):
            return RedirectResponse(url, 303)
        return JSONResponse(
            {"id": name, "status": QUEUED, "url": url}, 202, {"Location": f"{settings.root}{SUBMIT}/{name}"}
        )

    @app.get(f"{SUBMIT}/{{name}}")
    async def submission(name: str, wait: float = Query(0.0, ge=0, le=_LONGEST_WAIT)) -> Response:
        end, pause = time.monotonic() + wait, 0.1
        while True:
            state = await run_in_threadpool(show_submission, engine, name, settings.root, settings.stands)
            left = end - time.monotonic()
            if left <= 0 or state.status in (SCORED, FAULTY):
                return JSONResponse(msgspec.to_builtins(state), headers={"Cache-Control": "no-store"})
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, 1.0)
