"""Benchmark of the service's database: what a request asks of it, at two numbers of submissions, on both engines."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmark.upkeep import postgres
from benchmark.upkeep.aims import spread
from headposeplus import __version__, tables
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.progress import progress
from headposeplus.tasks import cores, processor

MOST = 5.0  # milliseconds that a look-up should take
MOST_GROWTH = 1.5  # times of what it takes at the smaller size
TIMES = 20  # of each look-up in a round


class Lookup(msgspec.Struct, frozen=True):
    """The milliseconds of a look-up, a value a round, in a database whose tables have this version."""

    engine: str
    version: int
    rows: int
    what: str
    ms: list[float]


class Upgrade(msgspec.Struct, frozen=True):
    """The seconds that a database of an earlier version takes to be brought up to date."""

    engine: str
    rows: int
    seconds: float


class ServiceFigures(msgspec.Struct, frozen=True):
    """What :func:`bench_service` measures; ``file`` and ``verdict`` are the bytes of what each submission holds.

    ``before`` and ``now`` are the versions of the tables that an earlier release made and that this one has.
    """

    toolkit: str
    processor: str
    cores: int
    seed: int
    sizes: tuple[int, int]
    times: int
    team: int
    file: int
    verdict: int
    before: int
    now: int
    lookups: list[Lookup]
    upgrades: list[Upgrade]


@contextmanager
def _measuring(release: Path, url: str, rows: int, seed: int, verdict: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process of a release, which measures once for each line that it is sent."""
    words = [
        sys.executable,
        str(Path(__file__).with_name("bench_lookups.py")),
        url,
        str(rows),
        str(TIMES),
        str(seed),
        verdict,
    ]
    path = {"PYTHONPATH": str(release)}
    with subprocess.Popen(
        words, env=os.environ | path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=release
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _round(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise HeadposeError("a process that measures the service's database ended; what it said stands above")
    found: dict[str, float] = json.loads(line)
    return found


def bench_service(
    submissions: int = 100_000, rounds: int = 5, before: Path | None = None, seed: int = 0
) -> ServiceFigures:
    """Measure what requests ask of databases of so many submissions and of a tenth of them, on SQLite and PostgreSQL.

    Databases of version 4 are made and brought up to date, in a folder that is gone afterwards. In turn each is asked
    the same; with ``before``, a checkout of a release that made such databases, those are asked by it.

    Raises
    ------
    HeadposeError
        If there is no PostgreSQL server, or ``before`` is no checkout.
    """
    if before is not None and not (before / "benchmark" / "service" / "store.py").is_file():
        raise HeadposeError(
            Fault("no checkout of an earlier release: benchmark/service/store.py is not there", "", before)
        )
    from benchmark.upkeep import bench_databases as library

    sizes, verdict, here = (submissions // 10, submissions), library.scored(seed), Path(__file__).resolve().parents[2]
    lookups: dict[tuple[str, int, int, str], list[float]] = {}
    with ExitStack() as stack:
        socket = stack.enter_context(postgres.server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hpp-bench-")))
        upgrades, processes = [], {}
        with progress(2 * len(sizes), "fill", "database") as bar:
            for made in library.databases(folder, socket, sizes, verdict, seed, before is not None):
                upgrades.append(Upgrade(made.engine, made.rows, made.seconds))
                for version, release, url in ((library.BEFORE, before, made.before), (library.NOW, here, made.now)):
                    if release is not None and url is not None:
                        asked = _measuring(release.resolve(), url, made.rows, seed, verdict)
                        processes[made.engine, version, made.rows] = stack.enter_context(asked)
                bar.update()
        with progress(rounds, "ask", "round") as bar:
            for number in range(rounds + 1):
                for place, process in processes.items():
                    for what, ms in _round(process).items():
                        lookups.setdefault((*place, what), []).append(ms)
                bar.update(int(number > 0))  # the first one fills caches
    return ServiceFigures(
        __version__, processor(), cores(), seed, sizes, TIMES, library.TEAM, library.FILE, len(verdict), library.BEFORE,
        library.NOW, [Lookup(*place, ms[1:]) for place, ms in lookups.items()], upgrades,
    )  # fmt: skip


def describe_service(figures: ServiceFigures, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_service` as text."""
    small, large = figures.sizes
    held = {(one.engine, one.version, one.rows, one.what): one.ms for one in figures.lookups}
    rows = []
    for kind, what in dict.fromkeys((one.engine, one.what) for one in figures.lookups):
        row = {"database": kind, "what is asked, in milliseconds": what}
        if (kind, figures.before, large, what) in held:
            row |= {f"before, {size:,}": spread(held[kind, figures.before, size, what]) for size in figures.sizes}
        now = [held[kind, figures.now, size, what] for size in figures.sizes]
        growth = statistics.median(b / a for a, b in zip(*now, strict=True))
        row |= {f"{small:,}": spread(now[0]), f"{large:,} (at most {MOST:g})": spread(now[1])}
        rows.append(row | {f"growth (at most {MOST_GROWTH:g})": f"{growth:.2f}"})
    upgraded = ", ".join(f"{one.seconds:.1f} s on {one.engine}" for one in figures.upgrades if one.rows == large)
    about = (
        f"Databases of {small:,} and {large:,} submissions, {figures.team} a team, two of three published, each with "
        f"{figures.file:,} bytes of predictions and {figures.verdict:,} of what came of it. On {figures.processor}, "
        f"{figures.cores} cores; wall time, median (least to most) of {len(figures.lookups[0].ms)} interleaved "
        f"rounds, each a median of {figures.times}; growth is the median ratio of a round. A write waits for the "
        f"disk on SQLite, here not on PostgreSQL. To bring {large:,} from version {figures.before} of the tables up "
        f"to date takes {upgraded}, once."
    )
    if any(one.version == figures.before for one in figures.lookups):
        about += f" Before: a release of version {figures.before}, on its own tables."
    return tables.with_note(rows, about, layout)
