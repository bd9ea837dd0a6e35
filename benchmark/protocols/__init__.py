"""Protocols: what a score means. Frozen files with an id, and one of one's own data where none fits."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import NamedTuple

import numpy as np

from benchmark.presets import TASKS
from benchmark.submission import Submission, tomllib
from headposeplus.errors import SubmissionError
from headposeplus.manifest import ids_sha256
from headposeplus.rotations import Floats, from_matrix
from headposeplus.subsets import Subset

LABEL_TOLERANCE = 1e-3  # degrees, of the means and deviations of the test labels


class Protocol(NamedTuple):
    """A protocol. ``frames_sha256`` is the hash of the sorted ids of the test frames, one a line."""

    id: str
    task: str
    title: str
    test_set: str
    training_data: str
    target_images: str
    selection: str
    convention: str
    camera: str
    metric: str
    frames: int
    frames_sha256: str
    label_mean: list[float]
    label_std: list[float]


def frozen() -> list[Protocol]:
    """Return the frozen protocols by id."""
    files = [path for path in resources.files(__name__).iterdir() if path.name.endswith(".toml")]
    found = [Protocol(**tomllib.loads(path.read_text(encoding="utf-8"))) for path in files]
    return sorted(found, key=lambda protocol: protocol.id)


def for_test_set(task: str, ids: np.ndarray, rotations: Floats) -> Protocol:
    """Return the protocol of a task on these test frames (n,) with labels (n, 3, 3).

    A frozen one if frames and labels are its own. Else a local one, whose id carries the hash of both: its
    scores compare with each other and with nothing else.
    """
    mean, std = _label_statistics(rotations)
    fingerprint = ids_sha256(ids)
    template = None
    for protocol in frozen():
        if protocol.task != task:
            continue
        template = protocol
        close = np.allclose([*mean, *std], [*protocol.label_mean, *protocol.label_std], atol=LABEL_TOLERANCE, rtol=0)
        if protocol.frames_sha256 == fingerprint and close:
            return protocol
    assert template is not None, "every task has a frozen protocol"
    labels = [_rounded(mean), _rounded(std)]
    digest = hashlib.sha256(f"{fingerprint} {labels}".encode()).hexdigest()[:8]
    return template._replace(
        id=f"local-{digest}/{task}",
        title=f"{template.training_data} to Biwi+ as built from these raw data",
        frames=len(ids),
        frames_sha256=fingerprint,
        label_mean=labels[0],
        label_std=labels[1],
    )


def narrowed(protocol: Protocol, subset: Subset, rotations: Floats) -> Protocol:
    """Return the protocol on a subset's frames alone, whose labels are rotations (n, 3, 3).

    Its id ends in the subset's name and the start of its hash, so that a score on it never stands beside one on all
    frames, nor beside one on other frames of that name.
    """
    mean, std = _label_statistics(rotations)
    return protocol._replace(
        id=f"{protocol.id}:{subset.name}@{subset.sha256[:8]}",
        title=f"{protocol.title.partition(':')[0]}, only the frames of {subset.name}",
        test_set=f"{protocol.test_set}, {subset.name}",
        frames=len(subset.ids),
        frames_sha256=subset.sha256,
        label_mean=_rounded(mean),
        label_std=_rounded(std),
    )


def _label_statistics(rotations: Floats) -> tuple[Floats, Floats]:
    angles = from_matrix(rotations)
    return angles.mean(axis=0), angles.std(axis=0)


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 3) for value in values]


def aligned(
    submission: Submission, ids: np.ndarray, protocol: Protocol, path: object, chosen: np.ndarray | None = None
) -> Floats:
    """Return the predicted rotations in the order of the test frames' ids (n,): (n, 3, 3), or (m, 3, 3) of a subset.

    ``chosen`` holds the positions (m,) of a subset's frames. Then the predictions may be of those alone or of all.

    Raises
    ------
    SubmissionError
        If a frame is missing or unknown, or the predictions are for another camera.
    """
    if submission.about["camera"] != protocol.camera:
        raise SubmissionError(
            f"{path}: poses in the {submission.about['camera']} camera, but {protocol.id} scores those in the "
            f"{protocol.camera} camera; hpp convert --from-camera {submission.about['camera']} "
            f"--to-camera {protocol.camera} writes those, and then the TOML should say so"
        )
    position = {name: i for i, name in enumerate(submission.ids.tolist())}
    wanted = ids.tolist() if chosen is None else ids[chosen].tolist()
    missing = [name for name in wanted if name not in position]
    extra = sorted(set(position) - set(ids.tolist()))
    rest = set(ids.tolist()) - set(wanted)
    beyond = rest & set(position)
    faults = [f"{len(missing)} of {len(wanted)} frames are missing, the first {missing[0]}"] if missing else []
    faults += [f"{len(extra)} ids are not in the test set, the first {extra[0]}"] if extra else []
    if beyond and beyond != rest:
        faults.append(
            f"{len(beyond)} of the {len(rest)} test frames outside the subset are there and the others are not; "
            "keep all of them or none"
        )
    if faults:
        way_out = f"{protocol.id} scores all frames or none"
        if chosen is None and not extra:
            way_out += "; to score only the frames of a subset, name it with --subset (hpp subsets lists them)"
        raise SubmissionError(f"{path}: {'; '.join(faults)}; {way_out}")
    return submission.rotations[[position[name] for name in wanted]]


def find_task(name: str) -> str:
    """Return a task's name; raises SubmissionError if there is none."""
    if name not in TASKS:
        raise SubmissionError(f"unknown task {name!r}: expected one of {', '.join(TASKS)}")
    return name
