"""Readers of MakeHuman's public-domain assets: meshes, targets, fittings and textures.

ASSETS is a folder that holds copies of the repositories ``makehuman`` and ``makehuman-assets``, or of the files of
theirs that are needed, in any folders: a file is known by its name and the folders right above it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.errors import HeadposeError, ImageError
from headposeplus.faults import Fault, unreadable
from headposeplus.files import LFS_POINTER, below, content_hash, read_file
from headposeplus.images import Image, read_image
from headposeplus.raw.folders import spelled
from headposeplus.raw.meshes import finite, position
from headposeplus.rotations import Floats

_COPY = "copy it anew from makehumancommunity/makehuman or makehumancommunity/makehuman-assets"
_EXPECTED = "copies of makehumancommunity/makehuman and makehumancommunity/makehuman-assets"
_SUFFIXES = (".obj", ".target", ".mhclo", ".mhmat", ".png")
_FARTHEST = 10.0  # decimetres that a target moves a vertex at most


class AssetError(HeadposeError):
    """A file of the open heads is missing or damaged."""


class Assets(NamedTuple):
    """A folder of assets, looked through once: the paths of each file's name in lower case, the shallowest first."""

    root: Path
    files: dict[str, list[Path]]


class Mesh(NamedTuple):
    """A mesh of triangles and quadrilaterals.

    Attributes
    ----------
    vertices
        (n, 3), in decimetres: x to the person's left, y up, z to the front.
    corners
        (m, 4), the vertices of each face; a triangle's last is -1.
    uv
        (m, 4, 2), where in the texture each corner lies: x to the right, y up, in [0, 1].
    groups
        The name of each face's group, m.
    """

    vertices: Floats
    corners: np.ndarray
    uv: np.ndarray
    groups: np.ndarray


class Target(NamedTuple):
    """A change of the base mesh: which vertices (k,) move, and how far (k, 3), in decimetres."""

    vertices: np.ndarray
    offsets: Floats


class Fitting(NamedTuple):
    """How a mesh hangs on the base mesh.

    Attributes
    ----------
    vertices, weights
        (n, 3): the three vertices of the base mesh on which each vertex hangs, and their weights.
    offsets
        (n, 3), added to it, in the units of ``scales``.
    scales
        For x, y and z: two vertices of the base mesh, and the distance along that axis for which offsets are meant.
    """

    vertices: np.ndarray
    weights: Floats
    offsets: Floats
    scales: tuple[tuple[int, int, float], ...]


def open_assets(root: Path) -> Assets:
    """Return what a folder of assets holds.

    Raises
    ------
    AssetError
        If it is no such copy: it lacks the base mesh.
    """
    if not root.is_dir():
        raise AssetError(Fault(f"no such folder; expected {_EXPECTED}", "clone both into one folder", root))
    files: dict[str, list[Path]] = {}
    for path in below(root, *_SUFFIXES):
        files.setdefault(path.name.lower(), []).append(path)
    for paths in files.values():
        paths.sort(key=lambda path: (len(path.parts), str(path)))
    if "base.obj" not in files:
        raise AssetError(Fault(f"holds no base.obj; expected {_EXPECTED}", "clone both into one folder", root))
    return Assets(root, files)


def find(assets: Assets, *tails: str) -> Path:
    """Return the first file there is whose path ends in one of ``tails``, such as ``nose/nose-hump-incr.target``.

    Raises
    ------
    AssetError
        If there is none.
    """
    for tail in tails:
        parts = Path(tail.lower()).parts
        for path in assets.files.get(parts[-1], ()):
            if Path(str(path).lower()).parts[-len(parts) :] == parts:
                return path
    raise AssetError(Fault(f"the asset {tails[0]} is missing", _COPY, assets.root))


