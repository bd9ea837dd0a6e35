"""A task's whole table: methods by seeds, trained side by side, scored, and written down with pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import asdict
from tabulate import tabulate

from baselines.method import Settings
from baselines.methods import METHODS, find_method
from benchmark.board.published import published
from benchmark.scoring import score as scoring
from benchmark.scoring import selection
from benchmark.scoring.metrics import scores
from benchmark.scoring.submission import read_submission
from benchmark.studies import figures
from benchmark.studies.runs import Planned, _settings, make_miniature, plan, run_side_by_side
from benchmark.training.job import PREDICTIONS, find_device, variant
from benchmark.training.loop import LOG
from benchmark.training.presets import TASKS, find_preset
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import HeadposeError
from headposeplus.files import read_json, write_json, write_text
from headposeplus.rotations import from_matrix, to_matrix
from headposeplus.tasks import cores

RECORDS, PAGE, PICTURES = "records.json", "table.md", ("label_spaces", "curves")
# The rows of the paper's Table 1 that a method's name stands for.
_PAPER = {
    ("da", "source-only"): "BaselineDA", ("pda", "source-only"): "BaselinePDA", ("da", "dann"): "DANN",
    ("pda", "dann"): "DANN", ("pda", "pada-like"): "PADA-like", ("da", "padaco"): "PADACO", ("pda", "padaco"): "PADACO",
}  # fmt: skip


def collect(planned: Planned) -> dict[str, Any]:
    """Return what is told of a finished run: its scores under every kind of statistics and rule of selection."""
    run, data, task = planned.folder, planned.job.data, planned.job.task
    entry = scoring.score(run / PREDICTIONS, data, task).entry
    about = read_submission(run / PREDICTIONS).about.run or {}
    record = {
        "method": run.name,
        "seed": entry.seeds[0],
        "protocol": entry.protocol.id,
        "frames": entry.protocol.frames,
        "uses_target_images": entry.uses_target_images,
        "device": about["device"],
        "scores": asdict(entry.scores),
        "statistics": entry.mae_of_other_statistics(),
    }
    if (run / selection.EPOCHS).exists():
        epochs = selection.read_epochs(run / selection.EPOCHS)
        truth = read_labels(open_dataset(data / "biwi+"))[1]
        errors = [round(scores(to_matrix(angles), truth).mae, 4) for angles in epochs.angles]
        rules = [*selection.RULES, selection.ORACLE]
        record["rules"] = {rule: errors[selection.find_epoch(rule, epochs, truth, "pyr")[0]] for rule in rules}
        record["mae_of_epochs"] = errors
        record |= {name: round(float(about[name]), 4) for name in ("source_kept", "effective_source_size")}
        ends = [line for line in _lines(run / LOG) if "epoch_end" in line]
        if "moved" in ends[0]:
            record["moved"] = [end["moved"] for end in ends]
    return record


def spread(values: list[float]) -> str:
    """Return a mean and its standard deviation (n - 1), as text."""
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{deviation}"


def table(records: list[dict[str, Any]], task: str, layout: str = "github") -> str:
    """Return a row a method, best first: errors in degrees, mean ± standard deviation over the seeds."""
    rows = []
    real = all(str(record["protocol"]).startswith("biwi+/") for record in records)
    paper = published()
    paper = paper[paper["source"].str.contains("ICCV 2019 Table 1") & paper["task"].eq(task)]
    for method in _ranked(records):
        mine = [record for record in records if record["method"] == method]
        row = {"method": method, "MAE": spread([record["scores"]["mae"] for record in mine])}
        row |= {
            name: spread([record["scores"][name] for record in mine]) for name in ("pitch", "yaw", "roll", "geodesic")
        }
        for kind in ("source", "target"):
            found = [record["statistics"][kind] for record in mine if kind in record["statistics"]]
            row[f"MAE, {kind} statistics"] = spread(found) if found else ""
        row["target images"] = "yes" if mine[0]["uses_target_images"] else "no"
        if real:
            printed = paper[paper["method"].eq(_PAPER.get((task, method), ""))]["mae"]
            row["MAE in the paper"] = f"{printed.iloc[0]:.2f}" if len(printed) else ""
        rows.append(row)
    return tabulate(rows, headers="keys", tablefmt=layout, disable_numparse=True)


def _ranked(records: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(record["method"] for record in records)
    return sorted(names, key=lambda name: np.mean([r["scores"]["mae"] for r in records if r["method"] == name]))


def rules_table(records: list[dict[str, Any]], layout: str = "github") -> str:
    """Return a row a method: the MAE in degrees of the epoch that each rule of selection takes."""
    rows = []
    for method in _ranked(records):
        mine = [record["rules"] for record in records if record["method"] == method and "rules" in record]
        if mine:
            rows.append({"method": method} | {_rule_name(rule): spread([r[rule] for r in mine]) for rule in mine[0]})
    return tabulate(rows, headers="keys", tablefmt=layout, disable_numparse=True)


def _rule_name(rule: str) -> str:
    names = {selection.OFFICIAL: "last (official)", selection.ORACLE: "oracle (sees the labels)"}
    return names.get(rule, rule)


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _read_log(path: Path) -> dict[str, np.ndarray]:
    """Return the values of a stage's steps by name, averaged over each epoch."""
    steps = [line for line in _lines(path) if "step" in line]
    epochs = np.array([line["epoch"] for line in steps])
    names = [name for name in ("pose_loss", "domain_accuracy") if name in steps[0]]
    return {
        name: np.array([np.mean([s[name] for s, e in zip(steps, epochs, strict=True) if e == epoch])
                        for epoch in np.unique(epochs)])
        for name in names
    }  # fmt: skip


