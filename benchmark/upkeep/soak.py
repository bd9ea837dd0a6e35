"""Attack the commands and the service, and keep a record of what came of it.

    python -m benchmark.upkeep.soak results/soak.json

Commands are killed by SIGKILL, which they cannot see coming, at moments drawn between their start and their usual end.
Then their workers have some seconds to end, and the same command has to go on to the same files. Services are killed
while predictions are sent to them. Commands run out of room; connections are held that ask nothing; secret labels are
asked for by what a service tells of predictions, and counted by a method that is handed none.

The record is written after each part, so that Ctrl+C keeps what was found, and a part may be soaked anew alone:
``--only "hpp serve"``.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from msgspec.structs import replace

from benchmark.scoring.labels import read_labels
from benchmark.studies.records import read_record, write_record
from benchmark.upkeep.soak_attacks import Ask, Secret, attacks_on
from benchmark.upkeep.soak_counting import count_rows
from benchmark.upkeep.soak_kills import Command, commands, kill_command, must_run, run_without_room
from benchmark.upkeep.soak_record import Part, Soak, describe_soak
from benchmark.upkeep.soak_service import (
    Asker,
    Challenge,
    challenge_of,
    kill_services,
    new_token,
    serving,
    stay_silent,
)
from benchmark.upkeep.walk import ROOT
from headposeplus import __version__
from headposeplus.miniature.poses import SCALES, biwi_motion
from headposeplus.progress import progress
from headposeplus.raw import manifest
from headposeplus.rotations import from_matrix
from headposeplus.tasks import processor

_REAL = ROOT.parent / "shared" / "real" / "Biwi_plus.npz"
_SILENT, _SILENT_FOR = 300, 20.0  # connections, and seconds: longer than one may be silent
_MINIATURE, _BIWI = "labels of a miniature", "labels of Biwi"


def miniature_labels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (n,) and poses (n, 3) of Biwi's frames in a small miniature, without its images."""
    scale, rows = SCALES["small"], manifest.biwi_rows(manifest.read())
    motions = {name: biwi_motion(rows[name], scale.frames, seed) for name in scale.sequences}
    ids = [f"biwi/{name}/{number:05d}" for name, motion in motions.items() for number in motion.numbers]
    return np.array(ids), np.concatenate([motion.angles for motion in motions.values()])


class Place(NamedTuple):
    """Where a part is soaked, and how: a folder, its random numbers, how many kills, and what counts a step."""

    base: Path
    seed: int
    kills: int
    biwi: Path
    rng: random.Random
    step: Callable[[], object]

    @property
    def commands(self) -> list[Command]:
        """The commands that are killed, on a miniature that is written once."""
        raw, data = self.base / "raw", self.base / "data"
        found = commands(raw, data)
        if not data.exists():
            miniature, build = found[:2]
            must_run(miniature.run(raw))
            must_run(build.run(data))
        return found

    def challenge(self) -> Challenge:
        """Return a challenge on the labels of a miniature."""
        return challenge_of(self.base / "challenge", *miniature_labels(self.seed))


def _command(number: int, place: Place) -> Part:
    """Kill a command, and let it run out of room."""
    command = place.commands[number]
    folder = place.base / command.name.replace(" ", "-")
    killed = kill_command(command, folder, place.kills, place.rng, place.step)
    return Part(killed=killed, no_room=run_without_room(command, folder))


def _service(place: Place) -> Part:
    """Kill services."""
    killed, sent = kill_services(place.challenge(), place.base / "serve", place.kills, place.rng, place.step)
    return Part(killed=killed, sent=sent)


def _silent(place: Place) -> Part:
    """Hold connections to a service that ask nothing."""
    found = Part(silent=stay_silent(place.challenge(), place.base / "silent", _SILENT, _SILENT_FOR))
    place.step()
    return found


def _counting(place: Place) -> Part:
    """Train with a method that counts rows."""
    assert place.commands  # which writes the datasets
    found = Part(counted=count_rows(place.base / "data", place.base / "counting", _MINIATURE))
    place.step()
    return found


def _miniature_labels(place: Place) -> Part:
    """Attack the labels of a miniature."""
    return _attacked(place, place.challenge(), _MINIATURE)


def _labels_of_biwi(place: Place) -> Part:
    """Attack the published labels of Biwi as if they were secret."""
    labels, protocol = read_labels(place.biwi), "biwi+/cross@1"
    options = ("--protocol", protocol, "--labels", place.biwi)
    return _attacked(place, Challenge(options, protocol, labels.ids, from_matrix(labels.rotations)), _BIWI)


def _attacked(place: Place, challenge: Challenge, name: str) -> Part:
    folder = place.base / name.replace(" ", "-")
    folder.mkdir()
    database = f"sqlite:///{folder / 'serve.db'}"
    secret = Secret(name, challenge.angles, np.char.rpartition(challenge.ids.astype(str), "/")[:, 0])
    with (
        serving(folder, "--database", database, *challenge.options) as server,
        httpx.Client(base_url=server.listening(), timeout=120) as client,
    ):

        def new_asker(submitter: str) -> Ask:
            return Asker(client, new_token(database, submitter), challenge).figure

        return Part(attacks=attacks_on(secret, new_asker, place.step))


_COMMANDS = [command.name for command in commands(Path(), Path())]
_KILLED = [*_COMMANDS, "hpp serve"]
PARTS: dict[str, Callable[[Place], Part]] = {
    **{name: partial(_command, number) for number, name in enumerate(_COMMANDS)},
    "hpp serve": _service,
    "silent connections": _silent,
    _MINIATURE: _miniature_labels,
    _BIWI: _labels_of_biwi,
    "counted rows": _counting,
}
_STEPS = {_MINIATURE: 3, _BIWI: 3}  # one where nothing else stands


def _keep(out: Path, start: Soak, name: str, part: Part) -> Soak:
    """Write a part into the record, beside what that holds, and return it."""
    held = read_record(out, Soak, "the record of a soak") if start.parts and out.exists() else start
    parts = {**held.parts, name: part}
    record = replace(start, parts={name: parts[name] for name in PARTS if name in parts})
    write_record(out, record)
    return record


def main() -> None:
    """Attack, keep the record, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the record to write")
    parser.add_argument("--kills", type=int, default=8, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments, and of the data")
    parser.add_argument("--biwi", type=Path, default=_REAL, help="Biwi_plus.npz, to be attacked if it is there")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts to soak anew; the record keeps the others")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C: servers have sessions of their own
    record = Soak(toolkit=__version__, processor=processor(), seed=given.seed)
    if given.only and given.out.exists():
        record = read_record(given.out, Soak, "the record of a soak")
    names = given.only or [name for name in PARTS if name != _BIWI or given.biwi.is_file()]
    steps = sum(given.kills if name in _KILLED else _STEPS.get(name, 1) for name in names)
    with tempfile.TemporaryDirectory() as base, progress(steps, "soak", "step") as bar:
        try:
            for name in names:
                bar.set_postfix_str(name)
                rng = random.Random(f"{given.seed} {name}")
                place = Place(Path(base), given.seed, given.kills, given.biwi, rng, bar.update)
                record = _keep(given.out, record, name, PARTS[name](place))
        except KeyboardInterrupt:
            raise SystemExit(
                f"stopped: {given.out} holds what came of {', '.join(record.parts) or 'nothing'}"
            ) from None
    print(describe_soak(record))


if __name__ == "__main__":
    main()
