"""The pages that the service shows a person."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy.engine import Engine

from benchmark.board import site
from benchmark.scoring.entry import Listed, plain
from benchmark.service import store as service_store
from benchmark.service.database import QUEUED, RUNNING, SCORED
from benchmark.service.privacy import shown
from benchmark.service.settings import _SUBMISSIONS, MAX_ABOUT, Settings

_PAGES = 200  # of entries that are kept drawn
_PLAIN = {404: "there is nothing at this address", 405: "this address does not answer this method"}


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
        "submission.html", live=True, submission=found, waiting=found["status"] in (QUEUED, RUNNING),
        entry=entry, tiles=site.tiles(entry) if entry else [], intervals=bool(entry and entry.intervals),
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
            board = [Listed(key, shown(entry)) for key, entry in service_store.board(engine)]
            return site.board_page(board, live=True, published=biwi)

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


def _as_json(found: dict[str, Any]) -> dict[str, Any]:
    """Return a submission as plain values."""
    return found | {"entry": None if found["entry"] is None else plain(found["entry"])}


def _described(engine: Engine, name: str) -> dict[str, Any]:
    """Return a submission as it may leave; raises a 404 if there is none."""
    found = service_store.find_submission(engine, name)
    if found is None:
        raise HTTPException(404, "there is no submission with this id")
    on_board = found.status == SCORED and found.publish
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
