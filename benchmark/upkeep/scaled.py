"""Synthetic data of the real datasets' size, or of a share of it: their names and poses, with images of a few pixels.

All readers accept them as they accept what a build writes, so that it can be measured how the toolkit grows with data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmark.board import drawn, entries, site
from benchmark.scoring import entry as entry_file
from benchmark.scoring.entry import Entry, Listed
from benchmark.scoring.score import score
from benchmark.upkeep.bench_scale import ENTRIES, ORDER, SPREAD, Scaled
from benchmark.upkeep.bench_score import random_labels, submission_bytes
from headposeplus.boxes.geometry import PROJECTED
from headposeplus.build.build import describe_dataset, describe_union
from headposeplus.build.match import Match, match, residuals, visible
from headposeplus.build.plan import Provenance
from headposeplus.build.work import Built
from headposeplus.datasets.dataset import Dataset
from headposeplus.datasets.info import Parameters
from headposeplus.datasets.shards import Origin, Row, ShardReport, Turned, shard_name, write_shard
from headposeplus.files import sha256, write_text
from headposeplus.images import encode
from headposeplus.progress import progress
from headposeplus.raw import manifest, synhead
from headposeplus.raw.ids import frame_id
from headposeplus.raw.synhead import HEADS
from headposeplus.rotations import Floats, from_matrix, to_matrix

POSES = 51_096  # of SynHead; each with ten heads
TRACKS = dict(zip(synhead.GROUPS, (24, 26, 5, 15), strict=True))
MARGIN = 0.1  # of a visible face
SIZE = 8  # pixels of a crop
LINKS = 30_000  # names of one file; file systems allow no more than 65,000
_BOX = np.array([10.0, 10, 100, 100])
_NEW = "entry.json"  # that a scoreboard gets


class _Tracks(NamedTuple):
    """The tracks of a SynHead: group and name of each, and its angles (n, 3), ``pyr``, in degrees."""

    names: list[tuple[str, str]]
    angles: list[Floats]


def _tracks(scaled: Scaled, rng: np.random.Generator) -> _Tracks:
    names = [(group, f"{number:02d}") for group, count in TRACKS.items() for number in range(count)]
    ends = np.linspace(0, max(scaled.of(POSES), 2 * len(names)), len(names) + 1).round().astype(int)
    angles = [rng.normal(0, SPREAD, (rows, 3)).clip(-89, 89).round(6) for rows in np.diff(ends)]
    return _Tracks(names, angles)


def _sequences(scaled: Scaled) -> dict[str, list[int]]:
    """Return the numbers of Biwi's frames, by sequence."""
    return {
        name: row.numbers[: max(scaled.of(len(row.numbers)), 2)]
        for name, row in manifest.listed_sequences(manifest.read()).items()
    }


def _linked(paths: Iterable[Path], content: bytes) -> None:
    """Write files of one content, as names of a few files."""
    first = None
    for number, path in enumerate(paths):
        if first is None or number % LINKS == 0:
            path.write_bytes(content)
            first = path
        else:
            os.link(first, path)


def write_scaled(scaled: Scaled, seed: int) -> None:
    """Write raw copies, the four built datasets, the manifest of both, and a scoreboard."""
    rng = np.random.default_rng(seed)
    tracks, sequences = _tracks(scaled, rng), _sequences(scaled)
    poses = {
        name: to_matrix(rng.normal(0, (25, 30, 12), (len(numbers), 3)).clip(-85, 85))
        for name, numbers in sequences.items()
    }
    with progress(4, f"synthetic data, {scaled.share:g} of the real size", "part") as bar:
        _write_raw(scaled, tracks, sequences)
        bar.update()
        _write_manifest(scaled, tracks, sequences, poses)
        matched = _write_targets(scaled, sequences, poses).info.content_sha256
        bar.update()
        _write_sources(scaled, tracks, sequences, poses, matched)
        bar.update()
        _write_board(scaled, seed)
        bar.update()


# ---- raw copies


