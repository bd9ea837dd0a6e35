"""Reader of the raw Biwi Kinect Head Pose Database (Fanelli et al. 2013).

Poses in the files are those of the depth camera: R takes the head's axes to the camera's (x right, y down,
z forward), the head's centre is in millimetres. Each sequence's own ``rgb.cal`` takes them into the RGB
camera; there are two calibrations in the database.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.errors import ImageError, RawDataError
from headposeplus.faults import RESTORE, Fault, shown, unreadable
from headposeplus.files import content_hash, files_hash, read_file, sha256
from headposeplus.images import Image, read_image
from headposeplus.raw.folders import by_name, find, listing, spelled
from headposeplus.raw.ids import frame_id
from headposeplus.rotations import Floats, geodesic, nearest_rotation, orthonormality_error, to_matrix
from headposeplus.sheets import read_numbers

_FRAME_FILE = re.compile(r"frame_(\d{5})_(rgb\.png|rgb\.jpe?g|pose\.txt)", re.IGNORECASE)
# Rows of the files carry six digits; a matrix further than this from a rotation is damaged.
ROTATION_TOLERANCE = 1e-3
NEAREST_MM, FARTHEST_MM = 200.0, 10_000.0  # a head nearer to the camera, or farther, is a damaged pose
# What ``rgb.cal`` holds in the database's two groups of sequences (the manifest's ``calibration_group``): A as in the
# files. Of B no file is public: its rotation is what its published labels imply, its translation was fitted to the
# published boxes (millimetres, the last one weakly); the camera is one.
CALIBRATION_ROTATIONS = {
    "A": [[0.999947, 0.00432361, 0.00929419], [-0.00446314, 0.999877, 0.0150443], [-0.009228, -0.015085, 0.999844]],
    "B": [[0.9999837, -0.0000336, -0.0057088], [0.0001784, 0.9996785, 0.0253567], [0.0057061, -0.0253573, 0.9996622]],
}
CALIBRATION_TRANSLATIONS = {"A": [-24.0198, 5.8896, -13.2308], "B": [-32.6, 5.2, 31.2]}
RGB_MATRIX = [[517.679, 0.0, 320.0], [0.0, 517.679, 240.5], [0.0, 0.0, 1.0]]
WIDTH, HEIGHT = 640, 480  # of the images
LAYOUT = "folders 01 to 24 with frame_00003_rgb.png, frame_00003_pose.txt and rgb.cal"
# Biwi's two calibrations are 1.07 degrees apart. Each file is one of them to six digits, which are 0.00003 degrees,
# and the published labels imply the same rotation in all sequences of a group to 0.00001 degrees.
CALIBRATION_TOLERANCE = 0.01


class Frame(NamedTuple):
    """One frame of a sequence, by its files."""

    sequence: str
    number: int
    image: Path
    pose: Path

    @property
    def id(self) -> str:
        """The frame's id, such as ``biwi/01/00003``."""
        return frame_id(self.sequence, self.number)


class Pose(NamedTuple):
    """A rotation (3, 3), head to camera, and the head's centre (3,) in millimetres."""

    rotation: Floats
    centre: Floats


class Calibration(NamedTuple):
    """A camera: K (3, 3) in pixels, distortion (4,), and the depth camera's pose in it: R (3, 3), T (3,) mm."""

    matrix: Floats
    distortion: Floats
    rotation: Floats
    translation: Floats
    width: int
    height: int

    def project(self, points: Floats) -> Floats:
        """Return the pixels (..., 2) of points (..., 3) in this camera's frame; Biwi's lenses are ideal."""
        seen = points @ self.matrix.T
        return seen[..., :2] / seen[..., 2:]


def known_camera(group: str) -> Calibration:
    """Return the RGB camera of a calibration group, ``A`` or ``B``, where no ``rgb.cal`` is at hand."""
    rotation, translation = np.array(CALIBRATION_ROTATIONS[group]), np.array(CALIBRATION_TRANSLATIONS[group])
    return Calibration(np.array(RGB_MATRIX), np.zeros(4), rotation, translation, WIDTH, HEIGHT)


