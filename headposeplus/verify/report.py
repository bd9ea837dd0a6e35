"""What :mod:`headposeplus.verify.raw` and :mod:`headposeplus.verify.datasets` report, as values with types.

A report does not depend on the number of processes. A fault names the file, what was expected and the way to mend it;
a warning is worth knowing but leaves the data whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from headposeplus import __version__
from headposeplus.faults import Fault, plural
from headposeplus.files import sha256
from headposeplus.raw import manifest
from headposeplus.rotations import Floats

# The manifest's four digits and the six of pose.txt move a sequence's mean by less than a tenth of this.
LABEL_TOLERANCE = 1e-3  # degrees
DEGREES = "degrees, convention pyr, RGB camera"
COUNTS = ("expected", "present", "missing", "extra", "unreadable", "truncated")  # of frames or images

# ---- labels


class LabelStatistics(msgspec.Struct, frozen=True):
    """Mean (3,) and deviation (3,; divided by n, as in the manifest) of pitch, yaw and roll, ``pyr``, in degrees."""

    mean: list[float]
    std: list[float]


class LabelCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sequence's label statistics beside the manifest's: the state in words, and how much they differ at most."""

    state: str
    mean: list[float] | None = None
    std: list[float] | None = None
    difference: float | None = None


def statistics(angles: Floats) -> LabelStatistics:
    """Return mean and deviation of angles (n, 3), ``pyr``, in degrees."""
    return LabelStatistics(angles.mean(axis=0).round(6).tolist(), angles.std(axis=0).round(6).tolist())


def compare_labels(
    angles: Floats,
    listed: manifest.ListedSequence,
    file: Path,
    of: str = "",
    mend: str = "restore the sequence's pose.txt and rgb.cal from the raw archive",
) -> tuple[LabelCheck, list[Fault]]:
    """Compare the angles (n, 3; ``pyr``, RGB camera) of a Biwi sequence, or of a part of stills, with the manifest.

    Return the statistics, and a fault in ``file`` for each that differs; its words begin with ``of``.
    """
    labels = statistics(angles)
    values = np.array([*labels.mean, *labels.std])
    if np.isnan(listed.statistics).any():
        return LabelCheck("not in the manifest", labels.mean, labels.std), []
    difference = np.abs(values - listed.statistics)
    faults = []
    for i in np.flatnonzero(difference > LABEL_TOLERANCE):
        name = manifest.LABEL_STATISTICS[i].replace("_", " ")
        what = f"{of}{name} {values[i]:.4f}, expected {listed.statistics[i]:.4f} {DEGREES}"
        faults.append(Fault(what, mend, file))
    state = "deviates" if faults else "as in the manifest"
    return LabelCheck(state, labels.mean, labels.std, round(float(difference.max()), 6)), faults


# ---- raw copies


