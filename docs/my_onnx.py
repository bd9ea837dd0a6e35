"""The same poses from the ONNX file, without torch and without this project."""

import cv2
import numpy as np
import onnxruntime
import pandas as pd

session = onnxruntime.InferenceSession("head.onnx", providers=["CPUExecutionProvider"])
size = session.get_inputs()[0].shape[2]


def crop(picture, x, y, width, height):
    """Return the square about a box, scaled to the network's size; beyond the picture its border is repeated."""
    side = max(width, height)
    step = side / size
    left, top = x + (width - side + step - 1) / 2, y + (height - side + step - 1) / 2
    if step > 1.5:  # so that no pixel is skipped
        picture = cv2.GaussianBlur(picture, (0, 0), 0.45 * step)
    matrix = np.array([[step, 0, left], [0, step, top]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, (size, size), flags=how, borderMode=cv2.BORDER_REPLICATE)


table = pd.read_csv("poses.csv").head(100)
crops = [crop(cv2.imread(row.image)[..., ::-1], row.x, row.y, row.width, row.height) for row in table.itertuples()]
angles, rotations = session.run(["angles", "rotations"], {"images": np.stack(crops).transpose(0, 3, 1, 2).astype("f4")})
off = np.abs(angles - table[["pitch", "yaw", "roll"]].to_numpy()).max()
print(f"{len(angles)} poses, within {np.ceil(off * 1000) / 1000:.3f} degrees of those of hpp predict")