def _write_raw(scaled: Scaled, tracks: _Tracks, sequences: dict[str, list[int]]) -> None:
    """Write the files of raw SynHead, and of raw Biwi what is there to be counted."""
    png = encode(np.zeros((SIZE, SIZE, 3), np.uint8), lossless=True).tobytes()
    images = []
    (scaled.synhead / "background").mkdir(parents=True)
    for (group, name), angles in zip(tracks.names, tracks.angles, strict=True):
        rows = "".join("{:.6f},{:.6f},{:.6f}\n".format(*row) for row in angles)
        write_text(scaled.synhead / group / f"{name}.csv", rows)
        for head in HEADS:
            folder = scaled.synhead / group / head / name
            folder.mkdir(parents=True)
            images += [folder / synhead.image_name(index, len(angles)) for index in range(len(angles))]
    _linked(images, png)
    _linked([scaled.synhead / "background" / "a00.png"], png)
    places = ["head,x,y,pixels_per_mm", *(f"{head},199.5,199.5,1" for head in HEADS)]
    write_text(scaled.synhead / synhead.HEAD_PLACES, "\n".join(places) + "\n")
    frames = []
    for name, numbers in sequences.items():
        (scaled.biwi / name).mkdir(parents=True)
        frames += [scaled.biwi / name / f"frame_{number:05d}_" for number in numbers]
    for end in ("rgb.png", "pose.txt"):
        _linked([frame.with_name(frame.name + end) for frame in frames], png)


def _write_manifest(scaled: Scaled, tracks: _Tracks, sequences: dict[str, list[int]], poses: dict[str, Floats]) -> None:
    rows = []
    for name, row in manifest.biwi_rows(manifest.read()).items():
        numbers, angles = sequences[name], from_matrix(poses[name])
        figures = np.concatenate((angles.mean(axis=0), angles.std(axis=0))).round(4).tolist()
        rows.append(
            row._replace(
                frames=len(numbers),
                first_frame=numbers[0],
                last_frame=numbers[-1],
                frame_numbers=manifest.to_ranges(numbers),
                frame_list_sha256=manifest.frame_list_sha256(name, numbers),
                **dict(zip(manifest.LABEL_STATISTICS, figures, strict=True)),
            )
        )
    for (group, name), angles in zip(tracks.names, tracks.angles, strict=True):
        rows.append(manifest.ManifestRow("synhead", name, group, frames=len(angles)))
    manifest.write(scaled.manifest, rows)


# ---- built datasets


def _write_shard(path: Path, rows: Iterable[Row], hidden: int | None = None) -> Built:
    with write_shard(path, Origin("", "")) as shard:
        for row in rows:
            shard.add(row)
        report = ShardReport(shard.count, {PROJECTED: shard.count}, [], hidden)
        shard.finish(report, path)
    return Built(report, sha256(path), 0.0, 0)


def _parameters(**more: float | bool | int | str) -> Parameters:
    return msgspec.convert({"size": SIZE, "lossless": True} | more, Parameters)


def _write_targets(scaled: Scaled, sequences: dict[str, list[int]], poses: dict[str, Floats]) -> Dataset:
    """Write Biwi+, and return it."""
    image = encode(np.full((SIZE, SIZE, 3), 128, np.uint8), lossless=True)
    folder, subjects = scaled.data / "biwi+", manifest.biwi_subjects(manifest.read())
    built = {}
    for place, (name, numbers) in enumerate(sequences.items()):
        path = folder / shard_name(place, len(sequences))
        built[path] = _write_shard(
            path,
            (
                Row(frame_id(name, number), subjects[name], image, None, rotation, _BOX, PROJECTED)
                for number, rotation in zip(numbers, poses[name], strict=True)
            ),
        )
    return describe_dataset(folder, _parameters(boxes=PROJECTED), Provenance(), [], built)


