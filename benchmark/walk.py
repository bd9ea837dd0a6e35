"""Makes the pages of ``docs/`` true: runs the commands that a page shows, in order, and writes down what they print.

Between ``<!-- run: COMMAND -->`` and ``<!-- end -->`` stands the command with its output; ``<!-- run exit 3: ... -->``
expects that exit status, and ``<!-- run lines 9: ... -->`` shows no more lines than that. ``<!-- picture: FILE -->``
copies a picture that the commands have made into ``docs/pictures``, for the line below it to show.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from headposeplus.errors import HeadposeError
from headposeplus.files import write_text

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
PAGES = ("datasets.md",)
_STEP = re.compile(
    r"<!-- run(?: exit (?P<exit>\d+))?(?: lines (?P<lines>\d+))?: (?P<command>.*?) -->\n.*?<!-- end -->"
    r"|<!-- picture: (?P<picture>\S+) -->",
    re.DOTALL,
)


def commands(text: str) -> list[str]:
    """Return the commands of a page, in order."""
    return [match["command"] for match in _STEP.finditer(text) if match["command"]]


def walk(text: str, folder: Path, pictures: Path | None = PICTURES) -> str:
    """Run a page's commands in ``folder`` and return the page with their output; copy its pictures, where wanted.

    Raises
    ------
    HeadposeError
        If a command ends with another exit status than the page says, or a picture is not there.
    """

    def step(match: re.Match[str]) -> str:
        if match["picture"]:
            source = folder / match["picture"]
            if not source.exists():
                raise HeadposeError(f"{match['picture']}: the commands before it have made no such picture")
            if pictures is not None:
                pictures.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, pictures / source.name)
            return match[0]
        output = _run(match["command"], folder, int(match["exit"] or 0))
        shown = _shortened(output.splitlines(), int(match["lines"] or 60))
        block = "\n".join(["```console", f"$ {match['command']}", *shown, "```"])
        return f"{match[0].splitlines()[0]}\n{block}\n<!-- end -->"

    return _STEP.sub(step, text)


def _run(command: str, folder: Path, status: int) -> str:
    """Return what a command prints, with this Python's ``hpp`` and with no progress bars."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != status:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise HeadposeError(f"{command}: exit status {done.returncode} instead of {status}: {last}")
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    return "\n".join([done.stdout.rstrip(), *errors]).replace(str(folder), ".")


def _shortened(lines: list[str], most: int) -> list[str]:
    """Return the lines, without those in the middle where there are more than ``most``."""
    lines = [line.rstrip() for line in lines]
    if len(lines) <= most:
        return lines
    head = most * 2 // 3
    tail = most - head
    return [*lines[:head], f"... ({len(lines) - most} more lines)", *lines[len(lines) - tail :]]


if __name__ == "__main__":
    for name in PAGES:
        with tempfile.TemporaryDirectory() as temporary:
            page = DOCS / name
            write_text(page, walk(page.read_text(encoding="utf-8"), Path(temporary)))
