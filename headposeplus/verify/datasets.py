"""Checks built datasets against their ``dataset.json`` and the manifest. Nothing stops at the first fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headposeplus.datasets.dataset import BACKGROUNDS, Dataset, MissingShardError, open_dataset, read_fields
from headposeplus.datasets.info import INFO, NAMES, content_sha256, read_info
from headposeplus.errors import DatasetError, HeadposeError, ImageError
from headposeplus.files import read_json, sha256
from headposeplus.images import decode
from headposeplus.raw import biwi, manifest
from headposeplus.raw.folders import listing
from headposeplus.rotations import Floats, angle_difference, from_matrix, orthonormality_error
from headposeplus.tasks import progress
from headposeplus.verify.report import DEGREES, LABEL_TOLERANCE, Report, begin, compare_labels, count, statistics

# Shards hold doubles: orthonormality without unit, and degrees.
LABEL_ERROR = 1e-6
# Of SynHead++, in degrees, convention pyr, RGB camera.
PUBLISHED_SYNHEAD_PP = {
    "mean": [-4.0955, -2.4469, 0.7590],
    "std": [23.1782, 30.7491, 10.7432],
    "source": "published with the PADACO weights (Kuhnke & Ostermann, ICCV 2019)",
}
BUILD_AGAIN = "delete it and run the build again"


def _find(folder: Path) -> list[Path]:
    """Return the folders of the datasets: a build's, or one dataset with those that it joins."""
    if not (folder / INFO).exists():
        found = [folder / name for name in NAMES if (folder / name).is_dir()]
        if not found:
            raise DatasetError(f"{folder}: holds no dataset; give the --out of a build, or one dataset's folder in it")
        return found
    info = read_json(folder / INFO, "the description of a dataset")
    joins = info.get("joins") if isinstance(info, dict) else None
    return [*(folder.parent / str(name) for name in joins or ()), folder]


def _open(folder: Path, lines: list[str]) -> Dataset | None:
    """Return the dataset in a folder, even if shards are missing; None, and a fault line, if it is no dataset."""
    try:
        return open_dataset(folder)
    except MissingShardError:  # each is told when it is read
        return Dataset(folder, read_info(folder))
    except HeadposeError as error:
        lines.append(str(error))
        return None


def _check_labels(fields: dict[str, np.ndarray], rows: int, path: Path) -> list[str]:
    """Return the faults of a shard's ids and labels."""
    ids, rotations, angles = fields["id"], fields["label/rotation"], fields["label/pyr"]
    if not len(ids) == len(rotations) == len(angles) == rows:
        found = f"{len(ids)} ids, {len(rotations)} rotations and {len(angles)} angles"
        return [f"{path}: expected {rows} rows, as dataset.json says, found {found}; {BUILD_AGAIN}"]
    lines = [f"{path}: {(ids == '').sum()} empty ids; {BUILD_AGAIN}"] if (ids == "").any() else []
    with np.errstate(invalid="ignore"):
        off = ~(orthonormality_error(rotations) <= LABEL_ERROR)
    if off.any():
        what = f"{off.sum()} label/rotation are no rotations, the first of {ids[off][0]}"
        return [*lines, f"{path}: {what}; {BUILD_AGAIN}"]
    difference = np.abs(angle_difference(from_matrix(rotations), angles)).max(axis=1)
    if (off := ~(difference <= LABEL_ERROR)).any():
        lines.append(f"{path}: {off.sum()} label/pyr are not the angles ({DEGREES}) of their label/rotation, "
                     f"the first of {ids[off][0]}; {BUILD_AGAIN}")  # fmt: skip
    return lines


def _check_crops(fields: dict[str, np.ndarray], side: int, path: Path) -> list[str]:
    """Return the faults of a shard's crops, each of which is decoded."""
    data, offset, ids = fields["image/bytes"], fields["image/offset"], fields["id"]
    if len(offset) != len(ids) + 1 or (np.diff(offset) < 0).any() or offset[0] != 0 or offset[-1] != len(data):
        return [f"{path}: image/offset does not fit {len(ids)} rows and the image bytes; {BUILD_AGAIN}"]
    lines = []
    for name, start, end in zip(ids, offset[:-1], offset[1:], strict=True):
        try:
            height, width = decode(data[start:end]).shape[:2]
        except ImageError:
            lines.append(f"{path}: the crop of {name} cannot be decoded; {BUILD_AGAIN}")
            continue
        if (height, width) != (side, side):
            lines.append(f"{path}: the crop of {name} is {width} x {height}, expected {side} x {side}; {BUILD_AGAIN}")
    return lines


