"""What the people of a miniature look like. All randomness of a person comes from one seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_SKINS = np.array([[0.93, 0.76, 0.66], [0.85, 0.65, 0.52], [0.72, 0.52, 0.40], [0.52, 0.35, 0.26], [0.36, 0.24, 0.18]])
_HAIRS = np.array([[0.09, 0.07, 0.06], [0.22, 0.14, 0.09], [0.38, 0.24, 0.13], [0.68, 0.52, 0.30], [0.52, 0.50, 0.48]])
_IRISES = np.array([[0.25, 0.15, 0.08], [0.32, 0.42, 0.52], [0.30, 0.38, 0.22]])


class Identity(NamedTuple):
    """What a person looks like. Lengths are millimetres, colours are RGB in [0, 1]."""

    seed: int
    female: bool
    width: float
    height: float
    jaw: float
    nose: float
    nose_width: float
    eye_gap: float
    eye_size: float
    brow: float
    mouth: float
    chin: float
    ears: float
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    hair_style: str
    beard: float
    glasses: bool


def draw_identity(seed: int, female: bool) -> Identity:
    """Return a person drawn from ``seed``."""
    rng = np.random.default_rng(seed)
    tone = rng.beta(1.1, 2.2) * (len(_SKINS) - 1)
    low = int(min(tone, len(_SKINS) - 2))
    skin = _SKINS[low] + (tone - low) * (_SKINS[low + 1] - _SKINS[low]) + rng.normal(0, 0.015, 3)
    hair = _HAIRS[rng.integers(0, 2 if tone > 2.2 else len(_HAIRS))] * rng.uniform(0.85, 1.2)
    styles = ["long", "bob", "short", "tied"] if female else ["short", "short", "crop", "bald", "bob"]
    smaller = 0.96 if female else 1.0
    return Identity(
        seed=seed,
        female=female,
        width=smaller * rng.uniform(0.92, 1.07),
        height=smaller * rng.uniform(0.94, 1.06),
        jaw=rng.uniform(0.86, 1.0) if female else rng.uniform(0.95, 1.14),
        nose=rng.uniform(0.75, 1.25) * (0.9 if female else 1.05),
        nose_width=rng.uniform(0.8, 1.3),
        eye_gap=rng.uniform(29, 35),
        eye_size=rng.uniform(0.9, 1.12),
        brow=rng.uniform(0.5, 0.9) if female else rng.uniform(0.8, 1.4),
        mouth=rng.uniform(0.85, 1.15),
        chin=rng.uniform(0.8, 1.25),
        ears=rng.uniform(0.85, 1.2),
        skin=np.clip(skin, 0.1, 0.97),
        hair=np.clip(hair, 0.03, 0.9),
        iris=_IRISES[rng.choice(3, p=[0.5, 0.3, 0.2])],
        lips=np.clip(skin * [0.93, 0.66, 0.64] + rng.normal(0, 0.02, 3) - 0.06 * female * np.array([0, 1, 1]), 0.08, 1),
        hair_style=str(rng.choice(styles)),
        beard=0.0 if female else float(rng.choice([0.0, 0.0, 0.35, 1.0])),
        glasses=bool(rng.random() < 0.3),
    )
