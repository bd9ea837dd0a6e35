"""Who this process is among those that train one network, as a launcher such as ``torchrun`` says it."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, shown


class Ranks(NamedTuple):
    """This process among those that train one network: its number, and how many there are.

    Attributes
    ----------
    rank, world
        Its number, from 0, and how many there are.
    local, here
        Its number on this machine, and how many there are here, which share its memory and its cores.
    address, port
        Where they meet; empty and 0 where there is one.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    here: int = 1
    address: str = ""
    port: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def meeting(self) -> str:
        """Where they meet, in words."""
        return f"{self.address}:{self.port}"

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this rank's part (k,) of a batch's rows (n,)."""
        return rows[self.rank :: self.world]


_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_MEETING = ("MASTER_ADDR", "MASTER_PORT")


def ranks_here() -> Ranks:
    """Return the ranks as ``torchrun`` has set them in the environment; one process without it.

    Raises
    ------
    HeadposeError
        If the variables contradict each other, or only some of them are set.
    """
    texts = {name: text for name in (*_NUMBERS, *_MEETING) if (text := os.environ.get(name, "").strip())}
    numbers = {name: _number(name, texts[name]) for name in _NUMBERS if name in texts}
    ranks = Ranks(
        numbers.get("RANK", 0),
        numbers.get("WORLD_SIZE", 1),
        numbers.get("LOCAL_RANK", 0),
        numbers.get("LOCAL_WORLD_SIZE", 1),
    )
    if ranks.rank >= ranks.world:
        size = f"WORLD_SIZE is {ranks.world}" if "WORLD_SIZE" in numbers else "WORLD_SIZE is not set"
        raise _odd_launch(f"RANK is {ranks.rank}, but {size}")
    if not ranks.local < ranks.here <= ranks.world:
        local = f"LOCAL_RANK {ranks.local}, LOCAL_WORLD_SIZE {ranks.here}, WORLD_SIZE {ranks.world}"
        raise _odd_launch(f"{local} contradict each other")
    if ranks.world == 1:
        return ranks  # where they would meet does not matter: others use these names, too
    missing = [name for name in (*_NUMBERS, *_MEETING) if name not in texts]
    if missing:
        raise _odd_launch(f"WORLD_SIZE is {ranks.world}, but {' and '.join(missing)} not set")
    port = _number("MASTER_PORT", texts["MASTER_PORT"])
    if not 0 < port < 1 << 16:
        raise _odd_launch(f"MASTER_PORT is {port}, expected 1 to 65535")
    return ranks._replace(address=texts["MASTER_ADDR"], port=port)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise _odd_launch(f"{name} is {shown(text)}, expected a number")
    return int(text)


def _odd_launch(what: str) -> HeadposeError:
    names = ", ".join((*_NUMBERS, *_MEETING))
    mend = f"unset it to train with one process, or start several with torchrun, which sets {names}"
    return HeadposeError(Fault(what, mend, "environment"))
