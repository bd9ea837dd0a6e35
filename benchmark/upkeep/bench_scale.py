"""How what the toolkit does grows with data: CPU seconds and memory at the real size, beside a tenth of it.

Each measurement is a process of its own, which imports what it measures and no more.
"""

from __future__ import annotations

import itertools
import pickle
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmark.upkeep.aims import spread
from headposeplus import __version__, tables
from headposeplus.beside import python
from headposeplus.errors import HeadposeError
from headposeplus.progress import progress
from headposeplus.rotations import Floats
from headposeplus.tasks import peak_bytes, processor

SHARES = (0.1, 1.0)  # of the real size
LINEAR, SEARCHED = 11.0, 14.0  # growth of CPU seconds, at most, where data grow tenfold; a search takes n log n
LABELS, PREDICTIONS = 670_000, 15_678  # of SynHead++ and Biwi+
ENTRIES = 1_000  # of a scoreboard
SPREAD = (23, 31, 11)  # standard deviations of the labels, in degrees
ORDER = "xyz+++"  # in which the synthetic SynHead's angles are


class Scaled(NamedTuple):
    """Where synthetic data lie (:mod:`benchmark.upkeep.scaled`), and of what share of the real size they are."""

    folder: Path
    share: float

    @property
    def synhead(self) -> Path:
        """Raw SynHead."""
        return self.folder / "synhead2_release"

    @property
    def biwi(self) -> Path:
        """Raw Biwi, of which there are the names of files alone."""
        return self.folder / "hpdb"

    @property
    def manifest(self) -> Path:
        """What both raw copies hold, and the statistics of Biwi+."""
        return self.folder / "data_manifest.csv"

    @property
    def data(self) -> Path:
        """The built datasets."""
        return self.folder / "data"

    @property
    def board(self) -> Path:
        """A scoreboard."""
        return self.folder / "scoreboard"

    def of(self, count: int) -> int:
        """Return this share of a number, one at least."""
        return max(round(count * self.share), 1)


class Work(NamedTuple):
    """What is measured: on how many things, and what does it; that returns the bytes of what it made, if it counts."""

    things: int
    do: Callable[[], int | None]


class Trial(NamedTuple):
    """What is measured, in words, and its things; and how much it may grow and take.

    Attributes
    ----------
    title, things
        In words.
    begin
        Imports what is measured, and returns it.
    most_mib, most_growth
        At the real size, and beside a tenth of it.
    made, most_made
        What its work makes, in words, and how many MB that may have; empty where they do not count.
    """

    title: str
    things: str
    begin: Callable[[Scaled, int], Work]
    most_mib: int
    most_growth: float = LINEAR
    made: str = ""
    most_made: float = 0.0


# ---- the trials


def _verify_raw(place: Scaled, seed: int) -> Work:
    from headposeplus.raw import manifest
    from headposeplus.raw.synhead import HEADS
    from headposeplus.verify.raw import verify_raw

    def do() -> None:
        report = verify_raw(None, place.synhead, place.manifest)
        assert not report.faults, report.faults[0]

    tracks = manifest.listed_tracks(manifest.read(place.manifest))
    return Work(len(HEADS) * sum(track.poses or 0 for track in tracks), do)


def _rows(place: Scaled, *names: str) -> int:
    from headposeplus.datasets.info import read_info

    return sum(read_info(place.data / name).rows for name in names)


def _verify_data(place: Scaled, seed: int) -> Work:
    from headposeplus.verify.datasets import verify_data

    def do() -> None:
        report = verify_data(place.data, place.manifest)
        assert not report.faults, report.faults[0]

    return Work(_rows(place, "biwi+", "synhead+", "synbiwi+"), do)


def _inspect(place: Scaled, seed: int) -> Work:
    from headposeplus.datasets.card import inspect_data

    def do() -> None:
        inspect_data(place.data, place.folder / "inspect", seed=seed)

    return Work(_rows(place, "biwi+", "synhead+", "synbiwi+"), do)


def _union(place: Scaled, seed: int) -> Work:
    from headposeplus.build.build import describe_union

    def do() -> None:
        describe_union(place.data)

    return Work(_rows(place, "synhead++"), do)


