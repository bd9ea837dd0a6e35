"""The generated tables of README.md and of the pages in ``docs/``.

Cog writes them where a page says ``[[[cog show("NAME") ]]]`` (``make readme``), and the linters check that they are
what the records give (``make lint``). Their figures come from ``results/``, where runs of the demo and of the
benchmarks are kept, and from the published results.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from baselines.listed import METHODS
from benchmark.board import entries as scoreboard
from benchmark.board import markdown
from benchmark.board.markdown import github, published_table
from benchmark.board.published import beside
from benchmark.scoring import protocols
from benchmark.scoring.entry import Listed
from benchmark.studies import claims, findings, plan
from benchmark.studies.demo import TIMES, read_times
from benchmark.studies.records import read_record
from benchmark.training import presets
from benchmark.upkeep import box_rule, data_page, house, real_frames, recipes, soak_record
from benchmark.upkeep.bench_build import BuildFigures, describe_build
from benchmark.upkeep.bench_loader import LoaderFigures, describe_loader
from benchmark.upkeep.bench_scale import ScaleFigures, describe_scale
from benchmark.upkeep.bench_score import ScoreFigures, describe_score
from benchmark.upkeep.bench_service import ServiceFigures, describe_service
from benchmark.upkeep.bench_start import StartUp, describe_start
from benchmark.upkeep.bench_step import Steps, describe_step
from benchmark.upkeep.bench_train import TrainFigures, describe_on_gpu, describe_train
from benchmark.upkeep.box_rule import BoxRuleFigures, describe_box_rule
from benchmark.upkeep.open_heads import describe_faces
from benchmark.upkeep.pictures import shrink
from benchmark.upkeep.real_frames import RealFrames, describe_real_frames
from benchmark.upkeep.soak_record import Soak, describe_soak
from benchmark.upkeep.walk import ROOT
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.raw import manifest
from headposeplus.raw.targets import STILLS
from headposeplus.tables import rounded

Figures = TypeVar("Figures", bound=msgspec.Struct)

DEMO = ROOT / "results" / "demo"
BENCH = ROOT / "results" / "bench"
FINDINGS = ROOT / "results" / "findings"
BOARD = ROOT / "results" / "board"
OPEN_HEADS = ROOT / "results" / "open-heads"


def keep_demo(folder: Path) -> None:
    """Copy what the pages show of a finished demo into ``results/demo``."""
    if not (folder / "times.json").exists():
        raise HeadposeError(Fault("no times.json", "run the demo from nothing first: make clean demo", folder))
    shutil.rmtree(DEMO, ignore_errors=True)
    shutil.copytree(folder / "scoreboard", DEMO / "scoreboard")
    for name in ("times.json", "label_spaces.png"):
        shutil.copy(folder / name, DEMO / name)
    shrink(DEMO / "label_spaces.png")


# By method, the names that its published rows have.
_IN_SHORT = {
    "source-only": ("BaselineDA", "BaselinePDA"),
    "source-only-mixed": (),
    "dann": ("DANN",),
    "pada-like": ("PADA-like",),
    "padaco": ("PADACO",),
    "rcrw": ("RCRw",),
}


def in_short() -> str:
    """Return the MAE of the paper's methods on both tasks: published on Biwi+, and over the draws of the findings."""
    runs = claims.read_runs(FINDINGS)
    rows = []
    for method, names in _IN_SHORT.items():
        row = {"method": f"`{method}`"}
        for task in plan.METHODS:
            found = [one for one in beside(protocols.find(f"biwi+/{task}@1")) if one.method in names]
            row[f"Biwi+, {task}"] = f"{found[0].mae:.2f}" if found else ""
        for task in plan.METHODS:
            some = runs[(runs["task"] == task) & (runs["setting"] == "paper") & (runs["method"] == method)]
            row[f"miniature, {task}"] = f"{some[list(plan.ANGLES)].mean(axis=None):.2f}" if len(some) else ""
        rows.append(row)
    return github(rows)


def demo_times() -> str:
    """Return how long the parts of the kept demo took."""
    times = read_times(DEMO / TIMES)
    rows = [{"part": part, "seconds": f"{seconds:.0f}"} for part, seconds in times.seconds.items()]
    rows.append({"part": f"all, on {times.cores} CPU cores", "seconds": f"{sum(times.seconds.values()):.0f}"})
    return github(rows)


# What a page has room for; the board itself shows more.
_REAL_BOARD = ("method", "MAE", "95 % interval", "pitch", "yaw", "roll", "geodesic", "trained on", "convention")


