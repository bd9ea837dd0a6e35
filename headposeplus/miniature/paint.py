"""The colours of a head: its skin, beard, mouth, nose, eyes, brows and hair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headposeplus.miniature.people import Identity
from headposeplus.miniature.solids import Noise, Points, mirrored, step


def mix(colours: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Return colours (n, 3), moved towards another colour by an amount (n,) in [0, 1]."""
    return colours + (np.asarray(colour) - colours) * np.clip(amount, 0, 1)[:, None]


class _Coat(NamedTuple):
    """The colours (n, 3) and gloss (n,) of the points of a head, as they stand while it is painted."""

    colours: np.ndarray
    gloss: np.ndarray


def paint(p: Points, who: Identity, noise: Noise, hairiness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colours (n, 3) and gloss (n,) of the points of a head."""
    front = step(-p[:, 2], 0, 25)
    coat = _Coat(_skin_colours(p, who, noise, front), np.full(len(p), 0.16))
    if who.beard:
        coat = _paint_beard(coat, p, who, noise, front)
    coat = _paint_mouth_and_nose(coat, p, who, front)
    coat = _paint_eyes(coat, p, who, front)
    c = _paint_brows(coat.colours, p, who, noise, front)

    strands = 1 + 0.16 * noise(p, (5, 60, 60)) + 0.10 * noise(p, (14, 90, 90))
    hair = mix(c, who.hair, np.ones(len(p))) * strands[:, None]
    c = np.where(hairiness[:, None] > 0, hair * hairiness[:, None] + c * (1 - hairiness[:, None]), c)
    gloss = coat.gloss * (1 - hairiness) + 0.22 * hairiness
    return np.clip(c, 0.01, 1), gloss


def _skin_colours(p: Points, who: Identity, noise: Noise, front: np.ndarray) -> np.ndarray:
    m = mirrored(p)
    c = np.tile(who.skin, (len(p), 1)) * (1 + 0.03 * noise(p, 40) + 0.015 * noise(p, 12))[:, None]
    blush = np.exp(-(((m - (36, 26, -40)) / (22, 18, 40)) ** 2).sum(1)) + np.exp(
        -(((p - (0, 24, -70)) / (13, 11, 20)) ** 2).sum(1)
    )
    c = mix(c, who.skin * [0.98, 0.78, 0.76], 0.55 * blush)
    tired = np.exp(-(((m - (who.eye_gap, 3, -45)) / (15, 9, 30)) ** 2).sum(1))
    return mix(c, who.skin * [0.78, 0.70, 0.70], 0.5 * tired * front)


def _paint_beard(coat: _Coat, p: Points, who: Identity, noise: Noise, front: np.ndarray) -> _Coat:
    m = mirrored(p)
    cheek = 32 + 22 * np.exp(-((m[:, 0] / 22) ** 2)) - 20 * step(m[:, 0], 42, 62)
    area = step(p[:, 1], cheek - 6, cheek + 7) * step(p[:, 2], 62, 40) * step(p[:, 1], 118, 100)
    lip_free = 1 - np.exp(-(((p[:, [0, 1]] - (0, 54)) / (24 * who.mouth, 8)) ** 4).sum(1))
    moustache = np.exp(-(((m[:, [0, 1]] - (13, 41)) / (17, 6)) ** 2).sum(1)) * front
    hairs = np.clip(area * lip_free + moustache, 0, 1)
    texture = 0.78 + 0.22 * np.tanh(noise(p, (3, 9, 9)))
    colours = mix(coat.colours, who.hair * 0.9, hairs * texture * (0.35 + 0.55 * who.beard))
    return _Coat(colours, coat.gloss * (1 - 0.7 * hairs))


def _paint_mouth_and_nose(coat: _Coat, p: Points, who: Identity, front: np.ndarray) -> _Coat:
    lips_at = p[:, [0, 1]] - (0, 53.5)
    bow = 1 + 0.14 * np.cos(np.clip(np.abs(lips_at[:, 0]) / 5, 0, np.pi))
    lips = 1 - step(np.hypot(lips_at[:, 0] / (24 * who.mouth), lips_at[:, 1] / (9.5 * bow)), 0.78, 1.05)
    c = mix(coat.colours, who.lips, lips * front)
    gloss = coat.gloss + 0.2 * lips * front
    gap = np.exp(-((lips_at[:, 0] / (21 * who.mouth)) ** 6) - ((lips_at[:, 1] + 0.3) / 1.5) ** 2)
    c = mix(c, who.lips * 0.3, gap * front)
    tip = -60 - 13 * who.nose
    m = mirrored(p)
    nostril = np.exp(-(((((m - (6.5 * who.nose_width, 33, tip + 10)) / (3.8, 3.0, 8)) ** 2).sum(1)) ** 2))
    return _Coat(mix(c, who.skin * 0.2, 0.9 * nostril), gloss)


def _paint_eyes(coat: _Coat, p: Points, who: Identity, front: np.ndarray) -> _Coat:
    """Paint an almond between the lids; outside of it the ball is skin."""
    eye = mirrored(p)[:, [0, 1]] - (who.eye_gap, -8)
    across = eye[:, 0] / (14.5 * who.eye_size)
    lid = 6.6 * who.eye_size * np.clip(1 - across**2, 0, None) ** 0.75
    open_ = step(lid - np.abs(eye[:, 1] + 0.6), -0.6, 0.8) * front * (np.abs(across) < 1)
    c = mix(coat.colours, np.array([0.90, 0.88, 0.86]), open_)
    radius = np.hypot(eye[:, 0], eye[:, 1] + 0.8)
    c = mix(c, who.iris, open_ * (1 - step(radius, 5.4, 6.6)))
    c = mix(c, np.array([0.02, 0.02, 0.02]), open_ * (1 - step(radius, 2.4, 3.4)))
    edge = np.exp(-(((lid - np.abs(eye[:, 1] + 0.6)) / 1.5) ** 2)) * (np.abs(across) < 1.02) * front
    upper = np.where(eye[:, 1] < 0, 1.0, 0.4)
    c = mix(c, who.skin * 0.12, edge * upper * (0.95 if who.female else 0.75))
    crease = np.exp(-(((lid + 4.2 + eye[:, 1]) / 1.3) ** 2)) * (np.abs(across) < 1) * front * (eye[:, 1] < 0)
    return _Coat(mix(c, who.skin * 0.6, 0.5 * crease), coat.gloss + 0.5 * open_)


def _paint_brows(c: np.ndarray, p: Points, who: Identity, noise: Noise, front: np.ndarray) -> np.ndarray:
    m = mirrored(p)
    arch = -24 + 5.0 * ((m[:, 0] - 36) / 22) ** 2
    thick = 2.6 + 1.7 * who.brow * (1 - step(m[:, 0], 30, 56))
    brow = np.exp(-(((p[:, 1] - arch) / thick) ** 4)) * step(m[:, 0], 9, 15) * (1 - step(m[:, 0], 50, 58)) * front
    return mix(c, who.hair * 0.8, brow * (0.8 + 0.15 * np.tanh(noise(p, (4, 3, 4)))))
