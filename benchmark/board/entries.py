"""The scoreboard: a folder of one JSON file an entry with its predictions, and the pages made of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from benchmark.board.markdown import PAGE, page
from benchmark.scoring import entry as entry_file
from benchmark.scoring.entry import Entry, Listed, OtherStatistics
from benchmark.scoring.submission import NO_FACTS, About, of_other_statistics, read_files
from headposeplus import archives
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, shell_line, unreadable
from headposeplus.files import content_hash, listing, opened_file, sha256, write_bytes, write_text

PREDICTIONS = "predictions"
SUFFIXES = (*(ending for ending in archives.TABLES if ending != ".txt"), ".zip")  # of predictions
_OTHER = OtherStatistics.__struct_fields__


def key(entry: Entry) -> str:
    """Return the name of an entry's file and page: its protocol, its name, and a hash of its predictions."""
    name = _slug(entry.name)[:40] or "entry"
    protocol = _slug(entry.protocol.id.replace("+", "-plus"))[:100] or "protocol"
    hashes = list(entry.predictions_sha256)
    return f"{protocol}-{name}-{(hashes[0] if len(hashes) == 1 else content_hash(hashes))[:8]}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def add(folder: Path, entry: Entry, predictions: Sequence[Path] = (), facts: About = NO_FACTS) -> Path:
    """Write an entry into the scoreboard's folder; the same predictions under the same name replace their older entry.

    ``predictions`` are copied beside it, a file a seed with its TOML, so that anyone can score them again; and with
    them those under other batch statistics, whose scores the entry tells. The TOML gets the ``facts`` that it lacks.

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
        if file.resolve().parent == kept.resolve():  # they are there already
            continue
        copy = kept / f"{place:02}{suffix}"
        others = [(of_other_statistics(file, kind), of_other_statistics(copy, kind)) for kind in _kinds(entry)]
        for source, target in ((file, copy), *others):
            for ending, content in zip((None, ".toml"), read_files(source, facts), strict=True):
                stem = target.name.partition(".")[0]  # of 00.csv.gz, too
                write_bytes(target.with_name(stem + ending) if ending else target, content)
    write_bytes(path, data)
    return path


def _kinds(entry: Entry) -> list[str]:
    """Return under which other batch statistics an entry tells scores."""
    other = entry.scores_of_other_statistics
    return [] if other is UNSET else [kind for kind in _OTHER if getattr(other, kind) is not UNSET]


def predictions_of(folder: Path, name: str) -> list[Path]:
    """Return the files of predictions beside the entry of a name, a file a seed; none if there are none."""
    kept = folder / PREDICTIONS / name
    ends = tuple(f"-{kind}.csv" for kind in _OTHER)
    return [path for path in listing(kept, *SUFFIXES) if not path.name.endswith(ends)] if kept.is_dir() else []


def lacks_other_statistics(entry: Entry, files: Sequence[Path]) -> bool:
    """Return whether an entry tells scores under other batch statistics whose predictions are not among its files."""
    return any(not files or not of_other_statistics(files[0], kind).exists() for kind in _kinds(entry))


def read_entry(path: Path) -> Entry:
    """Return the entry in a file.

    Raises
    ------
    SubmissionError
        If it is no entry: the field that is wrong is named.
    """
    try:
        with opened_file(path) as file:
            data = file.read(entry_file.MAX_BYTES + 1)
    except OSError as error:
        raise SubmissionError(unreadable(path, error, "an entry of the scoreboard")) from error
    return entry_file.read(data, path)


def entries(folder: Path) -> list[Listed]:
    """Return the entries of a scoreboard, best first within a protocol, and which of them nobody can verify.

    Raises
    ------
    SubmissionError
        If the folder is missing, or a file in it is not an entry.
    """
    if not folder.is_dir():
        mend = f"add entries: {shell_line('hpp', 'scoreboard', 'add', 'PREDICTIONS', '--scoreboard', folder)}"
        raise SubmissionError(Fault("no such folder", mend, folder))
    board = [_listed(folder, path) for path in listing(folder, ".json")]
    return sorted(board, key=lambda listed: (listed.entry.protocol.id, listed.entry.scores.mae))


def _listed(folder: Path, path: Path) -> Listed:
    """Return an entry, without those scores that nobody can verify; it is marked if none can be."""
    entry, files = read_entry(path), predictions_of(folder, path.stem)
    if lacks_other_statistics(entry, files):
        entry = replace(entry, scores_of_other_statistics=UNSET)
    if not files:
        return Listed(path.stem, entry, "its predictions are not beside it")
    try:
        theirs = tuple(sha256(file) for file in files) == entry.predictions_sha256
    except OSError as error:
        return Listed(path.stem, entry, f"the predictions beside it cannot be read: {error.strerror}")
    return Listed(path.stem, entry, "" if theirs else "the predictions beside it are not those that it names")


def build(folder: Path) -> Path:
    """Write the pages of a scoreboard into its folder: Markdown, and HTML with a page an entry; return the Markdown."""
    from benchmark.board import site  # its drawings take longer to load than a score takes

    board = entries(folder)
    site.build(folder, board)
    path = folder / PAGE
    write_text(path, page(board))
    return path
