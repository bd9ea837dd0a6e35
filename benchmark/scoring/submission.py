"""Predictions as files: a table with an id and a pose a row, and a TOML beside it that says what they are."""

from __future__ import annotations

import csv
import datetime
import difflib
import io
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec
import numpy as np
import tomli_w

from benchmark.scoring.parse import as_written
from benchmark.scoring.protocols import ALL_TASKS, Protocol, tomllib
from headposeplus import archives
from headposeplus.errors import HeadposeError, SubmissionError
from headposeplus.faults import Fault, remarked, said, shown
from headposeplus.files import beside, opened_file, write_text
from headposeplus.poses.columns import ANGLE_COLUMNS, CAMERAS
from headposeplus.poses.containers import KINDS
from headposeplus.poses.tables import MAX_BYTES, Poses, read
from headposeplus.raw.ids import first_rows
from headposeplus.rotations import CONVENTIONS, Floats
from headposeplus.sheets import STRANGERS

REQUIRED = ("name", "authors", "training_data", "convention", "camera", "selection", "uses_target_images")
POSES = ("convention", "camera")  # those without which no angle can be scored; an entry needs the others as well
BLANK = "blank"  # the kind of the fault of one that nobody said
# By which parameter such a fact may be given, where it is not its own name.
_GIVEN_BY = {"selection": "selected_by", "uses_target_images": "target_images"}
# The most characters of each text. What else is worth keeping goes into the table [run], which nothing reads.
TEXTS = {
    "name": 80, "authors": 300, "link": 300, "code": 300, "date": 10, "training_data": 200, "selection": 200,
    "notes": 2000,
    "task": 20, "protocol": 200, "convention": 20, "camera": 20,
    "batch_statistics": 80, "initial_weights": 400, "preset": 80, "preset_changes": 2000, "augment": 80,
    "own_method": 200, "command": 4000, "commit": 80,
}  # fmt: skip
LINKS = ("link", "code")
SWITCHES = ("uses_target_images", "constant_output")
FIELDS = (*TEXTS, *SWITCHES, "seed", "run")
ABOUT = "TOML"  # the file of a fault in the description of predictions, which may have come without a path
_WANTED = f"predictions: {KINDS}"
_MAX_DOTS = 50  # in a line: dotted keys cost a parser their square
_LINK = re.compile(r"https?://[^\s<>\"'\\]+")
_HIDDEN = {"Cc", "Cf", "Co", "Cs"}  # control characters, and those that reverse the writing


class About(msgspec.Struct, frozen=True):
    """What the TOML beside predictions says of them, in the order in which it is written.

    What is wrong with a field is a fault, and the field is then as if it were missing: a text that is needed is empty,
    anything else is None. ``run`` is the table that nothing reads.
    """

    name: str = ""
    authors: str = ""
    link: str | None = None
    code: str | None = None
    date: str | None = None
    protocol: str | None = None
    task: str | None = None
    training_data: str = ""
    convention: str = ""
    camera: str = ""
    selection: str = ""
    uses_target_images: bool | None = None
    constant_output: bool | None = None
    batch_statistics: str | None = None
    initial_weights: str | None = None
    preset: str | None = None
    preset_changes: str | None = None
    augment: str | None = None
    own_method: str | None = None
    seed: int | None = None
    command: str | None = None
    commit: str | None = None
    notes: str | None = None
    run: dict[str, Any] | None = None

    def to_toml(self) -> str:
        """Return the fields that are not None as TOML which :func:`read_about` takes, whatever the names of files."""
        fields = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return tomli_w.dumps(
            fields | {name: _plain(fields[name], most) for name, most in TEXTS.items() if name in fields}
        )


def _plain(text: str, most: int) -> str:
    """Return a text of ``most`` characters at most, all of which can be seen; hidden ones are written as numbers."""
    seen = "".join(ascii(letter)[1:-1] if _is_hidden(letter) else letter for letter in text)
    return seen if len(seen) <= most else f"{seen[: most - 3]}..."


NO_FACTS = About()


def _is_hidden(letter: str) -> bool:
    # A line break is fine: texts are shown on one line.
    return unicodedata.category(letter) in _HIDDEN and letter not in "\n\t"


class Submission(NamedTuple):
    """Predictions: ids (n,), rotations (n, 3, 3), head to camera, and what the TOML says of them."""

    ids: np.ndarray
    rotations: Floats
    about: About


