"""Writing open heads: ``OUT/synhead2_release`` in SynHead's exact raw layout, and the manifest of it.

Every image's random numbers come from (seed, what, number), so images can be written in any order and by any number of
processes, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from headposeplus import __version__
from headposeplus.errors import HeadposeError, ImageError
from headposeplus.faults import Fault
from headposeplus.files import (
    bytes_sha256,
    listing,
    locked,
    read_note,
    sweep,
    write_bytes,
    write_json,
    write_text,
)
from headposeplus.heads import assets as files
from headposeplus.heads.kernels import check_compiler
from headposeplus.heads.model import Head, build_head, read_base
from headposeplus.heads.people import Person, draw_person
from headposeplus.heads.shade import render
from headposeplus.heads.stage import draw_stage
from headposeplus.heads.tracks import Track, plan_tracks
from headposeplus.images import PNG, SUFFIXES, check_whole, read_image
from headposeplus.miniature.poses import hidden_order
from headposeplus.miniature.scenery import room
from headposeplus.raw import manifest, synhead
from headposeplus.raw.manifest import Manifest, ManifestRow
from headposeplus.rotations import euler_order, to_matrix
from headposeplus.tasks import run_tasks, workers

FOLDER, NOTE = "synhead2_release", "render.json"
_BACKGROUNDS = 60
_BACKGROUND = (640, 480)
_TASK = 200  # images that a worker renders at a time
_BIWI_POSES = """
The tracks of the group BIWI follow Biwi's own poses, smoothed: those of the test set. No pose is the label of an image
here, but how the labels are spread is given away, as it is by SynHead. Say so where you report a result.
"""
_TRIAL = 8  # images of each of two people that a dry run renders


class Options(NamedTuple):
    """What is rendered.

    Attributes
    ----------
    women, men
        How many of each.
    images
        Of all people together; None: as many as SynHead has of as many people, or all poses that are given.
    size
        Pixels a side.
    seed
        Of all random numbers.
    tracks
        A CSV of poses, or a folder of them.
    biwi
        A raw Biwi, or its annotations.
    backgrounds
        A folder of pictures to copy; None: procedural rooms.
    manifest
        Whose rows of Biwi the copy's manifest repeats; None: the real datasets'.
    """

    women: int = 5
    men: int = 5
    images: int | None = None
    size: int = 400
    seed: int = 0
    tracks: Path | None = None
    biwi: Path | None = None
    backgrounds: Path | None = None
    manifest: Path | None = None


class Estimate(NamedTuple):
    """What a rendering would take: its images, their bytes, those still to render, and seconds on a core."""

    images: int
    size: int
    missing: int
    seconds: float


class _Plan(NamedTuple):
    """What is rendered, checked: nobody's file is found missing or damaged when half is done.

    Attributes
    ----------
    people
        By the name of their head.
    tracks
        Each is rendered with every head.
    order
        Of the axes.
    files
        All assets that are used.
    pictures
        Given as backgrounds.
    biwi
        The manifest's rows of Biwi.
    note
        What decides how the copy's files look.
    """

    people: dict[str, Person]
    tracks: list[Track]
    order: str
    files: list[Path]
    pictures: list[Path]
    biwi: Manifest
    note: dict[str, object]


class _Task(NamedTuple):
    """Images of one head: for each track, which rows of it."""

    out: Path
    assets: Path
    who: tuple[int, bool, int]
    head: str
    order: str
    size: int
    tracks: list[tuple[Track, list[int]]]


def _heads(options: Options) -> dict[str, tuple[int, bool, int]]:
    """Return the heads by name, and what each is drawn from: the seed, whether a woman, and the number."""
    if not options.women + options.men:
        raise HeadposeError("nobody to render: give `women`, `men` or both")
    women = {f"f{number + 1:02d}": (options.seed, True, number) for number in range(options.women)}
    men = {f"m{number + 1:02d}": (options.seed, False, number) for number in range(options.men)}
    return women | men


def _plan(assets: files.Assets, options: Options) -> _Plan:
    people = {name: draw_person(*who) for name, who in _heads(options).items()}
    poses = None if options.images is None else max(round(options.images / len(people)), 1)
    order = hidden_order(options.seed)
    tracks = plan_tracks(poses, order, options.seed, options.biwi, options.tracks)
    used = sorted({path for who in people.values() for path in files_of(assets, who)})
    pictures = _pictures(options.backgrounds, options.size) if options.backgrounds else []
    listed = tuple(manifest.biwi_rows(manifest.read(options.manifest)).values())
    note: dict[str, object] = {
        "women": options.women,
        "men": options.men,
        "images": len(people) * sum(len(track.angles) for track in tracks),
        "size": options.size,
        "seed": options.seed,
        "tracks": bytes_sha256("".join(f"{t.group}/{t.name}\n{t.text}" for t in tracks).encode()),
        "backgrounds": files.fingerprint(pictures) if pictures else "procedural",
        "assets": files.fingerprint(used),
        "render_order": str(order),
        "toolkit": __version__,
    }
    return _Plan(people, tracks, str(order), used, pictures, listed, note)


def _pictures(folder: Path, size: int) -> list[Path]:
    """Return the pictures of a folder, none smaller than an image of a head: public loaders cut such out of them."""
    found = listing(folder, *SUFFIXES)
    if not found:
        raise HeadposeError(Fault("no pictures; expected .png or .jpg", "give a folder of backgrounds", folder))
    for path in found:
        height, width = read_image(path).shape[:2]
        if min(height, width) < size:
            what = f"{width} x {height} pixels; expected no side below {size}, a head's image"
            raise HeadposeError(Fault(what, "enlarge it or take it away", path))
    return found


def _check_assets(paths: list[Path]) -> None:
    """Read all assets once, before anything is written; raises AssetError if one is damaged."""
    (base,) = (path for path in paths if path.name.lower() == "base.obj")
    vertices = len(read_base(base).mesh.vertices)
    for path in paths:
        ending = path.suffix.lower()
        if ending == ".target":
            files.read_target(path, vertices)
        elif ending == ".mhclo":
            files.read_part(path.with_suffix(".obj"), path, vertices)
        elif ending == ".png":
            files.read_texture(path)


def files_of(assets: files.Assets, who: Person) -> list[Path]:
    """Return the files that a person's head is made of; raises AssetError, which names it, if one is missing."""
    fittings = [files.find(assets, tail) for tail in (who.eyes, who.brows, who.lashes, who.hair)]
    textures = [who.skin, who.iris, *(files.texture_of(path) for path in fittings[1:])]
    units = [name for parts in who.units().values() for name in parts]
    tails = [*who.targets, *units, *textures]
    return [files.find(assets, "3dobjs/base.obj", "base.obj"), *fittings, *(files.find(assets, tail) for tail in tails)]


