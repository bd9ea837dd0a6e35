"""Writes the generated tables of README.md and of the pages in ``docs/``.

They stand between ``<!-- NAME -->`` and ``<!-- end NAME -->``; their figures come from ``results/``, where runs of the
demo and of the benchmarks are kept, and from the published results.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate

from baselines.methods import METHODS
from benchmark.board import entries as scoreboard
from benchmark.board import site
from benchmark.board.markdown import published_table, table
from benchmark.studies import findings
from benchmark.studies.demo import TIMES, read_times
from benchmark.studies.records import read_record
from benchmark.upkeep import bench_build as bench
from benchmark.upkeep import bench_loader, bench_score, bench_train
from benchmark.upkeep.walk import photograph
from headposeplus.errors import HeadposeError
from headposeplus.files import write_text

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "results" / "demo"
BENCH = ROOT / "results" / "bench"
FINDINGS = ROOT / "results" / "findings"


def keep_demo(folder: Path) -> None:
    """Copy what the README shows of a finished demo into ``results/demo``."""
    if not (folder / "times.json").exists():
        raise HeadposeError(f"{folder}: no times.json; run the demo from nothing first: make clean demo")
    shutil.rmtree(DEMO, ignore_errors=True)
    shutil.copytree(folder / "scoreboard", DEMO / "scoreboard")
    for name in ("times.json", "crops.png", "label_spaces.png"):
        shutil.copy(folder / name, DEMO / name)
    photograph(DEMO / "scoreboard" / site.INDEX, "1280x1130", DEMO / "board.png")


def demo_results() -> str:
    """Return the scoreboard of the kept demo."""
    board = scoreboard.entries(DEMO / "scoreboard")
    return f"Protocol `{board[0]['protocol']['id']}`, errors in degrees:\n\n{table(board)}"


def demo_times() -> str:
    """Return how long the parts of the kept demo took."""
    times = read_times(DEMO / TIMES)
    rows = [{"part": part, "seconds": f"{seconds:.0f}"} for part, seconds in times.seconds.items()]
    rows.append({"part": f"all, on {times.cores} CPU cores", "seconds": f"{sum(times.seconds.values()):.0f}"})
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def bench_build() -> str:
    """Return the figures of the kept benchmark of the build."""
    return bench.describe_build(
        read_record(BENCH / "build.json", bench.BuildFigures, "the figures of hpp bench build"), "github"
    )


def bench_loaders() -> str:
    """Return the figures of the kept benchmark of the loaders."""
    return bench_loader.describe_loader(
        read_record(BENCH / "loader.json", bench_loader.LoaderFigures, "the figures of hpp bench loader"), "github"
    )


def bench_training() -> str:
    """Return the figures of the kept benchmark of training."""
    return bench_train.describe_train(
        read_record(BENCH / "train.json", bench_train.TrainFigures, "the figures of hpp bench train"), "github"
    )


def bench_scoring() -> str:
    """Return the figures of the kept benchmark of scoring."""
    return bench_score.describe_score(
        read_record(BENCH / "score.json", bench_score.ScoreFigures, "the figures of hpp bench score")
    )


def methods() -> str:
    """Return all methods, a row each."""
    rows = [{"method": f"`{method.name}`", "what it does": method.summary} for method in METHODS.values()]
    return tabulate(rows, headers="keys", tablefmt="github")


def _finding(part: str) -> Callable[[], str]:
    return lambda: findings.PARTS[part](FINDINGS)


# The generated parts of each page.
PAGES = {
    "README.md": {
        "demo results": demo_results,
        "demo times": demo_times,
        "published": published_table,
        "bench score": bench_scoring,
        "bench build": bench_build,
        "findings": _finding("claims"),
    },
    "docs/datasets.md": {"bench build": bench_build},
    "docs/training.md": {"methods": methods, "bench loader": bench_loaders, "bench train": bench_training},
    "docs/submitting.md": {"bench score": bench_scoring},
    "docs/findings.md": {part: _finding(part) for part in findings.PARTS},
}


def generate(page: str, text: str) -> str:
    """Return a page's text with its generated parts made anew; raises HeadposeError if a mark is missing."""
    for name, make in PAGES[page].items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise HeadposeError(f"{page}: expected the marks <!-- {name} --> and <!-- end {name} --> once")
        text = pattern.sub(r"\1\n@\n\n\2", text).replace("\n@\n", f"\n{make()}\n")
    return text


if __name__ == "__main__":
    for page in PAGES:
        write_text(ROOT / page, generate(page, (ROOT / page).read_text(encoding="utf-8")))