def _write_sources(
    scaled: Scaled, tracks: _Tracks, sequences: dict[str, list[int]], poses: dict[str, Floats], matched: str
) -> None:
    """Write SynHead+, SynBiwi+, which is matched with Biwi+ as a build does it, and SynHead++."""
    rotations = [to_matrix(angles, ORDER) for angles in tracks.angles]
    images = [
        (*name, row) for name, angles in zip(tracks.names, tracks.angles, strict=True) for row in range(len(angles))
    ]
    every = np.concatenate(rotations)
    seen = np.flatnonzero(visible(every, MARGIN))
    groups = np.array([group for group, _, _ in images])
    image, mask = encode(np.full((SIZE, SIZE, 3), 128, np.uint8), lossless=True), np.ones((SIZE, SIZE), np.uint8)
    parts = [(head, group) for head in HEADS for group in TRACKS]
    folder, built = scaled.data / "synhead+", {}
    for place, (head, group) in enumerate(parts):
        mine = seen[groups[seen] == group]
        path = folder / shard_name(place, len(parts))
        rows = (
            Row(synhead.image_id(group, head, *images[i][1:]), head, image, mask, every[i], _BOX, PROJECTED)
            for i in mine
        )
        built[path] = _write_shard(path, rows, int((groups == group).sum()) - len(mine))
    parameters = _parameters(visible_margin=MARGIN, render_order=ORDER)
    describe_dataset(folder, parameters, Provenance(render_order_from="set by hand"), [], built)

    folder, built = scaled.data / "synbiwi+", {}
    matches: dict[tuple[str, str], Match] = {}
    for place, (name, numbers) in enumerate(sequences.items()):
        found = match(poses[name], every[seen])
        matches |= {(name, head): found for head in HEADS}
        chosen = [images[i] for i in seen[found.source[:, 0]]]
        path = folder / shard_name(place, len(sequences))
        turned = _turned(name, numbers, found, chosen)
        rows = (Row(of, head, image, mask, pose, _BOX, PROJECTED, turn) for of, head, pose, turn in turned)
        built[path] = _write_shard(path, rows)
    provenance = Provenance(render_order_from="set by hand", residual=residuals(matches), matched_sha256=matched)
    describe_dataset(folder, parameters, provenance, [], built)
    describe_union(scaled.data)


def _turned(
    sequence: str, numbers: list[int], found: Match, chosen: list[tuple[str, str, int]]
) -> Iterable[tuple[str, str, Floats, Turned]]:
    """Yield id, head, pose and what else SynBiwi+ says of each frame of a sequence and each head."""
    for i, (number, (group, track, row)) in enumerate(zip(numbers, chosen, strict=True)):
        for head in HEADS:
            source = synhead.image_id(group, head, track, row)
            turn = Turned(source, float(found.turn[i, 0]), float(found.geodesic[i, 0]), float(found.euler[i, 0]))
            yield f"syn{frame_id(sequence, number)}/{head}", head, found.rotation[i, 0], turn


# ---- a scoreboard


def _write_board(scaled: Scaled, seed: int) -> None:
    """Write a scoreboard whose entries are one under many names, and its pages, of which one is drawn."""
    labels = random_labels(seed)
    predictions = scaled.folder / "predictions.csv"
    for path, content in zip(
        (predictions, predictions.with_suffix(".toml")), submission_bytes(labels, seed), strict=True
    ):
        path.write_bytes(content)
    entry = score(predictions, labels, task="cross", seed=seed).entry
    (scaled.folder / _NEW).write_bytes(entry_file.to_bytes(entry))
    page = site.entry_page(entry).encode()
    seals = {}
    (scaled.board / "entries").mkdir(parents=True)
    for number in range(scaled.of(ENTRIES)):
        named = renamed(entry, number)
        key = entries.key(named)
        kept = scaled.board / entries.PREDICTIONS / key
        kept.mkdir(parents=True)
        for end in (".csv", ".toml"):
            os.link(predictions.with_suffix(end), kept / f"00{end}")
        (scaled.board / f"{key}.json").write_bytes(entry_file.to_bytes(named))
        (scaled.board / "entries" / f"{key}.html").write_bytes(page)
        seals[key] = drawn.seal(Listed(key, named), page)
    drawn.write_record(scaled.board, seals)


def renamed(entry: Entry, number: int) -> Entry:
    """Return the entry under another name."""
    return msgspec.structs.replace(entry, name=f"method {number:05d}")


def new_entry(scaled: Scaled, number: int) -> tuple[Entry, Path]:
    """Return an entry that the scoreboard has not, and its predictions."""
    path = scaled.folder / _NEW
    return renamed(entry_file.read(path.read_bytes(), path), number), scaled.folder / "predictions.csv"
