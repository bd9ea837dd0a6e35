"""Which way an angle turns a head in the image, as small drawings and in words: both are computed, none is typed.

The drawings are SVG that stands in a page, in the page's own colours. Heads are seen as a camera sees them from afar:
x right, y down, and what has the smaller z lies in front.
"""

from __future__ import annotations

import html
from functools import cache
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from headposeplus.poses.columns import ANGLE_COLUMNS
from headposeplus.rotations import CONVENTIONS, Floats, euler_order, to_matrix

DEGREES = 30.0  # of the angle that is drawn
_HEAD = np.array([0.74, 1.0, 0.86])  # half its width, height and depth
_FACE, _CROWN = np.array([0.0, 0.12, -1.18]), np.array([0.0, -1.0, 0.0])  # the tip of the nose, and the top of the head
_USED_BY = {
    "pyr": "Biwi+ and this benchmark",
    "biwi": "the pose.bin of raw Biwi",
    "ypr": "Hopenet, FSA-Net, 6DRepNet, 300W-LP",
}
_SCALE = 40.0  # pixels of half a head's height


class Turn(NamedTuple):
    """What a positive angle does: the drawing, and which way the head goes in the image, in words."""

    angle: str
    svg: Markup
    words: str


class Shown(NamedTuple):
    """A convention as a page explains it: who uses it, in which order its angles act, and what each does."""

    used_by: str
    order: str
    turns: tuple[Turn, ...]


def pose_of(angle: str, convention: str, degrees: float = DEGREES) -> Floats:
    """Return the rotation (3, 3), head to camera, whose only angle, ``pitch``, ``yaw`` or ``roll``, is ``degrees``."""
    return to_matrix([degrees * (name == angle) for name in ANGLE_COLUMNS], convention)


@cache
def conventions() -> dict[str, Shown]:
    """Return the conventions by name, with what pitch, yaw and roll do where they are positive."""
    return {name: Shown(_USED_BY.get(name, ""), order(name), _turns(name)) for name in CONVENTIONS}


def _turns(convention: str) -> tuple[Turn, ...]:
    return tuple(Turn(angle, _drawing(angle, convention), in_words(angle, convention)) for angle in ANGLE_COLUMNS)


def in_words(angle: str, convention: str) -> str:
    """Return which way a positive angle turns a head, as who looks at the image sees it."""
    pose = pose_of(angle, convention)
    right, down = (pose @ np.array([0.0, 0.0, -1.0]))[:2]
    if angle == "pitch":
        return "looks down" if down > 0 else "looks up"
    if angle == "yaw":
        return f"looks to the image's {'right' if right > 0 else 'left'}"
    crown = (pose @ _CROWN)[0]
    return f"leans to the image's {'right' if crown > 0 else 'left'}, {'clockwise' if crown > 0 else 'anticlockwise'}"


def order(convention: str) -> str:
    """Return in which order the angles of a convention act about the camera's axes, in words."""
    names = [ANGLE_COLUMNS["xyz".index(axis)] for axis in euler_order(convention).axes]
    return f"{names[0]} acts first, then {names[1]}, then {names[2]}"


def _drawing(angle: str, convention: str) -> Markup:
    """Return a head that is turned by the angle, over one that looks into the camera, and the way of a point."""
    point = _CROWN * 1.16 if angle == "roll" else _FACE
    way = np.array([pose_of(angle, convention, degrees) @ point for degrees in np.linspace(0, DEGREES, 12)])[:, :2]
    label = f"{angle} of {DEGREES:.0f} degrees, convention {convention}: the head {in_words(angle, convention)}"
    parts = [
        f'<g class="before">{_outline(np.eye(3))}{_line(_nose(np.eye(3)))}</g>',
        f'<g class="after">{_head(pose_of(angle, convention))}</g>',
        f'<g class="way">{_line(way)}{_tip(way)}</g>',
    ]
    return _svg(parts, "-58 -58 116 116", label)


