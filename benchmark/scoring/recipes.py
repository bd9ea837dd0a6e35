"""Recipes: a file in the format of a published network's own script becomes a submission.

What each network's file holds is a value in :mod:`benchmark.scoring.networks`; :mod:`benchmark.scoring.network_files`
reads it.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.scoring import networks, protocols
from benchmark.scoring.network_files import PAGE, Table, poses_in, read
from benchmark.scoring.networks import CAMERA, CONVENTION, RELEASED, Form, Network
from benchmark.scoring.protocols import Reference
from benchmark.scoring.submission import About, new_place, write_predictions
from headposeplus.errors import DatasetError, SubmissionError
from headposeplus.faults import Fault, plural, shell_line, shown
from headposeplus.poses.columns import ROTATION_TOLERANCE
from headposeplus.raw import manifest, subsets
from headposeplus.raw.ids import first_rows
from headposeplus.raw.targets import BIWI_PLUS, FORMS, STILLS, TITLES, join_task, listed_ids, parse_frame
from headposeplus.rotations import Floats, orthonormality_error

_FLAT = 1e-3  # the volume that three vectors of about length 1 span, where they hardly do
_MOST = 1e9  # that any number of a pose may be
_RADIANS = 3.2  # degrees that some angle of any set of heads exceeds; a little more than pi
_FEW = 10  # rows that may well be of heads that look straight ahead
_WRAP = textwrap.TextWrapper(78, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


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
        table, form = read(source, network)
        form, values, place = (form, table.arrays["pose"], "") if form else poses_in(table, network)
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


def _frames(table: Table, count: int, frames: str | None) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Return the id of each row's frame (n,), which rows are kept (n,), and how many others there are, by reason."""
    units = manifest.read()
    listed_of = listed_ids(units)
    if table.names is not None and frames:
        raise SubmissionError(Fault("the file names its images", "leave out `frames`"))
    names = table.names if table.names is not None else _given_frames(frames, count, listed_of)
    if len(names) != count:
        what = f"{plural(len(names), 'name')} and {plural(count, 'pose')}"
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
        raise SubmissionError(Fault(f"names no images for its {plural(count, 'row')}", mend))
    if len(names) != count:
        what = f"{plural(count, 'row')}, but {shown(frames)} has {plural(len(names), 'frame')}"
        raise SubmissionError(Fault(what, "give the frames whose poses the rows are, in their order"))
    return names


def photographs_beyond(table: manifest.Manifest) -> frozenset[str]:
    """Return the ids of the photographs that the literature leaves out, as a manifest lists them."""
    return frozenset(
        stills.id(number)
        for stills in STILLS.values()
        for unit in manifest.listed_units(table, stills.name).values()
        if unit.name != manifest.TESTED
        for number in unit.numbers
    )


def _check(table: Table, form: Form, values: Floats, kept: np.ndarray) -> None:
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
        f"{converted.out}: {plural(len(converted.ids), 'frame')} of {TITLES[_target(converted.ids)]}, "
        f"from {converted.what}",
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
