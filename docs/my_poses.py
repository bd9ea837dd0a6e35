"""The poses in three pictures."""

import pandas as pd

from headposeplus import load_network

table = pd.read_csv("poses.csv").head(3)

network = load_network("RUNS/pda-miniature-seed0/source-only")
poses = network.predict(table["image"].tolist(), table[["x", "y", "width", "height"]])
print(poses.angles.round(1).tolist(), poses.rotations.shape)
