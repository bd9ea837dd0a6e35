import contextlib
import os
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest

from benchmark.upkeep import walk

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the page sends predictions with curl")
def test_the_walk_to_the_board_works(tmp_path):
    """Every command of the page ends as it says, on the smallest miniature and under a protocol of its own."""
    page = (
        (ROOT / "docs/submitting.md")
        .read_text(encoding="utf-8")
        .replace("--scale small", "--scale tiny")
        .replace("miniature/pda@1", "tiny/pda@1")
    )
    page = page.replace("protocols show tiny/pda@1", "protocols show tiny.toml")
    page = page.replace("--protocol tiny/pda@1", "--protocol tiny.toml").replace(" 15 && ", " 5 && ")
    page = re.sub(r"(hpp (?:check|score|compare|scoreboard add) [^&>]*--data DATA)", r"\1 --protocol tiny.toml", page)
    new = 'hpp protocols new tiny.toml --id tiny/pda@1 --title "The smallest miniature" --task pda --data DATA'
    first = "<!-- run lines 16: hpp protocols -->"
    page = page.replace(first, f"<!-- run: {new} -->\n<!-- end -->\n\n{first}")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        page = page.replace("8017", str(free.getsockname()[1]))
    try:
        walked = walk.walk(page, tmp_path, pictures=tmp_path / "pictures" if shutil.which("chromium") else None)
    finally:
        if (tmp_path / "serve.pid").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((tmp_path / "serve.pid").read_text()), signal.SIGTERM)
    for words in (
        "4 faults, 0 suspicions", "0 faults, 0 suspicions; tiny/pda@1, 48 frames", "lower MAE in", '"status":"ok"',
        "2 entries, 0 wrong, 2 scored again", "scored {'mae':",
    ):  # fmt: skip
        assert words in walked, words
    photos = re.findall(r"<!-- page: \S+ \S+ (\S+) -->", page) if shutil.which("chromium") else []
    assert sorted(path.name for path in tmp_path.glob("pictures/*")) == sorted(photos)
    assert all(f"pictures/{name}" in page and (ROOT / "docs/pictures" / name).exists() for name in photos)
