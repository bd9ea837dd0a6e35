"""What a build is made from: the raw copies, and what is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from headposeplus.errors import HeadposeError
from headposeplus.raw import biwi, synhead
from headposeplus.rotations import euler_order


class Source(NamedTuple):
    """What a build is made from.

    Attributes
    ----------
    biwi, synhead
        The folders of the raw copies, or folders above them; at least one.
    boxes
        Boxes of Biwi: a file of :mod:`headposeplus.boxes.files` or the published ``Biwi_plus.npz``. Frames without
        one, and all frames where it is not given, get the projection of the head.
    render_order
        SynHead's rendering order, such as ``xyz+++``; inferred from the images if None.
    manifest
        What a full copy holds; the project's own if None.
    seed
        Of the random choice of images from which the rendering order is inferred.
    """

    biwi: Path | None = None
    synhead: Path | None = None
    boxes: Path | None = None
    render_order: str | None = None
    manifest: Path | None = None
    seed: int = 0


def checked_source(source: Source, absolute: bool = False) -> Source:
    """Return the source with the roots of its copies; with ``absolute`` paths, other machines find them too.

    Raises
    ------
    HeadposeError
        If there is no raw copy, or its root is not found, or there is no such rendering order.
    """
    if not source.biwi and not source.synhead:
        raise HeadposeError("nothing to build from: give `biwi`, `synhead` or both")
    if source.render_order:
        euler_order(source.render_order)
    return source._replace(
        biwi=biwi.find_root(_path(source.biwi, absolute)) if source.biwi else None,
        synhead=synhead.find_root(_path(source.synhead, absolute)) if source.synhead else None,
    )


def _path(folder: Path, absolute: bool) -> Path:
    return folder.resolve() if absolute else folder
