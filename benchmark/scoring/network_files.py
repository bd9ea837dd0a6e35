"""Reading what the scripts of published networks write, or lines added to them.

Read are npz and npy files, CSVs with a header, lines ``NAME yaw pitch roll`` parted by spaces, and folders of the JSON
files that OPAL's framework writes.
"""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmark.scoring.networks import Form, Network
from headposeplus import archives, sheets
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, fault_in, one_of, said, shown, unreadable
from headposeplus.files import below, opened_npz, parse_json, read_file
from headposeplus.raw.ids import ID_COLUMNS
from headposeplus.rotations import CONVENTIONS, Floats

PAGE = "docs/networks.md says which lines to add to its script"
_NAMES = (*ID_COLUMNS, "names", "name", "ids")  # that may hold the images' names, the first of which counts
_NUMPY = b"\x93NUMPY"
_NUMBER = re.compile(r"[-+]?(nan|inf|\d+\.?\d*(e[-+]?\d+)?)", re.IGNORECASE)
_MISSING = ("", "nan", "+nan", "-nan", "none", "null", "na", "n/a", "-")  # what scripts write where no face was found
_TEST_DATA = {"image", "pose", "img_size"}  # the arrays in which FSA-Net's scripts keep images and their labels
_LARGE = 64 << 20  # bytes: an array of pixels, which is passed over


class Table(NamedTuple):
    """What a file holds: arrays (n, ...) by name, the images' names (n,) if it has any, and the line of each row."""

    arrays: dict[str, np.ndarray]
    names: list[str] | None
    lines: np.ndarray | None = None

    def fault(self, rows: np.ndarray, what: str, mend: str) -> Fault:
        """Return a fault in some rows, bool (n,)."""
        if self.lines is None:
            return fault_in(np.flatnonzero(rows) + 1, what, mend, "row")
        return fault_in(self.lines[rows], what, mend)


def read(source: Path, network: Network) -> tuple[Table, Form | None]:
    """Return what a file holds, and the form of its poses where the kind of file tells it."""
    if source.is_dir():
        if network.json is None:
            raise SubmissionError(Fault("a folder", f"give a file; {PAGE}"))
        return _of_json(list(below(source, ".json")), source), network.json
    try:
        data = read_file(source)
    except OSError as error:
        raise SubmissionError(unreadable(source, error, f"a file of {network.title}'s poses")) from error
    if data.startswith(_NUMPY):
        return _of_npy(data), None
    if archives.is_zip(data):
        return _of_npz(data), None
    text = sheets.read_text(data, PAGE)
    if sheets.is_json(text) and network.json is not None:
        return _of_json([source], source.absolute().parent), network.json
    return _of_lines(text, network) or _of_sheet(text, network), None


def _of_npy(data: bytes) -> Table:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of files that Python 2 wrote, as old networks do
            array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # whatever NumPy raises on a damaged header
        raise SubmissionError(Fault(f"a damaged npy file, or one of objects ({said(error)})", PAGE)) from error
    return Table({"the array": array}, None)


def _of_npz(data: bytes) -> Table:
    try:
        with opened_npz(data) as file:
            if any(name.endswith("data.pkl") for name in file.files):
                raise SubmissionError(Fault("written by torch.save: reading it may run anything", f"save npz; {PAGE}"))
            if set(file.files) >= _TEST_DATA:
                what = "a test set with its labels, no predictions"
                raise SubmissionError(Fault(what, f"save what is predicted; {PAGE}"))
            large = {Path(entry.filename).stem for entry in file.zip.infolist() if entry.file_size > _LARGE}
            arrays = {name.strip().lower(): np.asarray(file[name]) for name in file.files if name not in large}
    except SubmissionError:
        raise
    except Exception as error:  # whatever NumPy and zipfile raise on a damaged file
        raise SubmissionError(Fault(f"a damaged npz file, or one of objects ({said(error)})", PAGE)) from error
    texts = (name for name in _NAMES if name in arrays and arrays[name].dtype.kind in "US" and arrays[name].ndim == 1)
    naming = next(texts, None)  # an array of pixels may be called image
    if naming is None:
        return Table(arrays, None)
    names = arrays.pop(naming)
    return Table(arrays, [name.decode("latin-1") if isinstance(name, bytes) else name for name in names.tolist()])


def _of_sheet(text: str, network: Network) -> Table:
    expected = f"write a CSV with name and {', '.join(network.forms[0].columns)}"
    sheet = sheets.read_sheet(text, expected)
    if sheet.faults:
        raise SubmissionError(sheet.faults[0])
    wanted = {name for form in network.forms for name in form.columns}
    arrays = {
        name: _numbers(name, sheet.columns[name], sheet.lines, sheet.decimal) for name in sheet.names if name in wanted
    }
    naming = next((name for name in _NAMES if name in sheet.names), "")
    names = [name.strip() for name in sheet.columns[naming]] if naming else None
    others = {name: np.array(sheet.columns[name]) for name in sheet.names if name and name not in (*arrays, naming)}
    return Table({**arrays, **others}, names, sheet.lines)


