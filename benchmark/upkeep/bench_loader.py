"""How fast batches come from each store, beside usual loaders that read one file an image: raw frames, and crops."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
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
from benchmark.loaders.compose import Composer, Source, load_source, load_target
from benchmark.loaders.open import STORES, choose
from benchmark.loaders.stores import AHEAD
from benchmark.training.draws import endless
from benchmark.upkeep.aims import spread
from benchmark.upkeep.bench_build import bare_tasks
from benchmark.upkeep.machine import Machine, machine, wait_for
from headposeplus import tables
from headposeplus.datasets.dataset import Dataset, layout_of, open_dataset, read_backgrounds, read_crops, read_fields
from headposeplus.errors import DatasetError, RawDataError
from headposeplus.faults import Fault
from headposeplus.tasks import cores

DATASETS = ("synhead++", "biwi+")  # a source and a target
FILES = 2000  # images that a usual loader reads
ROUNDS = 5  # of all loaders in turn, so that what else the machine does meets each of them
WARM = AHEAD + 1  # batches before a measurement: by then those that were made ready meanwhile are used up
PLANNED = 50  # batches that a store is asked for at a time
USUAL_BATCH = 20  # images a batch of the usual loaders: a larger one comes no faster, but seldom within a measurement
LEAST_RATIO, LEAST_SHARE = 20, 0.8  # of a store to the loader of raw frames, and of composing alone


class StoreFigures(msgspec.Struct, frozen=True):
    """A store, the seconds that it takes to open, and images a second, a value a round.

    They are those of the usual loaders beside it, of raw frames and of prepared crops, of batches gathered, of batches
    composed, and of both.
    """

    store: str
    opening_seconds: float
    raw: list[float]
    prepared: list[float]
    gather: list[float]
    compose: list[float]
    both: list[float]


class DatasetFigures(msgspec.Struct, frozen=True):
    """A dataset, its crops, how many files the usual loaders read, and pixels of a raw frame, width and height."""

    dataset: str
    size: int
    crops: int
    files: int
    raw_pixels: tuple[int, int]
    stores: list[StoreFigures]


class LoaderFigures(Machine, frozen=True, kw_only=True):
    """What :func:`bench_loader` measures; ``seconds`` is the time of each measurement, ``workers`` the processes."""

    seed: int
    batch: int
    seconds: float
    workers: int
    datasets: list[DatasetFigures]


class Measuring(NamedTuple):
    """How the stores of a dataset are measured."""

    device: torch.device
    batch: int
    seconds: float
    seed: int


class ImageFile(NamedTuple):
    """An image's file, the file of its mask, and its box (x, y, width, height); None where it is all of a file."""

    image: Path
    mask: Path | None = None
    box: tuple[int, int, int, int] | None = None


class UsualDataset(torch.utils.data.Dataset[Tensor]):
    """Images the usual way: a file a sample, decoded, cut out, scaled, composed and normalised by PIL and torchvision.

    The backgrounds (b, 2 s, 2 s, 3) are in memory: a file for each would make it slower still. They are None where
    the images are not rendered.
    """

    def __init__(self, files: list[ImageFile], size: int, backgrounds: np.ndarray | None) -> None:
        self._files, self._size, self._rendered = files, size, backgrounds is not None
        self._backgrounds = [] if backgrounds is None else [Image.fromarray(background) for background in backgrounds]
        self._transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGE_MEAN, IMAGE_STD)])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        """Return an image (3, s, s)."""
        file = self._files[index]
        image: Image.Image = Image.open(file.image)
        if file.box is not None:
            x, y, width, height = file.box
            image = image.crop((x, y, x + width, y + height))
            image = image.resize((self._size, self._size), Image.Resampling.BILINEAR)
        if self._rendered:
            image = Image.composite(image.convert("RGB"), self._behind(), _mask(image, file))
        normalised: Tensor = self._transform(image.convert("RGB"))
        return normalised

    def _behind(self) -> Image.Image:
        """Return what is behind a head: a random part of a background, or a random colour."""
        size = self._size
        if not self._backgrounds:
            return Image.new("RGB", (size, size), tuple(torch.randint(256, (3,)).tolist()))
        which, left, top = (int(torch.randint(n, ())) for n in (len(self._backgrounds), size + 1, size + 1))
        return self._backgrounds[which].crop((left, top, left + size, top + size))


def _mask(image: Image.Image, file: ImageFile) -> Image.Image:
    """Return where the head is: what a file of its own says, else alpha, else all that is not black."""
    if file.mask is not None:
        return Image.open(file.mask)
    if image.mode == "RGBA":
        return image.getchannel("A")
    return image.convert("L").point([0] + [255] * 255)


