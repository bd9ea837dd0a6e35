"""Writing a miniature: ``OUT/hpdb`` and ``OUT/synhead2_release`` in the exact raw layouts.

Every frame's random numbers come from (seed, what, number), so files can be written in any order and by any
number of processes, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from headposeplus import __version__
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, shown
from headposeplus.files import listing, locked, read_note, sweep, write_bytes, write_json, write_text
from headposeplus.images import PNG
from headposeplus.miniature.heads import body_mesh, head_mesh
from headposeplus.miniature.people import draw_identity
from headposeplus.miniature.poses import SCALES, Motion, Scale, biwi_motion, hidden_order, track_angles
from headposeplus.miniature.render import Scene, cast, make_scene, render
from headposeplus.miniature.scenery import Sensor, room, to_bytes
from headposeplus.miniature.solids import Mesh
from headposeplus.miniature.stage import (
    PLACES,
    SYNHEAD_CENTRE,
    SYNHEAD_DISTANCE,
    SYNHEAD_FOCAL,
    Likeness,
    biwi_light,
    biwi_poses,
    depth_calibration,
    rgb_calibration,
    synhead_camera,
    synhead_light,
)
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.raw.biwi import Calibration, Pose
from headposeplus.raw.manifest import Manifest, ManifestRow
from headposeplus.raw.source import Source
from headposeplus.rotations import Floats, from_matrix, to_matrix
from headposeplus.tasks import run_tasks

_SOURCE = "hpp miniature"  # of the manifest's rows
VERSION = 2  # of what a seed gives: figures of different versions do not compare
BIWI, SYNHEAD = "hpdb", "synhead2_release"  # the folders of the two copies


class _Track(NamedTuple):
    """A track of SynHead: its group, its number as written, and its angles (n, 3) as its file has them."""

    group: str
    name: str
    angles: Floats


class _TrackImages(NamedTuple):
    """A track by its number among all, and its group."""

    number: int
    group: str


class _Sequence(NamedTuple):
    out: Path
    scale: Scale
    seed: int
    people: int
    like: Likeness
    row: ManifestRow


class _Head(NamedTuple):
    out: Path
    scale: Scale
    seed: int
    people: int
    head: str
    tracks: list[_Track]


def _calibration_text(calibration: Calibration) -> str:
    def rows(values: Floats) -> list[str]:
        return ["".join(f"{value:.7g} " for value in row) for row in np.atleast_2d(values)]

    blocks = (calibration.matrix, calibration.distortion, calibration.rotation, calibration.translation)
    lines = [line for block in blocks for line in (*rows(block), "")]
    return "\n".join([*lines, f"{calibration.width} {calibration.height}"]) + "\n"


def _pose_text(pose: Pose) -> str:
    rows = ["".join(f"{value:.6g} " for value in row) for row in pose.rotation]
    return "\n".join([*rows, "", "".join(f"{value:.6g} " for value in pose.centre), ""]) + "\n"


def _mesh_text(mesh: Mesh) -> str:
    count, faces = len(mesh.vertices), len(mesh.triangles)
    # All rows by one format, which takes a third of the time that a format a row does.
    vertices = "v %.10f %.10f %.10f\nvn %.10f %.10f %.10f\nvt 0.0000000000 0.0000000000\n" * count
    corners = "f %d/%d/%d %d/%d/%d %d/%d/%d\n" * faces
    values = np.hstack((mesh.vertices, mesh.normals)).ravel().tolist()
    values += np.repeat(mesh.triangles + 1, 3, axis=1).ravel().tolist()
    return f"# {count} vertices, {faces} faces\n" + (vertices + corners) % tuple(values)


def _write_png(path: Path, image: np.ndarray) -> None:
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    write_bytes(path, cv2.imencode(".png", image, PNG)[1].tobytes())


def _identity_seed(seed: int, kind: int, name: str) -> tuple[int, bool]:
    number = int(np.random.default_rng([seed, kind, *name.encode()]).integers(2**31))
    return number, name[0].lower() == "f"


def _paint(image: np.ndarray, depth: np.ndarray, pixels: np.ndarray, z: np.ndarray, colour: np.ndarray) -> None:
    """Draw what rays met into an image (height, width, 3) and its depth, where it is nearer."""
    nearer = (depth.flat[pixels] == 0) | (z < depth.flat[pixels])
    image.reshape(-1, 3)[pixels[nearer]] = colour[nearer]
    depth.reshape(-1)[pixels[nearer]] = z[nearer]


def _sequence_is_there(task: _Sequence) -> bool:
    name = task.row.unit
    folder, masks = task.out / BIWI / name, task.out / "head_pose_masks" / name
    ends = ("_rgb.png", "_depth.bin", "_pose.txt")
    stems = [f"frame_{number:05d}" for number in biwi_motion(task.row, task.scale.frames, task.seed).numbers]
    wanted = [folder / f"{stem}{end}" for stem in stems for end in ends]
    wanted += [masks / f"{stem}_depth_mask.png" for stem in stems]
    return all(path.exists() for path in (folder.with_suffix(".obj"), *wanted))


def _write_sequence(task: _Sequence) -> None:
    scale, row = task.scale, task.row
    name, group = row.unit, row.calibration_group
    folder = task.out / BIWI / name
    annotations = task.out / "db_annotations" / name
    masks = task.out / "head_pose_masks" / name
    motion = biwi_motion(row, scale.frames, task.seed)
    stems = [f"frame_{number:05d}" for number in motion.numbers]
    rgb, depth_camera = rgb_calibration(group, scale), depth_calibration(scale)
    write_text(folder / "rgb.cal", _calibration_text(rgb))
    write_text(folder / "depth.cal", _calibration_text(depth_camera))
    like, subject = task.like, row.subject
    who = draw_identity(*_identity_seed(task.people, 3, subject))
    if like.heads:
        who = draw_identity(
            *_identity_seed(task.people, 6, f"{subject[0].lower()}{(int(subject[1:]) - 1) % 5 + 1:02d}")
        )
    head = make_scene(head_mesh(who, scale.detail, neck=like.body))
    write_text(folder.with_suffix(".obj"), _mesh_text(head_mesh(who, 72, neck=False)))

    # Biwi was recorded in two settings, each with one camera in one place.
    rng = np.random.default_rng([task.people, 4, int(name)])
    sensor = Sensor(np.random.default_rng([task.people, 9, ord(group)]), scale.width)
    light = synhead_light(task.people, 4, int(name)) if like.light else biwi_light(rng)
    poses, neck = biwi_poses(motion, PLACES[group], like.placement, rng)
    torso = make_scene(body_mesh(who, scale.detail // 2, rng))
    backdrop = room(rng, scale.width, scale.height).reshape(scale.height, scale.width, 3)
    backdrop_depth = np.zeros((scale.height, scale.width), np.float32)
    body_depth = np.zeros((depth_camera.height, depth_camera.width), np.int16)
    if not like.body:
        body = render(torso, np.eye(3), neck, rgb.matrix, scale.width, scale.height, light, rng)
        _paint(backdrop, backdrop_depth, *body)
        seen = Pose(rgb.rotation.T, rgb.rotation.T @ (neck - rgb.translation))
        body_depth = _depth_image(torso, seen, depth_camera)

    for number, stem, pose in zip(motion.numbers, stems, poses, strict=True):
        rng = np.random.default_rng([task.people, 5, int(name), int(number)])
        image, depth = backdrop.copy(), backdrop_depth.copy()
        _paint(image, depth, *render(head, *pose, rgb.matrix, scale.width, scale.height, light, rng))
        seen = Pose(rgb.rotation.T @ pose.rotation, rgb.rotation.T @ (pose.centre - rgb.translation))
        head_depth = _depth_image(head, seen, depth_camera)
        nearest = np.where((body_depth == 0) | ((head_depth > 0) & (head_depth < body_depth)), head_depth, body_depth)
        mask = (head_depth > 0) & (nearest == head_depth)
        _write_png(masks / f"{stem}_depth_mask.png", mask.astype(np.uint8) * 255)
        write_bytes(folder / f"{stem}_depth.bin", biwi.encode_depth(nearest))
        write_text(folder / f"{stem}_pose.txt", _pose_text(seen))
        if (name, number) != ("01", 3):  # the real annotations lack this one
            values = (*seen.centre, *from_matrix(seen.rotation, "biwi"))
            write_bytes(annotations / f"{stem}_pose.bin", struct.pack("<6f", *values))
        photograph = to_bytes(image) if like.sensor else sensor.expose(image, rng)
        _write_png(folder / f"{stem}_rgb.png", photograph)


def _depth_image(scene: Scene, pose: Pose, camera: Calibration) -> np.ndarray:
    depth = np.zeros(camera.height * camera.width, np.int16)
    pixels, z = cast(scene, *pose, camera.matrix, camera.width, camera.height)
    depth[pixels] = np.rint(z)
    return depth.reshape(camera.height, camera.width)


def _missing_images(task: _Head) -> dict[_TrackImages, list[tuple[Path, Floats]]]:
    """Return the paths and angles of the images of a head that are not there yet, by its tracks."""
    missing = {}
    for number, track in enumerate(task.tracks):
        folder = task.out / SYNHEAD / track.group / task.head / track.name
        present = {path.name for path in listing(folder, ".png")} if folder.is_dir() else set()
        names = [synhead.image_name(index, len(track.angles)) for index in range(len(track.angles))]
        absent = [(folder / name, row) for name, row in zip(names, track.angles, strict=True) if name not in present]
        if absent:
            missing[_TrackImages(number, track.group)] = absent
    return missing


def _write_head(task: _Head) -> None:
    size, order = task.scale.size, hidden_order(task.seed)
    who = draw_identity(*_identity_seed(task.people, 6, task.head))
    scene = make_scene(head_mesh(who, task.scale.detail, neck=True))
    camera = synhead_camera(size).matrix
    rng = np.random.default_rng(0)  # without shadows nothing is drawn from it
    for track, images in _missing_images(task).items():
        light = synhead_light(task.people, 6, *task.head.encode(), track.number)
        for path, angle in images:
            hits = render(scene, to_matrix(angle, order), SYNHEAD_CENTRE, camera, size, size, light, rng)
            image = np.zeros((size * size, 4), np.uint8)
            image[hits.pixels, :3] = np.clip(np.rint(hits.colour * 255), 1, 255)
            image[hits.pixels, 3] = 255
            square = image.reshape(size, size, 4)
            _write_png(path, square[..., :3] if track.group == "kinect" else square)


def _listed(row: ManifestRow, motion: Motion) -> ManifestRow:
    """Return the manifest's row of a sequence of the miniature, from that of the real one."""
    numbers = motion.numbers.tolist()
    statistics = np.concatenate((motion.angles.mean(0), motion.angles.std(0))).round(4).tolist()
    return row._replace(
        frames=len(numbers),
        first_frame=numbers[0],
        last_frame=numbers[-1],
        frame_numbers=manifest.to_ranges(numbers),
        frame_list_sha256=manifest.frame_list_sha256(row.unit, numbers),
        source=_SOURCE,
        **dict(zip(manifest.LABEL_STATISTICS, statistics, strict=True)),
    )


