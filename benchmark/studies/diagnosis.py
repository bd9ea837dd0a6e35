"""What the gap between a miniature's source and target is made of, before any method closes it.

::

    python -m benchmark.studies.diagnosis OUT --results results/findings [--people 200 201]

The network of the first stage meets the target's poses again and again, rendered without one part of the gap after the
other; beside that stand its errors on held-out rows and on held-out heads of the source, how the boxes of rendered
heads would lie if they were found from the outlines, what PADACO gains from true instead of predicted poses, and how
well the discriminator tells the domains when lambda begins. It is to be run again whenever the miniature changes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
from matplotlib.figure import Figure

from baselines import weights
from baselines.adversarial import PADACO
from baselines.method import Look
from benchmark.board.markdown import github
from benchmark.loaders.compose import load_target
from benchmark.scoring.submission import read_submission
from benchmark.studies import plan
from benchmark.studies.power import read_target
from benchmark.studies.records import read_record, write_record
from benchmark.studies.runs import plan as plan_runs
from benchmark.studies.runs import run_side_by_side
from benchmark.training.job import OptionValue, TrainingJob
from benchmark.training.presets import find_preset
from benchmark.training.run import load_run, run
from benchmark.training.stage1 import train_on_source
from benchmark.training.views import LoadedRun, see, see_source, target_images
from headposeplus import tables
from headposeplus.boxes import geometry
from headposeplus.build.build import build_datasets
from headposeplus.build.heads import balls_of
from headposeplus.build.match import visible
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import Dataset, open_dataset, read_crops, read_fields
from headposeplus.drawing import WIDTH, own_settings, save
from headposeplus.miniature.poses import SCALES, hidden_order
from headposeplus.miniature.stage import SYNHEAD_CENTRE, Likeness, synhead_camera
from headposeplus.miniature.write import SYNHEAD, VERSION, write_miniature, write_target
from headposeplus.raw import synhead
from headposeplus.raw.biwi import Pose
from headposeplus.rotations import Floats, euler_difference, from_matrix, to_matrix
from headposeplus.tasks import cores

RECORD, PICTURE = "diagnosis.json", "gap.png"
PEOPLE = (200, 201)  # of no pool
# One part of the gap after the other is taken away.
STEPS = {
    "everything": Likeness(),
    "no sensor": Likeness(sensor=True),
    "and no body": Likeness(sensor=True, body=True),
    "and the source's lamps": Likeness(sensor=True, body=True, light=True),
    "and on the axis, 800 mm away": Likeness(sensor=True, body=True, light=True, placement=True),
    "and the source's heads": Likeness(sensor=True, body=True, light=True, placement=True, heads=True),
}
_LEFT_OUT = ("f05", "m05")  # heads that the source lacks, to see what identity alone costs
_SHOWN, _TILE = 6, 224  # frames in the picture, and pixels of each


class StepErrors(msgspec.Struct, frozen=True):
    """Errors of the first stage in degrees: MAE, each angle's, and each angle's mean error."""

    mae: float
    errors: list[float]
    bias: list[float]


class BoxError(msgspec.Struct, frozen=True):
    """By how much a head's boxes lie off those of the target's rule in the mean: shares of the side, and the scale."""

    head: str
    right: float
    down: float
    scale: float


class Diagnosed(msgspec.Struct, frozen=True):
    """What is told of one miniature; errors in degrees.

    Attributes
    ----------
    people
        Its seed of people, light, rooms and cameras.
    held_out_rows, held_out_heads
        The MAE of the first stage on source rows and on source heads that it was not trained on.
    steps
        Its errors on the target, and on targets that lack one part of the gap after the other.
    with_ray
        Its errors on the target, scored with the viewing ray.
    constant
        Of the squared error of each angle, the shares that are one offset for all, and one for each sequence.
    built
        How far the built boxes of each head lie off those that the target's rule gives.
    placed
        How far boxes found from each head's outlines would.
    methods
        The MAE on pda of source-only, PADACO, PADACO by true poses, and DANN.
    accuracy
        Of the discriminator of DANN in the epoch before lambda begins.
    """

    people: int
    held_out_rows: float
    held_out_heads: float
    steps: dict[str, StepErrors]
    with_ray: StepErrors
    constant: list[list[float]]
    built: list[BoxError]
    placed: list[BoxError]
    methods: dict[str, float]
    accuracy: float


class Diagnosis(msgspec.Struct, frozen=True):
    """The diagnoses of some miniatures of a scale and version."""

    scale: str
    version: int
    poses: int
    miniatures: list[Diagnosed]


def step_errors(predicted: Floats, truth: Floats) -> StepErrors:
    """Return the errors of predicted angles (n, 3) in degrees."""
    away = euler_difference(to_matrix(predicted), to_matrix(truth))
    errors = np.abs(away).mean(axis=0)
    return StepErrors(round(float(errors.mean()), 3), errors.round(3).tolist(), away.mean(axis=0).round(3).tolist())


def constant_shares(away: Floats, groups: np.ndarray) -> list[list[float]]:
    """Return of each angle which shares of its mean squared error (n, 3) are constant: over all, and by group (n,)."""
    squares = np.square(away).mean(axis=0)
    over_all = np.square(away.mean(axis=0))
    of_groups = np.zeros_like(away)
    for group in np.unique(groups):
        of_groups[groups == group] = away[groups == group].mean(axis=0)
    by_group = np.square(of_groups).mean(axis=0)
    return np.stack((over_all / squares, by_group / squares), axis=1).round(3).tolist()


def _off(head: str, boxes: Floats, rule: Floats) -> BoxError:
    """Return how far boxes (n, 4) lie off those that the rule gives (n, 4)."""
    right, down = ((geometry.middles(boxes) - geometry.middles(rule)) / rule[:, 2:]).mean(axis=0)
    scale = (boxes[:, 2] / rule[:, 2]).mean()
    return BoxError(head, *(round(float(value), 4) for value in (right, down, scale)))


def built_boxes(dataset: Dataset) -> list[BoxError]:
    """Return how far the boxes of a miniature's rendered heads lie off the target's rule, with the camera they have."""
    fields = list(read_fields(dataset, "subject", "box", "label/rotation"))
    subjects, boxes, poses = (
        np.concatenate([some[name] for some in fields]) for name in ("subject", "box", "label/rotation")
    )
    camera = synhead_camera(SCALES[plan.SCALE].size)
    rule = np.array([geometry.projected(Pose(pose, SYNHEAD_CENTRE), camera) for pose in poses])
    return [_off(str(head), boxes[subjects == head], rule[subjects == head]) for head in np.unique(subjects)]


def outlined_boxes(raw: Path, poses: int) -> list[BoxError]:
    """Return how far boxes that a build would find from each head's outlines would lie off those by its true place."""
    copy = synhead.look_through(raw / SYNHEAD)
    order, margin = hidden_order(poses), Options().visible_margin
    places = synhead.read_head_places(copy.root) or {}
    rotations = np.concatenate([to_matrix(angles, order) for angles in copy.angles.values()])
    rotations = rotations[visible(rotations, margin)][::10]
    found = []
    for head, ball in balls_of(copy, order, margin, 1).items():
        known, outlined = (
            np.array([geometry.of_rendered(place, r, 0.0, place.pivot) for r in rotations])
            for place in (places[head], geometry.place_of(ball))
        )
        found.append(_off(head, outlined, known))
    return found


