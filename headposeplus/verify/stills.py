"""Checks a raw copy of a dataset of stills against the manifest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from headposeplus.faults import Fault, plural
from headposeplus.images import check_whole
from headposeplus.raw import manifest
from headposeplus.raw.manifest import BEYOND, TESTED, ListedSequence
from headposeplus.raw.stills import Still, StillLabel, StillSet
from headposeplus.raw.targets import STILLS
from headposeplus.rotations import Floats, from_matrix
from headposeplus.tasks import run_tasks
from headposeplus.verify.reading import RESTORE_THEM, TRUNCATED, image_fault, read, state_of
from headposeplus.verify.report import LabelCheck, StillsCheck, compare_labels


class _Checked(NamedTuple):
    """A photograph that was checked: its number, its label or what is wrong with that, and with its image."""

    number: int
    label: StillLabel | Fault
    image: Fault | None


def _check_still(still: Still, dataset: str, deep: bool) -> _Checked:
    stills = STILLS[dataset]
    image = image_fault(still.image, stills.read_image if deep else check_whole)
    return _Checked(still.number, read(stills.read_label, still.label), image)


def check_stills(
    stills: StillSet, root: Path, listed: dict[str, ListedSequence], deep: bool, jobs: int
) -> tuple[list[StillsCheck], list[Fault]]:
    """Check the photographs of a raw copy: those that the dataset holds, and those that it leaves out by its rule.

    ``listed`` are the parts in the manifest. What that does not list counts to the part that its label says.
    """
    found, faults = stills.list_stills(root)
    checked = run_tasks(partial(_check_still, dataset=stills.name, deep=deep), found, jobs, f"raw {stills.title}")
    faults += [part for check in checked for part in (check.label, check.image) if isinstance(part, Fault)]
    of_part: dict[str, list[_Checked]] = {unit: [] for unit in (TESTED, BEYOND, *listed)}
    known = {number: unit for unit, row in listed.items() for number in row.numbers}
    for check in checked:
        by_label = BEYOND if isinstance(check.label, StillLabel) and check.label.beyond else TESTED
        of_part[known.get(check.number, by_label)].append(check)
    units: list[StillsCheck] = []
    for unit, mine in of_part.items():
        if mine or unit in listed:
            result, faults_of_part = _check_part(stills, root, unit, mine, listed.get(unit))
            units.append(result)
            faults += faults_of_part
    return units, faults


def _check_part(
    stills: StillSet, root: Path, unit: str, checked: list[_Checked], listed: ListedSequence | None
) -> tuple[StillsCheck, list[Fault]]:
    """Compare a part of a raw copy with the manifest's."""
    expected, present = set(listed.numbers) if listed else set(), {check.number for check in checked}
    missing, extra = expected - present, present - expected
    faults = []
    if missing:
        what = f"{len(missing)} of {len(expected)} images of the part {unit} missing: {manifest.to_ranges(missing)}"
        faults.append(Fault(what, RESTORE_THEM, root))
    if extra:
        what = f"{plural(len(extra), 'image')} that the manifest does not list: {manifest.to_ranges(extra)}"
        faults.append(Fault(what, "move them away", root))
    images = [check.image for check in checked if check.image]
    truncated = sum(fault.kind == TRUNCATED for fault in images)
    unreadable = {
        check.number
        for check in checked
        if isinstance(check.label, Fault) or (check.image and check.image.kind != TRUNCATED)
    }
    labels, label_faults = _check_labels(root, unit, checked, listed)
    result = StillsCheck(
        dataset=stills.name,
        unit=unit,
        expected=len(expected),
        present=len(expected & present),
        missing=len(missing),
        extra=len(extra),
        unreadable=len(unreadable),
        truncated=truncated,
        missing_frames=manifest.to_ranges(missing),
        extra_frames=manifest.to_ranges(extra),
        labels=labels,
    )
    remarks = {"labels deviate": bool(label_faults), "not in the manifest": not listed}
    state = state_of(result, remarks) if checked else "absent"
    return msgspec.structs.replace(result, state=state), [*faults, *label_faults]


def _check_labels(
    root: Path, unit: str, checked: list[_Checked], listed: ListedSequence | None
) -> tuple[LabelCheck, list[Fault]]:
    """Compare the label statistics of a part with the manifest, where exactly its photographs can be read."""
    rotations: dict[int, Floats] = {
        check.number: check.label.rotation for check in checked if isinstance(check.label, StillLabel)
    }
    if listed is None or not rotations or rotations.keys() != set(listed.numbers):
        return LabelCheck("not comparable: other images"), []
    stacked = np.array([rotations[number] for number in sorted(rotations)])
    return compare_labels(
        from_matrix(stacked), listed, root, f"part {unit}: ", "restore the labels from the raw archive"
    )
