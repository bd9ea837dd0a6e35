"""What comes of a submission, as the database keeps it and its submitter reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from benchmark.scoring.entry import Entry
from headposeplus.faults import Fault

_MOST = 100  # faults of a submission that are told
_LONGEST = 1000  # characters of a fault


class ToldFault(msgspec.Struct, frozen=True):
    """A fault or a suspicion in the words that a submitter reads."""

    where: str
    what: str
    mend: str


class Verdict(msgspec.Struct, frozen=True):
    """The entry of a submission, None if it cannot be scored; its faults, and what looks odd."""

    entry: Entry | None = None
    faults: tuple[ToldFault, ...] = ()
    suspicions: tuple[ToldFault, ...] = ()


def tell(faults: Sequence[Fault]) -> tuple[ToldFault, ...]:
    """Return faults, or suspicions, as a submitter reads them: not more, and not longer, than a page can show."""
    return tuple(
        ToldFault(fault.place[:_LONGEST], fault.what[:_LONGEST], fault.mend[:_LONGEST]) for fault in faults[:_MOST]
    )


def faulty(fault: Fault) -> Verdict:
    """Return the verdict on a submission that cannot be scored."""
    return Verdict(faults=tell([fault]))


def write_verdict(verdict: Verdict) -> str:
    """Return a verdict as the JSON that the database keeps."""
    return json.dumps(msgspec.to_builtins(verdict))


def read_verdict(text: str) -> Verdict:
    """Return a verdict that :func:`write_verdict` has written."""
    return msgspec.convert(json.loads(text), Verdict)
