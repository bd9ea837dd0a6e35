"""The manifest: what a full raw copy holds, a row a sequence of Biwi, a track of SynHead, or a part of another."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.faults import Fault, fault_in, shown, unreadable
from headposeplus.files import read_file, write_text
from headposeplus.rotations import Floats
from headposeplus.sheets import Sheet, read_numbers, read_sheet, read_text

FILE_NAME = "data_manifest.csv"
LABEL_STATISTICS = ("mean_pitch", "mean_yaw", "mean_roll", "std_pitch", "std_yaw", "std_roll")
_WHOLE = ("frames", "first_frame", "last_frame")
_FIGURES = (*_WHOLE, *LABEL_STATISTICS)
_MEND = "expected the manifest, a CSV such as data_manifest.csv"


def default_path() -> Path:
    """Return the manifest of the real datasets: at the top of a clone, else in the package."""
    in_clone = Path(__file__).resolve().parents[2] / FILE_NAME
    return in_clone if in_clone.exists() else Path(__file__).with_name(FILE_NAME)


# The two parts of a dataset of stills: those that it holds, and those of the raw copy that it leaves out.
TESTED, BEYOND = "tested", "beyond"


class ManifestRow(NamedTuple):
    """A row of the manifest as it stands in the file; what is not known is empty or None.

    Attributes
    ----------
    dataset, unit, group, subject
        Such as ``biwi``, ``01``, nothing, ``F01``; of a SynHead track its number, its group and its heads.
    frames, first_frame, last_frame, frame_numbers, frame_list_sha256
        Of the unit's frames: how many, their numbers as ranges, and :func:`frame_list_sha256`.
    calibration_group
        ``A`` or ``B`` of Biwi.
    mean_pitch, mean_yaw, mean_roll, std_pitch, std_yaw, std_roll
        Of the unit's labels, in degrees.
    source
        Where the row is from.
    """

    dataset: str
    unit: str
    group: str = ""
    subject: str = ""
    frames: int | None = None
    first_frame: int | None = None
    last_frame: int | None = None
    frame_numbers: str = ""
    frame_list_sha256: str = ""
    calibration_group: str = ""
    mean_pitch: float | None = None
    mean_yaw: float | None = None
    mean_roll: float | None = None
    std_pitch: float | None = None
    std_yaw: float | None = None
    std_roll: float | None = None
    source: str = ""

    @property
    def statistics(self) -> Floats:
        """What :data:`LABEL_STATISTICS` names (6,), in degrees; NaN where it is not known."""
        return np.array([getattr(self, name) for name in LABEL_STATISTICS], np.float64)  # None becomes NaN


Manifest = tuple[ManifestRow, ...]
COLUMNS = ManifestRow._fields


class ListedSequence(NamedTuple):
    """What the manifest says of a Biwi sequence, or of a part of a dataset of stills.

    Attributes
    ----------
    name, subject
        Such as ``01`` and ``F01``; the subject is empty where everyone is another.
    numbers
        Of its frames, sorted.
    calibration_group
        ``A`` or ``B``; empty if it is not known.
    statistics
        Of its labels (6,), as :data:`LABEL_STATISTICS` names them, in degrees; NaN where they are not known.
    """

    name: str
    subject: str
    numbers: list[int]
    calibration_group: str
    statistics: Floats


class ListedTrack(NamedTuple):
    """What the manifest says of a SynHead track.

    Attributes
    ----------
    group, name
        Such as ``BIWI``, and its number as text.
    poses
        How many, if that is known.
    heads
        Rendered in it, which the column ``subject`` lists where they are not SynHead's ten; else empty.
    """

    group: str
    name: str
    poses: int | None
    heads: tuple[str, ...] = ()


def read(path: Path | None = None) -> Manifest:
    """Return the rows of the manifest.

    Raises
    ------
    HeadposeError
        If the file is missing, lacks a column, or says no frame numbers of a Biwi sequence.
    """
    path = path or default_path()
    try:
        sheet = read_sheet(read_text(read_file(path), _MEND), _MEND, short_rows=True)
    except OSError as error:
        raise HeadposeError(unreadable(path, error, "the manifest, a CSV file")) from error
    except DatasetError as error:
        raise HeadposeError(error.fault._replace(file=path)) from error
    lacking = [column for column in COLUMNS if column not in sheet.names]
    if lacking:
        what = f"the manifest lacks the columns {', '.join(lacking)}"
        raise HeadposeError(Fault(what, _MEND, path, rows=(sheet.header,)))
    for fault in sheet.faults:
        raise HeadposeError(fault._replace(file=path))
    figures = {name: _figures(path, name, sheet) for name in _FIGURES}
    cells = [figures[name] if name in figures else [cell.strip() for cell in sheet.columns[name]] for name in COLUMNS]
    rows = tuple(ManifestRow(*row) for row in zip(*cells, strict=True))
    rows = tuple(row._replace(unit=row.unit.zfill(2)) if re.fullmatch("[0-9]", row.unit) else row for row in rows)
    for line, text, row in zip(sheet.lines.tolist(), sheet.columns["frames"], rows, strict=True):
        if row.dataset == "biwi" and not (row.frame_numbers and row.frames is not None and row.frames >= 0):
            what, column = (
                f"no number of frames, or none of their numbers, of Biwi sequence {shown(row.unit)}",
                "frames",
            )
        elif row.frame_numbers and _count(row.frame_numbers) != row.frames:
            what = f"{row.unit}: frames is {shown(str(text).strip())}, frame_numbers {shown(row.frame_numbers)}"
            column = "frame_numbers"
        else:
            continue
        mend = "write how many frames there are, and their numbers, such as 3-674 683-740"
        raise HeadposeError(Fault(what, mend, path, column, (line,)))
    return rows


def write(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write rows as a manifest that :func:`read` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)  # what is not known, None, is an empty cell
    write_text(path, text.getvalue())


def _figures(path: Path, name: str, sheet: Sheet) -> list[float | None]:
    """Return the figures of a column, None where a cell is empty; raise HeadposeError where one is none."""
    texts = [str(cell).strip() for cell in sheet.columns[name]]
    numbers = read_numbers(texts, sheet.decimal)
    whole = name in _WHOLE
    fit = np.isfinite(numbers) & (numbers == np.rint(numbers)) if whole else np.isfinite(numbers)
    wrong = ~fit & (np.array(texts) != "")
    if wrong.any():
        what = f"{shown(texts[int(wrong.argmax())])} is no {'whole ' * whole}number"
        mend = f"write a {'whole ' * whole}number"
        raise HeadposeError(fault_in(sheet.lines[wrong], what, mend)._replace(file=path, field=name))
    return [None if math.isnan(number) else int(number) if whole else number for number in numbers.tolist()]


def _count(ranges: str) -> int:
    """Return how many numbers a text of ranges holds; -1 if it is none."""
    try:
        return len(from_ranges(ranges))
    except ValueError:
        return -1


def listed_sequences(rows: Manifest) -> dict[str, ListedSequence]:
    """Return what the manifest says of each Biwi sequence, by its name."""
    return listed_units(rows, "biwi")


def listed_units(rows: Manifest, dataset: str) -> dict[str, ListedSequence]:
    """Return what the manifest says of each unit of a dataset that lists frame numbers, by the unit's name."""
    return {
        row.unit: ListedSequence(
            row.unit, row.subject, from_ranges(row.frame_numbers), row.calibration_group, row.statistics
        )
        for row in rows
        if row.dataset == dataset
    }