def _root_of(folder: Path, names: list[str]) -> Path | None:
    """Return the folder above a sequence."""
    is_sequence = re.fullmatch(r"\d\d", folder.name) and any(map(_FRAME_FILE.fullmatch, names))
    return folder.parent if is_sequence else None


def _count(root: Path) -> dict[str, int]:
    names = [path.name for path in listing(root) if re.fullmatch(r"\d\d", path.name) and os.path.isdir(path)]
    frames = [len(list_frames(root, name)[0]) for name in names]
    return {"sequences": len(names), "frames": sum(frames)}


def find_root(folder: Path) -> Path:
    """Return the folder that holds the sequences: ``folder`` itself or one up to three levels below it.

    Mirrors name it ``hpdb``, ``faces_0`` or nothing in particular, so it is found by what it holds. Of several copies
    it is that with the most sequences, then the most frames.

    Raises
    ------
    RawDataError
        If there is no such folder, or ``folder`` itself cannot be listed.
    TwoCopiesError
        If two copies are the fullest.
    """
    return find(folder, "raw Biwi", LAYOUT, _root_of, _count, levels=3)


def sequences(root: Path) -> list[str]:
    """Return the names of the sequences present, sorted; raises RawDataError if one is a file."""
    names = []
    for path in listing(root):
        if not re.fullmatch(r"\d\d", path.name):
            continue
        if not os.path.isdir(path):
            raise RawDataError(Fault("expected a folder with a Biwi sequence, found a file", "move it elsewhere", path))
        names.append(path.name)
    return names


def annotation(root: Path, sequence: str, number: int) -> Path:
    """Return where ``pose.bin`` of a frame lies in the optional ``db_annotations`` beside the root."""
    return root.parent / "db_annotations" / sequence / f"frame_{number:05d}_pose.bin"


def head_mask(root: Path, sequence: str, number: int) -> Path:
    """Return where the mask of a frame lies in the optional ``head_pose_masks`` beside the root."""
    return root.parent / "head_pose_masks" / sequence / f"frame_{number:05d}_depth_mask.png"


def list_frames(root: Path, sequence: str) -> tuple[list[Frame], list[Fault]]:
    """Return the frames of a sequence by number, and the fault of each that lacks its image or pose.

    A frame whose ``pose.txt`` is missing takes its pose from the annotations, where those are present.
    """
    images: dict[int, Path] = {}
    poses: dict[int, Path] = {}
    for path in listing(root / sequence):
        match = _FRAME_FILE.fullmatch(path.name)
        if not match:
            continue
        number = int(match[1])
        if match[2].lower() == "pose.txt":
            poses[number] = path
        elif path.suffix.lower() == ".png" or number not in images:
            images[number] = path
    if images.keys() - poses.keys():
        annotations = by_name(annotation(root, sequence, 0).parent)
        beside = {number: annotations.get(annotation(root, sequence, number).name) for number in images}
        poses = {number: path for number, path in beside.items() if path} | poses
    frames, faults = [], []
    for number in sorted(images.keys() | poses.keys()):
        if number in images and number in poses:
            frames.append(Frame(sequence, number, images[number], poses[number]))
        elif number in images:
            faults.append(Fault(f"no frame_{number:05d}_pose.txt beside it", "restore it", images[number]))
        else:
            faults.append(Fault(f"no frame_{number:05d}_rgb.png or .jpg beside it", "restore it", poses[number]))
    return frames, faults


