"""The command line. Commands only call the library; what takes long to import is imported by those that need it."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark import cli_bench, cli_boxes, cli_data, cli_score, cli_serve, cli_train
from benchmark.cli_common import FOLDER, SEED, Commands
from headposeplus import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hpp")
def main() -> None:
    """Datasets and benchmark for head pose estimation under domain adaptation."""


for command in (
    cli_data.miniature, cli_data.verify, cli_boxes.boxes, cli_data.render_order, cli_data.build_datasets,
    cli_data.inspect, cli_data.convert, cli_data.export, cli_data.subsets,
    cli_train.benchmark, cli_train.methods, cli_train.reproduce,
    cli_score.protocols, cli_score.submission, cli_score.check, cli_score.score, cli_score.compare,
    cli_score.scoreboard, cli_serve.serve, cli_bench.bench,
):  # fmt: skip
    main.add_command(command)


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
