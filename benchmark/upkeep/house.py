"""Draws the rooms of the code, floor above floor, for ``docs/architecture.md``: ``python -m benchmark.upkeep.house``.

A room is a folder of one of the packages, or their files outside all folders. What it says under its name is the first
sentence of its docstring. An arrow leads from a room to one that it imports; an import that others imply is not drawn.
"""

from __future__ import annotations

import importlib
import itertools
import textwrap
from pathlib import Path
from typing import NamedTuple

import grimp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Outline

from benchmark.upkeep.pictures import shrink
from headposeplus import tables
from headposeplus.drawing import own_settings, save

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "pictures" / "architecture.png"
COLOURS = {"headposeplus": "#dbe9f6", "baselines": "#fdebc8", "benchmark": "#dff0d8"}
_WIDTH, _HEIGHT, _FLOOR = 2.45, 0.98, 1.5  # of a room, and from floor to floor, in inches
_GAP, _SHAFT = 0.35, 0.3  # between rooms, and the width of a shaft through which an arrow passes a floor
_SWEEPS = 20  # over the floors, in which rooms come to stand near what they import


class Room(NamedTuple):
    """A room: its name, and what it is for."""

    name: str
    purpose: str

    @property
    def package(self) -> str:
        """The package that it belongs to."""
        return self.name.partition(".")[0]


def room_of(module: str) -> str:
    """Return the room of a module: its folder, or the package for a file outside all folders."""
    parts = module.split(".")
    path = ROOT.joinpath(*parts[:2])
    return ".".join(parts[:2]) if len(parts) > 1 and path.is_dir() else parts[0]


def read_house() -> tuple[dict[str, Room], set[tuple[str, str]]]:
    """Return the rooms by name, and which imports which."""
    graph = grimp.build_graph(*COLOURS)
    rooms = {
        name: Room(name, _purpose(name)) for name in sorted(set(map(room_of, graph.modules))) if name != "benchmark"
    }
    imports = {
        (room_of(module), room_of(other))
        for module in graph.modules - COLOURS.keys()  # a package's face only hands names on
        for other in graph.find_modules_directly_imported_by(module)
    }
    return rooms, {(a, b) for a, b in imports if a != b and a in rooms and b in rooms}


def _purpose(name: str) -> str:
    if name == "headposeplus":
        return "The ground: errors and faults, files, tasks, rotations, images."
    return (importlib.import_module(name).__doc__ or "").split("\n")[0]


