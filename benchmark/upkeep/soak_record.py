"""The record of a soak: what was tried against the commands and the service, how often, and what came of it."""

from __future__ import annotations

from collections import Counter

import msgspec

from benchmark.upkeep.walk import ROOT
from headposeplus import tables

RECORD = ROOT / "results" / "soak.json"


class Killed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command's kills.

    ``seconds`` is how long it takes, ``kills`` how many times it was killed, ``early`` how many of these came before
    its end, ``survivors`` how many processes were left after ten seconds, ``equal`` how many runs then ended in the
    same as one that was not killed, and ``leftovers`` how many half-written files lay beside that.
    """

    command: str
    seconds: float
    kills: int
    early: int
    survivors: int
    equal: int
    leftovers: int


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the submissions to services that were killed.

    Of those ``sent``, ``acknowledged`` were before the kill, and all were sent again after it. ``rows`` is how many
    the databases then held, ``scored`` how many of these were scored as without a kill, and ``lost`` how many that
    had been acknowledged were not there by the same id.
    """

    sent: int
    acknowledged: int
    rows: int
    scored: int
    lost: int


class NoRoom(msgspec.Struct, frozen=True, kw_only=True):
    """What a command said where there was no room, and whether it went on to the same files when there was."""

    command: str
    where: str
    status: int
    said: str
    lines: int
    equal: bool


class Silent(msgspec.Struct, frozen=True, kw_only=True):
    """What visitors got while ``connections`` that ask nothing were held open, and opened again where they ended.

    ``opened`` is how many there were in all. Of the pages that were ``asked`` for, ``answered`` came, the slowest after
    ``slowest`` seconds. The log has ``lines``, ``requests`` of which are of these pages.
    """

    connections: int
    seconds: float
    opened: int
    asked: int
    answered: int
    slowest: float
    lines: int
    requests: int


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """What an attack on secret labels gained; errors are the MAE on all frames, in degrees.

    ``informative`` is how many of the ``queries`` were told another figure than the one before. ``after`` is the error
    of what the answers made of predictions that had ``before``, ``in_full`` that of what they make of them where the
    whole figure is told each time.
    """

    name: str
    labels: str
    frames: int
    queries: int
    informative: int
    before: float
    after: float
    in_full: float


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How far off the target's poses are that a method takes from the order of rows, in degrees.

    ``looking`` is by the rows that it looks at, ``drawing`` by those of its batches; ``poses`` is how many the former
    guesses. ``ours`` is the larger of both where it is a method of the project, which sees the files' order, and
    ``blind`` is how far off they all are from their mean, which takes no counting.
    """

    labels: str
    poses: int
    looking: float
    drawing: float
    ours: float
    blind: float


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a part of a soak."""

    killed: Killed | None = None
    sent: Sent | None = None
    no_room: list[NoRoom] = []
    silent: Silent | None = None
    attacks: list[Attack] = []
    counted: Counted | None = None


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """A record of kills, full disks, silent connections and attacks on labels, by the names of its parts."""

    toolkit: str
    processor: str
    seed: int
    parts: dict[str, Part] = {}


Row = tuple[str, str, str]


def _kills(parts: list[Part]) -> list[Row]:
    rows = []
    for found in (part.killed for part in parts if part.killed):
        came = f"ended in the same {found.equal} times; {found.survivors} processes left"
        if found.leftovers:
            came += f"; {found.leftovers} half-written files"
        rows.append((f"`{found.command}`, killed", f"{found.kills} times, {found.early} in time", came))
    for sent in (part.sent for part in parts if part.sent):
        came = f"{sent.acknowledged} acknowledged before the kill, {sent.lost} of them lost; "
        came += f"{sent.rows} rows, {sent.scored} scored as without a kill"
        rows.append(("predictions sent to `hpp serve`, killed, and again", f"{sent.sent} files", came))
    return rows


def _rooms(parts: list[Part]) -> list[Row]:
    rows, all_of_them = [], [found for part in parts for found in part.no_room]
    for where, count in Counter(found.where for found in all_of_them).items():
        here = [found for found in all_of_them if found.where == where]
        refused = sum(found.status == 1 and found.lines == 1 for found in here)
        came = f"{refused} said so in one line; {sum(found.equal for found in here)} went on to the same files"
        rows.append((where, f"{count} commands", came))
    return rows


def _visits(parts: list[Part]) -> list[Row]:
    rows = []
    for found in (part.silent for part in parts if part.silent):
        came = f"{found.answered} of {found.asked} pages answered, the slowest in {found.slowest:.2f} s; "
        came += f"{found.lines} lines of log, {found.requests} of them of these pages"
        tried = f"{found.connections} connections that ask nothing, while others ask for pages"
        rows.append((tried, f"{found.seconds:.0f} s, {found.opened:,} opened", came))
    return rows


def _attacks(parts: list[Part]) -> list[Row]:
    rows = []
    for found in (attack for part in parts for attack in part.attacks):
        came = f"{found.informative} told another figure; MAE {found.before:.2f} -> {found.after:.2f} "
        came += f"(-> {found.in_full:.2f} if the whole figure were told)"
        rows.append((f"{found.name}, {found.labels}", f"{found.queries} submissions", came))
    for counted in (part.counted for part in parts if part.counted):
        came = f"{counted.looking:.1f} and {counted.drawing:.1f} degrees off, the mean pose {counted.blind:.1f} "
        came += f"({counted.ours:.1f} in the files' order)"
        tried = f"a method that counts rows to read off the target's poses, {counted.labels}"
        rows.append((tried, f"{counted.poses} poses", came))
    return rows


def describe_soak(record: Soak, style: str = "simple") -> str:
    """Return the record as a table, and on what it was made."""
    parts = list(record.parts.values())
    found = [*_kills(parts), *_rooms(parts), *_visits(parts), *_attacks(parts)]
    rows = [{"tried": tried, "how often": often, "what came of it": came} for tried, often, came in found]
    about = f"Seed {record.seed}, release {record.toolkit}, on {record.processor}."
    return tables.with_note(rows, about, style)
