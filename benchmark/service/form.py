"""The form in which a person describes predictions: a field for each fact of the TOML, and that TOML's own checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tomli_w
from markupsafe import Markup

from benchmark.scoring.check import against_protocol
from benchmark.scoring.protocols import Protocol
from benchmark.scoring.submission import ABOUT, BLANK, REQUIRED, SWITCHES, TEXTS, read_about
from headposeplus.faults import Fault
from headposeplus.poses.columns import CAMERAS
from headposeplus.rotations import CONVENTIONS

ROTATIONS = "rotations"  # chosen in place of a convention: a rotation has none, and the names of columns may say it
# Label and help of each fact that is asked for. What few have to say stands in a TOML alone.
_ASKED = {
    "name": ("Method", "As it will stand on the board."),
    "authors": ("Authors", "On the entry's page; the board has your team's name."),
    "link": ("Paper", "An address that begins with http:// or https://"),
    "code": ("Code", "An address that begins with http:// or https://"),
    "training_data": ("Trained on", "Such as 300W-LP, with what else its weights have seen."),
    "initial_weights": ("Backbone and first weights", "Such as ResNet-50, ImageNet."),
    "selection": ("How the epoch was chosen", "Such as: the last epoch."),
    "uses_target_images": ("Test images in training", "Whether it saw any, without their labels."),
    "convention": (
        "Convention of the angles",
        "In which of these your angles are; they are turned into the protocol's.",
    ),
    "camera": ("Camera of the poses", "The one whose images the network saw, unless you turned the poses."),
    "seed": ("Seed", "Of this run, a whole number; other seeds are submissions of their own."),
    "notes": ("Notes", "Anything else that readers should know."),
}
_OTHERS = {
    "token": "Token",
    "protocol": "Protocol",
    "predictions": "Predictions",
    "about": "TOML",
    "publish": "Scoreboard",
}
_ADDRESS = ' autocomplete="url" inputmode="url" autocapitalize="off" spellcheck="false" placeholder="https://"'
_HINTS = {
    "name": ' autocomplete="off"',
    "authors": ' autocomplete="organization"',
    "link": _ADDRESS,
    "code": _ADDRESS,
    "seed": ' autocomplete="off" inputmode="numeric"',
}
_MANY_DOTS = 50  # in a line of a TOML, beyond which it is refused
MOST_FIELDS = 20


class Field(NamedTuple):
    """A field of the form. ``choices`` are values and what each says; ``most`` is how many characters it takes."""

    name: str
    label: str
    help: str
    required: bool
    most: int
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def hints(self) -> Markup:
        """The attributes by which a browser helps to fill it in."""
        return Markup(_HINTS.get(self.name, ""))


class Sent(NamedTuple):
    """What a person sent, so that the form can show it again.

    ``values`` are the texts by field, ``faults`` what is wrong by field, ``toml`` whether a TOML came in place of the
    fields.
    """

    values: Mapping[str, str] = {}
    faults: Mapping[str, str] = {}
    toml: bool = False


NOTHING = Sent()


def fields(protocols: Sequence[Protocol]) -> list[Field]:
    """Return the fields in their order; where there is one protocol, their help says what it wants."""
    wanted = {}
    if len(protocols) == 1:
        [protocol] = protocols
        wanted = {
            "training_data": f"The protocol's: {protocol.training_data}.",
            "selection": f"The protocol's: {protocol.selection}.",
            "uses_target_images": f"The protocol: {protocol.target_images}.",
            "camera": f"{protocol.id} scores those in the {protocol.camera} camera.",
        }
    return [
        Field(
            name,
            label,
            f"{text} {wanted.get(name, '')}".strip(),
            name in REQUIRED,
            TEXTS.get(name, 20),
            tuple(_choices(name).items()),
        )
        for name, (label, text) in _ASKED.items()
    ]


def _choices(name: str) -> dict[str, str]:
    if name == "convention":
        return {known: known for known in CONVENTIONS} | {ROTATIONS: "none: rotations, or columns that name it"}
    if name == "camera":
        return {known: f"{known} camera" for known in CAMERAS}
    if name in SWITCHES:
        return {"false": "no, none", "true": "yes, without labels"}
    return {}


def label(field: str) -> str:
    """Return what the form calls a field; the name of one that it does not have."""
    return _ASKED[field][0] if field in _ASKED else _OTHERS.get(field, field)


def summary(sent: Sent) -> list[tuple[str, str]]:
    """Return the fields of a form that something is wrong with, in its order, and a line on each."""
    order = ("token", "protocol", "predictions", "about", *_ASKED, "publish")
    return [
        (name, f"{label(name)}: {sent.faults[name]}" if name in _ASKED else sent.faults[name])
        for name in order
        if name in sent.faults
    ]


def place_in_words(where: str) -> str:
    """Return the place of a fault of a description by the form's words, where that knows its field."""
    file, _, field = where.partition(", ")
    return f"{label(field)} ({field})" if file == ABOUT and field in _ASKED else where


def in_lines(faults: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a form, a line a field, by the names that programs give them."""
    return [f"{name}: {text}" if name in _ASKED else text for name, text in faults.items()]


def has_fields(values: Mapping[str, str]) -> bool:
    """Return whether any field of a description came, filled in or not."""
    return not _ASKED.keys().isdisjoint(values)


def is_filled_in(values: Mapping[str, str]) -> bool:
    """Return whether any field of a description holds something."""
    return any(values.get(name, "").strip() for name in _ASKED)


def described(values: Mapping[str, str], protocol: Protocol | None) -> tuple[bytes, dict[str, str]]:
    """Return the TOML that fields stand for, and what is wrong with it by field, as reading any TOML tells it."""
    texts = {name: values.get(name, "").strip().replace("\r\n", "\n") for name in _ASKED}
    facts: dict[str, object] = {"protocol": protocol.id} if protocol else {}
    facts |= {name: _value(name, text) for name, text in texts.items() if text}
    unsaid = texts["convention"] == ROTATIONS
    if unsaid:
        del facts["convention"]
    # A line of many dots is refused for what dotted keys cost; here they are all in texts.
    lines = [
        line.replace(".", r"\u002E") if line.count(".") > _MANY_DOTS else line
        for line in tomli_w.dumps(facts).split("\n")
    ]
    toml = "\n".join(lines).encode("utf-8", "replace")
    about, faults = read_about(toml)
    if protocol:
        faults += against_protocol(about, protocol)
    longest = max(texts, key=lambda name: len(texts[name]))
    told = {fault.field or longest: _in_words(fault) for fault in reversed(faults)}
    if unsaid:
        told.pop("convention", None)
    return toml, {name: told[name] for name in (*_ASKED, *told) if name in told}


def _value(name: str, text: str) -> object:
    """Return what a text of a field stands for; itself where it is none of what the fact can be."""
    if name in SWITCHES:
        return {"true": True, "false": False}.get(text.lower(), text)
    if name == "seed" and text.isascii() and text.isdecimal() and len(text) < 1000:
        return int(text)
    return text


def _in_words(fault: Fault) -> str:
    """Return a fault of a field in the form's words: how to write a TOML is of no help there."""
    mend = fault.mend
    if fault.kind == BLANK:
        mend = "choose one" if _choices(fault.field) else "fill it in"
    elif fault.field == "seed":
        mend = "write a whole number from 0 on, or nothing"
    elif mend.startswith(f"write {fault.field} = ") and fault.field in TEXTS:
        mend = f"write {TEXTS[fault.field]:,} characters at most"
    return f"{fault.what}; {mend}"
