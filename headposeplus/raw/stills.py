"""Datasets of stills: photographs, each of a person of its own, with a file of its labels beside it.

A :class:`StillSet` says all that is one dataset's own; :mod:`headposeplus.raw.targets` lists those that there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.errors import DatasetError, ImageError, RawDataError
from headposeplus.faults import RESTORE, Fault, remarked
from headposeplus.images import Image, read_image
from headposeplus.raw.folders import find, listing
from headposeplus.rotations import Floats

_LEVELS = 3  # folders down in which a copy is looked for


class Still(NamedTuple):
    """One photograph, by its number and its files."""

    number: int
    image: Path
    label: Path


class StillLabel(NamedTuple):
    """What is known of a photograph.

    Attributes
    ----------
    rotation
        Head to camera (3, 3).
    centre
        Where what Biwi calls the head's centre is seen (2,), x and y in pixels: 56 mm behind the tip of the nose.
    scale
        Pixels per millimetre at the head.
    beyond
        Why the photograph is no part of the dataset, in words; empty if it is.
    """

    rotation: Floats
    centre: Floats
    scale: float
    beyond: str = ""


@cache
def _file_pattern(stem: str, endings: tuple[str, ...]) -> re.Pattern[str]:
    """Return what the names of photographs match, with any folders; its group is the number."""
    before, digits, after = re.split(r"\{:0(\d+)d\}", stem)
    ending = "|".join(map(re.escape, endings))
    numbered = rf"{re.escape(before)}(\d{{{digits}}}){re.escape(after)}"
    return re.compile(rf"(?:.*[/\\])?{numbered}(?i:{ending})?", re.ASCII)


class StillSet(NamedTuple):
    """A dataset of stills.

    Attributes
    ----------
    name
        Of the built dataset, of its rows in the manifest, and of the command line's option; its ids begin with it.
    title
        As people call it.
    stem, image, label
        The name of a photograph with the place of its number, ``image{:05d}``, and the endings of its two files.
    pixels
        Width and height of every image.
    convention
        Of the angles in its labels, in which published figures are.
    limit
        Which photographs the dataset leaves out, in words.
    box_source
        What the boxes are made from, in a word.
    what, terms, citation
        For the dataset card.
    read_label
        Returns the label of a file; raises RawDataError if it is damaged.
    """

    name: str
    title: str
    stem: str
    image: str
    label: str
    pixels: tuple[int, int]
    convention: str
    limit: str
    box_source: str
    what: str
    terms: str
    citation: str
    read_label: Callable[[Path], StillLabel]

    @property
    def layout(self) -> str:
        """What a raw copy looks like, in words."""
        return f"files such as {self.stem.format(2)}{self.image} and {self.stem.format(2)}{self.label}"

    @property
    def _endings(self) -> tuple[str, ...]:
        """Of its files, in lower case; JPEG has two."""
        return (self.image, self.label, *([".jpeg"] if self.image == ".jpg" else []))

    def id(self, number: int) -> str:
        """Return a photograph's id, such as ``aflw2000/image00002``."""
        return f"{self.name}/{self.stem.format(number)}"

    def number(self, text: str) -> int | None:
        """Return the number of a photograph from its id, name or file, with any folders; None if it is none."""
        match = _file_pattern(self.stem, self._endings).fullmatch(text)
        return int(match[1]) if match else None

    def _root_of(self, folder: Path, names: list[str]) -> Path | None:
        """Return a folder that holds photographs or their labels."""
        holds = any(name.lower().endswith(self._endings) and self.number(name) is not None for name in names)
        return folder if holds else None

    def _count(self, root: Path) -> dict[str, int]:
        return {"photographs with their labels": len(self.list_stills(root)[0])}

    def find_root(self, folder: Path) -> Path:
        """Return the folder that holds the photographs: ``folder`` itself or one up to four levels below it.

        Of several copies it is that with the most photographs.

        Raises
        ------
        RawDataError
            If there is no such folder, or ``folder`` itself cannot be listed.
        TwoCopiesError
            If two copies are the fullest.
        """
        return find(folder, f"raw {self.title}", self.layout, self._root_of, self._count, _LEVELS)

    def list_stills(self, root: Path) -> tuple[list[Still], list[Fault]]:
        """Return the photographs by number, and the fault of each that lacks its image or its label."""
        images: dict[int, Path] = {}
        labels: dict[int, Path] = {}
        for path in listing(root, *self._endings):
            number = self.number(path.name)
            if number is not None:
                (labels if path.suffix.lower() == self.label else images)[number] = path
        stills, faults = [], []
        for number in sorted(images.keys() | labels.keys()):
            stem = self.stem.format(number)
            if number not in labels:
                faults.append(Fault(f"no {stem}{self.label} beside it", RESTORE_BOTH, images[number]))
            elif number not in images:
                faults.append(Fault(f"no {stem}{self.image} beside it", RESTORE_BOTH, labels[number]))
            else:
                stills.append(Still(number, images[number], labels[number]))
        return stills, faults

    def read_image(self, path: Path) -> Image:
        """Return a photograph.

        Raises
        ------
        ImageError
            If it is damaged, or not of the dataset's size.
        """
        image = read_image(path)
        height, width = image.shape[:2]
        if (width, height) != self.pixels:
            what = f"expected {self.pixels[0]} x {self.pixels[1]} pixels, found {width} x {height}"
            raise ImageError(Fault(what, RESTORE, path))
        return image


RESTORE_BOTH = "restore both from the raw archive"


def read_rotations(stills: StillSet, root: Path) -> tuple[np.ndarray, Floats]:
    """Return the ids (n,) and rotations (n, 3, 3) of the photographs of a raw copy that are part of the dataset.

    Raises
    ------
    DatasetError
        If a label is damaged, or there is none: a test set lacks no frame silently.
    """
    found, faults = stills.list_stills(root)
    ids, rotations = [], []
    for still in found:
        try:
            label = stills.read_label(still.label)
        except RawDataError as error:
            faults.append(error.fault)
            continue
        if not label.beyond:
            ids.append(stills.id(still.number))
            rotations.append(label.rotation)
    if faults:
        raise DatasetError(remarked(faults[0], f"faults in all: {len(faults)}"))
    if not ids:
        raise DatasetError(Fault(f"no photograph of {stills.title} is part of the test set", stills.limit, root))
    return np.array(ids), np.stack(rotations)