def _same_hash(path: Path, expected: str, unit: Report, lines: list[str]) -> bool:
    """Return whether a file's SHA-256 is that in ``dataset.json``; add to the unit's bytes, else a fault line."""
    try:
        found = sha256(path)
        unit["bytes"] += path.stat().st_size
        unit["hashes"] += 1
    except OSError as error:
        lines.append(f"{path}: cannot be read: {error.strerror}; run the build again to restore it")
        return False
    if found != expected:
        lines.append(f"{path}: damaged or changed: its SHA-256 is not that in dataset.json; {BUILD_AGAIN}")
    return found == expected


def _check_description(dataset: Dataset, lines: list[str]) -> None:
    """Add fault lines on what ``dataset.json`` says of itself, and on files that it does not name."""
    folder, info = dataset.folder, dataset.info
    content = content_sha256(info)
    if info.content_sha256 != content:
        lines.append(f"{folder / INFO}: changed since the build: expected the content_sha256 {content}, found "
                     f"{info.content_sha256}; {BUILD_AGAIN}")  # fmt: skip
    named = {shard.file for shard in info.shards}
    named |= {BACKGROUNDS} if info.backgrounds_sha256 else set()
    lines += [
        f"{path}: not named in dataset.json, so of another or a stopped build; delete it"
        for path in listing(folder)
        if path.suffix in (".h5", ".part") and path.name not in named
    ]


def _check_dataset(dataset: Dataset, deep: bool, lines: list[str], bar: Any) -> tuple[Report, np.ndarray, Floats]:
    """Return the row of a dataset that holds pixels, and the ids (n,) and rotations (n, 3, 3) of its whole shards."""
    info, folder = dataset.info, dataset.folder
    unit: Report = {"name": dataset.name, "folder": str(folder), "rows": info.rows, "bytes": 0, "hashes": 0,
                    "shards": len(info.shards), "shards_damaged": 0}  # fmt: skip
    names = ("id", "label/rotation", "label/pyr", *(("image/bytes", "image/offset") if deep else ()))
    found: list[dict[str, np.ndarray]] = []
    for shard in info.shards:
        path = folder / shard.file
        before = len(lines)
        if _same_hash(path, shard.sha256, unit, lines) and shard.rows:
            try:
                fields = next(read_fields(Dataset(folder, msgspec.structs.replace(info, shards=[shard])), *names))
                more = _check_labels(fields, shard.rows, path)
                found += [] if more else [{name: fields[name] for name in names[:2]}]
                lines += [*more, *(_check_crops(fields, dataset.size, path) if deep else ())]
            except DatasetError as error:
                lines.append(str(error))
        unit["shards_damaged"] += len(lines) > before
        bar.update()
    if info.backgrounds_sha256:
        _same_hash(folder / BACKGROUNDS, info.backgrounds_sha256, unit, lines)
    listed = sum(shard.rows for shard in info.shards)
    if listed != info.rows:
        lines.append(f"{folder / INFO}: says {info.rows} rows, but its shards have {listed}; build again")
    ids = np.concatenate([np.zeros(0, "U1"), *(fields["id"] for fields in found)])
    rotations = np.concatenate([np.zeros((0, 3, 3)), *(fields["label/rotation"] for fields in found)])
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        lines.append(f"{folder}: {(counts > 1).sum()} ids are in more than one row, such as {unique[counts > 1][0]}; "
                     "delete the folder and run the build again")  # fmt: skip
    if len(ids):
        unit["labels"] = statistics(rotations)
    for key, value in unit.get("labels", {}).items():
        said = info.labels.get(key)
        if not unit["shards_damaged"] and (said is None or np.abs(np.subtract(said, value)).max() > LABEL_TOLERANCE):
            lines.append(f"{folder / INFO}: says that the labels' {key} is {said}, but it is "
                         f"{np.round(value, 4).tolist()} {DEGREES}; build again")  # fmt: skip
    return unit, ids, rotations


