"""The scoreboard: a folder of one JSON file an entry with its predictions, and the pages made of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.board import site
from benchmark.board.markdown import PAGE, page
from benchmark.scoring import entry as entry_file
from benchmark.scoring.entry import Entry, Listed
from benchmark.scoring.submission import read_files
from headposeplus import archives
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, shell_line, unreadable
from headposeplus.files import content_hash, listing, write_bytes, write_text

PREDICTIONS = "predictions"
SUFFIXES = (*(ending for ending in archives.TABLES if ending != ".txt"), ".zip")  # of predictions


def key(entry: Entry) -> str:
    """Return the name of an entry's file and page: its protocol, its name, and a hash of its predictions."""
    name = _slug(entry.name)[:40] or "entry"
    protocol = _slug(entry.protocol.id.replace("+", "-plus"))[:100] or "protocol"
    hashes = list(entry.predictions_sha256)
    return f"{protocol}-{name}-{(hashes[0] if len(hashes) == 1 else content_hash(hashes))[:8]}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def add(folder: Path, entry: Entry, predictions: Sequence[Path] = ()) -> Path:
    """Write an entry into the scoreboard's folder; the same predictions under the same name replace their older entry.

    ``predictions`` are copied beside it, a file a seed with its TOML, so that anyone can score them again.

    Raises
    ------
    SubmissionError
        If a scoreboard cannot hold it: whoever builds the board next could not read it.
    """
    data = entry_file.to_bytes(entry)
    path = folder / f"{key(entry)}.json"
    kept = folder / PREDICTIONS / path.stem
    for place, file in enumerate(predictions):
        suffix = next((suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix)), ".csv")
        if file.resolve().parent != kept.resolve():  # else they are there already
            for ending, content in zip((suffix, ".toml"), read_files(file), strict=True):
                write_bytes(kept / f"{place:02}{ending}", content)
    write_bytes(path, data)
    return path


def read_entry(path: Path) -> Entry:
    """Return the entry in a file.

    Raises
    ------
    SubmissionError
        If it is no entry: the field that is wrong is named.
    """
    try:
        with path.open("rb") as file:
            data = file.read(entry_file.MAX_BYTES + 1)
    except OSError as error:
        raise SubmissionError(unreadable(path, error, "an entry of the scoreboard")) from error
    return entry_file.read(data, path)


def entries(folder: Path) -> list[Listed]:
    """Return the entries of a scoreboard, best first within a protocol.

    Raises
    ------
    SubmissionError
        If the folder is missing, or a file in it is not an entry.
    """
    if not folder.is_dir():
        mend = f"add entries: {shell_line('hpp', 'scoreboard', 'add', 'PREDICTIONS', '--scoreboard', folder)}"
        raise SubmissionError(Fault("no such folder", mend, folder))
    board = [Listed(path.stem, read_entry(path)) for path in listing(folder, ".json")]
    return sorted(board, key=lambda listed: (listed.entry.protocol.id, listed.entry.scores.mae))


def build(folder: Path) -> Path:
    """Write the pages of a scoreboard into its folder: Markdown, and HTML with a page an entry; return the Markdown."""
    board = entries(folder)
    site.build(folder, board)
    path = folder / PAGE
    write_text(path, page(board))
    return path
