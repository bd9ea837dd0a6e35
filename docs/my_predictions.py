"""A method that owes nothing to this toolkit's training: the mean pose of the nearest images of SynHead++."""

import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.images import decode


def edges(data):
    """Return the edges (216,) of a crop's middle: how strong they are in 6 x 6 cells and 6 directions."""
    grey = cv2.cvtColor(decode(data), cv2.COLOR_RGB2GRAY)[3:29, 3:29]
    smooth = cv2.GaussianBlur(np.float32(grey), (0, 0), 1)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    strength, direction = np.hypot(x, y), (np.arctan2(y, x) % np.pi) * 6 // np.pi
    cells = [cv2.resize(strength * (direction == k), (6, 6), interpolation=cv2.INTER_AREA) for k in range(6)]
    return np.sqrt(np.ravel(cells) / (np.sum(cells) + 1e-6))


def read(folder, *fields):
    """Return ids (n,), edges (n, 216) and other fields of a dataset's images."""
    columns = []
    for found in read_fields(open_dataset(folder), "id", "image/bytes", "image/offset", *fields):
        crops = [found["image/bytes"][a:b] for a, b in pairwise(found["image/offset"])]
        columns.append((found["id"], np.array([edges(crop) for crop in crops]), *(found[name] for name in fields)))
    return [np.concatenate(column) for column in zip(*columns, strict=True)]


data, table, neighbours = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
_, source, poses = read(data / "synhead++", "label/pyr")
ids, target = read(data / "biwi+")  # and no label of it
nearest = cKDTree(source).query(target, k=range(1, neighbours + 1))[1]
filled = pd.read_csv(table, dtype={"pitch": float, "yaw": float, "roll": float}).set_index("id")
filled.loc[ids, ["pitch", "yaw", "roll"]] = poses[nearest].mean(axis=1)
filled.to_csv(table, float_format="%.4f")
