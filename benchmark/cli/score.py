"""Commands about predictions: protocols, templates, checks, scores, comparisons and the scoreboard."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmark.cli.common import FAULTS, FILE, FOLDER, MANIFEST, SUBSET
from headposeplus.errors import SubmissionError

DATA = click.option("--data", type=FOLDER, help="Folder of the built datasets, whose Biwi+ has the labels.")
LABELS = click.option(
    "--labels", type=click.Path(path_type=Path), help="Biwi_plus.npz, or a CSV with id, pitch, yaw, roll, subject."
)
PROTOCOL = click.option("--protocol", help="Id or file of the protocol.  [default: what the TOML beside FILE says]")
RESAMPLES = click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=2000,
    show_default=True,
    help="Of the bootstrap over subjects.",
)
BOOTSTRAP_SEED = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the bootstrap."
)
JSON = click.option("--json", "json_file", type=FILE, help="Write what is found here, as JSON.")
TASK = click.option(
    "--task", type=click.Choice(["da", "pda", "cross"]), help="Without a protocol: that of this task on all frames."
)


def _labels(data: Path | None, labels: Path | None) -> Path:
    if (data is None) == (labels is None):
        raise SubmissionError("give the labels: either --data FOLDER of built datasets, or --labels Biwi_plus.npz")
    return data or labels  # type: ignore[return-value]


@click.command()
@click.argument("predictions", type=FILE, nargs=-1, required=True)
@DATA
@LABELS
@PROTOCOL
@TASK
@click.option("--selection", "rule", help="Score another epoch of the run: last, source-val, consistency, dev, oracle.")
@SUBSET
@MANIFEST
@RESAMPLES
@BOOTSTRAP_SEED
@click.option("--scoreboard", type=FOLDER, help="Add the entry to this scoreboard and build its pages.")
@click.option("--report", type=FILE, help="Write an HTML page with plots and the worst frames here.")
@JSON
def score(
    predictions: tuple[Path, ...],
    data: Path | None,
    labels: Path | None,
    scoreboard: Path | None,
    report: Path | None,
    json_file: Path | None,
    manifest: Path | None,
    **options: Any,
) -> None:
    """Score PREDICTIONS: CSV, Parquet or npz, with a TOML of the same name beside it.

    Several files are the seeds of one method and make one entry. All frames of the test set are scored, or, with
    --subset, those of the subset, which the entry then names. With --selection, those predictions of a run of hpp
    benchmark are scored that another rule of selection takes; the rule oracle looks at the labels, and its entries say
    so. The entry is left beside the first file as score.json.

    \b
    Examples:
      hpp score predictions.csv --protocol biwi+/pda@1 --labels Biwi_plus.npz --report report.html
      hpp score RUNS/pda-paper-seed*/padaco/predictions.csv --data DATA --scoreboard scoreboard
    """
    from benchmark.board import entries as board
    from benchmark.board.published import beside
    from benchmark.board.report import write_report
    from benchmark.scoring import evaluation
    from benchmark.scoring import score as scoring
    from headposeplus.files import write_json

    scored = scoring.score_files(list(predictions), _labels(data, labels), manifest_file=manifest, **options)
    entry, rule = scored.entry, options["rule"]
    _say_protocol(entry)
    click.echo(f"{entry['name']}, trained on {entry['training_data']}; errors in degrees\n")
    click.echo(evaluation.describe(entry))
    known = beside(entry["protocol"])
    if known:
        rows = ", ".join(f"{row['method']} {row['mae']:.2f}" for row in known)
        click.echo(
            f"Published MAE under this protocol: {rows} ({'; '.join(dict.fromkeys(row['source'] for row in known))})."
        )
    for kind, other in entry.get("scores_of_other_statistics", {}).items():
        click.echo(f"MAE with the batch statistics of the {kind}: {other['mae']:.2f}.")
    _say_suspicions(entry)
    # hpp benchmark leaves one file of predictions in a folder; others may have several there.
    first = predictions[0].with_suffix("").with_suffix("")
    stem = "score" if first.name == "predictions" else f"{first.name}-score"
    where = json_file or first.with_name(f"{stem}-{rule}.json" if rule else f"{stem}.json")
    write_json(where, entry)
    click.echo(f"\nentry  {where}")
    if report:
        write_report(report, scored)
        click.echo(f"report {report}")
    if scoreboard:
        board.add(scoreboard, entry, [] if rule else predictions)
        click.echo(f"page   {board.build(scoreboard)}")


def _say_suspicions(entry: dict[str, Any]) -> None:
    for suspicion in entry["suspicions"]:
        click.echo(f"suspicion: {suspicion}")


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _say_protocol(entry: dict[str, Any]) -> None:
    protocol = entry["protocol"]
    click.echo(
        f"{protocol['id']}, {protocol['frames']:,} frames, convention {protocol['convention']}, "
        f"{protocol['camera']} camera"
    )


@click.command()
@click.argument("predictions", type=FILE)
@PROTOCOL
@TASK
@DATA
@LABELS
@JSON
def check(
    predictions: Path,
    protocol: str | None,
    task: str | None,
    data: Path | None,
    labels: Path | None,
    json_file: Path | None,
) -> None:
    """List everything that is wrong with PREDICTIONS, each with its row and the way to mend it.

    Faults keep predictions from being scored; the status is then 3. With labels, suspicions are looked for as well:
    swapped columns, turned signs, another convention or camera, each with the error that the mended file would have.
    Nothing is mended silently.

    \b
    Example:
      hpp check predictions.csv --protocol biwi+/pda@1 --labels Biwi_plus.npz
    """
    from benchmark.scoring import score as scoring
    from benchmark.scoring.submission import about_path
    from headposeplus.files import write_json

    truth = _labels(data, labels) if data or labels else None
    checked, reference = scoring.check_files(predictions, truth, protocol, task)
    for word, found in (("fault", checked.faults), ("suspicion", checked.suspicions)):
        for fault in found:
            inside = fault.where.removeprefix("TOML").removeprefix(", ")
            file = about_path(predictions) if fault.where.startswith("TOML") else predictions
            click.echo(
                f"{word}: {file}, {fault._replace(where=inside)}"
                if inside
                else f"{word}: {file}: {fault._replace(where='')}"
            )
    known = "nothing at hand says which frames it has: give --data or --labels" if reference.ids is None else ""
    against = f"{reference.protocol.id}, {reference.protocol.frames:,} frames"
    counts = f"{_count(checked.faults, 'fault')}, {_count(checked.suspicions, 'suspicion')}"
    click.echo(f"{counts}; {against}{f' ({known})' if known else ''}")
    if truth is None:
        click.echo("columns, signs and conventions were not tried: they need --data or --labels")
    if json_file:
        record = {
            "protocol": reference.protocol.id,
            **{k: [f._asdict() for f in getattr(checked, k)] for k in ("faults", "suspicions")},
        }
        write_json(json_file, record)
    if checked.faults:
        sys.exit(FAULTS)


@click.command()
@click.argument("first")
@click.argument("second")
@DATA
@LABELS
@PROTOCOL
@RESAMPLES
@BOOTSTRAP_SEED
@JSON
def compare(
    first: str,
    second: str,
    data: Path | None,
    labels: Path | None,
    protocol: str | None,
    resamples: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Compare two predictions on the same frames, FIRST minus SECOND, with intervals over the subjects.

    Each is a file, or those of several seeds, parted by commas.

    \b
    Examples:
      hpp compare padaco.csv dann.csv --data DATA
      hpp compare a-seed0.csv,a-seed1.csv b-seed0.csv,b-seed1.csv --labels Biwi_plus.npz
    """
    from benchmark.scoring import score as scoring
    from headposeplus.files import write_json

    sides = [[Path(name) for name in side.split(",")] for side in (first, second)]
    found = scoring.compare_files(sides[0], sides[1], _labels(data, labels), protocol, resamples, seed)
    click.echo(f"{found.protocol.id}, {found.protocol.frames:,} frames; A {first}, B {second}; degrees\n")
    click.echo(str(found))
    if len(sides[0]) == len(sides[1]) == 1:
        click.echo("The intervals are over subjects; how much seeds differ, one file of each does not tell.")
    if json_file:
        write_json(json_file, {**found._asdict(), "protocol": found.protocol.id})


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

    found, frames = scoring.write_template(protocol, _labels(data, labels) if data or labels else None, out)
    click.echo(f"{frames:,} frames of {protocol} to fill in: {out}")
    click.echo(f"what the predictions are, to fill in: {found}")
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

    protocol = write(file, name, task, read_labels(_labels(data, labels)), title, camera)
    click.echo(f"{file}: {protocol.id}, {protocol.frames:,} frames; hash {protocol.sha256[:12]}")