class _Labels(NamedTuple):
    angles: Floats
    subjects: np.ndarray
    sequences: np.ndarray


def _labels(dataset: Dataset) -> _Labels:
    parts = list(read_fields(dataset, "id", "label/pyr", "subject"))
    ids, angles, subjects = (np.concatenate([part[name] for part in parts]) for name in ("id", "label/pyr", "subject"))
    return _Labels(angles, subjects, np.array([name.split("/")[1] for name in ids.tolist()]))


def _held_out_heads(job: TrainingJob, folder: Path) -> float:
    """Return the MAE on two heads of a first stage that was trained without them."""
    loaded = load_run(job)
    subjects = _labels(open_dataset(job.data / "synhead++")).subjects
    left = np.isin(subjects, _LEFT_OUT)
    without = loaded._replace(
        training=loaded.training[~left[loaded.training]], held_out=loaded.held_out[~left[loaded.held_out]]
    )
    train_on_source(without, folder)
    some = np.random.default_rng(job.seed).permutation(np.flatnonzero(left))[:2000]
    seen = see_source(without, some, 0)
    return step_errors(seen.angles, loaded.source.angles[some]).mae


def _oracle(truth: Floats) -> type[PADACO]:
    """Return PADACO whose weights come from the true poses (m, 3) of the target: no method, a yardstick."""

    class OraclePADACO(PADACO):
        name = "padaco-by-true-poses"
        summary = "PADACO with weights from the target's labels, a yardstick"

        def sampling(self, epoch: int, look: Look) -> Floats | None:
            return None if epoch else weights.padaco(look.angles, truth, self.settings.neighbours, self.settings.metric)

    return OraclePADACO


