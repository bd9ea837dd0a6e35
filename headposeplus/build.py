"""The build: Biwi+, SynHead+, SynBiwi+ and SynHead++ from raw Biwi and SynHead.

A shard is one task: a Biwi sequence, or a SynHead head and group. Tasks run in parallel processes and share
nothing. A finished shard is never built again, so a build that was stopped goes on at the shards it lacks,
and the bytes do not depend on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import h5py
import numpy as np

from headposeplus import __version__, biwi, boxes, manifest, render_order, shards, synhead
from headposeplus.errors import DatasetError, HeadposeError, ImageError, RawDataError
from headposeplus.files import locked, read_json, run_tasks, sha256, whole_or_absent, write_json
from headposeplus.images import (
    crop,
    crop_foreground,
    crop_matrix,
    encode,
    inscribed_circle,
    premultiplied,
    read_image,
)
from headposeplus.match import match
from headposeplus.rotations import EulerOrder, Floats, euler_order, from_matrix, to_matrix

ORDER_REPORT = "render_order.json"
HEAD_BALLS = "head_balls.json"
NEAREST_MM = 200.0  # a head nearer to the camera than this is a damaged pose
BALL_IMAGES = 200  # images of a head from which its ball is fitted
Report = dict[str, Any]


class Options(NamedTuple):
    """What a build is asked for.

    ``size`` is the crops' side in pixels. A SynHead frame is kept while the face's axis points into the
    camera's half-space by more than ``visible_margin`` (the cosine to the optical axis). The sources are
    JPEG unless ``lossless``. ``strict`` raises at the first damaged file instead of leaving it out.
    """

    size: int = 224
    visible_margin: float = 0.1
    lossless: bool = False
    strict: bool = False


class Summary(NamedTuple):
    """What a build made: each dataset's description, and lines on what a reader should know."""

    datasets: list[dict[str, Any]]
    notes: list[str]
    left_out: list[str]
    order: render_order.OrderReport | None


class _ShardTask(NamedTuple):
    """What every shard's task begins with."""

    path: Path
    origin: shards.Origin
    options: Options
    work: Any


class _BiwiWork(NamedTuple):
    root: Path
    sequence: str
    subject: str
    boxes: dict[str, Floats] | None


class _SynHeadCopy(NamedTuple):
    """A raw SynHead as found: the tracks of which any head has images, its heads, and each folder's fingerprint.

    Looked through once in a build: half a million files take a while. ``folders`` holds a hash for each
    track and head that has images; ``tracks_sha256`` is that of the tracks' angles.
    """

    root: Path
    tracks: list[synhead.Track]
    heads: list[str]
    folders: dict[tuple[synhead.Track, str], str]
    tracks_sha256: dict[synhead.Track, str]

    def fingerprint(self, tracks: list[synhead.Track], heads: list[str]) -> str:
        """Return a hash of the angles of some tracks and of the images of some heads in them."""
        images = [self.folders.get((track, head), "") for track in tracks for head in heads]
        angles = [[track.group, track.name, self.tracks_sha256[track]] for track in tracks]
        return _hash([angles, heads, images])

    def tracks_of(self, head: str) -> list[synhead.Track]:
        """Return the tracks in which a head has images."""
        return [track for track in self.tracks if (track, head) in self.folders]


class _SynHeadWork(NamedTuple):
    tracks: list[synhead.Track]
    head: str
    order: EulerOrder
    ball: boxes.HeadBall


class _SynBiwiRow(NamedTuple):
    frame: str
    track: synhead.Track
    frame_in_track: int
    rows: int
    turn: float
    source: Floats
    rotation: Floats
    geodesic: float
    euler: float


class _SynBiwiWork(NamedTuple):
    rows: list[_SynBiwiRow]
    balls: dict[str, boxes.HeadBall]  # by head


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _finish(
    shard: shards.ShardWriter, task: _ShardTask, left_out: list[str], box_sources: Counter[str], **more: Any
) -> Report:
    """Finish a shard and return its report; where the build is strict, raise the first damaged file instead."""
    if task.options.strict and left_out:
        raise RawDataError(left_out[0])
    report = {"rows": shard.count, "left_out": left_out, "boxes": dict(sorted(box_sources.items())), **more}
    shard.finish(report)
    return report


