"""The table of docs/open-heads.md: how fast the open heads are rendered, and how detectors of faces read them.

``faces_shown`` and ``faces_found`` measure what it shows; they are run by hand.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmark.studies.records import read_record
from headposeplus import tables

_COLUMNS = ("pictures", "dlib finds", "MediaPipe finds", "its pose, MAE", "pitch, yaw, roll, mean", "geodesic")
_NAMES = {"open": "open heads", "procedural": "procedural heads", "photograph": "photographs of Biwi"}


class Speed(msgspec.Struct, frozen=True):
    """What rendering took: heads and images of ``size`` pixels a side, and seconds on one core of a processor."""

    heads: int
    head_seconds: float
    images: int
    image_seconds: float
    size: int
    processor: str


class Found(msgspec.Struct, frozen=True):
    """What detectors make of pictures.

    Attributes
    ----------
    pictures
        How many there are.
    dlib, mediapipe
        In how many each finds a face.
    error
        The mean absolute error of the pitch, yaw and roll that MediaPipe's landmarks say, degrees.
    bias
        Their mean errors, degrees.
    geodesic
        The mean angle between the true rotation and theirs, degrees.
    """

    pictures: int
    dlib: int
    mediapipe: int
    error: float
    bias: list[float]
    geodesic: float


class Faces(msgspec.Struct, frozen=True):
    """What detectors make of the pictures of each kind."""

    photograph: Found
    open: Found
    procedural: Found


def describe_faces(folder: Path) -> str:
    """Return the figures kept in a folder as Markdown."""
    faces = read_record(folder / "faces.json", Faces, "what detectors find in the heads")
    speed = read_record(folder / "speed.json", Speed, "how fast heads are rendered")
    rows = []
    for kind, name in _NAMES.items():
        found: Found = getattr(faces, kind)
        bias = ", ".join(tables.signed(value, 1) for value in found.bias)
        share = [f"{count} of {found.pictures}" for count in (found.dlib, found.mediapipe)]
        cells = (name, *share, f"{found.error:.1f}", bias, f"{found.geodesic:.1f}")
        rows.append(dict(zip(_COLUMNS, cells, strict=True)))
    rate, head = speed.images / speed.image_seconds, speed.head_seconds / speed.heads
    return (
        f"{tables.table(rows, 'github')}\n\n"
        f"{rate:.0f} images of {speed.size} x {speed.size} pixels a second and core, with their PNG, and "
        f"{head:.1f} seconds for each head, on {speed.processor}."
    )