@contextmanager
def _started(out: Path, about: dict[str, object]) -> Iterator[None]:
    """Note what miniature ``out`` holds, and keep other processes out of it.

    Raises HeadposeError if it holds another, or something else, or another process writes there.
    """
    note = out / "miniature.json"
    held = read_note(note, "the description of a miniature", "not empty and not a miniature")
    if held is not None and held != about:
        other = [
            f"{name} {shown(held.get(name))}, not {shown(value)}"
            for name, value in about.items()
            if held.get(name) != value
        ]
        what = f"holds the miniature of {', '.join(other) or 'other settings'}"
        raise HeadposeError(Fault(what, "choose another folder or delete it", out))
    with locked(out, wait=False):
        sweep(out, deep=True)
        write_json(note, about)
        yield


def _write_tracks(
    root: Path, scale: Scale, seed: int, rows: dict[str, ManifestRow], motions: dict[str, Motion]
) -> list[_Track]:
    """Write the angles of SynHead's tracks and return them.

    ``rows`` are the manifest's of Biwi, by sequence, and ``motions`` those of the miniature's sequences: a track of
    the group ``BIWI`` follows each.
    """
    order = hidden_order(seed)
    tracks = []
    for number, group in enumerate(synhead.GROUPS):
        for index in range(scale.tracks[number]):
            name, motion = f"{index:02d}", None
            if number == 0:
                sequence = scale.sequences[index]
                name = f"{int(sequence) - 1:02d}"
                in_depth = rgb_calibration(rows[sequence].calibration_group, scale).rotation.T
                motion = from_matrix(in_depth @ to_matrix(motions[sequence].smoothed))
            angles = track_angles(number, index, scale.poses[number], motion, order, seed)
            # What is rendered are the numbers that the file holds.
            text = "".join("{:.6f},{:.6f},{:.6f}\n".format(*row) for row in angles)
            write_text(root / group / f"{name}.csv", text)
            written = np.array([[float(cell) for cell in line.split(",")] for line in text.splitlines()])
            tracks.append(_Track(group, name, written))
    return tracks


