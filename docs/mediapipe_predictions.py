"""Predictions of MediaPipe's face landmarker on raw Biwi frames: a CSV and a TOML that hpp check and score read.

The weights are public: storage.googleapis.com/mediapipe-models, face_landmarker.task. Where it finds no face, a frame
gets the pose of the last frame in which it found one, and the first ones that of the first::

    pip install mediapipe
    python docs/mediapipe_predictions.py RAW/hpdb face_landmarker.task mediapipe.csv 19
"""

import sys
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from benchmark.scoring.submission import About, write_predictions
from headposeplus.images import read_image
from headposeplus.raw import biwi

ABOUT = About(
    name="MediaPipe face landmarker",
    authors="Google",
    link="https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker",
    training_data="not published",
    convention="pyr",
    camera="rgb",
    selection="released weights",
    uses_target_images=False,
    seed=0,
    notes="A frame without a detected face has the pose of the last frame with one.",
)


def angles_of(matrix):
    """Return pitch, yaw, roll (3,), convention pyr, of a facial transformation matrix (4, 4).

    Its axes are x right, y up, z to the viewer, for head and camera alike: the rotation is F R F.
    """
    columns = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)  # it may be scaled
    return Rotation.from_matrix(columns).as_euler("xyz", degrees=True)


def filled(angles):
    """Return angles (n, 3) in which rows of NaN are those of the last row before that has numbers, or of the first."""
    found = np.flatnonzero(np.isfinite(angles).all(axis=1))
    if not len(found):
        raise ValueError("no face was found in any of these frames")
    last = np.searchsorted(found, np.arange(len(angles)), side="right") - 1
    return angles[found[np.maximum(last, 0)]]


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError:
        sys.exit("mediapipe is not installed: pip install mediapipe")

    root, model, out, *sequences = sys.argv[1:]
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=model), output_facial_transformation_matrixes=True, num_faces=1
    )
    ids, angles = [], []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for sequence in sequences or biwi.sequences(Path(root)):
            of_sequence = []
            for frame in biwi.list_frames(Path(root), sequence)[0]:
                image = np.ascontiguousarray(read_image(frame.image)[..., :3])
                seen = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
                matrices = seen.facial_transformation_matrixes
                of_sequence.append(angles_of(np.array(matrices[0])) if matrices else np.full(3, np.nan))
                ids.append(frame.id)
            angles.append(filled(np.array(of_sequence)))
    write_predictions(Path(out), np.array(ids), np.concatenate(angles), ABOUT)
