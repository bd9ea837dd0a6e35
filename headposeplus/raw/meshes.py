"""Reader of the head meshes in raw Biwi, and of the numbers of vertices in the OBJ format."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from headposeplus.errors import RawDataError
from headposeplus.faults import RESTORE, Fault, said, unreadable
from headposeplus.files import read_file
from headposeplus.raw.folders import spelled
from headposeplus.rotations import Floats

_EXPECTED = "a triangle mesh in the OBJ format"


def mesh_file(root: Path, sequence: str) -> Path:
    """Return where the mesh of a sequence's head lies in raw Biwi."""
    return spelled(root / f"{sequence}.obj")


def position(number: str, count: int) -> int:
    """Return where in a list of ``count`` what a face names lies, from 0.

    OBJ counts from 1; -1 is the last of those that were listed before the face.

    Raises
    ------
    ValueError
        If it is no whole number, is 0, or names what was not listed.
    """
    at = int(number)
    if not 1 <= abs(at) <= count:
        raise ValueError(f"{at} is none of the {count:,} before it")
    return at - 1 if at > 0 else count + at


def finite(words: list[str], count: int) -> list[float]:
    """Return the first ``count`` words as numbers; raises ValueError if they are fewer, or not finite."""
    numbers = [float(word) for word in words[:count]]
    if len(numbers) < count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"no {count} finite numbers")
    return numbers


def read_mesh(path: Path) -> tuple[Floats, np.ndarray]:
    """Return vertices (n, 3), millimetres in the head's frame, and triangles (m, 3) of a subject's ``.obj``.

    Raises
    ------
    RawDataError
        If the file is none, or a line has no finite numbers, or a face names other than three of the vertices before
        it; the message says which line.
    """
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    try:
        lines = read_file(path).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise RawDataError(unreadable(path, error)) from error
    for line, text in enumerate(lines, start=1):
        kind, *words = text.split() or [""]
        try:
            if kind == "v":
                vertices.append(finite(words, 3))
            elif kind == "f":
                if len(words) != 3:
                    raise ValueError(f"a face of {len(words)} corners")
                faces.append([position(word.partition("/")[0], len(vertices)) for word in words])
        except ValueError as error:
            raise RawDataError(Fault(f"expected {_EXPECTED}: {said(error)}", RESTORE, path, rows=(line,))) from error
    if not faces:
        raise RawDataError(Fault(f"expected {_EXPECTED}, found no face", RESTORE, path))
    return np.array(vertices), np.array(faces)
