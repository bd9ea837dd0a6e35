"""Pictures of datasets: a contact sheet of crops with their pose, and the label spaces of source and target."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from headposeplus.boxes.geometry import middles, projected
from headposeplus.datasets import spaces
from headposeplus.datasets.dataset import Dataset, layout_of, read_crops, read_shard
from headposeplus.datasets.info import Measures, Residuals
from headposeplus.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PALE,
    PINK,
    SKY,
    SOFT,
    SOURCE,
    TARGET,
    WIDTH,
    YELLOW,
    own_settings,
    percent,
    save,
)
from headposeplus.images import Image, crop, crop_matrix
from headposeplus.raw.biwi import Calibration, Pose
from headposeplus.raw.render_order import OrderReport
from headposeplus.raw.targets import STILLS, TARGETS
from headposeplus.rotations import ANGLES, Floats

_LINES = {
    **dict.fromkeys(TARGETS, (TARGET, "-")),
    **{"synhead+": (YELLOW, "-"), "synbiwi+": (GREEN, (0, (4, 1.5))), "synhead++": (SOURCE, "-")},
    **dict(zip(STILLS, ((SKY, (0, (2, 1))), (PINK, (0, (2, 1))), (SOFT, (0, (2, 1)))), strict=False)),
}
# Axes of the head, drawn as they are named in the field: right in red, down in green, out of the face in blue.
_AXES = np.diag([1.0, 1, -1])
_AXIS_COLOURS = ((214, 48, 49), (39, 174, 96), (45, 110, 235))
_BOX_COLOUR = (235, 235, 235)
_TILE = 168  # pixels of a crop on a sheet
_SHIFT = 4  # bits of a pixel's fraction that OpenCV takes


def axis_tips(rotation: Floats, box: Floats) -> Floats:
    """Return where the tips of a head's axes are drawn (3, 2), x and y in pixels: right, down and out of the face.

    They begin in the middle of the face's box (4,), are 0.42 of its side long, and have no perspective: the pose
    (3, 3) is that of a head whose camera looks at it.
    """
    tips: Floats = middles(box[None]) + 0.42 * max(box[2:]) * (_AXES @ rotation.T)[:, :2]
    return tips


def draw_pose(image: Image, rotation: Floats, box: Floats | None = None, dashed: bool = False) -> Image:
    """Return a copy of an image (height, width, 3) with the axes of a pose (3, 3), and the face's box (4,), drawn.

    Without a box the image is a crop, and they begin in its middle. Beside a true pose, a predicted one is ``dashed``.
    """
    drawn = np.ascontiguousarray(image.copy())
    whole = np.array([0.0, 0, image.shape[1], image.shape[0]])
    thick = max(int(max((whole if box is None else box)[2:])) // 42, 1)
    if box is not None:
        corners = _fixed(box[:2]), _fixed(box[:2] + box[2:] - 1)
        cv2.rectangle(drawn, *corners, _BOX_COLOUR, max(thick // 2, 1), cv2.LINE_AA, _SHIFT)
    box = whole if box is None else box
    middle, tips = middles(box[None])[0], axis_tips(rotation, box)
    for axis in np.argsort(-(_AXES @ rotation.T)[:, 2], kind="stable"):  # what points away from the viewer first
        for first, last in _strokes(middle, tips[axis], thick) if dashed else ((middle, tips[axis]),):
            cv2.line(drawn, _fixed(first), _fixed(last), _AXIS_COLOURS[axis], thick, cv2.LINE_AA, _SHIFT)
    return drawn


def _strokes(first: Floats, last: Floats, thick: int) -> list[tuple[Floats, Floats]]:
    """Return the ends of the strokes of a dashed line; their caps are round, so gaps are wider than strokes look."""
    count = max(round(float(np.hypot(*(last - first))) / (4 * thick)), 2)
    steps = first + (last - first) * (np.arange(count)[:, None] + (0, 0.5)).ravel()[:, None] / (count - 0.5)
    return list(zip(steps[::2], steps[1::2], strict=True))


def tag(image: Image, word: str) -> Image:
    """Return a copy of an image (height, width, 3) with a word in its upper left corner, light on dark."""
    drawn = np.ascontiguousarray(image.copy())
    size = image.shape[1] / 330
    (width, height), below = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    pad = max(height // 3, 1)
    cv2.rectangle(drawn, (0, 0), (width + 2 * pad, height + below + 2 * pad), (26, 29, 33), cv2.FILLED)
    place = (pad, height + pad + below // 2)
    cv2.putText(drawn, word, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
    return drawn


def _fixed(point: Floats) -> list[int]:
    values: list[int] = np.rint(point * 2**_SHIFT).astype(int).tolist()
    return values


def _sample(dataset: Dataset, count: int, rng: np.random.Generator) -> list[Image]:
    """Return crops spread over a dataset; each is drawn with its pose, on grey where the background is cut."""
    layout = layout_of(dataset)
    shards, size = len(layout.paths), layout.size
    chosen = rng.permutation(shards)[:count] if shards >= count else rng.integers(shards, size=count)
    rows = np.array([rng.integers(*layout.starts[shard : shard + 2]) for shard in np.sort(chosen)])
    tiles: list[Image] = []
    for row, stored in zip(rows, read_crops(dataset, rows), strict=True):
        rotation = read_shard(stored.shard, "label/rotation")["label/rotation"][layout.locate(int(row))[1]]
        image, mask = stored.image, stored.mask
        if mask is not None:
            image = np.where(mask[..., None], image, np.uint8(128))
        tile = cv2.resize(image, (_TILE, _TILE), interpolation=cv2.INTER_AREA if size > _TILE else cv2.INTER_CUBIC)
        tiles.append(draw_pose(tile, rotation))
    return tiles


@own_settings()
def sample_crops(datasets: list[Dataset], path: Path, seed: int = 0, columns: int = 10, rows: int = 2) -> None:
    """Draw a contact sheet, PNG: some rows of random crops of each dataset, with the axes of their pose."""
    rng = np.random.default_rng(seed)
    height = 0.35 + len(datasets) * (rows * WIDTH / columns + 0.3)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    for axes, dataset in zip(np.atleast_1d(figure.subplots(len(datasets), 1)), datasets, strict=True):
        tiles = _sample(dataset, rows * columns, rng)
        sheet = np.concatenate([np.concatenate(tiles[i * columns : (i + 1) * columns], axis=1) for i in range(rows)])
        axes.imshow(sheet)
        axes.set_title(f"{dataset.name}  ({dataset.info.rows:,} images)", loc="left")
        axes.axis("off")
    figure.suptitle("Crops and their poses: right (red), down (green) and out of the face (blue)")
    save(figure, path)


@own_settings()
def label_spaces(pairs: list[tuple[str, Floats, Floats]], path: Path) -> None:
    """Draw the label spaces of source and target as densities, on one scale: yaw against pitch, and against roll.

    ``pairs`` has a title, the source's angles (n, 3), ``pyr``, in degrees, and the target's. As in the paper's Figure
    1, the source is red and the target blue. PNG, or PDF or SVG where the file is called so.
    """
    panels = [
        (
            title,
            [
                spaces.Cloud("source", source, SOURCE, filled=True),
                spaces.Cloud("target", target, TARGET),
            ],
        )
        for title, source, target in pairs
    ]
    shown = spaces.reach([cloud for _, clouds in panels for cloud in clouds])
    columns = (0, 2)
    figure, grid = spaces.sheet(len(pairs), 1, shown, columns)
    for place, (title, clouds) in enumerate(panels):
        spaces.draw(figure, grid[place], clouds, shown, title, columns, (place == 0, True))
    spaces.legend(figure, panels[0][1])
    save(figure, path)


@own_settings()
def histograms(labels: dict[str, Floats], path: Path) -> None:
    """Draw how often each angle occurs in each dataset, by name its angles (n, 3), on one scale.

    The angles are ``pyr``, in degrees. PNG, or PDF or SVG where the file is called so.
    """
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
    reached = max(float(np.abs(values).max(initial=1)) for values in labels.values())
    end = min(np.ceil((reached + 1) / 15) * 15, 180)
    bins = np.arange(-end, end + 1, 5)
    for column, (axes, angle) in enumerate(zip(figure.subplots(1, 3, sharey=True), ANGLES, strict=True)):
        for name, values in labels.items():
            share = np.histogram(values[:, column], bins)[0] / max(len(values), 1)
            colour, style = _LINES[name]
            axes.stairs(share, bins, color=colour, ls=style, lw=1.5, label=name)
        axes.set(xlabel=f"{angle}, degrees (pyr, RGB camera)", xlim=(-end, end))
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1.5, 3, 4.5, 6, 9, 10]))
        percent(axes.yaxis)
        axes.grid()
    figure.axes[0].set_ylabel("share in bins of 5 degrees")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(labels))
    save(figure, path)


_MEASURES = {"euler": ("mean Euler error", BLUE, "o"), "geodesic": ("geodesic error", ORANGE, "s")}


@own_settings()
def residuals(curves: dict[str, Floats], report: Residuals, path: Path) -> None:
    """Draw what remains between SynBiwi+ and the Biwi poses: PNG, or PDF or SVG where the file is called so.

    ``curves`` holds the residuals (n,) of :func:`headposeplus.datasets.card.read_residuals`, in degrees, and
    ``report`` their statistics by head and by sequence. Heads are drawn where they differ.
    """
    by_head = heads_differ(report)
    figure = Figure(figsize=(WIDTH, 7.6 if by_head else 5.4), layout="constrained")
    rows = figure.subfigures(3 if by_head else 2, 1, squeeze=False)[:, 0]
    top = rows[0].subplots(1, 2, sharey=True)
    for axes, (measure, (title, colour, _)) in zip(top, _MEASURES.items(), strict=True):
        for key, name, line, style in (("", "after the turn", colour, "-"), ("_before", "before it", SOFT, "--")):
            values = np.sort(curves[measure + key])
            axes.plot(values, np.arange(1, len(values) + 1) / len(values), color=line, ls=style, lw=1.8, label=name)
        limit = max(np.percentile(curves[f"{measure}_before"], 99), 1e-3)
        axes.set(xlabel=f"{title} to the Biwi pose, degrees", xlim=(0, limit), ylim=(0, 1.01))
        percent(axes.yaxis)
        axes.legend(loc="lower right")
        axes.grid()
    top[0].set_ylabel("share of the images below")
    _by_part(rows[1].subplots(), report.by_sequence, "Biwi sequence")
    if by_head:
        _by_part(rows[2].subplots(), report.by_head, "head")
    figure.suptitle(f"SynBiwi+: what remains after the best in-plane turn{'' if by_head else _alike(report)}")
    save(figure, path)


def heads_differ(report: Residuals) -> bool:
    """Return whether the residuals of any two heads differ by more than a hundredth."""
    for measure in _MEASURES:
        for name in ("mean", "p95"):
            values = [getattr(getattr(head, measure), name) for head in report.by_head.values()]
            if values and max(values) - min(values) > 0.01 * max(values):
                return True
    return False


def _alike(report: Residuals) -> str:
    """Return that the heads are alike, and what holds for all of them."""
    if not report.by_head:
        return ""
    first = next(iter(report.by_head.values())).euler
    return f"; all {len(report.by_head)} heads are alike (mean Euler error {first.mean:.2f} degrees)"


def _by_part(axes: Axes, part: dict[str, Measures], title: str) -> None:
    """Draw the mean and the 95th percentile of each head's or sequence's residuals."""
    for (measure, (word, colour, mark)), offset in zip(_MEASURES.items(), (-0.15, 0.15), strict=True):
        statistics = [getattr(one, measure) for one in part.values()]
        at = np.arange(len(part)) + offset
        means, high = [s.mean for s in statistics], [s.p95 for s in statistics]
        axes.vlines(at, means, high, color=colour, lw=1.2)
        axes.plot(at, means, mark, color=colour, ms=5, label=f"{word}: mean")
        axes.plot(at, high, mark, color=colour, mfc="white", ms=5, label=f"{word}: 95th percentile")
    axes.set_xticks(range(len(part)), list(part))
    axes.set(xlabel=title, ylabel="degrees", xlim=(-0.7, len(part) - 0.3))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.figure.legend(loc="outside upper center", ncols=4, columnspacing=1.5, handletextpad=0.4)


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
    figure = Figure(figsize=(WIDTH, 2 * WIDTH / max(len(frames), 4) + 0.3), layout="constrained")
    grid = figure.subplots(2, len(frames), squeeze=False)
    for column, frame in enumerate(frames):
        x, y, width, height = projected(frame.pose, frame.camera)
        box = np.array([x - 0.2 * width, y - 0.2 * height, 1.4 * width, 1.4 * height])
        for axes, image in zip(grid[:, column], (frame.image, draw_mesh(frame)), strict=True):
            axes.imshow(crop(image, crop_matrix(box, 240), 240))
            axes.axis("off")
        grid[0, column].set_title(frame.id, fontsize=8)
    save(figure, path)


@own_settings()
def rendering_orders(report: OrderReport, path: Path) -> None:
    """Draw the error of every candidate of SynHead's rendering order, the best at the top: PNG, PDF or SVG."""
    figure = Figure(figsize=(WIDTH, 8.4), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(report.candidates))
    errors = [candidate.error for candidate in report.candidates]
    axes.barh(rows, errors, height=0.72, color=[BLUE, *[PALE] * (len(rows) - 1)])
    axes.set_yticks(rows, [str(candidate.order) for candidate in report.candidates], family="monospace", fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for row, candidate in zip(rows[1:], report.candidates[1:], strict=True):
        axes.text(candidate.error, row, f" {candidate.behind:.1f}", va="center", fontsize=8, color=SOFT)
    axes.set_xlabel("error (0 the same image, 1 unrelated); beside the bars: standard errors behind the best")
    axes.set_title(f"Rendering order {report.order}, by a margin of {report.margin:.1f} standard errors", loc="left")
    axes.set_xlim(0, max(errors) * 1.08)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    save(figure, path)
