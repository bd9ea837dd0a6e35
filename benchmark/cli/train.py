"""Commands that train: a method, or the whole table of a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from benchmark.cli.common import (
    FOLDER,
    JOBS,
    PDF,
    RAW_STILLS,
    SEED,
    SEEDS,
    WIDE,
    Real,
    listing,
    say,
    say_listing,
    tell,
    typed_command,
)
from headposeplus.faults import Fault, shell_line

TASK = click.option(
    "--task",
    type=click.Choice(["da", "pda", *(f"pda-{name}" for name in RAW_STILLS)]),
    default="pda",
    show_default=True,
    help="da: SynBiwi+ to Biwi+; pda: SynHead++ to Biwi+; pda-aflw2000: SynHead++ to AFLW2000-3D.",
)
_TRAINING = (
    click.option(
        "--preset",
        default="paper",
        show_default=True,
        help="paper, miniature, trial (seconds), or a file such as my.toml; hpp presets shows their values. Without "
        "--data, hpp reproduce takes miniature.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(1, 10_000),
        help="Of stage 1; those of stage 2 change in proportion, to one at least of each part.  "
        "[default: the preset's]",
    ),
    click.option(
        "--rate",
        type=Real(0, 1e3, min_open=True),
        help="Learning rate of stage 1; that of stage 2 changes in proportion.  [default: the preset's]",
    ),
    click.option("--weights", help="imagenet, none, or a file of ResNet18 weights.  [default: the preset's]"),
    click.option(
        "--batch",
        type=click.IntRange(2, 1_000_000),
        help="Images per domain and step, over all processes.  [default: the preset's]",
    ),
    click.option("--neighbours", type=click.IntRange(1), default=10, show_default=True, help="N of PADACO."),
    click.option(
        "--metric",
        type=click.Choice(["degrees", "normalised"]),
        default="degrees",
        show_default=True,
        help="In what PADACO measures distances: degrees, or each angle's standard deviation over the source.",
    ),
    click.option(
        "--threshold",
        type=Real(0, 1e6, min_open=True),
        default=3.5,
        show_default=True,
        help="t of PADA-like, in degrees squared.",
    ),
    click.option(
        "--lambda",
        "highest_lambda",
        type=Real(0, 1e3),
        help="The highest lambda.  [default: the method's, or the preset's]",
    ),
    click.option(
        "--discriminator",
        type=click.Choice(["joint", "separate"]),
        default="joint",
        show_default=True,
        help="Whether source and target pass the discriminator's batch normalisation together or one after the other.",
    ),
    click.option(
        "--augment",
        type=click.Choice(["none", "photometric", "boxes", "all"]),
        default="none",
        show_default=True,
        help="Change source images that are trained on: their light and camera, their boxes, or both.",
    ),
    click.option(
        "--selection",
        default="last",
        show_default=True,
        help="The epoch that is submitted: last (official), source-val, consistency or dev.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--store",
        type=click.Choice(["auto", "device", "host", "stream"]),
        default="auto",
        show_default=True,
        help="Where the crops are kept: decoded on the device, decoded in memory, or encoded on the disk.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="Of the network's arithmetic; auto: bfloat16 on a GPU.",
    ),
    click.option("--compile", "compiled", is_flag=True, help="Compile the network with torch.compile."),
    click.option("--clip", type=Real(0, min_open=True), help="Limit the norm of a step's gradient."),
    click.option("--deterministic", is_flag=True, help="Only deterministic algorithms, also on a GPU."),
    click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard, too."),
    click.option(
        "--threads",
        type=click.IntRange(1),
        help="CPU threads of a run.  [default: the cores at hand, or 1 where runs go side by side]",
    ),
)


def _training(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_TRAINING):
        command = option(command)
    return command


@click.command()
@click.option("--method", required=True, help="A name that hpp methods lists, or package.module:Class of your own.")
@TASK
@click.option("--data", type=FOLDER, required=True, help="Folder of the built datasets.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the runs.")
@_training
@SEED
@SEEDS
def benchmark(
    method: str, task: str, data: Path, out: Path, preset: str, seed: int, seeds: tuple[int, ...], **options: Any
) -> None:
    """Train a method, predict the target and score that.

    Training reads no label of the target. Scoring begins when all training has ended; where --data has no labels of the
    target, it says what is lacking. A finished run is not trained again, and one that was stopped goes on where it was.
    On several GPUs or machines: torchrun --nproc-per-node N $(which hpp) benchmark ... Each process then has its share
    of a batch, and batch statistics, covariances, Gram matrices and transport plans are those of a share.

    \b
    Examples:
      hpp benchmark --method padaco --task pda --data DATA --out RUNS
      hpp benchmark --method my_package.my_module:MyMethod --data DATA \\
        --out RUNS --seeds 0 1 2
    """
    from benchmark.loaders.launch import ranks_here
    from benchmark.scoring.finished import describe_finished, score_finished
    from benchmark.training.job import find_device, make_job
    from benchmark.training.ranks import connected
    from benchmark.training.run import run

    if seeds and seed:
        raise click.UsageError("give --seed or --seeds, not both")
    ranks, typed, predictions = ranks_here(), typed_command(), []
    # Connected once for all seeds: the store of torchrun would give the next one the addresses of the last.
    with connected(ranks, find_device(options["device"], ranks)):
        for number in seeds or (seed,):
            predictions.append(run(make_job(method, task, data, out, preset, number, options, typed)))
            if ranks.first:
                click.echo(f"predictions {predictions[-1]}")
    # The labels of the target are read here, once nothing is left to be trained, and by one process.
    found = {path: score_finished(path, data) for path in predictions if ranks.first}
    for path, entry in found.items():
        tell(describe_finished(path, entry))
    if found and not any(isinstance(entry, Fault) for entry in found.values()):
        more = "all figures" if len(found) == 1 else "the seeds as one entry"
        click.echo(f"{more}: {shell_line('hpp', 'score', *found, '--data', data)}")


@click.command()
@click.argument("name", required=False)
@listing
def presets(name: str | None) -> None:
    """Show the presets of training, or NAME as a file to change.

    \b
    Examples:
      hpp presets
      hpp presets paper > my.toml
    """
    from benchmark.training import presets as library

    if name:
        preset = library.find_preset(name)
        say_listing(library.to_toml(preset), preset._asdict())
    else:
        say_listing(library.table(), [preset._asdict() for preset in library.PRESETS.values()])


@click.command()
@listing
def methods() -> None:
    """List the methods.

    \b
    Example:
      hpp methods
    """
    from baselines.listed import METHODS
    from headposeplus import tables

    rows = [
        {
            "method": method.name,
            "second stage": "yes" if method.trains else "no",
            "target images": "yes" if method.uses_target else "no",
            "what it does": method.summary,
        }
        for method in METHODS
    ]
    values = [
        {"name": one.name, "second_stage": one.trains, "target_images": one.uses_target, "summary": one.summary}
        for one in METHODS
    ]
    say_listing(tables.table(rows), values)


@click.command()
@TASK
@click.option("--methods", "names", help="Names, separated by commas.  [default: all that hpp methods lists]")
@click.option(
    "--data",
    type=FOLDER,
    help="Folder of the built datasets, which the preset paper needs.  [default: a miniature for each seed]",
)
@click.option("--out", type=FOLDER, default=Path("reproduce"), show_default=True, help="Folder of the runs.")
@click.option("--results", type=FOLDER, help="Folder of the table and the pictures.  [default: OUT/results]")
@click.option(
    "--scale",
    type=click.Choice(["tiny", "small", "study", "full"]),
    default="study",
    show_default=True,
    help="Of the miniatures.",
)
@PDF
@_training
@JOBS
@SEEDS
@WIDE
@click.pass_context
def reproduce(
    ctx: click.Context, names: str | None, seeds: tuple[int, ...], data: Path | None, preset: str, **options: Any
) -> None:
    """Train and score all methods of a task: the table.

    Each is trained with several seeds (0, 1 and 2); the table and its pictures are written. Each figure is a mean over
    the seeds with its standard deviation (n - 1), beside the paper's where the data are the paper's. Without --data,
    the preset is miniature, which writes and builds a miniature for each seed: heads, light and cameras of its own.
    Finished runs are kept, so a command that was stopped goes on where it was.

    \b
    Examples:
      hpp reproduce
      hpp reproduce --task pda --data DATA --seeds 0 1 2
    """
    from benchmark.studies.page import describe
    from benchmark.studies.reproduce import reproduce as library

    if data is None and ctx.get_parameter_source("preset") is ParameterSource.DEFAULT:
        preset = "miniature"
        say("no --data: the preset is miniature, and each seed has a miniature of its own")
    methods = names.split(",") if names else None
    page = library(methods=methods, seeds=list(seeds or (0, 1, 2)), data=data, preset=preset, **options)
    click.echo(f"\n{describe(page.parent)}\n\npage    {page}\nresults {page.parent}")