@lru_cache(maxsize=1)
def _head(assets: Path, who: tuple[int, bool, int]) -> Head:
    return build_head(files.open_assets(assets), draw_person(*who))


def render_pose(head: Head, track: Track, row: int, who: tuple[int, bool, int], order: str, size: int) -> np.ndarray:
    """Return the image RGBA (size, size, 4), uint8, of a row of a track."""
    stage = draw_stage([*map(int, who), *track.group.encode(), int(track.name)], len(track.angles), size, head)
    vertices = stage.moved(head, row)
    return render(head, vertices, to_matrix(track.angles[row], euler_order(order)), stage.camera, stage.light)


def encoded(image: np.ndarray) -> bytes:
    """Return the PNG of an image RGBA."""
    data: bytes = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA), PNG)[1].tobytes()
    return data


def _write_images(task: _Task) -> None:
    head = _head(task.assets, task.who)
    for track, rows in task.tracks:
        folder = task.out / FOLDER / track.group / task.head / track.name
        for row in rows:
            image = render_pose(head, track, row, task.who, task.order, task.size)
            write_bytes(folder / synhead.image_name(row, len(track.angles)), encoded(image))


def _missing(out: Path, head: str, tracks: list[Track]) -> list[tuple[Track, list[int]]]:
    """Return which rows of the tracks a head has no image of yet, or one that was cut off."""
    missing = []
    for track in tracks:
        folder, count = out / FOLDER / track.group / head / track.name, len(track.angles)
        present = {path.name for path in listing(folder, ".png") if _is_whole(path)} if folder.is_dir() else set()
        rows = [row for row in range(count) if synhead.image_name(row, count) not in present]
        missing += [(track, rows)] if rows else []
    return missing


def _is_whole(path: Path) -> bool:
    try:
        check_whole(path)
    except ImageError:
        return False
    return True


def _tasks(out: Path, assets: Path, options: Options, plan: _Plan) -> list[_Task]:
    """Return what is still to render, each person's images in tasks of a few hundred."""
    tasks = []
    for head, who in _heads(options).items():
        task: list[tuple[Track, list[int]]] = []
        parts = [
            (track, rows[start : start + _TASK])
            for track, rows in _missing(out, head, plan.tracks)
            for start in range(0, len(rows), _TASK)
        ]
        for number, part in enumerate(parts):
            task.append(part)
            if number == len(parts) - 1 or sum(len(rows) for _, rows in [*task, parts[number + 1]]) > _TASK:
                tasks.append(_Task(out.resolve(), assets.resolve(), who, head, plan.order, options.size, task))
                task = []
    return tasks


def _check_note(out: Path, note: dict[str, object]) -> None:
    """Raise HeadposeError if ``out`` holds a rendering with other settings, or something else."""
    held = read_note(out / NOTE, "the description of rendered heads", "not empty and holds no rendered heads")
    if held is None:
        return
    hashed = ("tracks", "assets", "backgrounds")  # a hash tells nobody anything
    words = [
        f"other {name}" if name in hashed else f"{name} {held.get(name)!r}, not {value!r}"
        for name, value in note.items()
        if held.get(name) != value
    ]
    if words:
        what = f"holds heads rendered with other settings: {', '.join(words)}"
        raise HeadposeError(Fault(what, "choose another folder or delete it", out))