def write_predictions(path: Path, ids: np.ndarray, angles: Floats, about: About) -> None:
    """Write ``predictions.csv`` with angles (n, 3) in degrees, and ``predictions.toml`` beside it."""
    import pandas as pd  # takes longer to import than a score takes

    table = pd.DataFrame(angles, columns=ANGLE_COLUMNS)
    table.insert(0, "id", ids)
    write_text(about_path(path), about.to_toml())
    write_text(path, table.to_csv(index=False, float_format="%.5f", lineterminator="\n"))


def new_place(out: Path, what: str) -> Path:
    """Return the path of the TOML beside a CSV that is to be written.

    Raises
    ------
    SubmissionError
        If ``out`` is no CSV's name, or either file is there already: people fill them in.
    """
    if out.suffix.lower() != ".csv":
        raise SubmissionError(Fault(f"{what} is a CSV", "choose an `out` that ends in .csv", out))
    toml = about_path(out)
    for path in (out, toml):
        if path.exists():
            raise SubmissionError(Fault("there is such a file, and it may be filled in", "choose another `out`", path))
    return toml


def about_path(predictions: Path) -> Path:
    """Return the path of the TOML beside predictions: ``a.toml`` for ``a.csv``, ``a.csv.gz``, ``a.npz`` or ``a.zip``.

    Where there is none beside a zip, but one in it, that is ``a.zip/NAME``, in words: no file has that path.
    """
    path = _beside(predictions)
    if not _may_hold_about(predictions, path):
        return path
    with suppress(HeadposeError):  # reading the predictions tells what is wrong
        inside = archives.unzipped(_read(predictions, MAX_BYTES, _WANTED), STRANGERS)
        if inside and inside.about_name:
            return predictions / _plain(PurePosixPath(inside.about_name).name, 60)
    return path


def has_about(predictions: Path) -> bool:
    """Return whether a TOML lies beside predictions, or in their zip."""
    return (path := about_path(predictions)).exists() or path.parent == predictions


def _beside(predictions: Path) -> Path:
    packed = predictions.suffix.lower() in (".gz", ".zip")
    plain = predictions.with_suffix("")
    return beside(plain if packed and plain.suffix.lower() in archives.TABLES else predictions, ".toml")


def _may_hold_about(predictions: Path, path: Path) -> bool:
    """Return whether predictions may hold their TOML: a zip with none at the path beside it."""
    return predictions.suffix.lower() == ".zip" and not path.exists()


def template(protocol: Protocol, ids: np.ndarray) -> tuple[str, str]:
    """Return a CSV with every id (n,) and empty columns, and a commented TOML, both as text."""
    rows = io.StringIO()
    csv.writer(rows, lineterminator="\n").writerows([("id", *ANGLE_COLUMNS), *((name, "", "", "") for name in ids)])
    title, training, selection, images = (
        " ".join(text.split())
        for text in (protocol.title, protocol.training_data, protocol.selection, protocol.target_images)
    )
    cameras, conventions = " or ".join(CAMERAS), ", ".join(CONVENTIONS)
    about = f"""\
# What the predictions are. Every line but those that begin with # is needed.
{tomli_w.dumps({"protocol": protocol.id}).strip()}  # {title}
name = ""                   # of the method, as it will stand on the board
authors = ""
training_data = ""          # the protocol's: {training}
selection = ""              # how the epoch was chosen; the protocol's: {selection}
uses_target_images = false  # true if training saw test images, without their labels
#                             the protocol: {images}
convention = "{protocol.convention}"          # of the angles: {conventions} (see docs/angles.md); a rotation has none
camera = "{protocol.camera}"              # {cameras}; the protocol scores poses in the {protocol.camera} camera

# link = "https://"         # to the paper
# code = "https://"         # to the code
# date = "2026-01-31"       # of the predictions, or of the paper
# seed = 0                  # of this run; other seeds are files of their own
# command = ""              # that made the predictions
# commit = ""               # of the code
# notes = ""
# constant_output = true    # where every frame has the same pose on purpose
# [run]                     # anything else; nothing reads it
"""
    return rows.getvalue(), about


def about_fault(field: str, what: str, mend: str) -> Fault:
    """Return a fault in a field of the description of predictions."""
    return Fault(what, mend, ABOUT, field)


def read_about(data: bytes) -> tuple[About, list[Fault]]:
    """Return what a TOML says, as far as it is as it should be, and what is wrong with it."""
    content = _parsed(data)
    if isinstance(content, Fault):
        return About(), [content]
    toml = data.decode("utf-8-sig")
    faults: list[Fault] = []
    fields: dict[str, Any] = {}
    for key in REQUIRED:
        value = content.get(key, "")
        if isinstance(value, str) and not value.strip():
            what = "missing" if key not in content else "empty"
            faults.append(about_fault(key, what, _expected(key))._replace(kind=BLANK))
    for key, value in content.items():
        text = value.isoformat() if key == "date" and isinstance(value, datetime.date) else value  # TOML has dates
        fault = _field_fault(key, text, toml)
        if isinstance(text, str):  # of a command, the spaces may be those of a path
            text = " ".join(text.splitlines() if key == "command" else text.split())
        if fault is not None:
            faults.append(fault)
        elif text or key not in REQUIRED or text is False:
            fields[key] = text
    return About(**fields), faults