@click.group()
def scoreboard() -> None:
    """Keep a scoreboard: a folder of one JSON file an entry, its predictions, and its pages."""


@scoreboard.command()
@click.argument("predictions", type=FILE, nargs=-1, required=True)
@click.option("--scoreboard", "folder", type=FOLDER, default="scoreboard", show_default=True, help="Its folder.")
@DATA
@LABELS
@PROTOCOL
@TASK
@MANIFEST
@SUBSET
@RESAMPLES
@BOOTSTRAP_SEED
def add(predictions: tuple[Path, ...], folder: Path, data: Path | None, labels: Path | None, manifest: Path | None,
        **options: Any) -> None:  # fmt: skip
    """Score PREDICTIONS, several files being the seeds of one method, and add them to a scoreboard.

    \b
    Example:
      hpp scoreboard add predictions.csv --protocol biwi+/pda@1 --labels Biwi_plus.npz
    """
    from benchmark.board import entries as board
    from benchmark.scoring import score as scoring

    entry = scoring.score(list(predictions), _labels(data, labels), manifest_file=manifest, **options)
    _say_protocol(entry)
    click.echo(f"{entry['name']}: MAE {entry['scores']['mae']:.2f} degrees")
    _say_suspicions(entry)
    click.echo(f"entry {board.add(folder, entry, predictions)}")
    click.echo(f"page  {board.build(folder)}")


