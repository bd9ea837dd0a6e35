"""The command line. Commands only call the library; what takes long to import is imported by those that need it."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark import cli_bench, cli_boxes, cli_data, cli_train
from benchmark.cli_common import FILE, FOLDER, MANIFEST, SEED, SUBSET, Commands
from headposeplus import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hpp")
def main() -> None:
    """Datasets and benchmark for head pose estimation under domain adaptation."""


for command in (
    cli_data.miniature, cli_data.verify, cli_boxes.boxes, cli_data.render_order, cli_data.build_datasets,
    cli_data.inspect, cli_data.convert, cli_data.export, cli_data.subsets,
    cli_train.benchmark, cli_train.methods, cli_train.reproduce, cli_bench.bench,
):  # fmt: skip
    main.add_command(command)


@main.command()
@click.argument("predictions", type=FILE)
@click.option("--data", type=FOLDER, required=True, help="Folder of the built datasets.")
@click.option("--task", type=click.Choice(["da", "pda"]), help="[default: what the TOML beside the predictions says]")
@click.option("--scoreboard", type=FOLDER, help="Add the entry to this scoreboard and build its page.")
@click.option("--selection", "rule", help="Score another epoch of the run: last, source-val, consistency, dev, oracle.")
@SUBSET
@MANIFEST
def score(
    predictions: Path,
    data: Path,
    task: str | None,
    scoreboard: Path | None,
    rule: str | None,
    subset: str | None,
    manifest: Path | None,
) -> None:
    """Score PREDICTIONS, a CSV with a TOML of the same name beside it.

    All frames of the test set are scored, or, with --subset, those of the subset, which the entry then names. With
    --selection, those predictions of a run of hpp benchmark are scored that another rule of selection takes; the rule
    oracle looks at the labels, and its entries say so.

    \b
    Example:
      hpp score RUNS/pda-paper-seed0/padaco/predictions.csv --data DATA --scoreboard scoreboard
    """
    from benchmark import scoreboard as board
    from headposeplus.files import write_json

    entry = board.score(predictions, data, task, subset, manifest, rule)
    click.echo(f"{entry['protocol']['id']}, {entry['protocol']['frames']:,} frames, errors in degrees\n")
    click.echo(board.table([entry], "simple"))
    where = predictions.with_name(f"score-{rule}.json" if rule else "score.json")
    write_json(where, entry)
    click.echo(f"\nentry {where}")
    if scoreboard:
        board.add(scoreboard, entry)
        click.echo(f"page  {board.build(scoreboard)}")


@main.command()
@click.argument("folder", type=FOLDER)
def scoreboard(folder: Path) -> None:
    """Build the page of a scoreboard, a FOLDER of one JSON file an entry, and print it.

    \b
    Example:
      hpp scoreboard scoreboard
    """
    from benchmark import scoreboard as board

    board.build(folder)
    click.echo(board.page(board.entries(folder)))
    click.echo(f"page {folder / board.PAGE}")


@main.command()
@click.argument("out", type=FOLDER)
@SEED
def demo(out: Path, seed: int) -> None:
    """Run everything on a small miniature: write it, build the datasets, train, score, and print the scoreboard.

    \b
    Example:
      hpp demo demo
    """
    from benchmark.demo import run_demo

    run_demo(out, seed)
