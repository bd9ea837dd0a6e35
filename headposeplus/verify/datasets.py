"""Checks built datasets against their ``dataset.json`` and the manifest. Nothing stops at the first fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus.datasets.card import misplaced_boxes
from headposeplus.datasets.dataset import BACKGROUNDS, Dataset, MissingShardError, labels_sha256, open_dataset
from headposeplus.datasets.hdf5 import BUILD_AGAIN
from headposeplus.datasets.info import INFO, NAMES, content_sha256, read_info
from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.faults import Fault, plural
from headposeplus.files import content_hash, leftovers, listing
from headposeplus.progress import progress
from headposeplus.raw import manifest
from headposeplus.raw.ids import frame_id
from headposeplus.raw.manifest import ListedSequence
from headposeplus.raw.targets import STILLS
from headposeplus.rotations import Floats
from headposeplus.verify.report import (
    DEGREES,
    LABEL_TOLERANCE,
    BesidePublished,
    Comparisons,
    DataReport,
    DatasetCheck,
    LabelCheck,
    LabelStatistics,
    PublishedStatistics,
    SequenceLabels,
    compare_labels,
    count,
    in_order,
    manifest_used,
    statistics,
)
from headposeplus.verify.shards import check_hash, check_shard

# Of SynHead++, in degrees, convention pyr, RGB camera.
PUBLISHED_SYNHEAD_PP = PublishedStatistics(
    mean=[-4.0955, -2.4469, 0.7590],
    std=[23.1782, 30.7491, 10.7432],
    source="published with the PADACO weights (Kuhnke & Ostermann, ICCV 2019)",
)


class _Checked(NamedTuple):
    """A dataset that was checked.

    Attributes
    ----------
    dataset
        What was checked.
    faults
        Its own.
    ids, angles
        Of the rows in its whole shards: (n,), bytes, which take a fourth of what texts take, and (n, 3) in degrees.
    labels, digest
        Their statistics, and the hash of ids, poses and boxes if no shard is damaged; of a union, those of its parts.
    bytes, hashes, shards_damaged
        How many bytes and hashes were checked, and shards are damaged.
    faults_of_parts
        Of a union: why one of its parts is none.
    """

    dataset: Dataset
    faults: list[Fault]
    ids: np.ndarray = np.zeros(0, "S1")
    angles: Floats = np.zeros((0, 3))
    labels: LabelStatistics | None = None
    digest: str | None = None
    bytes: int = 0
    hashes: int = 0
    shards_damaged: int = 0
    faults_of_parts: tuple[Fault, ...] = ()


def _find(folder: Path) -> list[Path]:
    """Return the folders of the datasets: a build's, or one dataset with those that it joins."""
    if not (folder / INFO).exists():
        present = [folder / name for name in NAMES if (folder / name).is_dir()]
        if not present:
            mend = "give the folder that was a build's `out`, or one dataset's folder in it"
            raise DatasetError(Fault("holds no dataset", mend, folder))
        return present
    try:
        joins = read_info(folder).joins or ()
    except DatasetError:  # told where the dataset is opened
        joins = ()
    return [*(folder.parent / name for name in joins), folder]


def _open(folder: Path) -> Dataset | Fault:
    """Return the dataset in a folder, even if shards are missing, or why it is none."""
    try:
        return open_dataset(folder)
    except MissingShardError:  # each is told when it is read
        return Dataset(folder, read_info(folder))
    except HeadposeError as error:
        return error.fault


# ---- a dataset


def _check_description(dataset: Dataset) -> list[Fault]:
    """Return the faults of what ``dataset.json`` says of itself, and of files that it does not name."""
    folder, info, faults = dataset.folder, dataset.info, []
    content = content_sha256(info)
    if info.content_sha256 != content:
        what = f"expected the content_sha256 {content}, found {info.content_sha256}"
        faults.append(Fault(f"changed since the build: {what}", BUILD_AGAIN, folder / INFO))
    named = {shard.file for shard in info.shards}
    if info.backgrounds_sha256:
        named.add(BACKGROUNDS)
    for path in (*listing(folder, ".h5"), *leftovers(folder)):
        if path.name not in named:
            faults.append(Fault("not named in dataset.json, so of another or a stopped build", "delete it", path))
    return faults


