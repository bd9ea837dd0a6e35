"""What a command asks of its surroundings before it begins."""

from __future__ import annotations

import io
import os
import sys


def make_ready() -> None:
    """Let no text fail to be printed, and no setting of a notebook decide how pictures are drawn."""
    for stream in (sys.stdout, sys.stderr):
        # A notebook has streams of its own, and a program without a console has none.
        if isinstance(stream, io.TextIOWrapper):
            # What the encoding lacks, or a file's name that is no text, is written as its number.
            stream.reconfigure(errors="backslashreplace")
    # Matplotlib refuses to be imported where it does not have the backend; the processes to come inherit this one.
    os.environ["MPLBACKEND"] = "agg"
