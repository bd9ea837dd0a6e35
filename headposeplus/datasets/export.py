"""Exports of built datasets for other tools: the arrays of the published Biwi_plus.npz, a CSV of labels, image files.

All rotations and angles are of the RGB camera, as in the datasets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import tomli_w

from headposeplus import __version__
from headposeplus.datasets.dataset import Dataset, damaged, open_dataset, parts, read_fields, unpack_mask
from headposeplus.errors import DatasetError
from headposeplus.files import whole_or_absent, write_bytes, write_text
from headposeplus.images import PNG
from headposeplus.poses.columns import ANGLE_COLUMNS, MATRIX_COLUMNS
from headposeplus.raw import manifest
from headposeplus.raw.subsets import Subset, find, select
from headposeplus.rotations import from_matrix
from headposeplus.tasks import progress

BOX_COLUMNS = ["x", "y", "width", "height"]
# Fields that only some datasets have, and their columns.
_MORE = {
    "box_source": "box_source",
    "source": "source",
    "turn": "turn",
    "residual/geodesic": "residual_geodesic",
    "residual/euler": "residual_euler",
}
_ID = re.compile(r"[\w+-]+(/[\w+-]+)+", re.ASCII)
_KINDS = {b"\x89P": ".png", b"\xff\xd8": ".jpg"}  # of encoded crops, by their first bytes


def _chosen(dataset: Dataset, subset: Subset | None) -> np.ndarray:
    """Return which rows (n,) of a dataset to export, bool; raises DatasetError if there are none."""
    ids = [fields["id"] for fields in read_fields(dataset, "id")]
    if not ids:
        raise DatasetError(f"{dataset.folder}: the dataset is empty")
    rows = np.full(sum(map(len, ids)), subset is None)
    if subset is not None:
        rows[select(subset, np.concatenate(ids))] = True
    return rows


def _selected(
    dataset: Dataset, rows: np.ndarray, names: Callable[[Dataset], list[str]]
) -> Iterator[tuple[Dataset, dict[str, np.ndarray], np.ndarray]]:
    """Yield of each shard its part of the dataset, the fields ``names`` of that, and which rows (n,) are wanted."""
    start = 0
    for part in parts(dataset):
        for fields in read_fields(part, "id", *names(part)):
            yield part, fields, rows[start : start + len(fields["id"])]
            start += len(fields["id"])


def export_npz(dataset: Dataset, path: Path, subset: Subset | None = None) -> int:
    """Write the arrays of the published ``Biwi_plus.npz``; return the number of rows.

    ``images`` (n,) are paths in raw Biwi such as ``01/frame_00003_rgb.png``, and the ids where the images were
    rendered; ``pyr`` (n, 3) are pitch, yaw, roll and ``ypr`` (n, 3) yaw, pitch, roll, float64, in degrees; ``bbox``
    (n, 4) are x, y, width, height, int32. Rows are sorted by image for Biwi+, else as in the dataset. The published
    file's ``ids`` (one short of its frames) and ``date`` are left out. The same dataset gives the same bytes.

    Raises
    ------
    DatasetError
        If the dataset is empty or damaged, or lacks a frame of the subset.
    """
    rows = _chosen(dataset, subset)
    found = [
        {name: values[mine] for name, values in fields.items()}
        for _, fields, mine in _selected(dataset, rows, lambda _: ["label/rotation", "label/pyr", "box"])
    ]
    ids, rotations, angles, boxes = (
        np.concatenate([fields[name] for fields in found]) for name in ("id", "label/rotation", "label/pyr", "box")
    )
    images = ids
    if dataset.name == "biwi+":
        images = np.array([f"{name[5:7]}/frame_{name[8:13]}_rgb.png" for name in ids.tolist()])
        order = np.argsort(images)
        images, rotations, angles, boxes = images[order], rotations[order], angles[order], boxes[order]
    yaw_first = from_matrix(rotations, "ypr")[:, [1, 0, 2]]
    with whole_or_absent(path) as temporary, temporary.open("wb") as file:
        # An open file, since NumPy appends .npz to a name.
        np.savez(file, images=images, pyr=angles, ypr=yaw_first, bbox=boxes.astype(np.int32))
    return len(images)


def _more(part: Dataset) -> list[str]:
    """Return which of the fields that only some datasets have are in this one."""
    for shard in part.info["shards"]:
        if shard["rows"]:
            try:
                with h5py.File(part.folder / shard["file"], "r") as file:
                    return [name for name in _MORE if name in file]
            except OSError as error:
                raise damaged(part.folder / shard["file"], error) from error
    return []


def export_csv(dataset: Dataset, path: Path, subset: Subset | None = None) -> int:
    """Write the labels as a CSV, and a TOML beside it that says what they are; return the number of rows.

    The columns are id, subject, pitch, yaw, roll (``pyr``, degrees), r11 to r33, x, y, width, height, and where a
    part of the dataset has them: box_source, source, turn, residual_geodesic and residual_euler (degrees).

    Raises
    ------
    DatasetError
        If the dataset is empty or damaged, or lacks a frame of the subset.
    """
    if path.suffix == ".toml":
        raise DatasetError(f"{path}: expected a name for a CSV; the TOML beside it takes the ending .toml")
    rows = _chosen(dataset, subset)
    tables = []
    labels = ["subject", "label/pyr", "label/rotation", "box"]
    for _, fields, mine in _selected(dataset, rows, lambda part: labels + _more(part)):
        columns = {"id": fields["id"], "subject": fields["subject"]}
        columns |= dict(zip(ANGLE_COLUMNS, fields["label/pyr"].T, strict=True))
        columns |= dict(zip(MATRIX_COLUMNS, fields["label/rotation"].reshape(-1, 9).T, strict=True))
        columns |= dict(zip(BOX_COLUMNS, fields["box"].T, strict=True))
        columns |= {column: fields[name] for name, column in _MORE.items() if name in fields}
        tables.append(pd.DataFrame(columns)[mine])
    table = pd.concat(tables, ignore_index=True)
    about = {
        "dataset": dataset.name,
        "dataset_sha256": dataset.info["content_sha256"],
        "rows": len(table),
        "ids_sha256": manifest.ids_sha256(table["id"]),
        "subset": subset.name if subset else "",
        "convention": "pyr",
        "camera": "rgb",
        "angles": "pitch, yaw, roll in degrees: the extrinsic xyz angles of F R F, F = diag(1, -1, -1)",
        "rotation": "r11 to r33 are R, row by row: head to RGB camera (x right, y down, z forward)",
        "box": "x, y, width, height in raw pixels; the last pixel is at x + width - 1",
        "toolkit": __version__,
    }
    write_text(path.with_suffix(".toml"), tomli_w.dumps(about))
    write_text(path, table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    return len(table)


def export_images(dataset: Dataset, folder: Path, subset: Subset | None = None) -> int:
    """Write the crops as they are stored, such as ``biwi/01/00003.png``, into a folder; return how many.

    Where there is a foreground, it lies beside the crop as ``..._mask.png``, 255 on the head.

    Raises
    ------
    DatasetError
        If the dataset is empty or damaged, or lacks a frame of the subset.
    """
    rows = _chosen(dataset, subset)
    with progress(int(rows.sum()), "images", "image") as bar:
        for part, fields, mine in _selected(dataset, rows, _image_fields):
            for index in np.flatnonzero(mine).tolist():
                _write_image(folder, part, fields, index)
                bar.update()
    return int(rows.sum())


def _image_fields(part: Dataset) -> list[str]:
    return ["image/bytes", "image/offset"] + ([] if part.name == "biwi+" else ["mask/bits"])


def _write_image(folder: Path, part: Dataset, fields: dict[str, np.ndarray], index: int) -> None:
    name = str(fields["id"][index])
    first, last = fields["image/offset"][index : index + 2]
    data = fields["image/bytes"][first:last].tobytes()
    kind = _KINDS.get(data[:2])
    # A name becomes a path: nothing but what a build gives may.
    if kind is None or not _ID.fullmatch(name):
        raise DatasetError(f"{part.folder}: the shard with {name[:60]!r} is damaged; delete it and build again")
    write_bytes(folder / f"{name}{kind}", data)
    if "mask/bits" in fields:
        mask = unpack_mask(fields["mask/bits"][index], part.size)
        encoded = cv2.imencode(".png", mask * np.uint8(255), PNG)[1]
        write_bytes(folder / f"{name}_mask.png", encoded.tobytes())


def export(folder: Path, out: Path, subset: str | None = None, manifest_file: Path | None = None) -> str:
    """Export the dataset in ``folder`` as what the ending of ``out`` says; return a line that says what was written.

    ``.npz`` and ``.csv`` are files; without an ending, ``out`` becomes a folder of images.

    Raises
    ------
    DatasetError
        If there is no dataset, the subset does not fit it, or the ending is another one.
    """
    writers = {".npz": export_npz, ".csv": export_csv, "": export_images}
    if out.suffix not in writers:
        raise DatasetError(f"{out}: expected a file that ends in .npz or .csv, or a folder's name for the images")
    chosen = find(subset, manifest_file) if subset else None
    count = writers[out.suffix](open_dataset(folder), out, chosen)
    of = f" of {chosen.name} ({chosen.sha256[:8]})" if chosen else ""
    return f"{count:,} rows{of} in {out}"
