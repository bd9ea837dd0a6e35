"""All methods by name, the schedules they share, and how to find a user's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np

from baselines.adabn import AdaBN, SourceOnlyMixed
from baselines.adversarial import DANN, PADACO, ControlPADACO, ControlPADALike, ControlUniform, PADALike
from baselines.coral import CORAL
from baselines.dare_gram import DAREGRAM
from baselines.mean_teacher import MeanTeacher
from baselines.method import Method
from baselines.relative_pose import RelativePose, RelativePosePADACO
from baselines.reweighting import Reweighting
from baselines.transport import Transport
from baselines.updated import PlainUpdates, UpdatedPADACO
from headposeplus.beside import come_first
from headposeplus.errors import HeadposeError


class SourceOnly(Method):
    """The first stage alone."""

    name = "source-only"
    trains = False
    uses_target = False
    batch_statistics = "source"


_ALL: tuple[type[Method], ...] = (
    SourceOnly,
    SourceOnlyMixed,
    ControlUniform,
    DANN,
    PADALike,
    ControlPADALike,
    PADACO,
    ControlPADACO,
    UpdatedPADACO,
    PlainUpdates,
    AdaBN,
    CORAL,
    DAREGRAM,
    Transport,
    Reweighting,
    RelativePose,
    RelativePosePADACO,
    MeanTeacher,
)
METHODS = {method.name: method for method in _ALL}


def find_method(name: str) -> type[Method]:
    """Return a method by its name, or by ``package.module:Class`` of a user's own.

    The current folder is looked through first, then whatever is installed; ``headposeplus``, ``baselines`` and
    ``benchmark`` are these packages all the same.

    Raises
    ------
    HeadposeError
        If there is none, or it is no :class:`Method`.
    """
    if name in METHODS:
        return METHODS[name]
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise HeadposeError(
            f"unknown method {name!r}: expected one of {', '.join(METHODS)}, or package.module:Class of your own"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    come_first()
    try:
        method = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # whatever a user's module raises
        raise HeadposeError(f"`method` {name}: cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise HeadposeError(f"`method` {name}: expected a class derived from baselines.method.Method")
    if METHODS.get(method.name, method) is not method:
        raise HeadposeError(f"`method` {name}: there is a method {method.name} already; give the class another name")
    return method


def lambda_at(progress: float, warm: float, ramp: float, highest: float) -> float:
    """Return lambda after ``progress`` epochs: 0 for ``warm``, then linearly to ``highest`` over ``ramp``."""
    return highest * float(np.clip((progress - warm) / max(ramp, 1e-9), 0, 1))


def rate_at(progress: float, total: float, last: float) -> float:
    """Return the factor of the learning rate: 1 for the first third, then linearly to ``last`` at the end."""
    share = np.clip((progress / max(total, 1e-9) - 1 / 3) / (2 / 3), 0, 1)
    return float(1 + share * (last - 1))