def _write_backgrounds(folder: Path, scale: Scale, seed: int) -> None:
    for index in range(scale.backgrounds):
        path = folder / f"a{index:02d}.{'jpg' if index % 3 else 'png'}"
        if not path.exists():
            picture = room(np.random.default_rng([seed, 7, index]), scale.width, scale.height)
            encoded = cv2.imencode(path.suffix, np.rint(picture[..., ::-1] * 255).astype(np.uint8))[1]
            write_bytes(path, encoded.tobytes())


def source_of(out: Path, seed: int = 0) -> Source:
    """Return the raw copies of the miniature in ``out``, to build datasets from."""
    return Source(out / BIWI, out / SYNHEAD, manifest=out / manifest.FILE_NAME, seed=seed)


def _write_head_places(root: Path, scale: Scale) -> None:
    """Write where each head is in its images: all turn about the middle of the image."""
    middle, pixels = (scale.size - 1) / 2, SYNHEAD_FOCAL * scale.size / SYNHEAD_DISTANCE
    lines = ["head,x,y,pixels_per_mm", *(f"{head},{middle:g},{middle:g},{pixels:.6g}" for head in synhead.HEADS)]
    write_text(root / synhead.HEAD_PLACES, "\n".join(lines) + "\n")


class _Motions(NamedTuple):
    """The manifest's rows of Biwi by sequence, and the motions of a miniature's sequences."""

    rows: dict[str, ManifestRow]
    of: dict[str, Motion]


