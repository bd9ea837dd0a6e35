"""Face boxes of dlib's detectors, HOG and CNN, which fail on extreme poses.

A CNN takes a day for Biwi. So the boxes are found in parts of a few frames, and each part that ends is kept in a folder
beside the result until that is written: a run that was stopped goes on at the parts it lacks.
"""

from __future__ import annotations

import importlib
import itertools
import shutil
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headposeplus import __version__
from headposeplus.boxes.compare import mapped
from headposeplus.boxes.files import check_none_lost, read_boxes, write_boxes
from headposeplus.boxes.formats import NOT_DETECTED
from headposeplus.boxes.geometry import RULE, iou
from headposeplus.boxes.sources import NO_BOXES, FrameBoxes, boxes_of, joined
from headposeplus.errors import DatasetError, HeadposeError, RawDataError
from headposeplus.faults import Fault
from headposeplus.files import content_hash, files_hash, listing, locked, sha256
from headposeplus.images import Image, read_image
from headposeplus.raw import biwi, manifest
from headposeplus.raw.folders import spelled
from headposeplus.rotations import Floats
from headposeplus.tasks import run_tasks

HOG, CNN = "dlib-hog", "dlib-cnn"
# A detected face must overlap the projected head by this much (IoU): a detector's box is about half as wide.
MIN_AGREEMENT = 0.1
_PART = 10  # frame numbers: a minute of a CNN
# What makes a box of HOG one as datasets are built with: how far its middle moves, in its sides, and how much larger it
# becomes. Between the fits to the published boxes of 513 real Biwi frames of one person, in 361 of which HOG finds the
# face (the mean IoU grows from 0.33 to 0.84), and to those that the poses of AFLW2000-3D's photographs give, 1,503 of
# 1,969 (from 0.36 to 0.82).
_HOG_SHIFT, _HOG_SCALE = np.array([0.0, 0.03]), np.array([1.72, 1.72])
_DOUBLED = 1280  # pixels: images up to this long are doubled for HOG, whose smallest face has 80

Detector = Callable[[Image], Floats]  # from an image to the boxes (n, 4) of its faces


class _Detection(NamedTuple):
    """Which of dlib's detectors to use: HOG, or the CNN of a file; and how often an image is doubled first."""

    model: str
    upsample: int

    @property
    def source(self) -> str:
        return CNN if self.model else HOG


class _Part(NamedTuple):
    """Some frames of a sequence in which faces are wanted; ``kept`` is the file that keeps their boxes, if any."""

    sequence: biwi.Sequence
    detection: _Detection
    kept: Path | None


class Detected(NamedTuple):
    """The boxes that were written; and the folder that keeps their parts, since some frames have none, or None."""

    boxes: FrameBoxes
    parts: Path | None


def detect_faces(
    root: Path,
    model: Path | None = None,
    upsample: int = 1,
    jobs: int = 1,
    manifest_file: Path | None = None,
    parts: Path | None = None,
) -> FrameBoxes:
    """Return the boxes of dlib's face detector: HOG (Dalal & Triggs 2005), or a CNN from the file ``model``.

    Of several faces the one that agrees best with the projected head counts. A frame without a face near it gets
    the projection's box, marked :data:`headposeplus.boxes.formats.NOT_DETECTED`.

    Parameters
    ----------
    root
        A raw Biwi.
    model
        A CNN face detector of dlib.
    upsample
        How often an image is doubled first, for small faces.
    jobs
        Processes.
    manifest_file
        What a full copy holds.
    parts
        A folder for what this detection has found so far. Parts in which a frame is damaged are not kept: it may be
        mended.

    Raises
    ------
    HeadposeError
        If dlib is not installed, or the model is not one of its detectors.
    DatasetError
        If no frame can be read.
    """
    detection = _Detection(str(model or ""), upsample)
    _load_detector(detection)  # a wrong model is told before the work begins
    groups = manifest.calibration_groups(manifest.read(manifest_file))
    found: list[FrameBoxes | _Part] = []
    for name in biwi.sequences(root):
        try:
            sequence = biwi.open_sequence(root, name, groups.get(name, ""))
        except RawDataError as error:
            found.append(FrameBoxes(NO_BOXES, [error.fault]))
            continue
        found.append(FrameBoxes(NO_BOXES, sequence.faults))
        found += _parts(sequence, detection, parts, sha256(spelled(root / name / "rgb.cal")))
    found = [_kept(part) or part if isinstance(part, _Part) else part for part in found]
    missing = [part for part in found if isinstance(part, _Part)]
    sizes = [len(part.sequence.frames) for part in missing]
    done = sum(len(part.table.ids) for part in found if isinstance(part, FrameBoxes))
    now = iter(run_tasks(_detect, missing, jobs, "boxes", "frame", sizes, done))
    return joined(root, [next(now) if isinstance(part, _Part) else part for part in found])


