"""The checkpoint of a stage: the states of all that changes while it trains, by name."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from headposeplus.errors import TrainingError
from headposeplus.faults import Fault, said, unreadable
from headposeplus.files import check_zip, write_bytes

CHECKPOINT = "checkpoint.pt"
AGAIN = "delete it to train this stage again"
_VERSION = 4  # of the checkpoint's shape


class Stateful(Protocol):
    """What has a state that can be saved and taken up again."""

    def state_dict(self) -> Any:
        """Return the state: tensors and numbers, by name."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take up a state."""


class Place(NamedTuple):
    """How far a stage has come: the epochs that have ended, and the length of its log in bytes with its SHA-256."""

    epochs: int = 0
    log: int = 0
    log_sha256: str = ""


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
    """Return what :func:`save` wrote; raises TrainingError if the file is damaged or may not be read.

    Torch notes a checksum of each record, which :func:`torch.load` does not look at.
    """
    try:
        data = path.read_bytes()
        check_zip(data)
        return torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except OSError as error:
        raise TrainingError(unreadable(path, error)) from error
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # torch.load has no error of its own: a damaged file raises many kinds
        if "DefaultCPUAllocator" in str(error):  # nor has torch one for a lack of memory
            raise
        raise TrainingError(_damaged(path, error)) from error


def _damaged(path: Path, error: object) -> Fault:
    return Fault(f"damaged ({said(error, 160)})", AGAIN, path)


def fill_network(path: Path, network: nn.Module) -> None:
    """Give a network the state that stage 1 left; raises TrainingError if that is damaged or another network's."""
    states = load(path, next(network.parameters()).device)
    try:
        check_alike(states, {"network": network.state_dict()})
    except ValueError as error:
        raise TrainingError(_damaged(path, error)) from error
    network.load_state_dict(states["network"])


def check_alike(kept: object, now: object, where: str = "", finite: bool = True) -> None:
    """Raise ValueError where a kept state is not made as that of now: other names, types, shapes, or not finite.

    What is None now may have been a number.
    """
    number = isinstance(kept, int | float)
    if isinstance(now, Tensor):
        if not isinstance(kept, Tensor) or (kept.shape, kept.dtype) != (now.shape, now.dtype):
            found = f"{tuple(kept.shape)} {kept.dtype}" if isinstance(kept, Tensor) else type(kept).__name__
            raise ValueError(f"{where}: expected {tuple(now.shape)} {now.dtype}, found {found}")
        if finite and kept.is_floating_point() and not kept.isfinite().all():
            raise ValueError(f"{where}: values that are not finite")
    elif isinstance(now, Mapping):
        if not isinstance(kept, Mapping) or kept.keys() != now.keys():
            raise ValueError(f"{where or 'it'}: other names than expected")
        for name, value in now.items():
            check_alike(kept[name], value, f"{where}.{name}".strip("."), finite)
    elif isinstance(now, list | tuple):
        if not isinstance(kept, list | tuple) or len(kept) != len(now):
            raise ValueError(f"{where}: expected {len(now)} values")
        for value, wanted in zip(kept, now, strict=True):
            check_alike(value, wanted, where, finite)
    elif type(kept) is not type(now) and not (now is None and number):
        raise ValueError(f"{where}: expected {type(now).__name__}, found {type(kept).__name__}")
    elif finite and isinstance(kept, float) and not math.isfinite(kept):
        raise ValueError(f"{where}: {kept}")


def _check_optimizer(kept: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError where what an optimizer remembers is not of its parameters; torch finds out in a step."""
    check_alike(kept["param_groups"], optimizer.state_dict()["param_groups"], "optimizer")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not kept["state"]:
        raise ValueError("optimizer: it remembers nothing")
    for number, values in kept["state"].items():
        for name, value in values.items():
            shape = parameters[number].shape
            if isinstance(value, Tensor) and (
                value.shape not in (shape, ()) or not (value.is_floating_point() and value.isfinite().all())
            ):
                raise ValueError(f"optimizer.{number}.{name}: expected finite {tuple(shape)}, as the parameter has")


def save_checkpoint(path: Path, run: str, place: Place, parts: Mapping[str, Stateful]) -> None:
    """Write where a stage stands and the states of its parts; ``run`` is the hash of the run's settings."""
    states = {name: part.state_dict() for name, part in parts.items()}
    save(path, {"version": _VERSION, "run": run, "place": place._asdict(), **states})


def take_up(path: Path, run: str, parts: Mapping[str, Stateful], epochs: int) -> Place:
    """Give the parts their states in a checkpoint, if there is one; return where the stage of some epochs stands.

    Raises
    ------
    TrainingError
        If the checkpoint is damaged, of another version or another run's.
    """
    if not path.exists():
        return Place()
    states = load(path, torch.device("cpu"))  # AdamW counts its steps there
    if not isinstance(states, dict) or states.get("version") != _VERSION:
        raise TrainingError(Fault("a checkpoint of another version of the toolkit", AGAIN, path))
    if states.get("run") != run:
        raise TrainingError(Fault("the checkpoint of another run", "choose another `out` or delete the folder", path))
    try:
        check_alike(states["place"], Place()._asdict(), "place")
        place = Place(**states["place"])
        if not 1 <= place.epochs <= epochs or place.log < 0:
            raise ValueError(f"place: {place.epochs} of {epochs} epochs, a log of {place.log} bytes")
        for name, part in parts.items():
            if isinstance(part, torch.optim.Optimizer):
                _check_optimizer(states[name], part)
            else:  # what a method of one's own remembers may be infinite
                check_alike(states[name], part.state_dict(), name, finite=name != "method")
            part.load_state_dict(states[name])
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise TrainingError(_damaged(path, error)) from error
    return place
