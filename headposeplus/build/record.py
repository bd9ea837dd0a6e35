"""What a build works out once and keeps: the rendering order, for one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

from headposeplus.files import content_hash, read_json, write_json
from headposeplus.raw import biwi, render_order, synhead
from headposeplus.raw.source import Copies
from headposeplus.rotations import EulerOrder, euler_order

ORDER_REPORT = "render_order.json"


class RenderOrder(NamedTuple):
    """SynHead's rendering order, where it comes from, in words, and the report of its inference, if it was inferred."""

    order: EulerOrder
    origin: str
    report: render_order.OrderReport | None


def recorded(path: Path, key: Any, compute: Callable[[], Any], keep: bool = True) -> Any:
    """Return what was recorded at ``path`` for the same key; else compute it and, to keep, record it."""
    of = content_hash(key)
    if path.exists():
        record = read_json(path, "a record of this build")
        if isinstance(record, dict) and record.get("of") == of and "found" in record:
            return record["found"]
    record = {"of": of, "found": compute()}
    if keep:
        write_json(path, record)
    return record["found"]


def rendering_order(copy: synhead.Copy, source: Copies, out: Path, executor: int | Executor, keep: bool) -> RenderOrder:
    """Return SynHead's rendering order: as given, as recorded in ``out``, or inferred and, to keep, recorded there."""
    if source.render_order:
        return RenderOrder(euler_order(source.render_order), "set by hand", None)

    def infer() -> dict[str, Any]:
        poses = biwi.depth_rotations(source.biwi) if source.biwi else None
        return render_order.to_json(render_order.infer(copy, poses, executor, source.seed))

    key = [copy.fingerprint(copy.tracks, copy.heads), source.biwi is not None, source.seed]
    path = out / "synhead+" / ORDER_REPORT
    report = render_order.from_json(recorded(path, key, infer, keep), path)
    words = f"inferred from {report.pairs} pairs of images, margin {report.margin:.1f} standard errors"
    return RenderOrder(report.order, words, report)