def _parsed(data: bytes) -> dict[str, Any] | Fault:
    """Return the content of a TOML, or why it cannot be read."""
    if len(data) > archives.MAX_ABOUT:
        mend = f"keep to the fields of the template, {archives.MAX_ABOUT:,} bytes at most"
        return about_fault("", f"{len(data):,} bytes", mend)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return about_fault("", "not UTF-8", "save it as UTF-8")
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MAX_DOTS:
            return Fault(f"more than {_MAX_DOTS} dots", 'part a long text by """', ABOUT, rows=(number,))
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:
        mend = 'write texts in quotes, name = "text", and true or false in small letters'
        return about_fault("", f"not TOML: {said(error, 120)}", mend)


def _expected(key: str) -> str:
    if key in SWITCHES:
        return f"write {key} = true or false"
    if key == "convention":
        return f"write one of {', '.join(CONVENTIONS)}"
    if key == "camera":
        return f"write {' or '.join(CAMERAS)}"
    return f'write {key} = "text", of {TEXTS[key]:,} characters at most'


def _field_fault(key: str, value: object, toml: str) -> Fault | None:
    """Return what is wrong with a field of a TOML; None if nothing is."""
    if key not in FIELDS:
        near = difflib.get_close_matches(key[:80], FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else "remove it, or move it below [run]"
        return about_fault(shown(key), "an unknown field", hint)
    if key in TEXTS:
        return _text_fault(key, value, toml)
    if key == "run":
        fine, wanted, expected = isinstance(value, dict), "table", "write [run] with the fields below it"
    elif key == "seed":
        fine = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
        wanted, expected = "whole number from 0 on", "write seed = 0, or whichever it was"
    else:
        fine, wanted, expected = isinstance(value, bool), "true or false", _expected(key)
    return None if fine else about_fault(key, f"{as_written(toml, key, value)} is no {wanted}", expected)


def _text_fault(key: str, value: object, toml: str) -> Fault | None:
    """Return what is wrong with a text of a TOML; None if nothing is."""
    known = {"convention": CONVENTIONS, "camera": CAMERAS, "task": ALL_TASKS}.get(key)
    if not isinstance(value, str):
        what, mend = f"{as_written(toml, key, value)} is no text", _expected(key)
    elif len(value) > TEXTS[key]:
        what, mend = f"{len(value):,} characters", _expected(key)
    elif any(map(_is_hidden, value)):
        what, mend = f"hidden characters in {value[:40]!a}", "write letters, digits and signs that can be seen"
    elif value and known is not None and value not in known:
        near = f"did you mean {value.lower()}? " if value.lower() in known else ""
        what, mend = f"{shown(value)} is unknown", f"{near}write one of {', '.join(known)}"
    elif key in LINKS and value and not _LINK.fullmatch(value):
        what, mend = f"{shown(value)} is no link", "begin it with http:// or https://, or leave it empty"
    elif key == "date" and value and not _is_date(value):
        what, mend = f"{shown(value)} is no date", 'write date = "2026-01-31": the year, the month, the day'
    else:
        return None
    return about_fault(key, what, mend)


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def read_files(path: Path, facts: About = NO_FACTS) -> tuple[bytes, bytes]:
    """Return the bytes of predictions, and those of the TOML beside them with ``facts`` in it, within limits.

    Where there is no TOML, the facts alone are in it; without any it is empty.

    Raises
    ------
    SubmissionError
        If the predictions are missing, a file is larger than what is read, or the TOML says another thing than the
        facts do.
    """
    data, toml = _read_both(path)
    told = {name: value for name, value in msgspec.structs.asdict(facts).items() if value not in ("", None)}
    content = _parsed(toml)
    if not told or isinstance(content, Fault):  # what is wrong with the TOML is told when it is read
        return data, toml
    for name, value in told.items():
        theirs = content.get(name, "")
        if theirs not in ("", value):
            what = f"{shown(theirs)} there, but {shown(value)} by `{given_by(name)}`"
            mend = "leave that out, or change the line"
            raise SubmissionError(Fault(what, mend, about_path(path), name))
    return data, tomli_w.dumps(content | told).encode()


def given_by(field: str) -> str:
    """Return the parameter by which a fact may be given that a TOML would say."""
    return _GIVEN_BY.get(field, field)


def given(fields: Sequence[str]) -> str:
    """Return by which parameters facts may be given, and what some can be."""
    words = [(f"`{given_by(field)}`", _choice(field)) for field in fields]
    return ", ".join(" ".join(filter(None, both)) for both in words)


def _read_both(path: Path) -> tuple[bytes, bytes]:
    """Return the bytes of predictions and of the TOML beside them; none where there is no TOML."""
    data, about = _read(path, MAX_BYTES, _WANTED), _beside(path)
    if _may_hold_about(path, about):
        try:
            inside = archives.unzipped(data, STRANGERS, archives.MAX_ABOUT)
        except HeadposeError as error:
            raise SubmissionError(error.fault._replace(file=path)) from error
        if inside and inside.about_name:
            return data, inside.about
    if not about.exists():
        return data, b""
    return data, _read(about, archives.MAX_ABOUT, f"a description of the predictions with {', '.join(REQUIRED)}")


def _read(file: Path, limit: int, what: str) -> bytes:
    """Return the bytes of a file; raises SubmissionError if it is missing or larger than the limit."""
    try:
        with opened_file(file) as opened:
            data = opened.read(limit + 1)
    except OSError as error:
        hint = "; hpp submission template writes both files" if isinstance(error, FileNotFoundError) else ""
        raise SubmissionError(Fault(f"expected {what}: {error.strerror}{hint}", file=file)) from error
    if len(data) > limit:
        raise SubmissionError(Fault(f"more than {limit:,} bytes", "keep only the fields of the template", file))
    return data


def of_other_statistics(path: Path, kind: str) -> Path:
    """Return where the predictions lie that the same model makes under other batch statistics, if it left any."""
    return path.with_name(f"{path.stem}-{kind}.csv")


def read_submission(path: Path) -> Submission:
    """Return the predictions of a file and the TOML beside it.

    Raises
    ------
    SubmissionError
        If a file is missing, or there is any fault in one: the first is told, and how many there are.
    """
    data, toml = read_files(path)
    about, faults = read_about(toml)
    stop(path, faults)
    poses = read(data, about.convention)
    stop(path, [*poses.faults, *repeated(poses)])
    return Submission(poses.ids, poses.rotations, about)


def repeated(poses: Poses) -> list[Fault]:
    """Return the fault of ids that come twice, if any do."""
    first = first_rows(poses.ids)
    again = first != np.arange(len(poses.ids))
    if not again.any():
        return []
    at = int(again.argmax())
    place = poses.lines[first[at]]
    what = f"{shown(poses.ids[at])} comes twice, first in {poses.unit} {place}"
    return [poses.fault(again, what, "keep one row a frame")]


def blank_fault(path: Path, faults: list[Fault]) -> Fault:
    """Return the one fault of all facts that nobody said of predictions, from the faults of each."""
    names = [fault.field for fault in faults]
    if len(names) == 1:
        return faults[0]
    needs = "these poses need" if set(names) <= set(POSES) else "an entry of a scoreboard needs"
    mend = f"give {given(names)}, or write them into {about_path(path).name}"
    return Fault(f"{needs} {', '.join(names)}, which nothing says", mend, ABOUT)


def _choice(field: str) -> str:
    """Return what a field can be, as it is typed; empty if that is any text."""
    if field == "uses_target_images":
        return "or --no-target-images"
    return " or ".join({"convention": CONVENTIONS, "camera": CAMERAS}.get(field, ()))


def placed(fault: Fault, path: Path) -> Fault:
    """Return a fault of predictions with the file that it is in: theirs, or the TOML beside them."""
    if fault.file != ABOUT:
        return fault._replace(file=path)
    toml, there = about_path(path), has_about(path)
    if fault.kind != BLANK:
        return fault._replace(file=toml if there else path)
    if there:
        return fault._replace(file=toml, mend=f"{fault.mend}, or give `{given_by(fault.field)}`")
    return fault._replace(file=path, mend=f"give {given([fault.field])}, or say it in {toml.name}")


def stop(path: Path, faults: list[Fault]) -> None:
    """Raise SubmissionError if there are faults; what nobody said is told at once."""
    blank = [fault for fault in faults if fault.kind == BLANK]
    if blank:
        faults = [blank_fault(path, blank), *(fault for fault in faults if fault.kind != BLANK)]
    if faults:
        first = placed(faults[0], path)
        raise SubmissionError(
            remarked(first, f"the first of {len(faults)} faults: hpp check lists them all") if faults[1:] else first
        )
