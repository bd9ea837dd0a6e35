"""The commands about protocols and the template of a submission."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.cli.common import FILE, MANIFEST, SUBSET, WIDE, listing, say, say_listing, tell, truth_options
from benchmark.cli.groups import HelpfulGroup
from headposeplus.faults import plural, shell_line

if TYPE_CHECKING:
    from benchmark.scoring.label_files import LabelsAt


@click.group(cls=HelpfulGroup)
def submission() -> None:
    """Prepare predictions to be scored."""


@submission.command()
@click.option("--protocol", help="Id or file of the protocol; without it, those that there are are listed.")
@truth_options(needed=False, alone=True)
@SUBSET
@MANIFEST
@click.option("--out", type=FILE, default="predictions.csv", show_default=True, help="The CSV; the TOML goes beside.")
def template(
    protocol: str | None, truth: LabelsAt | None, subset: str | None, manifest: Path | None, out: Path
) -> None:
    """Write the CSV and the TOML to fill in for a protocol.

    The CSV has every id of the protocol and empty columns; the TOML is commented. The frames of real Biwi and
    AFLW2000-3D are known; for others give --data or --labels.

    \b
    Example:
      hpp submission template --protocol biwi+/cross@1
    """
    from benchmark.scoring import score as scoring

    written = scoring.write_template(protocol, truth, out, subset, manifest)
    click.echo(f"{plural(written.frames, 'frame')} of {written.protocol} to fill in: {out}")
    click.echo(f"what the predictions are, to fill in: {written.about}")
    own = ["--protocol", protocol] if protocol and Path(protocol).is_file() else []
    few = ["--subset", subset] if subset else []
    click.echo(f"then: {shell_line('hpp', 'check', out, *own, *few)}")


@submission.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--from", "network", is_flag=False, flag_value="", help="The network; without one, those known are listed."
)
@click.option(
    "--frames", help="Whose poses the rows are, where the file names no images: a subset, or a list of frames."
)
@SUBSET
@click.option("--protocol", help="Id or file of the protocol.  [default: cross@1 of the images' dataset]")
@click.option("--out", type=FILE, default="predictions.csv", show_default=True, help="The CSV; the TOML goes beside.")
@WIDE
def convert(
    file: Path | None, network: str | None, frames: str | None, subset: str | None, protocol: str | None, out: Path
) -> None:
    """Turn what a published network gives into a submission.

    FILE is what the network's own script gives; a CSV is written, and a TOML that says whose it is. Known are the files
    of 6DRepNet, Hopenet, WHENet, FSA-Net, img2pose, OPAL and TriNet; docs/networks.md says what each holds. With
    --subset, only the frames of that are written.

    \b
    Examples:
      hpp submission convert --from
      hpp submission convert --from 6drepnet 6drepnet.npz --out mine.csv
      hpp submission convert --from fsanet fsanet_BIWI.npy \\
        --frames biwi/fsa-net --out mine.csv
    """
    from benchmark.scoring import networks, recipes

    if not network and file is None:
        click.echo(networks.table())
        return
    if not network:
        names = ", ".join(known.key for known in networks.ALL)
        raise click.UsageError(f"say whose file it is, by --from and one of {names}")
    title = networks.find(network).title
    if file is None:
        raise click.UsageError(f"give the file of {title}'s poses, as docs/networks.md describes it")
    for line in recipes.describe(recipes.convert(file, network, out, frames, subset, protocol)):
        tell(line)


def _list() -> None:
    from benchmark.scoring.protocols import frozen, hashed, table

    say_listing(table(), [hashed(protocol) for protocol in frozen()])


@click.group(
    cls=HelpfulGroup,
    default="show",
    invoke_without_command=True,
    subcommand_metavar="[ID | COMMAND [ARGS]...]",
)
@listing
@click.pass_context
def protocols(context: click.Context) -> None:
    """List the protocols, or explain one: what a score means.

    \b
    Examples:
      hpp protocols
      hpp protocols biwi+/pda@1
    """
    if context.invoked_subcommand is None:
        _list()


@protocols.command(name="list")
@listing
def list_() -> None:
    """List the frozen protocols.

    \b
    Example:
      hpp protocols list
    """
    _list()


@protocols.command()
@click.argument("name")
@listing
def show(name: str) -> None:
    """Explain a protocol, by its id or file; hpp protocols NAME does so, too.

    \b
    Example:
      hpp protocols show biwi+/pda@1
    """
    from benchmark.scoring.protocols import explain, find, hashed

    protocol = find(name)
    say_listing(explain(protocol), hashed(protocol))


@protocols.command()
@click.argument("file", type=FILE)
@click.option("--id", "name", required=True, help="Its id, with a version, such as lab/faces@1.")
@click.option("--title", required=True, help="What is tested, in a few words.")
@click.option("--task", type=click.Choice(["da", "pda", "cross"]), default="cross", show_default=True, help="The task.")
@truth_options(needed=True, alone=True)
def new(file: Path, truth: LabelsAt, name: str, title: str, task: str) -> None:
    """Write the protocol of a test set of one's own.

    FILE will hold its frames by hash, and its labels by mean and deviation. No label is in it, so it can be handed out.
    The texts in it may be changed until the first score names it. The labels' convention and camera become the
    protocol's; where the file does not say them, give --convention and --camera.

    \b
    Example:
      hpp protocols new faces.toml --id lab/faces@1 --title "Faces" \\
        --labels labels.csv --convention ypr --camera rgb
    """
    from benchmark.scoring.labels import read_labels
    from benchmark.scoring.protocols import write

    protocol = write(file, name, task, read_labels(truth), title)
    what = f"convention {protocol.convention}, {protocol.camera} camera"
    say(f"{file}: {protocol.id}, {plural(protocol.frames, 'frame')}, {what}; hash {protocol.sha256[:12]}")
