"""The checkpoint of a stage: the states of all that changes while it trains, by name."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from headposeplus.errors import TrainingError
from headposeplus.faults import Fault, unreadable
from headposeplus.files import write_bytes

CHECKPOINT = "checkpoint.pt"
_VERSION = 3  # of the checkpoint's shape


class Stateful(Protocol):
    """What has a state that can be saved and taken up again."""

    def state_dict(self) -> Any:
        """Return the state: tensors and numbers, by name."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take up a state."""


class Place(NamedTuple):
    """How far a stage has come: the epochs that have ended, and the length of its log in bytes."""

    epochs: int = 0
    log: int = 0


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state, which later steps do not change."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def save(path: Path, content: object) -> None:
    """Write what ``torch.save`` can; the file is whole or absent."""
    # In memory first: torch says of a failed write neither the cause nor the file.
    data = io.BytesIO()
    torch.save(content, data)
    write_bytes(path, data.getbuffer())


def load(path: Path, device: torch.device) -> Any:
    """Return what :func:`save` wrote; raises TrainingError if the file is damaged or may not be read."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise TrainingError(unreadable(path, error)) from error
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # torch.load has no error of its own: a damaged file raises many kinds
        if "DefaultCPUAllocator" in str(error):  # nor has torch one for a lack of memory
            raise
        fault = Fault("damaged checkpoint", "delete it to train this stage again", path)
        raise TrainingError(fault) from error


def save_checkpoint(path: Path, run: str, place: Place, parts: Mapping[str, Stateful]) -> None:
    """Write where a stage stands and the states of its parts; ``run`` is the hash of the run's settings."""
    states = {name: part.state_dict() for name, part in parts.items()}
    save(path, {"version": _VERSION, "run": run, "place": place._asdict(), **states})


def take_up(path: Path, run: str, parts: Mapping[str, Stateful]) -> Place:
    """Give the parts their states in a checkpoint, if there is one; return where the stage stands.

    Raises
    ------
    TrainingError
        If the checkpoint is damaged, of another version or another run's.
    """
    if not path.exists():
        return Place()
    states = load(path, torch.device("cpu"))  # AdamW counts its steps there
    if not isinstance(states, dict) or states.get("version") != _VERSION:
        mend = "delete it to train this stage again"
        raise TrainingError(Fault("a checkpoint of another version of the toolkit", mend, path))
    if states["run"] != run:
        raise TrainingError(Fault("the checkpoint of another run", "choose another `out` or delete the folder", path))
    for name, part in parts.items():
        part.load_state_dict(states[name])
    return Place(**states["place"])