def write_files(dataset: Dataset, rows: np.ndarray, folder: Path) -> list[ImageFile]:
    """Write the crops, as they are stored, and the masks of rows (n,), sorted, as files, and return these."""
    files = []
    for row, crop in zip(rows, read_crops(dataset, rows), strict=True):
        kind = "png" if crop.encoded[1:4].tobytes() == b"PNG" else "jpg"
        path, mask = folder / f"{row}.{kind}", folder / f"{row}-mask.png"
        path.write_bytes(crop.encoded.data)
        if crop.mask is not None:
            cv2.imwrite(str(mask), crop.mask.astype(np.uint8) * 255)
        files.append(ImageFile(path, None if crop.mask is None else mask))
    return files


def raw_files(dataset: Dataset, rows: np.ndarray, raw: Path) -> list[ImageFile]:
    """Return the raw file of each of some rows (n,) of a dataset, all of which have been read once.

    ``raw`` is the folder of the raw copies. A box is that of the crop; SynBiwi+'s is of the turned image.
    """
    of_shard = {task.shard: task.files for task in bare_tasks(dataset.folder.parent, raw)}
    paths = [path for shard in layout_of(dataset).paths for path in of_shard[shard]]
    boxes = np.concatenate([fields["box"] for fields in read_fields(dataset, "box")])
    files = [ImageFile(paths[row], box=tuple(boxes[row].tolist())) for row in rows]
    for file in files:
        if not file.image.exists():
            mend = f"name the raw copies that {dataset.folder.parent} was built from"
            raise RawDataError(Fault("no such file", mend, file.image))
        file.image.read_bytes()
    return files


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


def _plans(count: int, batch: int, seed: int) -> Iterator[list[np.ndarray]]:
    """Yield plans of some batches without end, so that starting to read one counts as little as it does in training."""
    batches = endless(np.random.default_rng(seed), count, batch)
    while True:
        yield list(itertools.islice(batches, PLANNED))


def _usual(dataset: UsualDataset, how: Measuring) -> Iterator[Tensor]:
    """Yield batches of images without end from a usual loader, with a worker process for each core."""
    loader = DataLoader(
        dataset,
        USUAL_BATCH,
        sampler=RandomSampler(dataset, replacement=True, num_samples=1 << 40),
        num_workers=cores(),
        pin_memory=how.device.type == "cuda",
        generator=torch.Generator().manual_seed(how.seed),
    )
    return (images.to(how.device, non_blocking=True) for images in loader)


def _of_store(source: Source, how: Measuring) -> dict[str, Callable[[], Iterator[Tensor]]]:
    """Return what yields the batches of a store: gathered, composed, and both. What is not rendered is normalised."""
    store, composer = source.store, Composer(source, how.device, how.seed)
    same = np.arange(how.batch) % len(store)
    held = store.gather(same)

    def composed(rows: np.ndarray, crops: Tensor, masks: Tensor | None, epoch: int = 0) -> Tensor:
        return composer.target(crops) if masks is None else composer.source(rows, crops, masks, epoch)[0]

    def passes() -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
        for plan in _plans(len(store), how.batch, how.seed):
            yield from ((rows, *batch) for rows, batch in zip(plan, store.batches(plan), strict=True))

    return {
        "gather": lambda: (crops for _, crops, _ in passes()),
        "compose": lambda: (composed(same, *held, epoch) for epoch in itertools.count()),
        "both": lambda: itertools.starmap(composed, passes()),
    }


def _open(dataset: Dataset, kind: str, device: torch.device) -> Source:
    """Return a dataset with a store, whatever its images are."""
    if dataset.rendered:
        return load_source(dataset, device, kind)
    return Source(load_target(dataset, device, kind).store, np.zeros((0, 3)), np.zeros((0, 0, 0, 3), np.uint8))


def _bench_store(dataset: Dataset, kind: str, usual: dict[str, UsualDataset], how: Measuring) -> StoreFigures:
    """Return the figures of a store, which is closed again: each may take half of the memory."""
    began = time.perf_counter()
    source = _open(dataset, kind, how.device)
    opening = time.perf_counter() - began
    rates: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        this = how._replace(seed=how.seed + number)
        of_usual = {name: lambda files=files, this=this: _usual(files, this) for name, files in usual.items()}
        for name, batches in (of_usual | _of_store(source, this)).items():
            rates.setdefault(name, []).append(round(_rate(batches(), how.device, how.seconds), 1))
    return StoreFigures(store=kind, opening_seconds=round(opening, 2), **rates)