def _check_union(union: Dataset, units: list[Report], rotations: dict[str, Floats], lines: list[str]) -> Report:
    """Return the row of a dataset that joins others, whose own rows and rotations are given."""
    unit: Report = {"name": union.name, "folder": str(union.folder), "rows": union.info.rows, "bytes": 0,
                    "hashes": 0, "shards": 0, "shards_damaged": 0}  # fmt: skip
    joins = union.info.joins or []
    joined = [one for one in units if one["name"] in joins]
    try:
        rows = sum(part.info.rows for part in union.parts())
    except MissingShardError:  # told with the part
        return unit
    except HeadposeError as error:
        lines.append(str(error))
        return unit
    if rows != unit["rows"]:
        lines.append(f"{union.folder / INFO}: says {unit['rows']} rows, but its parts have {rows}; build again")
    if len(joined) == len(joins) and rows and not any(one["shards_damaged"] for one in joined):
        unit["labels"] = statistics(np.concatenate([rotations[one["name"]] for one in joined]))
    return unit


def _compare_biwi_plus(
    ids: np.ndarray, rotations: Floats, rows: list[dict[str, Any]], folder: Path, lines: list[str]
) -> list[Report]:
    """Return each sequence's statistics in Biwi+ beside its manifest row's, where exactly its frames are there."""
    index = {name: i for i, name in enumerate(ids.tolist())}
    found = []
    for row in rows:
        wanted = [biwi.frame_id(row["unit"], number) for number in manifest.from_ranges(row["frame_numbers"])]
        there = [index[name] for name in wanted if name in index]
        entry = {"unit": row["unit"], "expected": len(wanted), "present": len(there)}
        of_sequence = np.char.startswith(ids, f"biwi/{row['unit']}/").sum()
        if wanted and len(there) == len(wanted) == of_sequence:
            found.append(entry | compare_labels(rotations[there], row, f"{folder}: sequence {row['unit']}", lines))
        else:
            found.append(entry | {"state": "not comparable: absent frames" if there else "absent"})
    return found


def verify_data(folder: Path, manifest_file: Path | None = None, deep: bool = False) -> Report:
    """Check built datasets against their ``dataset.json``; return a report of plain JSON values.

    Parameters
    ----------
    folder
        The ``--out`` of a build, or one dataset's folder.
    manifest_file
        Has the label statistics of Biwi's sequences; the project's own if None.
    deep
        Decode every crop too.

    Raises
    ------
    HeadposeError
        If there is no dataset at all, or the manifest cannot be read.
    """
    table = manifest.read(manifest_file)
    lines: list[str] = []
    warnings: list[str] = []
    datasets = {one.name: one for place in _find(folder) if (one := _open(place, lines))}
    units: list[Report] = []
    compared: Report = {}
    rotations: dict[str, Floats] = {}
    with progress(sum(len(dataset.info.shards) for dataset in datasets.values()), "built datasets", "shard") as bar:
        for name, dataset in datasets.items():  # a union comes after its parts
            _check_description(dataset, lines)
            if dataset.info.joins:
                units.append(_check_union(dataset, units, rotations, lines))
                continue
            unit, ids, rotations[name] = _check_dataset(dataset, deep, lines, bar)
            units.append(unit)
            if name == "biwi+":
                rows = table[table["dataset"] == "biwi"].to_dict("records")
                compared[name] = _compare_biwi_plus(ids, rotations[name], rows, dataset.folder, lines)
    for unit in units:
        mine = sum(line.startswith((f"{unit['folder']}/", f"{unit['folder']}:")) for line in lines)
        unit["state"] = count(mine) if mine else "whole"
        if unit["name"] == "synhead++" and "labels" in unit:
            compared["synhead++"] = {"found": unit["labels"], "published": PUBLISHED_SYNHEAD_PP}
    if "synbiwi+" in datasets and "biwi+" in datasets:
        matched = datasets["synbiwi+"].info.matched_sha256
        if matched != datasets["biwi+"].info.content_sha256:
            warnings.append(f"{datasets['synbiwi+'].folder}: was matched with another Biwi+ than that beside it; build "
                            "with both raw datasets")  # fmt: skip
    return begin(manifest_file, deep) | {
        "folder": str(folder),
        "datasets": units,
        "statistics": compared,
        "bytes_read": sum(unit["bytes"] for unit in units),
        "hashes_checked": sum(unit["hashes"] for unit in units),
        "warnings": warnings,
        "faults": sorted(set(lines)),
    }
