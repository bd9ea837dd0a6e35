"""Commands about predictions: protocols, templates, checks, scores and comparisons."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.common import (
    BOOTSTRAP_SEED,
    FAULTS,
    FILE,
    FOLDER,
    JSON,
    MANIFEST,
    PROTOCOL,
    RESAMPLES,
    SUBSET,
    TASK,
    WIDE,
    count,
    facts_options,
    keep_inputs,
    say,
    say_board,
    say_lacking,
    say_protocol,
    say_suspicions,
    tell,
    truth_options,
)
from headposeplus.errors import SubmissionError
from headposeplus.faults import plural

if TYPE_CHECKING:
    from benchmark.scoring.label_files import LabelsAt
    from benchmark.scoring.submission import About


@click.command()
@click.argument("predictions", type=FILE, nargs=-1, required=True)
@truth_options(needed=True)
@PROTOCOL
@TASK
@click.option("--selection", "rule", help="Score another epoch of the run: last, source-val, consistency, dev, oracle.")
@SUBSET
@MANIFEST
@click.option("--ray", is_flag=True, help="Score also with the viewing ray of each box, which needs --data of Biwi.")
@RESAMPLES
@BOOTSTRAP_SEED
@click.option("--scoreboard", type=FOLDER, help="Add the entry to this scoreboard and build its pages.")
@click.option("--report", type=FILE, help="Write an HTML page with plots and the worst frames here.")
@JSON
@facts_options
@WIDE
def score(
    predictions: tuple[Path, ...],
    truth: LabelsAt,
    facts: About,
    scoreboard: Path | None,
    report: Path | None,
    json_file: Path | None,
    manifest: Path | None,
    **options: Any,
) -> None:
    """Score predictions against labels.

    PREDICTIONS are a CSV, Parquet, Feather, npz, or a zip of one. What they are, a TOML of the same name beside them
    says, or options do: --convention and --camera are needed for angles of Biwi's frames, the others for a scoreboard.
    Where no protocol is named, those that fit are listed.

    Several files are the seeds of one method and make one entry. All frames of the test set are scored, or, with
    --subset, those of the subset, which the entry then names. With --selection, those predictions of a run of hpp
    benchmark are scored that another rule of selection takes; the rule oracle looks at the labels, and its entries say
    so. The entry is left beside the first file: score.json of predictions.csv, NAME-score.json of NAME.csv.

    \b
    Examples:
      hpp score predictions.csv --labels Biwi_plus.npz
      hpp score predictions.csv --labels Biwi_plus.npz \\
        --protocol biwi+/cross@1 --convention ypr --camera rgb
      hpp score RUNS/pda-paper-seed*/padaco/predictions.csv \\
        --data DATA --scoreboard scoreboard
    """
    from benchmark.board.published import describe_beside
    from benchmark.scoring import evaluation, ray
    from benchmark.scoring import score as scoring

    keep_inputs([*predictions, truth.path, manifest], json_file, report)
    rule = options["rule"]
    options |= {"facts": facts, "for_board": scoreboard is not None}
    scored = scoring.score(list(predictions), truth, manifest_file=manifest, **options)
    entry = scored.entry
    say_protocol(entry, scored.found)
    if rule:
        say(f"selected by {entry.selection}: epoch {entry.selected_epoch}")
    trained = entry.training_data or "data that nobody named"
    say(f"{entry.name or predictions[0].name}, trained on {trained}; errors in degrees\n")
    click.echo(evaluation.describe(entry))
    if line := ray.describe(entry):
        say(line)
    for kind, mae in entry.mae_of_other_statistics().items():
        click.echo(f"MAE with the batch statistics of the {kind}: {mae:.2f}.")
    if beside := describe_beside(entry.protocol):
        click.echo(f"\n{beside}")
    say_suspicions(entry, facts)
    if scored.unused:
        click.echo(f"not scored: {plural(scored.unused, 'row')} of frames outside the subset.")
    where = json_file or scoring.entry_path(predictions[0], rule)
    scoring.write_entry(where, entry, scored.lacks)
    click.echo(f"\n{'scores' if scored.lacks else 'entry '} {where}")
    if report:
        from benchmark.board.report import write_report

        write_report(report, scored)
        click.echo(f"report {report}")
    if scoreboard:
        from benchmark.board import entries as board

        say_board(board.add(scoreboard, entry, [] if rule else predictions, facts), board.build(scoreboard))
    say_lacking(predictions[0], scored.lacks)


@click.command()
@click.argument("predictions", type=FILE)
@PROTOCOL
@TASK
@truth_options(needed=False)
@SUBSET
@MANIFEST
@JSON
@facts_options
def check(
    predictions: Path,
    truth: LabelsAt | None,
    manifest: Path | None,
    json_file: Path | None,
    **options: Any,
) -> None:
    """List everything that is wrong with predictions.

    Each fault has its row and the way to mend it. Faults keep predictions from being scored, or from a scoreboard; the
    status is then 3. With labels, suspicions are looked for as well: swapped columns, turned signs, another convention
    or camera, each with the error that the mended file would have. Nothing is mended silently.

    \b
    Example:
      hpp check predictions.csv --protocol biwi+/cross@1 --labels Biwi_plus.npz
    """
    from benchmark.scoring import score as scoring
    from benchmark.scoring.choice import by_parameter
    from benchmark.scoring.submission import placed
    from headposeplus.files import write_json

    keep_inputs([predictions, truth.path if truth else None, manifest], json_file)
    found = scoring.check_files(predictions, truth, manifest_file=manifest, **options)
    checked, reference = found.checked, found.reference
    for word, faults in (("fault", checked.faults), ("suspicion", checked.suspicions)):
        for fault in faults:
            mend = by_parameter(fault.mend, options["facts"])
            tell(f"{word}: {placed(fault._replace(mend=mend), predictions)}")
    known = "nothing at hand says which frames it has: give --data or --labels" if reference.ids is None else ""
    against = f"{reference.protocol.id}, {plural(reference.protocol.frames, 'frame')}"
    counts = f"{count(checked.faults, 'fault')}, {count(checked.suspicions, 'suspicion')}"
    say(f"{counts}; {against}{f' ({known})' if known else ''}")
    if found.found:
        say(f"no protocol was named; this is {found.found}")
    say_lacking(predictions, found.lacks)
    if truth is None:
        say("columns, signs, conventions and orders were not tried: they need --data or --labels")
    if json_file:
        write_json(json_file, scoring.check_record(checked, reference))
    if checked.faults:
        sys.exit(FAULTS)


@click.command()
@click.argument("first")
@click.argument("second")
@truth_options(needed=True)
@PROTOCOL
@SUBSET
@MANIFEST
@RESAMPLES
@BOOTSTRAP_SEED
@JSON
@facts_options
@WIDE
def compare(
    first: str, second: str, truth: LabelsAt, manifest: Path | None, json_file: Path | None, **options: Any
) -> None:
    """Compare two predictions on the same frames.

    What is told is FIRST minus SECOND, with intervals over the subjects. Each is a file, or those of several seeds,
    parted by commas. --convention, --camera and --training-data are those of both, where no TOML beside them says it.

    \b
    Examples:
      hpp compare padaco.csv dann.csv --data DATA
      hpp compare a-seed0.csv,a-seed1.csv b-seed0.csv,b-seed1.csv \\
        --labels Biwi_plus.npz
    """
    from benchmark.scoring import score as scoring
    from headposeplus.files import write_json

    sides = [[Path(name.strip()) for name in side.split(",") if name.strip()] for side in (first, second)]
    if not all(sides):
        raise SubmissionError("give two files of predictions, or for each those of several seeds: a.csv,b.csv")
    keep_inputs([*sides[0], *sides[1], truth.path, manifest], json_file)
    comparison = scoring.compare_files(sides[0], sides[1], truth, manifest_file=manifest, **options)
    frames = comparison.protocol.frames
    say(f"{comparison.protocol.id}, {plural(frames, 'frame')}; A {first}, B {second}; degrees", "", comparison)
    if comparison.intervals and len(sides[0]) == len(sides[1]) == 1:
        say("The intervals are over subjects; how much seeds differ, one file of each does not tell.")
    if json_file:
        write_json(json_file, comparison.to_json())
