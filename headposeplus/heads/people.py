"""What the people of the open heads look like. All randomness of a person comes from one seed.

The names are those of MakeHuman's files. Weights of targets keep to what such a slider calls modest, so that no face
is a caricature.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ORIGINS = ("african", "asian", "caucasian")
_LIGHT = {
    True: ("young_lightskinned_female_diffuse2", "young_lightskinned_female_diffuse3",
           "middleage_lightskinned_female_diffuse2"),
    False: ("young_lightskinned_male_diffuse", "young_lightskinned_male_diffuse2", "young_lightskinned_male_diffuse3",
            "middleage_lightskinned_male_diffuse", "middleage_lightskinned_male_diffuse2"),
}  # fmt: skip
_DARK = ("young_darkskinned_male_diffuse", "middleage_darkskinned_male_diffuse", "old_darkskinned_male_diffuse")
_STYLES = {
    True: ("ponytail01", "long01", "bob02", "short02", "braid01"),
    False: ("short01", "short02", "short03", "short04"),
}
_BROWS = {True: (1, 2, 3, 5, 6, 10, 11), False: (4, 8, 9, 12, 1, 5)}
_IRISES = ("brownlight", "brownlight", "brownlight", "blue", "grey", "green", "bluegreen", "deepblue")
# Linear colours of hair; the first are common, and the only ones of dark-skinned people.
_HAIRS = np.array([
    [0.010, 0.008, 0.007], [0.016, 0.011, 0.008], [0.040, 0.022, 0.012],
    [0.075, 0.040, 0.020], [0.22, 0.13, 0.055], [0.36, 0.26, 0.14], [0.17, 0.05, 0.02], [0.24, 0.23, 0.22],
])  # fmt: skip
# Pairs of targets between which a face varies, and how far.
_FEATURES = {
    "head/head-scale-horiz": ("decr", "incr", 0.5), "head/head-scale-vert": ("decr", "incr", 0.4),
    "head/head-scale-depth": ("decr", "incr", 0.4), "head/head-fat": ("decr", "incr", 0.6),
    "chin/chin-width": ("decr", "incr", 0.6), "chin/chin-height": ("decr", "incr", 0.5),
    "chin/chin-prominent": ("decr", "incr", 0.5), "chin/chin-prognathism": ("decr", "incr", 0.3),
    "nose/nose-scale-vert": ("decr", "incr", 0.5), "nose/nose-scale-horiz": ("decr", "incr", 0.6),
    "nose/nose-scale-depth": ("decr", "incr", 0.6), "nose/nose-hump": ("decr", "incr", 0.6),
    "nose/nose-point": ("down", "up", 0.5), "nose/nose-width1": ("decr", "incr", 0.5),
    "nose/nose-width3": ("decr", "incr", 0.5), "nose/nose-flaring": ("decr", "incr", 0.4),
    "mouth/mouth-scale-horiz": ("decr", "incr", 0.5), "mouth/mouth-upperlip-height": ("decr", "incr", 0.5),
    "mouth/mouth-lowerlip-height": ("decr", "incr", 0.5), "mouth/mouth-upperlip-volume": ("decr", "incr", 0.4),
    "mouth/mouth-angles": ("down", "up", 0.3), "mouth/mouth-trans": ("down", "up", 0.3),
    "cheek/?-cheek-bones": ("decr", "incr", 0.6), "cheek/?-cheek-volume": ("decr", "incr", 0.6),
    "eyes/?-eye-scale": ("decr", "incr", 0.4), "eyes/?-eye-trans": ("in", "out", 0.4),
    "eyes/?-eye-height2": ("decr", "incr", 0.4), "eyes/?-eye-corner1": ("down", "up", 0.4),
}  # fmt: skip
_SHAPES = ("oval", "round", "square", "rectangular", "diamond", "triangular", "invertedtriangular")
# Expressions: units of MakeHuman's and their weights.
EXPRESSIONS = {
    "smile": {"mouth-corner-puller": 0.75, "eye-left-slit": 0.3, "eye-right-slit": 0.3},
    "talk": {"mouth-open": 0.22, "mouth-eversion": 0.2},
    "pout": {"mouth-protusion": 0.5, "mouth-compression": 0.3},
    "surprise": {"eyebrows-left-up": 0.8, "eyebrows-right-up": 0.8,
                 "eye-left-opened-up": 0.4, "eye-right-opened-up": 0.4},
    "frown": {"eyebrows-left-down": 0.7, "eyebrows-right-down": 0.7, "mouth-depression": 0.4},
    "squint": {"eye-left-slit": 0.6, "eye-right-slit": 0.6, "mouth-retraction": 0.3},
}  # fmt: skip


class Person(NamedTuple):
    """What a person looks like.

    Attributes
    ----------
    targets
        Files of targets, by the end of their path, and their weights.
    origin
        Whose units of expression are taken.
    skin, iris
        The names of textures.
    eyes, brows, lashes, hair
        Files of fittings, by the end of their path; ``hair`` is empty for none.
    tone
        By which the skin's linear colour is multiplied (3,).
    hair_colour
        Linear (3,), on average.
    """

    targets: dict[str, float]
    origin: str
    skin: str
    iris: str
    eyes: str
    brows: str
    lashes: str
    hair: str
    tone: np.ndarray
    hair_colour: np.ndarray

    def units(self) -> dict[str, dict[str, float]]:
        """Return for each expression the files of its units, by the end of their path, with their weights."""
        folder = f"expression/units/{self.origin}"
        return {
            name: {f"{folder}/{unit}.target": weight for unit, weight in units.items()}
            for name, units in EXPRESSIONS.items()
        }


def _ancestry(rng: np.random.Generator, number: int) -> np.ndarray:
    """Return the shares (3,) of the origins; the people of a copy lean to each in turn."""
    return rng.dirichlet(np.where(np.arange(3) == number % 3, 6.0, 0.5))


def _targets(rng: np.random.Generator, female: bool, shares: np.ndarray, age: float) -> dict[str, float]:
    """Return the targets of a person whose age goes from 0, young, to 1, old."""
    sex, targets = "female" if female else "male", {}
    weight = float(rng.uniform(-0.7, 0.7))
    heaviness = {"averageweight": 1 - abs(weight), "minweight": max(-weight, 0), "maxweight": max(weight, 0)}
    for years, share in (("young", 1 - age), ("old", age)):
        for origin, part in zip(ORIGINS, shares, strict=True):
            targets[f"macrodetails/{origin}-{sex}-{years}.target"] = float(part * share)
        for heavy, part in heaviness.items():
            targets[f"macrodetails/universal-{sex}-{years}-averagemuscle-{heavy}.target"] = share * part
    for name, (less, more, most) in _FEATURES.items():
        value = float(np.clip(rng.normal(0, 0.5), -1, 1) * most)
        for side in ("l", "r") if "?" in name else ("",):
            targets[f"{name.replace('?', side)}-{more if value > 0 else less}.target"] = abs(value)
    targets[f"head/head-{rng.choice(_SHAPES)}.target"] = float(rng.uniform(0, 0.5))
    return {name: value for name, value in targets.items() if value > 1e-3}


def draw_person(seed: int, female: bool, number: int) -> Person:
    """Return the person ``number`` (from 0) of the women or of the men of a copy, drawn from ``seed``."""
    rng = np.random.default_rng([seed, int(female), number])
    # Women and men start at other origins, and styles of hair follow one another: few people are yet unlike.
    shares = _ancestry(rng, number + 2 * int(female) + int(rng.integers(2)) * 3)
    age = float(np.clip(rng.beta(1.2, 2.5), 0, 0.8))
    targets = _targets(rng, female, shares, age)
    darkness = shares[0] * rng.uniform(0.8, 1.1) + 0.12 * shares[1] + rng.normal(0, 0.04)
    if darkness > 0.5 and not female:
        skin, tone = _DARK[min(int(age * 4), 2)], np.full(3, 1.0 + 0.9 * rng.uniform(0, 1))
    else:
        skin = str(rng.choice(_LIGHT[female][-1:] if age > 0.45 else _LIGHT[female]))
        tone = np.array([0.98, 0.93, 0.90]) * np.array([0.42, 0.30, 0.25]) ** max(darkness, 0.0)
    tone = tone * (1 + rng.normal(0, 0.03, 3))
    dark_haired = shares[2] < 0.6
    colour = _HAIRS[-1] if age > 0.66 else _HAIRS[rng.integers(3 if dark_haired else len(_HAIRS) - 1)]
    styles = _STYLES[female]
    style = styles[(number + int(np.random.default_rng([seed, int(female)]).integers(len(styles)))) % len(styles)]
    return Person(
        targets=targets,
        origin=ORIGINS[int(shares.argmax())],
        skin=f"{skin}.png",
        iris=f"{_IRISES[0] if dark_haired else rng.choice(_IRISES)}_eye.png",
        eyes="high-poly.mhclo",
        brows=f"eyebrow{rng.choice(_BROWS[female]):03d}.mhclo",
        lashes=f"eyelashes{rng.integers(2, 5) if female else 1:02d}.mhclo",
        hair=f"hair/{style}/{style}.mhclo",
        tone=tone,
        hair_colour=colour * rng.uniform(0.8, 1.25),
    )
