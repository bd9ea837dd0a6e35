"""The command line. Commands only call the library; what takes long to import is imported by those that need it."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.cli import bench, boxes, data, predict, score, serve, train
from benchmark.cli.board import scoreboard
from benchmark.cli.common import FOLDER, SEED, Commands
from benchmark.cli.protocols import protocols, submission
from headposeplus import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hpp")
def main() -> None:
    """Datasets and benchmark for head pose estimation under domain adaptation."""


@click.command()
@click.argument("out", type=FOLDER)
@SEED
def demo(out: Path, seed: int) -> None:
    """Run everything once on a small miniature.

    It is written, the datasets are built, methods trained and scored, and a scoreboard is made of them. Parts that
    exist are kept.

    \b
    Example:
      hpp demo demo
    """
    from benchmark.studies.demo import run_demo

    run_demo(out, seed, click.echo)


main.add_section("Try it", demo)
main.add_section(
    "Data",
    data.miniature,
    data.render,
    data.verify,
    data.render_order,
    boxes.boxes,
    data.build_datasets,
    data.inspect,
    data.convert,
    data.export,
    data.subsets,
)
main.add_section("Training", train.methods, train.presets, train.benchmark, train.reproduce)
main.add_section("Use", predict.predict, predict.export_onnx)
main.add_section("Scoring", protocols, submission, score.check, score.score, score.compare)
main.add_section("Board and service", scoreboard, serve.serve)
main.add_section("Speed", bench.bench)
