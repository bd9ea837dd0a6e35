"""Commands that use a trained network: on pictures of one's own, and as a file for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.cli.common import FAULTS, FILE, FOLDER, OUT_FILE, count, keep_inputs, tell, typed_command

_ANY = click.Path(path_type=Path)
_STATISTICS = click.option(
    "--statistics",
    type=click.Choice(["run", "source", "target"]),
    default="run",
    show_default=True,
    help="Predict by the batch statistics of predictions.csv, or those estimated anew on source or target.",
)


@click.command()
@click.argument("images", type=_ANY, nargs=-1, required=True)
@click.option("--model", type=_ANY, required=True, help="Folder of a method's run, or its model.pt.")
@click.option("--boxes", type=FILE, help="Face boxes: a CSV of image, x, y, width, height, or what hpp boxes reads.")
@click.option("--detect", is_flag=True, help="Find the faces with dlib; of several the largest counts.")
@_STATISTICS
@click.option("--out", type=FILE, default=Path("poses.csv"), show_default=True, help="The CSV to write.")
@click.option(
    "--convention",
    type=click.Choice(["pyr", "biwi", "ypr"]),
    default="pyr",
    show_default=True,
    help="Of pitch, yaw and roll in the CSV.",
)
@click.option("--rotation", is_flag=True, help="Write the rotations, too: r11 to r33, head to camera.")
@click.option("--draw", type=FOLDER, help="Write the pictures here with boxes and axes, and a sheet of some of them.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.pass_context
def predict(
    ctx: click.Context,
    images: tuple[Path, ...],
    model: Path,
    boxes: Path | None,
    detect: bool,
    statistics: str,
    out: Path,
    convention: str,
    rotation: bool,
    draw: Path | None,
    device: str,
) -> None:
    """Predict the poses of faces in pictures.

    IMAGES are PNG or JPEG files, and folders of them; MODEL is a trained network. Without --boxes and --detect each
    image is taken whole, as the crop of a face. A pose is what a crop shows: that of a head near the axis of a
    camera like Biwi's RGB camera, with the head's axes of the labels that were trained on. Of a face off the middle
    of its picture, the pose in the camera's own frame differs by about the angle that it is off.

    A CSV of poses is written, and a TOML beside it that says what they are. Pictures that cannot be read, or in which
    there is no box, are listed, and the exit status is then 3.

    \b
    Examples:
      hpp predict PHOTOS --model RUNS/pda-paper-seed0/padaco \\
        --detect --draw drawn
      hpp predict RAW/hpdb/01 --model model.pt --boxes boxes.csv
    """
    from benchmark.training.network import load_network
    from benchmark.training.predict import (
        check_out,
        describe,
        detected,
        find_pictures,
        given_boxes,
        predict_pictures,
        whole,
        write_poses,
    )

    if boxes and detect:
        raise click.UsageError("give --boxes or --detect, not both")
    keep_inputs([boxes, model], out)
    network = load_network(model, statistics, device)
    pictures = find_pictures(images, draw)
    check_out(out, pictures)
    choose = given_boxes(boxes, pictures) if boxes else detected() if detect else whole
    found = predict_pictures(network, pictures, choose, draw)
    write_poses(out, found.rows, network, convention, rotation, typed_command())
    source = f"the boxes of {boxes}" if boxes else "dlib's boxes, enlarged to those of datasets" if detect else ""
    click.echo(f"{describe(network, found, source, convention)}\nposes    {out}")
    if draw:
        click.echo(f"pictures {draw}")
    if found.faults:
        click.echo(f"{count(found.faults, 'fault')} in pictures, which have no row:")
        for fault in found.faults:
            tell(fault)
        ctx.exit(FAULTS)


@click.command("export-onnx")
@click.argument("model", type=_ANY)
@OUT_FILE
@_STATISTICS
def export_onnx(model: Path, out: Path, statistics: str) -> None:
    """Write a trained network as ONNX.

    MODEL is the folder of a method's run, or its model.pt. Its input is RGB, float32 from 0 to 255, (n, 3, size,
    size); normalisation is part of the graph. Its outputs are angles (n, 3), pitch, yaw, roll in degrees, pyr, and
    rotations (n, 3, 3). Its answers are compared with torch's.

    \b
    Example:
      hpp export-onnx RUNS/pda-paper-seed0/padaco --out padaco.onnx
    """
    from benchmark.training.network import load_network
    from benchmark.training.onnx_file import export_onnx as library

    network = load_network(model, statistics, "cpu")
    done = library(network, out)
    size = network.facts.size
    click.echo(f"images    (n, 3, {size}, {size}), float32, RGB from 0 to 255")
    click.echo("angles    (n, 3), pitch, yaw, roll in degrees, convention pyr, RGB camera")
    click.echo("rotations (n, 3, 3), head to camera")
    click.echo(f"as torch  within {done.degrees:.1g} degrees on {done.images} random images\nonnx      {out}")
