"""Protocols: what a score means. Frozen files with an id, and one of one's own data where none fits."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import NamedTuple

import numpy as np

from benchmark.presets import TASKS
from benchmark.submission import Submission, tomllib
from headposeplus.errors import SubmissionError
from headposeplus.rotations import Floats, from_matrix

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


def frames_sha256(ids: np.ndarray) -> str:
    """Return the hash of a set of frames, whatever their order."""
    return hashlib.sha256("\n".join(sorted(str(name) for name in ids)).encode()).hexdigest()


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
    angles = from_matrix(rotations)
    mean, std = angles.mean(axis=0), angles.std(axis=0)
    fingerprint = frames_sha256(ids)
    template = None
    for protocol in frozen():
        if protocol.task != task:
            continue
        template = protocol
        close = np.allclose([*mean, *std], [*protocol.label_mean, *protocol.label_std], atol=LABEL_TOLERANCE, rtol=0)
        if protocol.frames_sha256 == fingerprint and close:
            return protocol
    assert template is not None, "every task has a frozen protocol"
    labels = [[round(float(value), 3) for value in values] for values in (mean, std)]
    digest = hashlib.sha256(f"{fingerprint} {labels}".encode()).hexdigest()[:8]
    return template._replace(
        id=f"local-{digest}/{task}",
        title=f"{template.training_data} to Biwi+ as built from these raw data",
        frames=len(ids),
        frames_sha256=fingerprint,
        label_mean=labels[0],
        label_std=labels[1],
    )


def aligned(submission: Submission, ids: np.ndarray, protocol: Protocol, path: object) -> Floats:
    """Return the predicted rotations (n, 3, 3) in the order of the test frames' ids (n,).

    Raises
    ------
    SubmissionError
        If a frame is missing or unknown, or the predictions are for another camera.
    """
    if submission.about["camera"] != protocol.camera:
        raise SubmissionError(
            f"{path}: poses in the {submission.about['camera']} camera, but {protocol.id} scores those in the "
            f"{protocol.camera} camera; multiply each rotation by that of the sequence's rgb.cal from the left"
        )
    position = {name: i for i, name in enumerate(submission.ids.tolist())}
    wanted = ids.tolist()
    missing = [name for name in wanted if name not in position]
    extra = sorted(set(position) - set(wanted))
    if missing or extra:
        parts = [f"{len(missing)} of {len(wanted)} frames are missing, the first {missing[0]}"] if missing else []
        parts += [f"{len(extra)} ids are not in the test set, the first {extra[0]}"] if extra else []
        raise SubmissionError(f"{path}: {'; '.join(parts)}; {protocol.id} scores all frames or none")
    return submission.rotations[[position[name] for name in wanted]]


def find_task(name: str) -> str:
    """Return a task's name; raises SubmissionError if there is none."""
    if name not in TASKS:
        raise SubmissionError(f"unknown task {name!r}: expected one of {', '.join(TASKS)}")
    return name
