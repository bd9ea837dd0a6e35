"""Several processes that train one network: who is who, and what they agree on.

``torchrun`` starts them and says through the environment how many there are. Every rank draws the same samples of an
epoch and takes every n-th of each batch, so n ranks see the images of one. Each rank normalises its share of a batch
by the share's own statistics, and whatever else a method computes over a batch is computed over the share, too;
gradients are averaged at every step, running statistics after every epoch. Files are written by the first rank and
read by all, so the folder of the runs has to be one that all of them see.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


class Ranks(NamedTuple):
    """This process among all: its number, how many there are, and its number on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this rank's part (k,) of a batch's rows (n,)."""
        return rows[self.rank :: self.world]


def from_environment() -> Ranks:
    """Return the ranks as ``torchrun`` has set them; one process without it."""
    return Ranks(*(int(os.environ.get(name, default)) for name, default in _VARIABLES))


@contextmanager
def connected(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Connect the ranks while the block runs; one process needs no connection."""
    if ranks.world == 1 or dist.is_initialized():
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        rank=ranks.rank,
        world_size=ranks.world,
        # Whoever waits may wait for another run's first stage; torchrun ends all when one of them dies.
        timeout=timedelta(days=1),
        device_id=device if on_gpu else None,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def wait(ranks: Ranks) -> None:
    """Return once all ranks have come here."""
    if ranks.world > 1:
        dist.barrier()


def mean(ranks: Ranks, values: Tensor) -> Tensor:
    """Return the mean of a tensor over the ranks; what is not finite on one is so on all."""
    if ranks.world > 1:
        values = values.clone()
        dist.all_reduce(values)
        values /= ranks.world
    return values


def same(ranks: Ranks, module: nn.Module) -> None:
    """Give all ranks the parameters and buffers of the first."""
    if ranks.world > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def average_statistics(ranks: Ranks, module: nn.Module) -> None:
    """Average the running statistics of a module's batch normalisation over the ranks."""
    if ranks.world == 1:
        return
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for values in (part.running_mean, part.running_var):
                assert values is not None
                values.copy_(mean(ranks, values))