def _of_lines(text: str, network: Network) -> Table | None:
    """Return lines of a name and a pose, parted by spaces, as Hopenet's script for videos writes them; None if none."""
    columns = next((form.columns for form in network.forms if form.kind == "angles"), ())
    rows = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    parted = [line.rsplit(None, len(columns)) for _, line in rows]
    first = parted[0] if parted else []
    if not columns or len(first) != len(columns) + 1 or not all(map(_NUMBER.fullmatch, first[1:])):
        return None
    lines = np.array([number for number, _ in rows])
    short = np.array([len(row) != len(first) for row in parted])
    if short.any():
        raise SubmissionError(fault_in(lines[short], "no name and pose", f"write NAME {' '.join(columns)}"))
    cells = zip(*(row[1:] for row in parted), strict=True)
    values = [_numbers(name, list(texts), lines) for name, texts in zip(columns, cells, strict=True)]
    return Table(dict(zip(columns, values, strict=True)), [row[0] for row in parted], lines)


def _numbers(name: str, cells: list[str], lines: np.ndarray, decimal: str = ".") -> Floats:
    """Return the cells of a column (n,) as numbers, NaN where one says that there is none.

    Raises
    ------
    SubmissionError
        If a cell is another text: that is no row without a face.
    """
    numbers = sheets.read_numbers(cells, decimal)
    wrong = np.isnan(numbers) & np.array([cell.strip().lower() not in _MISSING for cell in cells])
    if wrong.any():
        what = f"{name} is {one_of([shown(cells[row]) for row in np.flatnonzero(wrong)])}, no number"
        raise SubmissionError(fault_in(lines[wrong], what, "write a number, or nan where no face was found"))
    return numbers


def _of_json(paths: list[Path], folder: Path) -> Table:
    """Return the poses of JSON files, each of one image; an image without a face has none."""
    expected = 'expected {"images": [{"file_name": ...}], "annotations": [{"pose": [a, b, c]}]}'
    names, poses = [], []
    for path in paths:
        try:
            content: Any = parse_json(read_file(path))
            [image], faces = content["images"], content["annotations"]
            name = f"{path.absolute().parent.name}/{image['file_name']}"
            found = np.array([face["pose"] for face in faces], np.float64).reshape(-1, 3)
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"not as OPAL's framework writes it ({said(error)})"
            raise SubmissionError(Fault(what, expected, path)) from error
        if len(found) > 1:
            raise SubmissionError(Fault(f"{len(found)} faces", "keep the one that is meant", path))
        names += [name] * len(found)
        poses.append(found)
    if not names:
        raise SubmissionError(Fault("no pose in any JSON file", expected, folder))
    return Table({"pose": np.concatenate(poses)}, names)


def poses_in(table: Table, network: Network) -> tuple[Form, Floats, str]:
    """Return the form in which the poses stand in a table, the poses ``(n, *shape)``, and the array's name in words."""
    numbers = {name: array for name, array in table.arrays.items() if array.dtype.kind in "fiu" and array.ndim}
    for form in network.forms:
        cells = [numbers.get(name, np.zeros((0, 0))) for name in form.columns]
        if cells and {cell.shape for cell in cells} == {(len(cells[0]),)} and len(cells[0]):
            return form, _as_floats(np.column_stack(cells)).reshape(-1, *form.shape), ""
    fitting = [
        (form, name)
        for form in network.forms
        for name in sorted(numbers, key=lambda name: form.arrays.index(name) if name in form.arrays else 99)
        # An array that is named for a convention has an order of its own.
        if numbers[name].shape[1:] == form.shape and len(numbers[name]) and name not in CONVENTIONS
    ]
    named = [(form, name) for form, name in fitting if name in form.arrays]
    if named or len(fitting) == 1:
        form, name = (named or fitting)[0]
        return form, _as_floats(numbers[name]), f" (array {name})" if len(numbers) > 1 or table.names else ""
    raise SubmissionError(_no_form(table, network, [name for _, name in fitting]))


def _as_floats(array: np.ndarray) -> Floats:
    with np.errstate(invalid="ignore"):  # bits that are no number
        return array.astype(np.float64)


def _no_form(table: Table, network: Network, fitting: list[str]) -> Fault:
    """Return the fault of a table in which no poses, or several, stand in a network's forms."""
    if fitting:
        names = [name for form in network.forms for name in form.arrays]
        what = f"{' and '.join(map(shown, fitting))} may each be {network.forms[0].what}"
        return Fault(what, f"call the right one {names[0]}" if names else "keep one of them")
    found = [f"{name} {array.shape}" if array.ndim != 1 else name for name, array in table.arrays.items()]
    wanted = [f"{', '.join(form.columns)}" for form in network.forms if form.columns]
    shapes = [f"(n, {', '.join(map(str, form.shape))})" for form in network.forms]
    what = f"no {' and no '.join(wanted)}, and no array {' or '.join(shapes)}, but {', '.join(found[:8]) or 'nothing'}"
    return Fault(what, f"save {network.forms[0].what}: {PAGE}")
