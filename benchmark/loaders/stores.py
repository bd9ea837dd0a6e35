"""Stores: the crops and masks of a dataset by row, on the device that trains.

A *device* store holds them decoded on the device, a *host* store decoded in memory beside it, and a *stream* store
reads them from the shards as they are asked for. Each takes a plan, which says the rows of every batch, and gives
exactly those: so all give the same bytes for the same plan. A shuffle buffer would not: what it gives depends on its
size and on what happens to lie in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from baselines.devices import send
from headposeplus.datasets.dataset import Layout, open_shard, read_offset
from headposeplus.datasets.hdf5 import unread
from headposeplus.errors import ImageError
from headposeplus.images import decode
from headposeplus.progress import progress

PROGRESS_FROM = 5000  # crops; fewer are decoded before a progress bar is worth reading
AHEAD = 3  # batches made ready before they are asked for
_PIECE = 512  # rows that are read and decoded at a time where a dataset is decoded whole
_TASK = 16  # crops that a thread decodes at a time

Batch = tuple[Tensor, Tensor | None]
Item = TypeVar("Item")


def _decode_into(out: np.ndarray, places: np.ndarray, encoded: list[np.ndarray], paths: list[Path]) -> None:
    """Decode crops into ``out[places]`` (n, s, s, 3); ``paths`` are the shards that they are from."""
    for i, data in enumerate(encoded):
        try:
            decode(data, out[places[i]])
        except ImageError as error:
            raise unread(paths[i], ValueError("a crop in it cannot be decoded")) from error


def start_decoding(
    pool: ThreadPoolExecutor, out: np.ndarray, places: np.ndarray, encoded: list[np.ndarray], paths: list[Path]
) -> list[Future[None]]:
    """Start to decode crops into ``out[places]`` (n, s, s, 3)."""
    parts = [slice(start, start + _TASK) for start in range(0, len(encoded), _TASK)]
    return [pool.submit(_decode_into, out, places[part], encoded[part], paths[part]) for part in parts]


def wait_for(futures: list[Future[None]]) -> None:
    """Wait until crops are decoded; raises DatasetError if one is damaged."""
    for future in futures:
        future.result()


def _uninitialised(layout: Layout, count: int, device: torch.device, pinned: bool = False) -> Batch:
    """Return uninitialised crops and masks."""

    def empty(*shape: int) -> Tensor:
        if device.type == "cpu" and not pinned:
            return torch.from_numpy(np.empty(shape, np.uint8))  # NumPy asks for huge pages, which are faster to fill
        return torch.empty(shape, dtype=torch.uint8, device=device, pin_memory=pinned)

    masks = empty(count, layout.mask_bytes) if layout.rendered else None
    return empty(count, layout.size, layout.size, 3), masks


def check_rows(rows: np.ndarray, count: int) -> None:
    """Raise IndexError if a store of ``count`` rows lacks one of some rows (n,)."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise IndexError(f"rows {rows.min()} to {rows.max()} of {count}")


def _take(whole: Batch, rows: np.ndarray, out: Batch) -> None:
    """Gather rows in memory; NumPy copies each in one go, many times as fast as torch gathers uint8."""
    for source, target in zip(whole, out, strict=True):
        if source is not None and target is not None:
            check_rows(rows, len(source))
            np.take(source.numpy(), rows, axis=0, out=target.numpy(), mode="clip")  # "raise" copies once more


def ahead(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """Yield what a generator yields, made in a thread that stays ``depth`` items ahead; its errors are raised here."""
    end = object()
    pool = ThreadPoolExecutor(1)
    try:
        futures: deque[Future[Item | object]] = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := futures.popleft().result()) is not end:
            futures.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()


