"""The truth that predictions are scored against: of a built dataset, of a file of labels, or of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.datasets.dataset import Dataset, open_dataset, read_fields
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, remarked, shown
from headposeplus.poses import tables
from headposeplus.poses.columns import ROTATION_TOLERANCE
from headposeplus.raw import manifest
from headposeplus.rotations import Floats, orthonormality_error


class Labels(NamedTuple):
    """True poses of n frames: ids (n,), rotations (n, 3, 3) from head to camera, the subject and sequence of each.

    ``source`` says where they come from; ``dataset`` is the built dataset with their pictures, where that is at hand.
    """

    ids: np.ndarray
    rotations: Floats
    subjects: np.ndarray
    sequences: np.ndarray
    source: str
    dataset: Dataset | None = None

    def take(self, rows: np.ndarray) -> Labels:
        """Return the labels of some rows (m,)."""
        return Labels(
            self.ids[rows], self.rotations[rows], self.subjects[rows], self.sequences[rows], self.source, self.dataset
        )


def from_arrays(
    ids: np.ndarray, rotations: Floats, subjects: np.ndarray | None = None, source: str = "labels"
) -> Labels:
    """Return labels of ids (n,) with rotations (n, 3, 3).

    A frame's sequence is what stands before the last slash of its id. ``subjects`` (n,) are, where not given, those
    of the manifest for frames of Biwi, and else the sequences.

    Raises
    ------
    DatasetError
        If an id comes twice, or there is not a rotation for each.
    """
    ids, rotations = np.asarray(ids).astype(str), np.asarray(rotations, np.float64)
    if rotations.shape != (len(ids), 3, 3) or not len(ids):
        what = f"{len(ids)} ids, rotations {rotations.shape}: expected ({len(ids)}, 3, 3), not none"
        raise DatasetError(Fault(what, file=source))
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        twice = shown(names[int(counts.argmax())])
        raise DatasetError(Fault(f"{twice} comes twice", "keep one label of each frame", source))
    if not np.isfinite(rotations).all() or (orthonormality_error(rotations) > ROTATION_TOLERANCE).any():
        mend = "to_matrix makes them from angles in degrees"
        raise DatasetError(Fault("holds a matrix that is no rotation", mend, source))
    sequences = np.array([name.rpartition("/")[0].removeprefix("biwi/") or "all" for name in ids.tolist()])
    if subjects is None:
        known = manifest.biwi_subjects(manifest.read())
        of_biwi = np.char.startswith(ids, "biwi/")
        pairs = zip(sequences.tolist(), of_biwi.tolist(), strict=True)
        subjects = np.array([known.get(name, name) if biwi else name for name, biwi in pairs])
    return Labels(ids, rotations, np.asarray(subjects).astype(str), sequences, source)


def read_labels(path: Path) -> Labels:
    """Return the labels of a folder of built datasets (its Biwi+), or of a file.

    A file is the published ``Biwi_plus.npz`` (angles ``pyr`` in the RGB camera), or any file that predictions could
    stand in, with the columns ``id`` and ``pitch``, ``yaw``, ``roll`` (``pyr``) or a rotation, and perhaps ``subject``.

    Raises
    ------
    DatasetError
        If there are none, or the file is faulty.
    """
    if path.is_dir():
        dataset = open_dataset(path / "biwi+" if (path / "biwi+").is_dir() else path)
        fields = list(read_fields(dataset, "id", "label/rotation", "subject"))
        if not fields:
            raise DatasetError(Fault("its Biwi+ holds no frame", "build it again from raw Biwi", path))
        ids, rotations, subjects = (
            np.concatenate([part[name] for part in fields]) for name in ("id", "label/rotation", "subject")
        )
        return from_arrays(ids, rotations, subjects, str(path))._replace(dataset=dataset)
    if not path.exists():
        expected = "expected a folder of built datasets, Biwi_plus.npz, or a CSV with id, pitch, yaw, roll"
        raise DatasetError(Fault("no such file", expected, path))
    poses = tables.read(path.read_bytes(), "pyr")
    if poses.faults:
        first = poses.faults[0]
        raise DatasetError(remarked(first._replace(file=path), f"faults in all: {len(poses.faults)}"))
    return from_arrays(poses.ids, poses.rotations, poses.subjects, str(path))
