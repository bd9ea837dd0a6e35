"""Values with types from what comes from outside; what is wrong there is one fault that names the field."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, said, shown
from headposeplus.files import parse_json

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
        raise SubmissionError(_fault(error, kind, wrong, mend, file, data)) from error


def _as_written(value: msgspec.Struct) -> bytes:
    """Return a value as the toolkit writes it, or nearly: no key comes twice there, and it takes half as long."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def from_plain(content: object, kind: type[Value], wrong: str, mend: str = "", file: Path | str = "") -> Value:
    """Return the value that plain values, such as those of a TOML, stand for; raises SubmissionError if they do not."""
    try:
        return msgspec.convert(content, kind)
    except (ValueError, RecursionError) as error:
        raise SubmissionError(_fault(error, kind, wrong, mend, file, content)) from error


def as_written(toml: str, key: str, value: object) -> str:
    """Return how a value of a TOML's key stands in its text, ``1e400`` for inf, in short; a text in quotes."""
    if isinstance(value, str):
        return shown(value)
    for line in re.finditer(rf"""^[ \t]*(["']?){re.escape(key)}\1[ \t]*=([^\n]*)""", toml, re.MULTILINE):
        # In another key's text there may be a line that looks so.
        with suppress(ValueError, RecursionError):
            if repr(tomllib.loads(f"x = {line[2]}")["x"]) == repr(value):
                return shown(line[2].partition("#")[0].strip())
    return shown(value)


def _fault(
    error: Exception, kind: type[msgspec.Struct], wrong: str, mend: str, file: Path | str, content: object
) -> Fault:
    told = _PLACE.fullmatch(str(error))
    words, field = told.groups() if told else (str(error), "")
    choices = _choices(kind, field)
    words = _visible(said(words.replace("`", ""), 200))
    words = words if words.startswith("JSON") else words[:1].lower() + words[1:]
    found = _found(content, field) if words.startswith("expected") else ""
    expected = f", expected one of {', '.join(map(str, choices))}" if choices else ""
    return Fault(f"{wrong}: {words}{found}{expected}", mend, file, _visible(said(field, 100)))


def _found(content: object, field: str) -> str:
    """Return what stands at a place such as ``protocol.label_mean[0]`` of a content, in words; nothing of a table."""
    try:
        value = parse_json(content) if isinstance(content, bytes) else content
        for place, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", field):
            value = value[int(place) if place else name]  # type: ignore[index]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    if isinstance(value, dict | list):
        return ""
    return f", found {shown(str(value).lower() if isinstance(value, bool) else value)}"


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
