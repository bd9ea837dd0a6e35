"""Training data: crops in memory, gathered by index, and batches composed on the device.

The target's crops come without labels: what is handed to training has no field for them, and its shards are
read without their labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from baselines.networks import IMAGE_MEAN, IMAGE_STD
from headposeplus import shards
from headposeplus.errors import DatasetError, TrainingError
from headposeplus.files import cores
from headposeplus.images import decode
from headposeplus.rotations import Floats, from_matrix

# Decoded crops are kept where they fit into this share of the free memory; else the encoded ones are.
MEMORY_SHARE = 0.4


class Crops:
    """Crops of a dataset by index: decoded once where memory allows, else decoded for each batch in threads."""

    def __init__(self, encoded: list[np.ndarray], offsets: list[np.ndarray], size: int, threads: int) -> None:
        self._encoded = encoded
        self._offsets = offsets
        self._starts = np.cumsum([0] + [len(offset) - 1 for offset in offsets])
        self._pool = ThreadPoolExecutor(threads)
        self.size = size
        self._decoded: np.ndarray | None = None
        if len(self) * size * size * 3 < MEMORY_SHARE * _free_memory():
            self._decoded = self._decode(np.arange(len(self)))
            self._encoded = []

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _one(self, index: int) -> np.ndarray:
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        start, end = self._offsets[shard][index - self._starts[shard] :][:2]
        return decode(self._encoded[shard][start:end])

    def _decode(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), self.size, self.size, 3), np.uint8)

        def fill(start: int) -> None:
            for position in range(start, min(start + 64, len(indices))):
                out[position] = self._one(int(indices[position]))

        for _ in self._pool.map(fill, range(0, len(indices), 64)):
            pass  # an error of a worker is raised here
        return out

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Return the crops (n, s, s, 3), uint8, RGB."""
        return self._decoded[indices] if self._decoded is not None else self._decode(indices)


class Source(NamedTuple):
    """Labelled, rendered crops: ``angles`` (n, 3) are ``pyr`` in degrees, ``masks`` (n, bytes) packed bits.

    ``backgrounds`` (b, 2 s, 2 s, 3) is empty where SynHead came without any.
    """

    crops: Crops
    masks: np.ndarray
    angles: Floats
    backgrounds: np.ndarray


class Target(NamedTuple):
    """Crops of the target. There are no labels here, and no way to them."""

    crops: Crops
    ids: np.ndarray


