"""What varies from track to track: the light, the camera, and the expressions of a face."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headposeplus.heads.model import Head
from headposeplus.heads.shade import Camera, Light, sky_of
from headposeplus.rotations import Floats

_REFERENCE = np.array([[0.0, 0, -1], [-0.5, -0.2, -0.84], [0.5, -0.2, -0.84]])  # normals of a face that looks ahead


class Stage(NamedTuple):
    """Where a track is rendered: camera, light, and how much of each expression (n,) its rows show."""

    camera: Camera
    light: Light
    expressions: dict[str, Floats]

    def moved(self, head: Head, row: int) -> Floats:
        """Return the vertices (n, 3) of a head with a row's expression."""
        vertices = head.vertices.copy()
        for name, amounts in self.expressions.items():
            vertices += amounts[row] * head.moves[name]
        return vertices


def _unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)


def _colour(rng: np.random.Generator, spread: float) -> Floats:
    """Return a colour of light (3,), from warm to cold, of mean 1."""
    warmth = rng.normal(0, spread)
    colour = np.array([1 + warmth, 1 + 0.1 * warmth, 1 - warmth])
    return np.clip(colour, 0.5, 1.5) * (3 / np.clip(colour, 0.5, 1.5).sum())


def draw_light(rng: np.random.Generator) -> Light:
    """Return a room's light: a lamp before or beside the head, the ceiling, one or two windows, and the floor."""
    azimuth, height = np.deg2rad(np.clip(rng.normal(0, 38), -85, 85)), np.deg2rad(rng.uniform(0, 60))
    lamp = np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), -np.cos(azimuth) * np.cos(height)])
    windows = [_unit(np.array([rng.normal(), rng.normal(-0.2, 0.4), rng.normal(-0.3, 0.8)])) for _ in range(2)]
    directions = np.stack([np.array([0.0, -1, 0]), np.array([0.0, 1, 0]), *windows])
    strengths = np.array([rng.uniform(0.15, 0.6), rng.uniform(0.03, 0.2), rng.uniform(0, 0.6), rng.uniform(0, 0.4)])
    colours = strengths[:, None] * np.stack(
        [_colour(rng, 0.05), _colour(rng, 0.12), _colour(rng, 0.12), _colour(rng, 0.1)]
    )
    ambient = rng.uniform(0.12, 0.4) * _colour(rng, 0.04)
    key = rng.uniform(0.3, 1.3) * _colour(rng, 0.08)
    # Exposed as a camera does: a face that looks ahead is neither dark nor burnt out.
    sky = sky_of(ambient, directions, colours)
    received = ambient.mean() + np.clip(_REFERENCE @ directions.T, 0, None) @ colours.mean(axis=1) / 2
    received = (received + np.clip(_REFERENCE @ lamp, 0, None) * key.mean()).mean()
    exposure = rng.uniform(0.7, 1.05) / received
    return Light(_unit(lamp), key * exposure, sky * exposure)


def draw_stage(numbers: list[int], rows: int, size: int, head: Head) -> Stage:
    """Return where a track of ``rows`` poses is rendered, drawn from ``numbers``."""
    rng = np.random.default_rng([11, *numbers])
    distance = rng.uniform(750, 1500)
    scale = rng.uniform(0.92, 1.08) * size / 400  # pixels a millimetre
    middle = (size - 1) / 2 + rng.normal(0, 0.012, 2) * size
    camera = Camera(size, scale * distance, distance, middle)
    light = draw_light(rng)
    names = sorted(head.moves)
    shown = {}
    for name in rng.permutation(names)[:2].tolist():
        most, period, phase = rng.beta(1.2, 1.2), rng.uniform(60, 240), rng.uniform(0, 2 * np.pi)
        shown[name] = most * np.clip(np.sin(2 * np.pi * np.arange(rows) / period + phase), 0, 1)
    return Stage(camera, light, shown)
