"""What a command asks of its surroundings before it begins."""

from __future__ import annotations

import codecs
import io
import os
import sys


def make_ready(alone: bool) -> None:
    """Let no text fail to be printed, and no setting of a notebook decide how pictures are drawn.

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