def _bench_dataset(dataset: Dataset, raw: Path, how: Measuring) -> DatasetFigures:
    count = layout_of(dataset).rows
    kinds = STORES[STORES.index(choose(dataset, how.device)) :]
    rows = np.sort(np.random.default_rng(how.seed).permutation(count)[:FILES])
    backgrounds = read_backgrounds(dataset) if dataset.rendered else None
    with tempfile.TemporaryDirectory() as folder:
        files = {"raw": raw_files(dataset, rows, raw), "prepared": write_files(dataset, rows, Path(folder))}
        usual = {name: UsualDataset(of_kind, dataset.size, backgrounds) for name, of_kind in files.items()}
        stores = [_bench_store(dataset, kind, usual, how) for kind in kinds]
    with Image.open(files["raw"][0].image) as frame:
        pixels = frame.size
    return DatasetFigures(dataset.name, dataset.size, count, len(rows), pixels, stores)


def bench_loader(
    data: Path, raw: Path, datasets: tuple[str, ...], batch: int, seconds: float, device: str, seed: int
) -> LoaderFigures:
    """Measure the stores of built datasets and usual loaders, in turn.

    ``data`` is the folder of a build, ``raw`` that of the raw copies ``hpdb`` and ``synhead2_release`` that it was
    built from, ``datasets`` are names of some in it; each measurement takes ``seconds``. A usual loader has a worker
    process for each core. Where the decoded crops do not fit, only the stores that hold less are measured. All files
    are in the system's cache by then.

    Raises
    ------
    DatasetError
        If a dataset is missing, damaged, or smaller than a batch.
    RawDataError
        If the raw copies lack a file that a crop is from.
    """
    how = Measuring(torch.device(device), batch, seconds, seed)
    opened = [open_dataset(data / name) for name in datasets]
    for dataset in opened:
        if batch > (count := layout_of(dataset).rows):
            fault = Fault(f"holds {count} images, fewer than a batch of {batch}", "lower `batch`", dataset.folder)
            raise DatasetError(fault)
    return LoaderFigures(
        **msgspec.structs.asdict(machine(how.device)),
        seed=seed,
        batch=batch,
        seconds=seconds,
        workers=cores(),
        datasets=[_bench_dataset(dataset, raw, how) for dataset in opened],
    )


def describe_loader(figures: LoaderFigures, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_loader` as text: a table of rates, and one of their quotients."""
    measured = [(of.dataset, store) for of in figures.datasets for store in of.stores]
    rates = tables.table([_rates(name, store) for name, store in measured], layout)
    crops = " and ".join(
        f"{of.crops:,} of {of.dataset} (raw frames of {of.raw_pixels[0]} x {of.raw_pixels[1]})"
        for of in figures.datasets
    )
    first, files = figures.datasets[0], max(of.files for of in figures.datasets)
    about = (
        f"Images a second, and quotients of them within a round; medians of {len(first.stores[0].both)} rounds (least "
        f"to most). Crops of {first.size} pixels a side, {crops}; batches of {figures.batch}, on {figures.describe()}. "
        f"The usual loaders are torch's, with {figures.workers} workers, PIL and torchvision, and read one file an "
        f"image, of at most {files:,}: a raw frame, which is decoded whole, cut out and scaled, or a prepared crop, "
        "with its mask where it is rendered. They put a background behind a rendered head and normalise, as composing "
        "does."
    )
    return f"{rates}\n\n{tables.with_note([_quotients(name, store) for name, store in measured], about, layout)}"


def _rates(dataset: str, store: StoreFigures) -> dict[str, str]:
    """Return a row of the table of images a second."""
    names = {"raw frames": store.raw, "prepared crops": store.prepared}
    names |= {"gather": store.gather, "compose": store.compose, "both": store.both}
    medians = {name: f"{statistics.median(values):,.0f}" for name, values in names.items()}
    return {"dataset": dataset, "store": store.store} | medians | {"opening, s": f"{store.opening_seconds:.1f}"}


def _quotients(dataset: str, store: StoreFigures) -> dict[str, str]:
    """Return a row of the table of quotients: those of both to another rate of its round."""

    def beside(others: list[float], digits: int) -> str:
        return spread([one / other for one, other in zip(store.both, others, strict=True)], digits)

    return {
        "dataset": dataset,
        "store": store.store,
        f"both, times raw frames (at least {LEAST_RATIO})": beside(store.raw, 1),
        "times prepared crops": beside(store.prepared, 1),
        f"times composing alone (at least {LEAST_SHARE})": beside(store.compose, 2),
    }
