"""The poses in any pictures: each read once, cropped, predicted in batches, and written as a table and as pictures."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd

from benchmark.scoring.submission import BLANK, read_about
from benchmark.training.network import BATCH, TrainedNetwork, cut, read_upright
from benchmark.training.predictions import commit
from headposeplus.boxes.detection import face_finder
from headposeplus.boxes.files import read_named_boxes
from headposeplus.boxes.formats import COLUMNS
from headposeplus.boxes.geometry import RULE
from headposeplus.datasets.plots import draw_pose
from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.faults import Fault, shown
from headposeplus.files import below, write_bytes, write_text, written
from headposeplus.images import SUFFIXES, Image, crop, crop_matrix, encode
from headposeplus.poses.columns import ANGLE_COLUMNS, MATRIX_COLUMNS
from headposeplus.progress import progress
from headposeplus.raw.ids import parse_frame
from headposeplus.rotations import Floats, from_matrix

SHEET = "sheet.jpg"
_HELD = 256 << 20  # bytes of pictures that wait to be drawn
_TILES, _ROW, _TILE = 40, 10, 144  # of the sheet: how many at most, how many a row, and their pixels a side


class Picture(NamedTuple):
    """A picture's file, and its path below the folder that was searched for it."""

    path: Path
    below: PurePath


class Chosen(NamedTuple):
    """The box (4,) of the face in a picture, and how many faces are there."""

    box: Floats
    faces: int = 1


Choose = Callable[[Picture, Image], Chosen]  # raises HeadposeError where there is no box


class PicturePose(NamedTuple):
    """A picture with its box, and its pose: angles (3,), ``pyr`` in degrees, and rotation (3, 3)."""

    path: Path
    chosen: Chosen
    angles: Floats
    rotation: Floats


class PicturePoses(NamedTuple):
    """The poses in pictures, and what is wrong with those that have none."""

    rows: list[PicturePose]
    faults: list[Fault]


def find_pictures(given: Sequence[Path], drawn: Path | None = None) -> list[Picture]:
    """Return the pictures that paths name, each once: files as they are, and all in folders and below.

    What lies in the folder ``drawn`` below a folder was drawn before, and is none of them.

    Raises
    ------
    HeadposeError
        If a folder holds no picture.
    """
    found: dict[Path, Picture] = {}
    for path in given:
        inside = [path] if not path.is_dir() else list(below(path, *SUFFIXES))
        if drawn and path.resolve() in drawn.resolve().parents:
            inside = [file for file in inside if drawn.resolve() not in file.resolve().parents]
        if not inside:
            raise HeadposeError(Fault("holds no picture", f"expected files {', '.join(SUFFIXES)}", path))
        for file in inside:
            found.setdefault(file.resolve(), Picture(file, file.relative_to(path) if file != path else Path(file.name)))
    return list(found.values())


def whole(picture: Picture, image: Image) -> Chosen:
    """Return the box of a picture that is taken whole."""
    return Chosen(np.array([0.0, 0, image.shape[1], image.shape[0]]))


def detected() -> Choose:
    """Return what takes the largest face of dlib's detector; raises HeadposeError if dlib is not installed."""
    find = face_finder()

    def choose(picture: Picture, image: Image) -> Chosen:
        boxes = find(image)
        if not len(boxes):
            raise HeadposeError(Fault("dlib finds no face", "give its box: `boxes`", picture.path))
        return Chosen(boxes[0], len(boxes))

    return choose


def given_boxes(file: Path, pictures: Sequence[Picture]) -> Choose:
    """Return what takes the boxes of a file.

    A box is of the picture whose path ends in its name, with or without the ending; of several names the longest
    counts. Frames of Biwi are known in all forms.

    Raises
    ------
    DatasetError
        If the file cannot be read, or has a box for none of the pictures.
    """
    names, boxes = read_named_boxes(file)
    rows = {_plain(name): row for row, name in enumerate(names)}
    row_of = {picture.path: _row_of(picture.path, rows) for picture in pictures}
    used = Counter(row for row in row_of.values() if row is not None)
    if not used:
        what = f"has a box for none of the {len(pictures):,} pictures, {pictures[0].path} the first"
        raise DatasetError(Fault(what, f"expected names as theirs, found {names[0]}", file))

    def choose(picture: Picture, image: Image) -> Chosen:
        row = row_of[picture.path]
        if row is None:
            raise DatasetError(Fault(f"has no box in {file}", "give it one", picture.path))
        if used[row] > 1:
            what = f"the box of {names[row]} in {file} fits {used[row]} pictures"
            raise DatasetError(Fault(what, "name the folders there, too", picture.path))
        return Chosen(boxes[row])

    return choose


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./").strip("/")


