"""Makes the pages of ``docs/`` true: runs the commands that a page shows, in order, and writes down what they print.

The steps of a page stand in comments:

``<!-- run: COMMAND -->`` to ``<!-- end -->``
    the command with its output; ``run exit 3`` expects that exit status, ``run lines 9`` shows no more lines than that;
``<!-- file: NAME -->`` to ``<!-- end -->``
    a file of ``docs/``, which is put where the commands run;
``<!-- picture: FILE -->`` or ``<!-- picture: FILE NAME -->``
    a picture that the commands have made, which goes into ``docs/pictures`` for the line below to show;
``<!-- page: FILE WIDTHxHEIGHT PICTURE -->``
    a picture of an HTML page in a headless Chromium, as high as that at most: it ends where nothing is cut.

``python -m benchmark.upkeep.walk try.md`` runs those of one page. The last line of a page holds a hash of its steps,
their outputs and its files: a test fails when one was changed and the commands were not run again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmark.upkeep.pictures import photograph, shrink
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.files import content_hash, write_text

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
PAGES = ("try.md", "score.md", "rebuild.md", "datasets.md", "submitting.md", "challenge.md", "using.md")
_STEP = re.compile(
    r"(?P<mark><!-- (?P<kind>(?P<block>run|file)|picture|page)(?P<options>(?: \w+ \d+)*): (?P<words>.*?) -->)"
    r"(?(block)\n.*?<!-- end -->)",
    re.DOTALL,
)
_SEAL = re.compile(r"\n<!-- walked: \w+ -->\n\Z")


class WalkStep(NamedTuple):
    """A step of a page: its kind, what stands behind the colon, the exit status and the most lines of a command."""

    kind: str
    words: str
    exit: int
    lines: int


def _step(match: re.Match[str]) -> WalkStep:
    options = dict(re.findall(r"(\w+) (\d+)", match["options"]))
    return WalkStep(match["kind"], match["words"], int(options.get("exit", 0)), int(options.get("lines", 60)))


def steps(text: str) -> Iterator[WalkStep]:
    """Yield the steps of a page, in order."""
    return map(_step, _STEP.finditer(text))


def walk(text: str, folder: Path, pictures: Path = PICTURES) -> str:
    """Run a page's commands in ``folder`` and return the page with their output; keep its pictures.

    Raises
    ------
    HeadposeError
        If a command ends with another exit status than the page says, or a picture is not there.
    """

    def written(match: re.Match[str]) -> str:
        step = _step(match)
        if step.kind == "picture":
            _keep_picture(step.words, folder, pictures)
        elif step.kind == "page":
            page, size, picture = step.words.split()
            photograph(folder / page, size, pictures / picture)
        if not match["block"]:
            return match[0]
        block = _console(step, folder) if step.kind == "run" else _listing(step.words, folder)
        return f"{match['mark']}\n{block}\n<!-- end -->"

    return seal(_STEP.sub(written, text))


def seal(text: str) -> str:
    """Return a page whose last line holds the hash of its steps, their outputs and the files that it shows."""
    shown = [match[0] for match in _STEP.finditer(text)]
    files = [(DOCS / step.words).read_text(encoding="utf-8") for step in steps(text) if step.kind == "file"]
    return _SEAL.sub("", text) + f"\n<!-- walked: {content_hash([shown, files])[:16]} -->\n"


def _console(step: WalkStep, folder: Path) -> str:
    """Run a command and return it with its output."""
    lines = _shortened(_run(step.words, folder, step.exit).splitlines(), step.lines)
    return "\n".join(["```console", f"$ {step.words}", *lines, "```"])


def _listing(name: str, folder: Path) -> str:
    """Put a file of ``docs/`` where the commands run, and return its text."""
    shutil.copy(DOCS / name, folder / name)
    return f"```python\n{(DOCS / name).read_text(encoding='utf-8')}```"


def _keep_picture(words: str, folder: Path, pictures: Path) -> None:
    name, *kept = words.split()
    if not (folder / name).exists():
        raise HeadposeError(Fault("the commands before it have made no such picture", file=name))
    pictures.mkdir(parents=True, exist_ok=True)
    picture = pictures / Path(*kept or [name]).name
    shutil.copy(folder / name, picture)
    shrink(picture)


def _run(command: str, folder: Path, status: int) -> str:
    """Return what a command prints in a pipe, with this Python's ``hpp`` and with no progress bars."""
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment = {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != status:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise HeadposeError(f"{command}: exit status {done.returncode} instead of {status}: {last}")
    told = done.stderr.splitlines()
    first = next((row for row, line in enumerate(told) if line.startswith("Error: ")), len(told))
    return "\n".join(filter(None, [done.stdout.rstrip(), *told[first:]])).replace(str(folder), ".")


def _shortened(lines: list[str], most: int) -> list[str]:
    """Return the lines, without those in the middle where there are more than ``most``."""
    lines = [line.rstrip() for line in lines]
    if len(lines) <= most:
        return lines
    head = most * 2 // 3
    tail = most - head
    return [*lines[:head], f"... ({len(lines) - most} more lines)", *lines[len(lines) - tail :]]


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        with tempfile.TemporaryDirectory() as temporary:
            page = DOCS / name
            write_text(page, walk(page.read_text(encoding="utf-8"), Path(temporary)))
