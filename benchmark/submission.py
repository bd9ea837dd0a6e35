"""Predictions as files: a CSV with an id and angles a row, and a TOML beside it that says what they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tomli_w

from headposeplus.convert import ANGLE_COLUMNS, forms, read_rotations
from headposeplus.errors import SubmissionError
from headposeplus.files import write_text
from headposeplus.rotations import CONVENTIONS, Floats

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REQUIRED = ("name", "authors", "training_data", "convention", "camera", "selection", "uses_target_images")


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
    form = forms(table, path, SubmissionError)[0]
    rotations = read_rotations(table, form, path, about["convention"], SubmissionError)
    return Submission(table["id"].to_numpy(str), rotations, about)
