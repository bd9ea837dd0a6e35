"""The page on published networks: what is read of each, what to add to its script, and what was published of it."""

from __future__ import annotations

import textwrap

from benchmark.board.markdown import github
from benchmark.board.published import published_rows
from benchmark.scoring import protocols
from benchmark.scoring.networks import ALL, CAMERA, CONVENTION, Network
from benchmark.scoring.protocols import Protocol
from headposeplus.raw.targets import BIWI_PLUS, STILLS, TITLES, join_task

_WIDTH = 120


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def _published(network: Network, protocol: Protocol) -> str:
    """Return the published MAE of a network on the test set of a protocol, in its convention and camera."""
    wanted = (protocol.task, protocol.test_set, protocol.convention, protocol.camera)
    found = []
    for row in published_rows():
        title, _, variant = row.method.partition(" (")
        if title == network.title and (row.task, row.test_set, row.convention, row.camera) == wanted:
            found.append(f"{row.mae:.2f}" + (f" ({variant}" if variant else ""))
    return ", ".join(found)


def table() -> str:
    """Return all networks as two tables: what is read of each, by which command; and what was published of it."""
    targets = {TITLES[name]: protocols.whole(join_task("cross", name)) for name in (BIWI_PLUS, *STILLS)}
    read, told = [], []
    for network in ALL:
        name = {"network": f"[{network.title}]({network.link})"}
        forms = "; or ".join(form.what for form in (*network.forms, *filter(None, [network.json])))
        read.append(
            name | {"`--from`": f"`{network.key}`", "its own script writes": network.writes, "what is read": forms}
        )
        errors = {f"published MAE, {title}": _published(network, one) for title, one in targets.items()}
        told.append(name | {"trained on": network.training_data} | errors)
    convention = f"All are read in the convention {CONVENTION}, {CAMERA} camera. Trained on, and published:"
    return "\n\n".join([github(read), convention, github(told)])


def sections() -> str:
    """Return a section on each network: the lines that write a file, the command, and where the format is defined."""
    parts = []
    for network in ALL:
        parts += [
            f"### {network.title}",
            f"{network.authors}; {network.link}",
            f"```python\n{network.save}\n```",
            f"    hpp submission convert --from {network.key} {network.given} --out mine.csv",
            _filled(network.beware),
            _filled(f"Defined in {'; '.join(network.sources)}."),
        ]
    return "\n\n".join(parts)