def _motions(scale: Scale, seed: int) -> _Motions:
    rows = manifest.biwi_rows(manifest.read())
    return _Motions(rows, {name: biwi_motion(rows[name], scale.frames, seed) for name in scale.sequences})


def _write_biwi(
    out: Path, scale: Scale, seed: int, people: int, like: Likeness, motions: _Motions, tracks: Manifest, jobs: int
) -> None:
    """Write the manifest of a miniature and its Biwi; ``tracks`` are the manifest's rows of its SynHead."""
    biwi = [_listed(motions.rows[name], motion) for name, motion in sorted(motions.of.items())]
    manifest.write(out / manifest.FILE_NAME, (*biwi, *tracks))
    sequences = [_Sequence(out, scale, seed, people, like, motions.rows[name]) for name in scale.sequences]
    missing = [task for task in sequences if not _sequence_is_there(task)]
    run_tasks(_write_sequence, missing, jobs, "Biwi sequences")


def write_miniature(
    out: Path | str, scale: str = "small", seed: int = 0, jobs: int = 1, people: int | None = None
) -> Source:
    """Write ``OUT/hpdb``, ``OUT/synhead2_release`` and the manifest of both, ``OUT/data_manifest.csv``; return them.

    Parameters
    ----------
    out
        A new folder, or one that holds the same miniature.
    scale
        One of :data:`headposeplus.miniature.poses.SCALES`, from ``tiny`` to ``full``.
    seed
        Of all random numbers.
    jobs
        Number of processes.
    people
        Another seed of heads, light, rooms and cameras, so that only the poses follow from ``seed``.

    Raises
    ------
    HeadposeError
        If ``out`` holds another miniature, or something else, or there is no such scale.
    """
    out, people = Path(out), seed if people is None else people
    if scale not in SCALES:
        raise HeadposeError(f"there is no scale {shown(scale)}; there are {', '.join(SCALES)}")
    size = SCALES[scale]
    about = {"scale": scale, "version": VERSION, "seed": seed, "people": people, "toolkit": __version__}
    with _started(out, about):
        motions, root = _motions(size, seed), out / SYNHEAD
        tracks = _write_tracks(root, size, seed, motions.rows, motions.of)
        rows = tuple(ManifestRow("synhead", t.name, t.group, frames=len(t.angles), source=_SOURCE) for t in tracks)
        _write_backgrounds(root / "background", size, people)
        _write_head_places(root, size)
        heads = [_Head(out, size, seed, people, head, tracks) for head in synhead.HEADS]
        run_tasks(_write_head, [task for task in heads if _missing_images(task)], jobs, "SynHead heads")
        _write_biwi(out, size, seed, people, Likeness(), motions, rows, jobs)
        return source_of(out, seed)


def write_target(out: Path, scale_name: str, seed: int, jobs: int, people: int, like: Likeness) -> Source:
    """Write the Biwi of a miniature alone, in some ways like its source; else as :func:`write_miniature`."""
    scale = SCALES[scale_name]
    about = {"scale": scale_name, "version": VERSION, "seed": seed, "people": people, "toolkit": __version__}
    about |= {"like the source": [name for name, value in like._asdict().items() if value]}
    with _started(out, about):
        _write_biwi(out, scale, seed, people, like, _motions(scale, seed), (), jobs)
        return Source(out / BIWI, None, manifest=out / manifest.FILE_NAME, seed=seed)
