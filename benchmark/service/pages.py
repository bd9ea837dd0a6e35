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

from benchmark.board import site, turns
from benchmark.scoring.entry import Entry, Headline, PartErrors
from benchmark.scoring.metrics import NEARER_TRIPLE
from benchmark.service import entries, form, store
from benchmark.service.announcement import Announcement, announce
from benchmark.service.challenge import current, is_open, refusal_of
from benchmark.service.database import QUEUED, RUNNING, SCORED, now, refusal, timestamp
from benchmark.service.privacy import SMALLEST_GROUP
from benchmark.service.settings import MAX_ABOUT, SUBMIT, ServiceSettings, Stands
from benchmark.service.standing import listing, parts_of, shown, stands_there
from benchmark.service.verdict import ToldFault
from headposeplus.faults import shell_line

_KEPT = 200  # pages of entries that are not drawn again
# What the page of an error is headed, and what to do then.
_ERRORS = {
    400: ("That could not be read", "Go back, and try again."),
    404: ("Not here", "Check that the address is complete. An entry may have been taken off the scoreboard."),
    405: ("No page is here", "Programs send to this address. People submit predictions by the form."),
    408: ("That took too long", "Try again where the connection is faster."),
    413: ("That is too large", "Go back, and send less."),
    415: ("That is no form", "Use the form of the page on which predictions are submitted."),
    422: ("That address is wrong in a part", "Mend the part that is named, or begin at the scoreboard."),
    429: ("Too many requests", "Wait as long as it says, then load this page again."),
    500: ("That did not work", "Nothing was stored of what you sent. Try again later."),
    503: ("Not at the moment", "Nothing is lost. Wait a moment, then load this page again."),
}
_TAKES_NOTHING = "Nothing can be sent here", "Predictions are submitted by the form on its own page."
_FORM_LOST = (
    "Nothing was stored. Go back in your browser: what you typed is still in the form, and only the files have to be "
    "chosen again."
)
_LEFT = "\ue000left\ue001"  # where a page that is kept says how much time is left


class ShownSubmission(msgspec.Struct, frozen=True):
    """A submission as the JSON API and its page show it.

    ``entry_url`` is that of a published entry's page; ``on_board`` is whether it stands on the board, too, where a team
    may have one there. While the challenge is open ``entry`` is a headline, and ``suspicions`` are told of none that is
    scored. ``parts`` are told once it is closed; ``counts`` is whether the day's limit has one less for it.
    """

    id: str
    team: str
    status: str
    received: str
    finished: str | None
    publish: bool
    url: str
    entry_url: str | None
    on_board: bool
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
    request: Request,
    problem: str = "",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    sent: form.Sent = form.NOTHING,
    closed: str = "",
    announcement: Announcement | None = None,
) -> Response:
    """Return the form, as it was ``sent`` if it was; where no more submissions are taken, why they are not."""
    settings: ServiceSettings = request.app.state.settings
    text = site.render(
        "submit.html",
        root=settings.root,
        problem=problem,
        closed=closed,
        ended=bool(closed),
        sent=sent,
        faults=form.summary(sent),
        fields=form.fields(settings.protocols),
        announcement=announcement,
        protocols=settings.protocols,
        poses={
            "axes": turns.camera_axes(),
            "conventions": turns.conventions(),
            "nearer": NEARER_TRIPLE.partition(";")[0],
        },
        daily=settings.daily,
        step=request.app.state.step,
        max_mib=settings.max_bytes / (1 << 20),
        max_about_kib=MAX_ABOUT >> 10,
        address=shell_line(f"{request.base_url}api/submissions"),
        answer=shell_line(f"{request.base_url}api/submissions/ID?wait=60"),
    )
    return _page(text, status, {"Cache-Control": "no-store", **(headers or {})} if sent.values else headers)


def _submission_page(submission: ShownSubmission, root: str, ended: bool) -> Response:
    entry = submission.entry
    text = site.render(
        "submission.html",
        root=root,
        ended=ended,
        submission=submission,
        place_in_words=form.place_in_words,
        waiting=submission.status in (QUEUED, RUNNING),
        entry=entry,
        tiles=site.tiles(entry) if entry else [],
        open=isinstance(entry, Headline),
        intervals=isinstance(entry, Entry) and bool(entry.intervals),
    )
    return _page(text, 200, {"Cache-Control": "no-store"})


