"""The machine that a benchmark ran on, in words."""

from __future__ import annotations

import msgspec
import torch

from headposeplus import __version__
from headposeplus.tasks import cores, processor


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """On what figures were measured; ``threads`` is how many torch had."""

    toolkit: str
    processor: str
    cores: int
    device: str
    threads: int

    def describe(self) -> str:
        """Return the machine in words."""
        where = f"{self.processor} with {self.cores} cores, {self.threads} threads"
        return where if self.device == "cpu" else f"{self.device}; {where}"


def wait_for(device: torch.device) -> None:
    """Return once a GPU has done what it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> Machine:
    """Return on what figures are measured."""
    return Machine(
        toolkit=__version__,
        processor=processor(),
        cores=cores(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
    )
