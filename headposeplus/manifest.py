"""The manifest: what a full raw copy of Biwi and SynHead holds, a row a sequence or track."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from headposeplus.errors import HeadposeError

FILE_NAME = "data_manifest.csv"
COLUMNS = (
    "dataset", "unit", "group", "subject", "frames", "first_frame", "last_frame", "frame_list_sha256",
    "calibration_group", "mean_pitch", "mean_yaw", "mean_roll", "std_pitch", "std_yaw", "std_roll", "source",
)  # fmt: skip


def default_path() -> Path:
    """Return the manifest of the real datasets: beside the package in a clone, else where it was installed."""
    in_clone = Path(__file__).resolve().parents[1] / FILE_NAME
    installed = Path(sysconfig.get_path("data")) / "share" / "headposeplus" / FILE_NAME
    return in_clone if in_clone.exists() else installed


def read(path: Path | None = None) -> pd.DataFrame:
    """Return the manifest as a frame with :data:`COLUMNS`; cells that are not known are empty or NaN.

    Raises
    ------
    HeadposeError
        If the file is missing or lacks a column.
    """
    path = path or default_path()
    try:
        table = pd.read_csv(path, dtype={"unit": str, "group": str, "subject": str})
    except (OSError, ValueError) as error:
        raise HeadposeError(f"{path}: expected the manifest, a CSV file: {error}") from error
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise HeadposeError(f"{path}: the manifest lacks the columns {', '.join(lacking)}")
    counted = pd.to_numeric(table["frames"].where(table["dataset"] == "biwi", 0), errors="coerce")
    if counted.isna().any():
        raise HeadposeError(f"{path}: expected a number of frames for every Biwi sequence")
    text = ["dataset", "unit", "group", "subject", "frame_list_sha256", "calibration_group", "source"]
    table[text] = table[text].fillna("").astype(str)
    return table[list(COLUMNS)]


def biwi_subjects(table: pd.DataFrame) -> dict[str, str]:
    """Return the subject of each Biwi sequence, such as ``{"01": "F01"}``."""
    rows = table[table["dataset"] == "biwi"]
    return dict(zip(rows["unit"], rows["subject"], strict=True))


def frame_list_sha256(sequence: str, numbers: Iterable[int]) -> str:
    """Return the fingerprint of a Biwi sequence: of the sorted lines ``01/frame_00003_rgb.png``."""
    lines = [f"{sequence}/frame_{number:05d}_rgb.png" for number in sorted(numbers)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def absent_frames(table: pd.DataFrame, found: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """Return how many Biwi frames the manifest lists, and how many of those were not found.

    ``found`` holds the frame numbers of each sequence. A sequence whose count is complete but whose
    numbers differ from the manifest's counts as one frame off at least.
    """
    listed = absent = 0
    rows = table[table["dataset"] == "biwi"]
    for unit, frames, fingerprint in zip(rows["unit"], rows["frames"], rows["frame_list_sha256"], strict=True):
        numbers = found.get(unit, ())
        listed += int(frames)
        short = max(int(frames) - len(numbers), 0)
        differs = bool(fingerprint) and frame_list_sha256(unit, numbers) != fingerprint
        absent += max(short, int(differs))
    return listed, absent
