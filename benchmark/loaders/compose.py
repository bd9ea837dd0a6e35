"""Training data: the source with its labels, the target without, and batches composed on the device.

The target comes without labels: what is handed to training has no field for them, and its shards are read without
them.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from baselines import augment as augmenting
from baselines.devices import send
from baselines.networks import IMAGE_MEAN, IMAGE_STD
from benchmark.loaders.open import open_store
from benchmark.loaders.stores import Store
from headposeplus.datasets.dataset import Dataset, check_digests, read_backgrounds, read_fields
from headposeplus.rotations import Floats

_BEHIND = 3  # numbers that are drawn for what is behind a head


class Source(NamedTuple):
    """Labelled, rendered crops: ``angles`` (n, 3) are ``pyr`` in degrees.

    ``backgrounds`` (b, 2 s, 2 s, 3) is empty where SynHead came without any.
    """

    store: Store
    angles: Floats
    backgrounds: np.ndarray


class Target(NamedTuple):
    """Crops of the target and their ids (n,). Its labels are not read."""

    store: Store
    ids: np.ndarray


def load_source(dataset: Dataset, device: torch.device, kind: str = "auto", threads: int | None = None) -> Source:
    """Return a source dataset for a device; ``kind`` is that of its store.

    Raises
    ------
    DatasetError
        If it is empty or damaged, or the datasets that it joins have crops of different sizes.
    """
    check_digests(dataset)
    store = open_store(dataset, device, kind, threads)
    angles = np.concatenate([fields["label/pyr"] for fields in read_fields(dataset, "label/pyr")])
    return Source(store, angles, read_backgrounds(dataset))


def load_target(dataset: Dataset, device: torch.device, kind: str = "auto", threads: int | None = None) -> Target:
    """Return a target dataset for a device, its labels unread; raises DatasetError if it is empty or damaged."""
    check_digests(dataset)
    store = open_store(dataset, device, kind, threads)
    return Target(store, np.concatenate([fields["id"] for fields in read_fields(dataset, "id")]))


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


class _Buffers:
    """Arrays that are lent out again once nobody holds them: new memory takes longer to fill than a batch to make."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._lent: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array, not initialised; it is the caller's until the last view of it is gone."""
        fitting = (whole for whole, lent in self._lent if lent() is None and whole.shape == shape)
        whole = next(fitting, None)
        if whole is None:
            whole = np.empty(shape, self._dtype)
        lent = whole.view()
        kept = [pair for pair in self._lent if pair[0] is not whole]
        self._lent = [*kept[-3:], (whole, weakref.ref(lent))]  # of source and target, those in use and those being made
        return lent


class Composer:
    """Makes batches on the device: a random background behind each head, augmented if that is asked for, normalised."""

    def __init__(self, source: Source, device: torch.device, seed: int) -> None:
        size = source.store.size
        self._seed, self._size, self._device = seed, size, device
        self._angles = torch.from_numpy(source.angles).float().to(device)
        self._backgrounds = torch.from_numpy(source.backgrounds).to(device)
        # x * scale + shift normalises; for a whole row of an image, as three numbers at a time are slow.
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (IMAGE_MEAN, IMAGE_STD))
        self._scale = (1 / (255 * std)).repeat(size).float().to(device)
        self._shift = (-mean / std).repeat(size).float().to(device)
        self._pixels, self._floats = _Buffers(np.uint8), _Buffers(np.float32)
        self._bits = (128 >> torch.arange(8)).to(torch.uint8).to(device)  # the eight pixels of a mask's byte

    def source(
        self, rows: np.ndarray, crops: Tensor, masks: Tensor, epoch: int, augment: str = "none"
    ) -> tuple[Tensor, Tensor]:
        """Return images (n, 3, s, s) and angles (n, 3) in degrees, on the device, of the source's ``rows`` (n,).

        ``crops`` and ``masks`` are what the store gives for them, ``augment`` is one of
        :data:`baselines.augment.KINDS`.
        """
        changed = augment != "none"
        draws = keyed_random(self._seed, epoch, rows, _BEHIND + changed * augmenting.DRAWS)
        compose = self._compose_on_cpu if self._device.type == "cpu" else self._compose_on_gpu
        images = compose(draws[:, :_BEHIND], crops, masks)
        if changed:
            images = self._augment(images, draws[:, _BEHIND:], augment)
        return self._normalise(images), self._angles[send(torch.from_numpy(rows), self._device)]

    def target(self, crops: Tensor) -> Tensor:
        """Return images (n, 3, s, s) of crops (n, s, s, 3), on the device."""
        return self._normalise(crops)

    def _augment(self, images: Tensor, draws: Floats, kind: str) -> Tensor:
        """Return augmented images (n, s, s, 3), float32 from 0 to 255, of uint8 ones and what is drawn for each."""
        planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        changed = augmenting.augment(planes, augmenting.change_of(draws, self._device), kind)
        return changed.mul_(255).permute(0, 2, 3, 1)

    def _normalise(self, images: Tensor) -> Tensor:
        """Return (n, 3, s, s), channels last, of images (n, s, s, 3) with values from 0 to 255."""
        if self._device.type != "cpu":  # from bytes in one pass
            floats = torch.addcmul(self._shift, images.flatten(2), self._scale).view(images.shape)
        else:
            floats = torch.from_numpy(self._floats.take(images.shape))
            lines = floats.copy_(images).flatten(2)
            torch.addcmul(self._shift, lines, self._scale, out=lines)
        return floats.permute(0, 3, 1, 2)

    def _corners(self, draws: Floats) -> np.ndarray:
        """Return the number of the background, top and left (n, 3) of the crops that are drawn."""
        return (draws * [len(self._backgrounds), self._size + 1, self._size + 1]).astype(np.int64)

    def _compose_on_gpu(self, draws: Floats, crops: Tensor, masks: Tensor) -> Tensor:
        """Return the crops (n, s, s, 3), uint8, on what ``draws`` (n, 3), in [0, 1), puts behind them."""
        size = self._size
        mask = (masks[:, :, None] & self._bits).bool().flatten(1)[:, : size * size].view(-1, size, size, 1)
        if len(self._backgrounds):
            which, top, left = send(torch.from_numpy(self._corners(draws).T.copy()), self._device)
            windows = self._backgrounds.unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3)
            behind = windows[which, top, left]
        else:
            behind = send(torch.from_numpy((draws * 256).astype(np.uint8)), self._device).view(-1, 1, 1, 3)
        return torch.where(mask, crops, behind)

    def _compose_on_cpu(self, draws: Floats, crops: Tensor, masks: Tensor) -> Tensor:
        """Return the same as on a GPU, image by image: many times as fast as torch's gathers on a CPU."""
        size = self._size
        images = self._pixels.take(tuple(crops.shape))
        if len(self._backgrounds):
            backgrounds = self._backgrounds.numpy()
            for image, (which, top, left) in zip(images, self._corners(draws).tolist(), strict=True):
                image[:] = backgrounds[which, top : top + size, left : left + size]
        else:
            images[:] = (draws * 256).astype(np.uint8)[:, None, None]
        heads = np.unpackbits(masks.numpy(), axis=1, count=size * size).reshape(-1, size, size)
        for image, crop, head in zip(images, crops.numpy(), heads, strict=True):
            cv2.copyTo(crop, head, image)
        return torch.from_numpy(images)