def _free_memory() -> int:
    """Return the bytes that can still be taken, as far as Linux tells; 4 GiB elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 4 << 30
    try:  # a container may be allowed less
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return free


def _crops(fields: list[dict[str, np.ndarray]], size: int, threads: int) -> Crops:
    return Crops([f["image/bytes"] for f in fields], [f["image/offset"] for f in fields], size, threads)


def load_source(dataset: shards.Dataset, threads: int | None = None) -> Source:
    """Return a source dataset in memory.

    Raises
    ------
    DatasetError
        If it is empty or damaged, or the datasets that it joins have crops of different sizes.
    """
    sizes = {part.size for part in shards.parts(dataset)}
    if len(sizes) != 1:
        raise DatasetError(f"{dataset.folder}: joins datasets with crops of {sizes} pixels; build them with one --size")
    fields = list(shards.read_fields(dataset, "image/bytes", "image/offset", "mask/bits", "label/rotation"))
    if not fields:
        raise DatasetError(f"{dataset.folder}: the dataset is empty")
    size = sizes.pop()
    crops = _crops(fields, size, threads or cores())
    angles = from_matrix(np.concatenate([f["label/rotation"] for f in fields]))
    masks = np.concatenate([f["mask/bits"] for f in fields])
    return Source(crops, masks, angles, load_backgrounds(dataset.folder.parent / "synhead+" / shards.BACKGROUNDS, size))


def load_target(dataset: shards.Dataset, threads: int | None = None) -> Target:
    """Return a target dataset in memory, without its labels; raises DatasetError if it is empty or damaged."""
    fields = list(shards.read_fields(dataset, "image/bytes", "image/offset", "id"))
    if not fields:
        raise DatasetError(f"{dataset.folder}: the dataset is empty")
    crops = _crops(fields, dataset.size, threads or cores())
    return Target(crops, np.concatenate([f["id"] for f in fields]))


def load_backgrounds(path: Path, size: int) -> np.ndarray:
    """Return the decoded backgrounds (b, 2 size, 2 size, 3) of a file; none where there is no file."""
    if not path.exists():
        return np.zeros((0, 2 * size, 2 * size, 3), np.uint8)
    try:
        with h5py.File(path, "r") as file:
            data, offset = file["image/bytes"][...], file["image/offset"][...]
    except (OSError, KeyError) as error:
        raise DatasetError(f"{path}: damaged backgrounds ({error}); delete the file and build again") from error
    return np.stack([decode(data[start:end]) for start, end in itertools.pairwise(offset)])


def keyed_random(seed: int, epoch: int, samples: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` numbers in [0, 1) for each sample, (n, count), that depend on nothing but the three keys.

    Every sample draws the same background in an epoch, whatever the batch or order it comes in. The mixing
    is that of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
    """

    def mix(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    with np.errstate(over="ignore"):
        golden = np.uint64(0x9E3779B97F4A7C15)
        state = mix(np.uint64(seed) * golden + mix(np.asarray(np.uint64(epoch) + golden)))
        keys = mix(state + samples.astype(np.uint64)[:, None] * golden)
        numbers = mix(keys + np.arange(1, count + 1, dtype=np.uint64) * golden)
    return (numbers >> np.uint64(11)).astype(np.float64) / 2.0**53


class Composer:
    """Makes batches on the device: unpacks the masks, puts a random background behind each head, normalises."""

    def __init__(self, source: Source, device: torch.device, seed: int) -> None:
        self._source = source
        self._seed = seed
        self._device = device
        self._backgrounds = torch.from_numpy(source.backgrounds).to(device)
        self._mean = torch.tensor(IMAGE_MEAN, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(IMAGE_STD, device=device).view(1, 3, 1, 1) * 255
        self._angles = torch.from_numpy(source.angles).float()

    def _normalise(self, images: Tensor) -> Tensor:
        """Return (n, 3, s, s), channels last, of uint8 images (n, s, s, 3)."""
        return (images.permute(0, 3, 1, 2).float() - self._mean) / self._std

    def source(self, indices: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """Return images (n, 3, s, s) and angles (n, 3) in degrees of source samples, on the device."""
        size = self._source.crops.size
        images = torch.from_numpy(self._source.crops.gather(indices)).to(self._device)
        packed = torch.from_numpy(self._source.masks[indices]).to(self._device)
        bits = torch.arange(7, -1, -1, device=self._device, dtype=torch.uint8)
        mask = ((packed.unsqueeze(-1) >> bits) & 1).flatten(1)[:, : size * size].view(-1, size, size, 1).bool()
        composed = torch.where(mask, images, self._behind(indices, epoch, size))
        return self._normalise(composed), self._angles[indices].to(self._device)

    def _behind(self, indices: np.ndarray, epoch: int, size: int) -> Tensor:
        draws = keyed_random(self._seed, epoch, indices, 3)
        if not len(self._backgrounds):
            plain = torch.from_numpy((draws * 256).astype(np.uint8)).to(self._device)
            return plain.view(-1, 1, 1, 3)
        drawn = torch.from_numpy(draws).to(self._device)
        which = (drawn[:, 0] * len(self._backgrounds)).long()
        corner = (drawn[:, 1:] * (size + 1)).long()
        steps = torch.arange(size, device=self._device)
        rows = (corner[:, :1] + steps).unsqueeze(2)
        columns = (corner[:, 1:] + steps).unsqueeze(1)
        return self._backgrounds[which.view(-1, 1, 1), rows, columns]

    def target(self, crops: Crops, indices: np.ndarray) -> Tensor:
        """Return images (n, 3, s, s) of target samples, on the device."""
        return self._normalise(torch.from_numpy(crops.gather(indices)).to(self._device))


def draw(rng: np.random.Generator, probabilities: Floats, count: int) -> np.ndarray:
    """Return ``count`` indices drawn with replacement by ``probabilities`` (n,)."""
    return rng.choice(len(probabilities), size=count, p=probabilities)


def endless(rng: np.random.Generator, count: int, batch: int) -> Iterator[np.ndarray]:
    """Yield batches of indices without end: whole passes over ``count`` samples, shuffled anew for each.

    Raises
    ------
    TrainingError
        If the batch is larger than the dataset.
    """
    if batch > count:
        raise TrainingError(f"a batch of {batch} is larger than the dataset of {count} images; lower --batch")
    left = np.zeros(0, np.int64)
    while True:
        if len(left) < batch:
            left = np.concatenate((left, rng.permutation(count)))
        yield left[:batch]
        left = left[batch:]