def _build_biwi(task: _ShardTask) -> Report:
    """Build one sequence of Biwi+."""
    work: _BiwiWork = task.work
    frames, left_out = biwi.frames(work.root, work.sequence)
    camera = biwi.read_calibration(work.root / work.sequence / "rgb.cal")
    sources: Counter[str] = Counter()
    with shards.write_shard(task.path, task.origin) as shard:
        for frame in frames:
            try:
                image = read_image(frame.image)
                pose = biwi.to_rgb_camera(biwi.read_pose(frame.pose), camera)
                if image.shape[:2] != (camera.height, camera.width):
                    raise ImageError(
                        f"{frame.image}: {image.shape[1]} x {image.shape[0]} pixels, but the calibration says "
                        f"{camera.width} x {camera.height}"
                    )
                if pose.centre[2] < NEAREST_MM:
                    raise RawDataError(f"{frame.pose}: the head is {pose.centre[2]:.0f} mm before the camera")
            except RawDataError as error:
                left_out.append(str(error))
                continue
            given = work.boxes.get(frame.id) if work.boxes is not None else None
            box = given if given is not None else boxes.projected(pose.centre, camera)
            sources["given" if given is not None else "projected"] += 1
            picture = crop(image[..., :3], crop_matrix(box, task.options.size), task.options.size)
            encoded = encode(picture, lossless=True)
            shard.add(shards.Row(frame.id, work.subject, encoded, None, pose.rotation, box, {}))
        return _finish(shard, task, left_out, sources)


def _read_head(path: Path) -> np.ndarray:
    """Return a rendered head as premultiplied RGBA (height, width, 4)."""
    head = premultiplied(read_image(path))
    pixels = cv2.countNonZero(cv2.extractChannel(head, 3))
    if not 16 <= pixels < 0.97 * head.shape[0] * head.shape[1]:
        raise ImageError(f"{path}: expected a head before a transparent or black background, found none")
    return head


