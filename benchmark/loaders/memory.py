"""How much memory is free."""

from __future__ import annotations

from pathlib import Path

import torch


def free_memory() -> int:
    """Return the bytes of memory that can still be taken, as far as Linux tells; 4 GiB elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 4 << 30
    try:  # a container may be allowed less; files that it has read make way
        group = Path("/sys/fs/cgroup")
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        taken = int((group / "memory.current").read_text()) - int(stat["inactive_file"])
        free = min(free, int((group / "memory.max").read_text()) - taken)
    except (OSError, ValueError, KeyError):
        pass
    return free


def free_device_memory(device: torch.device) -> int:
    """Return the free bytes of a GPU."""
    return int(torch.cuda.mem_get_info(device)[0])
