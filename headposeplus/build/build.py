"""The build: Biwi+, SynHead+, SynBiwi+ and SynHead++ from raw Biwi and SynHead, and datasets of stills from theirs.

Each dataset is planned first (:mod:`headposeplus.build.plan`): which shards it has, from what, with which options. A
shard is one task for one process (:mod:`headposeplus.build.work`). A finished shard is not built again, so a build
that was stopped goes on at the shards it lacks, and the bytes do not depend on the number of processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from headposeplus import __version__
from headposeplus.boxes.formats import MISPLACED
from headposeplus.build.plan import Plan, Provenance, checked_options, jobs_of, plans
from headposeplus.build.work import USUAL, Built, Job, Options, see_to
from headposeplus.datasets.dataset import BACKGROUNDS, Dataset, labels_sha256, open_dataset, read_angles, read_fields
from headposeplus.datasets.hdf5 import changed
from headposeplus.datasets.info import INFO, SCHEMA, Info, Parameters, ShardInfo, content_sha256, read_info, write_info
from headposeplus.datasets.shards import relative, write_backgrounds, written_shards
from headposeplus.errors import DatasetError, HeadposeError, ImageError
from headposeplus.faults import Fault
from headposeplus.files import leftovers, locked, sha256
from headposeplus.images import crop, crop_matrix, encode, read_image
from headposeplus.raw.render_order import OrderReport
from headposeplus.raw.source import Source, find_copies
from headposeplus.raw.targets import STILLS
from headposeplus.tasks import begun, workers

_LITTLE = 256 << 20  # bytes of shards that are hashed before processes for it would have started


class Summary(NamedTuple):
    """What a build made: the datasets, lines on what a reader should know, and the raw files left out.

    ``order`` is the report of the inferred rendering order, ``peak_bytes`` the most memory that a process held, and
    ``roots`` are the folders of the raw copies, by name.
    """

    datasets: list[Dataset]
    notes: list[str]
    left_out: list[Fault]
    order: OrderReport | None
    peak_bytes: int
    roots: dict[str, Path]


class _Made(NamedTuple):
    """A dataset that was built, what to know of it, and the most memory that a process held."""

    dataset: Dataset
    notes: list[str]
    left_out: list[Fault]
    peak_bytes: int


def build_datasets(
    source: Source, out: Path | str, options: Options = USUAL, jobs: int = 1, dask: str | None = None
) -> Summary:
    """Build what a source allows: Biwi+, SynHead+, and with both, SynBiwi+ and SynHead++; and datasets of stills.

    Parameters
    ----------
    source
        The raw copies, and what is known of them.
    out
        Folder of the datasets, one folder each.
    options
        What is asked for.
    jobs
        Number of processes.
    dask
        Address of a Dask scheduler whose workers build instead of processes of this machine.

    Raises
    ------
    HeadposeError
        If the raw data are not in their layout, or ``out`` holds a build of other data or options.
    """
    copies, options = find_copies(source, absolute=bool(dask)), checked_options(options)
    out = Path(out).resolve() if dask else Path(out)
    summary = Summary([], [], [], None, 0, copies.roots)
    with locked(out, wait=False), workers(jobs, dask) as executor:
        for plan, (dataset, notes, left_out, peak) in _carried_out(plans(copies, out, options, executor), executor):
            summary = summary._replace(
                datasets=[*summary.datasets, dataset],
                notes=[*summary.notes, *notes],
                left_out=[*summary.left_out, *left_out],
                order=plan.order or summary.order,
                peak_bytes=max(peak, summary.peak_bytes),
            )
            if plan.folder.name == "synbiwi+":
                summary.datasets.append(describe_union(out))
    return summary


def _carried_out(planned: Iterator[Plan], executor: int | Executor) -> Iterator[tuple[Plan, _Made]]:
    """Yield each plan with its dataset. Processes that one dataset leaves idle at its end begin with the next one.

    A dataset that cannot be planned is told once the one before it is whole.
    """
    waiting: list[tuple[Plan, Callable[[], _Made]]] = []
    fault: HeadposeError | None = None
    plan: Plan | None = None
    with ExitStack() as under_way:
        while not fault:
            try:
                if plan := next(planned, None):
                    waiting.append((plan, under_way.enter_context(_begun(plan, executor))))
            except HeadposeError as error:
                plan, fault = None, error
            # SynBiwi+ is matched with Biwi+ and planned after SynHead+, so no more than one is left under way.
            while len(waiting) > (1 if plan and isinstance(executor, Executor) else 0):
                earlier, finish = waiting.pop(0)
                yield earlier, finish()
            if not plan:
                break
    if fault:
        raise fault


@contextmanager
def _begun(plan: Plan, executor: int | Executor) -> Iterator[Callable[[], _Made]]:
    """Begin with the shards that a dataset lacks; yield what waits for them and describes it.

    While a shard is missing, the folder has no ``dataset.json``, and neither has the union that it is part of.
    """
    jobs = jobs_of(plan)
    written = _written(plan.folder)
    is_there = all(job.report is not None for job in jobs)
    if is_there and sum(job.task.path.stat().st_size for job in jobs) < _LITTLE:
        executor = 1
    if not is_there:
        (plan.folder / INFO).unlink(missing_ok=True)
        if plan.folder.name not in STILLS:
            (plan.folder.parent / "synhead++" / INFO).unlink(missing_ok=True)
    # The longest first, so that no core is left with it at the end.
    longest_first = sorted(jobs, key=lambda job: -job.task.rows)
    with begun(see_to, longest_first, executor, plan.folder.name) as results:

        def finish() -> _Made:
            provenance, notes = plan.provenance, [*plan.notes]
            if plan.backgrounds is not None:
                background_hash, remarks = _store_backgrounds(plan)
                provenance, notes = provenance._replace(backgrounds_sha256=background_hash), notes + remarks
            built = {job.task.path: built for job, built in zip(longest_first, results(), strict=True)}
            return _finished(plan._replace(provenance=provenance), notes, jobs, written, built)

        yield finish


def _finished(
    plan: Plan, notes: list[str], jobs: list[Job], written: dict[str, str], built: dict[Path, Built]
) -> _Made:
    """Describe a dataset whose shards are ``built``; ``written`` are the hashes that those had that were there."""
    for job in jobs:
        path, now = job.task.path, built[job.task.path].sha256
        before = written.get(path.name, now)
        if job.report is not None and before != now:
            raise DatasetError(changed(path, before))
    in_order = {task.path: built[task.path] for task in plan.tasks}
    left_out = [*plan.faults, *(fault for shard in in_order.values() for fault in shard.report.left_out)]
    lines = [relative(fault, plan.tasks[0].raw) for fault in left_out]
    dataset = describe_dataset(plan.folder, plan.parameters, plan.provenance, lines, in_order)
    return _Made(dataset, notes, left_out, max(shard.peak_bytes for shard in built.values()))


def _written(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each shard that an earlier build wrote down, by file name."""
    try:
        return {shard.file: shard.sha256 for shard in read_info(folder).shards}
    except HeadposeError:
        return {}  # there was none, or one that is written anew