def _synthetic_crop(
    path: Path, rotation: Floats, turn: float, ball: boxes.HeadBall, options: Options
) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Return the encoded crop, its foreground and its box of a SynHead image turned in its plane."""
    head = _read_head(path)
    height, width = head.shape[:2]
    principal = np.array([(width - 1) / 2, (height - 1) / 2])
    box = boxes.of_ball(ball, rotation, turn, principal)
    matrix = crop_matrix(box, options.size, turn, principal)
    picture, inside = crop_foreground(head, matrix, options.size)
    return encode(picture, options.lossless), inside, box


def _fit_ball(work: tuple[list[synhead.Track], str, EulerOrder, float]) -> boxes.HeadBall:
    """Fit the ball of one head to some of its images, spread over all tracks."""
    tracks, head, order, margin = work
    middles, radii, rotations = [], [], []
    paths: list[tuple[Path, Floats]] = []
    for track in tracks:
        poses = to_matrix(synhead.read_angles(track), order)
        images = synhead.list_images(track, head, len(poses))
        paths += [(path, pose) for path, pose in zip(images, poses, strict=True) if pose[2, 2] > margin]
    if not paths:
        raise RawDataError(f"{tracks[0].csv.parents[1]}: no image of {head} shows its face")
    for index in np.unique(np.linspace(0, len(paths) - 1, BALL_IMAGES).astype(int)):
        path, pose = paths[index]
        try:
            middle, radius = inscribed_circle(_read_head(path)[..., 3] > 127)
        except ImageError:
            continue  # the build lists it
        middles.append(middle)
        radii.append(radius)
        rotations.append(pose)
    if len(middles) < 3:
        raise RawDataError(f"{tracks[0].csv.parents[1]}: fewer than three readable images of {head}")
    return boxes.fit_ball(np.array(middles), np.array(radii), np.array(rotations))


def _visible(rotations: Floats, options: Options) -> np.ndarray:
    # The face looks along the head's -z; its component towards the camera is R22.
    return rotations[:, 2, 2] > options.visible_margin


def _build_synhead(task: _ShardTask) -> Report:
    """Build one head and group of SynHead+."""
    work: _SynHeadWork = task.work
    left_out: list[str] = []
    sources: Counter[str] = Counter()
    hidden = 0
    with shards.write_shard(task.path, task.origin) as shard:
        for track in work.tracks:
            rotations = to_matrix(synhead.read_angles(track), work.order)
            paths = synhead.list_images(track, work.head, len(rotations))
            visible = _visible(rotations, task.options)
            hidden += int((~visible).sum())
            for index in np.flatnonzero(visible):
                try:
                    encoded, mask, box = _synthetic_crop(paths[index], rotations[index], 0.0, work.ball, task.options)
                except ImageError as error:
                    left_out.append(str(error))
                    continue
                sources["outline"] += 1
                name = synhead.image_id(track.group, work.head, track.name, int(index))
                shard.add(shards.Row(name, work.head, encoded, mask, rotations[index], box, {}))
        return _finish(shard, task, left_out, sources, face_not_visible=hidden)


def _build_synbiwi(task: _ShardTask) -> Report:
    """Build SynBiwi+ for one sequence of Biwi+: a row a frame and head."""
    work: _SynBiwiWork = task.work
    left_out: list[str] = []
    sources: Counter[str] = Counter()
    images: dict[tuple[synhead.Track, str], list[Path]] = {}
    with shards.write_shard(task.path, task.origin) as shard:
        for row in work.rows:
            for head, ball in work.balls.items():
                if (row.track, head) not in images:
                    images[row.track, head] = synhead.list_images(row.track, head, row.rows)
                path = images[row.track, head][row.frame_in_track]
                try:
                    encoded, mask, box = _synthetic_crop(path, row.source, row.turn, ball, task.options)
                except ImageError as error:
                    left_out.append(str(error))
                    continue
                sources["outline"] += 1
                extra = {
                    "source": synhead.image_id(row.track.group, head, row.track.name, row.frame_in_track),
                    "turn": row.turn,
                    "residual/geodesic": row.geodesic,
                    "residual/euler": row.euler,
                }
                name = f"syn{row.frame}/{head}"
                shard.add(shards.Row(name, head, encoded, mask, row.rotation, box, extra))
        return _finish(shard, task, left_out, sources)


def _run(function: Callable[[_ShardTask], Report], tasks: list[_ShardTask], jobs: int, label: str) -> list[Report]:
    """Return the report of each shard, building those that are not there yet.

    While a shard is missing, the folder has no ``dataset.json``, and neither has the union that it is part of.
    """
    folder = tasks[0].path.parent
    for path in sorted(folder.glob("shard-*.h5"))[:1]:
        shards.read_report(path, tasks[0].origin)  # other options are refused, whatever the number of shards
    found = [shards.read_report(task.path, task.origin) for task in tasks]
    missing = [task for task, report in zip(tasks, found, strict=True) if report is None]
    if missing:
        for name in (folder.name, "synhead++"):
            (folder.parent / name / shards.INFO).unlink(missing_ok=True)
    built = iter(run_tasks(function, missing, jobs, label))
    return [report if report is not None else next(built) for report in found]


def _describe(
    folder: Path, name: str, parameters: dict[str, Any], paths: list[Path], reports: list[Report], **more: Any
) -> dict[str, Any]:
    """Write ``dataset.json`` beside the finished shards, remove what older or killed builds left, and return it."""
    for path in {*folder.glob("shard-*.h5"), *folder.glob(".shard-*.part")} - set(paths):
        path.unlink()
    box_sources: Counter[str] = Counter()
    for report in reports:
        box_sources.update(report["boxes"])
    info: dict[str, Any] = {
        "name": name,
        "schema": shards.SCHEMA,
        "toolkit": __version__,
        "convention": "pyr",
        "camera": "rgb",
        "parameters": parameters,
        "boxes": dict(box_sources),
        "left_out": [line for report in reports for line in report["left_out"]],
        **more,
        "shards": [
            {"file": path.name, "rows": report["rows"], "sha256": sha256(path)}
            for path, report in zip(paths, reports, strict=True)
        ],
    }
    _, rotations = shards.read_labels(shards.Dataset(folder, info))
    angles = from_matrix(rotations)
    info["rows"] = len(angles)
    info["content_sha256"] = _hash([info["shards"], more.get("joined"), more.get("backgrounds_sha256")])
    info["labels"] = {
        key: [round(float(value), 4) for value in statistic(angles, axis=0)]
        for key, statistic in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max))
        if len(angles)
    }
    write_json(folder / shards.INFO, info)
    return info


def _raw_hash(paths: Iterable[Path]) -> str:
    """Return a hash that changes when a file is added, taken away, renamed or changes its size."""
    return _hash([[path.parent.name, path.name, path.stat().st_size] for path in paths])


def _sequence_hash(root: Path, name: str) -> str:
    frames = biwi.frames(root, name)[0]
    files = [path for frame in frames for path in (frame.image, frame.pose)]
    calibration = root / name / "rgb.cal"
    return _hash([_raw_hash(files), sha256(calibration) if calibration.exists() else ""])


def _read_biwi_poses(root: Path, names: list[str]) -> dict[str, tuple[np.ndarray, Floats]]:
    """Return each sequence's frame numbers (n,) and ``pyr`` angles (n, 3) in the depth camera."""
    found = {}
    for name in names:
        poses = {}
        for frame in biwi.frames(root, name)[0]:
            try:
                poses[frame.number] = biwi.read_pose(frame.pose).rotation
            except RawDataError:
                continue  # the build of Biwi+ lists it
        if poses:
            found[name] = np.array(list(poses)), from_matrix(np.stack(list(poses.values())))
    return found