def _on_steps(loaded: LoadedRun, targets: dict[str, Dataset]) -> dict[str, StepErrors]:
    """Return the errors of a network on each variant of the target."""
    found = {}
    for step, dataset in targets.items():
        there = loaded._replace(target=load_target(dataset, loaded.device))
        found[step] = step_errors(see(loaded.network, target_images(there)).angles, _labels(dataset).angles)
    return found


def diagnose(out: Path, people: int, jobs: int) -> Diagnosed:
    """Diagnose one miniature, whose files go to ``out``."""
    whole = write_miniature(out / "raw", plan.SCALE, plan.POSES, jobs, people=people)
    data = out / "data"
    build_datasets(whole, data, Options(size=plan.SIZE), jobs)
    targets = {}
    for number, (step, like) in enumerate(STEPS.items()):
        folder = out / f"step-{number}"
        raw = write_target(folder / "raw", plan.SCALE, plan.POSES, jobs, people, like)
        build_datasets(raw, folder / "data", Options(size=plan.SIZE), jobs)
        targets[step] = open_dataset(folder / "data" / "biwi+")
    options: dict[str, OptionValue] = {"device": "cpu", "threads": 1}
    jobs_of = {
        method: plan_runs("pda", [method], {people: data}, out / "runs", find_preset(plan.PRESET), options)[0]
        for method in ("source-only", "padaco", "dann")
    }
    run(jobs_of["source-only"])
    run_side_by_side([jobs_of["padaco"], jobs_of["dann"]], jobs, "methods")
    labels = _labels(open_dataset(data / "biwi+"))
    jobs_of["padaco-by-true-poses"] = jobs_of["padaco"]._replace(method=_oracle(labels.angles))
    submissions = {method: read_submission(run(job)) for method, job in jobs_of.items()}
    loaded = load_run(jobs_of["source-only"])
    train_on_source(loaded, jobs_of["source-only"].folder.parent / "stage1")
    predicted = see(loaded.network, target_images(loaded)).angles
    held = see_source(loaded, loaded.held_out, 0)
    return Diagnosed(
        people=people,
        held_out_rows=step_errors(held.angles, loaded.source.angles[loaded.held_out]).mae,
        held_out_heads=_held_out_heads(jobs_of["source-only"], out / "runs" / "without-two-heads"),
        steps=_on_steps(loaded, targets),
        with_ray=step_errors(_turned(predicted, data), labels.angles),
        constant=constant_shares(euler_difference(to_matrix(predicted), to_matrix(labels.angles)), labels.sequences),
        built=built_boxes(open_dataset(data / "synhead+")),
        placed=outlined_boxes(out / "raw", plan.POSES),
        methods={
            name: step_errors(from_matrix(kept.rotations), labels.angles).mae for name, kept in submissions.items()
        },
        accuracy=float((submissions["dann"].about.run or {})["accuracy_at_lambda"]),
    )


def _turned(angles: Floats, data: Path) -> Floats:
    """Return predicted angles (n, 3) of a target, taken as relative to the viewing ray of each box."""
    return from_matrix(read_target(data).rays @ to_matrix(angles))


@own_settings()
def draw_steps(out: Path, picture: Path) -> None:
    """Draw the same frames of each step's target side by side, a row a step, PNG."""
    rows = []
    for number in range(len(STEPS)):
        dataset = open_dataset(out / f"step-{number}" / "data" / "biwi+")
        some = np.linspace(0, dataset.info.rows - 1, 2 * _SHOWN + 1).astype(int)[1::2]
        crops = [
            cv2.resize(crop.image, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC) for crop in read_crops(dataset, some)
        ]
        rows.append(np.concatenate(crops, axis=1))
    left, gap = 1.75, 0.06  # inches for the names, and between rows
    height = (WIDTH - left) / _SHOWN + gap
    figure = Figure(figsize=(WIDTH, len(rows) * height))
    for place, (row, step) in enumerate(zip(rows, STEPS, strict=True)):
        low = 1 - (place + 1 - gap / height) / len(rows)
        axes = figure.add_axes((left / WIDTH, low, 1 - left / WIDTH, (1 - gap / height) / len(rows)))
        axes.imshow(row, aspect="auto")
        axes.axis("off")
        figure.text((left - 0.1) / WIDTH, low + 0.5 / len(rows), step.replace(", ", ",\n"), ha="right", va="center")
    save(figure, picture)