def _numbers(path: Path, rows: int, columns: int | None, expected: str) -> list[Floats]:
    """Return the non-blank lines of a text file as arrays, checked for their count and finite numbers."""
    try:
        text = read_file(path).decode("ascii")
    except OSError as error:
        raise RawDataError(unreadable(path, error, expected)) from error
    except UnicodeDecodeError as error:
        raise RawDataError(Fault(f"not a text file; expected {expected}", RESTORE, path)) from error
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    try:
        values = [np.array(list(map(float, words))) for _, words in lines]
    except ValueError:
        values = [read_numbers(words) for _, words in lines]
    for (line, words), row in zip(lines, values, strict=True):
        if not np.isfinite(row).all():
            what = f"expected {expected}, found {shown(words[int(np.isfinite(row).argmin())])}, no finite number"
            raise RawDataError(Fault(what, RESTORE, path, rows=(line,)))
    shaped = len(values) == rows and all(columns is None or len(row) == columns for row in values)
    if not shaped:
        counts = "nothing" if not values else f"{len(values)} rows of {[len(row) for row in values]} numbers"
        raise RawDataError(Fault(f"expected {expected}, found {counts}", RESTORE, path))
    return values


def _checked_rotation(matrix: Floats, path: Path) -> Floats:
    error = float(orthonormality_error(matrix))
    if error > ROTATION_TOLERANCE:
        off = f"R times its transpose is off the identity by {error:.2g}"
        why = "its determinant is not positive" if np.isinf(error) else off
        raise RawDataError(Fault(f"its matrix is not a rotation: {why}", RESTORE, path))
    return nearest_rotation(matrix)


def read_pose(path: Path) -> Pose:
    """Return the pose in the depth camera, from ``_pose.txt`` or from the annotations' ``_pose.bin``.

    Raises
    ------
    RawDataError
        If the file is missing, short, not finite, or its matrix is no rotation.
    """
    if path.suffix.lower() == ".bin":
        centre, angles = read_pose_bin(path)
        return Pose(to_matrix(angles, "biwi"), centre)
    rows = _numbers(path, 4, 3, "three rows of a rotation and the head's centre")
    return Pose(_checked_rotation(np.stack(rows[:3]), path), rows[3])


def read_pose_bin(path: Path) -> tuple[Floats, Floats]:
    """Return the centre (3,) in millimetres and pitch, yaw, roll (3,) in degrees, convention ``biwi``."""
    try:
        data = read_file(path)
    except OSError as error:
        raise RawDataError(unreadable(path, error)) from error
    if len(data) != 24:
        raise RawDataError(Fault(f"expected six float32 (24 bytes), found {len(data)} bytes", RESTORE, path))
    values = np.array(struct.unpack("<6f", data))
    if not np.isfinite(values).all():
        raise RawDataError(Fault(f"expected six finite float32, found {values}", RESTORE, path))
    return values[:3], values[3:]


def read_depth_camera(root: Path, sequence: str) -> Calibration:
    """Return the depth camera of a sequence; raises RawDataError if its ``depth.cal`` is missing or damaged."""
    return _read_calibration(spelled(root / sequence / "depth.cal"))


def _read_calibration(path: Path) -> Calibration:
    """Return what a calibration file says, of whichever sequence: :func:`open_sequence` checks that."""
    expected = "a calibration: K, distortion, R, T and the image size"
    rows = _numbers(path, 9, None, expected)
    lengths = [len(row) for row in rows]
    if lengths != [3, 3, 3, 4, 3, 3, 3, 3, 2]:
        raise RawDataError(Fault(f"expected {expected}, found rows of {lengths} numbers", RESTORE, path))
    matrix, rotation = np.stack(rows[:3]), _checked_rotation(np.stack(rows[4:7]), path)
    width, height = rows[8]
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or (matrix[2] != [0, 0, 1]).any() or min(width, height) < 1:
        raise RawDataError(Fault(f"expected {expected}, found another K or size than a camera has", RESTORE, path))
    return Calibration(matrix, rows[3], rotation, rows[7], int(width), int(height))


