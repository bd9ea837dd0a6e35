"""Taking submissions by HTTP, and telling what came of them."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import NamedTuple

import anyio
import msgspec
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy.engine import Engine
from starlette.datastructures import UploadFile

from benchmark.service import store
from benchmark.service.database import FAULTY, QUEUED, SCORED
from benchmark.service.log import event, short_id
from benchmark.service.pages import show_submission, wants_page
from benchmark.service.settings import MAX_ABOUT, SUBMIT, ServiceSettings
from benchmark.service.worker import Worker

_LONGEST_WAIT = 60.0  # seconds that an answer may be waited for
_STORING = 4  # submissions that are written at once: each is in memory then


class Form(NamedTuple):
    """The fields of a submission as they came."""

    predictions: UploadFile
    about: UploadFile | str
    token: str
    protocol: str
    publish: bool


async def _read_form(request: Request) -> Form:
    """Return the form of a submission; raise an HTTPException if it is not one."""
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
    token, protocol, publish = (str(form.get(name, "")).strip() for name in ("token", "protocol", "publish"))
    words = {"": True, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if publish.lower() not in words:
        raise HTTPException(422, f"publish is {publish[:20]!r}: expected true or false")
    return Form(predictions, about, token, protocol, words[publish.lower()])


def _check_form(form: Form, settings: ServiceSettings) -> None:
    """Raise an HTTPException if a file is too large, or the protocol is not scored here."""
    for field, file, most in (
        ("predictions", form.predictions, settings.max_bytes),
        ("about", form.about, MAX_ABOUT),
    ):
        if isinstance(file, UploadFile) and (file.size or 0) > most:
            raise HTTPException(413, f"{field} has {file.size:,} bytes; at most {most:,} are taken")
    served = [protocol.id for protocol in settings.protocols]
    if form.protocol and form.protocol not in served:
        detail = f"protocol {form.protocol[:80]!r} is not scored here; expected {', '.join(served)}"
        raise HTTPException(422, detail)


async def _find_submitter(request: Request, form: Form, engine: Engine) -> str:
    """Return who submits, by the token of the header or else of the form; raise a 401 if there is no valid one."""
    if request.state.submitter is None:
        submitter = await run_in_threadpool(store.find_submitter, engine, form.token) if form.token else None
        if submitter is None:
            raise _no_token()
        request.state.submitter = submitter
        request.state.rate.count(f"token {submitter}")
    return str(request.state.submitter)


def _no_token() -> HTTPException:
    detail = "no valid token: send Authorization: Bearer TOKEN, or the field token, with one from the organisers"
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


def _queue(engine: Engine, daily: int, submitter: str, form: Form) -> str:
    """Write a submission to the database and return its id; raise a 429 if the day's limit is reached."""
    predictions = form.predictions.file.read()
    about = form.about.file.read() if isinstance(form.about, UploadFile) else form.about.encode("utf-8", "replace")
    try:
        return store.add_submission(engine, submitter, predictions, about, form.protocol, form.publish, daily)
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
        form = await _read_form(request)
        submitter = await _find_submitter(request, form, engine)
        _check_form(form, settings)
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
