"""How small arrays come to the device that trains."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the machine's memory on a device.

    A GPU copies it while the CPU goes on, which it can from pinned memory alone: from other memory the CPU would wait
    until all that it asked the GPU for before is done.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
