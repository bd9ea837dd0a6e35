"""The commands of the scoreboard: add, build, verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.common import (
    BOOTSTRAP_SEED,
    FAULTS,
    FILE,
    FOLDER,
    MANIFEST,
    PROTOCOL,
    RESAMPLES,
    SUBSET,
    TASK,
    facts_options,
    listing,
    say,
    say_board,
    say_listing,
    say_protocol,
    say_suspicions,
    tell,
    truth_options,
)
from benchmark.cli.groups import HelpfulGroup
from headposeplus.faults import plural

if TYPE_CHECKING:
    from benchmark.scoring.label_files import LabelsAt
    from benchmark.scoring.submission import About


@click.group(cls=HelpfulGroup, default="build", subcommand_metavar="FOLDER | COMMAND [ARGS]...")
def scoreboard() -> None:
    """Keep a scoreboard: print it, add to it, check it.

    It is a folder of one JSON file an entry, its predictions, and its pages.

    \b
    Example:
      hpp scoreboard FOLDER
    """


@scoreboard.command()
@click.argument("predictions", type=FILE, nargs=-1, required=True)
@click.option("--scoreboard", "folder", type=FOLDER, default="scoreboard", show_default=True, help="Its folder.")
@truth_options(needed=True)
@PROTOCOL
@TASK
@MANIFEST
@SUBSET
@RESAMPLES
@BOOTSTRAP_SEED
@facts_options
def add(
    predictions: tuple[Path, ...],
    folder: Path,
    truth: LabelsAt,
    manifest: Path | None,
    facts: About,
    **options: Any,
) -> None:
    """Score predictions and add them to a scoreboard.

    Several files of PREDICTIONS are the seeds of one method.

    What the TOML beside them does not say, options do; the board keeps both in one.

    \b
    Example:
      hpp scoreboard add predictions.csv --protocol biwi+/cross@1 \\
        --labels Biwi_plus.npz
    """
    from benchmark.board import entries as board
    from benchmark.scoring import score as scoring

    scored = scoring.score(list(predictions), truth, manifest_file=manifest, facts=facts, **options)
    entry = scored.entry
    say_protocol(entry, scored.found)
    say(f"{entry.name}: MAE {entry.scores.mae:.2f} degrees")
    say_suspicions(entry, facts)
    say_board(board.add(folder, entry, predictions, facts), board.build(folder))


@scoreboard.command()
@click.argument("folder", type=FOLDER)
@listing
def build(folder: Path) -> None:
    """Build the pages of a scoreboard, and print it.

    The pages are Markdown and HTML; hpp scoreboard FOLDER does so, too.

    \b
    Example:
      hpp scoreboard build scoreboard
    """
    from benchmark.board import entries as board
    from benchmark.board.screen import describe_board
    from benchmark.board.site import INDEX

    path, listed = board.build(folder), board.entries(folder)
    places = f"page {path}\nsite {folder / INDEX}"
    say_listing(f"{describe_board(listed)}\n\n{places}", [one.entry for one in listed])


@scoreboard.command()
@click.argument("folder", type=FOLDER)
@truth_options(needed=False, alone=True)
@click.option("--strict", is_flag=True, help="Fail if any entry could not be scored again.")
def verify(folder: Path, truth: LabelsAt | None, strict: bool) -> None:
    """Check every entry of a scoreboard.

    Its predictions are scored again where the labels are at hand. The status is 3 if any entry is not what it says, and
    with --strict also if any was not scored again.

    \b
    Example:
      hpp scoreboard verify scoreboard --labels Biwi_plus.npz
    """
    from benchmark.board.verify import AGAIN
    from benchmark.board.verify import verify as verify_board

    entries = verify_board(folder, truth)
    for entry in entries:
        state = "wrong" if entry.faults else "right" if entry.scored == AGAIN else "consistent, not scored again"
        click.echo(f"{entry.path.name}: {state}{f': {entry.scored}' if entry.scored not in ('', AGAIN) else ''}")
        for fault in entry.faults:
            tell(f"  {fault}")
    wrong, again = sum(bool(entry.faults) for entry in entries), sum(entry.scored == AGAIN for entry in entries)
    click.echo(f"{plural(len(entries), 'entry', 'entries')}, {wrong} wrong, {again} scored again")
    if wrong or (strict and again < len(entries)):
        sys.exit(FAULTS)


@scoreboard.command()
def schema() -> None:
    """Print the JSON Schema of an entry's file.

    \b
    Example:
      hpp scoreboard schema
    """
    from benchmark.scoring.entry import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
