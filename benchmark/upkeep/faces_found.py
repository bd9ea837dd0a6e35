"""How many faces dlib and MediaPipe find in pictures of heads, and how well MediaPipe reads their pose.

It is run by hand on what ``benchmark.upkeep.faces_shown`` wrote, in an environment of its own, since mediapipe (0.10,
with its solution face_mesh) asks for an old numpy; it imports nothing of this project::

    pip install mediapipe==0.10.14 dlib-bin
    python benchmark/upkeep/faces_found.py FACES results/open-heads/faces.json

A pose is the rotation that best lays the landmarks of a face that looks ahead over MediaPipe's 468. That face is the
mean of the photographs' landmarks, turned back by their true poses: so the heads are read as photographs are.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import dlib
import numpy as np
from mediapipe.python.solutions.face_mesh import FaceMesh
from scipy.spatial.transform import Rotation

FLIP = np.array([1.0, -1.0, -1.0])  # from x right, y down, z forward to x right, y up, z to the viewer


def landmarks(mesh: FaceMesh, picture: np.ndarray) -> np.ndarray | None:
    """Return MediaPipe's landmarks (468, 3), about their middle and of mean size 1; None where it finds no face."""
    found = mesh.process(picture).multi_face_landmarks
    if not found:
        return None
    points = np.array([[p.x, p.y, p.z] for p in found[0].landmark]) * FLIP
    points -= points.mean(axis=0)
    return points / np.linalg.norm(points, axis=1).mean()


def rotation_between(face: np.ndarray, points: np.ndarray) -> Rotation:
    """Return the rotation that lays a face (n, 3) over points (n, 3) best (Kabsch)."""
    return Rotation.align_vectors(points, face)[0]


def rotation_of(row: dict[str, str]) -> Rotation:
    """Return a picture's true rotation: pyr, so Rz(roll) Ry(yaw) Rx(pitch) with x right, y up, z to the viewer."""
    return Rotation.from_euler("xyz", [float(row[angle]) for angle in ("pitch", "yaw", "roll")], degrees=True)


def angles_of(rotation: Rotation) -> np.ndarray:
    """Return pitch, yaw and roll (3,) of a rotation, degrees."""
    angles: np.ndarray = rotation.as_euler("xyz", degrees=True)
    return angles


def look_at(folder: Path, rows: list[dict[str, str]]) -> tuple[int, dict[int, np.ndarray]]:
    """Return in how many pictures dlib finds a face, and MediaPipe's landmarks by the picture's number."""
    detector = dlib.get_frontal_face_detector()
    found, by_dlib = {}, 0
    with FaceMesh(static_image_mode=True, max_num_faces=1) as mesh:
        for number, row in enumerate(rows):
            picture = np.asarray(cv2.imread(str(folder / row["file"])))[..., ::-1].copy()
            by_dlib += bool(len(detector(picture, 1)))
            points = landmarks(mesh, picture)
            if points is not None:
                found[number] = points
    return by_dlib, found


def figures_of(
    rows: list[dict[str, str]], by_dlib: int, found: dict[int, np.ndarray], face: np.ndarray
) -> dict[str, object]:
    """Return how many faces were found, and the errors of their poses in degrees: mean absolute ones, and the mean."""
    read = {n: rotation_between(face, points) for n, points in found.items()}
    errors = np.array([angles_of(read[n]) - angles_of(rotation_of(rows[n])) for n in read])
    apart = [np.rad2deg((read[n].inv() * rotation_of(rows[n])).magnitude()) for n in read]
    errors = (errors + 180) % 360 - 180
    return {
        "pictures": len(rows), "dlib": by_dlib, "mediapipe": len(found),
        "error": round(float(np.abs(errors).mean()), 2), "bias": errors.mean(axis=0).round(2).tolist(),
        "geodesic": round(float(np.mean(apart)), 2),
    }  # fmt: skip


def main(folder: Path, out: Path) -> None:
    """Write the figures of each kind of picture in a folder."""
    with (folder / "faces.csv").open() as file:
        rows = list(csv.DictReader(file))
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in dict.fromkeys(row["kind"] for row in rows)}
    seen = {kind: look_at(folder, some) for kind, some in kinds.items()}
    photographs = kinds["photograph"]
    face = np.mean([rotation_of(photographs[n]).inv().apply(p) for n, p in seen["photograph"][1].items()], axis=0)
    figures = {kind: figures_of(kinds[kind], *seen[kind], face) for kind in kinds}
    out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
