"""PADACO with weights that follow the network while it adapts.

Kuhnke & Ostermann (ICCV 2019) compute the weights once, before adaptation: computed anew from predictions that the
weights themselves have changed, they were unstable, and are left as future work. Three brakes hold them here:
predictions are averaged over epochs, only target samples on which the average agrees with the newest prediction
count, and a step towards the new weights is no longer than a given total variation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines import weights
from baselines.adversarial import PADACO
from baselines.method import Look, Wanted
from baselines.networks import PoseNetwork
from headposeplus.rotations import Floats


def confident(average: Floats, newest: Floats, share: float) -> np.ndarray:
    """Return which target samples (m,), bool, have predictions (m, 3) that differ least from their average (m, 3)."""
    differences = np.abs(average - newest).max(axis=1)
    return differences <= np.quantile(differences, share)


def within_trust(old: Floats, new: Floats, largest: float) -> tuple[Floats, float]:
    """Return probabilities (n,) on the way from old to new, and their total variation from old, at most ``largest``."""
    variation = float(np.abs(new - old).sum() / 2)
    step = min(1.0, largest / variation) if variation else 0.0
    return old + step * (new - old), step * variation


class UpdatedPADACO(PADACO):
    """PADACO, its weights updated at every epoch by averaged, confident predictions, a little at a time."""

    name = "padaco-updated"
    momentum = 0.7  # of the averaged predictions
    confident = 0.8  # share of the target samples that pass the gate
    trust = 0.1  # the largest total variation of one update
    average: Tensor
    probabilities: Tensor
    told: Tensor

    def looks_at(self, epoch: int) -> Wanted:
        """Return that it looks at the target when it starts, and before each epoch but the first."""
        return Wanted(target=epoch != 0)

    def start(self, network: PoseNetwork, look: Look) -> None:
        """Begin with the predictions and the weights of PADACO."""
        super().start(network, look)
        predictions = look.target.angles
        first = weights.padaco(look.angles, predictions, self.settings.neighbours, self.settings.metric)
        self.register_buffer("average", torch.from_numpy(predictions).clone())  # not the array that was handed in
        self.register_buffer("probabilities", torch.from_numpy(first))
        self.register_buffer("told", torch.tensor([1.0, 0.0]))  # share that passed the gate, total variation moved

    def sampling(self, epoch: int, look: Look) -> Floats | None:
        """Return the probabilities (n,) of this epoch."""
        old = self.probabilities.cpu().numpy()
        if epoch:
            newest = look.target.angles
            average = self.momentum * self.average.cpu().numpy() + (1 - self.momentum) * newest
            gate = confident(average, newest, self.confident)
            new = weights.padaco(look.angles, average[gate], self.settings.neighbours, self.settings.metric)
            old, moved = within_trust(old, new, self.trust)
            self.average.copy_(torch.from_numpy(average))
            self.probabilities.copy_(torch.from_numpy(old))
            self.told.copy_(torch.tensor([gate.mean(), moved]))
        return old.copy()

    def facts(self) -> dict[str, float]:
        """Return the share of target samples that passed the gate, and the total variation of the last update."""
        share, moved = self.told.tolist()
        return {"confident": round(share, 4), "moved": round(moved, 4)}


class PlainUpdates(UpdatedPADACO):
    """What the paper found unstable: weights that are simply computed anew at every epoch."""

    name = "padaco-updated-plainly"
    momentum, confident, trust = 0.0, 1.0, 1.0
