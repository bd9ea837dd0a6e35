"""Opens the store of a dataset that fits the memory at hand."""

from __future__ import annotations

import sys

import torch

from benchmark.loaders.launch import ranks_here
from benchmark.loaders.memory import free_device_memory, free_memory
from benchmark.loaders.stores import DeviceStore, HostStore, Store
from benchmark.loaders.stream import StreamStore
from headposeplus.datasets.dataset import Dataset, Layout, layout_of
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault
from headposeplus.tasks import cores

STORES = ("auto", "device", "host", "stream")
# What decoded crops may take of the memory that is free: of a GPU's, and of the machine's.
GPU_SHARE, RAM_SHARE = 0.6, 0.5


def open_store(dataset: Dataset, device: torch.device, kind: str = "auto", threads: int | None = None) -> Store:
    """Return a store of a dataset for a device; ``kind`` is one of :data:`STORES`, ``threads`` are those that decode.

    ``auto`` is the first of device, host and stream whose decoded crops and masks fit into a share of what is free; its
    stream store holds decoded what fits, and a line on standard error says so.

    Raises
    ------
    DatasetError
        If the dataset is empty or damaged, or joins crops of different sizes.
    """
    layout = layout_of(dataset)
    if not layout.rows:
        raise DatasetError(Fault("the dataset is empty", file=dataset.folder))
    threads = threads or max(cores() // ranks_here().here, 1)
    chosen = choose(dataset, device) if kind == "auto" else kind
    if chosen == "stream":
        held = 0
        if kind == "auto":
            room = _room()
            held = _held(layout, room)
            if ranks_here().first:
                print(_describe(dataset, layout, held, room), file=sys.stderr)
        return StreamStore(layout, device, threads, held)
    store: type[Store] = DeviceStore if chosen == "device" else HostStore
    return store(layout, device, threads)


def _room() -> float:
    """Return how many bytes of the machine's memory the decoded crops of a process may take."""
    return RAM_SHARE * free_memory() / ranks_here().here


def _held(layout: Layout, room: float) -> int:
    """Return how many rows fit into so many bytes decoded, where not all do."""
    return min(int(room / layout.decoded_bytes * layout.rows), layout.rows - 1)


def _describe(dataset: Dataset, layout: Layout, held: int, room: float) -> str:
    """Return why the crops of a dataset are read as they are asked for."""
    needed, most = layout.decoded_bytes / (1 << 30), room / (1 << 30)
    return (
        f"{dataset.name}: its crops take {needed:.1f} GiB decoded, and {most:.1f} GiB of memory are to be had: "
        f"{held / layout.rows:.0%} of them are held decoded, the others are decoded whenever they are asked for"
    )


def choose(dataset: Dataset, device: torch.device) -> str:
    """Return the kind of store that ``auto`` stands for at present."""
    needed = layout_of(dataset).decoded_bytes
    fits_memory = needed < _room()
    if fits_memory if device.type == "cpu" else needed < GPU_SHARE * free_device_memory(device):
        return "device"
    return "host" if fits_memory else "stream"
