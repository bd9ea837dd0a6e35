"""Commands that are killed at random moments, or run out of room, and run again: do they end in the same files?"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmark.upkeep.soak_record import Killed, NoRoom
from headposeplus.beside import python
from headposeplus.files import below, names, sha256
from headposeplus.files import leftovers as half_written

GRACE = 10.0  # seconds in which workers have to end after the process that started them
_TRAINING = ("--preset", "trial", "--device", "cpu", "--threads", "1")


class Command(NamedTuple):
    """A command that is killed: its name, what is run to write to a folder, and the endings of what it leaves."""

    name: str
    run: Callable[[Path], list[str]]
    endings: tuple[str, ...]


def hpp(*words: str | Path) -> list[str]:
    """Return a command of the command line, to be run."""
    return [*python("from headposeplus.beside import main; main()"), *map(str, words)]


def commands(raw: Path, data: Path) -> list[Command]:
    """Return what is killed: commands that read the raw copies in a folder, or the datasets built of them."""
    copies: list[str | Path] = ["--biwi", raw / "hpdb", "--manifest", raw / "data_manifest.csv", "--jobs", "2"]
    synhead: list[str | Path] = ["--synhead", raw / "synhead2_release", "--size", "32"]
    of_data: list[str | Path] = ["--data", data, *_TRAINING]
    several = ("--methods", "source-only,dann", "--seeds", "0", "1", "--jobs", "2")
    return [
        Command("hpp miniature", lambda out: hpp("miniature", out, "--scale", "tiny", "--jobs", "2"), ("",)),
        Command(
            "hpp build-datasets",
            lambda out: hpp("build-datasets", *copies, *synhead, "--out", out),
            (".h5", "dataset.json"),
        ),
        Command(
            "hpp boxes detect",
            lambda out: hpp("boxes", "detect", *copies, "--out", out / "boxes.csv"),
            ("boxes.csv",),
        ),
        Command("hpp export", lambda out: hpp("export", data / "biwi+", "--out", out), ("",)),
        Command(
            "hpp benchmark",
            lambda out: hpp("benchmark", "--method", "padaco", *of_data, "--out", out),
            ("predictions.csv", "log.jsonl"),
        ),
        Command("hpp reproduce", lambda out: hpp("reproduce", *several, *of_data, "--out", out), ("predictions.csv",)),
    ]


def must_run(command: Sequence[str]) -> str:
    """Run a command and return what it prints; end if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return done.stdout


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


def kill(process: subprocess.Popen[bytes], grace: float = GRACE) -> int:
    """Kill a process that leads a session; return how many of the session outlived it by ``grace`` seconds.

    These are killed, too.
    """
    process.kill()
    process.wait()
    end = time.monotonic() + grace
    while (survivors := _session(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    for pid in survivors:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(survivors)


def kill_once(command: Sequence[str], after: float, grace: float = GRACE) -> tuple[bool, int]:
    """Start a command and kill it after some seconds.

    Returns whether it still ran then, and how many of its processes outlived it.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    early, survivors = False, 0
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        early = process.poll() is None
    finally:  # of a session of its own, it hears no Ctrl+C
        survivors = kill(process, grace)
    return early, survivors


def kill_command(
    command: Command, folder: Path, kills: int, rng: random.Random, step: Callable[[], object], grace: float = GRACE
) -> Killed:
    """Kill a command so many times before its end, each in a folder of its own, and let it go on.

    What a run that is not killed leaves stays in the folder ``whole``.
    """
    begun = time.monotonic()
    must_run(command.run(folder / "whole"))
    seconds = usual = time.monotonic() - begun
    whole = left(folder / "whole", command.endings)
    tries = early = survivors = equal = leftovers = 0
    while early < kills and tries < 3 * kills:
        out, after = folder / f"killed-{tries}", rng.uniform(0.2, 1.0) * usual
        ran, outlived = kill_once(command.run(out), after, grace)
        if not ran:  # other work on the machine made the first run slow
            usual = after
        done = subprocess.run(command.run(out), capture_output=True, check=False)
        equal += not done.returncode and left(out, command.endings) == whole
        leftovers += sum(len(half_written(place)) for place in {out, *(path.parent for path in below(out, ""))})
        shutil.rmtree(out, ignore_errors=True)
        tries, early, survivors = tries + 1, early + ran, survivors + outlived
        if ran:
            step()
    return Killed(
        command=command.name,
        seconds=round(seconds, 1),
        kills=tries,
        early=early,
        survivors=survivors,
        equal=equal,
        leftovers=leftovers,
    )


@contextlib.contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[Callable[[], object]]:
    """Mount a disk of so many bytes on a folder; yields what makes room on it."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield partial(subprocess.run, ["mount", "-o", "remount,size=512M", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def _limit(size: int) -> Iterator[Callable[[], object]]:
    """Limit the size of files in bytes; yields what ends that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield partial(resource.setrlimit, resource.RLIMIT_FSIZE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run_without_room(command: Command, folder: Path) -> list[NoRoom]:
    """Let a command run out of room, then make room and run it again; a small disk takes root to mount.

    There is half the room of the largest file, or of all, that a run leaves: that in ``whole``, which is in the folder
    as :func:`kill_command` leaves it.
    """
    whole, found = left(folder / "whole", command.endings), []
    sizes = [path.stat().st_size for path in below(folder / "whole", "")]
    limited, small = folder / "limited", folder / "small"
    circumstances = [("ulimit -f", limited, _limit(max(sizes) // 2))]
    if os.geteuid() == 0:
        circumstances.append(("a full disk", small, _small_disk(small, sum(sizes) // 2)))
    for where, out, circumstance in circumstances:
        with circumstance as make_room:
            refused = subprocess.run(command.run(out), capture_output=True, text=True, check=False)
            make_room()
            again = subprocess.run(command.run(out), capture_output=True, check=False)
            equal = not again.returncode and left(out, command.endings) == whole
        said = [line for line in refused.stderr.replace(f"{folder}/", "").splitlines() if line.startswith("Error")]
        found.append(
            NoRoom(
                command=command.name,
                where=where,
                status=refused.returncode,
                said=said[-1] if said else "",
                lines=len(said) + refused.stderr.count("Traceback"),
                equal=equal,
            )
        )
    return found