def listed_tracks(rows: Manifest) -> list[ListedTrack]:
    """Return what the manifest says of each SynHead track."""
    tracks = [row for row in rows if row.dataset == "synhead"]
    return [ListedTrack(row.group, row.unit, row.frames, tuple(row.subject.split())) for row in tracks]


def biwi_rows(rows: Manifest) -> dict[str, ManifestRow]:
    """Return the row of each Biwi sequence, such as ``01``."""
    return {row.unit: row for row in rows if row.dataset == "biwi"}


def biwi_subjects(rows: Manifest) -> dict[str, str]:
    """Return the subject of each Biwi sequence, such as ``{"01": "F01"}``."""
    return {unit: row.subject for unit, row in biwi_rows(rows).items()}


def calibration_groups(rows: Manifest) -> dict[str, str]:
    """Return the calibration group of each Biwi sequence, ``A`` or ``B``."""
    return {unit: row.calibration_group for unit, row in biwi_rows(rows).items()}


def frame_list_sha256(sequence: str, numbers: Iterable[int]) -> str:
    """Return the fingerprint of a Biwi sequence: of the sorted lines ``01/frame_00003_rgb.png``."""
    lines = [f"{sequence}/frame_{number:05d}_rgb.png" for number in sorted(numbers)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def ids_sha256(ids: Iterable[str]) -> str:
    """Return the hash of a set of frames, whatever their order: of the sorted ids, one a line."""
    return hashlib.sha256("\n".join(sorted(map(str, ids))).encode()).hexdigest()


def from_ranges(text: str) -> list[int]:
    """Return the numbers of ranges such as ``3-674 683 700-740``; raises ValueError if it is none."""
    numbers: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def to_ranges(numbers: Iterable[int]) -> str:
    """Return the shortest text that :func:`from_ranges` reads back as these numbers, sorted."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def biwi_frames(rows: Manifest) -> dict[str, list[int]]:
    """Return the frame numbers of each Biwi sequence of the manifest."""
    return {unit: from_ranges(row.frame_numbers) for unit, row in biwi_rows(rows).items()}


def absent_frames(rows: Manifest, present: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """Return how many Biwi frames the manifest lists, and how many of those are not present.

    ``present`` holds the frame numbers of each sequence.
    """
    listed = biwi_frames(rows)
    absent = sum(len(set(numbers) - set(present.get(unit, ()))) for unit, numbers in listed.items())
    return sum(map(len, listed.values())), absent
