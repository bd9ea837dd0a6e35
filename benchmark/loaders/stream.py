"""A store that reads crops from the shards as they are asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from benchmark.loaders.launch import ranks_here
from benchmark.loaders.memory import free_memory
from benchmark.loaders.stores import AHEAD, AheadStore, Batch, ahead, check_rows, start_decoding, wait_for
from headposeplus.datasets.dataset import Layout, open_shard, read_offset

STREAM_SHARE = 0.2  # of the machine's free memory, for the encoded crops of two windows
_FIRST_WINDOW = 1 / 16  # of a full window: the first batch waits for all of it
_GAP, _RUN = 64 << 10, 4 << 20  # bytes of a shard: a smaller gap is read too; a longer run is read in parts


class _Window(NamedTuple):
    """Some batches of a plan, and what they need to be read: row ``rows[i]`` (sorted, each once) is ``encoded[i]``."""

    batches: list[np.ndarray]
    rows: np.ndarray
    encoded: list[np.ndarray]
    masks: np.ndarray | None


class StreamStore(AheadStore):
    """Crops read from the shards and decoded as they are asked for, for what does not fit into memory decoded.

    The first ``held`` rows are kept decoded in memory, as many as fit where not all do.

    A plan is taken in windows of as many draws as memory allows. The rows of a window are read once each, in the
    order of the files and in long runs, while the window before is decoded.
    """

    kind = "stream"

    def __init__(self, layout: Layout, device: torch.device, threads: int, held: int = 0) -> None:
        super().__init__(layout, device, threads)
        self._held = self._decode_first(held, torch.device("cpu")) if held else None
        self._offsets = []
        for path, rows in zip(layout.paths, np.diff(layout.starts), strict=True):
            with open_shard(path) as file:
                self._offsets.append(read_offset(file, rows))
        stored = sum(int(offset[-1]) for offset in self._offsets)
        self._row_bytes = stored / len(self) + layout.rendered * layout.mask_bytes + 200

    def _in_memory(self, plan: Iterable[np.ndarray]) -> Generator[Batch, None, None]:
        stop = threading.Event()
        windows = ahead(self._windows(plan, stop), 1)
        pool = ThreadPoolExecutor(self._threads)
        ready: deque[tuple[Batch, list[Future[None]]]] = deque()
        try:
            for window in windows:
                for rows in window.batches:
                    ready.append(self._start(pool, window, rows))
                    if len(ready) > AHEAD:
                        batch, futures = ready.popleft()
                        wait_for(futures)
                        yield batch
                del window
            for batch, futures in ready:
                wait_for(futures)
                yield batch
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            windows.close()

    def _start(self, pool: ThreadPoolExecutor, window: _Window, rows: np.ndarray) -> tuple[Batch, list[Future[None]]]:
        """Start to decode a batch."""
        batch = crops, masks = self._empty(len(rows))
        held = rows < self.held
        futures = [pool.submit(self._fill_held, batch, rows, np.flatnonzero(held))] if held.any() else []
        places = np.flatnonzero(~held)
        slots = np.searchsorted(window.rows, rows[places])
        if masks is not None and window.masks is not None and len(places):
            masks.numpy()[places] = window.masks[slots]
        encoded = [window.encoded[slot] for slot in slots]
        shard = np.searchsorted(self._layout.starts, rows[places], side="right") - 1
        paths = [self._layout.paths[i] for i in shard]
        return batch, futures + start_decoding(pool, crops.numpy(), places, encoded, paths)

    def _fill_held(self, batch: Batch, rows: np.ndarray, places: np.ndarray) -> None:
        """Copy those of a batch's ``rows`` at ``places`` that are held decoded."""
        assert self._held is not None
        for whole, part in zip(self._held, batch, strict=True):
            if whole is not None and part is not None:
                source, target = whole.numpy(), part.numpy()
                for place, row in zip(places.tolist(), rows[places].tolist(), strict=True):
                    target[place] = source[row]

    @property
    def held(self) -> int:
        """How many rows, the first ones, are kept decoded."""
        return 0 if self._held is None else len(self._held[0])

    def _draws(self) -> int:
        """Return how many draws a full window may hold."""
        return max(int(STREAM_SHARE * free_memory() / ranks_here().here / 2 / self._row_bytes), 1)

    def _windows(self, plan: Iterable[np.ndarray], stop: threading.Event) -> Generator[_Window, None, None]:
        most = self._draws()
        draws = max(int(most * _FIRST_WINDOW), 1)
        batches: list[np.ndarray] = []
        held = 0
        for rows in plan:
            if batches and held + len(rows) > draws:
                yield self._read(batches, stop)
                batches, held, draws = [], 0, min(2 * draws, most)
            batches.append(np.asarray(rows, np.int64))
            held += len(rows)
        if batches:
            yield self._read(batches, stop)

    def _read(self, batches: list[np.ndarray], stop: threading.Event) -> _Window:
        """Read a window; once it is no longer wanted, the rest is left out."""
        rows = np.unique(np.concatenate(batches))
        check_rows(rows, len(self))
        rows = rows[rows >= self.held]
        masks = np.empty((len(rows), self._layout.mask_bytes), np.uint8) if self._layout.rendered else None
        encoded: list[np.ndarray] = []
        bounds = np.searchsorted(rows, self._layout.starts)
        for shard in np.flatnonzero(np.diff(bounds)):
            offset = self._offsets[shard]
            first, last = bounds[shard : shard + 2]
            local = rows[first:last] - self._layout.starts[shard]
            with open_shard(self._layout.paths[shard]) as file:
                for run in _runs(local, offset):
                    if stop.is_set():
                        return _Window(batches, rows, encoded, masks)
                    data = file["image/bytes"][offset[run[0]] : offset[run[-1] + 1]]
                    if masks is not None:
                        filled = len(encoded)
                        masks[filled : filled + len(run)] = file["mask/bits"][run[0] : run[-1] + 1][run - run[0]]
                    begins, ends = offset[run] - offset[run[0]], offset[run + 1] - offset[run[0]]
                    # Copied, so that the gaps between them do not stay in memory.
                    encoded += [data[a:b].copy() for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
        return _Window(batches, rows, encoded, masks)


def _runs(rows: np.ndarray, offset: np.ndarray) -> list[np.ndarray]:
    """Return rows (n,) of a shard, sorted, in runs that are worth reading in one go."""
    gaps = offset[rows[1:]] - offset[rows[:-1] + 1]
    parts = offset[rows] // _RUN
    return np.split(rows, np.flatnonzero((gaps > _GAP) | (parts[1:] != parts[:-1])) + 1)
