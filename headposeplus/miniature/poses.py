"""Where the heads look: motion for Biwi's sequences and SynHead's tracks.

The statistics of a Biwi sequence are those of the manifest. SynHead's ``BIWI`` tracks hold the same motion,
smoothed; the other groups cover more poses with other densities, beyond the point where a face is visible.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from headposeplus.raw.manifest import ManifestRow
from headposeplus.rotations import ALL_ORDERS, EulerOrder, Floats, from_matrix, in_plane, to_matrix

_LIMITS = np.array([[-80.0, -76.0, -64.0], [52.0, 68.0, 68.0]])  # of the published Biwi+ labels


class Scale(NamedTuple):
    """How large a miniature is. Only ``bench``, ``shown`` and ``full`` have the images' real sizes."""

    sequences: tuple[str, ...]
    frames: int
    width: int
    height: int
    tracks: tuple[int, int, int, int]
    poses: tuple[int, int, int, int]
    size: int
    backgrounds: int
    detail: int


ALL_SEQUENCES = tuple(f"{i:02d}" for i in range(1, 25))
SCALES = {
    "tiny": Scale(("01", "03", "06", "15"), 12, 160, 120, (4, 2, 1, 2), (10, 8, 8, 8), 64, 4, 64),
    # As in the real SynHead++, 23 % of the rows of these two come from SynBiwi+.
    "small": Scale(ALL_SEQUENCES, 18, 240, 180, (24, 26, 5, 15), (10, 15, 90, 28), 96, 24, 96),
    # Many small images, most of them of poses that Biwi has not or has seldom: for the findings.
    "study": Scale(ALL_SEQUENCES, 42, 240, 180, (24, 26, 5, 15), (24, 48, 240, 40), 96, 60, 96),
    # Of the real sizes, but few: for timing a build.
    "bench": Scale(ALL_SEQUENCES, 20, 640, 480, (8, 9, 2, 5), (16, 18, 16, 18), 400, 24, 240),
    # Of the real sizes, and no more than a picture shows.
    "shown": Scale(("01", "05", "07", "09", "12", "16", "20"), 3, 640, 480, (7, 1, 1, 1), (2, 4, 2, 2), 400, 2, 240),
    "full": Scale(ALL_SEQUENCES, 84, 640, 480, (24, 26, 5, 15), (24, 24, 120, 40), 400, 60, 240),
}


class Motion(NamedTuple):
    """A sequence of Biwi: frame numbers (n,) and their angles (n, 3), and the whole smoothed motion (m, 3)."""

    numbers: np.ndarray
    angles: Floats
    smoothed: Floats


def hidden_order(seed: int) -> EulerOrder:
    """Return the order of axes in which the heads of a miniature are rendered; the readers are not told."""
    return ALL_ORDERS[int(np.random.default_rng([seed, 8]).integers(len(ALL_ORDERS)))]


def _smooth(rng: np.random.Generator, length: int, sigma: float) -> Floats:
    noise = gaussian_filter1d(rng.normal(size=(length + int(8 * sigma), 3)), sigma, axis=0)
    noise = noise[int(4 * sigma) : int(4 * sigma) + length]
    return (noise - noise.mean(0)) / np.maximum(noise.std(0), 1e-9)


def biwi_motion(row: ManifestRow, frames: int, seed: int) -> Motion:
    """Return the motion of a sequence, ``pyr`` in the RGB camera, with the statistics of its manifest row."""
    rng = np.random.default_rng([seed, 1, int(row.unit)])
    assert row.first_frame is not None and row.last_frame is not None, "the real manifest says them"
    mean, std = np.split(row.statistics, 2)
    whole = np.clip(mean + std * _smooth(rng, row.last_frame - row.first_frame + 1, 22.0), *_LIMITS)
    # A face that looks away from the camera is not in Biwi: its frame is a gap in the numbers.
    seen = np.flatnonzero(to_matrix(whole)[:, 2, 2] > 0.08)
    chosen = np.sort(rng.choice(seen, min(frames, len(seen)), replace=False))
    return Motion(row.first_frame + chosen, whole[chosen], gaussian_filter1d(whole, 3.0, axis=0))


def _sampled(track: Floats, count: int) -> Floats:
    return track[np.linspace(0, len(track) - 1, count).round().astype(int)]


def track_angles(group: int, index: int, count: int, motion: Floats | None, order: EulerOrder, seed: int) -> Floats:
    """Return the angles (count, 3) of a track as its file has them, to be rendered in ``order``.

    ``motion`` (m, 3) is the sequence that a ``BIWI`` track follows, ``pyr`` in the depth camera.
    """
    rng = np.random.default_rng([seed, 2, group, index])
    if group == 0:
        assert motion is not None
        angles = _sampled(motion, count)
    elif group == 1:  # wide: profiles, and heads turned away
        angles = rng.normal(0, 1, 3) * [10, 8, 4] + [27, 62, 6] * _smooth(rng, count, 1.2)
        angles = np.clip(angles, [-60, -120, -40], [60, 120, 40])
    elif group == 2:  # dense about the front
        angles = rng.normal(0, 3, 3) + [7, 9, 4] * _smooth(rng, count, 1.5)
    else:  # a few poses, each seen at several in-plane angles
        still = rng.normal(0, 1, (2, 3)) * [20, 30, 6]
        turned = [in_plane(rng.uniform(-20, 20, (count + 1) // 2)) @ to_matrix(pose) for pose in still]
        return from_matrix(np.concatenate(turned)[:count], order)
    return angles * order.signs
