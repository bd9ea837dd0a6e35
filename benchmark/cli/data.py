"""Commands of the dataset toolkit: raw copies in, datasets out. They only call the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmark.cli.common import (
    BIWI,
    FAULTS,
    FILE,
    FOLDER,
    JOBS,
    MANIFEST,
    PDF,
    RAW_MANIFEST,
    RAW_STILLS,
    SEED,
    SUBSET,
    SYNHEAD,
    WIDE,
    Real,
    keep_inputs,
    listing,
    manifest_option,
    say,
    say_listing,
    stills_of,
    stills_options,
    tell,
)

SCALE = click.Choice(["tiny", "small", "study", "full"])
_CAMERA = click.Choice(["rgb", "depth"])
_RAW = ("biwi", "synhead", *RAW_STILLS)


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--scale", type=SCALE, default="small", show_default=True, help="How many images, and how large.")
@SEED
@JOBS
def miniature(out: Path, scale: str, seed: int, jobs: int | None) -> None:
    """Write a small raw Biwi and SynHead to try everything on.

    OUT/hpdb and OUT/synhead2_release are drawn by a procedure; OUT/data_manifest.csv says what they hold. Folders,
    names and formats are those of the real datasets, so that everything can be tried without them. Only --scale full
    has the real sizes of the images. A run that was stopped goes on where it was.

    \b
    Example:
      hpp miniature RAW --scale small
    """
    from headposeplus.miniature.write import write_miniature
    from headposeplus.tasks import cores

    source = write_miniature(out, scale, seed, jobs or cores())
    click.echo(f"raw Biwi    {source.biwi}\nraw SynHead {source.synhead}\nmanifest    {source.manifest}")


@click.command()
@click.argument("out", type=FOLDER)
@click.option(
    "--heads",
    "assets",
    type=FOLDER,
    required=True,
    help="Copies of MakeHuman's repositories makehuman and makehuman-assets, in one folder.",
)
@click.option("--women", type=click.IntRange(0, 99), default=5, show_default=True, help="How many women.")
@click.option("--men", type=click.IntRange(0, 99), default=5, show_default=True, help="How many men.")
@click.option(
    "--images",
    type=click.IntRange(1),
    help="Of all people together, as many of each.  [default: 51,096 a person, as SynHead has; or all poses given]",
)
@click.option("--size", type=click.IntRange(32, 2048), default=400, show_default=True, help="Pixels a side.")
@click.option(
    "--tracks",
    type=click.Path(path_type=Path),
    help="Poses to render: a CSV with rows pitch,yaw,roll (pyr, degrees), or a folder of them.  [default: random]",
)
@click.option(
    "--biwi",
    type=FOLDER,
    help="Raw Biwi, or its db_annotations alone: its smoothed poses become the BIWI tracks. They are poses of the test "
    "set, though not of its images; say so where you report what you trained.",
)
@click.option("--backgrounds", type=FOLDER, help="Pictures to copy as backgrounds.  [default: procedural rooms]")
@click.option("--dry-run", is_flag=True, help="Say how many images, bytes and hours; render only a few, to measure.")
@click.option(
    "--dask", metavar="ADDRESS", help="Render on the workers of this Dask scheduler, such as tcp://host:8786."
)
@manifest_option(
    "Whose rows of Biwi are repeated.  [default: data_manifest.csv beside raw Biwi, else the real datasets']"
)
@SEED
@JOBS
def render(out: Path, assets: Path, dry_run: bool, jobs: int | None, dask: str | None, **options: Any) -> None:
    """Render an open source in place of SynHead.

    It is written to OUT/synhead2_release in SynHead's raw layout. Its people are made of MakeHuman's assets, which
    anyone may use and change. OUT/README.md and OUT/data_manifest.csv say what the copy holds. A run that was stopped
    goes on where it was, and gives the same files.

    \b
    Examples:
      hpp render OPEN --heads MAKEHUMAN --images 200
      hpp render OPEN --heads MAKEHUMAN --biwi RAW/hpdb --dry-run
    """
    from headposeplus.heads.write import Options, describe_estimate, estimate_heads, write_heads
    from headposeplus.tasks import cores

    asked, jobs = Options(**options), jobs or cores()
    if dry_run:
        say(describe_estimate(estimate_heads(out, assets, asked), jobs))
        return
    synhead = write_heads(out, assets, asked, jobs, dask)
    click.echo(f"raw SynHead {synhead}\nmanifest    {out / 'data_manifest.csv'}")


@click.command()
@click.argument("data", type=FOLDER, required=False)
@BIWI
@SYNHEAD
@stills_options
@click.option("--boxes", type=FILE, help="Face boxes of Biwi, each to be about its head.")
@RAW_MANIFEST
@WIDE
@click.option("--deep", is_flag=True, help="Decode every image.")
@click.option("--json", "json_file", type=FILE, help="Write the whole report here.")
@JOBS
@click.pass_context
def verify(
    ctx: click.Context,
    data: Path | None,
    biwi: Path | None,
    synhead: Path | None,
    boxes: Path | None,
    manifest: Path | None,
    deep: bool,
    json_file: Path | None,
    jobs: int | None,
    **options: Path | None,
) -> None:
    """Check raw copies, or built datasets.

    Raw copies are compared with the manifest; DATA, a folder of built datasets, with what its build wrote down. The
    exit status is 0 where all is as it should be, and 3 where something is missing, damaged or different.

    \b
    Examples:
      hpp verify --biwi RAW/hpdb --synhead RAW/synhead2_release
      hpp verify --aflw2000 RAW/AFLW2000
      hpp verify DATA
    """
    from headposeplus.errors import HeadposeError
    from headposeplus.files import write_json
    from headposeplus.tasks import cores
    from headposeplus.verify.datasets import verify_data
    from headposeplus.verify.describe import describe
    from headposeplus.verify.raw import verify_raw
    from headposeplus.verify.report import DataReport, RawReport, to_json

    stills = stills_of(options)
    if bool(data) == bool(biwi or synhead or stills):
        raise HeadposeError(f"nothing to verify: give DATA, or {', '.join(f'`{name}`' for name in _RAW)} or several")
    keep_inputs([boxes, manifest], json_file)
    report: RawReport | DataReport
    if data:
        report = verify_data(data, manifest, deep)
    else:
        report = verify_raw(biwi, synhead, manifest, deep, jobs or cores(), boxes, stills)
    tell(describe(report))
    if json_file:
        write_json(json_file, to_json(report))
        click.echo(f"report {json_file}")
    if report.faults:
        ctx.exit(FAULTS)


@click.command("render-order")
@click.option("--synhead", type=FOLDER, required=True, help="Raw SynHead: the folder synhead2_release, or one above.")
@click.option("--biwi", type=FOLDER, help="Raw Biwi, whose angles the BIWI tracks follow: checks columns and signs.")
@click.option("--plot", type=FILE, help="Draw all candidates here: .png, .pdf or .svg.")
@click.option("--json", "json_file", type=FILE, help="Write the report here.")
@WIDE
@SEED
@JOBS
def render_order(
    synhead: Path, biwi: Path | None, plot: Path | None, json_file: Path | None, seed: int, jobs: int | None
) -> None:
    """Infer the order of SynHead's rotations from its images.

    That is in which order of axes, and with which signs, it was rendered. Where the images cannot tell, the candidates
    are shown and the exit status is 1.

    \b
    Example:
      hpp render-order --synhead RAW/synhead2_release --plot render_order.png
    """
    from headposeplus.datasets import plots
    from headposeplus.drawing import check_kind
    from headposeplus.files import write_json
    from headposeplus.raw import render_order as library
    from headposeplus.raw.render_order import judge_order
    from headposeplus.tasks import cores

    if plot:
        check_kind(plot)
    report, root = judge_order(synhead, biwi, jobs or cores(), seed)
    click.echo(library.describe(report))
    if plot:
        plots.rendering_orders(report, plot)
        click.echo(f"plot   {plot}")
    if json_file:
        write_json(json_file, library.to_json(report))
        click.echo(f"report {json_file}")
    library.check_margin(report, root)


@click.command("build-datasets")
@BIWI
@SYNHEAD
@stills_options
@click.option("--boxes", type=FILE, help="Face boxes of Biwi: Biwi_plus.npz, or what hpp boxes import reads.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the datasets.")
@click.option("--size", type=click.IntRange(8, 1024), default=224, show_default=True, help="Pixels a side of a crop.")
@click.option("--render-order", help="SynHead's order of axes, such as xyz+++.  [default: inferred from the images]")
@click.option(
    "--visible-margin",
    type=Real(-1, 1),
    default=0.1,
    show_default=True,
    help="Keep a SynHead frame if the cosine from face to camera is above.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="SynHead images that SynBiwi+ holds for each Biwi frame and head, the best first.",
)
@click.option("--lossless", is_flag=True, help="Store SynHead's crops as PNG, not JPEG.")
@click.option("--strict", is_flag=True, help="Stop at the first damaged file, or box that misses its head.")
@click.option("--dry-run", is_flag=True, help="Say what would be built, how many bytes and about how long; build none.")
@click.option("--dask", metavar="ADDRESS", help="Build on the workers of this Dask scheduler, such as tcp://host:8786.")
@RAW_MANIFEST
@WIDE
@SEED
@JOBS
@click.pass_context
def build_datasets(
    ctx: click.Context, out: Path, dry_run: bool, jobs: int | None, dask: str | None, **options: Any
) -> None:
    """Build the datasets from raw copies.

    Biwi+, SynHead+, SynBiwi+ and SynHead++ are built from raw Biwi and SynHead, aflw2000 from AFLW2000-3D. With only
    some of them, what they allow is built. A build that was stopped goes on where it was. Damaged frames are left out,
    counted and listed, and the exit status is then 3.

    \b
    Examples:
      hpp build-datasets --biwi RAW/hpdb --synhead RAW/synhead2_release \\
        --boxes Biwi_plus.npz --out DATA
      hpp build-datasets --aflw2000 RAW/AFLW2000 --out DATA
    """
    from headposeplus.build import build, estimate, summary
    from headposeplus.build.work import Options
    from headposeplus.raw.source import Source
    from headposeplus.tasks import cores

    source = Source(**{name: options[name] for name in Source._fields if name != "stills"}, stills=stills_of(options))
    asked = Options(**{name: options[name] for name in Options._fields})
    if dry_run:
        estimates, notes = estimate.estimate_build(source, out, asked, jobs or cores())
        click.echo(summary.describe_estimates(estimates, notes, out))
        return
    built = build.build_datasets(source, out, asked, jobs or cores(), dask)
    click.echo(summary.describe(built, out))
    if built.left_out or any(dataset.info.misplaced for dataset in built.datasets):
        ctx.exit(FAULTS)


@click.command()
@click.argument("data", type=FOLDER)
@click.option("--biwi", type=FOLDER, help="Raw Biwi, whose head meshes are drawn over its frames.")
@click.option("--out", type=FOLDER, help="Folder of the card and the pictures.  [default: DATA/inspect]")
@PDF
@WIDE
@SEED
def inspect(data: Path, biwi: Path | None, out: Path | None, pdf: bool, seed: int) -> None:
    """Look at built datasets: counts, labels, pictures, a card.

    DATA is the folder of a build. Beside the data are written card.md, which describes each dataset with its sources,
    licences and citations, and the pictures that it shows.

    \b
    Example:
      hpp inspect DATA --biwi RAW/hpdb
    """
    from headposeplus.datasets.card import inspect_data

    click.echo(inspect_data(data, out or data / "inspect", biwi, seed, pdf))


@click.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.option("--from", "from_convention", required=True, help="Convention read: pyr, biwi, ypr, or such as xyz+++.")
@click.option("--to", "to_convention", required=True, help="Convention written.")
@click.option("--from-camera", type=_CAMERA, default="rgb", show_default=True, help="Camera whose poses are read.")
@click.option("--to-camera", type=_CAMERA, default="rgb", show_default=True, help="Camera whose poses are written.")
@click.option("--biwi", "biwi_folder", type=FOLDER, help="Raw Biwi.  [default: its sequences' known calibrations]")
@RAW_MANIFEST
def convert(source: Path, target: Path, manifest: Path | None, **options: Any) -> None:
    """Turn poses from one convention and camera into another.

    The poses of the table SOURCE are written to the CSV TARGET. SOURCE is a CSV, Parquet, Feather, npz, or a zip of
    one, with the columns pitch, yaw and roll in degrees (or a rotation: r11 to r33, or qx, qy, qz, qw), and, where the
    camera changes, id. All else in a CSV stays as it is.

    \b
    Example:
      hpp convert angles.csv ypr.csv --from pyr --to ypr
    """
    from headposeplus.poses.convert import convert_file

    click.echo(convert_file(source, target, manifest_file=manifest, **options))


@click.command()
@click.argument("dataset", type=FOLDER)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.npz, FILE.csv, or a folder.")
@SUBSET
@MANIFEST
def export(dataset: Path, out: Path, subset: str | None, manifest: Path | None) -> None:
    """Write a built dataset for other loaders.

    DATASET is a folder such as DATA/biwi+. OUT ends in .npz (images, pyr, ypr and bbox, as the published Biwi_plus.npz
    has them), in .csv (a row a crop with its pose and box), or is the name of a folder for the crops themselves.

    \b
    Example:
      hpp export DATA/biwi+ --out biwi_plus.npz
    """
    from headposeplus.datasets import export as library

    click.echo(library.export(dataset, out, subset, manifest))


@click.command()
@click.argument("name", required=False)
@MANIFEST
@listing
def subsets(name: str | None, manifest: Path | None) -> None:
    """List the subsets and splits of Biwi+, or the frames of one.

    \b
    Examples:
      hpp subsets
      hpp subsets biwi/female
    """
    from headposeplus.raw import subsets as library

    if name:
        subset = library.find(name, manifest)
        say_listing("\n".join(subset.ids), subset._asdict())
    else:
        say_listing(library.table(), library.plain())
