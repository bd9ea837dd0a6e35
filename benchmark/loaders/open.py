"""Opens the store of a dataset that fits the memory at hand."""

from __future__ import annotations

import torch

from benchmark.loaders.launch import ranks_here
from benchmark.loaders.memory import free_device_memory, free_memory
from benchmark.loaders.stores import DeviceStore, HostStore, Store
from benchmark.loaders.stream import StreamStore
from headposeplus.datasets.dataset import Dataset, layout_of
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault
from headposeplus.tasks import cores

STORES = ("auto", "device", "host", "stream")
# What decoded crops may take of the memory that is free: of a GPU's, and of the machine's.
GPU_SHARE, RAM_SHARE = 0.6, 0.5


def open_store(dataset: Dataset, device: torch.device, kind: str = "auto", threads: int | None = None) -> Store:
    """Return a store of a dataset for a device; ``kind`` is one of :data:`STORES`, ``threads`` are those that decode.

    ``auto`` is the first of device, host and stream whose decoded crops and masks fit into a share of what is free.

    Raises
    ------
    DatasetError
        If the dataset is empty or damaged, or joins crops of different sizes.
    """
    layout = layout_of(dataset)
    if not layout.rows:
        raise DatasetError(Fault("the dataset is empty", file=dataset.folder))
    kinds: dict[str, type[Store]] = {"device": DeviceStore, "host": HostStore, "stream": StreamStore}
    store = kinds[choose(dataset, device) if kind == "auto" else kind]
    return store(layout, device, threads or max(cores() // ranks_here().here, 1))


def choose(dataset: Dataset, device: torch.device) -> str:
    """Return the kind of store that ``auto`` stands for at present."""
    needed = layout_of(dataset).decoded_bytes
    fits_memory = needed < RAM_SHARE * free_memory() / ranks_here().here
    if fits_memory if device.type == "cpu" else needed < GPU_SHARE * free_device_memory(device):
        return "device"
    return "host" if fits_memory else "stream"
