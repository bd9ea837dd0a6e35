"""Values with types from what comes from outside; what is wrong there is one fault that names the field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, said
from headposeplus.files import parse_json

Value = TypeVar("Value", bound=msgspec.Struct)
_PLACE = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)  # msgspec says the place of a fault in its words only


def from_json(data: bytes, kind: type[Value], limit: int, wrong: str, mend: str = "", file: Path | str = "") -> Value:
    """Return the value that JSON of at most ``limit`` bytes holds.

    ``wrong`` is what the fault says before the details, such as ``not an entry of the scoreboard``.

    Raises
    ------
    SubmissionError
        If it is too large, no UTF-8, no JSON (which has no NaN), has a key twice, or does not fit the type.
    """
    try:
        if len(data) > limit:
            raise ValueError(f"more than {limit:,} bytes")
        value = msgspec.json.decode(data, type=kind)
        if _as_written(value) != data:
            parse_json(data)  # msgspec sees no key that comes twice
        return value
    except (ValueError, RecursionError) as error:
        raise SubmissionError(_fault(error, kind, wrong, mend, file)) from error


def _as_written(value: msgspec.Struct) -> bytes:
    """Return a value as the toolkit writes it, or nearly: no key comes twice there, and it takes half as long."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def from_plain(content: object, kind: type[Value], wrong: str, mend: str = "", file: Path | str = "") -> Value:
    """Return the value that plain values, such as those of a TOML, stand for; raises SubmissionError if they do not."""
    try:
        return msgspec.convert(content, kind)
    except (ValueError, RecursionError) as error:
        raise SubmissionError(_fault(error, kind, wrong, mend, file)) from error


def _fault(error: Exception, kind: type[msgspec.Struct], wrong: str, mend: str, file: Path | str) -> Fault:
    told = _PLACE.fullmatch(str(error))
    words, field = told.groups() if told else (str(error), "")
    choices = _choices(kind, field)
    words = _visible(said(words.replace("`", ""), 200))
    words = words if words.startswith("JSON") else words[:1].lower() + words[1:]
    expected = f", expected one of {', '.join(map(str, choices))}" if choices else ""
    return Fault(f"{wrong}: {words}{expected}", mend, file, _visible(said(field, 100)))


def _visible(text: str) -> str:
    """Return a text, which may quote a stranger's, without characters that steer a terminal or turn the writing."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _choices(kind: Any, field: str) -> tuple[object, ...]:
    """Return the values that a field such as ``protocol.camera`` can have, if they are few."""
    for name in field.split("."):
        if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
            return ()
        kind = get_type_hints(kind).get(name)
    literal = next((part for part in (kind, *get_args(kind)) if get_origin(part) is Literal), None)  # or also None
    return get_args(literal)