def _plan(place: Scaled, seed: int) -> Work:
    from headposeplus.build.plan import plans
    from headposeplus.build.work import USUAL, Job
    from headposeplus.raw.source import Source, find_copies

    def do() -> int:
        copies = find_copies(Source(place.biwi, place.synhead, render_order=ORDER, manifest=place.manifest))
        planned = plans(copies, place.data, USUAL, 1)
        tasks = itertools.chain.from_iterable(plan.tasks for plan in planned)
        return max(len(pickle.dumps(Job(task))) for task in tasks)

    return Work(_verify_raw(place, seed).things, do)


def draw_labels(rng: np.random.Generator, source: int, predictions: int) -> tuple[Floats, Floats]:
    """Return as many source labels (n, 3) and predictions (m, 3), in degrees, that spread as the real labels do."""
    return rng.normal(0, SPREAD, (source, 3)), rng.normal(0, SPREAD, (predictions, 3))


def _weights(weigh: Callable[[Floats, Floats], object], place: Scaled, seed: int) -> Work:
    source, predictions = draw_labels(np.random.default_rng(seed), place.of(LABELS), place.of(PREDICTIONS))

    def do() -> None:
        weigh(source, predictions)

    return Work(len(source), do)


def _padaco(place: Scaled, seed: int) -> Work:
    from baselines.weights import padaco

    return _weights(padaco, place, seed)


def _pada_like(place: Scaled, seed: int) -> Work:
    from baselines.weights import pada_like

    return _weights(pada_like, place, seed)


def _board(place: Scaled, seed: int) -> Work:
    from benchmark.board import entries, site
    from benchmark.upkeep.scaled import new_entry
    from headposeplus.files import listing

    there = len(listing(place.board, ".json"))
    entry, predictions = new_entry(place, there)

    def do() -> int:
        entries.add(place.board, entry, [predictions])
        entries.build(place.board)
        return (place.board / site.INDEX).stat().st_size

    return Work(place.of(ENTRIES), do)


TRIALS = {
    "verify-raw": Trial("verify raw SynHead", "files", _verify_raw, 200),
    "verify-data": Trial("verify the datasets", "rows", _verify_data, 350),
    "inspect": Trial("inspect the datasets", "rows", _inspect, 300),
    "union": Trial("join SynHead++", "rows", _union, 250),
    "plan": Trial("plan a build", "files", _plan, 250, LINEAR, "largest task for Dask", 0.6),
    "padaco": Trial("PADACO's weights", "labels", _padaco, 150, SEARCHED),
    "pada-like": Trial("PADA-like weights", "labels", _pada_like, 150, SEARCHED),
    "board": Trial("add to a scoreboard", "entries", _board, 400, LINEAR, "first page", 1.0),
}


# ---- measuring


class Done(msgspec.Struct, frozen=True):
    """What a process tells of a trial: things, CPU seconds after its imports, peak memory, bytes of what it made."""

    things: int
    seconds: float
    peak_bytes: int
    made: int | None


def take(name: str, folder: str, share: float, seed: int) -> None:
    """Do a trial in this process, and print what it took."""
    things, do = TRIALS[name].begin(Scaled(Path(folder), share), seed)
    began = time.process_time()
    made = do()
    done = Done(things, time.process_time() - began, peak_bytes(), made)
    print(msgspec.json.encode(done).decode())


def _taken(name: str, place: Scaled, seed: int) -> Done:
    """Do a trial in a process of its own."""
    words = (name, str(place.folder), place.share, seed)
    code = f"from benchmark.upkeep.bench_scale import take; take(*{words!r})"
    found = subprocess.run(python(code), capture_output=True, text=True, check=False)
    if found.returncode:
        last = (found.stderr.strip() or f"status {found.returncode}").splitlines()[-1]
        raise HeadposeError(f"{TRIALS[name].title}, {place.share:g} of the real size: {last}")
    return msgspec.json.decode(found.stdout.splitlines()[-1], type=Done)


