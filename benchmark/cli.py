"""The command line. Commands only call the library; what takes long to import is imported by those that need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmark import cli_boxes, cli_data
from benchmark.cli_common import FILE, FOLDER, MANIFEST, SEED, SUBSET, Commands, typed_command
from headposeplus import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hpp")
def main() -> None:
    """Datasets and benchmark for head pose estimation under domain adaptation."""


for command in (
    cli_data.miniature, cli_data.verify, cli_boxes.boxes, cli_data.render_order, cli_data.build_datasets,
    cli_data.inspect, cli_data.convert, cli_data.export, cli_data.subsets,
):  # fmt: skip
    main.add_command(command)


@main.command()
@click.option("--method", required=True, help="source-only, dann, pada-like, padaco, control-uniform, control-padaco.")
@click.option("--task", type=click.Choice(["da", "pda"]), default="pda", show_default=True,
              help="da: SynBiwi+ to Biwi+; pda: SynHead++ to Biwi+.")  # fmt: skip
@click.option("--data", type=FOLDER, required=True, help="Folder of the built datasets.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the runs.")
@click.option("--preset", default="paper", show_default=True, help="paper or miniature.")
@click.option("--weights", help="imagenet, none, or a file of ResNet18 weights.  [default: the preset's]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--batch", type=click.IntRange(2), help="Images a domain and step.  [default: the preset's]")
@click.option("--neighbours", type=click.IntRange(1), default=10, show_default=True, help="N of PADACO.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1e6, min_open=True),
    default=3.5,
    show_default=True,
    help="t of PADA-like, in degrees squared.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: the cores at hand]")
@SEED
def benchmark(**options: Any) -> None:
    """Train a method and predict Biwi+; its labels are not read.

    A finished run is not trained again, and one that was stopped goes on where it was.

    \b
    Example:
      hpp benchmark --method padaco --task pda --data DATA --out RUNS
    """
    from benchmark.train import run_from_options

    predictions = run_from_options(command=typed_command(), **options)
    click.echo(f"predictions {predictions}\nscore them: hpp score {predictions} --data {options['data']}")


@main.command()
@click.argument("predictions", type=FILE)
@click.option("--data", type=FOLDER, required=True, help="Folder of the built datasets.")
@click.option("--task", type=click.Choice(["da", "pda"]), help="[default: what the TOML beside the predictions says]")
@click.option("--scoreboard", type=FOLDER, help="Add the entry to this scoreboard and build its page.")
@SUBSET
@MANIFEST
def score(
    predictions: Path, data: Path, task: str | None, scoreboard: Path | None, subset: str | None, manifest: Path | None
) -> None:
    """Score PREDICTIONS, a CSV with a TOML of the same name beside it.

    All frames of the test set are scored, or, with --subset, those of the subset, which the entry then names.

    \b
    Example:
      hpp score RUNS/pda-paper-seed0/padaco/predictions.csv --data DATA --scoreboard scoreboard
    """
    from benchmark import scoreboard as board
    from headposeplus.files import write_json

    entry = board.score(predictions, data, task, subset, manifest)
    click.echo(f"{entry['protocol']['id']}, {entry['protocol']['frames']:,} frames, errors in degrees\n")
    click.echo(board.table([entry], "simple"))
    where = predictions.with_name("score.json")
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


@main.group()
def bench() -> None:
    """Measure how fast the toolkit is."""


@bench.command("build")
@click.argument("folder", type=FOLDER)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Runs of each measurement.")
@click.option("--json", "json_file", type=FILE, help="Write the figures here.")
@SEED
def bench_build(folder: Path, repeats: int, json_file: Path | None, seed: int) -> None:
    """Measure the build beside the bare decoding and encoding of the same files, on one core and on all.

    A miniature whose images have the real sizes is written to FOLDER and kept for the next time.

    \b
    Example:
      hpp bench build BENCH
    """
    from benchmark import bench as library
    from headposeplus.files import write_json

    record = library.bench_build(folder, repeats, seed)
    click.echo(library.describe_build(record))
    if json_file:
        write_json(json_file, record)


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