def _check_dataset(dataset: Dataset, deep: bool, update: Callable[[], object]) -> _Checked:
    """Check a dataset that holds pixels; ``update`` is called after each shard."""
    folder, info = dataset.folder, dataset.info
    checks = []
    for shard in info.shards:
        checks.append(check_shard(dataset, shard, deep))
        update()
    hashed = [check.hashed for check in checks]
    faults = [*_check_description(dataset), *(fault for check in checks for fault in check.faults)]
    if info.backgrounds_sha256:
        hashed.append(check_hash(folder / BACKGROUNDS, info.backgrounds_sha256))
        faults += hashed[-1].faults
    rows = sum(shard.rows for shard in info.shards)
    if rows != info.rows:
        faults.append(Fault(f"says {info.rows} rows, but its shards have {rows}", "build again", folder / INFO))
    whole = [check.labels for check in checks if check.labels]
    ids = np.concatenate([np.zeros(0, "S1"), *(ids for ids, _ in whole)])
    angles = np.concatenate([np.zeros((0, 3)), *(angles for _, angles in whole)])
    damaged = sum(bool(check.faults) for check in checks)
    labels = statistics(angles) if len(ids) else None
    repeated, digest = _check_rows(folder, ids), None
    faults += repeated
    if labels and not damaged:
        faults += _check_statistics(dataset, labels)
    if labels and not damaged and not repeated:
        try:
            digest = labels_sha256(dataset)
            faults += _check_digest(dataset, digest)
        except DatasetError as error:
            faults.append(error.fault)
    return _Checked(
        dataset,
        faults,
        ids,
        angles,
        labels,
        digest,
        bytes=sum(file.bytes for file in hashed),
        hashes=sum(file.hashes for file in hashed),
        shards_damaged=damaged,
    )


def _check_rows(folder: Path, ids: np.ndarray) -> list[Fault]:
    """Return the fault of ids (n,) that are in more than one row."""
    unique, counts = np.unique(ids, return_counts=True)
    if not (counts > 1).any():
        return []
    repeated = unique[counts > 1].astype("U")
    what = f"{plural(len(repeated), 'id is', 'ids are')} in more than one row, such as {repeated[0]}"
    return [Fault(what, "delete the folder and run the build again", folder)]


def _check_statistics(dataset: Dataset, labels: LabelStatistics) -> list[Fault]:
    """Return the faults of the label statistics in ``dataset.json``."""
    faults = []
    for key, values in (("mean", labels.mean), ("std", labels.std)):
        told = dataset.info.labels.get(key)
        if told is None or np.abs(np.subtract(told, values)).max() > LABEL_TOLERANCE:
            what = f"says that the labels' {key} is {told}, but it is {np.round(values, 4).tolist()} {DEGREES}"
            faults.append(Fault(what, "build again", dataset.folder / INFO))
    return faults


def _check_digest(dataset: Dataset, digest: str) -> list[Fault]:
    """Return the fault that ``dataset.json`` says another hash of ids, poses and boxes than the one found."""
    told = dataset.info.labels_sha256
    if told in (None, digest):
        return []
    what = f"changed since the build: expected the labels_sha256 {digest}, found {told}"
    return [Fault(what, BUILD_AGAIN, dataset.folder / INFO)]


def _check_union(union: Dataset, checked: dict[str, _Checked]) -> _Checked:
    """Check a dataset that joins others, which were checked before."""
    names = union.info.joins or []
    faults = _check_description(union)
    opened = [_open(union.folder.parent / name) for name in names]
    if of_parts := tuple(part for part in opened if isinstance(part, Fault)):
        return _Checked(union, faults, faults_of_parts=of_parts)
    try:
        rows = sum(part.info.rows for part in union.parts())
    except MissingShardError:  # told with the part
        return _Checked(union, faults)
    except HeadposeError as error:
        return _Checked(union, [*faults, error.fault])
    if rows != union.info.rows:
        what = f"says {union.info.rows} rows, but its parts have {rows}"
        faults.append(Fault(what, "build again", union.folder / INFO))
    joined = [checked[name] for name in names if name in checked]
    if len(joined) < len(names) or not rows or any(part.shards_damaged for part in joined):
        return _Checked(union, faults)
    labels = statistics(np.concatenate([part.angles for part in joined]))
    digests = [part.digest for part in joined]
    if None in digests:  # why is told with the part
        return _Checked(union, faults, labels=labels)
    digest = content_hash(digests)
    return _Checked(union, [*faults, *_check_digest(union, digest)], labels=labels, digest=digest)


# ---- all


def _compare_sequences(
    biwi_plus: _Checked, listed: dict[str, ListedSequence]
) -> tuple[list[SequenceLabels], list[Fault]]:
    """Compare each sequence in Biwi+ with the manifest, where exactly its frames are there."""
    ids = biwi_plus.ids.astype("U")
    index = {name: i for i, name in enumerate(ids.tolist())}
    comparisons, faults = [], []
    for row in listed.values():
        wanted = [frame_id(row.name, number) for number in row.numbers]
        present = [index[name] for name in wanted if name in index]
        of_sequence = np.char.startswith(ids, f"biwi/{row.name}/").sum()
        labels = LabelCheck("not comparable: absent frames" if present else "absent")
        if wanted and len(present) == len(wanted) == of_sequence:
            folder = biwi_plus.dataset.folder
            labels, deviations = compare_labels(biwi_plus.angles[present], row, folder, f"sequence {row.name}: ")
            faults += deviations
        comparisons.append(
            SequenceLabels(
                row.name, len(wanted), len(present), labels.state, labels.mean, labels.std, labels.difference
            )
        )
    return comparisons, faults