@scoreboard.command()
@click.argument("folder", type=FOLDER)
def build(folder: Path) -> None:
    """Build the pages of a scoreboard, Markdown and HTML, and print the first.

    \b
    Example:
      hpp scoreboard build scoreboard
    """
    from benchmark.board import entries as board

    path = board.build(folder)
    click.echo(path.read_text(encoding="utf-8"))
    click.echo(f"page {path}\nsite {folder / board.site.INDEX}")


@scoreboard.command()
@click.argument("folder", type=FOLDER)
@DATA
@LABELS
@click.option("--strict", is_flag=True, help="Fail if any entry could not be scored again.")
def verify(folder: Path, data: Path | None, labels: Path | None, strict: bool) -> None:
    """Check every entry of a scoreboard, and score its predictions again where the labels are at hand.

    The status is 3 if any entry is not what it says, and with --strict also if any was not scored again.

    \b
    Example:
      hpp scoreboard verify scoreboard --labels Biwi_plus.npz
    """
    from benchmark.board import entries as board

    found = board.verify(folder, _labels(data, labels) if data or labels else None)
    for one in found:
        state = "wrong" if one.faults else "right" if one.scored == board.AGAIN else "consistent, not scored again"
        click.echo(f"{one.path.name}: {state}{f': {one.scored}' if one.scored not in ('', board.AGAIN) else ''}")
        for fault in one.faults:
            click.echo(f"  {fault}")
    wrong, again = sum(bool(one.faults) for one in found), sum(one.scored == board.AGAIN for one in found)
    click.echo(f"{len(found)} {'entry' if len(found) == 1 else 'entries'}, {wrong} wrong, {again} scored again")
    if wrong or (strict and again < len(found)):
        sys.exit(FAULTS)
