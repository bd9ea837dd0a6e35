"""Predictions of FSA-Net with its public weights on a built dataset: a CSV and a TOML that hpp check and score read.

The weights are those of the port by O. Hassan, github.com/omasaht/headpose-fsanet-pytorch, in its folder pretrained:
fsanet-1x1-iter-688590.onnx and fsanet-var-iter-688590.onnx, trained on 300W-LP. ONNX Runtime runs them::

    pip install onnxruntime
    python docs/fsanet_predictions.py DATA/biwi+ fsanet-1x1-iter-688590.onnx fsanet-var-iter-688590.onnx fsanet.csv
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from benchmark.scoring.submission import About, write_predictions
from headposeplus import open_dataset, read_crops

SIDE = 64  # pixels of a face that the network sees

ABOUT = About(
    name="FSA-Net (1x1 + var)",
    authors="Yang et al. CVPR 2019; PyTorch port by O. Hassan",
    link="https://github.com/omasaht/headpose-fsanet-pytorch",
    training_data="300W-LP",
    convention="ypr",
    camera="rgb",
    selection="released weights",
    uses_target_images=False,
    seed=0,
)


def predict(crops, sessions):
    """Return ids (n,) and pitch, yaw, roll (n, 3): the mean of the networks' answers, in the convention ypr."""
    ids, angles = [], []
    for crop in crops:
        face = cv2.resize(crop.image[..., ::-1], (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # BGR, as it was trained
        batch = ((face.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
        answers = [session.run(None, {session.get_inputs()[0].name: batch})[0][0] for session in sessions]
        yaw, pitch, roll = np.mean(answers, axis=0)
        ids.append(crop.id)
        angles.append((pitch, yaw, roll))
    return np.array(ids), np.array(angles)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        import onnxruntime
    except ImportError:
        sys.exit("onnxruntime is not installed: pip install onnxruntime")

    folder, *weights, out = sys.argv[1:]
    dataset = open_dataset(Path(folder))
    ids, angles = predict(
        read_crops(dataset, np.arange(dataset.info.rows)), [onnxruntime.InferenceSession(path) for path in weights]
    )
    write_predictions(Path(out), ids, angles, ABOUT)
