"""What stands behind a head: procedural rooms, and what a camera does to an image."""

from __future__ import annotations

import cv2
import numpy as np


def room(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return a cluttered room (height, width, 3), RGB in [0, 1]: a wall, panels, shelves and things on them."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    wall = np.clip(rng.uniform(0.35, 0.9) + rng.normal(0, 0.05, 3), 0.1, 1)
    shade = 1 + rng.normal(0, 0.12) * x + rng.normal(0, 0.12) * y
    image = (wall * shade[..., None]).astype(np.float32)
    for _ in range(rng.integers(5, 12)):
        left, top = rng.uniform(-0.1, 0.95) * width, rng.uniform(-0.1, 0.95) * height
        wide, tall = rng.uniform(0.05, 0.4) * width, rng.uniform(0.08, 0.6) * height
        p0 = (int(left), int(top))
        p1 = (int(left + wide), int(top + tall))
        colour = tuple(float(c) for c in np.clip(wall * rng.uniform(0.3, 1.3) + rng.normal(0, 0.12, 3), 0.02, 1))
        kind = rng.integers(4)
        if kind == 0:
            cv2.ellipse(image, ((left, top), (wide, tall), float(rng.uniform(0, 180))), colour, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.rectangle(image, p0, p1, colour, -1)
            edge = tuple(c * 0.5 for c in colour)
            cv2.rectangle(image, p0, p1, edge, max(width // 200, 1), cv2.LINE_AA)
        elif kind == 2:  # a shelf of books
            at = left
            while at < left + wide:
                thick = rng.uniform(0.008, 0.03) * width
                spine = tuple(float(c) for c in rng.uniform(0.05, 0.9, 3))
                lower = int(top + 0.12 * height), int(at + thick)
                cv2.rectangle(image, (int(at), int(top + rng.uniform(0, 0.04) * height)), lower[::-1], spine, -1)
                at += thick
        else:
            cv2.line(image, p0, p1, colour, max(int(rng.uniform(0.004, 0.02) * width), 1), cv2.LINE_AA)
    texture = cv2.resize(rng.normal(0, 0.03, (height // 4 + 1, width // 4 + 1)).astype(np.float32), (width, height))
    return np.clip(image + texture[..., None], 0, 1)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Return radiances in [0, 1] as an image of uint8."""
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


class Sensor:
    """A cheap camera: its blur, colour cast, tone and noise, drawn once and the same in every frame."""

    def __init__(self, rng: np.random.Generator, width: int) -> None:
        self.blur = rng.uniform(0.7, 1.0) * max(width / 640, 0.55)
        self.cast = np.clip(1 + rng.normal(0, 0.04, 3), 0.88, 1.14)  # what its white balance leaves
        self.gamma = rng.uniform(0.85, 1.1)
        self.gain = rng.uniform(0.95, 1.1)
        self.noise = rng.uniform(0.015, 0.025)

    def expose(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the photograph (height, width, 3), uint8, of radiances in [0, 1]; its border is black."""
        out = cv2.GaussianBlur(image.astype(np.float32), (0, 0), self.blur)
        out = np.clip(out * self.cast * self.gain, 0, 1) ** self.gamma
        out = out + self.noise * rng.standard_normal(out.shape, dtype=np.float32)
        photograph = to_bytes(out)
        photograph[[0, -1]] = 0
        photograph[:, [0, -1]] = 0
        return photograph
