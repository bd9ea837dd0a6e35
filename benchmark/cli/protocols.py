"""The commands about protocols and the template of a submission."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.cli.common import DATA, FILE, LABELS, labels_of


@click.group()
def submission() -> None:
    """Prepare predictions to be scored."""


@submission.command()
@click.option("--protocol", required=True, help="Id or file of the protocol.")
@DATA
@LABELS
@click.option("--out", type=FILE, default="predictions.csv", show_default=True, help="The CSV; the TOML goes beside.")
def template(protocol: str, data: Path | None, labels: Path | None, out: Path) -> None:
    """Write a CSV with every id of a protocol and empty columns, and a commented TOML.

    The frames of real Biwi are known; for others give --data or --labels.

    \b
    Example:
      hpp submission template --protocol biwi+/pda@1
    """
    from benchmark.scoring import score as scoring

    about, frames = scoring.write_template(protocol, labels_of(data, labels) if data or labels else None, out)
    click.echo(f"{frames:,} frames of {protocol} to fill in: {out}")
    click.echo(f"what the predictions are, to fill in: {about}")
    own = f" --protocol {protocol}" if Path(protocol).is_file() else ""
    click.echo(f"then: hpp check {out}{own}")


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
@click.option("--camera", type=click.Choice(["rgb", "depth"]), default="rgb", show_default=True, help="Of the labels.")
@DATA
@LABELS
def new(file: Path, data: Path | None, labels: Path | None, name: str, title: str, task: str, camera: str) -> None:
    """Write FILE, the protocol of a test set of one's own: its frames by hash, its labels by mean and deviation.

    No label is in it, so it can be handed out. The texts in it may be changed until the first score names it.

    \b
    Example:
      hpp protocols new faces.toml --id lab/faces@1 --title "Faces of the lab" --labels labels.csv
    """
    from benchmark.scoring.labels import read_labels
    from benchmark.scoring.protocols import write

    protocol = write(file, name, task, read_labels(labels_of(data, labels)), title, camera)
    click.echo(f"{file}: {protocol.id}, {protocol.frames:,} frames; hash {protocol.sha256[:12]}")