def _read_camera(root: Path, sequence: str, group: str) -> Calibration:
    """Return a sequence's RGB camera; raises RawDataError if its file is damaged, or another sequence's."""
    path = spelled(root / sequence / "rgb.cal")
    camera = _read_calibration(path)
    known = CALIBRATION_ROTATIONS.get(group)
    if known is not None and geodesic(camera.rotation, np.array(known)) > CALIBRATION_TOLERANCE:
        what = f"not the calibration of this sequence, whose group is {group}"
        raise RawDataError(Fault(what, RESTORE, path))
    return camera


def to_rgb_camera(pose: Pose, rgb: Calibration) -> Pose:
    """Return a depth-camera pose in the RGB camera: ``R_cal R`` and ``R_cal t + T``."""
    return Pose(nearest_rotation(rgb.rotation @ pose.rotation), rgb.rotation @ pose.centre + rgb.translation)


def read_rgb_image(path: Path, rgb: Calibration) -> Image:
    """Return a frame's image.

    Raises
    ------
    ImageError
        If it is damaged, or not of the size that the calibration says.
    """
    image = read_image(path)
    height, width = image.shape[:2]
    if (width, height) != (rgb.width, rgb.height):
        what = f"{width} x {height} pixels, but the calibration says {rgb.width} x {rgb.height}"
        raise ImageError(Fault(what, file=path))
    return image


class Sequence(NamedTuple):
    """An open sequence of a raw copy.

    Attributes
    ----------
    name
        Such as ``01``.
    camera
        The RGB camera, known to be the sequence's own.
    frames
        Those that have an image and a pose, by number.
    faults
        One for each frame that lacks its image or its pose.
    """

    name: str
    camera: Calibration
    frames: list[Frame]
    faults: list[Fault]

    def read_pose(self, path: Path) -> Pose:
        """Return the pose of a ``pose.txt`` or ``pose.bin`` in the RGB camera.

        Raises
        ------
        RawDataError
            If the file is damaged, or the head is too near to the camera to be one, or too far.
        """
        pose = to_rgb_camera(read_pose(path), self.camera)
        if not NEAREST_MM <= pose.centre[2] <= FARTHEST_MM:
            raise RawDataError(Fault(f"the head is {pose.centre[2]:.6g} mm before the camera", RESTORE, path))
        return pose

    def poses(self) -> Iterator[tuple[Frame, Pose | Fault]]:
        """Yield each frame with its pose in the RGB camera, or with what is wrong with it."""
        return _each_pose(self.frames, self.read_pose)

    def read_image(self, frame: Frame) -> Image:
        """Return a frame's image, as :func:`read_rgb_image` does."""
        return read_rgb_image(frame.image, self.camera)


def _each_pose(frames: list[Frame], read: Callable[[Path], Pose]) -> Iterator[tuple[Frame, Pose | Fault]]:
    for frame in frames:
        try:
            yield frame, read(frame.pose)
        except RawDataError as error:
            yield frame, error.fault


def depth_poses(frames: list[Frame]) -> Iterator[tuple[Frame, Pose | Fault]]:
    """Yield each frame with its pose in the depth camera, or with what is wrong with it; no calibration is read."""
    return _each_pose(frames, read_pose)


def open_sequence(root: Path, name: str, group: str) -> Sequence:
    """Open a sequence, its poses in the RGB camera.

    ``group`` is its calibration group by the manifest (:func:`headposeplus.raw.manifest.calibration_groups`), against
    which ``rgb.cal`` is checked; empty where the manifest does not know the sequence.

    Raises
    ------
    RawDataError
        If the sequence cannot be listed, or its ``rgb.cal`` is missing, damaged or another sequence's.
    """
    frames, faults = list_frames(root, name)
    return Sequence(name, _read_camera(root, name, group), frames, faults)


def fingerprint(root: Path, name: str) -> str:
    """Return a hash that changes when a sequence's frames or its calibration do."""
    files = [path for frame in list_frames(root, name)[0] for path in (frame.image, frame.pose)]
    calibration = spelled(root / name / "rgb.cal")
    return content_hash([files_hash(files), sha256(calibration) if calibration.is_file() else ""])


