"""Predictions as files: a CSV with an id and angles a row, and a TOML beside it that says what they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tomli_w

from headposeplus.errors import SubmissionError
from headposeplus.files import write_text
from headposeplus.rotations import CONVENTIONS, Floats, nearest_rotation, orthonormality_error, to_matrix

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ANGLE_COLUMNS = ["pitch", "yaw", "roll"]
MATRIX_COLUMNS = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
QUATERNION_COLUMNS = ["qx", "qy", "qz", "qw"]
REQUIRED = ("name", "authors", "training_data", "convention", "camera", "selection", "uses_target_images")
ROTATION_TOLERANCE = 1e-2


class Submission(NamedTuple):
    """Predictions: ids (n,), rotations (n, 3, 3), head to camera, and what the TOML says of them."""

    ids: np.ndarray
    rotations: Floats
    about: dict[str, Any]


def write_predictions(path: Path, ids: np.ndarray, angles: Floats, about: dict[str, Any]) -> None:
    """Write ``predictions.csv`` with angles (n, 3) in degrees, and ``predictions.toml`` beside it."""
    table = pd.DataFrame(angles, columns=ANGLE_COLUMNS)
    table.insert(0, "id", ids)
    write_text(path.with_suffix(".toml"), tomli_w.dumps(about))
    write_text(path, table.to_csv(index=False, float_format="%.5f", lineterminator="\n"))


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SubmissionError(
            f"{path}: expected a description of the predictions with {', '.join(REQUIRED)}: {error.strerror}"
        ) from error
    except ValueError as error:
        raise SubmissionError(f"{path}: not TOML: {error}") from error
    lacking = [key for key in REQUIRED if key not in about]
    if lacking:
        raise SubmissionError(f"{path}: lacks {', '.join(lacking)}")
    wrong = [key for key in REQUIRED if not isinstance(about[key], bool if key == "uses_target_images" else str)]
    if wrong:
        raise SubmissionError(f"{path}: {', '.join(wrong)}: expected text, and true or false for uses_target_images")
    if about["convention"] not in CONVENTIONS:
        raise SubmissionError(
            f"{path}: convention {about['convention']!r} is unknown; expected {', '.join(CONVENTIONS)}"
        )
    if about["camera"] not in ("rgb", "depth"):
        raise SubmissionError(f"{path}: camera {about['camera']!r} is unknown; expected rgb or depth")
    return about


def _rotations(table: pd.DataFrame, path: Path, convention: str) -> Floats:
    columns = next((c for c in (ANGLE_COLUMNS, MATRIX_COLUMNS, QUATERNION_COLUMNS) if set(c) <= set(table)), None)
    if columns is None:
        raise SubmissionError(
            f"{path}: expected the columns id and pitch, yaw, roll (or r11 to r33, or qx, qy, qz, qw); "
            f"found {', '.join(map(str, table.columns))}"
        )
    values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, copy=True)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        first = int(bad.argmax())
        raise SubmissionError(
            f"{path}, line {first + 2}: {table['id'].iloc[first]} has a value that is not a finite number "
            f"({int(bad.sum())} such rows)"
        )
    if columns is ANGLE_COLUMNS:
        return to_matrix(values, convention)
    if columns is QUATERNION_COLUMNS:
        from scipy.spatial.transform import Rotation

        length = np.linalg.norm(values, axis=1)
        off = np.abs(length - 1) > ROTATION_TOLERANCE
        if off.any():
            raise SubmissionError(f"{path}, line {int(off.argmax()) + 2}: the quaternion's length is not 1")
        return np.asarray(Rotation.from_quat(values).as_matrix())
    matrices = values.reshape(-1, 3, 3)
    off = orthonormality_error(matrices) > ROTATION_TOLERANCE
    if off.any():
        raise SubmissionError(f"{path}, line {int(off.argmax()) + 2}: r11 to r33 are not a rotation")
    return nearest_rotation(matrices)


def read_submission(path: Path) -> Submission:
    """Return the predictions of a CSV and the TOML beside it.

    Raises
    ------
    SubmissionError
        If a file is missing, a column or field is, an id comes twice, or a value is not finite.
    """
    about = _read_about(path.with_suffix(".toml"))
    try:
        table = pd.read_csv(path, dtype={"id": str}, encoding="utf-8-sig", skipinitialspace=True)
    except OSError as error:
        raise SubmissionError(f"{path}: expected predictions, a CSV file: {error.strerror}") from error
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise SubmissionError(f"{path}: expected predictions, a CSV file: {error}") from error
    if "id" not in table:
        raise SubmissionError(f"{path}: lacks the column id; found {', '.join(map(str, table.columns))}")
    if table.empty or table["id"].isna().any():
        raise SubmissionError(f"{path}: expected a row with an id for each test frame")
    repeated = table["id"].duplicated()
    if repeated.any():
        first = int(np.asarray(repeated).argmax())
        raise SubmissionError(f"{path}, line {first + 2}: {table['id'].iloc[first]} comes twice")
    return Submission(table["id"].to_numpy(str), _rotations(table, path, about["convention"]), about)