def _write_backgrounds(folder: Path, plan: _Plan, options: Options) -> None:
    if options.backgrounds is None:
        for index in range(_BACKGROUNDS):
            path = folder / f"a{index:02d}.jpg"
            if not path.exists():
                side = max(options.size / _BACKGROUND[1], 1)  # never smaller than a head's image
                width, height = (round(length * side) for length in _BACKGROUND)
                picture = room(np.random.default_rng([options.seed, 7, index]), width, height)
                encoded = cv2.imencode(".jpg", np.rint(picture[..., ::-1] * 255).astype(np.uint8))[1]
                write_bytes(path, encoded.tobytes())
        return
    for source in plan.pictures:
        if not (folder / source.name).exists():
            write_bytes(folder / source.name, source.read_bytes())


def _readme(plan: _Plan, biwi: bool) -> str:
    return f"""# Rendered heads

`{FOLDER}` is laid out as SynHead 2.0 is. Its heads ({len(plan.people)}) are made of MakeHuman's assets, which are in
the public domain (CC0), and were rendered by `hpp render` of headposeplus {__version__} with seed {plan.note["seed"]}.

The rows of a track are pitch, yaw, roll in degrees. SynHead does not tell its order of axes, and `hpp render-order`
finds this copy's from the images; it is {plan.order} (`headposeplus.rotations` says what that means).
{_BIWI_POSES if biwi else ""}"""


def _write_tables(out: Path, plan: _Plan, biwi: bool) -> None:
    """Write the tracks, the manifest, the note and the README."""
    write_json(out / NOTE, plan.note)
    for track in plan.tracks:
        write_text(out / FOLDER / track.group / f"{track.name}.csv", track.text)
    heads = "" if tuple(plan.people) == synhead.HEADS else " ".join(plan.people)
    tracks = [ManifestRow("synhead", t.name, t.group, heads, len(t.angles), source="hpp render") for t in plan.tracks]
    manifest.write(out / manifest.FILE_NAME, (*plan.biwi, *tracks))
    write_text(out / "README.md", _readme(plan, biwi))


def write_heads(out: Path, assets: Path, options: Options, jobs: int, dask: str | None = None) -> Path:
    """Render a source into ``OUT/synhead2_release`` and return that folder.

    Raises
    ------
    HeadposeError
        If numba is not installed, ``out`` holds something else, or an asset, track or background is missing or damaged.
    """
    check_compiler()
    plan = _plan(files.open_assets(assets), options)
    _check_note(out, plan.note)
    if not (out / NOTE).exists():
        _check_assets(plan.files)
    with locked(out, wait=False):
        sweep(out, deep=True)
        _write_tables(out, plan, options.biwi is not None)
        _write_backgrounds(out / FOLDER / "background", plan, options)
        tasks = _tasks(out, assets, options, plan)
        with workers(min(jobs, len(tasks)), dask if tasks else None) as executor:
            run_tasks(_write_images, tasks, executor, "heads")
    return out / FOLDER


def estimate_heads(out: Path, assets: Path, options: Options) -> Estimate:
    """Return what :func:`write_heads` would do, from a trial of a few images; write nothing; raises as that does."""
    check_compiler()
    plan = _plan(files.open_assets(assets), options)
    _check_note(out, plan.note)
    count = sum(len(track.angles) for track in plan.tracks)
    missing = sum(len(rows) for head in plan.people for _, rows in _missing(out, head, plan.tracks))
    places = [(track, row) for track in plan.tracks for row in range(len(track.angles))]
    chosen = np.random.default_rng([options.seed, 12]).integers(len(places), size=_TRIAL)
    sizes, seconds, building = [], [], []
    whos = _heads(options)
    for who in [*whos.values()][:: max(len(whos) - 1, 1)]:
        for number, place in enumerate(chosen):
            start = time.perf_counter()
            head = _head(assets.resolve(), who)
            built = time.perf_counter()
            track, row = places[place]
            sizes.append(len(encoded(render_pose(head, track, row, who, plan.order, options.size))))
            if number:
                seconds.append(time.perf_counter() - built)
            else:  # and the kernels may be compiled for the first image
                building.append(built - start)
    total = len(plan.people) * count
    needed = missing * float(np.mean(seconds)) + len(plan.people) * float(np.min(building)) * (missing > 0)
    return Estimate(total, round(total * float(np.mean(sizes))), missing, needed)


def describe_estimate(estimate: Estimate, jobs: int) -> str:
    """Return in words what a rendering would take."""
    whole = f"{estimate.images:,} images, about {estimate.size / 1e9:.1f} GB"
    if not estimate.missing:
        return f"{whole}; all of them are there"
    minutes = estimate.seconds / jobs / 60
    lasting = f"about {minutes / 60:.1f} hours" if minutes > 90 else f"about {minutes:.0f} minutes"
    lasting = "less than two minutes" if minutes < 2 else lasting
    return (
        f"{whole}; {estimate.missing:,} of them are still to render, in {lasting} with {jobs} "
        f"{'process' if jobs == 1 else 'processes'} (measured here on a few)"
    )
