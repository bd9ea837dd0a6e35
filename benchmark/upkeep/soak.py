"""Attack the commands and the service, and keep a record of what came of it.

    python -m benchmark.upkeep.soak results/soak.json

Commands are killed by SIGKILL, which they cannot see coming, at moments drawn between their start and their usual end.
Then their workers have some seconds to end, and the same command has to go on to the same files. Services are killed
while predictions are sent to them. Commands run out of room; connections are held that ask nothing; secret labels are
asked for by what a service tells of predictions, and counted by a method that is handed none.

The record is written after each part, so that Ctrl+C keeps what was found.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
from pathlib import Path

import httpx
import numpy as np

from benchmark.scoring.labels import read_labels
from benchmark.studies.records import write_record
from benchmark.upkeep.soak_attacks import Ask, Secret, attacks_on
from benchmark.upkeep.soak_counting import count_rows
from benchmark.upkeep.soak_kills import commands, kill_command, must_run, run_without_room
from benchmark.upkeep.soak_record import RECORD, Soak, describe_soak
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
from headposeplus.progress import Bar, progress
from headposeplus.raw import manifest
from headposeplus.rotations import from_matrix
from headposeplus.tasks import processor

_REAL = ROOT.parent / "shared" / "real" / "Biwi_plus.npz"
_SILENT, _SILENT_FOR = 300, 20.0  # connections, and seconds: longer than one may be silent
_MINIATURE = "labels of a miniature"


def miniature_labels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (n,) and poses (n, 3) of Biwi's frames in a small miniature, without its images."""
    scale, rows = SCALES["small"], manifest.read()
    rows = rows[rows["dataset"] == "biwi"].set_index("unit", drop=False)
    motions = {name: biwi_motion(rows.loc[name], scale.frames, seed) for name in scale.sequences}
    ids = [f"biwi/{name}/{number:05d}" for name, motion in motions.items() for number in motion.numbers]
    return np.array(ids), np.concatenate([motion.angles for motion in motions.values()])


class Soaking:
    """A soak in a folder: its record, which is written after each part, and its progress."""

    def __init__(self, base: Path, out: Path, seed: int, kills: int, bar: Bar) -> None:
        self._base, self._out, self._kills, self._bar = base, out, kills, bar
        self._seed, self._rng = seed, random.Random(seed)
        self.record = Soak(toolkit=__version__, processor=processor(), seed=seed)

    def _keep(self) -> None:
        write_record(self._out, self.record)

    def _step(self) -> None:
        self._bar.update()

    def commands(self) -> None:
        """Kill each command, and let it run out of room."""
        raw, data = self._base / "raw", self._base / "data"
        killed = commands(raw, data)
        miniature, build = killed[:2]
        must_run(miniature.run(raw))
        must_run(build.run(data))
        for command in killed:
            folder = self._base / command.name.replace(" ", "-")
            self._bar.set_postfix_str(command.name)
            self.record.killed.append(kill_command(command, folder, self._kills, self._rng, self._step))
            self.record.no_room.extend(run_without_room(command, folder))
            self._keep()
        self._bar.set_postfix_str("a method that counts rows")
        self.record.counting.append(count_rows(data, self._base / "counting", _MINIATURE))
        self._step()
        self._keep()

    def services(self) -> None:
        """Kill services, hold connections to one, and attack its labels."""
        ids, angles = miniature_labels(self._seed)
        challenge = challenge_of(self._base / "challenge", ids, angles)
        self._bar.set_postfix_str("hpp serve")
        killed, sent = kill_services(challenge, self._base / "serve", self._kills, self._rng, self._step)
        self.record.killed.append(killed)
        self.record.sent.append(sent)
        self._keep()
        self._bar.set_postfix_str("silent connections")
        self.record.silent.append(stay_silent(challenge, self._base / "silent", _SILENT, _SILENT_FOR))
        self._step()
        self._keep()
        self._attack(challenge, _MINIATURE)

    def real(self, path: Path) -> None:
        """Attack the published labels of Biwi as if they were secret."""
        labels = read_labels(path)
        protocol = "biwi+/cross@1"
        options = ("--protocol", protocol, "--labels", path)
        self._attack(Challenge(options, protocol, labels.ids, from_matrix(labels.rotations)), "labels of Biwi")

    def _attack(self, challenge: Challenge, name: str) -> None:
        folder = self._base / f"attacks-{len(self.record.attacks)}"
        folder.mkdir()
        database = f"sqlite:///{folder / 'serve.db'}"
        self._bar.set_postfix_str(f"attacks on {name}")
        sequences = np.char.rpartition(challenge.ids.astype(str), "/")[:, 0]
        secret = Secret(name, challenge.angles, sequences)
        with (
            serving(folder, "--database", database, *challenge.options) as server,
            httpx.Client(base_url=server.listening(), timeout=120) as client,
        ):

            def new_asker(submitter: str) -> Ask:
                return Asker(client, new_token(database, submitter), challenge).figure

            self.record.attacks.extend(attacks_on(secret, new_asker, self._step))
        self._keep()


def main() -> None:
    """Attack, keep the record, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=RECORD, help="the record to write")
    parser.add_argument("--kills", type=int, default=8, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments, and of the data")
    parser.add_argument(
        "--biwi", type=Path, default=_REAL, help="Biwi_plus.npz, whose labels are attacked if it is there"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C: servers have sessions of their own
    real, stopped = given.biwi.is_file(), False
    steps = 7 * given.kills + 5 + 3 * real
    with tempfile.TemporaryDirectory() as base, progress(steps, "soak", "step") as bar:
        soaking = Soaking(Path(base), given.out, given.seed, given.kills, bar)
        try:
            soaking.commands()
            soaking.services()
            if real:
                soaking.real(given.biwi)
        except KeyboardInterrupt:
            stopped = True
    print(describe_soak(soaking.record))
    if stopped:
        raise SystemExit(f"stopped: {given.out} holds what was found")


if __name__ == "__main__":
    main()
