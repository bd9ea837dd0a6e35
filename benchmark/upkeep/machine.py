"""The machine that a benchmark ran on, in words."""

from __future__ import annotations

from typing import Any

import torch

from headposeplus import __version__
from headposeplus.tasks import cores, processor


def wait_for(device: torch.device) -> None:
    """Return once a GPU has done what it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> dict[str, Any]:
    """Return on what figures are measured, as plain values."""
    return {
        "toolkit": __version__,
        "processor": processor(),
        "cores": cores(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }


def describe_machine(record: dict[str, Any]) -> str:
    """Return what :func:`machine` has put into a record, as text."""
    where = f"{record['processor']} with {record['cores']} cores, {record['threads']} threads"
    return where if record["device"] == "cpu" else f"{record['device']}; {where}"
