"""Kill commands at random moments, run them again, and compare what they end in; fill disks; keep a record.

    python -m benchmark.upkeep.soak results/soak.json

A command is killed by SIGKILL, which it cannot see coming, at a moment drawn between its start and its usual end. Then
its workers have some seconds to end, and the same command has to go on to the same files.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmark.studies.records import write_record
from headposeplus import __version__
from headposeplus.files import below, names, sha256
from headposeplus.files import leftovers as half_written
from headposeplus.progress import progress
from headposeplus.tasks import processor

_GRACE = 10.0  # seconds in which workers have to end after the process that started them
_TRAINING = ("--preset", "trial", "--device", "cpu", "--threads", "1")
_SMALL_DISK = 200 << 10
_LIMIT = 20 << 10


class Command(NamedTuple):
    """A command that is killed: its name, its words for a folder to write to, and the endings of what it leaves."""

    name: str
    words: Callable[[Path], list[str | Path]]
    endings: tuple[str, ...]


class Killed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command's kills.

    ``kills`` is how many times it was killed, ``early`` how many of these came before its end, ``survivors`` how many
    processes were left after ten seconds, ``equal`` how many runs then ended in the same files, and ``leftovers`` how
    many half-written files lay beside them.
    """

    command: str
    seconds: float
    kills: int
    early: int
    survivors: int
    equal: int
    leftovers: int


class NoRoom(msgspec.Struct, frozen=True, kw_only=True):
    """What a command said where there was no room, and whether it went on to the same files when there was."""

    command: str
    where: str
    status: int
    said: str
    equal: bool


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """A record of kills and full disks."""

    toolkit: str
    processor: str
    seed: int
    killed: list[Killed]
    no_room: list[NoRoom]


def _commands(raw: Path, data: Path) -> list[Command]:
    copies: list[str | Path] = ["--biwi", raw / "hpdb", "--manifest", raw / "data_manifest.csv"]
    synhead: list[str | Path] = ["--synhead", raw / "synhead2_release"]
    padaco: list[str | Path] = ["benchmark", "--method", "padaco", "--data", data, *_TRAINING]
    reproduce: list[str | Path] = ["reproduce", "--methods", "source-only,dann", "--seeds", "0", "1", "--data", data]
    built: list[str | Path] = ["build-datasets", *copies, *synhead, "--size", "32", "--jobs", "2"]
    return [
        Command("miniature", lambda out: ["miniature", out, "--scale", "tiny", "--jobs", "2"], ("",)),
        Command("build", lambda out: [*built, "--out", out], (".h5", "dataset.json")),
        Command(
            "boxes", lambda out: ["boxes", "detect", *copies, "--jobs", "2", "--out", out / "boxes.csv"], ("boxes.csv",)
        ),
        Command("export", lambda out: ["export", data / "biwi+", "--out", out], ("",)),
        Command("training", lambda out: [*padaco, "--out", out], ("predictions.csv", "log.jsonl")),
        Command("reproduce", lambda out: [*reproduce, *_TRAINING, "--jobs", "2", "--out", out], ("predictions.csv",)),
    ]


def _typed(words: list[str | Path]) -> list[str]:
    return [sys.executable, "-m", "benchmark", *map(str, words)]


def _run(words: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_typed(words), capture_output=True, text=True, check=False)


def _must_run(words: list[str | Path]) -> None:
    done = _run(words)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stderr}")


def left(out: Path, endings: tuple[str, ...]) -> dict[str, str]:
    """Return the SHA-256 of the files with some endings below a folder, by their paths in it."""
    return {str(path.relative_to(out)): sha256(path) for path in below(out, *endings)}


def _session(leader: int) -> list[int]:
    """Return the processes that still run of a session, whoever started them."""
    found = []
    for pid in filter(str.isdecimal, names(Path("/proc"))):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(pid))
    return found


def kill_once(words: list[str | Path], after: float) -> tuple[bool, int]:
    """Start a command and kill it after some seconds.

    Returns whether it still ran then, and how many of its processes outlived it by ten seconds; these are killed.
    """
    process = subprocess.Popen(
        _typed(words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    early = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + _GRACE
    while (survivors := _session(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    for pid in survivors:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return early, len(survivors)


def _kill(command: Command, folder: Path, kills: int, rng: random.Random, step: Callable[[], object]) -> Killed:
    """Kill a command some times, each in a folder of its own, and let it go on."""
    begun = time.monotonic()
    _must_run(command.words(folder / "whole"))
    seconds = time.monotonic() - begun
    whole = left(folder / "whole", command.endings)
    early = survivors = equal = leftovers = 0
    for number in range(kills):
        out = folder / f"killed-{number}"
        ran, outlived = kill_once(command.words(out), rng.uniform(0.2, 1.0) * seconds)
        early, survivors = early + ran, survivors + outlived
        done = _run(command.words(out))
        equal += not done.returncode and left(out, command.endings) == whole
        folders = {out, *(path.parent for path in below(out, ""))}
        leftovers += sum(len(half_written(folder)) for folder in folders)
        shutil.rmtree(out, ignore_errors=True)
        step()
    return Killed(
        command=command.name,
        seconds=round(seconds, 1),
        kills=kills,
        early=early,
        survivors=survivors,
        equal=equal,
        leftovers=leftovers,
    )


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Callable[[], object]]:
    """Mount a disk without room on a folder; yields what makes room on it."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK}", "tmpfs", str(folder)], check=True)
    try:
        yield partial(subprocess.run, ["mount", "-o", "remount,size=512M", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def _limit(folder: Path) -> Iterator[Callable[[], object]]:
    """Limit the size of files; yields what ends that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT, before[1]))
    try:
        yield partial(resource.setrlimit, resource.RLIMIT_FSIZE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _without_room(command: Command, folder: Path) -> list[NoRoom]:
    whole, found = left(folder / "whole", command.endings), []
    circumstances = [("ulimit -f", _limit), *([("a full disk", _small_disk)] if os.geteuid() == 0 else [])]
    for where, circumstance in circumstances:
        out = folder / where.replace(" ", "-")
        with circumstance(out) as make_room:
            refused = _run(command.words(out))
            make_room()
            again = _run(command.words(out))
            equal = not again.returncode and left(out, command.endings) == whole
        said = refused.stderr.strip().splitlines()[-1:] or [""]
        found.append(
            NoRoom(
                command=command.name,
                where=where,
                status=refused.returncode,
                said=said[0].replace(f"{folder}/", ""),
                equal=equal,
            )
        )
    return found


def soak(seed: int, kills: int) -> Soak:
    """Kill each command ``kills`` times, and let each run out of room."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        raw, data = base / "raw", base / "data"
        _must_run(["miniature", raw, "--scale", "tiny", "--seed", str(seed)])
        build = next(command for command in _commands(raw, data) if command.name == "build")
        _must_run(build.words(data))
        commands = _commands(raw, data)
        killed: list[Killed] = []
        no_room: list[NoRoom] = []
        with progress(len(commands) * kills, "soak", "kill") as bar:
            for command in commands:
                killed.append(_kill(command, base / command.name, kills, rng, bar.update))
                no_room += _without_room(command, base / command.name)
        return Soak(toolkit=__version__, processor=processor(), seed=seed, killed=killed, no_room=no_room)


def main() -> None:
    """Kill commands, fill disks, print what became of it, and write a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the record to write")
    parser.add_argument("--kills", type=int, default=9, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments, and of the data")
    given = parser.parse_args()
    record = soak(given.seed, given.kills)
    for line in (*record.killed, *record.no_room):
        print(line)
    write_record(given.out, record)


if __name__ == "__main__":
    main()