def needed(imports: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the imports that no chain of others implies."""
    below: dict[str, set[str]] = {}
    for name, other in imports:
        below.setdefault(name, set()).add(other)

    def reaches(name: str, other: str) -> bool:
        return other in below.get(name, ()) or any(reaches(middle, other) for middle in below.get(name, ()))

    return {(a, b) for a, b in imports if not any(reaches(middle, b) for middle in below[a] - {b})}


def levels(rooms: dict[str, Room], imports: set[tuple[str, str]]) -> dict[str, int]:
    """Return the floor of each room, the ground being 0: a room stands above all that it imports."""
    level = dict.fromkeys(rooms, 0)
    for _ in rooms:
        for name, other in imports:
            level[name] = max(level[name], level[other] + 1)
    return level


def _routes(level: dict[str, int], imports: set[tuple[str, str]]) -> list[list[str]]:
    """Return each import as the places that its arrow passes, floor by floor: a room, shafts, a room."""
    return [
        [above, *(f"{above}>{below}@{floor}" for floor in range(level[above] - 1, level[below], -1)), below]
        for above, below in sorted(imports)
    ]


def _arrange(level: dict[str, int], routes: list[list[str]]) -> dict[str, tuple[float, float]]:
    """Return the middle (x, y) of each room and shaft, those that an arrow joins near each other."""
    height = level | {place: int(place.rpartition("@")[2]) for route in routes for place in route if "@" in place}
    plan = [[place for place in height if height[place] == floor] for floor in range(max(level.values()) + 1)]
    joined: dict[str, list[str]] = {place: [] for place in height}
    for above, below in (pair for route in routes for pair in itertools.pairwise(route)):
        joined[above].append(below)
        joined[below].append(above)
    x: dict[str, float] = {}

    def settle(floor: list[str]) -> None:
        ends = np.cumsum([_WIDTH + _GAP if "@" not in place else _SHAFT for place in floor])
        starts = np.concatenate(([0.0], ends[:-1]))
        x.update(zip(floor, ((starts + ends - ends[-1]) / 2).tolist(), strict=True))

    for floor in plan:
        settle(floor)
    for _, floor in itertools.product(range(_SWEEPS), (*plan, *reversed(plan))):
        floor.sort(key=lambda place: float(np.mean([x[other] for other in joined[place]])))
        settle(floor)
    return {place: (x[place], height[place] * _FLOOR) for place in height}


@own_settings()
def draw(path: Path = PICTURE) -> None:
    """Draw the house into a PNG file."""
    rooms, every = read_house()
    imports = needed(every)
    routes = _routes(levels(rooms, imports), imports)
    places = _arrange(levels(rooms, imports), routes)
    left, right = (extreme(places[name][0] for name in rooms) for extreme in (min, max))
    right = max(right + _WIDTH / 2, *(x for x, _ in places.values())) + 0.15
    left = min(left - _WIDTH / 2, *(x for x, _ in places.values())) - 0.15
    top = max(y for _, y in places.values()) + _HEIGHT / 2 + 0.15
    figure = Figure(figsize=(right - left, top + _HEIGHT / 2 + 0.15))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(left, right)
    axes.set_ylim(-_HEIGHT / 2 - 0.15, top)
    axes.axis("off")
    for route in routes:
        axes.add_patch(_arrow([places[place] for place in route]))
    for name, room in rooms.items():
        _draw_room(axes, room, *places[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def _arrow(points: list[tuple[float, float]]) -> FancyArrowPatch:
    """Return an arrow from the first room's lower edge through the shafts to the last one's upper edge."""
    (x, y), (u, v) = points[0], points[-1]
    line = [(x, y - _HEIGHT / 2)]
    for a, b in points[1:-1]:
        line += [(a, b + _HEIGHT / 2), (a, b - _HEIGHT / 2)]
    line.append((u, v + _HEIGHT / 2))
    return FancyArrowPatch(
        path=Outline(line), arrowstyle="-|>", mutation_scale=11, color="#8a8f98", linewidth=1.1, shrinkA=0, zorder=1
    )


def _draw_room(axes: Axes, room: Room, x: float, y: float) -> None:
    corner = (x - _WIDTH / 2, y - _HEIGHT / 2)
    face = COLOURS[room.package]
    box = FancyBboxPatch(corner, _WIDTH, _HEIGHT, "round,pad=0,rounding_size=0.08", fc=face, ec="#4a4f57", zorder=2)
    axes.add_patch(box)
    title = "headposeplus: the ground" if room.name == "headposeplus" else room.name.replace(".", "/")
    axes.text(x, y + 0.33, title, ha="center", va="center", fontsize=10, weight="bold", zorder=3)
    words = textwrap.fill(room.purpose.replace("``", ""), 37)
    axes.text(x, y - 0.14, words, ha="center", va="center", fontsize=8.2, zorder=3, linespacing=1.1)


def table() -> str:
    """Return the rooms as a table, the top floor first."""
    rooms, imports = read_house()
    level = levels(rooms, imports)
    rows = [
        {"room": f"`{name.replace('.', '/')}/`", "what it does": rooms[name].purpose.replace("``", "`")}
        for name in sorted(rooms, key=lambda name: (-level[name], name))
    ]
    return tables.table(rows, "github")


if __name__ == "__main__":
    draw()
    shrink(PICTURE)