def _row_of(path: Path, rows: dict[str, int]) -> int | None:
    """Return the row of the box of a picture, by the names of boxes; None if it has none."""
    parts = path.absolute().parts[1:]
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    ending = len(path.suffix)
    names = [parse_frame(str(path.absolute())), *ends, *(end[:-ending] for end in ends if ending)]
    return next((rows[name] for name in names if name in rows), None)


class _Held(NamedTuple):
    """A picture that waits for its batch; its pixels only if it is to be drawn."""

    picture: Picture
    chosen: Chosen
    crop: Image
    image: Image | None


class _Drawing:
    """Draws poses into a folder: each picture, and a sheet of some of them."""

    def __init__(self, folder: Path, pictures: Sequence[Picture]) -> None:
        self._targets = _targets(folder, pictures)
        self._sheet = folder / SHEET
        shown = np.linspace(0, len(pictures) - 1, min(len(pictures), _TILES)).round().astype(int)
        self._shown = {pictures[row].path for row in shown}
        self._tiles: list[Image] = []

    def draw(self, picture: Picture, chosen: Chosen, image: Image, rotation: Floats) -> None:
        """Write the picture with its box and its axes."""
        target = self._targets[picture.path]
        drawn = draw_pose(image, rotation, chosen.box)
        write_bytes(target, encode(drawn, lossless=target.suffix.lower() == ".png").tobytes())
        if picture.path in self._shown:
            tile = crop(np.ascontiguousarray(image), crop_matrix(chosen.box, _TILE), _TILE)
            self._tiles.append(draw_pose(tile, rotation))

    def finish(self) -> None:
        """Write the sheet."""
        if not self._tiles:
            return
        rows = -(-len(self._tiles) // _ROW)
        blank = np.full((_TILE, _TILE, 3), 255, np.uint8)
        columns = min(len(self._tiles), _ROW)
        tiles = self._tiles + [blank] * (rows * columns - len(self._tiles))
        lines = [np.concatenate(tiles[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
        write_bytes(self._sheet, encode(np.concatenate(lines), lossless=False).tobytes())


def _targets(folder: Path, pictures: Sequence[Picture]) -> dict[Path, Path]:
    """Return where each picture is drawn, by its path: as it lies below the folder that was searched.

    Raises
    ------
    HeadposeError
        If a picture would be drawn over another one, or over one that is read.
    """
    targets = {
        picture.path: folder / (picture.below if picture.path.suffix.lower() in SUFFIXES else f"{picture.below}.jpg")
        for picture in pictures
    }
    read = {path.resolve() for path in targets}
    counts = Counter([folder / SHEET, *targets.values()])
    for path, target in targets.items():
        if target.resolve() in read:
            raise HeadposeError(Fault("would be drawn over a picture that is read", "choose another `draw`", path))
        if counts[target] > 1:
            what = f"would be drawn to {target}, as another one"
            raise HeadposeError(Fault(what, "name the folder above both, or draw them apart", path))
    return targets


def predict_pictures(
    network: TrainedNetwork, pictures: Sequence[Picture], choose: Choose, draw: Path | None = None
) -> PicturePoses:
    """Return the poses in pictures, and what is wrong with those that cannot be read or have no box.

    With ``draw``, each is written there with its box and the axes of its head, and a sheet of some of them beside.

    Raises
    ------
    HeadposeError
        If no picture has a pose, or what would be drawn cannot be written.
    """
    found, drawing = PicturePoses([], []), _Drawing(draw, pictures) if draw else None
    held: list[_Held] = []
    with progress(len(pictures), "predict", "image") as bar:
        for number, picture in enumerate(pictures, 1):
            try:
                image = read_upright(picture.path)
                chosen = choose(picture, image)
                held.append(
                    _Held(picture, chosen, cut(image, chosen.box, network.facts.size), image if drawing else None)
                )
            except HeadposeError as error:
                found.faults.append(error.fault._replace(file=error.fault.file or picture.path))
            waiting = sum(one.image.nbytes for one in held if one.image is not None)
            if held and (number == len(pictures) or len(held) == BATCH or waiting > _HELD):
                found.rows.extend(_predict(network, held, drawing))
                held = []
            bar.update()
    if not found.rows:
        raise HeadposeError(Fault(f"no picture has a pose; the first fault: {found.faults[0]}"))
    if drawing:
        drawing.finish()
    return found


def describe(network: TrainedNetwork, found: PicturePoses, boxes: str, convention: str) -> str:
    """Return in words what predicted what; ``boxes`` says where boxes are from, and is empty where there were none."""
    about, facts = network.about, network.facts
    crops = f"about {boxes}" if boxes else "of the whole images, as no boxes are given"
    lines = [
        f"network  {about.name}, trained on {about.training_data}",
        f"         batch statistics: {about.batch_statistics}",
        f"crops    {facts.size} pixels a side, {crops}",
    ]
    if not boxes and any(row.chosen.box[2] != row.chosen.box[3] for row in found.rows):
        lines.append("         where an image is not square, its border is repeated until it is")
    several = sum(row.chosen.faces > 1 for row in found.rows)
    if several:
        lines.append(f"         several faces in {several:,} of the images: the largest is taken")
    if facts.box_rule != RULE:
        lines.append(f"         trained on boxes by the rule {shown(facts.box_rule)}, not {RULE} of this version")
    lines += [
        f"angles   pitch, yaw, roll in degrees, convention {convention}, {facts.camera.upper()} camera",
        f"images   {len(found.rows):,} of {len(found.rows) + len(found.faults):,} have a pose",
    ]
    return "\n".join(lines)


def _predict(network: TrainedNetwork, held: list[_Held], drawing: _Drawing | None) -> list[PicturePose]:
    """Return the poses of a batch, drawn if they are to be."""
    angles, rotations = network.poses([one.crop for one in held])
    for one, rotation in zip(held, rotations, strict=True):
        if drawing and one.image is not None:
            drawing.draw(one.picture, one.chosen, one.image, rotation)
    poses = zip(held, angles, rotations, strict=True)
    return [PicturePose(one.picture.path, one.chosen, *pose) for one, *pose in poses]


def check_out(path: Path, pictures: Sequence[Picture]) -> None:
    """Raise HeadposeError if poses cannot be written to a file, which is told before the work and not after it."""
    if path.suffix.lower() == ".toml":
        raise HeadposeError(Fault("expected a name for a CSV", "the TOML beside it takes the ending .toml", path))
    if path.resolve() in {picture.path.resolve() for picture in pictures}:
        raise HeadposeError(Fault("is one of the pictures", "choose another `out`", path))
    about = path.with_suffix(".toml")
    if about.exists() and any(fault.kind != BLANK for fault in read_about(about.read_bytes())[1]):
        mend = f"choose another `out`: {path.name} would get one of this name"
        raise HeadposeError(Fault("there is such a file, and it says of no predictions what they are", mend, about))
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def write_poses(
    path: Path, rows: Sequence[PicturePose], network: TrainedNetwork, convention: str, rotation: bool, command: str
) -> None:
    """Write poses as a CSV: image, pitch, yaw, roll in degrees, the box, and with ``rotation`` r11 to r33.

    A TOML beside it says what they are, so that it can be scored where the pictures are a protocol's. Raises
    HeadposeError if one of them cannot be written.
    """
    rotations = np.stack([row.rotation for row in rows])
    # Raw angles stay as they are: those of a matrix are another triple where yaw is beyond 90 degrees.
    raw = convention == network.facts.convention
    angles = np.stack([row.angles for row in rows]) if raw else from_matrix(rotations, convention)
    table = pd.DataFrame(angles, columns=ANGLE_COLUMNS)
    table.insert(0, "image", [str(row.path) for row in rows])
    for column, values in zip(MATRIX_COLUMNS, rotations.reshape(-1, 9).T, strict=True) if rotation else ():
        table[column] = values
    for place, column in enumerate(COLUMNS[1:]):
        table[column] = [f"{round(float(row.chosen.box[place]), 2):.10g}" for row in rows]
    about = msgspec.structs.replace(network.about, convention=convention, command=command, commit=commit())
    write_text(path.with_suffix(".toml"), about.to_toml())
    write_text(path, table.to_csv(index=False, float_format="%.5f", lineterminator="\n"))
