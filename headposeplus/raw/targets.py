"""The datasets that methods are tested on: Biwi+, and those of stills. A further one is a line in :data:`STILLS`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headposeplus.raw import aflw2000, ids, manifest
from headposeplus.raw.manifest import Manifest
from headposeplus.raw.stills import StillSet

BIWI_PLUS = "biwi+"  # what is meant where nothing names a target
STILLS: dict[str, StillSet] = {stills.name: stills for stills in (aflw2000.AFLW2000,)}
TARGETS = (BIWI_PLUS, *STILLS)
TITLES = {BIWI_PLUS: "Biwi+", **{name: stills.title for name, stills in STILLS.items()}}
FORMS = f"{ids.FORMS}, or {' or '.join(stills.id(2) for stills in STILLS.values())}"


def split_task(task: str) -> tuple[str, str]:
    """Return the kind of a task and its target, ``pda`` and ``aflw2000`` of ``pda-aflw2000``; without one, Biwi+."""
    kind, _, target = task.partition("-")
    return kind, target or BIWI_PLUS


def join_task(kind: str, target: str) -> str:
    """Return the task that :func:`split_task` takes apart."""
    return kind if target == BIWI_PLUS else f"{kind}-{target}"


def of_protocol(protocol: str) -> str | None:
    """Return the target whose name a protocol's id begins with; None if there is none."""
    name = protocol.partition("/")[0]
    return name if name in TARGETS else None


def of_ids(ids: Sequence[str] | np.ndarray) -> str | None:
    """Return the dataset of stills that the first of some ids is of; None if there is none."""
    name = str(ids[0]).partition("/")[0] if len(ids) else ""
    return name if name in STILLS else None


def parse_frame(text: str) -> str | None:
    """Return the id of a target's frame however it is written; None if the text names none."""
    found = ids.parse_frame(text)
    for stills in STILLS.values():
        number = stills.number(text)
        if found is None and number is not None:
            found = stills.id(number)
    return found


def as_ids(names: Sequence[str]) -> list[str]:
    """Return names of frames as ids, where they name a target's; others stay as they are.

    Photographs of one's own may be called ``image00001.jpg`` as well: such names are a target's only where all of
    them are, and the manifest lists each.
    """
    own = [ids.parse_frame(name) for name in names]
    if names and not any(own):
        photographs = [parse_frame(name) for name in names]
        if all(photographs):
            table = manifest.read()
            listed = {
                stills.id(number)
                for name, stills in STILLS.items()
                for unit in manifest.listed_units(table, name).values()
                for number in unit.numbers
            }
            own = [name if name in listed else None for name in photographs]
            own = own if all(own) else [None] * len(names)
    return [found or name for name, found in zip(names, own, strict=True)]


def file_of(frame: str) -> str:
    """Return the path of a frame's image below the root of its raw copy, from its id."""
    name, _, rest = frame.partition("/")
    if name in STILLS:
        return f"{rest}{STILLS[name].image}"
    sequence, _, number = rest.partition("/")
    return f"{sequence}/frame_{number}_rgb.png"


def listed_ids(table: Manifest) -> dict[str, list[str]]:
    """Return the ids of each target's frames that the manifest lists, sorted."""
    listed = {
        BIWI_PLUS: [ids.frame_id(name, n) for name, numbers in manifest.biwi_frames(table).items() for n in numbers]
    }
    for name, stills in STILLS.items():
        unit = manifest.listed_units(table, name).get(manifest.TESTED)
        listed[name] = [stills.id(number) for number in unit.numbers] if unit else []
    return {name: sorted(frames) for name, frames in listed.items()}
