"""The manifest: what a full raw copy holds, a row a sequence of Biwi, a track of SynHead, or a part of another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.faults import Fault, fault_in, shown, unreadable
from headposeplus.files import read_file
from headposeplus.rotations import Floats
from headposeplus.sheets import Sheet, read_numbers, read_sheet, read_text

FILE_NAME = "data_manifest.csv"
COLUMNS = (
    "dataset", "unit", "group", "subject", "frames", "first_frame", "last_frame", "frame_numbers",
    "frame_list_sha256", "calibration_group",
    "mean_pitch", "mean_yaw", "mean_roll", "std_pitch", "std_yaw", "std_roll", "source",
)  # fmt: skip
LABEL_STATISTICS = ("mean_pitch", "mean_yaw", "mean_roll", "std_pitch", "std_yaw", "std_roll")
_FIGURES = ("frames", "first_frame", "last_frame", *LABEL_STATISTICS)
_MEND = "expected the manifest, a CSV such as data_manifest.csv"


def default_path() -> Path:
    """Return the manifest of the real datasets: at the top of a clone, else in the package."""
    in_clone = Path(__file__).resolve().parents[2] / FILE_NAME
    return in_clone if in_clone.exists() else Path(__file__).with_name(FILE_NAME)


# The two parts of a dataset of stills: those that it holds, and those of the raw copy that it leaves out.
TESTED, BEYOND = "tested", "beyond"


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


def read(path: Path | None = None) -> pd.DataFrame:
    """Return the manifest as a frame with :data:`COLUMNS`; cells that are not known are empty or NaN.

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
    table = pd.DataFrame({name: [cell.strip() for cell in sheet.columns[name]] for name in COLUMNS}, dtype=str)
    _read_figures(path, table, sheet)
    table["unit"] = table["unit"].where(~table["unit"].str.fullmatch("[0-9]"), "0" + table["unit"])
    for line, dataset, unit, frames, numbers in zip(
        sheet.lines.tolist(), table["dataset"], table["unit"], table["frames"], table["frame_numbers"], strict=True
    ):
        if dataset == "biwi" and not (numbers and frames >= 0):
            what, column = f"no number of frames, or none of their numbers, of Biwi sequence {shown(unit)}", "frames"
        elif numbers and _count(numbers) != frames:
            what, column = f"{unit}: frames is {frames:g}, frame_numbers {shown(numbers)}", "frame_numbers"
        else:
            continue
        mend = "write how many frames there are, and their numbers, such as 3-674 683-740"
        raise HeadposeError(Fault(what, mend, path, column, (line,)))
    return table


def _read_figures(path: Path, table: pd.DataFrame, sheet: Sheet) -> None:
    """Make numbers of the columns of figures, NaN where a cell is empty; raise HeadposeError where one is none."""
    for name in _FIGURES:
        numbers = read_numbers(table[name].tolist(), sheet.decimal)
        wrong = np.isnan(numbers) & (table[name] != "").to_numpy()
        if wrong.any():
            what = f"{shown(table[name][int(wrong.argmax())])} is no number"
            raise HeadposeError(fault_in(sheet.lines[wrong], what, "write a number")._replace(file=path, field=name))
        table[name] = numbers


def _count(ranges: str) -> int:
    """Return how many numbers a text of ranges holds; -1 if it is none."""
    try:
        return len(from_ranges(ranges))
    except ValueError:
        return -1


def listed_sequences(table: pd.DataFrame) -> dict[str, ListedSequence]:
    """Return what the manifest says of each Biwi sequence, by its name."""
    return listed_units(table, "biwi")


def listed_units(table: pd.DataFrame, dataset: str) -> dict[str, ListedSequence]:
    """Return what the manifest says of each unit of a dataset that lists frame numbers, by the unit's name."""
    rows = table[table["dataset"] == dataset]
    statistics = rows[list(LABEL_STATISTICS)].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    columns = (rows["unit"], rows["subject"], map(from_ranges, rows["frame_numbers"]), rows["calibration_group"])
    return {row[0]: ListedSequence(*row) for row in zip(*columns, statistics, strict=True)}


def listed_tracks(table: pd.DataFrame) -> list[ListedTrack]:
    """Return what the manifest says of each SynHead track."""
    rows = table[table["dataset"] == "synhead"]
    counts = pd.to_numeric(rows["frames"], errors="coerce")
    poses = [None if pd.isna(count) else int(count) for count in counts]
    heads = [tuple(subject.split()) for subject in rows["subject"]]
    return [ListedTrack(*row) for row in zip(rows["group"], rows["unit"], poses, heads, strict=True)]


def biwi_subjects(table: pd.DataFrame) -> dict[str, str]:
    """Return the subject of each Biwi sequence, such as ``{"01": "F01"}``."""
    rows = table[table["dataset"] == "biwi"]
    return dict(zip(rows["unit"], rows["subject"], strict=True))


def calibration_groups(table: pd.DataFrame) -> dict[str, str]:
    """Return the calibration group of each Biwi sequence, ``A`` or ``B``."""
    rows = table[table["dataset"] == "biwi"]
    return dict(zip(rows["unit"], rows["calibration_group"], strict=True))


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


def biwi_frames(table: pd.DataFrame) -> dict[str, list[int]]:
    """Return the frame numbers of each Biwi sequence of the manifest."""
    rows = table[table["dataset"] == "biwi"]
    return {unit: from_ranges(numbers) for unit, numbers in zip(rows["unit"], rows["frame_numbers"], strict=True)}


def absent_frames(table: pd.DataFrame, present: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """Return how many Biwi frames the manifest lists, and how many of those are not present.

    ``present`` holds the frame numbers of each sequence.
    """
    listed = biwi_frames(table)
    absent = sum(len(set(numbers) - set(present.get(unit, ()))) for unit, numbers in listed.items())
    return sum(map(len, listed.values())), absent
