"""Makes the pages of ``docs/`` true: runs the commands that a page shows, in order, and writes down what they print.

Between ``<!-- run: COMMAND -->`` and ``<!-- end -->`` stands the command with its output; ``<!-- run exit 3: ... -->``
expects that exit status, and ``<!-- run lines 9: ... -->`` shows no more lines than that. ``<!-- picture: FILE -->``
copies a picture that the commands have made into ``docs/pictures``, for the line below it to show, and
``<!-- page: FILE WIDTHxHEIGHT PICTURE -->`` takes one of an HTML page, in a headless Chromium. Between
``<!-- file: NAME -->`` and ``<!-- end -->`` stands a file of ``docs/``, which is put where the commands run.
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

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
PAGES = ("datasets.md", "submitting.md")
_STEP = re.compile(
    r"<!-- run(?: exit (?P<exit>\d+))?(?: lines (?P<lines>\d+))?: (?P<command>.*?) -->\n.*?<!-- end -->"
    r"|<!-- picture: (?P<picture>\S+) -->"
    r"|<!-- page: (?P<page>\S+) (?P<size>\d+x\d+) (?P<photo>\S+\.png) -->"
    r"|<!-- file: (?P<file>[\w.]+) -->\n.*?<!-- end -->",
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
        mark = match[0][: match[0].index("-->") + 3]
        if match["picture"]:
            source = folder / match["picture"]
            if not source.exists():
                raise HeadposeError(f"{match['picture']}: the commands before it have made no such picture")
            if pictures is not None:
                pictures.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, pictures / source.name)
            return match[0]
        if match["page"]:
            if pictures is not None:
                photograph(folder / match["page"], match["size"], pictures / match["photo"])
            return match[0]
        if match["file"]:
            shutil.copy(DOCS / match["file"], folder / match["file"])
            text = (DOCS / match["file"]).read_text(encoding="utf-8")
            return f"{mark}\n```python\n{text}```\n<!-- end -->"
        output = _run(match["command"], folder, int(match["exit"] or 0))
        shown = _shortened(output.splitlines(), int(match["lines"] or 60))
        block = "\n".join(["```console", f"$ {match['command']}", *shown, "```"])
        return f"{mark}\n{block}\n<!-- end -->"

    return _STEP.sub(step, text)


def photograph(page: Path, size: str, picture: Path) -> None:
    """Take a picture, PNG, of an HTML file as a window of a size such as ``1280x900`` shows it.

    Raises
    ------
    HeadposeError
        If the page is not there, or no Chromium or Chrome is.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    if not page.exists() or browser is None:
        raise HeadposeError(f"{page}: " + ("no Chromium to show it in" if page.exists() else "no such page"))
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
                   f"--window-size={size.replace('x', ',')}", f"--screenshot={picture}"]  # fmt: skip
        subprocess.run([browser, *options, page.resolve().as_uri()], capture_output=True, check=False, timeout=120)
    if not picture.exists():
        raise HeadposeError(f"{page}: {browser} took no picture of it")


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
