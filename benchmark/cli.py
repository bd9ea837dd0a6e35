"""The command line. Commands only call the library; what takes long to import is imported by those that need it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from headposeplus import __version__
from headposeplus.errors import HeadposeError

LEFT_OUT = 3  # exit status of a build that is complete but for damaged raw files

_folder = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False)
_jobs = click.option("--jobs", type=click.IntRange(1), default=None, help="Processes.  [default: the cores at hand]")
_seed = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all random numbers."
)


class _Commands(click.Group):
    """Shows what a user can mend as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HeadposeError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except MemoryError as error:
            raise click.ClickException("out of memory; lower --jobs or --batch") from error
        except OSError as error:
            if isinstance(error, BrokenPipeError) or error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error


def _command() -> str:
    return shlex.join(["hpp", *sys.argv[1:]])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hpp")
def main() -> None:
    """Datasets and benchmark for head pose estimation under domain adaptation."""


@main.command()
@click.argument("out", type=_folder)
@click.option("--scale", type=click.Choice(["tiny", "small", "full"]), default="small", show_default=True,
              help="How many images, and how large.")  # fmt: skip
@_seed
@_jobs
def miniature(out: Path, scale: str, seed: int, jobs: int | None) -> None:
    """Write a procedural raw Biwi and SynHead to OUT/hpdb and OUT/synhead2_release.

    Folders, names and formats are those of the real datasets, so that everything can be tried without them.
    Only --scale full has the real sizes of the images. A run that was stopped goes on where it was.

    \b
    Example:
      hpp miniature RAW --scale small
    """
    from headposeplus.files import cores
    from headposeplus.miniature.write import write_miniature

    write_miniature(out, scale, seed, jobs or cores())
    click.echo(
        f"raw Biwi    {out / 'hpdb'}\nraw SynHead {out / 'synhead2_release'}\nmanifest    {out / 'data_manifest.csv'}"
    )


@main.command()
@click.option("--biwi", type=_folder, help="Raw Biwi: the folder with the sequences, or one above it.")
@click.option("--synhead", type=_folder, help="Raw SynHead: the folder synhead2_release, or one above it.")
@click.option("--boxes", type=_file, help="Face boxes of Biwi: Biwi_plus.npz, or a CSV of id,x,y,width,height.")
@click.option("--out", type=_folder, required=True, help="Folder of the datasets.")
@click.option("--size", type=click.IntRange(8, 1024), default=224, show_default=True, help="Pixels a side of a crop.")
@click.option("--render-order", help="SynHead's order of axes, such as xyz+++.  [default: inferred from the images]")
@click.option("--visible-margin", type=click.FloatRange(-1, 1), default=0.1, show_default=True,
              help="Keep a SynHead frame if the cosine from face to camera is above.")  # fmt: skip
@click.option("--lossless", is_flag=True, help="Store SynHead's crops as PNG, not JPEG.")
@click.option("--strict", is_flag=True, help="Stop at the first damaged file.")
@click.option("--manifest", type=_file, help="What a full raw copy holds.  [default: the real datasets' manifest]")
@_seed
@_jobs
@click.pass_context
def build_datasets(ctx: click.Context, **options: Any) -> None:
    """Build Biwi+, SynHead+, SynBiwi+ and SynHead++ from raw Biwi and SynHead.

    With only one of the two, what it allows is built. A build that was stopped goes on where it was. Damaged
    frames are left out, counted and listed, and the exit status is then 3.

    \b
    Example:
      hpp build-datasets --biwi RAW/hpdb --synhead RAW/synhead2_release --boxes Biwi_plus.npz --out DATA
    """
    from headposeplus.summary import build_and_describe

    text, left_out = build_and_describe(**options)
    click.echo(text)
    if left_out:
        ctx.exit(LEFT_OUT)


@main.command()
@click.option("--method", required=True, help="source-only, dann, pada-like, padaco, control-uniform, control-padaco.")
@click.option("--task", type=click.Choice(["da", "pda"]), default="pda", show_default=True,
              help="da: SynBiwi+ to Biwi+; pda: SynHead++ to Biwi+.")  # fmt: skip
@click.option("--data", type=_folder, required=True, help="Folder of the built datasets.")
@click.option("--out", type=_folder, required=True, help="Folder of the runs.")
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
@_seed
def benchmark(**options: Any) -> None:
    """Train a method and predict Biwi+; its labels are not read.

    A finished run is not trained again, and one that was stopped goes on where it was.

    \b
    Example:
      hpp benchmark --method padaco --task pda --data DATA --out RUNS
    """
    from benchmark.train import run_from_options

    predictions = run_from_options(command=_command(), **options)
    click.echo(f"predictions {predictions}\nscore them: hpp score {predictions} --data {options['data']}")


@main.command()
@click.argument("predictions", type=_file)
@click.option("--data", type=_folder, required=True, help="Folder of the built datasets.")
@click.option("--task", type=click.Choice(["da", "pda"]), help="[default: what the TOML beside the predictions says]")
@click.option("--scoreboard", type=_folder, help="Add the entry to this scoreboard and build its page.")
def score(predictions: Path, data: Path, task: str | None, scoreboard: Path | None) -> None:
    """Score PREDICTIONS, a CSV with a TOML of the same name beside it.

    \b
    Example:
      hpp score RUNS/pda-paper-seed0/padaco/predictions.csv --data DATA --scoreboard scoreboard
    """
    from benchmark import scoreboard as board
    from headposeplus.files import write_json

    entry = board.score(predictions, data, task)
    click.echo(f"{entry['protocol']['id']}, {entry['protocol']['frames']:,} frames, errors in degrees\n")
    click.echo(board.table([entry], "simple"))
    where = predictions.with_name("score.json")
    write_json(where, entry)
    click.echo(f"\nentry {where}")
    if scoreboard:
        board.add(scoreboard, entry)
        click.echo(f"page  {board.build(scoreboard)}")


@main.command()
@click.argument("folder", type=_folder)
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
@click.argument("out", type=_folder)
@_seed
def demo(out: Path, seed: int) -> None:
    """Run everything on a small miniature: write it, build the datasets, train, score, and print the scoreboard.

    \b
    Example:
      hpp demo demo
    """
    from benchmark.demo import run_demo

    run_demo(out, seed)
