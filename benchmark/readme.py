"""Writes the generated parts of README.md: the tables between ``<!-- NAME -->`` and ``<!-- end NAME -->``.

Their figures come from ``results/``, where a run of the demo is kept, and from the published results.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tabulate import tabulate

from benchmark import scoreboard
from headposeplus.errors import HeadposeError
from headposeplus.files import read_json, write_text

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "results" / "demo"


def keep_demo(folder: Path) -> None:
    """Copy what the README shows of a finished demo into ``results/demo``."""
    if not (folder / "times.json").exists():
        raise HeadposeError(f"{folder}: no times.json; run the demo from nothing first: make clean demo")
    shutil.rmtree(DEMO, ignore_errors=True)
    shutil.copytree(folder / "scoreboard", DEMO / "scoreboard")
    for name in ("times.json", "crops.png", "label_spaces.png"):
        shutil.copy(folder / name, DEMO / name)


def demo_results() -> str:
    """Return the scoreboard of the kept demo."""
    board = scoreboard.entries(DEMO / "scoreboard")
    return f"Protocol `{board[0]['protocol']['id']}`, errors in degrees:\n\n{scoreboard.table(board)}"


def demo_times() -> str:
    """Return how long the parts of the kept demo took."""
    times = read_json(DEMO / "times.json", "the times of a demo")
    rows = [{"part": part, "seconds": f"{seconds:.0f}"} for part, seconds in times["seconds"].items()]
    rows.append({"part": f"all, on {times['cores']} CPU cores", "seconds": f"{sum(times['seconds'].values()):.0f}"})
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


PARTS = {"demo results": demo_results, "demo times": demo_times, "published": scoreboard.published_table}


def generate(text: str) -> str:
    """Return the README's text with its generated parts made anew; raises HeadposeError if a mark is missing."""
    for name, make in PARTS.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise HeadposeError(f"README.md: expected the marks <!-- {name} --> and <!-- end {name} --> once")
        text = pattern.sub(r"\1\n@\n\n\2", text).replace("\n@\n", f"\n{make()}\n")
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    write_text(readme, generate(readme.read_text(encoding="utf-8")))
