"""The pages that the service shows a person, and its answers where something is wrong."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Mapping

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from benchmark.board import site
from benchmark.board.standing import figure
from benchmark.scoring.entry import Entry, Headline, Listed, ListedHeadline, PartErrors
from benchmark.scoring.figures import rounded
from benchmark.service import store
from benchmark.service.challenge import CLOSED, is_open
from benchmark.service.database import QUEUED, RUNNING, SCORED, refusal
from benchmark.service.privacy import headline, publishable
from benchmark.service.settings import MAX_ABOUT, SUBMIT, ServiceSettings
from benchmark.service.verdict import ToldFault
from headposeplus.faults import shell_line

_KEPT = 200  # pages of entries that are not drawn again


class ShownSubmission(msgspec.Struct, frozen=True):
    """A submission as the JSON API and its page show it.

    While the challenge is open ``entry`` is a headline, and ``suspicions`` are told of none that is scored. ``parts``
    are told once it is closed; ``counts`` is whether the day's limit has one less for it.
    """

    id: str
    status: str
    received: str
    finished: str | None
    publish: bool
    url: str
    entry_url: str | None
    faults: tuple[ToldFault, ...]
    suspicions: tuple[ToldFault, ...]
    counts: bool
    entry: Entry | Headline | None
    parts: PartErrors | None


def wants_page(request: Request) -> bool:
    """Return whether a browser asks, rather than a program."""
    return "text/html" in request.headers.get("accept", "")


def _page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """Return a page under the policy that it holds itself, which names its script, if it has one."""
    match = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    policy = html.unescape(match[1]) if match else "default-src 'none'"
    framed = {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}
    return HTMLResponse(text, status, framed | dict(headers or {}))


def _submit_page(
    request: Request, problem: str = "", status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    settings: ServiceSettings = request.app.state.settings
    text = site.render(
        "submit.html",
        root=settings.root,
        problem=problem,
        protocols=settings.protocols,
        daily=settings.daily,
        step=request.app.state.step,
        max_mib=settings.max_bytes / (1 << 20),
        max_about_kib=MAX_ABOUT >> 10,
        address=shell_line(f"{request.base_url}api/submissions"),
        answer=shell_line(f"{request.base_url}api/submissions/ID?wait=60"),
    )
    return _page(text, status, headers)


def _submission_page(submission: ShownSubmission, root: str) -> Response:
    entry = submission.entry
    text = site.render(
        "submission.html",
        root=root,
        submission=submission,
        waiting=submission.status in (QUEUED, RUNNING),
        entry=entry,
        tiles=site.tiles(entry) if entry else [],
        open=isinstance(entry, Headline),
        intervals=isinstance(entry, Entry) and bool(entry.intervals),
    )
    return _page(text, 200, {"Cache-Control": "no-store"})


def error_response(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as one line: of JSON, or on a page where a browser asks."""
    if not wants_page(request):
        return JSONResponse({"detail": detail}, status, dict(headers or {}))
    root = request.app.state.settings.root
    if request.url.path == root + SUBMIT:
        return _submit_page(request, detail, status, headers)
    text = site.render(
        "submission.html",
        root=root,
        submission=None,
        entry=None,
        open=False,
        waiting=False,
        problem=detail,
        status=status,
    )
    return _page(text, status, headers)


def no_database_response(request: Request, error: SQLAlchemyError) -> Response:
    """Return the answer while the database is away or full."""
    return error_response(request, 503, f"{refusal(error)}; try again in a moment", {"Retry-After": "5"})


class _KeptPages:
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


def listing(engine: Engine) -> list[Listed | ListedHeadline]:
    """Return the board as it may be shown, best first within a protocol.

    While the challenge is open those entries stand on it that were told a figure of their own, in the order of these;
    then in that of the private part, where there is one.
    """
    listed: list[Listed | ListedHeadline] = []
    open_now = is_open(engine)
    for standing in store.board(engine):
        shown = _shown(standing.entry, standing.told, open_now)
        if isinstance(shown, Entry):
            parts = _parts(standing.told)
            listed.append(Listed(standing.key, shown, parts=parts, day=standing.finished[:10]))
        elif shown.improved:
            listed.append(ListedHeadline(standing.key, shown, standing.finished[:10]))
    return sorted(listed, key=lambda one: (one.entry.protocol.id, figure(one), one.key))


def as_plain(listed: Listed | ListedHeadline) -> dict[str, object]:
    """Return an entry of the board as the JSON API shows it."""
    parts = {"parts": listed.parts} if isinstance(listed, Listed) and listed.parts else {}
    plain: dict[str, object] = msgspec.to_builtins(listed.entry)
    return plain | msgspec.to_builtins(parts) | {"key": listed.key}


def _shown(entry: Entry, told: store.Told | None, open_now: bool) -> Entry | Headline:
    """Return an entry as it may be shown. What was told in full, before there were challenges, stays so."""
    return headline(entry, told) if open_now and told is not None else publishable(entry)


def _parts(told: store.Told | None) -> PartErrors | None:
    """Return the errors of both parts of the subjects as they are shown once the challenge is closed."""
    return None if told is None else rounded(told.parts, 2)


def add_pages(app: FastAPI, engine: Engine, root: str, biwi: bool) -> None:
    """Add the pages for people; with ``biwi`` the board has the published rows on Biwi+ as well.

    ``root`` is the path below which browsers see them.
    """
    boards, pages = _KeptPages(1), _KeptPages(_KEPT)

    @app.get("/")
    def board_page() -> Response:
        state = store.board_state(engine)
        return _page(boards.find("", state, lambda: site.board_page(listing(engine), root, biwi)))

    @app.get("/entries/{key}")
    def entry_page(key: str) -> Response:
        open_now, standing = is_open(engine), store.published_entry(engine, key)
        shown = None if standing is None else _shown(standing.entry, standing.told, open_now)
        if standing is None or shown is None or (isinstance(shown, Headline) and not shown.improved):
            raise HTTPException(404, "there is no published entry with this key")
        state = (standing.finished, open_now, len(standing.entry.suspicions))
        return _page(pages.find(key, state, lambda: site.entry_page(shown, root=root)))

    @app.get("/submit")
    def submit_page(request: Request) -> Response:
        return _submit_page(request, "" if is_open(engine) else CLOSED)

    @app.get("/submissions/{name}")
    def submission_page(name: str) -> Response:
        return _submission_page(show_submission(engine, name, root), root)


def show_submission(engine: Engine, name: str, root: str) -> ShownSubmission:
    """Return a submission without what must stay here, its addresses below ``root``; raises a 404 if there is none."""
    open_now, submission = is_open(engine), store.find_submission(engine, name)
    if submission is None:
        raise HTTPException(404, "there is no submission with this id")
    verdict, told = submission.verdict, submission.told
    entry = None if verdict.entry is None else _shown(verdict.entry, told, open_now)
    hidden = isinstance(entry, Headline)
    on_board = submission.status == SCORED and submission.publish
    if isinstance(entry, Headline) and on_board:
        standing = store.published_entry(engine, submission.key)
        on_board = standing is not None and (standing.told is None or standing.told.improved)
    return ShownSubmission(
        id=submission.id,
        status=submission.status,
        received=submission.received,
        finished=submission.finished,
        publish=submission.publish,
        url=f"{root}/submissions/{submission.id}",
        entry_url=f"{root}/entries/{submission.key}" if on_board else None,
        faults=verdict.faults,
        suspicions=() if hidden else verdict.suspicions,
        counts=submission.counts,
        entry=entry,
        parts=None if hidden else _parts(told),
    )
