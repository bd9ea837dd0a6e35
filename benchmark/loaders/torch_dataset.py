"""The built datasets for a PyTorch training loop of one's own.

>>> dataset = HeadPoseDataset("DATA/synhead++", composite=True, seed=0)
>>> loader = torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=True, num_workers=2)
>>> batch = next(iter(loader))  # batch["image"]: (64, 3, s, s) uint8; batch["angles"]: (64, 3) degrees
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.loaders.compose import keyed_random
from headposeplus.datasets.dataset import (
    check_digests,
    layout_of,
    open_dataset,
    read_backgrounds,
    read_fields,
    unpack_mask,
)
from headposeplus.datasets.hdf5 import Shard, opened, unread
from headposeplus.errors import DatasetError, ImageError
from headposeplus.faults import Fault
from headposeplus.images import decode
from headposeplus.raw.subsets import Subset, find, select

Sample = dict[str, Any]


class HeadPoseDataset(torch.utils.data.Dataset[Sample]):
    """A built dataset as samples, which are dicts.

    - ``image`` (3, s, s), uint8, RGB; ``mask`` (s, s), bool, the head, where the dataset is rendered
    - ``rotation`` (3, 3), float32, head to RGB camera; ``angles`` (3,), float32: pitch, yaw, roll in degrees,
      convention ``pyr``; neither where ``labels`` is False, and then none is read
    - ``box`` (4,), int64: x, y, width, height in raw pixels; ``id`` and ``subject``, str

    ``subset`` is the name of one, a file of frames, or a :class:`Subset`. ``transform`` takes a sample and returns
    what the dataset then gives. With ``composite``, a random crop of SynHead's backgrounds (or, where it came
    without, a random colour) is put behind each head: it depends on ``seed``, the epoch of :meth:`set_epoch` and the
    sample alone, and is that of the benchmark's own training.

    All files are read once and compared with their SHA-256, about a gigabyte a second and core, unless ``check`` is
    False. Then they are opened by each process when it first needs them, and never come with a process to one that it
    starts.
    """

    def __init__(
        self,
        folder: str | Path,
        subset: str | Subset | None = None,
        transform: Callable[[Sample], Any] | None = None,
        labels: bool = True,
        composite: bool = False,
        seed: int = 0,
        check: bool = True,
    ) -> None:
        self._dataset = open_dataset(Path(folder))
        if check:
            check_digests(self._dataset)
        self._transform = transform
        self._labels = labels
        self._seed = seed
        self._epoch = 0
        self._layout = layout_of(self._dataset)
        self.size = self._layout.size
        self._rows = np.arange(self._layout.rows)
        if subset is not None:
            ids = [fields["id"] for fields in read_fields(self._dataset, "id")]
            subset = subset if isinstance(subset, Subset) else find(subset)
            self._rows = select(subset, np.concatenate(ids) if ids else np.zeros(0, "U1"))
        self._backgrounds = None
        if composite:
            if not self._layout.rendered:
                mend = "leave composite=True to the sources"
                raise DatasetError(Fault("its images are not rendered", mend, folder))
            self._backgrounds = read_backgrounds(self._dataset)
        self._files: dict[int, Shard] = {}
        _open_datasets.add(self)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        """Return a sample, or what ``transform`` makes of it; raises DatasetError if its shard is damaged."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self._dataset.folder}: there is no sample {index} among {len(self)}")
        row = int(self._rows[index])
        shard, row_in_shard = self._layout.locate(row)
        try:
            sample = self._read(shard, row_in_shard)
        except ImageError as error:
            raise unread(self._layout.paths[shard], ValueError("a crop in it cannot be decoded")) from error
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise unread(self._layout.paths[shard], error) from error
        if self._backgrounds is not None:
            sample["image"] = torch.where(sample["mask"], sample["image"], self._background(row))
        return sample if self._transform is None else self._transform(sample)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _open_datasets.add(self)

    def set_epoch(self, epoch: int) -> None:
        """Draw other backgrounds: call it before each pass (persistent workers keep those they started with)."""
        self._epoch = epoch

    def close(self) -> None:
        """Close this process's files; they are opened again when needed."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _read(self, shard: int, row: int) -> Sample:
        if shard not in self._files:
            self._files[shard] = opened(self._layout.paths[shard])
        file = self._files[shard]
        start, end = file["image/offset"][row : row + 2]
        image = decode(file["image/bytes"][start:end])
        sample: Sample = {"image": torch.from_numpy(image).permute(2, 0, 1).contiguous()}
        if self._layout.rendered:
            sample["mask"] = torch.from_numpy(unpack_mask(file["mask/bits"][row], self.size))
        if self._labels:
            sample["rotation"] = torch.from_numpy(file["label/rotation"][row]).float()
            sample["angles"] = torch.from_numpy(file["label/pyr"][row]).float()
        sample["box"] = torch.from_numpy(file["box"][row]).long()
        return sample | {"id": file["id"][row].decode(), "subject": file["subject"][row].decode()}

    def _background(self, row: int) -> torch.Tensor:
        """Return what is behind the head (3, s, s), or (3, 1, 1) where it is one colour, uint8."""
        assert self._backgrounds is not None
        draws = keyed_random(self._seed, self._epoch, np.array([row]), 3)[0]
        if not len(self._backgrounds):
            return torch.from_numpy((draws * 256).astype(np.uint8)).view(3, 1, 1)
        which = int(draws[0] * len(self._backgrounds))
        top, left = (draws[1:] * (self.size + 1)).astype(np.int64)
        crop = self._backgrounds[which, top : top + self.size, left : left + self.size]
        return torch.from_numpy(crop).permute(2, 0, 1)


_open_datasets: weakref.WeakSet[HeadPoseDataset] = weakref.WeakSet()


def _close_inherited() -> None:
    """Close the files that a forked process got from its parent.

    HDF5 would reuse them where the same file is opened again, and the two processes share their place in it.
    """
    for dataset in list(_open_datasets):
        dataset.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
