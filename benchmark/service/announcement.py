"""What the board and the page for submissions say of a challenge before any score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from benchmark.board.words import safe_link, short
from benchmark.scoring.metrics import NEARER_TRIPLE
from benchmark.scoring.protocols import Protocol
from benchmark.service.challenge import STEP, Challenge, refusal_of
from benchmark.service.database import now, timestamp
from benchmark.service.settings import ServiceSettings
from benchmark.service.terms import time_left, told_time
from headposeplus.faults import plural


class Announcement(NamedTuple):
    """What is said of a challenge; ``about`` and ``rules`` are HTML, and a text is empty where nothing is to say.

    ``state`` is ``open``, ``over`` after its deadline, or ``closed``. ``deadline`` is its time in words, and ``left``
    how long it is until then. ``protocols`` has a title and facts for each, ``ways`` says what a team may do, and
    ``stands`` which of its entries the board has.
    """

    title: str
    about: Markup
    rules: Markup
    state: str
    deadline: str
    left: str
    protocols: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]
    ways: str
    told: str
    stands: str


_STANDS = {
    "all": "Every published entry stands on the board.",
    "best": "Of a team's published entries, the one with the lowest MAE on the public part stands on the board.",
    "last": "Of a team's published entries, the last one stands on the board.",
}
_CONVENTIONS = {
    "pyr": "in the convention pyr (Biwi+)",
    "ypr": "in the convention ypr (6DRepNet, Hopenet, 300W-LP)",
    "biwi": "in the convention biwi (Biwi's own)",
}
_WITH_FIGURES = " While the challenge is open, that is of those that were told a figure of their own."


def announce(settings: ServiceSettings, people: Mapping[str, int], challenge: Challenge | None) -> Announcement:
    """Return what is said of a challenge at this moment; ``people`` are how many subjects each protocol tests."""
    step = challenge.step if challenge else STEP
    part = "all subjects" if challenge and not challenge.private else "a part of the subjects"
    deadline = (challenge.deadline or "") if challenge else ""
    state = "open" if not refusal_of(challenge, timestamp(now())) else "over"
    closed = bool(challenge and challenge.closed)
    many = settings.daily != 1
    sent = f"{settings.daily} submission{'s' * many} of a team {'are' if many else 'is'}"
    words = settings.words
    return Announcement(
        title=short(words.title),
        about=as_html(words.about),
        rules=as_html(words.rules),
        state="closed" if closed else state,
        deadline=told_time(deadline) if deadline else "",
        left=time_left(deadline, now()) if deadline else "",
        protocols=[(one.id, one.title, _facts(one, people[one.id])) for one in settings.protocols],
        ways=f"{sent} scored on a day, by UTC; faulty ones do not count.",
        told=f"Until the challenge is closed, a team is told one figure: the MAE on {part}, and a new "
        f"one only when it is {step:g} degrees better than its best. All else is told then.",
        stands=_STANDS[settings.stands] + (_WITH_FIGURES if settings.stands != "all" and not closed else ""),
    )


def _facts(protocol: Protocol, people: int) -> list[tuple[str, str]]:
    """Return a protocol in words."""
    return [
        ("test set", f"{protocol.test_set}, {protocol.frames:,} frames of {plural(people, 'subject')}"),
        ("trained on", protocol.training_data),
        ("test images", protocol.target_images),
        ("metric", f"{protocol.metric}; {NEARER_TRIPLE.partition(';')[0]}"),
        (
            "predictions",
            f"angles in degrees, {_CONVENTIONS[protocol.convention]}, or rotations; {protocol.camera} camera",
        ),
        ("selection", protocol.selection),
    ]


class _Markdown(MarkdownIt):
    """Markdown whose links are links only if they lead to http or https, as those of everybody are."""

    def validateLink(self, url: str) -> bool:
        """Return whether an address may be a link."""
        return bool(safe_link(url))


@cache
def _markdown() -> MarkdownIt:
    return _Markdown("commonmark", {"html": False}).enable("table").disable("image")


@cache
def as_html(text: str) -> Markup:
    """Return Markdown as HTML that may stand in a page: whatever HTML it has is text."""
    parser = _markdown()
    tokens = parser.parse(text.strip())
    for token in _all(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = "h3"  # below the headings of the page
        if token.type == "link_open":
            token.attrSet("rel", "noopener noreferrer nofollow ugc")
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _all(tokens: list[Token]) -> list[Token]:
    return [one for token in tokens for one in (token, *(token.children or ()))]
