"""The settings of the service."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, shown

if TYPE_CHECKING:
    from benchmark.scoring.labels import Labels
    from benchmark.scoring.protocols import Protocol

MAX_ABOUT = 64 << 10  # bytes of a description
SUBMIT = "/api/submissions"  # where submissions are sent
Stands = Literal["all", "best", "last"]  # which of a team's published entries are on the board
_OWN = ("api", "entries", "healthz", "submissions", "submit")  # at the beginning of addresses


class Words(NamedTuple):
    """What the organisers say of a challenge; ``about`` and ``rules`` are Markdown."""

    title: str = ""
    about: str = ""
    rules: str = ""


class ServiceSettings(NamedTuple):
    """What a service scores and how much it takes.

    All ``protocols`` are on the same ``labels``. ``daily`` submissions a submitter may have scored on a UTC day;
    ``per_minute`` requests a submitter, or without a token an address, may make; ``max_bytes`` of predictions may be
    sent; ``seconds`` a scoring may take. Browsers see the service below the path ``root``, and ``proxies`` are the
    addresses and networks that say for whom they ask. ``private`` and ``step`` are those with which the challenge is
    opened (:mod:`benchmark.service.challenge`); ``deadline``, in UTC, ends its submissions: None leaves that of the
    database, an empty one takes it away. ``stands`` is which of a team's entries the board has, and ``words`` what
    it says.
    """

    database: str
    protocols: tuple[Protocol, ...]
    labels: Labels
    daily: int = 5
    per_minute: int = 30
    max_bytes: int = 16 << 20
    seconds: float = 60.0
    root: str = ""
    proxies: tuple[str, ...] = ()
    private: float | None = None
    step: float | None = None
    stands: Stands = "all"
    deadline: str | None = None
    words: Words = Words()


def proxies_of(text: str) -> tuple[str, ...]:
    """Return the addresses and networks of a list with commas.

    Raises
    ------
    HeadposeError
        If one is neither, or is of everybody: then anybody could say who asks.
    """
    found = []
    for word in text.split(","):
        try:
            network = ipaddress.ip_network(word.strip())
        except ValueError as error:
            what = f"{shown(word.strip())} is no address and no network ({error})"
            raise HeadposeError(Fault(what, "give `behind_proxy` such as 10.0.0.5, 10.1.0.0/24 or fd00::5")) from error
        if not network.prefixlen:
            what = f"{network} is everybody, who could then give any address as theirs"
            raise HeadposeError(Fault(what, "name the proxies alone with `behind_proxy`"))
        found.append(str(network.network_address) if network.num_addresses == 1 else str(network))
    return tuple(found)


def root_of(text: str) -> str:
    """Return a path below which browsers see the service, without a slash at its end; empty if it is the whole site.

    Raises
    ------
    HeadposeError
        If it is no path, or one at which the service itself has something.
    """
    root = text.rstrip("/")
    if root and not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", root):
        what = f"{shown(text)} is no path of letters, digits, dots, hyphens and underscores"
        raise HeadposeError(Fault(what, "give `root_path` such as /heads"))
    if root.split("/")[1:2] and root.split("/")[1] in _OWN:
        what = f"the service itself has something below /{root.split('/')[1]}"
        raise HeadposeError(Fault(what, "give another `root_path`, such as /heads"))
    return root