def read(results: Path) -> Diagnosis:
    """Return the kept diagnosis; raises HeadposeError if it is not there."""
    return read_record(results / RECORD, Diagnosis, "the record of benchmark.studies.diagnosis")


def gap_table(results: Path) -> str:
    """Return what the gap is made of: a row a step, a column a miniature."""
    kept = read(results).miniatures
    rows: list[dict[str, str]] = []
    for title, values in (
        ("held-out rows of the source", [one.held_out_rows for one in kept]),
        ("two held-out heads, in the source", [one.held_out_heads for one in kept]),
    ):
        rows.append({"the first stage on": title} | _by_people(kept, [f"{value:.2f}" for value in values]))
    for step in STEPS:
        words = []
        for one in kept:
            errors = one.steps[step]
            bias = ", ".join(tables.signed(value, 1) for value in errors.bias)
            words.append(f"{errors.mae:.2f} ({bias})")
        rows.append({"the first stage on": f"the target: {step}"} | _by_people(kept, words))
    return github(rows)


def _by_people(kept: Sequence[Diagnosed], words: Sequence[str]) -> dict[str, str]:
    return {f"people {one.people}": word for one, word in zip(kept, words, strict=True)}


def bounds_table(results: Path) -> str:
    """Return what a miniature has to keep within bounds: its boxes, what its lamps teach, its discriminator."""
    kept = read(results).miniatures
    before, after = "and no body", "and the source's lamps"

    def largest(errors: Sequence[BoxError]) -> str:
        down, scale = max(abs(e.down) for e in errors), max(abs(e.scale - 1) for e in errors)
        return f"{100 * down:.2f} % and {100 * scale:.1f} %"

    rows = [
        ("boxes of the source off the target's rule: down and scale, worst head",
         [largest(one.built) for one in kept], "0.5 % of a side and 2 %"),
        ("the same, were they found from outlines, as in the released SynHead",
         [largest(one.placed) for one in kept], "none"),
        ("mean error of pitch that the lamps add",
         [tables.signed(one.steps[before].bias[0] - one.steps[after].bias[0], 1) for one in kept], "2 degrees"),
        ("mean error of pitch, source-only",
         [tables.signed(one.steps['everything'].bias[0], 1) for one in kept], "2 degrees, on the axis"),
        ("the same with the viewing ray", [tables.signed(one.with_ray.bias[0], 1) for one in kept], "2 degrees"),
        ("accuracy of DANN's discriminator when lambda begins", [f"{one.accuracy:.2f}" for one in kept], "0.95"),
    ]  # fmt: skip
    return github([{"what": what} | _by_people(kept, words) | {"bound": bound} for what, words, bound in rows])


def causes_table(results: Path) -> str:
    """Return how much of the squared error is constant, and what true poses would bring PADACO."""
    rows = []
    for one in read(results).miniatures:
        row = {"people": str(one.people)}
        for angle, (over_all, by_sequence) in zip(plan.ANGLES, one.constant, strict=True):
            row[f"{angle}: constant, of all and by sequence"] = f"{over_all:.0%}, {by_sequence:.0%}"
        row |= {method: f"{mae:.2f}" for method, mae in one.methods.items()}
        rows.append(row)
    return github(rows)


def main(words: Sequence[str]) -> None:
    """Diagnose miniatures, print what the gap is made of, and keep it in ``diagnosis.json`` of the results."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results/findings"))
    parser.add_argument("--people", type=int, nargs="+", default=PEOPLE, help="a miniature for each")
    parser.add_argument("--jobs", type=int, default=cores())
    chosen = parser.parse_args(words)
    found = [diagnose(chosen.out / f"people-{number}", number, chosen.jobs) for number in chosen.people]
    write_record(chosen.results / RECORD, Diagnosis(plan.SCALE, VERSION, plan.POSES, found))
    draw_steps(chosen.out / f"people-{chosen.people[0]}", chosen.results / PICTURE)
    for table in (gap_table, bounds_table, causes_table):
        print(f"\n{table(chosen.results)}")


if __name__ == "__main__":
    main(sys.argv[1:])