class Store:
    """Crops and masks of a dataset by row; ``size`` is the crops' side in pixels."""

    kind = ""

    def __init__(self, layout: Layout, device: torch.device, threads: int) -> None:
        self.size = layout.size
        self._layout, self._device, self._threads = layout, device, threads

    def __len__(self) -> int:
        return self._layout.rows

    def batches(self, plan: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Yield, for each array of rows (n,) of a plan, crops (n, s, s, 3) and masks (n, bytes), on the device.

        Both are uint8; crops are RGB, masks packed bits as in the shards, or None where nothing is rendered. The plan
        is read ahead, in another thread. A plan should end with the batches that are wanted: what is read ahead of
        them is lost.

        Raises
        ------
        DatasetError
            If a shard is missing or damaged.
        """
        raise NotImplementedError

    def gather(self, rows: np.ndarray) -> Batch:
        """Return the crops and masks of rows (n,); see :meth:`batches`."""
        (batch,) = self.batches([rows])
        return batch

    def _empty(self, count: int) -> Batch:
        """Return room in memory for a batch, or for what is on its way to the device."""
        return _uninitialised(self._layout, count, torch.device("cpu"), pinned=self._device.type == "cuda")

    def _decode_first(self, count: int, device: torch.device) -> Batch:
        """Return the first crops and masks on a device; a few hundred at a time are held elsewhere."""
        crops, masks = _uninitialised(self._layout, count, device)
        pieces = ahead(self._pieces(count), 1)
        with (
            ThreadPoolExecutor(self._threads) as pool,
            progress(count if count >= PROGRESS_FROM else 0, "decode", "crop") as bar,
        ):
            try:
                for first, path, encoded, bits in pieces:
                    rows = slice(first, first + len(encoded))
                    staged = crops[rows] if device.type == "cpu" else self._empty(len(encoded))[0]
                    places = np.arange(len(encoded))
                    wait_for(start_decoding(pool, staged.numpy(), places, encoded, [path] * len(encoded)))
                    if device.type != "cpu":
                        crops[rows].copy_(staged, non_blocking=True)
                    if masks is not None and bits is not None:
                        masks[rows] = torch.from_numpy(bits).to(device)
                    bar.update(len(encoded))
            finally:
                pieces.close()
        return crops, masks

    def _pieces(self, count: int) -> Generator[tuple[int, Path, list[np.ndarray], np.ndarray | None], None, None]:
        """Yield the first rows, some at a time: the first one's number, the shard, the encoded crops and the masks."""
        for shard, path in enumerate(self._layout.paths):
            start, end = (int(row) for row in self._layout.starts[shard : shard + 2])
            if start >= count:
                return
            with open_shard(path) as file:
                offset = read_offset(file, end - start)
                for first in range(0, min(end, count) - start, _PIECE):
                    last = min(first + _PIECE, end - start, count - start)
                    data = file["image/bytes"][offset[first] : offset[last]]
                    cuts = offset[first + 1 : last] - offset[first]
                    bits = file["mask/bits"][first:last] if self._layout.rendered else None
                    yield start + first, path, np.split(data, cuts), bits


class ReorderedStore(Store):
    """A store whose row i is row ``order[i]`` (n,) of another one."""

    def __init__(self, store: Store, order: np.ndarray) -> None:
        super().__init__(store._layout, store._device, store._threads)
        self._store, self._order, self.kind = store, order, store.kind

    def batches(self, plan: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Yield the batches of a plan; see :meth:`Store.batches`."""
        return self._store.batches(self._order[rows] for rows in plan)


class DeviceStore(Store):
    """Everything decoded on the device: a batch is one gather there."""

    kind = "device"

    def __init__(self, layout: Layout, device: torch.device, threads: int) -> None:
        super().__init__(layout, device, threads)
        self._crops, self._masks = self._decode_first(len(self), device)

    def batches(self, plan: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Yield the batches of a plan; see :meth:`Store.batches`."""
        for rows in plan:
            if self._device.type == "cpu":
                batch = self._empty(len(rows))
                _take((self._crops, self._masks), rows, batch)
                yield batch
            else:
                index = send(torch.from_numpy(np.asarray(rows, np.int64)), self._device)
                masks = None if self._masks is None else self._masks.index_select(0, index)
                yield self._crops.index_select(0, index), masks


class AheadStore(Store):
    """A store whose batches are made in memory by a thread, ahead of time, and copied to the device meanwhile."""

    def _in_memory(self, plan: Iterable[np.ndarray]) -> Generator[Batch, None, None]:
        raise NotImplementedError

    def batches(self, plan: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Yield the batches of a plan; see :meth:`Store.batches`."""
        if self._device.type == "cpu":
            yield from ahead(self._in_memory(plan), AHEAD)
            return
        batches = ahead(self._copied(self._in_memory(plan)), AHEAD)
        try:
            for (crops, masks), copied in batches:
                stream = torch.cuda.current_stream(self._device)
                stream.wait_event(copied)
                for tensor in (crops, masks):
                    if tensor is not None:
                        # Made on the other stream, whose next batches must not take its memory while it is in use.
                        tensor.record_stream(stream)
                yield crops, masks
        finally:
            batches.close()

    def _copied(self, batches: Generator[Batch, None, None]) -> Generator[tuple[Batch, torch.cuda.Event], None, None]:
        """Yield each batch on the device, and what to wait for before it is used.

        PyTorch lends a pinned buffer out again only once the copies from it are done.
        """
        side = torch.cuda.Stream(self._device)
        try:
            for crops, masks in batches:
                with torch.cuda.stream(side):
                    copy = (
                        crops.to(self._device, non_blocking=True),
                        None if masks is None else masks.to(self._device, non_blocking=True),
                    )
                    copied = side.record_event()
                yield copy, copied
        finally:
            batches.close()


class HostStore(AheadStore):
    """Everything decoded in the machine's memory.

    That memory is not pinned: a batch is gathered into a pinned buffer anyhow, and PyTorch rounds what it pins up to
    a power of two.
    """

    kind = "host"

    def __init__(self, layout: Layout, device: torch.device, threads: int) -> None:
        super().__init__(layout, device, threads)
        self._crops, self._masks = self._decode_first(len(self), torch.device("cpu"))

    def _in_memory(self, plan: Iterable[np.ndarray]) -> Generator[Batch, None, None]:
        for rows in plan:
            batch = self._empty(len(rows))
            _take((self._crops, self._masks), rows, batch)
            yield batch
