"""The commands about protocols and the template of a submission."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.cli.common import FILE, MANIFEST, SUBSET, truth_options
from headposeplus.faults import shell_line

if TYPE_CHECKING:
    from benchmark.scoring.label_files import LabelsAt


@click.group()
def submission() -> None:
    """Prepare predictions to be scored."""


@submission.command()
@click.option("--protocol", required=True, help="Id or file of the protocol.")
@truth_options(needed=False)
@SUBSET
@MANIFEST
@click.option("--out", type=FILE, default="predictions.csv", show_default=True, help="The CSV; the TOML goes beside.")
def template(protocol: str, truth: LabelsAt | None, subset: str | None, manifest: Path | None, out: Path) -> None:
    """Write a CSV with every id of a protocol and empty columns, and a commented TOML.

    The frames of real Biwi are known; for others give --data or --labels.

    \b
    Example:
      hpp submission template --protocol biwi+/pda@1
    """
    from benchmark.scoring import score as scoring

    about, frames = scoring.write_template(protocol, truth, out, subset, manifest)
    click.echo(f"{frames:,} frames of {protocol} to fill in: {out}")
    click.echo(f"what the predictions are, to fill in: {about}")
    own = ["--protocol", protocol] if Path(protocol).is_file() else []
    few = ["--subset", subset] if subset else []
    click.echo(f"then: {shell_line('hpp', 'check', out, *own, *few)}")


@click.group(invoke_without_command=True)
@click.pass_context
def protocols(context: click.Context) -> None:
    """List the protocols, what a score means; show explains one, new writes one for labels of your own."""
    if context.invoked_subcommand is None:
        from benchmark.scoring.protocols import table

        click.echo(table())


@protocols.command(name="list")
def list_() -> None:
    """List the frozen protocols.

    \b
    Example:
      hpp protocols list
    """
    from benchmark.scoring.protocols import table

    click.echo(table())


@protocols.command()
@click.argument("name")
def show(name: str) -> None:
    """Explain the protocol NAME, an id or a file.

    \b
    Example:
      hpp protocols show biwi+/pda@1
    """
    from benchmark.scoring.protocols import explain, find

    click.echo(explain(find(name)))


@protocols.command()
@click.argument("file", type=FILE)
@click.option("--id", "name", required=True, help="Its id, with a version, such as lab/faces@1.")
@click.option("--title", required=True, help="What is tested, in a few words.")
@click.option("--task", type=click.Choice(["da", "pda", "cross"]), default="cross", show_default=True, help="The task.")
@truth_options(needed=True)
def new(file: Path, truth: LabelsAt, name: str, title: str, task: str) -> None:
    """Write FILE, the protocol of a test set of one's own: its frames by hash, its labels by mean and deviation.

    No label is in it, so it can be handed out. The texts in it may be changed until the first score names it. The
    labels' convention and camera become the protocol's; where the file does not say them, give --convention and
    --camera.

    \b
    Example:
      hpp protocols new faces.toml --id lab/faces@1 --title "Faces" --labels labels.csv --convention ypr --camera rgb
    """
    from benchmark.scoring.labels import read_labels
    from benchmark.scoring.protocols import write

    protocol = write(file, name, task, read_labels(truth), title)
    what = f"convention {protocol.convention}, {protocol.camera} camera"
    click.echo(f"{file}: {protocol.id}, {protocol.frames:,} frames, {what}; hash {protocol.sha256[:12]}")