def write_detected(
    out: Path,
    root: Path,
    model: Path | None = None,
    upsample: int = 1,
    jobs: int = 1,
    manifest_file: Path | None = None,
) -> Detected:
    """Write what :func:`detect_faces` finds into the file ``out``.

    The parts lie beside it, in a folder named by what decides the boxes. It goes when they are written, and stays where
    some frames have none: with the files mended, the same call finds theirs alone.

    Raises
    ------
    HeadposeError
        As :func:`detect_faces`; also if ``out`` cannot be written, or holds boxes that were checked by hand.
    """
    check_none_lost(out, set())  # told before a day's work, not after it
    detection = _Detection(str(model or ""), upsample)
    parts = out.with_name(f"{out.name}.{detection.source}-{_key(detection)[:8]}.parts")
    mine = False
    try:
        with locked(parts, wait=False):
            mine = True
            found = detect_faces(root, model, upsample, jobs, manifest_file, parts)
            write_boxes(out, found.table)
            if not found.faults:
                for part in listing(parts, ".csv"):
                    part.unlink()
    finally:
        # Unlocked before: some systems delete no file that is open.
        if mine and not listing(parts, ".csv"):
            shutil.rmtree(parts, ignore_errors=True)
    return Detected(found, parts if parts.exists() else None)


def face_finder() -> Detector:
    """Return what finds faces in any picture: dlib's HOG detector, with boxes as datasets are built with.

    They come with the largest first. Raises HeadposeError if dlib is not installed.
    """
    detectors = {upsample: _load_detector(_Detection("", upsample)) for upsample in (0, 1)}

    def find(image: Image) -> Floats:
        boxes = mapped(detectors[max(image.shape[:2]) <= _DOUBLED](image), _HOG_SHIFT, _HOG_SCALE)
        largest_first: Floats = boxes[np.argsort(-boxes[:, 2], kind="stable")]
        return largest_first

    return find


def _key(detection: _Detection) -> str:
    """Return a hash of all that decides a frame's box beside its files."""
    _load_detector(detection)
    import dlib

    model = sha256(Path(detection.model)) if detection.model else ""
    software = [dlib.__version__, bool(dlib.DLIB_USE_CUDA), __version__]
    return content_hash([detection.source, model, detection.upsample, software, RULE, MIN_AGREEMENT])


def _parts(sequence: biwi.Sequence, detection: _Detection, folder: Path | None, calibration: str) -> list[_Part]:
    """Return the parts of a sequence, by frame numbers: a frame that is added or mended changes its own alone."""
    parts = []
    for first, frames in itertools.groupby(sequence.frames, lambda frame: frame.number // _PART * _PART):
        some = sequence._replace(frames=list(frames), faults=[])
        kept = None
        if folder:
            files = files_hash(path for frame in some.frames for path in (frame.image, frame.pose))
            kept = folder / f"{sequence.name}-{first:05d}-{content_hash([files, calibration])[:12]}.csv"
        parts.append(_Part(some, detection, kept))
    return parts


def _kept(part: _Part) -> FrameBoxes | None:
    """Return the boxes of a part that was found before; None where there are none, or the file is damaged."""
    if part.kept is None or not part.kept.exists():
        return None
    try:
        table = read_boxes(part.kept)
    except DatasetError:
        return None
    whole = table.ids.tolist() == [frame.id for frame in part.sequence.frames]
    return FrameBoxes(table, [], part.sequence.camera.width) if whole else None


def _detect(part: _Part) -> FrameBoxes:
    found = boxes_of(part.sequence, partial(_find, _load_detector(part.detection), part.detection.source))
    if part.kept and not found.faults:
        write_boxes(part.kept, found.table)
    return found


def _find(detector: Detector, source: str, frame: biwi.Frame, head: Floats) -> tuple[Floats, str]:
    """Return the box (4,) of the face in a frame, and where it is from."""
    face = _nearest_face(detector(read_image(frame.image)[..., :3]), head)
    return (head, NOT_DETECTED) if face is None else (face, source)


def _nearest_face(faces: Floats, head: Floats) -> Floats | None:
    """Return that of some faces (n, 4) which agrees best with the projected head (4,); None if none is near it."""
    agreement = iou(faces, head)
    if not len(faces) or agreement.max() < MIN_AGREEMENT:
        return None
    return faces[int(agreement.argmax())]


def _load_detector(detection: _Detection) -> Detector:
    """Return one of dlib's detectors; raises HeadposeError if dlib is not installed, or the model is none of its."""
    try:
        importlib.import_module("dlib")
    except ImportError as error:
        raise HeadposeError("face detection needs dlib: pip install 'headposeplus[detect]'") from error
    if detection.model and not Path(detection.model).is_file():
        raise HeadposeError(Fault("no such file", "expected a CNN face detector of dlib, .dat", detection.model))
    try:
        detector, upsample = _opened(detection.model), detection.upsample
    except RuntimeError as error:
        raise HeadposeError(Fault(f"not a CNN face detector of dlib: {error}", file=detection.model)) from error
    if detection.model:
        return lambda image: _boxes([face.rect for face in detector(np.ascontiguousarray(image), upsample)])
    return lambda image: _boxes(detector(np.ascontiguousarray(image), upsample))


@lru_cache(maxsize=1)  # HOG takes as long to make as four frames
def _opened(model: str) -> Callable[[Image, int], Any]:
    import dlib

    return dlib.cnn_face_detection_model_v1(model) if model else dlib.get_frontal_face_detector()


def _boxes(rectangles: list) -> Floats:
    """Return dlib's rectangles, whose right and bottom are their last pixels, as boxes (n, 4)."""
    boxes = [(r.left(), r.top(), r.right() - r.left() + 1, r.bottom() - r.top() + 1) for r in rectangles]
    return np.array(boxes, np.float64).reshape(-1, 4)
