"""What a build is made from: the raw copies, and what is known of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, remarked
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.raw.folders import present
from headposeplus.raw.manifest import Manifest
from headposeplus.raw.targets import STILLS
from headposeplus.rotations import euler_order

RAW_COPIES = f"{', '.join(f'`{name}`' for name in ('biwi', 'synhead'))} or {' or '.join(f'`{s}`' for s in STILLS)}"


class Source(NamedTuple):
    """What a build is made from.

    Attributes
    ----------
    biwi, synhead
        The folders of the raw copies, or folders above them; at least one, or one of ``stills``.
    boxes
        Boxes of Biwi: a file of :mod:`headposeplus.boxes.files` or the published ``Biwi_plus.npz``. Frames without
        one, and all frames where it is not given, get the projection of the head.
    render_order
        SynHead's rendering order, such as ``xyz+++``; inferred from the images if None.
    manifest
        What a full copy holds; the project's own if None.
    seed
        Of the random choice of images from which the rendering order is inferred.
    stills
        The folders of the raw copies of datasets of stills, by name (:data:`headposeplus.raw.targets.STILLS`).
    """

    biwi: Path | str | None = None
    synhead: Path | str | None = None
    boxes: Path | str | None = None
    render_order: str | None = None
    manifest: Path | str | None = None
    seed: int = 0
    stills: Mapping[str, Path | str] | None = None


class Copies(NamedTuple):
    """A source whose copies were found: the same, with the roots of the copies."""

    biwi: Path | None
    synhead: Path | None
    boxes: Path | None
    render_order: str | None
    manifest: Path | None
    seed: int
    stills: dict[str, Path]

    @property
    def roots(self) -> dict[str, Path]:
        """The folders of the raw copies, by the dataset's name."""
        copies = {"biwi": self.biwi, "synhead": self.synhead, **self.stills}
        return {name: folder for name, folder in copies.items() if folder}


def find_copies(source: Source, absolute: bool = False) -> Copies:
    """Return the source with the roots of its copies; with ``absolute`` paths, other machines find them too.

    Raises
    ------
    HeadposeError
        If there is no raw copy, or its root is not found, or there is no such rendering order.
    """
    if not source.biwi and not source.synhead and not source.stills:
        raise HeadposeError(f"nothing to build from: give {RAW_COPIES}")
    if source.render_order:
        euler_order(source.render_order)
    return Copies(
        biwi=biwi.find_root(_path(source.biwi, absolute)) if source.biwi else None,
        synhead=synhead.find_root(_path(source.synhead, absolute)) if source.synhead else None,
        boxes=Path(source.boxes) if source.boxes else None,
        render_order=source.render_order,
        manifest=Path(source.manifest) if source.manifest else None,
        seed=source.seed,
        stills={name: STILLS[name].find_root(_path(path, absolute)) for name, path in (source.stills or {}).items()},
    )


def found_at(roots: Mapping[str, Path | str]) -> list[str]:
    """Return lines that say where raw copies were found."""
    return [f"raw {name} found at {root}" for name, root in roots.items()]


def _path(folder: Path | str, absolute: bool) -> Path:
    return Path(folder).resolve() if absolute else Path(folder)


def manifest_beside(copies: Mapping[str, Path]) -> Path | None:
    """Return the manifest that lies beside raw copies, such as ``RAW/data_manifest.csv`` beside ``RAW/hpdb``.

    ``copies`` are the folders as they are given, by the dataset's name. A manifest counts for the datasets of which it
    has rows; a copy without one has that of the real datasets, and None is returned if that is the one of all. Of
    several, one is taken that says of each dataset what its own does.

    Raises
    ------
    HeadposeError
        If there is none such, or a file of that name is no manifest.
    """
    own: dict[str, Path | None] = {}
    rows: dict[Path | None, dict[str, Manifest]] = {None: _rows_of(manifest.read(), copies)}
    for name, folder in copies.items():
        path = _manifest_of(name, folder)
        if path and path not in rows:
            rows[path] = _rows_of(_read_beside(path), copies)
        own[name] = path if path and len(rows[path][name]) else None
    for path in dict.fromkeys(own.values()) or [None]:
        if all(rows[path][name] == rows[theirs][name] for name, theirs in own.items()):
            return None if all(rows[path][name] == rows[None][name] for name in copies) else path
    each = ", ".join(f"{path or manifest.default_path()} that of `{name}`" for name, path in own.items())
    raise HeadposeError(Fault(f"the raw copies have manifests that differ: {each}", "choose one by `manifest`"))


def _rows_of(rows: Manifest, names: Iterable[str]) -> dict[str, Manifest]:
    """Return what a manifest says of some datasets, whoever says it."""
    return {name: tuple(row._replace(source="") for row in rows if row.dataset == name) for name in names}


def _read_beside(path: Path) -> Manifest:
    try:
        return manifest.read(path)
    except HeadposeError as error:
        remark = "it lies beside the raw folders; move it away, or name another by `manifest`"
        raise HeadposeError(remarked(error.fault, remark)) from error


def _manifest_of(name: str, folder: Path) -> Path | None:
    """Return the nearest manifest above a raw copy, up to beside the folder that was given; None if there is none."""
    find_root = {"biwi": biwi.find_root, "synhead": synhead.find_root}.get(name) or STILLS[name].find_root
    try:
        root = find_root(folder)
    except HeadposeError:  # the command says it
        return None
    given = Path(os.path.abspath(folder))
    above = Path(os.path.abspath(root)).parents
    near = [place for place in above if place == given.parent or given in (place, *place.parents)]
    found = next(iter(present(place / manifest.FILE_NAME for place in near)), None)
    return found if found is None or folder.is_absolute() else Path(os.path.relpath(found))
