"""What the commands share: options, and errors as one line."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from headposeplus.errors import HeadposeError, SubmissionError

FAULTS = 3  # exit status: done, but some raw files are damaged, or some files are not as they should be

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
JOBS = click.option("--jobs", type=click.IntRange(1), default=None, help="Processes.  [default: the cores at hand]")
SEED = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all random numbers."
)
MANIFEST = click.option(
    "--manifest", type=FILE, help="What a full raw copy holds.  [default: the real datasets' manifest]"
)
BIWI = click.option("--biwi", type=FOLDER, help="Raw Biwi: the folder with the sequences, or one above it.")
NEEDED_BIWI = click.option(
    "--biwi", type=FOLDER, required=True, help="Raw Biwi: the folder with the sequences, or one above it."
)
SYNHEAD = click.option("--synhead", type=FOLDER, help="Raw SynHead: the folder synhead2_release, or one above it.")
OUT_FILE = click.option("--out", type=FILE, required=True, help="The file to write.")
SUBSET = click.option("--subset", help="A named subset (hpp subsets lists them), or a file with a frame a line.")

SEEDS = click.option(
    "--seeds", type=click.IntRange(0, 2**32 - 1), multiple=True, help="Several seeds, one run each: --seeds 0 1 2."
)

DATA = click.option("--data", type=FOLDER, help="Folder of the built datasets, whose Biwi+ has the labels.")
LABELS = click.option(
    "--labels", type=click.Path(path_type=Path), help="Biwi_plus.npz, or a CSV with id, pitch, yaw, roll, subject."
)
PROTOCOL = click.option("--protocol", help="Id or file of the protocol.  [default: what the TOML beside FILE says]")
RESAMPLES = click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=2000,
    show_default=True,
    help="Of the bootstrap over subjects.",
)
BOOTSTRAP_SEED = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the bootstrap."
)
JSON = click.option("--json", "json_file", type=FILE, help="Write what is found here, as JSON.")
TASK = click.option(
    "--task", type=click.Choice(["da", "pda", "cross"]), help="Without a protocol: that of this task on all frames."
)


class Commands(click.Group):
    """Shows what a user can mend as one line, without a traceback; ``--seeds`` takes several values."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let ``--seeds 0 1 2`` stand for ``--seeds 0 --seeds 1 --seeds 2``."""
        spread: list[str] = []
        for word in args:
            if word.isdecimal() and spread[-2:-1] == ["--seeds"]:
                spread.append("--seeds")
            spread.append(word)
        return super().parse_args(ctx, spread)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; raise what a user can mend as a ClickException."""
        try:
            return super().invoke(ctx)
        except HeadposeError as error:
            rank = os.environ.get("RANK", "0")  # of several processes; it may be the only one that has the error
            raise click.ClickException(f"process {rank}: " * (rank != "0") + _typed(error)) from error
        except MemoryError as error:
            raise click.ClickException("out of memory; lower --jobs or --batch") from error
        except OSError as error:
            if isinstance(error, BrokenPipeError) or error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error


def _typed(error: HeadposeError) -> str:
    """Return an error's text as one line; a parameter between backticks becomes the flag that a user types."""
    return re.sub("`([a-z_]+)`", lambda match: "--" + match[1].replace("_", "-"), " ".join(str(error).split()))


def typed_command() -> str:
    """Return the command line as it was typed."""
    return shlex.join(["hpp", *sys.argv[1:]])


def _labels(data: Path | None, labels: Path | None) -> Path:
    if (data is None) == (labels is None):
        raise SubmissionError("give the labels: either --data FOLDER of built datasets, or --labels Biwi_plus.npz")
    return data or labels  # type: ignore[return-value]


def _say_suspicions(entry: dict[str, Any]) -> None:
    for suspicion in entry["suspicions"]:
        click.echo(f"suspicion: {suspicion}")


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _say_protocol(entry: dict[str, Any]) -> None:
    protocol = entry["protocol"]
    click.echo(
        f"{protocol['id']}, {protocol['frames']:,} frames, convention {protocol['convention']}, "
        f"{protocol['camera']} camera"
    )