Rotations = dict[str, tuple[np.ndarray, Floats]]


def _stacked(poses: list[tuple[Frame, Pose | Fault]]) -> tuple[np.ndarray, Floats]:
    """Return the frame numbers (n,) and rotations (n, 3, 3) of the poses that can be read."""
    readable = [(frame.number, pose.rotation) for frame, pose in poses if isinstance(pose, Pose)]
    numbers, rotations = [number for number, _ in readable], [rotation for _, rotation in readable]
    return np.array(numbers, np.int64), np.array(rotations).reshape(-1, 3, 3)


def depth_rotations(root: Path) -> Rotations:
    """Return the frame numbers (n,) and depth-camera rotations (n, 3, 3) of each sequence, of what can be read."""
    rotations = {name: _stacked(list(depth_poses(list_frames(root, name)[0]))) for name in sequences(root)}
    return {name: of_frames for name, of_frames in rotations.items() if len(of_frames[0])}


def rgb_rotations(root: Path, groups: Mapping[str, str]) -> tuple[Rotations, list[Fault]]:
    """Return the frame numbers (n,) and RGB-camera rotations (n, 3, 3) of each sequence, and what cannot be read.

    ``groups`` is each sequence's calibration group by the manifest.
    """
    rotations, faults = {}, []
    for name in sequences(root):
        try:
            poses = list(open_sequence(root, name, groups.get(name, "")).poses())
        except RawDataError as error:
            faults.append(error.fault)
            continue
        faults += [pose for _, pose in poses if isinstance(pose, Fault)]
        rotations[name] = _stacked(poses)
    return {name: of_frames for name, of_frames in rotations.items() if len(of_frames[0])}, faults


def read_depth(path: Path) -> np.ndarray:
    """Return a depth image (height, width), int16 millimetres, from its run-length encoding.

    Raises
    ------
    RawDataError
        If the runs end early or do not fill the image.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise RawDataError(unreadable(path, error)) from error
    if len(data) < 8:
        raise RawDataError(Fault(f"expected a depth image, found {len(data)} bytes", RESTORE, path))
    width, height = struct.unpack_from("<2i", data)
    if not (0 < width <= 10_000 and 0 < height <= 10_000):
        raise RawDataError(Fault(f"expected a depth image, found a size of {width} x {height}", RESTORE, path))
    depth = np.zeros(width * height, np.int16)
    at, filled = 8, 0
    while filled < depth.size:
        if at + 8 > len(data):
            raise RawDataError(Fault(f"truncated: {filled} of {depth.size} depth values", RESTORE, path))
        zeros, count = struct.unpack_from("<2i", data, at)
        at += 8
        end = filled + zeros + count
        if zeros < 0 or count < 0 or end > depth.size or at + 2 * count > len(data) or zeros + count == 0:
            what = f"damaged or truncated after {filled} of {depth.size} depth values"
            raise RawDataError(Fault(what, file=path))
        depth[filled + zeros : end] = np.frombuffer(data, "<i2", count, at)
        at, filled = at + 2 * count, end
    return depth.reshape(height, width)


def encode_depth(depth: np.ndarray) -> bytes:
    """Return the run-length encoding that :func:`read_depth` reads, of an int16 image (height, width)."""
    flat = np.asarray(depth, "<i2").ravel()
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (flat != 0).astype(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    parts = [struct.pack("<2i", depth.shape[1], depth.shape[0])]
    previous = 0
    for start, end in zip(starts, ends, strict=True):
        parts += [struct.pack("<2i", start - previous, end - start), flat[start:end].tobytes()]
        previous = end
    if previous < flat.size:
        parts.append(struct.pack("<2i", flat.size - previous, 0))
    return b"".join(parts)


def read_mask(path: Path) -> np.ndarray:
    """Return a head mask (height, width), bool, of the optional ``head_pose_masks``."""
    return read_image(path).max(axis=-1) > 127