def fingerprint(paths: list[Path]) -> str:
    """Return a hash of the names and sizes of files, wherever they lie."""
    return content_hash(sorted([path.name, path.stat().st_size] for path in paths))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of each line that is neither empty nor a comment."""
    try:
        text = read_file(path).decode("utf-8", "replace")
    except OSError as error:
        raise AssetError(unreadable(path, error)) from error
    if text.startswith(LFS_POINTER.decode()):
        raise AssetError(Fault("only a pointer of Git LFS", "fetch the file itself: git lfs pull", path))
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words and not words[0].startswith(("#", "//")):
            yield number, words


def _damaged(path: Path, line: int, expected: str, words: list[str]) -> AssetError:
    found = " ".join(words)[:60]
    return AssetError(Fault(f"expected {expected}; found {found!r}", _COPY, path, rows=(line,)))


def _corner(word: str, vertices: int, coordinates: int) -> list[int]:
    """Return which vertex and which place in the texture a corner of a face names, from 1; 0 for no such place."""
    vertex, place = (word + "/").split("/")[:2]
    return [position(vertex, vertices) + 1, position(place, coordinates) + 1 if place else 0]


def read_mesh(path: Path) -> Mesh:
    """Return the mesh of a Wavefront file, whose faces have three or four corners, mixed as they come.

    Raises
    ------
    AssetError
        If a face has fewer or more corners, or names what is not there; the message says which line.
    """
    vertices, coordinates, faces, groups, group = [], [], [], [], ""
    for line, words in _lines(path):
        kind, rest = words[0], words[1:]
        try:
            if kind == "v":
                vertices.append(finite(rest, 3))
            elif kind == "vt":
                coordinates.append(finite(rest, 2))
            elif kind == "g":
                group = rest[0] if rest else ""
            elif kind == "f":
                corners = [_corner(word, len(vertices), len(coordinates)) for word in rest]
                if len(corners) not in (3, 4):
                    raise ValueError
                faces.append(corners + [[0, 0]] * (4 - len(corners)))
                groups.append(group)
        except ValueError:
            expected = {"v": "three numbers", "vt": "two numbers"}.get(
                kind, f"a face of 3 or 4 corners among {len(vertices):,} vertices"
            )
            raise _damaged(path, line, expected, words) from None
    if not faces:
        raise AssetError(Fault("expected a mesh, with vertices and faces", _COPY, path))
    table = np.array(faces)
    points = np.vstack((np.zeros((1, 2)), np.reshape(coordinates, (-1, 2))))
    return Mesh(np.array(vertices), table[..., 0] - 1, points[table[..., 1]], np.array(groups))


def read_target(path: Path, vertices: int) -> Target:
    """Return the target in a file: a line a vertex, its number from 0 and how far it moves.

    Raises
    ------
    AssetError
        If a line is anything else, or names a vertex beyond the mesh's ``vertices``.
    """
    if path.is_file() and not path.stat().st_size:  # some targets move no vertex, but all begin with a remark
        raise AssetError(Fault("an empty file", _COPY, path))
    numbers, offsets = [], []
    for line, words in _lines(path):
        try:
            number, *offset = int(words[0]), *map(float, words[1:])
        except ValueError:
            number, offset = -1, []
        if not 0 <= number < vertices or len(offset) != 3 or not all(map(math.isfinite, offset)):
            expected = f"a vertex from 0 to {vertices - 1} and its offset x y z"
            raise _damaged(path, line, expected, words)
        if max(map(abs, offset)) > _FARTHEST:
            raise _damaged(path, line, f"offsets of at most {_FARTHEST:.0f} decimetres", words)
        numbers.append(number)
        offsets.append(offset)
    return Target(np.array(numbers, int), np.reshape(offsets, (-1, 3)))


def read_fitting(path: Path, vertices: int) -> Fitting:
    """Return how a mesh hangs on the base mesh, from its ``.mhclo``.

    A vertex is a line: three vertices of the base mesh, their weights, and an offset; or one vertex alone.

    Raises
    ------
    AssetError
        If a line is anything else, or names a vertex beyond the base mesh's ``vertices``.
    """
    scales = dict.fromkeys("xyz", (0, 0, 0.0))
    ties, weights, offsets, listing = [], [], [], False
    for line, words in _lines(path):
        try:
            if words[0][1:] == "_scale" and words[0][0] in scales:
                first, second, distance = int(words[1]), int(words[2]), float(words[3])
                if not (0 <= first < vertices and 0 <= second < vertices and 0 < distance < np.inf):
                    raise ValueError
                scales[words[0][0]] = first, second, distance
            elif words[0] == "verts":
                listing = True
            elif listing and words[0].lstrip("-").isdecimal():
                numbers = [int(words[0])] * 3 if len(words) == 1 else [int(word) for word in words[:3]]
                values = [1.0, 0, 0, 0, 0, 0] if len(words) == 1 else [float(word) for word in words[3:9]]
                if (
                    min(numbers) < 0
                    or max(numbers) >= vertices
                    or len(values) != 6
                    or not all(map(math.isfinite, values))
                ):
                    raise ValueError
                ties.append(numbers)
                weights.append(values[:3])
                offsets.append(values[3:])
            elif words[0] == "delete_verts":
                listing = False  # which vertices the mesh covers: that is another list
        except (ValueError, IndexError):
            expected = f"three vertices from 0 to {vertices - 1}, their weights and an offset"
            raise _damaged(path, line, expected, words) from None
    if not ties:
        raise AssetError(Fault("expected a line a vertex after the line verts", _COPY, path))
    return Fitting(np.array(ties), np.array(weights), np.array(offsets), tuple(scales.values()))


def fitted(fitting: Fitting, base: Floats) -> Floats:
    """Return the vertices (n, 3) of a mesh that hangs on the base mesh ``base`` (k, 3)."""
    factors = [
        abs(base[first, axis] - base[second, axis]) / distance if distance else 1.0
        for axis, (first, second, distance) in enumerate(fitting.scales)
    ]
    hung: Floats = np.einsum("nk,nkc->nc", fitting.weights, base[fitting.vertices]) + fitting.offsets * factors
    return hung


def read_part(mesh: Path, fitting: Path, vertices: int) -> tuple[Mesh, Fitting]:
    """Return a mesh that hangs on the base mesh of ``vertices`` vertices, and how; raises AssetError if they differ."""
    read, hung = read_mesh(spelled(mesh)), read_fitting(fitting, vertices)
    if len(read.vertices) != len(hung.vertices):
        what = f"ties {len(hung.vertices):,} vertices, but {mesh.name} has {len(read.vertices):,}"
        raise AssetError(Fault(what, _COPY, fitting))
    return read, hung


def texture_of(fitting: Path) -> str:
    """Return the name of the texture of a fitting, as the material beside it says.

    Raises
    ------
    AssetError
        If there is no material, or it names no texture.
    """
    path = spelled(fitting.with_suffix(".mhmat"))
    for _, words in _lines(path):
        if words[0] == "diffuseTexture" and len(words) > 1:
            return Path(words[1]).name
    raise AssetError(Fault("expected a line diffuseTexture with the name of a picture", _COPY, path))


def read_texture(path: Path) -> Image:
    """Return a texture, RGBA (height, width, 4), the row at the top first; raises AssetError if it is damaged."""
    try:
        image = read_image(path)
    except ImageError as error:
        if path.is_file() and path.stat().st_size < 1024 and path.read_bytes().startswith(LFS_POINTER):
            raise AssetError(Fault("only a pointer of Git LFS", "fetch the file itself: git lfs pull", path)) from error
        raise AssetError(error.fault._replace(mend=_COPY)) from error
    if image.shape[2] == 3:
        image = np.dstack((image, np.full(image.shape[:2], 255, np.uint8)))
    return image
