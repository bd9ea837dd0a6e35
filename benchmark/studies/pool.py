"""Miniatures drawn from a pool: people are rendered once, and every draw takes some of them.

The members of a pool are miniatures with the same poses and with people, light, rooms and cameras of their own. A draw
takes each of SynHead's ten heads, and each of Biwi's twenty subjects, from one of the members, so that 40 heads and 80
subjects give many miniatures whose labels are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.datasets import shards
from headposeplus.datasets.dataset import BACKGROUNDS, Dataset, open_dataset, open_shard, unpack_mask
from headposeplus.datasets.info import INFO, Info, ShardInfo, content_sha256, write_info
from headposeplus.files import sha256
from headposeplus.miniature.write import write_miniature
from headposeplus.rotations import Floats
from headposeplus.tasks import run_tasks

_LINKED = ("biwi+", "synhead+")  # a shard of these shows one person


def make_pool(out: Path, scale: str, poses: int, people: Sequence[int], size: int, jobs: int) -> list[Path]:
    """Write and build the members of a pool that are not there yet; return the folders of their datasets.

    Parameters
    ----------
    out
        Folder of the pool.
    scale
        Of the miniatures.
    poses
        The seed of all members' poses.
    people
        Each member's seed of everything else.
    size
        Of the crops.
    jobs
        Processes.

    Raises
    ------
    HeadposeError
        If a member's folder holds another miniature.
    """
    members = []
    for number in people:
        folder = out / f"people-{number}"
        source = write_miniature(folder / "raw", scale, poses, jobs, people=number)  # refuses another one's folder
        if not (folder / "data" / "synhead++" / INFO).exists():
            build_datasets(source, folder / "data", Options(size=size), jobs)
        members.append(folder / "data")
    return members


def choose(subjects: Sequence[str], members: int, seed: int) -> dict[str, int]:
    """Return the number of the member that each of some subjects is taken from.

    Those of the first subjects do not depend on which follow: Biwi's sort before SynHead's heads.
    """
    return dict(zip(subjects, np.random.default_rng([seed, 20]).integers(members, size=len(subjects)), strict=True))


def draw_miniature(members: Sequence[Path], seed: int, out: Path) -> Path:
    """Write the datasets of a draw, where they are not there yet, and return their folder, ``out``.

    Shards that show one person are linked; those of SynBiwi+, which show all heads, are written anew.
    """
    if (out / "synhead++" / INFO).exists():
        return out
    opened = {name: [open_dataset(member / name) for member in members] for name in (*_LINKED, "synbiwi+")}
    everyone = sorted({_first_subject(path) for name in _LINKED for path in _shards(opened[name][0])})
    chosen = choose(everyone, len(members), seed)
    rooms = opened["synhead+"][seed % len(members)]
    _place(rooms.backgrounds, out / "synhead+" / BACKGROUNDS)
    _link(opened["biwi+"], chosen, out / "biwi+")
    _link(opened["synhead+"], chosen, out / "synhead+", backgrounds_sha256=rooms.info.backgrounds_sha256)
    target = open_dataset(out / "biwi+")
    _take_rows(opened["synbiwi+"], chosen, out / "synbiwi+", target.info.content_sha256)
    joined = open_dataset(members[0] / "synhead++").info
    parts = [open_dataset(out / name).info for name in joined.joins or []]
    _write(out / "synhead++", joined, [], joined=[part.content_sha256 for part in parts], rows=joined.rows)
    return out


def _draw_into(out: Path, members: Sequence[Path], seed: int) -> Path:
    return draw_miniature(members, seed, out / f"draw-{seed}")


def draw_miniatures(members: Sequence[Path], seeds: Sequence[int], out: Path, jobs: int) -> dict[int, Path]:
    """Write some draws side by side, into ``out/draw-SEED``; return their folders by seed."""
    return dict(zip(seeds, run_tasks(partial(_draw_into, out, members), seeds, jobs, "draws"), strict=True))


def _shards(dataset: Dataset) -> list[Path]:
    return [dataset.folder / shard.file for shard in dataset.info.shards]


def _first_subject(path: Path) -> str:
    with open_shard(path) as file:
        return str(file["subject"][0].decode())


def _place(source: Path, path: Path) -> None:
    """Let ``path`` be a link to a file that exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.symlink(source.resolve(), path)


def _link(datasets: Sequence[Dataset], chosen: dict[str, int], out: Path, **changed: object) -> None:
    """Take each shard from the member that its person is taken from."""
    taken = []
    for number, path in enumerate(_shards(datasets[0])):
        dataset = datasets[chosen[_first_subject(path)]]
        shard = dataset.info.shards[number]
        _place(dataset.folder / shard.file, out / shard.file)
        taken.append(shard)
    _write(out, datasets[0].info, taken, rows=sum(shard.rows for shard in taken), **changed)


def _take_rows(datasets: Sequence[Dataset], chosen: dict[str, int], out: Path, matched: str) -> None:
    """Take each head's rows from the member that the head is taken from."""
    out.mkdir(parents=True, exist_ok=True)
    taken = []
    for number, shard in enumerate(datasets[0].info.shards):
        path = out / shard.file
        with shards.write_shard(path, shards.Origin("drawn", matched)) as writer:
            for member, dataset in enumerate(datasets):
                mine = {name for name, where in chosen.items() if where == member}
                for row in _rows(dataset.folder / dataset.info.shards[number].file, mine, dataset.size):
                    writer.add(row)
            boxes = {"projected": writer.count}
            writer.finish(shards.ShardReport(writer.count, boxes, []), out)
        taken.append(ShardInfo(shard.file, writer.count, sha256(path)))
    _write(out, datasets[0].info, taken, rows=sum(shard.rows for shard in taken), matched_sha256=matched)


def _rows(path: Path, subjects: set[str], size: int) -> Iterator[shards.Row]:
    """Yield the rows of a SynBiwi+ shard that show some heads."""
    with open_shard(path) as file:
        names = ("id", "subject", "box", "box_source", "source", "turn", "residual/geodesic", "residual/euler")
        field = {name: file[name][...] for name in names}
        data, offset = file["image/bytes"][...], file["image/offset"][...]
        masks, rotations = file["mask/bits"][...], file["label/rotation"][...]
    for i, subject in enumerate(field["subject"].astype("U").tolist()):
        if subject in subjects:
            turned = shards.Turned(
                field["source"][i].decode(),
                float(field["turn"][i]),
                float(field["residual/geodesic"][i]),
                float(field["residual/euler"][i]),
            )
            rotation: Floats = rotations[i]
            yield shards.Row(
                field["id"][i].decode(),
                subject,
                data[offset[i] : offset[i + 1]],
                unpack_mask(masks[i], size),
                rotation,
                field["box"][i].astype(float),
                field["box_source"][i].decode(),
                turned,
            )


def _write(folder: Path, like: Info, taken: list[ShardInfo], **changed: object) -> None:
    """Write what a drawn dataset says of itself: what a member's says, and what differs."""
    info = msgspec.structs.replace(like, shards=taken, residual=None, labels_sha256=None, **changed)
    write_info(folder, msgspec.structs.replace(info, content_sha256=content_sha256(info)))
