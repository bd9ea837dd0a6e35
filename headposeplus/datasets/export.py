"""Exports of built datasets for other tools: the arrays of the published Biwi_plus.npz, a CSV of labels, image files.

All rotations and angles are of the RGB camera, as in the datasets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tomli_w

from headposeplus import __version__
from headposeplus.datasets.dataset import Crop, Dataset, open_dataset, read_crops, read_fields
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, plural, shown
from headposeplus.files import locked, sweep, whole_or_absent, write_bytes, write_text
from headposeplus.images import PNG
from headposeplus.poses.columns import ANGLE_COLUMNS, MATRIX_COLUMNS
from headposeplus.progress import progress
from headposeplus.raw import manifest
from headposeplus.raw.subsets import Subset, find, select
from headposeplus.raw.targets import file_of
from headposeplus.rotations import from_matrix

BOX_COLUMNS = ["x", "y", "width", "height"]
# Fields that only some datasets have, and their columns.
_OPTIONAL = {
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
        raise DatasetError(Fault("the dataset is empty", file=dataset.folder))
    rows = np.full(sum(map(len, ids)), subset is None)
    if subset is not None:
        rows[select(subset, np.concatenate(ids))] = True
    return rows


def _selected(
    dataset: Dataset, rows: np.ndarray, *names: str, optional: tuple[str, ...] = ()
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the id and other fields of each shard, of those of its rows that are to be exported."""
    start = 0
    for fields in read_fields(dataset, "id", *names, optional=optional):
        mine = rows[start : start + len(fields["id"])]
        start += len(mine)
        yield {name: values[mine] for name, values in fields.items()}


def export_npz(dataset: Dataset, path: Path, subset: Subset | None = None) -> int:
    """Write the arrays of the published ``Biwi_plus.npz``; return the number of rows.

    ``images`` (n,) are paths in the raw copy such as ``01/frame_00003_rgb.png``, and the ids where the images were
    rendered; ``pyr`` (n, 3) are pitch, yaw, roll and ``ypr`` (n, 3) yaw, pitch, roll, float64, in degrees; ``bbox``
    (n, 4) are x, y, width, height, int32; ``calibrated`` says that the poses are in the RGB camera. Rows of
    photographs are sorted by image, else they are as in the dataset. The published file's ``ids`` (one short of its
    frames) and ``date`` are left out. The same dataset gives the same bytes.

    Raises
    ------
    DatasetError
        If the dataset is empty or damaged, or lacks a frame of the subset.
    """
    rows = _chosen(dataset, subset)
    shards = list(_selected(dataset, rows, "label/rotation", "label/pyr", "box"))
    ids, rotations, angles, boxes = (
        np.concatenate([fields[name] for fields in shards]) for name in ("id", "label/rotation", "label/pyr", "box")
    )
    images = ids
    if not dataset.rendered:
        images = np.array([file_of(name) for name in ids.tolist()])
        order = np.argsort(images)
        images, rotations, angles, boxes = images[order], rotations[order], angles[order], boxes[order]
    yaw_first = from_matrix(rotations, "ypr")[:, [1, 0, 2]]
    with whole_or_absent(path) as temporary, temporary.open("wb") as file:
        # An open file, since NumPy appends .npz to a name.
        calibrated = np.array(dataset.info.camera == "rgb")
        np.savez(file, images=images, pyr=angles, ypr=yaw_first, bbox=boxes.astype(np.int32), calibrated=calibrated)
    return len(images)


def export_csv(dataset: Dataset, path: Path, subset: Subset | None = None) -> int:
    """Write the labels as a CSV, and a TOML beside it that says what they are; return the number of rows.

    The columns are id, subject, pitch, yaw, roll (``pyr``, degrees), r11 to r33, x, y, width, height, and where a
    part of the dataset has them: box_source, source, turn, residual_geodesic and residual_euler (degrees).

    Raises
    ------
    DatasetError
        If the dataset is empty or damaged, or lacks a frame of the subset.
    """
    if path.suffix.lower() == ".toml":
        what = "expected a name for a CSV"
        raise DatasetError(Fault(what, "the TOML beside it takes the ending .toml", path))
    rows = _chosen(dataset, subset)
    tables = []
    labels = ("subject", "label/pyr", "label/rotation", "box")
    for fields in _selected(dataset, rows, *labels, optional=tuple(_OPTIONAL)):
        columns = {"id": fields["id"], "subject": fields["subject"]}
        columns |= dict(zip(ANGLE_COLUMNS, fields["label/pyr"].T, strict=True))
        columns |= dict(zip(MATRIX_COLUMNS, fields["label/rotation"].reshape(-1, 9).T, strict=True))
        columns |= dict(zip(BOX_COLUMNS, fields["box"].T, strict=True))
        columns |= {column: fields[name] for name, column in _OPTIONAL.items() if name in fields}
        tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    about = {
        "dataset": dataset.name,
        "dataset_sha256": dataset.info.content_sha256,
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
    rows = np.flatnonzero(_chosen(dataset, subset))
    cleared: set[Path] = set()
    with locked(folder, wait=False), progress(len(rows), "images", "image") as bar:
        for crop in read_crops(dataset, rows):
            _write_crop(folder, crop)
            place = (folder / crop.id).parent
            if place not in cleared:
                sweep(place)
                cleared.add(place)
            bar.update()
    return len(rows)


def _write_crop(folder: Path, crop: Crop) -> None:
    data = crop.encoded.tobytes()
    kind = _KINDS.get(data[:2])
    # An id becomes a path: only what a build writes may become one.
    if kind is None or not _ID.fullmatch(crop.id):
        what = f"the shard with {shown(crop.id)} is damaged"
        raise DatasetError(Fault(what, "delete it and build again", crop.shard))
    write_bytes(folder / f"{crop.id}{kind}", data)
    mask = crop.mask
    if mask is not None:
        encoded = cv2.imencode(".png", mask * np.uint8(255), PNG)[1]
        write_bytes(folder / f"{crop.id}_mask.png", encoded.tobytes())


def export(folder: Path, out: Path, subset: str | None = None, manifest_file: Path | None = None) -> str:
    """Export the dataset in ``folder`` as what the ending of ``out`` says; return a line that says what was written.

    ``.npz`` and ``.csv`` are files; without an ending, ``out`` becomes a folder of images.

    Raises
    ------
    DatasetError
        If there is no dataset, the subset does not fit it, or the ending is another one.
    """
    writers = {".npz": export_npz, ".csv": export_csv, "": export_images}
    ending = out.suffix.lower()
    if ending not in writers:
        what = "expected a file that ends in .npz or .csv, or a folder's name for the images"
        raise DatasetError(Fault(what, file=out))
    chosen = find(subset, manifest_file) if subset else None
    count = writers[ending](open_dataset(folder), out, chosen)
    of = f" of {chosen.name} ({chosen.sha256[:8]})" if chosen else ""
    return f"{plural(count, 'row')}{of} in {out}"
