"""Looking for raw copies in folders of which some may not be listed, and for files in them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from headposeplus import files
from headposeplus.errors import HeadposeError, RawDataError
from headposeplus.faults import Fault, unreadable

# Folders of the images of rendered heads: they are many, and none holds a raw copy.
_HEAD = re.compile(r"[fm]\d\d")


class TwoCopiesError(HeadposeError):
    """Two copies of the raw data are as full as each other: nothing says which is meant."""


def listing(folder: Path, *suffixes: str) -> list[Path]:
    """Return what a folder holds as :func:`headposeplus.files.listing` does; raises RawDataError if it cannot."""
    try:
        return files.listing(folder, *suffixes)
    except HeadposeError as error:
        raise RawDataError(error.fault) from error


def by_name(folder: Path) -> dict[str, Path]:
    """Return what a folder holds by its names in lower case; nothing if it cannot be listed, or is not there."""
    try:
        return {path.name.lower(): path for path in listing(folder)}
    except RawDataError:
        return {}


def present(paths: Iterable[Path]) -> list[Path]:
    """Return those of some files that are there, as they are spelled; each folder is listed once."""
    held: dict[Path, dict[str, Path]] = {}
    found = []
    for path in paths:
        if path.parent not in held:
            held[path.parent] = by_name(path.parent)
        if spelling := held[path.parent].get(path.name.lower()):
            found.append(spelling)
    return found


def spelled(path: Path) -> Path:
    """Return a file's path as it is spelled, such as ``RGB.CAL`` for ``rgb.cal``; as given if there is none."""
    return path if os.path.lexists(path) else by_name(path.parent).get(path.name.lower(), path)


def _look_below(folder: Path, levels: int) -> tuple[dict[Path, list[str]], str]:
    """Return the names in a folder and in those up to some levels below it, and in words which cannot be listed.

    Raises
    ------
    RawDataError
        If ``folder`` itself cannot be listed.
    """
    try:
        held = {folder: files.names(folder)}
    except OSError as error:
        raise RawDataError(unreadable(folder, error, "a folder")) from error
    level, refused = [folder], ""
    for _ in range(levels):
        below = []
        for place in level:
            for child in (place / name for name in files.folders(place) if not _HEAD.fullmatch(name)):
                try:
                    held[child] = files.names(child)
                    below.append(child)
                except OSError as error:
                    refused = refused or f"; not looked into: {unreadable(child, error, 'a folder')}"
        level = below
    return held, refused


def find(
    folder: Path,
    name: str,
    layout: str,
    root_of: Callable[[Path, list[str]], Path | None],
    count: Callable[[Path], Mapping[str, int]],
    levels: int,
) -> Path:
    """Return the root of the raw copy in ``folder``, of several the fullest: ``folder`` itself, or one below it.

    Parameters
    ----------
    folder
        Where to look.
    name, layout
        Of what is looked for, in words.
    root_of
        Is given each folder and the names in it; returns the root of which it is a part, or None.
    count
        Returns how much a root holds, such as ``{"sequences": 24, "frames": 15678}``: first what decides.
    levels
        How far below ``folder`` the root may be, whose parts are one further.

    Raises
    ------
    RawDataError
        If there is no such folder, or ``folder`` itself cannot be listed. One below it that cannot be listed may be
        none of the copy's, so it is passed over, and told if nothing is found.
    TwoCopiesError
        If two copies are the fullest.
    """
    if not os.path.isdir(folder):
        raise RawDataError(Fault("no such folder", f"give the one that holds {name}: {layout}", folder))
    held, refused = _look_below(folder, levels + 1)
    parts: dict[Path, list[Path]] = {}
    for place, inside in held.items():
        root = root_of(place, inside)
        if root in held:
            parts.setdefault(root, []).append(place)
    # Links lead to one copy in several ways: the first is taken.
    roots: dict[frozenset[str], Path] = {}
    for root, places in parts.items():
        roots.setdefault(frozenset(map(os.path.realpath, places)), root)
    if not roots:
        what = f"expected {layout}, here or up to {levels} folders down{refused}"
        raise RawDataError(Fault(f"not {name}", what, folder))
    return _fullest(list(roots.values()), folder, name, count)


def _fullest(roots: list[Path], folder: Path, name: str, count: Callable[[Path], Mapping[str, int]]) -> Path:
    counts = {}
    for root in roots if len(roots) > 1 else ():
        with suppress(RawDataError):  # one that cannot be listed is no fuller than others
            counts[root] = count(root)
    if not counts:
        return roots[0]
    most = max(tuple(counted.values()) for counted in counts.values())
    fullest = [root for root, counted in counts.items() if tuple(counted.values()) == most]
    if len(fullest) > 1 and folder not in fullest:
        each = ", ".join(f"{things}: {number:,}" for things, number in counts[fullest[0]].items())
        what = f"two copies of {name}, as full as each other: {fullest[0]} and {fullest[1]} ({each})"
        raise TwoCopiesError(Fault(what, "give the one that is meant", folder))
    return folder if folder in fullest else fullest[0]
