"""Pictures of the open heads beside the procedural ones, for the page on them and for detectors of faces.

Run by hand, with MakeHuman's assets (docs/open-heads.md)::

    python -m benchmark.upkeep.faces_shown MAKEHUMAN RAW/hpdb FACES
    python benchmark/upkeep/faces_found.py FACES results/open-heads/faces.json

The second runs where mediapipe and dlib are; it imports nothing of this project.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np

from benchmark.studies.records import write_record
from benchmark.upkeep.open_heads import Speed
from benchmark.upkeep.walk import ROOT
from headposeplus.files import write_bytes, write_text
from headposeplus.heads import assets as files
from headposeplus.heads.model import build_head
from headposeplus.heads.people import draw_person
from headposeplus.heads.tracks import Track
from headposeplus.heads.write import encoded, render_pose
from headposeplus.miniature.heads import head_mesh
from headposeplus.miniature.people import draw_identity
from headposeplus.miniature.render import Light, make_scene, render
from headposeplus.miniature.scenery import room
from headposeplus.raw import biwi, manifest
from headposeplus.rotations import Floats, from_matrix, to_matrix
from headposeplus.tasks import processor

PEOPLE = [(female, number) for female in (True, False) for number in range(5)]
SIZE, SEED = 400, 0
PICTURE = ROOT / "docs" / "pictures" / "open-heads.jpg"
# Yaw to both sides, up, level and down, leaning now and then: pitch, yaw, roll in degrees.
POSES = np.array(
    [[pitch, yaw, roll] for pitch, roll in ((-20, 8), (0, 0), (20, -8)) for yaw in (-45, -27, -9, 9, 27, 45)], float
)
_EVERY = 5  # frames of Biwi from one photograph to the next
_SHOWN = [7, 8, 10, 11, 1, 16]  # of them, in the page's picture


class Timed:
    """How many heads and images were made, and in how many seconds of one core."""

    def __init__(self) -> None:
        self.heads = self.images = 0
        self.head_seconds = self.image_seconds = 0.0


def laid_over(image: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Return an image RGBA (height, width, 4) before a picture (height, width, 3)."""
    alpha = image[..., 3:] / 255.0
    return np.rint(image[..., :3] * alpha + picture * (1 - alpha)).astype(np.uint8)


def _procedural(seed: int, female: bool, angles: Floats) -> list[np.ndarray]:
    """Return images RGBA (size, size, 4) of a head of the miniature, lit as SynHead's are there."""
    scene = make_scene(head_mesh(draw_identity(seed, female), 240, neck=True))
    camera = np.array([[1.9 * SIZE, 0, (SIZE - 1) / 2], [0, 1.9 * SIZE, (SIZE - 1) / 2], [0, 0, 1]])
    direction = np.array([0.25, -0.45, -0.9])
    light = Light(direction / np.linalg.norm(direction), np.full(3, 0.8), np.full(3, 0.45), 0.0, 0.0)
    images = []
    for rotation in to_matrix(angles):
        hits = render(scene, rotation, np.array([0.0, 0, 800]), camera, SIZE, SIZE, light, np.random.default_rng(0))
        image = np.zeros((SIZE * SIZE, 4), np.uint8)
        image[hits.pixels, :3] = np.clip(np.rint(hits.colour * 255), 1, 255)
        image[hits.pixels, 3] = 255
        images.append(image.reshape(SIZE, SIZE, 4))
    return images


def _open(assets: files.Assets, female: bool, number: int, angles: Floats, timed: Timed) -> list[np.ndarray]:
    """Return images RGBA (size, size, 4) of an open head, each in its own light; add up what they take."""
    start = time.process_time()
    head = build_head(assets, draw_person(SEED, female, number))
    timed.heads += 1
    timed.head_seconds += time.process_time() - start
    images = []
    for row, angle in enumerate(angles):
        track = Track("BIWI", f"{row:02d}", angle[None])
        start = time.process_time()
        images.append(render_pose(head, track, 0, (SEED, female, number), "xyz+++", SIZE))
        encoded(images[-1])
        timed.images += 1
        timed.image_seconds += time.process_time() - start
    return images


def _photographs(biwi_folder: Path, out: Path) -> list[str]:
    """Write frames of a raw Biwi into a folder, and return their rows."""
    root, groups = biwi.find_root(biwi_folder), manifest.calibration_groups(manifest.read())
    rows = []
    for name in biwi.sequences(root):
        sequence = biwi.open_sequence(root, name, groups.get(name, ""))
        for frame, pose in list(sequence.poses())[::_EVERY]:
            if isinstance(pose, biwi.Pose):
                file = f"photograph/{name}_{frame.number:05d}.png"
                write_bytes(out / file, cv2.imencode(".png", sequence.read_image(frame)[..., ::-1])[1].tobytes())
                rows.append(f"photograph,{file}," + ",".join(f"{angle:.3f}" for angle in from_matrix(pose.rotation)))
    return rows


def write_faces(heads: Path, biwi_folder: Path, out: Path, results: Path) -> None:
    """Write pictures of both kinds of heads, and photographs, to ``out``; to ``results`` what the open ones took."""
    assets = files.open_assets(heads)
    timed = Timed()
    _open(assets, True, 0, POSES[:1], Timed())  # compiles the kernels
    rows = ["kind,file,pitch,yaw,roll", *_photographs(biwi_folder, out)]
    sheet = []
    for female, number in PEOPLE:
        kinds = {
            "open": _open(assets, female, number, POSES, timed),
            "procedural": _procedural(1000 + number + 50 * female, female, POSES),
        }
        for kind, images in kinds.items():
            for pose, image in enumerate(images):
                picture = room(np.random.default_rng([SEED, 3, number, int(female), pose]), SIZE, SIZE) * 255
                name = f"{kind}/{'f' if female else 'm'}{number + 1:02d}_{pose:02d}.png"
                (out / kind).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(out / name), laid_over(image, picture)[..., ::-1])
                rows.append(f"{kind},{name}," + ",".join(f"{angle:g}" for angle in POSES[pose]))
        grey = np.full((SIZE, SIZE, 3), (142, 150, 158), np.uint8)
        tiles = [kinds["open"][pose] for pose in _SHOWN] + [kinds["procedural"][pose] for pose in _SHOWN[:2]]
        crops = [laid_over(tile, grey)[40:360, 40:360] for tile in tiles]
        sheet.append(np.hstack([cv2.resize(tile, (120, 120), interpolation=cv2.INTER_AREA) for tile in crops]))
    write_text(out / "faces.csv", "\n".join(rows) + "\n")
    cv2.imwrite(str(PICTURE), np.vstack(sheet)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    kept = Speed(timed.heads, timed.head_seconds, timed.images, timed.image_seconds, SIZE, processor())
    write_record(results / "speed.json", kept)


if __name__ == "__main__":
    HEADS, BIWI, OUT = map(Path, sys.argv[1:4])
    write_faces(HEADS, BIWI, OUT, ROOT / "results" / "open-heads")