class Cost(msgspec.Struct, frozen=True):
    """What a trial takes on so many things: CPU seconds after its imports, and MiB of its process, a value a run.

    ``made`` is the size in MB of what it made, where that counts.
    """

    things: int
    seconds: list[float]
    mib: list[int]
    made: float | None


class Growth(msgspec.Struct, frozen=True):
    """A trial of :data:`TRIALS` at a tenth of the real size and at the real size.

    ``growth`` is the quotient of the median seconds, as if it were ten times as many things exactly.
    """

    name: str
    costs: list[Cost]
    growth: float


class ScaleFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`bench_scale` measures."""

    toolkit: str
    processor: str
    seed: int
    trials: list[Growth]


def _cost(runs: list[Done]) -> Cost:
    made = runs[0].made
    return Cost(
        things=runs[0].things,
        seconds=[round(run.seconds, 3) for run in runs],
        mib=[round(run.peak_bytes / 2**20) for run in runs],
        made=None if made is None else round(made / 1e6, 3),
    )


def growth(name: str, runs: list[list[Done]]) -> Growth:
    """Return how a trial grows, from its runs at a tenth of the size and at the whole size."""
    tenth, full = (statistics.median(run.seconds for run in of_share) for of_share in runs)
    tenfold = 10 * runs[0][0].things / runs[1][0].things
    return Growth(name, [_cost(of_share) for of_share in runs], round(full / tenth * tenfold, 2))


def bench_scale(repeats: int = 3, seed: int = 0, share: float = 1.0) -> ScaleFigures:
    """Measure how the toolkit grows: each of :data:`TRIALS` at a tenth of the real size, and at the real size.

    The synthetic data lie in a temporary folder, which is removed. What is measured are the CPU seconds of the work
    alone, without start-up, and the most memory that its process held. A ``share`` of the real size takes its place.

    Raises
    ------
    HeadposeError
        If a trial fails.
    """
    from benchmark.upkeep.scaled import write_scaled

    with tempfile.TemporaryDirectory() as temporary:
        places = [Scaled(Path(temporary) / str(number), share * part) for number, part in enumerate(SHARES)]
        for place in places:
            write_scaled(place, seed)
        taken: dict[str, list[list[Done]]] = {name: [[] for _ in places] for name in TRIALS}
        with progress(repeats * len(places) * len(TRIALS), "scale", "run") as bar:
            for _, (name, runs) in itertools.product(range(repeats), taken.items()):
                for place, of_share in zip(places, runs, strict=True):
                    of_share.append(_taken(name, place, seed))
                    bar.update()
    return ScaleFigures(
        toolkit=__version__,
        processor=processor(),
        seed=seed,
        trials=[growth(name, runs) for name, runs in taken.items()],
    )


def _row(measured: Growth) -> dict[str, str]:
    trial, (tenth, full) = TRIALS[measured.name], measured.costs
    return {
        "what": trial.title,
        "of": f"{full.things:,} {trial.things}",
        "CPU seconds at a tenth": spread(tenth.seconds),
        "CPU seconds": spread(full.seconds),
        "growth (at most)": f"{measured.growth:.1f} ({trial.most_growth:.0f})",
        "MiB at a tenth": f"{max(tenth.mib):,}",
        "MiB (at most)": f"{max(full.mib):,} ({trial.most_mib:,})",
    }


def describe_scale(figures: ScaleFigures, layout: str = "simple") -> str:
    """Return the figures of :func:`bench_scale` as text."""
    made = []
    for measured in figures.trials:
        trial, (tenth, full) = TRIALS[measured.name], measured.costs
        if full.made is not None:
            made.append(
                f"The {trial.made} has {full.made:.2f} MB (at most {trial.most_made:g}), at a tenth {tenth.made:.2f}."
            )
    runs = len(figures.trials[0].costs[0].seconds)
    about = (
        f"Synthetic data of the real size, and a tenth of it; a growth of 10 is linear, one of 12 or 13 that of the "
        f"search trees behind the weights. CPU seconds are those of the work, without start-up: median (least to most) "
        f"of {runs} runs, each a process of its own, whose MiB are the most that it held; on {figures.processor}. "
        f"{' '.join(made)}"
    )
    return tables.with_note([_row(measured) for measured in figures.trials], about, layout)
