"""Several processes that train one network: who is who, and what they agree on.

``torchrun`` starts them and says through the environment how many there are. Every rank draws the same samples of an
epoch and takes every n-th of each batch, so n ranks see the images of one. Each rank normalises its share of a batch
by the share's own statistics, and whatever else a method computes over a batch is computed over the share, too;
gradients are averaged at every step, running statistics after every epoch. Files are written by the first rank and
read by all, so the folder of the runs has to be one that all of them see.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from benchmark.loaders.launch import Ranks
from headposeplus.errors import TrainingError
from headposeplus.faults import Fault, listed, said

_PATIENCE = timedelta(minutes=30)  # with processes that do not come
_SILENCE = 10.0  # seconds before the others are waited for aloud
_LOOK = 0.2  # seconds between looks at who has come


@contextmanager
def connected(ranks: Ranks, device: torch.device, patience: timedelta = _PATIENCE) -> Iterator[None]:
    """Connect the ranks while the block runs; one process needs no connection.

    Raises
    ------
    TrainingError
        If not all come in time, or one of them is gone while they train.
    """
    if ranks.world == 1 or dist.is_initialized():
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    with _told(ranks):
        store = _meeting_place(ranks, patience)
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=dist.PrefixStore("headposeplus", store),
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


@contextmanager
def _told(ranks: Ranks) -> Iterator[None]:
    """Raise what torch says of lost connections as a TrainingError."""
    try:
        yield
    except RuntimeError as error:
        # Gloo has no error of its own.
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        fault = Fault(
            f"the other processes cannot be reached: {said(error, 160)}",
            "see what ended them, and run the same command again to go on",
            f"rank {ranks.rank} of {ranks.world}, {ranks.meeting}",
        )
        raise TrainingError(fault) from error


def _meeting_place(ranks: Ranks, patience: timedelta) -> dist.Store:
    """Return the store where the ranks meet, once all are there; say whom one waits for."""
    keeps = ranks.first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # else torchrun keeps it
    if not keeps:
        # Tried first: torch would say that it cannot connect with a traceback of its own.
        _wait_until(ranks, lambda: [] if _answers(ranks) else [0], patience, aloud=True)
    store = dist.TCPStore(
        ranks.address, ranks.port, ranks.world, keeps, timeout=patience, wait_for_workers=False, multi_tenant=True
    )
    store.set(_here(ranks.rank), "")

    def missing() -> list[int]:
        return [rank for rank in range(ranks.world) if not store.check([_here(rank)])]

    _wait_until(ranks, missing, patience, aloud=ranks.first)
    return store


def _wait_until(ranks: Ranks, missing: Callable[[], list[int]], patience: timedelta, aloud: bool) -> None:
    """Return once no rank is missing; raises TrainingError if one never comes."""
    begun = told = time.monotonic()
    while absent := missing():
        now = time.monotonic()
        if now - begun > patience.total_seconds():
            mend = "start all of them, with one WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
            raise TrainingError(Fault(f"{listed(absent, 'rank')} of {ranks.world} never came", mend, ranks.meeting))
        if aloud and now - told > _SILENCE:
            words = f"rank {ranks.rank} of {ranks.world}: waiting for {listed(absent, 'rank')} at {ranks.meeting}"
            print(words, file=sys.stderr, flush=True)
            told = now + 5 * _SILENCE
        time.sleep(_LOOK)


def _answers(ranks: Ranks) -> bool:
    """Return whether somebody listens where the ranks meet."""
    try:
        socket.create_connection((ranks.address, ranks.port), timeout=_SILENCE).close()
    except OSError:
        return False
    return True


def _here(rank: int) -> str:
    return f"here/{rank}"


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
