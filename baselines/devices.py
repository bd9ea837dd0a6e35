"""How data come to the device that trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

_STEPS_AHEAD = 2  # that a GPU may be asked for before they are done; each holds the memory of its batch
Tensors = TypeVar("Tensors", bound=tuple[Tensor, ...])


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the machine's memory on a device.

    A GPU copies it while the CPU goes on, which it can from pinned memory alone: from other memory the CPU would wait
    until all that it asked the GPU for before is done.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def beside_steps(batches: Iterator[Tensors], device: torch.device) -> Iterator[Tensors]:
    """Yield the batches that an iterator makes on a device; on a GPU, each while the step before it is computed.

    They are made on a stream of their own. What the caller asks the GPU for between two batches is the step; it is told
    of no more than two steps before they are done, so that no more batches than that take its memory.
    """
    if device.type != "cuda":
        yield from batches
        return
    side, main = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    steps = deque([main.record_event()])  # when each of the last steps could begin: the one before it was done
    while True:
        side.wait_event(steps[-1])
        with torch.cuda.stream(side):
            batch = next(batches, None)
        if batch is None:
            return
        main.wait_stream(side)
        for tensor in batch:
            tensor.record_stream(main)
        steps.append(main.record_event())
        if len(steps) > _STEPS_AHEAD:
            steps.popleft().synchronize()
        yield batch
