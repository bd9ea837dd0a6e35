"""What a command asks of its surroundings before it begins."""

from __future__ import annotations

import codecs
import io
import os
import sys


def make_ready(alone: bool) -> None:
    """Let no text fail to be printed, no setting of a notebook decide how pictures are drawn, and no thread spin long.

    ``alone`` says that the process is the command's: in another one, its own pictures shall still be shown.
    """
    for stream in (sys.stdout, sys.stderr):
        # A notebook has streams of its own, and a program without a console has none.
        if isinstance(stream, io.TextIOWrapper):
            # Click takes ASCII for a mistake and writes UTF-8, with question marks for a file's name that is no text.
            encoding = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else None
            # What the encoding lacks is written as its number.
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    # Matplotlib refuses to be imported where it does not have the backend; the processes to come inherit this one.
    if alone:
        os.environ["MPLBACKEND"] = "agg"
        # GNU's OpenMP, with which torch computes on Linux, reads this once, when torch is imported. Its threads wait
        # for one another in a loop that keeps their cores: beside another program, training stands still meanwhile.
        # They shall go to sleep sooner, unless the user says how they wait.
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", "10000")
