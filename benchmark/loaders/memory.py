"""How much memory is free."""

from __future__ import annotations

from pathlib import Path

import torch

from headposeplus import groups


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that can still be taken, as far as Linux tells; 4 GiB elsewhere.

    A container or a batch job may be allowed less than the machine has. ``root`` is where ``/proc`` and ``/sys`` lie.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 4 << 30
    return max(int(min(free, groups.free_memory(root))), 0)


def free_device_memory(device: torch.device) -> int:
    """Return the free bytes of a GPU."""
    return int(torch.cuda.mem_get_info(device)[0])
