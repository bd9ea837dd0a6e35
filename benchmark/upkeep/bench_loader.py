"""How fast batches come from each store, beside a plain loader that reads one file an image."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms

from baselines.networks import IMAGE_MEAN, IMAGE_STD
from benchmark.loaders.compose import Composer, Source, load_source
from benchmark.loaders.open import STORES, choose
from benchmark.loaders.stores import AHEAD, Batch
from benchmark.upkeep.machine import Machine, machine, wait_for
from headposeplus import tables
from headposeplus.datasets.dataset import Dataset, layout_of, open_dataset, read_backgrounds, read_crops
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault
from headposeplus.files import listing
from headposeplus.tasks import cores

FILES = 2000  # images that the plain loader reads
ROUNDS = 3  # of all loaders in turn, so that what else the machine does meets each of them
WARM = AHEAD + 1  # batches before a measurement: by then those that were made ready meanwhile are used up
LEAST_RATIO = 10  # of a store to the plain loader


class PlainFigures(msgspec.Struct, frozen=True):
    """The plain loader: its processes, the files that it reads, and its images a second, a value a round."""

    workers: int
    files: int
    images_a_second: list[float]


class StoreFigures(msgspec.Struct, frozen=True):
    """A store, the seconds that it takes to open, and images a second, a value a round.

    They are those of the plain loader beside it, of batches gathered, of batches composed, and of both; ``ratio`` is
    the median quotient of both and plain.
    """

    store: str
    opening_seconds: float
    plain: list[float]
    gather: list[float]
    compose: list[float]
    both: list[float]
    ratio: float


class LoaderFigures(Machine, frozen=True, kw_only=True):
    """What :func:`bench_loader` measures; ``seconds`` is the time of each measurement."""

    seed: int
    dataset: str
    size: int
    crops: int
    batch: int
    seconds: float
    plain: PlainFigures
    stores: list[StoreFigures]


class _Rates(NamedTuple):
    """Images a second of a round."""

    plain: float
    gather: float
    compose: float
    both: float


class PlainDataset(torch.utils.data.Dataset[Tensor]):
    """Images the usual way: one JPEG and one PNG a sample, decoded, composed and normalised by PIL and torchvision.

    The backgrounds (b, 2 s, 2 s, 3) are in memory: a file for each would make it slower still.
    """

    def __init__(self, folder: Path, backgrounds: np.ndarray) -> None:
        self._paths = listing(folder, ".jpg")
        self._backgrounds = [Image.fromarray(background) for background in backgrounds]
        self._transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGE_MEAN, IMAGE_STD)])

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        """Return an image (3, s, s)."""
        head, mask = Image.open(self._paths[index]).convert("RGB"), Image.open(self._paths[index].with_suffix(".png"))
        size = head.width
        if self._backgrounds:
            which, left, top = (int(torch.randint(n, ())) for n in (len(self._backgrounds), size + 1, size + 1))
            behind = self._backgrounds[which].crop((left, top, left + size, top + size))
        else:
            behind = Image.new("RGB", head.size, tuple(torch.randint(256, (3,)).tolist()))
        image: Tensor = self._transform(Image.composite(head, behind, mask))
        return image


def write_files(dataset: Dataset, folder: Path, rng: np.random.Generator) -> None:
    """Write the crops and masks of some rows of a dataset, drawn at random, as files."""
    chosen = np.sort(rng.permutation(layout_of(dataset).rows)[:FILES])
    for row, crop in zip(chosen, read_crops(dataset, chosen), strict=True):
        if bytes(crop.encoded[1:4]) == b"PNG":
            fault = Fault("its crops are PNG", "build without `lossless` to measure loaders", dataset.folder)
            raise DatasetError(fault)
        path = folder / f"{row}.jpg"
        path.write_bytes(crop.encoded.data)
        assert crop.mask is not None
        cv2.imwrite(str(path.with_suffix(".png")), crop.mask.astype(np.uint8) * 255)


def _rate(batches: Iterable[Tensor], device: torch.device, seconds: float) -> float:
    """Return the images a second of batches without end, once they have begun to come."""
    iterator = iter(batches)
    for _ in range(WARM):
        next(iterator)
    wait_for(device)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += len(next(iterator))
        wait_for(device)
    return count / (time.perf_counter() - began)


def _plan(count: int, batch: int, seed: int) -> Iterator[list[np.ndarray]]:
    """Yield passes over the rows, shuffled, in batches."""
    for number in itertools.count():
        order = np.random.default_rng([seed, number]).permutation(count)
        yield [order[i : i + batch] for i in range(0, count - batch + 1, batch)]


def _measure(
    source: Source, composer: Composer, plain: PlainDataset, device: torch.device, batch: int, seconds: float, seed: int
) -> _Rates:
    """Return the images a second of the plain loader, and of a store: gathered, composed, and both."""
    store = source.store
    rows = np.arange(batch) % len(store)
    crops, masks = store.gather(rows)

    def gathered() -> Iterator[tuple[np.ndarray, Batch]]:
        for plan in _plan(len(store), batch, seed):
            yield from zip(plan, store.batches(plan), strict=True)

    def composed(rows: np.ndarray, crops: Tensor, masks: Tensor | None, epoch: int) -> Tensor:
        assert masks is not None
        return composer.source(rows, crops, masks, epoch)[0]

    return _Rates(
        plain=_measure_plain(plain, device, batch, seconds, seed),
        gather=_rate((crops for _, (crops, _) in gathered()), device, seconds),
        compose=_rate((composed(rows, crops, masks, epoch) for epoch in itertools.count()), device, seconds),
        both=_rate((composed(rows, *stored, 0) for rows, stored in gathered()), device, seconds),
    )


def _measure_plain(dataset: PlainDataset, device: torch.device, batch: int, seconds: float, seed: int) -> float:
    loader = DataLoader(
        dataset,
        batch,
        sampler=RandomSampler(dataset, replacement=True, num_samples=1 << 40),
        num_workers=cores(),
        pin_memory=device.type == "cuda",
        generator=torch.Generator().manual_seed(seed),
    )
    return _rate((images.to(device, non_blocking=True) for images in loader), device, seconds)


def _bench_store(
    dataset: Dataset,
    kind: str,
    plain: PlainDataset,
    device: torch.device,
    batch: int,
    seconds: float,
    seed: int,
) -> StoreFigures:
    """Return the figures of a store, which is closed again: each may take half of the memory."""
    began = time.perf_counter()
    source = load_source(dataset, device, kind)
    opening = time.perf_counter() - began
    composer = Composer(source, device, seed)
    rounds = [_measure(source, composer, plain, device, batch, seconds, seed + number) for number in range(ROUNDS)]
    rates = {name: [round(getattr(rates, name), 1) for rates in rounds] for name in _Rates._fields}
    return StoreFigures(
        store=kind,
        opening_seconds=round(opening, 2),
        **rates,
        ratio=round(statistics.median(measured.both / measured.plain for measured in rounds), 2),
    )


def bench_loader(data: Path, dataset: str, batch: int, seconds: float, device: str, seed: int) -> LoaderFigures:
    """Measure the stores of a built dataset and a plain loader, in turn.

    ``data`` is the folder of a build, ``dataset`` the name of a rendered one in it; each measurement takes
    ``seconds``. The plain loader has a worker process for each core. Where the decoded crops do not fit, only the
    stores that hold less are measured. All files are in the system's cache by then.

    Raises
    ------
    DatasetError
        If the dataset is missing or damaged, is not rendered, is smaller than a batch, or holds PNG.
    """
    opened, where = open_dataset(data / dataset), torch.device(device)
    if not opened.rendered:
        raise DatasetError(Fault("its images are not rendered", "choose one of the sources", opened.folder))
    count = layout_of(opened).rows
    if batch > count:
        fault = Fault(f"holds {count} images, fewer than a batch of {batch}", "lower `batch`", opened.folder)
        raise DatasetError(fault)
    kinds = STORES[STORES.index(choose(opened, where)) :]
    with tempfile.TemporaryDirectory() as folder:
        write_files(opened, Path(folder), np.random.default_rng(seed))
        plain = PlainDataset(Path(folder), read_backgrounds(opened))
        stores = [_bench_store(opened, kind, plain, where, batch, seconds, seed) for kind in kinds]
    return LoaderFigures(
        **msgspec.structs.asdict(machine(where)),
        seed=seed,
        dataset=opened.name,
        size=opened.size,
        crops=count,
        batch=batch,
        seconds=seconds,
        plain=PlainFigures(cores(), len(plain), [rate for store in stores for rate in store.plain]),
        stores=stores,
    )


def describe_loader(figures: LoaderFigures, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_loader` as text."""

    def median(values: list[float]) -> str:
        return f"{statistics.median(values):,.0f}"

    plain, rounds = figures.plain, len(figures.stores[0].plain)
    columns = ("images a second from", "gather", "compose", "both", "ratio", "opening, s")
    rows = [[f"plain loader, {plain.workers} workers", "", "", median(plain.images_a_second), "1.0", ""]]
    for store in figures.stores:
        steps = (median(values) for values in (store.gather, store.compose, store.both))
        rows.append([f"{store.store} store", *steps, f"{store.ratio:.1f}", f"{store.opening_seconds:.1f}"])
    about = (
        f"{figures.crops:,} crops of {figures.size} pixels a side ({figures.dataset}), batches of "
        f"{figures.batch}, on {figures.describe()}; medians of {rounds} rounds. The plain loader reads "
        f"a JPEG and a PNG a sample, of {plain.files:,}, with PIL, puts a background behind it and normalises "
        f"with torchvision. The aim is a ratio of {LEAST_RATIO} at 224 pixels."
    )
    return tables.with_note([dict(zip(columns, row, strict=True)) for row in rows], about, layout)