def error_response(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as one line of JSON; where a browser asks, as a page: the form that it sent, if it came whole."""
    if not wants_page(request):
        return JSONResponse({"detail": detail}, status, dict(headers or {}))
    sending = request.method == "POST" and request.url.path == request.app.state.settings.root + SUBMIT
    if sending and status == 403:
        return _submit_page(request, status=status, headers=headers, closed=detail)
    sent: form.Sent | None = getattr(request.state, "sent", None)
    if sending and sent is not None:
        said: Announcement | None = getattr(request.state, "announcement", None)
        return _submit_page(request, detail, status, headers, sent=sent, announcement=said)
    heading, then = _ERRORS.get(status, _ERRORS[500])
    if status == 405 and request.method not in ("GET", "HEAD"):
        heading, then = _TAKES_NOTHING
    text = site.render(
        "error.html",
        root=request.app.state.settings.root,
        heading=heading,
        problem=detail,
        then=_FORM_LOST if sending else then,
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


def add_pages(app: FastAPI, engine: Engine, settings: ServiceSettings, people: Mapping[str, int]) -> None:
    """Add the pages for people; where Biwi+ is scored, the board has the published rows as well.

    ``people`` are how many subjects each protocol tests, by its id.
    """
    root, stands = settings.root, settings.stands
    biwi = any(protocol.test_set.startswith("Biwi+") for protocol in settings.protocols)
    boards, pages = _KeptPages(1), _KeptPages(_KEPT)

    def announced() -> Announcement:
        return announce(settings, people, current(engine))

    app.state.announced = announced

    @app.get("/")
    def board_page() -> Response:
        said = announced()
        kept = said._replace(left=_LEFT)  # which changes each minute, and is no reason to draw a long board anew
        state = (store.board_state(engine), kept)
        page = boards.find("", state, lambda: site.board_page(listing(engine, stands), root, biwi, kept))
        return _page(page.replace(_LEFT, said.left))

    @app.get("/entries/{key}")
    def entry_page(key: str) -> Response:
        open_now, standing = is_open(engine), entries.published_entry(engine, key)
        entry = None if standing is None else shown(standing.entry, standing.placed.told, open_now)
        if standing is None or entry is None or (isinstance(entry, Headline) and not entry.improved):
            raise HTTPException(404, "there is no published entry with this key")
        state = (standing.finished, open_now, len(standing.entry.suspicions))
        team = standing.placed.team

        def draw() -> str:
            return site.entry_page(entry, root=root, team=team, few=SMALLEST_GROUP, ended=not open_now)

        return _page(pages.find(key, state, draw))

    @app.get("/submit")
    def submit_page(request: Request) -> Response:
        refused = refusal_of(current(engine), timestamp(now()))
        return _submit_page(request, closed=refused, announcement=announced())

    @app.get("/submissions/{name}")
    def submission_page(name: str) -> Response:
        return _submission_page(show_submission(engine, name, root, stands), root, not is_open(engine))


def show_submission(engine: Engine, name: str, root: str, stands: Stands = "all") -> ShownSubmission:
    """Return a submission without what must stay here, its addresses below ``root``; raises a 404 if there is none."""
    open_now, submission = is_open(engine), store.find_submission(engine, name)
    if submission is None:
        raise HTTPException(404, "there is no submission with this id")
    verdict, told = submission.verdict, submission.told
    entry = None if verdict.entry is None else shown(verdict.entry, told, open_now)
    hidden = isinstance(entry, Headline)
    published = submission.status == SCORED and submission.publish
    has_page = published and stands_there(engine, submission, open_now, "all")
    return ShownSubmission(
        id=submission.id,
        team=submission.submitter,
        status=submission.status,
        received=submission.received,
        finished=submission.finished,
        publish=submission.publish,
        url=f"{root}/submissions/{submission.id}",
        entry_url=f"{root}/entries/{submission.key}" if has_page else None,
        on_board=has_page and (stands == "all" or stands_there(engine, submission, open_now, stands)),
        faults=verdict.faults,
        suspicions=() if hidden else verdict.suspicions,
        counts=submission.counts,
        entry=entry,
        parts=None if hidden else parts_of(told),
    )
