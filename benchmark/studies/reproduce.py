"""A task's whole table: methods by seeds, trained side by side, scored, and written down with pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from baselines.method import MethodSettings
from baselines.methods import METHODS, find_method
from benchmark.scoring import score as scoring
from benchmark.scoring import selection
from benchmark.scoring.metrics import scores
from benchmark.scoring.submission import read_submission
from benchmark.studies import figures
from benchmark.studies.page import PICTURES, RECORDS, write_page
from benchmark.studies.records import PoseErrors, RunRecord, Sizes, TaskRecords, write_record
from benchmark.studies.runs import make_miniature, plan, run_side_by_side
from benchmark.training.job import PREDICTIONS, OptionValue, TrainingJob, find_device, settings_of, variant
from benchmark.training.log import LOG, StepRecord, read_log, values_of
from benchmark.training.presets import TASKS, find_preset
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.drawing import KINDS
from headposeplus.errors import HeadposeError
from headposeplus.raw.targets import BIWI_PLUS, TITLES
from headposeplus.rotations import Floats, from_matrix, to_matrix
from headposeplus.tasks import cores

# The options of hpp benchmark that are not None or False by default.
_STANDARD = {
    "precision": "auto",
    "store": "auto",
    "selection": selection.OFFICIAL,
    "augment": "none",
    **MethodSettings()._asdict(),
}
_PANELS = {
    "mae": "MAE on the target,\ndegrees (scored afterwards)",
    "pose_loss": "pose loss\non the source",
    "domain_accuracy": "accuracy\nof the discriminator",
}


def collect(job: TrainingJob) -> RunRecord:
    """Return what is told of a finished run: its scores under every kind of statistics and rule of selection."""
    predictions = job.folder / PREDICTIONS
    entry = scoring.score(predictions, job.data, job.task).entry
    about = read_submission(predictions).about.run or {}
    record = RunRecord(
        method=job.folder.name,
        seed=job.seed,
        protocol=entry.protocol.id,
        frames=entry.protocol.frames,
        uses_target_images=entry.uses_target_images,
        device=about["device"],
        scores=PoseErrors(**msgspec.structs.asdict(entry.scores)),
        statistics=entry.mae_of_other_statistics(),
    )
    if not (job.folder / selection.EPOCHS).exists():
        return record
    ids, truth = read_labels(open_dataset(job.data / TASKS[job.task].target))
    epochs = selection.read_epochs(job.folder / selection.EPOCHS, ids, str(job.data))
    convention = entry.protocol.convention
    mae = [round(scores(to_matrix(angles), truth, convention).mae, 4) for angles in epochs.angles]
    rules = (*selection.RULES, selection.ORACLE)
    return msgspec.structs.replace(
        record,
        rules={rule: mae[selection.find_epoch(rule, epochs, truth, convention)[0]] for rule in rules},
        mae_of_epochs=mae,
        source_kept=round(float(about["source_kept"]), 4),
        effective_source_size=round(float(about["effective_source_size"]), 4),
        moved=values_of(read_log(job.folder / LOG).epochs, "moved"),
    )


def _means(steps: Sequence[StepRecord], name: str) -> Floats:
    """Return the mean of a part of the loss over each epoch (e,)."""
    epochs = np.array([step.epoch for step in steps])
    values = np.array([step.losses[name] for step in steps])
    return np.array([values[epochs == epoch].mean() for epoch in np.unique(epochs)])


def draw(
    folder: Path,
    runs: Sequence[tuple[TrainingJob, RunRecord]],
    source: Path,
    target: Path,
    seed: int,
    kinds: Sequence[str] = (".png",),
) -> None:
    """Draw the label spaces of a seed's runs, and the training curves of all, into a folder, in place of older ones.

    ``source`` and ``target`` are the folders of the seed's datasets, ``kinds`` the endings of the pictures' files.
    """
    for name, kind in itertools.product(PICTURES, KINDS):
        (folder / f"{name}{kind}").unlink(missing_ok=True)
    curves: dict[str, dict[str, list[Floats]]] = {name: {} for name in _PANELS}
    drawn = []
    for job, record in runs:
        if not record.mae_of_epochs:
            continue
        curves["mae"].setdefault(record.method, []).append(np.array(record.mae_of_epochs))
        steps = read_log(job.folder / LOG).steps
        for name in ("pose_loss", "domain_accuracy"):
            if name in steps[0].losses:
                curves[name].setdefault(record.method, []).append(_means(steps, name))
        if record.seed == seed:
            epochs = selection.read_epochs(job.folder / selection.EPOCHS)
            drawn.append(figures.Drawn(record.method, epochs.probabilities, epochs.angles[-1]))
    if not drawn:
        return
    labels, truth = (from_matrix(read_labels(open_dataset(dataset))[1]) for dataset in (source, target))
    panels = [
        (_PANELS[name], [figures.Curve(method, np.arange(1.0, len(v[0]) + 1), np.stack(v)) for method, v in of.items()])
        for name, of in curves.items()
        if of
    ]
    for kind in kinds:
        figures.drawn_label_spaces(labels, truth, drawn, folder / f"label_spaces{kind}")
        figures.curves(panels, folder / f"curves{kind}")


def reproduce(
    task: str,
    methods: list[str] | None,
    seeds: list[int],
    data: Path | None,
    out: Path,
    results: Path | None,
    scale: str,
    preset: str,
    device: str,
    jobs: int | None,
    threads: int | None,
    pdf: bool = False,
    **options: OptionValue,
) -> Path:
    """Train, score and write down all methods of a task with several seeds; return the page.

    ``options`` are those of ``hpp benchmark``. Runs on a CPU are trained side by side with a thread each, those on a
    GPU one after the other. Without ``data``, each seed has a miniature of its own. With ``pdf``, the pictures are
    there as PDF, too.

    Raises
    ------
    HeadposeError
        If a method is unknown, a dataset is missing, or a run fails.
    """
    chosen, names, seeds = find_preset(preset), list(dict.fromkeys(methods or METHODS)), list(dict.fromkeys(seeds))
    for name in names:
        find_method(name)
    selection.check(str(options.get("selection", selection.OFFICIAL)))
    if data is None and chosen.size is not None:
        raise HeadposeError(
            f"`preset` {preset} needs `data`, the folder of the built datasets; `preset` miniature makes its own"
        )
    if data is None and TASKS[task].target != BIWI_PLUS:
        raise HeadposeError(f"`task` {task} needs `data`: a miniature has no {TITLES[TASKS[task].target]}")
    on_cpu = find_device(device).type == "cpu"
    jobs = jobs or (cores() if on_cpu else 1)
    changed = {name: value for name, value in options.items() if value != _STANDARD.get(name)}
    rule = str(changed.get("selection", selection.OFFICIAL))
    how = {**changed, "device": device, "threads": threads or (1 if on_cpu else None)}

    folders = {seed: data or make_miniature(out, scale, seed, jobs) for seed in seeds}
    # Stage 1 is shared by a seed's methods: one of them makes it while no other waits for it.
    run_side_by_side(plan(task, ["source-only"], folders, out / "runs", preset, how), jobs, "stage 1")
    planned = plan(task, names, folders, out / "runs", preset, how)
    results = results or out / "results" / variant(planned[0].family, settings_of(changed), rule)
    run_side_by_side(planned, jobs, f"{len(names)} methods")

    records = [collect(job) for job in planned]
    first = folders[seeds[0]]
    source, target = (open_dataset(first / name).info.rows for name in TASKS[task][:2])
    about = TaskRecords(
        task=task,
        preset=planned[0].label,
        seeds=seeds,
        miniature=None if data else scale,
        data=Sizes(source, target),
        options={name: value for name, value in how.items() if value is not None and value is not False},
        torch=str(torch.__version__),
        records=records,
        changes=planned[0].changes,
    )
    write_record(results / RECORDS, about)
    runs, kinds = list(zip(planned, records, strict=True)), (".png", ".pdf") if pdf else (".png",)
    draw(results, runs, first / TASKS[task].source, first / TASKS[task].target, seeds[0], kinds)
    return write_page(results)
