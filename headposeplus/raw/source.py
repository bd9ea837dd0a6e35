"""What a build is made from: the raw copies, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from headposeplus.errors import HeadposeError
from headposeplus.raw import biwi, synhead
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
