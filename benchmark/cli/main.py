"""The command line. Commands only call the library; what takes long to import is imported by those that need it."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.cli import bench, boxes, data, predict, score, serve, train
from benchmark.cli.board import scoreboard
from benchmark.cli.common import FOLDER, SEED, Commands
from benchmark.cli.protocols import protocols, submission
from headposeplus import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hpp")
def main() -> None:
    """Datasets and benchmark for head pose estimation under domain adaptation."""


for command in (
    data.miniature,
    data.render,
    data.verify,
    boxes.boxes,
    data.render_order,
    data.build_datasets,
    data.inspect,
    data.convert,
    data.export,
    data.subsets,
    train.benchmark,
    train.methods,
    train.presets,
    train.reproduce,
    predict.predict,
    predict.export_onnx,
    protocols,
    submission,
    score.check,
    score.score,
    score.compare,
    scoreboard,
    serve.serve,
    bench.bench,
):
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
    from benchmark.studies.demo import run_demo

    run_demo(out, seed, click.echo)