def _compare_stills(checked: _Checked, listed: dict[str, ListedSequence]) -> tuple[list[SequenceLabels], list[Fault]]:
    """Compare a dataset of stills with the manifest's part that it should hold, where exactly that is there."""
    row, folder = listed.get(manifest.TESTED), checked.dataset.folder
    if row is None:
        return [], []
    stills = STILLS[checked.dataset.name]
    wanted, present = {stills.id(number) for number in row.numbers}, set(checked.ids.astype("U").tolist())
    labels = LabelCheck("not comparable: absent images")
    deviations: list[Fault] = []
    if wanted == present:
        labels, deviations = compare_labels(checked.angles, row, folder, mend=BUILD_AGAIN)
    found = SequenceLabels(
        row.name, len(wanted), len(wanted & present), labels.state, labels.mean, labels.std, labels.difference
    )
    return [found], deviations


def _row(checked: _Checked) -> DatasetCheck:
    """Return a dataset's row of the report."""
    info = checked.dataset.info
    return DatasetCheck(
        name=checked.dataset.name,
        folder=str(checked.dataset.folder),
        rows=info.rows,
        bytes=checked.bytes,
        hashes=checked.hashes,
        shards=len(info.shards),
        shards_damaged=checked.shards_damaged,
        labels=checked.labels,
        labels_sha256=checked.digest,
        state=count(len(checked.faults)) if checked.faults else "whole",
    )


def _warnings(datasets: dict[str, Dataset]) -> list[Fault]:
    """Return what a reader should know of datasets that are as they were built."""
    warnings = [fault for dataset in datasets.values() for fault in misplaced_boxes(dataset)]
    if "synbiwi+" in datasets and "biwi+" in datasets:
        synbiwi, biwi_plus = datasets["synbiwi+"], datasets["biwi+"]
        if synbiwi.info.matched_sha256 != biwi_plus.info.content_sha256:
            what = "was matched with another Biwi+ than that beside it"
            warnings.append(Fault(what, "build with both raw datasets", synbiwi.folder))
    return warnings


def verify_data(folder: Path | str, manifest_file: Path | str | None = None, deep: bool = False) -> DataReport:
    """Check built datasets against their ``dataset.json``.

    Parameters
    ----------
    folder
        That a build wrote to, or one dataset's folder.
    manifest_file
        Has the label statistics of Biwi's sequences; the project's own if None.
    deep
        Decode every crop too.

    Raises
    ------
    HeadposeError
        If there is no dataset at all, or the manifest cannot be read.
    """
    folder, manifest_file = Path(folder), Path(manifest_file) if manifest_file else None
    table = manifest.read(manifest_file)
    opened = [_open(place) for place in _find(folder)]
    datasets = {dataset.name: dataset for dataset in opened if isinstance(dataset, Dataset)}
    faults = [fault for fault in opened if isinstance(fault, Fault)]
    shards = sum(len(dataset.info.shards) for dataset in datasets.values())
    checked: dict[str, _Checked] = {}
    with progress(shards, "built datasets", "shard") as bar:
        for name, dataset in datasets.items():  # a union comes after its parts
            if dataset.info.joins:
                checked[name] = _check_union(dataset, checked)
            else:
                checked[name] = _check_dataset(dataset, deep, bar.update)
    sequences, union = None, None
    if "biwi+" in checked:
        sequences, deviations = _compare_sequences(checked["biwi+"], manifest.listed_sequences(table))
        checked["biwi+"] = checked["biwi+"]._replace(faults=[*checked["biwi+"].faults, *deviations])
    stills: dict[str, list[SequenceLabels]] = {}
    for name in STILLS.keys() & checked.keys():
        parts, deviations = _compare_stills(checked[name], manifest.listed_units(table, name))
        stills |= {name: parts} if parts else {}
        checked[name] = checked[name]._replace(faults=[*checked[name].faults, *deviations])
    if "synhead++" in checked and (labels := checked["synhead++"].labels):
        union = BesidePublished(labels, PUBLISHED_SYNHEAD_PP)
    for check in checked.values():
        faults += [*check.faults, *check.faults_of_parts]
    return DataReport(
        manifest=manifest_used(manifest_file),
        deep=deep,
        folder=str(folder),
        datasets=[_row(check) for check in checked.values()],
        statistics=Comparisons(sequences, union, stills or None),
        bytes_read=sum(check.bytes for check in checked.values()),
        hashes_checked=sum(check.hashes for check in checked.values()),
        warnings=_warnings(datasets),
        faults=in_order(faults),
    )
