"""Which pages of a scoreboard stand as they would be drawn now, so that only the others are: plots take their time.

A file beside the pages says of each what it was made of and what it holds, as one hash: of the entry, of the toolkit's
own files that draw it, and of the page. A page that was cut off or changed has another.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import msgspec

import headposeplus
from benchmark.scoring import entry as scoring
from benchmark.scoring.entry import Listed
from headposeplus.files import below, read_file, write_text

RECORD = ".drawn"  # no .json: those are entries
PAGES = Path(__file__).with_name("pages")
# What draws a page: more than its own modules, since it calls those of scoring and of drawing.
_SOURCES = tuple(Path(module).parent for module in (__file__, scoring.__file__, headposeplus.__file__))
_SUFFIXES = (".py", ".html", ".css", ".js", ".csv", ".toml")


@cache
def toolkit_sha256() -> bytes:
    """Return a hash of all files of the toolkit that a page may come from."""
    digest = hashlib.sha256(headposeplus.__version__.encode())
    for folder in (*_SOURCES, PAGES):
        for path in below(folder, *_SUFFIXES):
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def seal(listed: Listed, page: bytes) -> str:
    """Return what the record says of a page that the toolkit draws of an entry."""
    made_of = repr((listed.entry, listed.unverified)).encode()  # JSON has no half of a surrogate pair
    parts = (toolkit_sha256(), hashlib.sha256(made_of).digest(), hashlib.sha256(page).digest())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def is_current(path: Path, listed: Listed, said: str) -> bool:
    """Return whether the page of an entry is the one of which the record ``said`` this; False if it cannot be read."""
    try:
        return seal(listed, read_file(path)) == said
    except OSError:
        return False


def read_record(folder: Path) -> dict[str, str]:
    """Return the seals of a scoreboard's pages by key; none if no record can be read: all are drawn again then."""
    try:
        return msgspec.json.decode(read_file(folder / RECORD), type=dict[str, str])
    except (OSError, ValueError):
        return {}


def write_record(folder: Path, seals: dict[str, str]) -> None:
    """Write the seals of a scoreboard's pages; raises HeadposeError if that cannot be done."""
    write_text(folder / RECORD, msgspec.json.format(msgspec.json.encode(seals), indent=0).decode() + "\n")
