"""The control groups of Linux, by which a container or a batch system limits what a process may use."""

from __future__ import annotations

import math
from pathlib import Path


def limiting(controller: str, root: Path = Path("/")) -> list[Path]:
    """Return the folders of the groups that limit this process in ``cpu`` or ``memory``, in both versions' layout.

    A group above another one limits it as well. ``root`` is where ``/proc`` and ``/sys`` lie.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2, alone or beside version 1
            mounts = [".", "unified"]
        elif controller in controllers.split(","):
            mounts = [controllers, controller]
        else:
            continue
        names = [name for name in path.split("/") if name]
        for mount in dict.fromkeys(mounts):
            # A container sees its own group at the top, but may be told the path outside.
            found += [root.joinpath("sys/fs/cgroup", mount, *names[:depth]) for depth in range(len(names), -1, -1)]
    return found


def core_quota(root: Path = Path("/")) -> float:
    """Return how many cores' time the control groups give to this process; infinity if they set no limit."""
    return min((_quota(folder) for folder in limiting("cpu", root)), default=math.inf)


def _quota(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # a quota of "max" is no limit
        return math.inf
    return share if share > 0 else math.inf


def free_memory(root: Path = Path("/")) -> float:
    """Return the bytes that the control groups still give to this process; infinity if they set no limit."""
    return min((_free(folder) for folder in limiting("memory", root)), default=math.inf)


def _free(folder: Path) -> float:
    new = (folder / "memory.max").exists()
    most, taken = ("max", "current") if new else ("limit_in_bytes", "usage_in_bytes")
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Files that were read make way.
        yielding = int(stat["inactive_file" if new else "total_inactive_file"])
        limit = int((folder / f"memory.{most}").read_text())
        return limit - int((folder / f"memory.{taken}").read_text()) + yielding
    except (OSError, ValueError, KeyError):
        return math.inf