def real_board() -> str:
    """Return the scoreboards of ``results/board``, one for each protocol: real entries on real frames."""
    by_protocol: dict[str, list[Listed]] = {}
    for kept in scoreboard.entries(BOARD):
        by_protocol.setdefault(kept.entry.protocol.id, []).append(kept)
    parts = []
    for name, some in by_protocol.items():
        shown = [{column: row[column] for column in _REAL_BOARD} for row in markdown.rows(some, str)]
        parts.append(f"Protocol `{name}`, errors in degrees:\n\n{github(shown)}")
    return "\n\n".join(parts)


def methods() -> str:
    """Return all methods, a row each."""
    rows = [{"method": f"`{method.name}`", "what it does": method.summary} for method in METHODS]
    return github(rows)


def aflw2000() -> str:
    """Return what the manifest says of AFLW2000-3D, a row a part."""
    stills = STILLS["aflw2000"]
    rows = []
    for unit in manifest.listed_units(manifest.read(), stills.name).values():
        row = {"part": unit.name, "images": f"{len(unit.numbers):,}"}
        row["which"] = f"all but those with {stills.limit}" if unit.name == manifest.TESTED else stills.limit
        known = not np.isnan(unit.statistics).any()
        mean, std = (", ".join(map(rounded, part)) for part in np.split(unit.statistics, 2))
        row |= {"mean pitch, yaw, roll (pyr)": mean if known else "", "deviation": std if known else ""}
        rows.append(row)
    return github(rows)


def _bench(name: str, kind: type[Figures]) -> Figures:
    """Return the kept figures of a benchmark."""
    return read_record(BENCH / f"{name}.json", kind, f"the figures of hpp bench {name}")


def bench_gpu() -> str:
    """Return how fast a GPU trains from each store, a row a store and stage."""
    return describe_on_gpu(
        {store: _bench(f"train-gpu-{store}", TrainFigures) for store in ("device", "host", "stream")}
    )


def _real_frames() -> RealFrames:
    return read_record(real_frames.RECORD, RealFrames, "the figures of real frames")


def training_needs() -> str:
    """Return what the paper's training takes from each store, as a GPU was measured."""
    measured = {store: _bench(f"train-gpu-{store}", TrainFigures) for store in ("device", "host", "stream")}
    return data_page.describe_training_needs(_bench("build", BuildFigures), _real_frames(), measured)


TABLES: dict[str, Callable[[], str]] = {
    "in short": in_short,
    "demo times": demo_times,
    "published": published_table,
    "published aflw2000": partial(published_table, test_set="AFLW2000-3D", tasks=("cross",), by_error=True),
    "aflw2000": aflw2000,
    "methods": methods,
    "presets": lambda: presets.table("github"),
    "rooms": house.table,
    "open heads": lambda: describe_faces(OPEN_HEADS),
    "bench build": lambda: describe_build(_bench("build", BuildFigures), "github"),
    "bench loader": lambda: describe_loader(_bench("loader", LoaderFigures), "github"),
    "bench train": lambda: describe_train(_bench("train", TrainFigures), "github"),
    "bench train of the paper's network": lambda: describe_train(_bench("train-resnet18", TrainFigures), "github"),
    "bench train on a gpu": bench_gpu,
    "box rule": lambda: describe_box_rule(
        read_record(box_rule.RECORD, BoxRuleFigures, "the figures of the box rule"), "github"
    ),
    "real frames": lambda: describe_real_frames(_real_frames(), "github"),
    **{f"copies of {name}": partial(data_page.copies, name) for name in data_page.COPIES},
    "what a build takes": lambda: data_page.describe_build_needs(_bench("build", BuildFigures), _real_frames()),
    "what training takes": training_needs,
    "real board": real_board,
    "networks": recipes.table,
    "recipes": recipes.sections,
    "soak": lambda: describe_soak(read_record(soak_record.RECORD, Soak, "what make soak keeps"), "github"),
    "bench scale": lambda: describe_scale(_bench("scale", ScaleFigures), "github"),
    "bench score": lambda: describe_score(_bench("score", ScoreFigures)),
    "bench start": lambda: describe_start(_bench("start", StartUp), "github"),
    "bench step": lambda: describe_step(_bench("step", Steps), "github"),
    "bench service": lambda: describe_service(_bench("service", ServiceFigures), "github"),
    **{part: partial(describe, FINDINGS) for part, describe in findings.TABLES.items()},
}


def show(name: str) -> None:
    """Print a table for cog, with the empty lines that Markdown needs around it."""
    print(f"\n{TABLES[name]()}\n")
