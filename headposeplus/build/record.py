"""What a build finds out once and keeps: the rendering order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from headposeplus.build.plan import Source
from headposeplus.files import content_hash, read_json, write_json
from headposeplus.raw import biwi, render_order, synhead
from headposeplus.rotations import EulerOrder, euler_order

ORDER_REPORT = "render_order.json"


def recorded(path: Path, key: Any, compute: Callable[[], Any], keep: bool = True) -> Any:
    """Return what was recorded at ``path`` for the same key; else compute it and, to keep, record it."""
    of = content_hash(key)
    if path.exists():
        found = read_json(path, "a record of this build")
        if found.get("of") == of:
            return found["found"]
    content = {"of": of, "found": compute()}
    if keep:
        write_json(path, content)
    return content["found"]


def _inferred_order(
    copy: synhead.Copy, biwi_root: Path | None, out: Path, seed: int, executor: int | Executor, keep: bool
) -> render_order.OrderReport:
    def compute() -> dict[str, Any]:
        poses = biwi.depth_rotations(biwi_root) if biwi_root else None
        return render_order.to_json(render_order.infer(copy, poses, executor, seed))

    key = [copy.fingerprint(copy.tracks, copy.heads), biwi_root is not None, seed]
    return render_order.from_json(recorded(out / "synhead+" / ORDER_REPORT, key, compute, keep))


def rendering_order(
    copy: synhead.Copy, source: Source, out: Path, executor: int | Executor, keep: bool
) -> tuple[EulerOrder, str, render_order.OrderReport | None]:
    """Return SynHead's rendering order, where it is from, and the report of its inference."""
    if source.order:
        return euler_order(source.order), "set by hand", None
    report = _inferred_order(copy, source.biwi, out, source.seed, executor, keep)
    words = f"inferred from {report.pairs} pairs of images, margin {report.margin:.1f} standard errors"
    return report.order, words, report
