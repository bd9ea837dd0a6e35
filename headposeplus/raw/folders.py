"""Looking for raw copies in folders of which some may not be listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from pathlib import Path

from headposeplus.errors import RawDataError
from headposeplus.faults import Fault, unreadable


def listing(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted; raises RawDataError if it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise RawDataError(unreadable(folder, error, "a folder")) from error


def find(
    folder: Path,
    name: str,
    layout: str,
    is_part: Callable[[str, list[Path]], bool],
    levels: int,
    skip: Container[str] = (),
) -> Path:
    """Return the first folder, ``folder`` itself or one up to ``levels`` below it, that holds a part of a raw copy.

    ``is_part`` is given the name of a folder in it and what that holds. Folders named in ``skip`` are not looked
    into. One that cannot be listed may be none of the copy's, so it is passed over, and told if nothing is found.

    Raises
    ------
    RawDataError
        If there is no such folder, or ``folder`` itself cannot be listed.
    """
    if not os.path.isdir(folder):
        raise RawDataError(Fault("no such folder", f"give the one that holds {name}: {layout}", folder))
    level = {folder: listing(folder)}
    refused = ""
    for _ in range(levels + 1):
        below: dict[Path, list[Path]] = {}
        for place, children in level.items():
            for child in children:
                if child.name in skip or not os.path.isdir(child):
                    continue
                try:
                    below[child] = listing(child)
                except RawDataError as error:
                    refused = refused or f"; not looked into: {error}"
                    continue
                if is_part(child.name, below[child]):
                    return place
        level = below
    raise RawDataError(Fault(f"not {name}", f"expected {layout}, here or up to {levels} folders down{refused}", folder))
