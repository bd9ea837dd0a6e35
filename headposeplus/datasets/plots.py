"""Pictures of datasets: a contact sheet of crops with their pose, and the label spaces of source and target."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from headposeplus.boxes.geometry import middles, projected
from headposeplus.datasets.dataset import Dataset, layout_of, read_crops, read_labels
from headposeplus.datasets.info import Residuals
from headposeplus.drawing import own_settings, save
from headposeplus.images import Image, crop, crop_matrix
from headposeplus.raw.biwi import Calibration, Pose
from headposeplus.raw.render_order import OrderReport
from headposeplus.raw.targets import STILLS, TARGETS
from headposeplus.rotations import ANGLES, Floats, from_matrix

SOURCE_COLOUR, TARGET_COLOUR = "#c0392b", "#2060b0"
_COLOURS = {
    **dict.fromkeys(TARGETS, TARGET_COLOUR),
    **{"synhead+": "#e08e45", "synbiwi+": "#5b9e6f", "synhead++": SOURCE_COLOUR},
    **dict(zip(STILLS, ("#16808a", "#6a4c93", "#444b54"), strict=False)),
}
# Axes of the head, drawn as they are named in the field: right in red, down in green, out of the face in blue.
_AXES = np.diag([1.0, 1, -1])
_AXIS_COLOURS = ((214, 48, 49), (39, 174, 96), (45, 110, 235))
_BOX_COLOUR = (235, 235, 235)
_SHIFT = 4  # bits of a pixel's fraction that OpenCV takes


def axis_tips(rotation: Floats, box: Floats) -> Floats:
    """Return where the tips of a head's axes are drawn (3, 2), x and y in pixels: right, down and out of the face.

    They begin in the middle of the face's box (4,), are 0.42 of its side long, and have no perspective: the pose
    (3, 3) is that of a head whose camera looks at it.
    """
    tips: Floats = middles(box[None]) + 0.42 * max(box[2:]) * (_AXES @ rotation.T)[:, :2]
    return tips


def draw_pose(image: Image, rotation: Floats, box: Floats | None = None) -> Image:
    """Return a copy of an image (height, width, 3) with the axes of a pose (3, 3), and the face's box (4,), drawn.

    Without a box the image is a crop, and they begin in its middle.
    """
    drawn = np.ascontiguousarray(image.copy())
    whole = np.array([0.0, 0, image.shape[1], image.shape[0]])
    thick = max(int(max((whole if box is None else box)[2:])) // 60, 1)
    if box is not None:
        first, last = _fixed(box[:2]), _fixed(box[:2] + box[2:] - 1)
        cv2.rectangle(drawn, first, last, _BOX_COLOUR, max(thick // 2, 1), cv2.LINE_AA, _SHIFT)
    box = whole if box is None else box
    middle, tips = middles(box[None])[0], axis_tips(rotation, box)
    for axis in np.argsort(-(_AXES @ rotation.T)[:, 2], kind="stable"):  # what points away from the viewer first
        cv2.line(drawn, _fixed(middle), _fixed(tips[axis]), _AXIS_COLOURS[axis], thick, cv2.LINE_AA, _SHIFT)
    return drawn


def _fixed(point: Floats) -> list[int]:
    values: list[int] = np.rint(point * 2**_SHIFT).astype(int).tolist()
    return values


def _sample(dataset: Dataset, count: int, rng: np.random.Generator) -> list[Image]:
    """Return crops spread over a dataset; each is drawn with its pose, on grey where the background is cut."""
    layout, (_, rotations) = layout_of(dataset), read_labels(dataset)
    shards, size = len(layout.paths), layout.size
    chosen = rng.permutation(shards)[:count] if shards >= count else rng.integers(shards, size=count)
    rows = np.array([rng.integers(*layout.starts[shard : shard + 2]) for shard in np.sort(chosen)])
    tiles: list[Image] = []
    for row, stored in zip(rows, read_crops(dataset, rows), strict=True):
        image, mask = stored.image, stored.mask
        if mask is not None:
            image = np.where(mask[..., None], image, np.uint8(128))
        tile = cv2.resize(image, (144, 144), interpolation=cv2.INTER_AREA if size > 144 else cv2.INTER_CUBIC)
        tiles.append(draw_pose(tile, rotations[row]))
    return tiles


@own_settings()
def sample_crops(datasets: list[Dataset], path: Path, seed: int = 0, columns: int = 10, rows: int = 2) -> None:
    """Draw a contact sheet, PNG: some rows of random crops of each dataset, with the axes of their pose."""
    rng = np.random.default_rng(seed)
    height = 1.0 + sum(1.5 * rows + 0.4 for _ in datasets)
    figure = Figure(figsize=(1.5 * columns, height), dpi=100, layout="constrained")
    for axes, dataset in zip(np.atleast_1d(figure.subplots(len(datasets), 1)), datasets, strict=True):
        tiles = _sample(dataset, rows * columns, rng)
        sheet = np.concatenate([np.concatenate(tiles[i * columns : (i + 1) * columns], axis=1) for i in range(rows)])
        axes.imshow(sheet)
        axes.set_title(f"{dataset.name}  ({dataset.info.rows:,} images)", loc="left", fontsize=15)
        axes.axis("off")
    figure.suptitle("Crops and their poses: right (red), down (green) and out of the face (blue)", fontsize=13)
    save(figure, path)


@own_settings()
def label_spaces(pairs: list[tuple[str, Floats, Floats]], path: Path) -> None:
    """Draw yaw against pitch and against roll, PNG: for each title, source rotations (n, 3, 3) and target ones.

    As in the paper's Figure 1, the source is red and the target blue. The angles are ``pyr``.
    """
    figure = Figure(figsize=(11, 4.4 * len(pairs)), dpi=100, layout="constrained")
    grid = figure.subplots(len(pairs), 2, squeeze=False)
    for row, (title, source, target) in zip(grid, pairs, strict=True):
        for axes, (column, name) in zip(row, ((0, "pitch"), (2, "roll")), strict=True):
            for label, rotations, colour in (("source", source, SOURCE_COLOUR), ("target", target, TARGET_COLOUR)):
                # More points than this hide one another and take seconds to draw.
                angles = from_matrix(rotations[:: max(len(rotations) // 4000, 1)])
                size = float(np.clip(8_000 / max(len(angles), 1), 2, 6))
                axes.scatter(angles[:, 1], angles[:, column], s=size, c=colour, alpha=0.35, linewidths=0, label=label)
            axes.set(
                xlabel="yaw (degrees, pyr, RGB camera)", ylabel=f"{name} (degrees)", xlim=(-95, 95), ylim=(-95, 95)
            )
            axes.set_aspect("equal")
            axes.grid(alpha=0.25)
        row[0].set_title(title, loc="left")
        row[1].legend(loc="upper right", markerscale=3, framealpha=0.9)
    save(figure, path)


@own_settings()
def histograms(labels: dict[str, Floats], path: Path) -> None:
    """Draw how often each angle occurs in each dataset, by name its rotations (n, 3, 3), PNG."""
    figure = Figure(figsize=(12, 3.6), dpi=100, layout="constrained")
    bins = np.arange(-100, 101, 5)
    angles = {name: from_matrix(rotations) for name, rotations in labels.items()}
    for column, (axes, angle) in enumerate(zip(figure.subplots(1, 3), ANGLES, strict=True)):
        for name, values in angles.items():
            share = np.histogram(values[:, column], bins)[0] / len(values)
            axes.stairs(share, bins, color=_COLOURS[name], lw=1.8, label=name)
        axes.set(xlabel=f"{angle} (degrees, pyr, RGB camera)", xlim=(-100, 100))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("share of images in 5 degrees")
    figure.axes[2].legend(framealpha=0.9)
    save(figure, path)


@own_settings()
def residuals(curves: dict[str, Floats], report: Residuals, path: Path) -> None:
    """Draw what remains between SynBiwi+ and the Biwi poses, PNG.

    ``curves`` holds the residuals (n,) of :func:`headposeplus.datasets.card.read_residuals`, in degrees, and
    ``report`` their statistics by head and by sequence.
    """
    figure = Figure(figsize=(12, 7), dpi=100, layout="constrained")
    top, bottom = figure.subplots(2, 2)
    titles = {"euler": "mean Euler error", "geodesic": "geodesic error"}
    for axes, (measure, title) in zip(top, titles.items(), strict=True):
        for key, name, colour in (("", "after the turn", TARGET_COLOUR), ("_before", "before it", "#9aa3ad")):
            values = np.sort(curves[measure + key])
            axes.plot(values, np.arange(1, len(values) + 1) / len(values), color=colour, lw=2, label=name)
        limit = max(np.percentile(curves[f"{measure}_before"], 99), 1e-3)
        axes.set(xlabel=f"{title} to the Biwi pose (degrees)", xlim=(0, limit), ylim=(0, 1.01))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="lower right")
    top[0].set_ylabel("share of images below")
    parts = ((report.by_sequence, "Biwi sequence"), (report.by_head, "head"))
    for axes, (part, title) in zip(bottom, parts, strict=True):
        names = list(part)
        for measure, offset, colour in (("euler", -0.2, TARGET_COLOUR), ("geodesic", 0.2, SOURCE_COLOUR)):
            statistics = [getattr(part[name], measure) for name in names]
            at = np.arange(len(names)) + offset
            axes.bar(at, [s.mean for s in statistics], 0.38, color=colour, label=f"{titles[measure]}, mean")
            axes.scatter(at, [s.p95 for s in statistics], s=60, c=colour, marker="_", label="95th percentile")
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set(xlabel=title, ylabel="degrees")
        axes.margins(y=0.25)
    bottom[1].legend(fontsize=8, ncols=2, loc="upper left")
    for axes in (*top, *bottom):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("SynBiwi+: what remains after the best in-plane turn", fontsize=13)
    save(figure, path)


class MeshFrame(NamedTuple):
    """A raw Biwi frame with its head's mesh: vertices (n, 3) in millimetres, head's frame, and triangles (m, 3)."""

    id: str
    image: Image
    vertices: Floats
    triangles: np.ndarray
    pose: Pose
    camera: Calibration


def draw_mesh(frame: MeshFrame) -> Image:
    """Return the frame's image with its mesh drawn over it, shaded, half transparent."""
    seen = frame.vertices @ frame.pose.rotation.T + frame.pose.centre
    pixels = frame.camera.project(seen)
    corners = seen[frame.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    light = np.clip(np.abs(normals[:, 2]), 0.15, 1)
    layer, covered = frame.image.copy(), np.zeros(frame.image.shape[:2], np.uint8)
    for index in np.argsort(-corners[:, :, 2].mean(axis=1)):  # the far side first
        points = np.rint(pixels[frame.triangles[index]] * 2**_SHIFT).astype(np.int32)
        colour = (light[index] * np.array([70, 200, 255])).tolist()
        cv2.fillConvexPoly(layer, points, colour, cv2.LINE_8, _SHIFT)
        cv2.fillConvexPoly(covered, points, 1, cv2.LINE_8, _SHIFT)
    return np.where(covered[..., None] > 0, (0.5 * frame.image + 0.5 * layer).astype(np.uint8), frame.image)


@own_settings()
def mesh_overlays(frames: list[MeshFrame], path: Path) -> None:
    """Draw frames with and without their head's mesh, about the head, PNG."""
    figure = Figure(figsize=(1.9 * len(frames), 4.3), dpi=100, layout="constrained")
    grid = figure.subplots(2, len(frames), squeeze=False)
    for column, frame in enumerate(frames):
        x, y, width, height = projected(frame.pose, frame.camera)
        box = np.array([x - 0.2 * width, y - 0.2 * height, 1.4 * width, 1.4 * height])
        for axes, image in zip(grid[:, column], (frame.image, draw_mesh(frame)), strict=True):
            axes.imshow(crop(image, crop_matrix(box, 240), 240))
            axes.axis("off")
        grid[0, column].set_title(frame.id, fontsize=9)
    save(figure, path)


@own_settings()
def rendering_orders(report: OrderReport, path: Path) -> None:
    """Draw the error of every candidate of SynHead's rendering order, PNG, the best at the top."""
    figure = Figure(figsize=(8, 9), dpi=100, layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(report.candidates))
    errors = [candidate.error for candidate in report.candidates]
    colours = [TARGET_COLOUR, *["#b9bec6"] * (len(rows) - 1)]
    axes.barh(rows, errors, color=colours)
    axes.set_yticks(rows, [str(candidate.order) for candidate in report.candidates], family="monospace", fontsize=8)
    axes.invert_yaxis()
    for row, candidate in zip(rows[1:], report.candidates[1:], strict=True):
        axes.text(candidate.error, row, f" {candidate.behind:.0f}", va="center", fontsize=7, color="#555555")
    axes.set_xlabel("error (0 the same image, 1 unrelated); beside the bars: standard errors behind the best")
    axes.set_title(f"Rendering order {report.order}, by a margin of {report.margin:.1f} standard errors", loc="left")
    axes.set_xlim(0, max(errors) * 1.08)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
