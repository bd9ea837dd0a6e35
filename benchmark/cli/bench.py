"""Commands that measure how fast the toolkit is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.common import FILE, FOLDER, SEED, WIDE, Real, say
from benchmark.cli.groups import HelpfulGroup

if TYPE_CHECKING:
    from msgspec import Struct

DATA = click.option("--data", type=FOLDER, required=True, help="Folder of the built datasets.")
JSON = click.option("--json", "json_file", type=FILE, help="Write the figures here.")
SECONDS = click.option(
    "--seconds",
    type=Real(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Time of each measurement.",
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


def _keep(figures: Struct, json_file: Path | None) -> None:
    from benchmark.studies.records import write_record

    if json_file:
        write_record(json_file, figures)


@click.group(cls=HelpfulGroup)
def bench() -> None:
    """Measure how fast the toolkit is.

    To train a method: hpp benchmark.
    """


@bench.command()
@click.argument("folder", type=FOLDER)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Rounds of all measurements.")
@JSON
@WIDE
@SEED
def build(folder: Path, repeats: int, json_file: Path | None, seed: int) -> None:
    """Measure how fast datasets are built.

    The build is compared with the bare decoding and encoding of the same files, on one core and on all. A miniature
    whose images have the real sizes is written to FOLDER and kept for the next time. On two cores that takes six
    minutes, and three more each time.

    \b
    Example:
      hpp bench build BENCH
    """
    from benchmark.upkeep import bench_build as library

    figures = library.bench_build(folder, repeats, seed)
    click.echo(library.describe_build(figures))
    _keep(figures, json_file)


@bench.command()
@DATA
@click.option("--raw", type=FOLDER, required=True, help="Folder of the raw copies that they were built from.")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    default=("synhead++", "biwi+"),
    show_default=True,
    help="Name of a dataset in DATA; more by more such options.",
)
@click.option("--batch", type=click.IntRange(1), default=200, show_default=True, help="Images a batch.")
@SECONDS
@DEVICE
@JSON
@WIDE
@SEED
def loader(json_file: Path | None, device: str, **options: Any) -> None:
    """Measure how fast batches come from each store.

    They are compared with usual loaders, which read one file an image: a raw frame, of which they decode all, or a
    prepared crop.

    \b
    Example:
      hpp bench loader --data bench/data --raw bench/raw --seconds 1
    """
    from benchmark.training.job import find_device
    from benchmark.upkeep import bench_loader as library

    figures = library.bench_loader(**options, device=str(find_device(device)))
    click.echo(library.describe_loader(figures))
    _keep(figures, json_file)


@bench.command()
@DATA
@click.option(
    "--task",
    type=click.Choice(["da", "pda"]),
    default="pda",
    show_default=True,
    help="da: SynBiwi+ to Biwi+; pda: SynHead++ to Biwi+.",
)
@click.option("--preset", default="paper", show_default=True, help="paper, miniature, or trial.")
@click.option("--batch", type=click.IntRange(2), help="Images per domain and step.  [default: the preset's]")
@SECONDS
@DEVICE
@click.option(
    "--store",
    type=click.Choice(["auto", "device", "host", "stream"]),
    default="auto",
    show_default=True,
    help="Where the crops are kept: decoded on the device or in memory, or encoded on disk.",
)
@JSON
@WIDE
@SEED
def train(json_file: Path | None, **options: Any) -> None:
    """Measure how fast both stages of training are.

    They are compared with the same steps on one batch that is on the device already. The seconds that the sampling
    weights take at the size of the real datasets are measured, too.

    \b
    Examples:
      hpp bench train --data DATA
      hpp bench train --data DATA --preset miniature --device cpu \\
        --json train.json
    """
    from benchmark.upkeep import bench_train as library

    figures = library.bench_train(**options)
    click.echo(library.describe_train(figures))
    _keep(figures, json_file)


@bench.command()
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Runs of each measurement.")
@JSON
@WIDE
@SEED
def score(repeats: int, json_file: Path | None, seed: int) -> None:
    """Measure how long predictions take to check and score.

    They are of all frames of the real Biwi, on one core.

    \b
    Example:
      hpp bench score
    """
    from benchmark.upkeep import bench_score as library

    figures = library.bench_score(repeats, seed)
    say(library.describe_score(figures))
    _keep(figures, json_file)


@bench.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each command.")
@JSON
@WIDE
def start(rounds: int, json_file: Path | None) -> None:
    """Measure how long commands take to start.

    They list things, or check and score a few predictions.

    \b
    Example:
      hpp bench start
    """
    from benchmark.upkeep import bench_start as library

    figures = library.bench_start(rounds=rounds)
    click.echo(library.describe_start(figures))
    _keep(figures, json_file)


@bench.command()
@SECONDS
@JSON
@WIDE
def step(seconds: float, json_file: Path | None) -> None:
    """Measure what helps a step of training on a CPU.

    That is to leave out the target's gradients while lambda is 0, bfloat16, and threads that sleep beside another
    program, each against the way without it.

    \b
    Example:
      hpp bench step
    """
    from benchmark.upkeep import bench_step as library

    figures = library.bench_step(seconds)
    click.echo(library.describe_step(figures))
    _keep(figures, json_file)


@bench.command()
@click.option(
    "--submissions",
    type=click.IntRange(1_000),
    default=100_000,
    show_default=True,
    help="Of the larger database; the smaller one has a tenth of them.",
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of each measurement.")
@click.option(
    "--before", type=FOLDER, help="Checkout of a release whose tables have version 4, to be measured beside this one."
)
@JSON
@WIDE
@SEED
def service(submissions: int, rounds: int, before: Path | None, json_file: Path | None, seed: int) -> None:
    """Measure what a request to hpp serve asks of its database.

    On SQLite and on a PostgreSQL server that is started for it, in folders that are gone afterwards.

    \b
    Examples:
      hpp bench service
      hpp bench service --submissions 10000 --json service.json
    """
    from benchmark.cli.serve import check_installed

    check_installed()
    from benchmark.upkeep import bench_service as library

    figures = library.bench_service(submissions, rounds, before, seed)
    click.echo(library.describe_service(figures))
    _keep(figures, json_file)


@bench.command()
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Runs of each measurement.")
@click.option(
    "--share",
    type=Real(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the real size that stands for it, to try it.",
)
@JSON
@WIDE
@SEED
def scale(repeats: int, share: float, json_file: Path | None, seed: int) -> None:
    """Measure how time and memory grow with data.

    That is at the real size, half a million images, and at a tenth of it. The data are synthetic, half a gigabyte, and
    lie in a temporary folder, which is removed.

    \b
    Example:
      hpp bench scale
    """
    from benchmark.upkeep import bench_scale as library

    figures = library.bench_scale(repeats, seed, share)
    click.echo(library.describe_scale(figures))
    _keep(figures, json_file)
