"""The truth that predictions are scored against: of a built dataset, of a file of labels, or of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.scoring.label_files import LabelsAt, Said, agreed, read_label_file
from headposeplus.datasets.info import INFO
from headposeplus.errors import DatasetError, RawDataError
from headposeplus.faults import Fault, shown
from headposeplus.poses.columns import ROTATION_TOLERANCE
from headposeplus.raw import manifest
from headposeplus.raw.stills import StillSet, read_rotations
from headposeplus.raw.targets import STILLS, TARGETS, TITLES
from headposeplus.rotations import Floats, orthonormality_error

if TYPE_CHECKING:
    from headposeplus.datasets.dataset import Dataset


class Labels(NamedTuple):
    """True poses of n frames: ids (n,), rotations (n, 3, 3) from head to camera, the subject and sequence of each.

    ``source`` says where they come from; ``dataset`` is the built dataset with their pictures, where that is at hand.
    ``camera`` is ``rgb`` or ``depth``, ``convention`` that of the angles which they were read from, if from angles;
    both are empty where nothing says them, and ``unsaid`` then names them.
    """

    ids: np.ndarray
    rotations: Floats
    subjects: np.ndarray
    sequences: np.ndarray
    source: str
    dataset: Dataset | None = None
    convention: str = ""
    camera: str = ""
    unsaid: tuple[str, ...] = ()

    def take(self, rows: np.ndarray) -> Labels:
        """Return the labels of some rows (m,)."""
        columns = {name: getattr(self, name)[rows] for name in ("ids", "rotations", "subjects", "sequences")}
        return self._replace(**columns)


def from_arrays(
    ids: np.ndarray,
    rotations: Floats,
    subjects: np.ndarray | None = None,
    source: str = "labels",
    camera: str = "",
) -> Labels:
    """Return labels of ids (n,) with rotations (n, 3, 3), from the head to a ``camera``, ``rgb`` or ``depth``.

    A frame's sequence is what stands before the last slash of its id. ``subjects`` (n,) are, where not given, those
    of the manifest for frames of Biwi, one of its own for each photograph of a dataset of stills, and else the
    sequences.

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
        stills = np.isin(sequences, list(STILLS))
        subjects = np.where(stills, np.char.rpartition(ids, "/")[:, 2], subjects)
    people, unsaid = np.asarray(subjects).astype(str), () if camera else ("camera",)
    return Labels(ids, rotations, people, sequences, source, camera=camera, unsaid=unsaid)


def read_labels(at: Path | LabelsAt, target: str | None = None) -> Labels:
    """Return the labels of a folder of built datasets, of a raw copy of stills, or of a file.

    ``target`` is the dataset that is meant, one of :data:`headposeplus.raw.targets.TARGETS`; where it is None or not
    in the folder, the first of those that is there.

    A file is the published ``Biwi_plus.npz``, or any file that predictions could stand in, with the columns ``id`` and
    ``pitch``, ``yaw``, ``roll`` or a rotation, and perhaps ``subject``. In which convention and camera its poses are
    is what the user or the file says (:mod:`benchmark.scoring.label_files`).

    Raises
    ------
    DatasetError
        If there are none, the file is faulty, or it says another convention or camera than the user does.
    """
    at = LabelsAt(at) if isinstance(at, Path) else at
    path = at.path
    if path.is_dir():
        folder, raw = _target_in(path, target)
        if raw is not None:
            agreed(path, Said(at.convention, at.camera), Said(raw.convention, "rgb"))
            labels = from_arrays(*read_rotations(raw, folder), source=str(path), camera="rgb")
            return labels._replace(convention=raw.convention)
        return _of_built(at, folder)
    table = read_label_file(at)
    labels = from_arrays(table.ids, table.rotations, table.subjects, str(path), table.camera)
    return labels._replace(convention=table.convention, unsaid=table.unsaid)


def _of_built(at: LabelsAt, folder: Path) -> Labels:
    """Return the labels of the built dataset in a folder; ``at`` is what the user gave."""
    from headposeplus.datasets.dataset import check_digests, open_dataset, read_fields  # h5py, which files do without

    dataset = open_dataset(folder)
    agreed(at.path, Said("", at.camera), Said("", dataset.info.camera))
    check_digests(dataset)
    fields = list(read_fields(dataset, "id", "subject", optional=("label/rotation",)))
    if any("label/rotation" not in part for part in fields):
        raise DatasetError(Fault("holds no labels", "give them by `labels`, or build it again", folder))
    if not fields:
        title = TITLES.get(dataset.name, dataset.name)
        raise DatasetError(Fault(f"its {title} holds no frame", "build it again from the raw copy", at.path))
    ids, rotations, subjects = (
        np.concatenate([part[name] for part in fields]) for name in ("id", "label/rotation", "subject")
    )
    labels = from_arrays(ids, rotations, subjects, str(at.path), dataset.info.camera)._replace(dataset=dataset)
    return labels._replace(convention=STILLS[dataset.name].convention) if dataset.name in STILLS else labels


def _target_in(folder: Path, target: str | None) -> tuple[Path, StillSet | None]:
    """Return the folder of a target's labels, and the dataset of stills if that is a raw copy of one; else None."""
    if (folder / INFO).exists():
        return folder, None
    built = [name for name in TARGETS if (folder / name / INFO).exists()]
    if built:
        return folder / (target if target in built else built[0]), None
    for stills in STILLS.values():
        try:
            return stills.find_root(folder), stills
        except RawDataError:  # no copy of this one
            continue
    unfinished = [name for name in TARGETS if (folder / name).is_dir()]
    return folder / unfinished[0] if unfinished else folder, None