def draw(folder: Path, runs: list[Path], records: list[dict[str, Any]], source: Path, seed: int) -> None:
    """Draw the label spaces of a seed's runs, and the training curves of all, into a folder, in place of older ones."""
    for name in PICTURES:
        (folder / f"{name}.png").unlink(missing_ok=True)
    found: dict[str, dict[str, list[np.ndarray]]] = {"mae": {}, "pose_loss": {}, "domain_accuracy": {}}
    drawn = []
    labels = from_matrix(read_labels(open_dataset(source))[1])
    for run, record in zip(runs, records, strict=True):
        if "mae_of_epochs" not in record:
            continue
        found["mae"].setdefault(run.name, []).append(np.array(record["mae_of_epochs"]))
        for name, values in _read_log(run / LOG).items():
            found[name].setdefault(run.name, []).append(values)
        if record["seed"] == seed:
            epochs = selection.read_epochs(run / selection.EPOCHS)
            drawn.append(figures.Drawn(run.name, epochs.probabilities, epochs.angles[-1]))
    if not drawn:
        return
    figures.drawn_label_spaces(labels, drawn, folder / "label_spaces.png", seed)
    titles = {
        "mae": "MAE on the target, degrees (scored afterwards)",
        "pose_loss": "pose loss on the source",
        "domain_accuracy": "accuracy of the discriminator",
    }
    panels = [
        (titles[name], [figures.Curve(method, np.arange(1.0, len(v[0]) + 1), np.stack(v)) for method, v in of.items()])
        for name, of in found.items()
        if of
    ]
    figures.curves(panels, folder / "curves.png")


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
    **options: Any,
) -> Path:
    """Train, score and write down all methods of a task with several seeds; return the page.

    ``options`` are those of ``hpp benchmark``. Runs on a CPU are trained side by side with a thread each, those on a
    GPU one after the other. Without ``data``, each seed has a miniature of its own.

    Raises
    ------
    HeadposeError
        If a method is unknown, a dataset is missing, or a run fails.
    """
    chosen, names, seeds = find_preset(preset), list(dict.fromkeys(methods or METHODS)), list(dict.fromkeys(seeds))
    for name in names:
        find_method(name)
    selection.check(options.get("selection", selection.OFFICIAL))
    if data is None and chosen.size is not None:
        raise HeadposeError(
            f"--preset {preset} needs --data, the folder of the built datasets; --preset miniature makes its own"
        )
    on_cpu = find_device(device).type == "cpu"
    jobs = jobs or (cores() if on_cpu else 1)
    standard = {"precision": "auto", "store": "auto", "selection": selection.OFFICIAL, **Settings()._asdict()}
    given = {name: value for name, value in options.items() if value != standard.get(name)}
    results = results or out / "results" / variant(
        f"{task}-{preset}", _settings(given), given.get("selection", selection.OFFICIAL)
    )
    given |= {"device": device, "threads": threads or (1 if on_cpu else None)}
    folders = {seed: data or make_miniature(out, scale, seed, jobs) for seed in seeds}
    runs = out / "runs"
    # Stage 1 is shared by a seed's methods: one of them makes it while no other waits for it.
    run_side_by_side(plan(task, ["source-only"], folders, runs, chosen, given), jobs, "stage 1")
    planned = plan(task, names, folders, runs, chosen, given)
    run_side_by_side(planned, jobs, f"{len(names)} methods")

    finished = [run.folder for run in planned]
    records = [collect(run) for run in planned]
    roles = {"source": TASKS[task], "target": "biwi+"}
    write_json(
        results / RECORDS,
        {
            "task": task, "preset": preset, "seeds": seeds, "miniature": None if data else scale,
            "data": {role: open_dataset(folders[seeds[0]] / name).info.rows for role, name in roles.items()},
            "options": {name: value for name, value in given.items() if value not in (None, False)},
            "torch": torch.__version__, "records": records,
        },
    )  # fmt: skip
    draw(results, finished, records, folders[seeds[0]] / TASKS[task], seeds[0])
    return write_page(results)


def write_page(results: Path) -> Path:
    """Write the page of a folder of results from its records; return its path."""
    about = read_json(results / RECORDS, "the records of hpp reproduce")
    records = about["records"]
    target = f"{about['task']}: {TASKS[about['task']]} to biwi+"
    where = f"a miniature of scale {about['miniature']} for each seed" if about["miniature"] else "the data given"
    parts = [
        f"# {target}",
        f"Preset {about['preset']}, seeds {', '.join(map(str, about['seeds']))}; {where}; "
        f"{', '.join(sorted({record['device'] for record in records}))}, torch {about['torch']}. Errors in degrees, "
        "convention pyr, RGB camera: mean ± standard deviation (n - 1) over the seeds. The batch statistics are mixed, "
        "the running ones of training, unless a column says otherwise.",
        table(records, about["task"]),
        "## Selection\n\nThe MAE of the epoch that each rule takes.",
        rules_table(records),
    ]
    titles = (f"Label spaces, seed {about['seeds'][0]}", "Training")
    for name, title in zip(PICTURES, titles, strict=True):
        if (results / f"{name}.png").exists():
            parts.append(f"## {title}\n\n![{title}]({name}.png)")
    protocols = sorted({record["protocol"] for record in records})
    parts.append(f"Protocols: {', '.join(f'`{protocol}`' for protocol in protocols)}.")
    path = results / PAGE
    write_text(path, "\n\n".join(parts) + "\n")
    return path