@cache
def camera_axes() -> Markup:
    """Return a drawing of the camera's axes as they lie in an image: x right, y down, z into it."""
    label = "The axes of the camera in the image: x points right, y down, z away from the camera, into the image"
    x, y = (np.array([[0.0, 0.0], end]) for end in ([0.92, 0.0], [0.0, 0.78]))
    parts = [
        '<rect class="image" x="-52" y="-40" width="104" height="80" rx="3"/>',
        f'<g class="before">{_outline(np.eye(3), 0.62)}</g>',
        f'<g class="axis">{_line(x)}{_tip(x)}{_line(y)}{_tip(y)}',
        '<circle r="6"/><path d="M-4.2 -4.2L4.2 4.2M-4.2 4.2L4.2 -4.2"/></g>',
        '<g class="name"><text x="37" y="-7">x</text><text x="7" y="35">y</text><text x="-17" y="-7">z</text></g>',
    ]
    return _svg(parts, "-58 -46 116 92", label)


def _svg(parts: list[str], box: str, label: str) -> Markup:
    head = f'<svg class="turn" viewBox="{box}" role="img" aria-label="{html.escape(label)}">'
    return Markup("".join([head, *parts, "</svg>"]))


def _head(pose: Floats) -> str:
    """Return the lines of a head in a pose: its outline, eyes, nose, mouth, and the line between its halves."""
    angles = np.linspace(0, np.pi, 25)
    middle = np.column_stack([0 * angles, -np.cos(angles), -np.sin(angles)]) * _HEAD
    eyes = [
        _on_head(np.column_stack([side * 0.3 + _circle(0.085), -0.2 + _circle(0.06, np.pi / 2)])) for side in (-1, 1)
    ]
    mouth = _on_head(np.column_stack([np.linspace(-0.24, 0.24, 9), 0.52 - 0.06 * np.linspace(-1, 1, 9) ** 2]))
    drawn = [_outline(pose), f'<g class="middle">{_seen(middle, pose)}</g>', _seen(mouth, pose)]
    return "".join([*drawn, *(_seen(eye, pose) for eye in eyes), _line(_nose(pose))])


def _circle(radius: float, phase: float = 0.0) -> Floats:
    circle: Floats = radius * np.cos(np.linspace(0, 2 * np.pi, 17) - phase)
    return circle


def _on_head(points: Floats) -> Floats:
    """Return the points (n, 3) of the face that lie before some points (n, 2) of the image."""
    x, y = points.T
    depth = _HEAD[2] * np.sqrt(np.maximum(1 - (x / _HEAD[0]) ** 2 - (y / _HEAD[1]) ** 2, 0))
    return np.column_stack([x, y, -depth])


def _nose(pose: Floats) -> Floats:
    """Return a nose (4, 2) in the image: from between the eyes over its tip and wings."""
    bridge, left, right = _on_head(np.array([[0, -0.14], [-0.12, 0.2], [0.12, 0.2]]))
    return (np.array([bridge, _FACE, left, right, _FACE]) @ pose.T)[:, :2]


def _seen(points: Floats, pose: Floats) -> str:
    """Return a line along those of the points (n, 3) on a turned head that its other side does not hide."""
    towards = (points / _HEAD**2) @ pose.T
    return _line((points @ pose.T)[towards[:, 2] < 0, :2])


def _outline(pose: Floats, size: float = 1.0) -> str:
    """Return the outline of a turned head, an ellipsoid: an ellipse."""
    widths, axes = np.linalg.eigh((pose * _HEAD**2 @ pose.T)[:2, :2])
    semi = size * _SCALE * np.sqrt(widths)
    lean = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
    return f'<ellipse rx="{semi[1]:.1f}" ry="{semi[0]:.1f}" transform="rotate({lean:.1f})"/>'


def _line(points: Floats) -> str:
    if len(points) < 2:
        return ""
    return '<path d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in _SCALE * points) + '"/>'


def _tip(points: Floats) -> str:
    """Return the tip of an arrow at the end of a line."""
    along = points[-1] - points[-2]
    along = along / np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    end = points[-1] + 0.1 * along
    corners = _SCALE * np.array([end, end - 0.24 * along + 0.12 * across, end - 0.24 * along - 0.12 * across])
    return '<path class="tip" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + 'Z"/>'