def build_biwi(
    root: Path, out: Path, options: Options, jobs: int, box_file: Path | None, manifest_file: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Build Biwi+ from the sequences below ``root``; return its description and notes for the reader."""
    names = biwi.sequences(root)
    table = manifest.read(manifest_file)
    subjects = manifest.biwi_subjects(table)
    given = boxes.read_boxes(box_file) if box_file else None
    found = {name: [frame.number for frame in biwi.frames(root, name)[0]] for name in names}
    notes = []
    if given is not None:
        ids = {f"biwi/{name}/{number:05d}" for name, numbers in found.items() for number in numbers}
        if not ids & given.keys():
            raise DatasetError(f"{box_file}: holds no box of these frames; expected ids such as {min(ids, default='')}")
        if ids - given.keys():
            notes.append(f"Biwi: {len(ids - given.keys()):,} frames have no box in {box_file}; theirs are projected")
    parameters = {
        "size": options.size,
        "boxes": sha256(box_file) if box_file else "projected",
        "head_size_mm": boxes.HEAD_SIZE_MM,
        "lossless": True,
    }
    folder = out / "biwi+"
    built_with = _hash(["biwi+", shards.SCHEMA, parameters])
    paths = [folder / shards.shard_name(i, len(names)) for i in range(len(names))]
    tasks = []
    for name, path in zip(names, paths, strict=True):
        mine = (
            {key: box for key, box in given.items() if key.startswith(f"biwi/{name}/")} if given is not None else None
        )
        origin = shards.Origin(built_with, _sequence_hash(root, name))
        tasks.append(_ShardTask(path, origin, options, _BiwiWork(root, name, subjects.get(name, name), mine)))
    info = _describe(folder, "biwi+", parameters, paths, _run(_build_biwi, tasks, jobs, "Biwi+"))
    listed, absent = manifest.absent_frames(table, found)
    if absent:
        notes.append(f"Biwi: {absent:,} of the {listed:,} frames of the manifest are absent")
    return info, notes


def _recorded(path: Path, key: Any, compute: Callable[[], Any]) -> Any:
    """Return what was computed before for the same key and recorded at ``path``, else compute and record it."""
    of = _hash(key)
    if path.exists():
        found = read_json(path, "a record of this build")
        if found.get("of") == of:
            return found["found"]
    content = {"of": of, "found": compute()}
    write_json(path, content)
    return content["found"]


def _inferred_order(
    copy: _SynHeadCopy, biwi_root: Path | None, out: Path, jobs: int, seed: int
) -> render_order.OrderReport:
    def compute() -> dict[str, Any]:
        poses = _read_biwi_poses(biwi_root, biwi.sequences(biwi_root)) if biwi_root else None
        return render_order.to_json(render_order.infer(copy.root, poses, jobs, seed))

    key = [copy.fingerprint(copy.tracks, copy.heads), biwi_root is not None, seed]
    return render_order.from_json(_recorded(out / "synhead+" / ORDER_REPORT, key, compute))


def _head_balls(
    copy: _SynHeadCopy, out: Path, order: EulerOrder, margin: float, jobs: int
) -> dict[str, boxes.HeadBall]:
    """Return the ball of each head."""
    work = [(copy.tracks_of(head), head, order, margin) for head in copy.heads]

    def compute() -> dict[str, Any]:
        found = run_tasks(_fit_ball, work, jobs, "where the heads are")
        return {
            head: {k: np.round(v, 4).tolist() for k, v in ball._asdict().items()}
            for head, ball in zip(copy.heads, found, strict=True)
        }

    key = [copy.fingerprint(copy.tracks, copy.heads), str(order), margin]
    recorded = _recorded(out / "synhead+" / HEAD_BALLS, key, compute)
    return {
        head: boxes.HeadBall(np.array(b["pivot"]), np.array(b["ball"]), b["radius"], b["spread"])
        for head, b in recorded.items()
    }


def _look_through(root: Path) -> _SynHeadCopy:
    """Return what a raw SynHead holds; raises RawDataError if no track has images."""
    heads = synhead.heads(root)
    folders = {}
    for track in synhead.tracks(root):
        for head in heads:
            folder = track.images_folder(head)
            if folder.is_dir():
                folders[track, head] = _raw_hash(sorted(folder.iterdir()))
    tracks = list(dict.fromkeys(track for track, _ in folders))
    if not tracks:
        raise RawDataError(f"{root}: no track with images; expected {synhead.LAYOUT}")
    return _SynHeadCopy(root, tracks, heads, folders, {track: sha256(track.csv) for track in tracks})


def _absent_images(copy: _SynHeadCopy) -> list[str]:
    """Return a line for each track without images, and for each head that lacks some track's."""
    bare = [track for track in synhead.tracks(copy.root) if track not in copy.tracks]
    notes = [f"SynHead: {track.csv} has no images of any head" for track in bare]
    for head in copy.heads:
        lacking = [f"{track.group}/{track.name}" for track in copy.tracks if (track, head) not in copy.folders]
        if lacking:
            some = ", ".join(lacking[:3]) + (" and others" if len(lacking) > 3 else "")
            notes.append(
                f"SynHead: {head} has no images of {len(lacking)} of {len(copy.tracks)} tracks ({some}), "
                "so SynBiwi+ is built without this head"
            )
    return notes


def build_synhead(
    copy: _SynHeadCopy,
    out: Path,
    options: Options,
    jobs: int,
    order: EulerOrder,
    order_source: str,
    balls: dict[str, boxes.HeadBall],
) -> tuple[dict[str, Any], list[str]]:
    """Build SynHead+ from a raw SynHead, whose heads were rendered in ``order``."""
    parameters = {
        "size": options.size,
        "visible_margin": options.visible_margin,
        "lossless": options.lossless,
        "render_order": str(order),
    }
    folder = out / "synhead+"
    built_with = _hash(["synhead+", shards.SCHEMA, parameters])
    units = []
    for head in copy.heads:
        for group in synhead.GROUPS:
            mine = [track for track in copy.tracks_of(head) if track.group == group]
            if mine:
                units.append(_SynHeadWork(mine, head, order, balls[head]))
    paths = [folder / shards.shard_name(i, len(units)) for i in range(len(units))]
    tasks = []
    for path, unit in zip(paths, units, strict=True):
        raw = _hash([copy.fingerprint(unit.tracks, [unit.head]), unit.ball])
        tasks.append(_ShardTask(path, shards.Origin(built_with, raw), options, unit))
    reports = _run(_build_synhead, tasks, jobs, "SynHead+")
    hidden = sum(report["face_not_visible"] for report in reports)
    notes = _absent_images(copy)
    backgrounds, more = _write_backgrounds(synhead.backgrounds(copy.root), folder / shards.BACKGROUNDS, options)
    notes += more
    info = _describe(
        folder,
        "synhead+",
        parameters,
        paths,
        reports,
        face_not_visible=hidden,
        render_order_from=order_source,
        backgrounds_sha256=backgrounds,
    )
    return info, notes


def _write_backgrounds(paths: list[Path], target: Path, options: Options) -> tuple[str, list[str]]:
    """Write the middle square of each background, twice a crop's side, so that crops of it can be drawn.

    Returns the hash of the file, empty if there is none, and notes for the reader.
    """
    side, encoded, notes = 2 * options.size, [], []
    for path in paths:
        try:
            image = read_image(path)[..., :3]
        except ImageError as error:
            notes.append(f"background left out: {error}")
            continue
        height, width = image.shape[:2]
        shorter = min(height, width)
        box = np.array([(width - shorter) // 2, (height - shorter) // 2, shorter, shorter])
        encoded.append(encode(crop(np.ascontiguousarray(image), crop_matrix(box, side), side), lossless=False))
    if not encoded:
        target.unlink(missing_ok=True)
        return "", [*notes, "SynHead: no readable background image; training composites the heads on plain colours"]
    with whole_or_absent(target) as temporary, h5py.File(temporary, "w") as file:
        file["image/bytes"] = np.concatenate(encoded)
        file["image/offset"] = np.concatenate(([0], np.cumsum([len(data) for data in encoded])))
    return sha256(target), notes


def build_synbiwi(
    copy: _SynHeadCopy,
    out: Path,
    options: Options,
    jobs: int,
    order: EulerOrder,
    balls: dict[str, boxes.HeadBall],
    biwi_plus: shards.Dataset,
) -> dict[str, Any]:
    """Build SynBiwi+: for each frame of Biwi+ and each head, the SynHead image that comes closest when turned."""
    tracks = copy.tracks
    heads = [head for head in copy.heads if copy.tracks_of(head) == tracks]
    if not heads:
        raise RawDataError(
            f"{copy.root}: no head has images of every track, and SynBiwi+ needs one; restore the missing"
        )
    per_track = [to_matrix(synhead.read_angles(track), order) for track in tracks]
    poses = np.concatenate(per_track)
    owner = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(per_track)])
    position = np.concatenate([np.arange(len(rows)) for rows in per_track])
    visible = np.flatnonzero(_visible(poses, options))
    parameters = {
        "size": options.size,
        "visible_margin": options.visible_margin,
        "lossless": options.lossless,
        "render_order": str(order),
        "boxes": biwi_plus.info["parameters"]["boxes"],
    }
    folder = out / "synbiwi+"
    built_with = _hash(["synbiwi+", shards.SCHEMA, parameters])
    raw = _hash([copy.fingerprint(tracks, heads), sorted(balls.items())])
    tasks, everything = [], []
    targets = list(shards.read_fields(biwi_plus, "id", "label/rotation"))
    paths = [folder / shards.shard_name(i, len(targets)) for i in range(len(targets))]
    for path, target in zip(paths, targets, strict=True):
        found = match(target["label/rotation"], poses[visible])
        everything.append(found)
        rows = []
        for i, frame in enumerate(target["id"]):
            source = int(visible[found.source[i]])
            track = tracks[owner[source]]
            rows.append(
                _SynBiwiRow(
                    str(frame), track, int(position[source]), len(per_track[owner[source]]), float(found.turn[i]),
                    poses[source], found.rotation[i], float(found.geodesic[i]), float(found.euler[i]),
                )
            )  # fmt: skip
        origin = shards.Origin(built_with, _hash([raw, target["id"].tolist(), target["label/rotation"].tolist()]))
        tasks.append(_ShardTask(path, origin, options, _SynBiwiWork(rows, {head: balls[head] for head in heads})))
    residual = {
        name: {
            "mean": round(float(values.mean()), 4),
            "median": round(float(np.median(values)), 4),
            "p95": round(float(np.percentile(values, 95)), 4),
        }
        for name in ("euler", "geodesic")
        for values in [np.concatenate([getattr(found, name) for found in everything])]
    }
    reports = _run(_build_synbiwi, tasks, jobs, "SynBiwi+")
    matched = biwi_plus.info["content_sha256"]
    return _describe(folder, "synbiwi+", parameters, paths, reports, residual=residual, matched_sha256=matched)


def build_synhead_pp(out: Path) -> dict[str, Any]:
    """Describe SynHead++, the union of SynHead+ and SynBiwi+; it holds no pixels of its own."""
    joined = [shards.open_dataset(out / name) for name in ("synhead+", "synbiwi+")]
    parameters = {"size": joined[0].size, "visible_margin": joined[0].info["parameters"]["visible_margin"]}
    content = [part.info["content_sha256"] for part in joined]
    return _describe(
        out / "synhead++", "synhead++", parameters, [], [], joins=[part.name for part in joined], joined=content
    )


def build_datasets(
    out: Path,
    biwi_folder: Path | None = None,
    synhead_folder: Path | None = None,
    box_file: Path | None = None,
    order: str | None = None,
    options: Options | None = None,
    jobs: int = 1,
    manifest_file: Path | None = None,
    seed: int = 0,
) -> Summary:
    """Build what the given raw data allow: Biwi+, SynHead+, and with both, SynBiwi+ and SynHead++.

    Parameters
    ----------
    out
        Folder of the datasets, one folder each.
    biwi_folder, synhead_folder
        The raw copies; at least one.
    box_file
        Checked boxes of Biwi: a CSV or the published ``Biwi_plus.npz``. Frames without one, and all frames
        where it is not given, get the projection of the head.
    order
        SynHead's rendering order, such as ``xyz+++``; inferred from the images if None.
    jobs
        Number of processes.
    manifest_file
        What a full copy holds; the project's own if None.
    seed
        Of the random choice of images from which the rendering order is inferred.

    Raises
    ------
    HeadposeError
        If the raw data are not in their layout, or ``out`` holds a build of other data or options.
    """
    options = options or Options()
    with locked(out, wait=False):
        return _build_datasets(
            out, biwi_folder, synhead_folder, box_file, order, options, jobs, manifest_file, seed
        )  # fmt: skip


def _build_datasets(
    out: Path,
    biwi_folder: Path | None,
    synhead_folder: Path | None,
    box_file: Path | None,
    order: str | None,
    options: Options,
    jobs: int,
    manifest_file: Path | None,
    seed: int,
) -> Summary:
    if not biwi_folder and not synhead_folder:
        raise HeadposeError("nothing to build from: give --biwi, --synhead or both")
    if not 8 <= options.size <= 1024:
        raise HeadposeError(f"--size {options.size}: expected a crop's side of 8 to 1024 pixels")
    biwi_root = biwi.find_root(biwi_folder) if biwi_folder else None
    synhead_root = synhead.find_root(synhead_folder) if synhead_folder else None
    known_order = euler_order(order) if order else None
    infos: list[dict[str, Any]] = []
    notes: list[str] = []
    report = None
    if biwi_root:
        info, notes = build_biwi(biwi_root, out, options, jobs, box_file, manifest_file)
        infos.append(info)
    if synhead_root:
        copy, source = _look_through(synhead_root), "set by hand"
        if known_order is None:
            report = _inferred_order(copy, biwi_root, out, jobs, seed)
            known_order = report.order
            source = f"inferred from {report.pairs} pairs of images, margin {report.margin:.1f} standard errors"
        balls = _head_balls(copy, out, known_order, options.visible_margin, jobs)
        info, more = build_synhead(copy, out, options, jobs, known_order, source, balls)
        infos.append(info)
        notes += more
    if biwi_root and synhead_root and known_order:
        biwi_plus = shards.open_dataset(out / "biwi+")
        if not biwi_plus.info["rows"]:
            raise DatasetError(f"{biwi_folder}: no readable frame, so there is nothing to match SynHead with")
        infos.append(build_synbiwi(copy, out, options, jobs, known_order, balls, biwi_plus))
        infos.append(build_synhead_pp(out))
    left_out = [line for info in infos for line in info["left_out"]]
    return Summary(infos, notes, left_out, report)
