"""What the organisers of a challenge say: its title, what it is about, its rules, and its deadline."""

from __future__ import annotations

import difflib
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from benchmark.scoring import parse
from benchmark.scoring.protocols import tomllib
from benchmark.service.database import ServiceError, timestamp
from benchmark.service.settings import ServiceSettings, Stands, Words
from headposeplus.faults import Fault, said, shown, unreadable
from headposeplus.files import opened_file

NO_DEADLINE = "none"
_LONGEST = 1 << 20  # bytes of a file
_TEMPLATE = "hpp serve template prints one with all keys"
_EXAMPLE = "2030-01-31T18:00+01:00"

TEMPLATE = f"""\
# What a challenge says of itself: hpp serve --challenge FILE. Any line may be
# left out, and options count before it.

title = "Head poses of the autumn class"

# Markdown; HTML in it is shown as text.
about = \"\"\"
Predict pitch, yaw and roll of the heads in the pictures that you got by mail.
\"\"\"
rules = \"\"\"
- A team has one token.
- No poses by hand. The protocol says how training may use the test pictures.
\"\"\"

# Until when submissions are taken, in UTC where no zone is said.
# "{NO_DEADLINE}": no deadline; you close it yourself.
# All figures are told when you run hpp serve close, not before.
# deadline = {_EXAMPLE[:16]}:00{_EXAMPLE[16:]}

# Which of a team's published entries the board has: all, best (on the public
# part) or last.
stands = "all"
daily = 5  # submissions of a team that are scored on a UTC day

# With these a database's challenge is opened, and they stay.
private = 0.5  # share of the subjects whose figures are told when it is closed
step = 0.1     # degrees by which a team must be better to be told a new figure
"""


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a challenge's file says; what is None, it does not say.

    ``about`` and ``rules`` are Markdown. ``deadline`` is as :func:`read_deadline` takes it, the others are those of
    :class:`benchmark.service.settings.ServiceSettings`.
    """

    title: Annotated[str, Meta(max_length=120)] = ""
    about: Annotated[str, Meta(max_length=4_000)] = ""
    rules: Annotated[str, Meta(max_length=20_000)] = ""
    deadline: Any = None
    stands: Stands | None = None
    daily: Annotated[int, Meta(ge=1)] | None = None
    private: Annotated[float, Meta(ge=0, le=0.9)] | None = None
    step: Annotated[float, Meta(ge=0.01, le=10)] | None = None


def read_terms(path: Path) -> Terms:
    """Return what the file of a challenge says.

    Raises
    ------
    ServiceError
        If it cannot be read or is no TOML, a key is unknown, or the deadline is no time.
    SubmissionError
        If a value is not what it can be.
    """
    try:
        with opened_file(path) as file:
            data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise ValueError(f"more than {_LONGEST:,} bytes")
        content = tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n"))
    except OSError as error:
        raise ServiceError(unreadable(path, error, f"the TOML of a challenge; {_TEMPLATE}")) from error
    except (ValueError, RecursionError) as error:
        raise ServiceError(Fault(f"not the TOML of a challenge: {said(error)}", _TEMPLATE, path)) from error
    for key in content:
        if key not in Terms.__struct_fields__:
            near = difflib.get_close_matches(key[:80], Terms.__struct_fields__, 1)
            mend = f"did you mean {near[0]}?" if near else f"its keys are {', '.join(Terms.__struct_fields__)}"
            raise ServiceError(Fault("an unknown key", mend, path, shown(key)))
    terms = parse.from_plain(content, Terms, "not a challenge", _TEMPLATE, path)
    if terms.deadline is not None:
        try:
            read_deadline(terms.deadline)
        except ServiceError as error:
            raise ServiceError(error.fault._replace(file=path, field="deadline")) from error
    return terms


def read_deadline(value: object) -> str:
    """Return a time as the tables hold it, in UTC where it says no zone; nothing for ``none``.

    ``value`` is a text, such as ``2030-01-31 18:00+01:00``, or a time of a TOML.

    Raises
    ------
    ServiceError
        If it is no time, or a day without a time of day.
    """
    mend = f"give a time such as {_EXAMPLE}, in UTC where no zone is said, or {NO_DEADLINE}"
    if value == NO_DEADLINE:
        return ""
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip().removesuffix("Z") + "+00:00" * value.strip().endswith("Z"))
        except ValueError as error:
            raise ServiceError(Fault(f"{shown(value)} is no time", mend, field="`deadline`")) from error
        if ":" not in value:
            moment = moment.date()
    if isinstance(moment, date) and not isinstance(moment, datetime):
        raise ServiceError(Fault(f"{shown(value)} is a day: when does it end there?", mend, field="`deadline`"))
    if isinstance(moment, time) or not isinstance(moment, datetime):
        raise ServiceError(Fault(f"{shown(value)} is no time of a day", mend, field="`deadline`"))
    try:
        return timestamp((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc))
    except OverflowError as error:  # of the year 1 or 9999
        raise ServiceError(Fault(f"{shown(value)} is no time", mend, field="`deadline`")) from error


def told_time(stamp: str) -> str:
    """Return a time of the tables in words, such as ``2030-01-31 17:00 UTC``."""
    moment = datetime.fromisoformat(stamp)
    return f"{moment:%Y-%m-%d %H:%M}{f':{moment:%S}' if moment.second else ''} UTC"


def time_left(deadline: str, now: datetime) -> str:
    """Return how long it is from now to a deadline, in words: in its largest unit of which it has two or more."""
    left = datetime.fromisoformat(deadline) - now
    for unit, size in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if left >= 2 * size:
            return f"{left // size} {unit}s left"
    return "less than two minutes left" if left >= timedelta(0) else "over"


def with_terms(settings: ServiceSettings, terms: Terms) -> ServiceSettings:
    """Return settings with what the organisers say; raises ServiceError if their deadline is no time."""
    return settings._replace(
        daily=settings.daily if terms.daily is None else terms.daily,
        private=terms.private,
        step=terms.step,
        stands=terms.stands or settings.stands,
        deadline=None if terms.deadline is None else read_deadline(terms.deadline),
        words=Words(terms.title, terms.about, terms.rules),
    )