class OptionalFiles(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many of a sequence's optional files are there.

    A deep check also counts each ``pose.bin`` that it ``compared`` with its frame's pose, and says how much they
    differ at most.
    """

    depth: int
    masks: int
    depth_cal: int
    meshes: int
    annotations: int
    compared: int | None = None
    largest_degrees: float | None = None
    largest_mm: float | None = None


class SequenceCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A Biwi sequence beside the manifest: counts of frames, their numbers as ranges, and the state in words.

    ``stand_ins`` are the frames whose pose is taken from ``pose.bin``, for want of ``pose.txt``.
    """

    dataset: str = "biwi"
    unit: str
    subject: str
    expected: int
    present: int
    missing: int
    extra: int
    unreadable: int
    truncated: int
    missing_frames: str
    extra_frames: str
    stand_ins: str
    labels: LabelCheck
    optional: OptionalFiles
    state: str = ""


class StillsCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a dataset of stills beside the manifest: counts of photographs, their numbers as ranges, the state."""

    dataset: str
    unit: str
    subject: str = ""
    expected: int
    present: int
    missing: int
    extra: int
    unreadable: int
    truncated: int
    missing_frames: str
    extra_frames: str
    labels: LabelCheck
    state: str = ""


class HeadCheck(msgspec.Struct, frozen=True):
    """The images of one head in a track: how many, and the numbers that are missing or too many, as ranges."""

    images: int
    missing: str
    extra: str


class TrackCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A SynHead track beside the manifest: its poses, counts of images over all heads, and the state in words.

    ``poses`` is None where the angles cannot be read, ``expected`` where nothing says how many images there should be.
    ``lossy`` counts the images that are JPEG.
    """

    dataset: str = "synhead"
    unit: str
    subject: str = ""
    poses: int | None
    expected: int | None
    present: int
    missing: int
    extra: int
    unreadable: int
    truncated: int
    duplicates: int
    lossy: int
    heads: dict[str, HeadCheck]
    state: str = ""


class Totals(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The sums over a raw copy's units; SynHead's also has tracks, poses and readable backgrounds."""

    expected: int
    present: int
    missing: int
    extra: int
    unreadable: int
    truncated: int
    tracks: int | None = None
    tracks_expected: int | None = None
    poses: int | None = None
    backgrounds: int | None = None
    units: int
    complete: int
    faults: int


class ManifestFile(msgspec.Struct, frozen=True):
    """The manifest that was compared with."""

    file: str
    sha256: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What both kinds of reports begin with."""

    toolkit: str = __version__
    manifest: ManifestFile
    deep: bool
    convention: str = "pyr"
    camera: str = "rgb"
    label_tolerance_degrees: float = LABEL_TOLERANCE


class RawReport(Report, frozen=True, kw_only=True):
    """What a check of raw copies finds; ``roots`` and ``totals`` by dataset, such as ``biwi`` and ``synhead``."""

    roots: dict[str, str]
    totals: dict[str, Totals]
    units: list[SequenceCheck | TrackCheck | StillsCheck]
    warnings: list[Fault]
    faults: list[Fault]


# ---- built datasets


class DatasetCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A built dataset beside its ``dataset.json``: what was read, what is damaged, and the state in words.

    ``rows`` is what ``dataset.json`` says. ``labels`` are those of all whole shards, ``labels_sha256`` the hash of ids,
    poses and boxes where all shards are whole.
    """

    name: str
    folder: str
    rows: int | None
    bytes: int
    hashes: int
    shards: int
    shards_damaged: int
    labels: LabelStatistics | None = None
    labels_sha256: str | None = None
    state: str


class SequenceLabels(msgspec.Struct, frozen=True, omit_defaults=True):
    """The labels of a sequence in Biwi+, or of a dataset of stills, beside the manifest's.

    ``expected`` and ``present`` count frames.
    """

    unit: str
    expected: int
    present: int
    state: str
    mean: list[float] | None = None
    std: list[float] | None = None
    difference: float | None = None


class PublishedStatistics(LabelStatistics, frozen=True):
    """Label statistics that were published, and where."""

    source: str


class BesidePublished(msgspec.Struct, frozen=True):
    """Label statistics of these data, and the published ones."""

    found: LabelStatistics
    published: PublishedStatistics


class Comparisons(msgspec.Struct, frozen=True, omit_defaults=True):
    """Label statistics beside the manifest's, of Biwi+ and of datasets of stills, and of SynHead++ the published ones.

    None where there is no such dataset.
    """

    biwi: list[SequenceLabels] | None = msgspec.field(default=None, name="biwi+")
    union: BesidePublished | None = msgspec.field(default=None, name="synhead++")
    stills: dict[str, list[SequenceLabels]] | None = None


class DataReport(Report, frozen=True, kw_only=True):
    """What a check of built datasets finds."""

    folder: str
    datasets: list[DatasetCheck]
    statistics: Comparisons
    bytes_read: int
    hashes_checked: int
    warnings: list[Fault]
    faults: list[Fault]


# ---- both


def manifest_used(path: Path | None) -> ManifestFile:
    """Return which manifest is compared with; the project's own if None."""
    path = path or manifest.default_path()
    return ManifestFile(str(path), sha256(path))


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Return faults sorted by their text, each once."""
    by_text = {str(fault): fault for fault in faults}
    return [by_text[text] for text in sorted(by_text)]


def count(number: int) -> str:
    """Return a number of faults in words."""
    return f"{plural(number, 'fault')}"


def to_json(report: RawReport | DataReport) -> dict[str, object]:
    """Return a report as plain values, its faults and warnings as ``Fault.to_json`` has them."""
    values: dict[str, object] = msgspec.to_builtins(report, enc_hook=str)
    told = {"warnings": report.warnings, "faults": report.faults}
    return values | {kind: [fault.to_json() for fault in faults] for kind, faults in told.items()}