def describe_dataset(
    folder: Path, parameters: Parameters, provenance: Provenance, left_out: list[str], built: dict[Path, Built]
) -> Dataset:
    """Write ``dataset.json`` beside the finished shards and remove what older or killed builds left."""
    for path in {*written_shards(folder), *leftovers(folder)} - built.keys():
        path.unlink()
    reports = [shard.report for shard in built.values()]
    boxes: Counter[str] = Counter()
    for report in reports:
        boxes.update(report.boxes)
    hidden = [report.hidden for report in reports if report.hidden is not None]
    beyond = [line for report in reports for line in report.beyond or ()]
    info = Info(
        name=folder.name,
        schema=SCHEMA,
        toolkit=__version__,
        convention="pyr",
        camera="rgb",
        parameters=parameters,
        boxes=dict(sorted(boxes.items())),
        left_out=left_out,
        face_not_visible=sum(hidden) if hidden else None,
        beyond=beyond if folder.name in STILLS else None,
        **provenance._asdict(),
        shards=[ShardInfo(path.name, shard.report.rows, shard.sha256) for path, shard in built.items()],
        rows=0,
        content_sha256="",
        labels={},
    )
    angles = read_angles(Dataset(folder, info))
    info = msgspec.structs.replace(
        info,
        misplaced=_misplaced(Dataset(folder, info)) if MISPLACED in boxes else [],
        rows=len(angles),
        content_sha256=content_sha256(info),
        labels_sha256=labels_sha256(Dataset(folder, info), told=True),
        labels={
            key: [round(float(value), 4) for value in statistic(angles, axis=0)]
            for key, statistic in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max))
            if len(angles)
        },
    )
    write_info(folder, info)
    return Dataset(folder, info)


def _misplaced(dataset: Dataset) -> list[str]:
    """Return the ids of the rows whose given box could not be theirs."""
    shards = read_fields(dataset, "id", "box_source")
    return [str(name) for fields in shards for name in fields["id"][fields["box_source"] == MISPLACED]]


def _store_backgrounds(plan: Plan) -> tuple[str, list[str]]:
    """Write the middle square of each background, twice a crop's side, so that crops of it can be drawn.

    Returns the hash of the file, empty if there is none, and notes for the reader.
    """
    target, side = plan.folder / BACKGROUNDS, 2 * plan.parameters.size
    encoded, notes = [], []
    for path in plan.backgrounds or ():
        try:
            image = read_image(path)[..., :3]
        except ImageError as error:
            notes.append(f"background left out: {error}")
            continue
        height, width = image.shape[:2]
        shorter = min(height, width)
        box = np.array([(width - shorter) // 2, (height - shorter) // 2, shorter, shorter])
        encoded.append(encode(crop(np.ascontiguousarray(image), crop_matrix(box, side), side), lossless=False))
    if not encoded:
        target.unlink(missing_ok=True)
        return "", [*notes, "SynHead: no readable background image; training composites the heads on plain colours"]
    write_backgrounds(target, encoded)
    return sha256(target), notes


def describe_union(out: Path) -> Dataset:
    """Describe SynHead++, the union of SynHead+ and SynBiwi+; it holds no pixels of its own."""
    parts = [open_dataset(out / name) for name in ("synhead+", "synbiwi+")]
    parameters = Parameters(size=parts[0].size, visible_margin=parts[0].info.parameters.visible_margin)
    names, contents = [part.name for part in parts], [part.info.content_sha256 for part in parts]
    return describe_dataset(out / "synhead++", parameters, Provenance(joins=names, joined=contents), [], {})
