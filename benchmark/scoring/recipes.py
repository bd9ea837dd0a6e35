"""Recipes: a file in the format of a published network's own script becomes a submission.

What each network's file holds is a value in :mod:`benchmark.scoring.networks`. Read are npz and npy files, CSVs with a
header, lines ``NAME yaw pitch roll`` parted by spaces, and folders of the JSON files that OPAL's framework writes.
"""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmark.scoring import networks, protocols
from benchmark.scoring.networks import CAMERA, CONVENTION, RELEASED, Form, Network
from benchmark.scoring.protocols import Reference
from benchmark.scoring.submission import About, new_place, write_predictions
from headposeplus import archives, sheets
from headposeplus.errors import DatasetError, SubmissionError
from headposeplus.faults import Fault, fault_in, said, shell_line, shown, unreadable
from headposeplus.files import below, opened_npz, parse_json, read_file
from headposeplus.poses.columns import ROTATION_TOLERANCE
from headposeplus.raw import manifest, subsets
from headposeplus.raw.ids import ID_COLUMNS, first_rows
from headposeplus.raw.targets import BIWI_PLUS, FORMS, STILLS, TITLES, join_task, listed_ids, parse_frame
from headposeplus.rotations import CONVENTIONS, Floats, orthonormality_error

PAGE = "docs/networks.md says which lines to add to its script"
_NAMES = (*ID_COLUMNS, "names", "name", "ids")  # that may hold the images' names, the first of which counts
_NUMPY = b"\x93NUMPY"
_NUMBER = re.compile(r"[-+]?(nan|inf|\d+\.?\d*(e[-+]?\d+)?)", re.IGNORECASE)
_TEST_DATA = {"image", "pose", "img_size"}  # the arrays in which FSA-Net's scripts keep images and their labels
_LARGE = 64 << 20  # bytes: an array of pixels, which is passed over
_FLAT = 1e-3  # the volume that three vectors of about length 1 span, where they hardly do
_MOST = 1e9  # that any number of a pose may be
_RADIANS = 3.2  # degrees that some angle of any set of heads exceeds; a little more than pi
_FEW = 10  # rows that may well be of heads that look straight ahead
_WRAP = textwrap.TextWrapper(78, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


class _Table(NamedTuple):
    """What a file holds: arrays (n, ...) by name, the images' names (n,) if it has any, and the line of each row."""

    arrays: dict[str, np.ndarray]
    names: list[str] | None
    lines: np.ndarray | None = None

    def fault(self, rows: np.ndarray, what: str, mend: str) -> Fault:
        """Return a fault in some rows, bool (n,)."""
        if self.lines is None:
            return fault_in(np.flatnonzero(rows) + 1, what, mend, "row")
        return fault_in(self.lines[rows], what, mend)


class Converted(NamedTuple):
    """What was written.

    Attributes
    ----------
    network, what
        Whose poses they are, and how they stood in the file, in words.
    out, about_path, about
        The CSV, the TOML beside it, and what that says.
    ids
        Of the frames that were written (n,).
    reference
        What they are to be scored on.
    missing
        The frames that are missing of it.
    whole
        A named subset of which none is missing; empty where there is none, or nothing is missing.
    left_out
        How many rows were left out, by the reason.
    suspicion
        What looks odd, in words; may be empty.
    asked
        The words that ``hpp score`` needs to score just this.
    """

    network: Network
    what: str
    out: Path
    about_path: Path
    about: About
    ids: np.ndarray
    reference: Reference
    missing: list[str]
    whole: str
    left_out: dict[str, int]
    suspicion: str
    asked: tuple[str, ...]


def convert(
    source: Path,
    name: str,
    out: Path,
    frames: str | None = None,
    subset: str | None = None,
    protocol: str | None = None,
) -> Converted:
    """Write the poses in a network's file as a CSV, and beside it a TOML with what is known of that network.

    Parameters
    ----------
    source
        The file; of OPAL, it may be a folder of JSON files.
    name
        Of the network, as :func:`benchmark.scoring.networks.find` takes it.
    out
        The CSV that is to be written.
    frames
        Whose poses the rows are, in their order, where the file names no images: a named subset, a target such as
        ``aflw2000``, or a file with a frame a line.
    subset
        Of which alone the frames are written.
    protocol
        Id or file of the protocol that the TOML names; by default ``cross`` of the target whose frames they are.

    Raises
    ------
    SubmissionError
        If the network or the protocol is unknown, the file is not in its format, or ``out`` is there already.
    DatasetError
        If the subset is unknown, or lies in another target.
    """
    network = networks.find(name)
    about_path = new_place(out, "a submission")
    named = protocols.find(protocol) if protocol else None
    few = subsets.find(subset) if subset else None
    try:
        table, form = _read(source, network)
        form, values, place = (form, table.arrays["pose"], "") if form else _values(table, network)
        ids, kept, left_out = _frames(table, len(values), frames)
        finite = np.asarray((np.abs(values.reshape(len(values), -1)) < _MOST).all(axis=1))
        _check(table, form, values, kept & finite)
    except (SubmissionError, DatasetError) as error:
        fault = error.fault
        raise SubmissionError(fault if fault.file else fault._replace(file=source)) from error
    left_out["without a pose (NaN, or no number)"] = int((kept & ~finite).sum())
    kept &= finite
    if few is not None:
        within = np.isin(ids, few.ids)
        left_out[f"beyond {few.name}"] = int((kept & ~within).sum())
        kept &= within
    if not kept.any():
        raise SubmissionError(Fault("no row is left: " + _reasons(left_out), PAGE, source))
    ids, angles = ids[kept], form.angles(values[kept])
    named = named or protocols.whole(join_task("cross", _target(ids)))
    reference = protocols.without_labels(named, few)
    missing = [] if reference.ids is None else sorted(set(reference.ids.tolist()) - set(ids.tolist()))
    what = form.what + place
    about = _about(network, what, source, named.id)
    write_predictions(out, ids, angles, about)
    whole = subsets.largest_within(ids.tolist()) if missing and few is None else ""
    left_out = {why: count for why, count in left_out.items() if count}
    suspicion = _suspicion(form, values[kept])
    asked = ("--subset", subset) if subset else ()
    if protocol and protocols.find_frozen(protocol) is None:
        asked = ("--protocol", protocol, *asked)
    return Converted(network, what, out, about_path, about, ids, reference, missing, whole, left_out, suspicion, asked)


def _about(network: Network, what: str, source: Path, protocol: str) -> About:
    return About(
        name=network.title,
        authors=network.authors,
        link=network.link,
        protocol=protocol,
        training_data=network.training_data,
        convention=CONVENTION,
        camera=CAMERA,
        selection=RELEASED,
        uses_target_images=False,
        notes=f"Converted from {what} in {source.name}.",
    )


def _read(source: Path, network: Network) -> tuple[_Table, Form | None]:
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


def _of_npy(data: bytes) -> _Table:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # whatever NumPy raises on a damaged header
        raise SubmissionError(Fault(f"a damaged npy file, or one of objects ({said(error)})", PAGE)) from error
    return _Table({"the array": array}, None)


def _of_npz(data: bytes) -> _Table:
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
        return _Table(arrays, None)
    names = arrays.pop(naming)
    return _Table(arrays, [name.decode("latin-1") if isinstance(name, bytes) else name for name in names.tolist()])


def _of_sheet(text: str, network: Network) -> _Table:
    expected = f"write a CSV with name and {', '.join(network.forms[0].columns)}"
    sheet = sheets.read_sheet(text, expected)
    if sheet.faults:
        raise SubmissionError(sheet.faults[0])
    wanted = {name for form in network.forms for name in form.columns}
    arrays = {name: sheets.read_numbers(sheet.columns[name], sheet.decimal) for name in sheet.names if name in wanted}
    naming = next((name for name in _NAMES if name in sheet.names), "")
    names = [name.strip() for name in sheet.columns[naming]] if naming else None
    others = {name: np.array(sheet.columns[name]) for name in sheet.names if name and name not in (*arrays, naming)}
    return _Table({**arrays, **others}, names, sheet.lines)


def _of_lines(text: str, network: Network) -> _Table | None:
    """Return lines of a name and a pose, parted by spaces, as Hopenet's script for videos writes them; None if none."""
    columns = next((form.columns for form in network.forms if form.kind == "angles"), ())
    rows = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    parted = [line.rsplit(None, len(columns)) for _, line in rows]
    first = parted[0]
    if not columns or len(first) != len(columns) + 1 or not all(map(_NUMBER.fullmatch, first[1:])):
        return None
    lines = np.array([number for number, _ in rows])
    short = np.array([len(row) != len(first) for row in parted])
    if short.any():
        raise SubmissionError(fault_in(lines[short], "no name and pose", f"write NAME {' '.join(columns)}"))
    values = [sheets.read_numbers(cells) for cells in zip(*(row[1:] for row in parted), strict=True)]
    return _Table(dict(zip(columns, values, strict=True)), [row[0] for row in parted], lines)


def _of_json(paths: list[Path], folder: Path) -> _Table:
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
    return _Table({"pose": np.concatenate(poses)}, names)


def _values(table: _Table, network: Network) -> tuple[Form, Floats, str]:
    """Return the form in which the poses stand in a table, the poses (n, *shape), and the array's name in words."""
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


def _no_form(table: _Table, network: Network, fitting: list[str]) -> Fault:
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


def _frames(table: _Table, count: int, frames: str | None) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Return the id of each row's frame (n,), which rows are kept (n,), and how many others there are, by reason."""
    units = manifest.read()
    listed_of = listed_ids(units)
    if table.names is not None and frames:
        raise SubmissionError(Fault("the file names its images", "leave out `frames`"))
    names = table.names if table.names is not None else _given_frames(frames, count, listed_of)
    if len(names) != count:
        what = f"{len(names):,} names and {count:,} poses"
        mend = "save a name with each pose: of an image without a face, scripts skip the pose, so skip its name as well"
        raise SubmissionError(Fault(what, mend))
    known = {name for ids in listed_of.values() for name in ids}
    beyond = photographs_beyond(units)
    ids = [parse_frame(name) or "" for name in names]
    strange = np.array([name not in known and name not in beyond for name in ids])
    if strange.any():
        some = [shown(name) for name, odd in zip(names, strange, strict=True) if odd][:3]
        what = f"{int(strange.sum()):,} names of no known image, {', '.join(some)}"
        mend = f"expected {FORMS}, with any folders before it"
        if all(re.fullmatch(r"\d+", name) for name in names):
            mend = f"these number the frames of a video; {mend}"
        raise SubmissionError(table.fault(strange, what, mend))
    array = np.array(ids)
    again = first_rows(array) != np.arange(count)
    if again.any():
        what = f"{shown(names[int(again.argmax())])} comes twice, as where two faces were found"
        raise SubmissionError(table.fault(again, what, "keep one pose an image"))
    outside = np.isin(array, list(beyond))
    if len({name.partition("/")[0] for name in array[~outside]}) > 1:
        raise SubmissionError(Fault("images of several datasets", "give a file for each"))
    reason = "; ".join(stills.limit for stills in STILLS.values())
    return array, ~outside, {reason: int(outside.sum())}


def _given_frames(frames: str | None, count: int, listed_of: dict[str, list[str]]) -> list[str]:
    """Return the frames that a user says the rows are, in their order."""
    if frames in listed_of:
        names = listed_of[frames]
    elif frames:
        names = subsets.in_order(frames)
    else:
        sets = {name: len(ids) for name, ids in listed_of.items()} | subsets.sizes()
        fitting = [name for name, size in sets.items() if size == count]
        mend = "save the images' names as names, (n,) texts, or say whose poses the rows are by `frames`"
        mend += f": {' or '.join(fitting)} has as many" if fitting else ", a named subset or a file with a frame a line"
        raise SubmissionError(Fault(f"names no images for its {count:,} rows", mend))
    if len(names) != count:
        what = f"{count:,} rows, but {shown(frames)} has {len(names):,} frames"
        raise SubmissionError(Fault(what, "give the frames whose poses the rows are, in their order"))
    return names


def photographs_beyond(table: pd.DataFrame) -> frozenset[str]:
    """Return the ids of the photographs that the literature leaves out, as a manifest lists them."""
    return frozenset(
        stills.id(number)
        for stills in STILLS.values()
        for unit in manifest.listed_units(table, stills.name).values()
        if unit.name != manifest.TESTED
        for number in unit.numbers
    )


def _check(table: _Table, form: Form, values: Floats, kept: np.ndarray) -> None:
    """Raise SubmissionError if rows that are kept cannot be what they should be."""
    if form.kind == "matrices":
        wrong = orthonormality_error(np.where(kept[:, None, None], values, np.eye(3))) > ROTATION_TOLERANCE
        what = "no rotation: its rows are not orthonormal, or its determinant is -1"
        mend = "save the matrices as the network gives them, (n, 3, 3)"
    elif form.kind == "rotation vectors":
        length: Floats = np.linalg.norm(np.where(kept[:, None], values[:, :3], 0), axis=1)
        wrong = length > np.pi + ROTATION_TOLERANCE
        what = f"a rotation vector as long as {length.max():.1f}, more than pi: these look like degrees"
        mend = f"save what the network gives, before a script makes angles of it; {PAGE}"
    elif form.kind == "vectors":
        columns = np.where(kept[:, None, None], values[:, :9].reshape(-1, 3, 3), np.eye(3))
        wrong = np.linalg.det(columns) < _FLAT
        what, mend = "vectors that lie in a plane, or are mirrored", "save the left, down and front vector, end to end"
    else:
        return
    if wrong.any():
        raise SubmissionError(table.fault(wrong, what, mend))


def _suspicion(form: Form, values: Floats) -> str:
    """Return what looks odd about poses (n, ...), in words."""
    if form.kind == "angles" and len(values) >= _FEW and 0 < np.abs(values).max() <= _RADIANS:
        most = np.abs(values).max()
        return f"no angle of {len(values):,} rows is more than {most:.2f}: they look like radians; save degrees"
    return ""


def _target(ids: np.ndarray) -> str:
    """Return the target whose frames some ids are."""
    name = str(ids[0]).partition("/")[0]
    return name if name in STILLS else BIWI_PLUS


def _reasons(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count) or "the file has none"


def describe(converted: Converted) -> list[str]:
    """Return what was written, what is missing, and what comes next, as lines of less than 80 columns."""
    about, reference = converted.about, converted.reference
    few = reference.subset.name if reference.subset else ""
    told = [
        f"{converted.out}: {len(converted.ids):,} frames of {TITLES[_target(converted.ids)]}, from {converted.what}",
        f"{converted.about_path}: {about.name}, trained on {about.training_data}, convention {about.convention}, "
        f"{about.camera} camera, {about.protocol}; as its authors say of their released weights. If yours are others, "
        "change name, training_data, selection and uses_target_images there.",
    ]
    told += [f"left out: {_reasons(converted.left_out)}"] if converted.left_out else []
    told += [f"suspicion: {converted.suspicion}"] if converted.suspicion else []
    told.append(f"beware: {converted.network.beware}")
    if converted.missing:
        frames = f"{len(converted.missing):,} of the {reference.protocol.frames:,} frames of {few or about.protocol}"
        whole = f", or keep those of a part that is whole: --subset {converted.whole}" if converted.whole else ""
        told.append(
            f"missing: {frames}, the first {converted.missing[0]}. A protocol scores all of its frames or none: give "
            f"each a pose, those where no face was found as well{whole}."
        )
    lines = [line for text in told for line in _WRAP.wrap(text)]
    if converted.missing:
        return lines
    target = _target(converted.ids)
    labels = "Biwi_plus.npz" if target == BIWI_PLUS else target.upper()
    return [*lines, f"then: {shell_line('hpp', 'score', converted.out, '--labels', labels, *converted.asked)}"]
