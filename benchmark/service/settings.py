"""The settings of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmark.scoring.labels import Labels
    from benchmark.scoring.protocols import Protocol

MAX_ABOUT = 64 << 10  # bytes of a description
SUBMIT = "/api/submissions"  # where submissions are sent


class ServiceSettings(NamedTuple):
    """What a service scores and how much it takes.

    All ``protocols`` are on the same ``labels``. ``daily`` submissions a submitter may have scored on a UTC day;
    ``per_minute`` requests a submitter, or without a token an address, may make; ``max_bytes`` of predictions may be
    sent; ``seconds`` a scoring may take.
    """

    database: str
    protocols: tuple[Protocol, ...]
    labels: Labels
    daily: int = 5
    per_minute: int = 30
    max_bytes: int = 16 << 20
    seconds: float = 60.0
