"""Commands on the face boxes of Biwi. They only call the library."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.cli.common import BIWI, FAULTS, FILE, JOBS, NEEDED_BIWI, OUT_FILE, RAW_MANIFEST, WIDE, count, say
from benchmark.cli.groups import HelpfulGroup
from headposeplus.faults import plural

if TYPE_CHECKING:
    from headposeplus.boxes.geometry import BoxTable
    from headposeplus.faults import Fault

_TRANSFORM = click.option("--transform", type=FILE, help="Apply this mapping, which hpp boxes fit has written.")
_WITHOUT = "in frames or files, which have no box:"


@click.group(cls=HelpfulGroup)
def boxes() -> None:
    """Make, correct and compare the face boxes of Biwi.

    A file of boxes is a CSV: id, x, y, width, height (raw pixels), source, and whether checked by hand.
    """


def _tell(ctx: click.Context, faults: list[Fault], heading: str) -> None:
    """List faults, if there are any, and end with the status that says so."""
    if faults:
        click.echo("\n".join([f"{count(faults, 'fault')} {heading}", *map(str, faults)]))
        ctx.exit(FAULTS)


def _write(ctx: click.Context, out: Path, table: BoxTable, faults: list[Fault]) -> None:
    """Write boxes, and say how many there are of each source and which frames have none."""
    from headposeplus.boxes.files import write_boxes

    write_boxes(out, table)
    _say(out, table)
    _tell(ctx, faults, _WITHOUT)


def _say(out: Path, table: BoxTable) -> None:
    """Say how many boxes there are of each source, and where."""
    counts = Counter(table.sources.tolist())
    of_each = ", ".join(f"{count:,} {source}" for source, count in sorted(counts.items()))
    say(f"{plural(len(table.ids), 'box', 'boxes')} ({of_each})\nboxes {out}")


@boxes.command()
@NEEDED_BIWI
@OUT_FILE
@_TRANSFORM
@RAW_MANIFEST
@JOBS
@click.pass_context
def project(
    ctx: click.Context, biwi: Path, out: Path, transform: Path | None, manifest: Path | None, jobs: int | None
) -> None:
    """Write the boxes of the projected heads, which never fail.

    \b
    Example:
      hpp boxes project --biwi RAW/hpdb --out projected.csv
    """
    from headposeplus.boxes.compare import apply_mapping, read_mapping
    from headposeplus.boxes.sources import project_heads
    from headposeplus.raw.biwi import find_root
    from headposeplus.tasks import cores

    table, faults, _ = project_heads(find_root(biwi), jobs or cores(), manifest)
    _write(ctx, out, apply_mapping(read_mapping(transform), table) if transform else table, faults)


@boxes.command()
@NEEDED_BIWI
@OUT_FILE
@click.option("--model", type=FILE, help="A CNN face detector of dlib, .dat.  [default: dlib's HOG detector]")
@click.option(
    "--upsample",
    type=click.IntRange(0, 4),
    default=1,
    show_default=True,
    help="Times that an image is doubled first, for small faces.",
)
@RAW_MANIFEST
@JOBS
@click.pass_context
def detect(
    ctx: click.Context,
    biwi: Path,
    out: Path,
    model: Path | None,
    upsample: int,
    manifest: Path | None,
    jobs: int | None,
) -> None:
    """Write the boxes of dlib's face detector.

    Of several faces the one that agrees best with the projected head is taken. Where no face is found near it, the
    box is the projection's, and its source says so.

    On one core of an AMD EPYC, HOG takes 0.07 s a frame, 20 minutes for Biwi's 15,678, and a CNN 5 s, 22 hours, and
    1.3 GiB of memory a process; with --upsample 0 a quarter of that. Such a CNN is mmod_human_face_detector.dat, from
    dlib.net/files or the package face_recognition_models on PyPI.

    A run that was stopped goes on where it was: what it found is kept in a folder beside the result, until that is
    written.

    \b
    Examples:
      hpp boxes detect --biwi RAW/hpdb --out detected.csv
      hpp boxes detect --biwi RAW/hpdb --model mmod_human_face_detector.dat \\
        --out cnn.csv
    """
    from headposeplus.boxes.detection import write_detected
    from headposeplus.raw.biwi import find_root
    from headposeplus.tasks import cores

    found = write_detected(out, find_root(biwi), model, upsample, jobs or cores(), manifest)
    _say(out, found.boxes.table)
    if found.parts:
        say(f"parts {found.parts}, so that with the files mended only their frames take time; else delete it")
    _tell(ctx, found.boxes.faults, _WITHOUT)


@boxes.command("import")
@click.argument("file", type=FILE)
@OUT_FILE
@click.option("--corners", is_flag=True, help="Read x, y, width and height as the corners x1, y1, x2 and y2.")
@click.option("--image-width", type=click.IntRange(1), help="Of the images that the boxes are of, if not the raw ones.")
@_TRANSFORM
@BIWI
@RAW_MANIFEST
@JOBS
@click.pass_context
def import_(
    ctx: click.Context,
    file: Path,
    out: Path,
    corners: bool,
    image_width: int | None,
    transform: Path | None,
    biwi: Path | None,
    manifest: Path | None,
    jobs: int | None,
) -> None:
    """Write the boxes of another program's file.

    FILE is the published Biwi_plus.npz, a CSV, JSON lists of corners or OPAL's text.

    Frames may be named as people do: biwi/01/00003, 01/frame_00003_rgb.png, faces_0/01/... A CSV has id and x, y,
    width, height, or x1, y1, x2, y2. With --biwi each box is compared with the head: where most cannot be, nothing is
    written, and a few are listed.

    \b
    Example:
      hpp boxes import Biwi_plus.npz --out boxes.csv --biwi RAW/hpdb
    """
    from headposeplus.boxes.placement import misplaced_fault
    from headposeplus.boxes.sources import import_boxes
    from headposeplus.tasks import cores

    made = import_boxes(file, corners, image_width, transform, biwi, manifest, jobs or cores())
    _write(ctx, out, made.table, [])
    doubtful = [misplaced_fault(made.misplaced, file, "a build projects the head instead")] if made.misplaced else []
    if biwi:
        say(
            f"{made.compared:,} of {len(made.table.ids):,} compared with the boxes that the poses give: "
            f"mean IoU {made.overlap:.2f}"
        )
    _tell(ctx, [*doubtful, *made.faults], "of the boxes and the raw copy:")


@boxes.command()
@click.argument("file", type=FILE)
@click.argument("corrections", type=FILE)
@OUT_FILE
@click.pass_context
def correct(ctx: click.Context, file: Path, corrections: Path, out: Path) -> None:
    """Apply the corrections that a review saved.

    CORRECTIONS, as the page of hpp boxes review saves them, are applied to the boxes of FILE.

    \b
    Example:
      hpp boxes correct boxes.csv corrections.csv --out checked.csv
    """
    from headposeplus.boxes.files import correct_boxes, read_boxes

    table, changed, added = correct_boxes(read_boxes(file), read_boxes(corrections))
    by_hand = int(table.checked.sum())
    click.echo(f"{plural(changed, 'box', 'boxes')} changed, {added:,} added, {by_hand:,} checked by hand in all")
    _write(ctx, out, table, [])


@boxes.command()
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@BIWI
@RAW_MANIFEST
@WIDE
@click.pass_context
def compare(ctx: click.Context, a: Path, b: Path, biwi: Path | None, manifest: Path | None) -> None:
    """Show how the boxes of two files overlap.

    That is over all frames and, with --biwi, by pose.

    \b
    Example:
      hpp boxes compare boxes.csv detected.csv --biwi RAW/hpdb
    """
    from headposeplus.boxes.compare import compare_boxes, describe_comparison
    from headposeplus.boxes.files import read_boxes
    from headposeplus.boxes.sources import read_angles

    angles, faults = read_angles(biwi, manifest) if biwi else (None, [])
    click.echo(describe_comparison(compare_boxes(read_boxes(a), read_boxes(b), angles)))
    _tell(ctx, faults, "in frames or files, whose poses are not in the bins:")


@boxes.command()
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@OUT_FILE
def fit(a: Path, b: Path, out: Path) -> None:
    """Fit a mapping from the boxes of A to those of B.

    That is the shift and scale that bring them closest, for --transform.

    \b
    Example:
      hpp boxes fit boxes.csv detected.csv --out to_dlib.json
    """
    from headposeplus.boxes.compare import fit_mapping, write_mapping
    from headposeplus.boxes.files import read_boxes

    mapping = fit_mapping(read_boxes(a), read_boxes(b))
    write_mapping(out, mapping)
    say(
        f"fitted to {mapping.pairs:,} boxes: shift {mapping.shift.round(3).tolist()} in widths and heights, "
        f"scale {mapping.scale.round(3).tolist()}; mean IoU {mapping.iou_before:.3f} before, "
        f"{mapping.iou_after:.3f} after\nmapping {out}"
    )


@boxes.command()
@click.argument("file", type=FILE)
@NEEDED_BIWI
@OUT_FILE
@click.option("--against", type=FILE, help="Boxes to compare with, such as a detector's.  [default: the projection]")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="Frames on the page.")
@RAW_MANIFEST
@JOBS
@click.pass_context
def review(
    ctx: click.Context,
    file: Path,
    biwi: Path,
    out: Path,
    against: Path | None,
    limit: int,
    manifest: Path | None,
    jobs: int | None,
) -> None:
    """Write a page on which boxes are looked at and corrected.

    It is HTML and has the boxes of FILE, the most doubtful first. Open it in a browser, drag boxes or type numbers, and
    save the corrections; hpp boxes correct applies them.

    \b
    Example:
      hpp boxes review boxes.csv --biwi RAW/hpdb --against detected.csv \\
        --out review.html
    """
    from headposeplus.boxes.files import read_boxes
    from headposeplus.boxes.review import write_review
    from headposeplus.raw.biwi import find_root
    from headposeplus.tasks import cores

    other = read_boxes(against) if against else None
    on_page = write_review(read_boxes(file), find_root(biwi), out, other, limit, jobs or cores(), manifest)
    say(
        f"{plural(on_page.frames, 'frame')}: {on_page.missing:,} without a box, {on_page.disagreeing:,} that disagree, "
        f"{plural(on_page.jumping, 'jump')}, {on_page.undetected:,} not detected, {on_page.checked:,} checked before; "
        f"{plural(on_page.shown, 'is', 'are')} on the page\npage {out}"
    )
    _tell(ctx, on_page.unreadable, "in frames or files, which are not on the page:")
