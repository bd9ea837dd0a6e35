"""Stands in for a class: labels of its pictures, and what the networks of two teams would say of them."""

import numpy as np
import pandas as pd

random = np.random.default_rng(0)
people, frames = 12, 40
ids = [f"person{who:02}/{frame:03}" for who in range(people) for frame in range(frames)]
angles = random.normal(0, (30, 14, 9), (people * frames, 3)).clip(-75, 75)


def write(name, poses, **columns):
    """Write poses (n, 3), yaw, pitch and roll in degrees, as CSV."""
    table = pd.DataFrame({"id": ids, **columns})
    table[["yaw", "pitch", "roll"]] = poses.round(3)
    table.to_csv(name, index=False)


write("labels.csv", angles, subject=[name.split("/")[0] for name in ids])
for team, error in (("anna", 6.5), ("bert", 5.0)):
    bias = random.normal(0, 3, (people, 3)).repeat(frames, axis=0)  # a face that the network does not know
    write(f"{team}.csv", 0.95 * angles + bias + random.normal(0, error, angles.shape))
