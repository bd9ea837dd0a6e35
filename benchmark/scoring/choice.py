"""Which protocol predictions are scored under: the one that is named, or that follows from what is known of them.

Several protocols have the same frames and differ in what was trained on. Where that is not told, it is asked, with the
protocols that fit: none is chosen for its being there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.scoring import protocols
from benchmark.scoring.check import needed
from benchmark.scoring.label_files import LabelsAt
from benchmark.scoring.labels import Labels, read_labels
from benchmark.scoring.protocols import Protocol, Reference
from benchmark.scoring.submission import BLANK, POSES, About, about_fault, blank_fault, placed, read_about, stop
from headposeplus.errors import ChoiceError, SubmissionError
from headposeplus.faults import Fault, shown
from headposeplus.poses.tables import read
from headposeplus.raw import subsets
from headposeplus.raw.manifest import ids_sha256
from headposeplus.raw.targets import BIWI_PLUS, TARGETS, join_task, of_ids, of_protocol, split_task

_ORDER = ("cross", "pda", "da", "intra")  # what most come with stands first
_ASKED = "which protocol? That depends on what the network was trained on"


class Asked(NamedTuple):
    """What predictions are to be scored on: a protocol, or the ``task`` of one's own, on all frames or a subset's.

    Both are None where the TOML names one. ``labels`` are read once that is known, and ``found`` says in words how the
    protocol was found that nobody named.
    """

    protocol: str | Protocol | None = None
    task: str | None = None
    subset: str | None = None
    manifest_file: Path | None = None
    for_board: bool = True
    labels: Labels | None = None
    found: str = ""


class Choice(NamedTuple):
    """A protocol that fits, or a task, for networks ``trained`` on something; ``found`` says why it was taken."""

    protocol: str = ""
    task: str = ""
    subset: str = ""
    trained: str = ""
    found: str = ""

    def __str__(self) -> str:
        """Return what was trained on, and how the choice is typed."""
        name = f"`protocol` {self.protocol}" if self.protocol else f"`task` {self.task}"
        return f"trained on {self.trained}: {name}{f' `subset` {self.subset}' if self.subset else ''}"


def target_of(about: About, task: str | None = None, protocol: str | Protocol | None = None) -> str | None:
    """Return the dataset that predictions with these fields of a TOML are meant for; None if nothing says it."""
    named = protocol or (about.protocol if task is None else None)
    if named:
        return of_protocol(named if isinstance(named, str) else named.id)
    task = task or about.task
    return split_task(task)[1] if task else None


def decide(path: Path, files: tuple[bytes, bytes], labels: Path | LabelsAt | Labels | None, asked: Asked) -> Asked:
    """Return what is asked of predictions, the bytes of a table and a TOML, with their protocol and labels.

    Where neither it nor the TOML names a protocol, it is found; labels are read where there are any.

    Raises
    ------
    ChoiceError
        If none is named and several fit.
    SubmissionError
        If none is named, and the predictions cannot be read, or the labels are of other frames or no protocol's.
    DatasetError
        If there are no labels.
    """
    about, faults = read_about(files[1])
    if asked.protocol or asked.task or about.protocol or about.task:
        return asked._replace(labels=_read(labels, target_of(about, asked.task, asked.protocol)))
    stop(path, [fault for fault in faults if fault.kind != BLANK])
    poses = read(files[0], about.convention)
    if not len(poses.ids):
        stop(path, poses.faults)
    target = of_ids(poses.ids)
    truth = _read(labels, target)
    blank = [fault for fault in needed(faults, poses, target, asked.for_board) if fault.kind == BLANK]
    fitting = choices(poses.ids, truth, asked.subset, asked.manifest_file, path)
    also = placed(blank_fault(path, blank), path)._replace(file="") if blank else None
    choice = choose(fitting, about.training_data, also, path)
    return asked._replace(
        labels=truth,
        protocol=choice.protocol or None,
        task=choice.task or None,
        subset=asked.subset or choice.subset or None,
        found=choice.found,
    )


def _read(labels: Path | LabelsAt | Labels | None, target: str | None) -> Labels | None:
    return labels if labels is None or isinstance(labels, Labels) else read_labels(labels, target)


def choose(fitting: list[Choice], trained: str = "", also: Fault | None = None, file: Path | str = "") -> Choice:
    """Return the one protocol of predictions that name none: the only one, or that of what was ``trained`` on.

    Raises
    ------
    ChoiceError
        If there are several, or none: it lists those that may be meant, and what is ``also`` to be mended.
    """
    if len(fitting) == 1:
        return fitting[0]._replace(found="the only one with these frames")
    told = [choice for choice in fitting if trained and _is_of(choice, trained, fitting)]
    if len(told) == 1:
        return told[0]._replace(found=f"that of training data {shown(trained)}")
    if not fitting:
        mend = "name it with `protocol`: hpp protocols lists them, hpp protocols new writes one of your own"
        raise ChoiceError(Fault("which protocol? These frames are no frozen one's", mend, file))
    raise ChoiceError(Fault(_ASKED, file=file), tuple(map(str, fitting)), f"and {also}" if also else "")


def choices(
    ids: np.ndarray | None,
    labels: Labels | None,
    subset: str | None = None,
    manifest_file: Path | None = None,
    file: Path | str = "",
) -> list[Choice]:
    """Return the protocols that predictions with ``ids`` (n,) may be meant for, given the labels at hand.

    Both are None where there are none.

    Those of a whole test set, on the named subset that nearly all of the ids are, if there is one; those of a split
    that has these very frames; and where no frozen protocol is of the labels' frames, the tasks of one's own.

    Raises
    ------
    SubmissionError
        If no id is one of the labels', or the labels are not those of the frames' protocols.
    """
    if ids is not None and labels is not None and not np.isin(ids, labels.ids).any():
        what = f"no id is one of the labels', the first {shown(str(ids[0]))}"
        mend = f"give each frame its id, such as {labels.ids[0]}, or the labels of these frames"
        raise SubmissionError(Fault(what, mend, file))
    known = sorted(protocols.frozen(), key=_place)
    mine = ids_sha256(ids) if ids is not None and len(ids) else ""
    whole = _at_hand([one for one in known if not one.subset], ids, labels)
    exact = [one for one in known if one.subset and one.frames_sha256 == mine] if subset is None else []
    if labels is not None:
        whole, exact = [one for one in whole if _fits(one, labels)], [one for one in exact if _covers(one, labels)]
    part = ""
    if subset is None and ids is not None and whole and mine != whole[0].frames_sha256:
        part = subsets.covered(ids, manifest_file)
    found = [Choice(one.id, subset=part, trained=one.training_data) for one in whole]
    found += [Choice(one.id, trained=one.training_data) for one in exact]
    return found + (_own_tasks(labels, whole, part) if labels is not None else [])


def _place(protocol: Protocol) -> tuple[int, int, str]:
    """Return what sorts protocols: by their target, and then by what most come with."""
    target = of_protocol(protocol.id)
    return TARGETS.index(target) if target else len(TARGETS), _ORDER.index(protocol.task), protocol.id


def _own_tasks(labels: Labels, whole: list[Protocol], part: str) -> list[Choice]:
    """Return the tasks under which the labels' frames get a protocol of their own: those that no frozen one is of."""
    target = of_ids(labels.ids) or BIWI_PLUS
    templates = [protocols.find_frozen(f"{target}/{kind}@1") for kind in _ORDER]
    taken = {one.task for one in whole}
    return [
        Choice(task=join_task(one.task, target), subset=part, trained=_own_words(one, bool(whole)))
        for one in templates
        if one is not None and one.task not in taken and (not whole or one.task == "cross")
    ]


def _own_words(template: Protocol, others: bool) -> str:
    return (
        ("any other data" if others else "any data but these") if template.task == "cross" else template.training_data
    )


def _at_hand(known: list[Protocol], ids: np.ndarray | None, labels: Labels | None) -> list[Protocol]:
    """Return which protocols of whole test sets are of the labels' frames, or else of any of the ids."""
    if labels is not None:
        mine = ids_sha256(labels.ids)
        return [one for one in known if one.frames_sha256 == mine]
    of_frames: dict[str, bool] = {}
    for one in known:  # several are of the same frames
        if one.frames_sha256 not in of_frames:
            of_frames[one.frames_sha256] = _has_any(one, ids)
    return [one for one in known if of_frames[one.frames_sha256]]


def _has_any(protocol: Protocol, ids: np.ndarray | None) -> bool:
    """Return whether any of the ids is a frame of a protocol; of no ids, whether its frames are known."""
    frames = protocols.frames_of(protocol)
    if ids is None:
        return frames is not None
    return bool(np.isin(ids, frames).any()) if frames is not None else protocol.frames_sha256 == ids_sha256(ids)


def _fits(protocol: Protocol, labels: Labels) -> bool:
    """Return True; raises SubmissionError where the labels of a protocol's frames are not its own."""
    protocols.reference(protocol, labels)
    return True


def _covers(protocol: Protocol, labels: Labels) -> bool:
    """Return whether labels hold those of a split."""
    try:
        return _fits(protocol, labels)
    except SubmissionError:
        return False


def _is_of(choice: Choice, trained: str, fitting: list[Choice]) -> bool:
    """Return whether training data are a choice's: they read like its own, or like nobody's where it takes any."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9+]", "", text.lower())

    said = plain(trained)
    if said in map(plain, (other.trained for other in fitting)):
        return said == plain(choice.trained)
    takes_any = choice.task.startswith("cross") or "/cross@" in choice.protocol
    return takes_any and not any(word in said for word in ("syn", "biwi", "aflw2000"))


def find_reference(
    about: About,
    labels: Labels,
    task: str | None = None,
    subset: str | None = None,
    manifest_file: Path | None = None,
    protocol: str | Protocol | None = None,
) -> Reference:
    """Return what predictions with these fields of a TOML are scored on, where a protocol or a task is named.

    Raises
    ------
    SubmissionError
        If there is no such protocol, or the labels are not its own.
    DatasetError
        If the subset is unknown or has frames that the labels lack.
    """
    if isinstance(protocol, str):
        protocol = protocols.find(protocol)
    elif protocol is None and task is None:
        protocol = named_protocol(about)
    return protocols.reference(protocol, labels, task or about.task or "cross", subset, manifest_file)


def named_protocol(about: About) -> Protocol | None:
    """Return the frozen protocol that a TOML names; never a file, which a stranger's TOML could name."""
    name = (about.protocol or "").partition(":")[0]
    if name.startswith("local-") or (not name and about.task):
        return None
    if not name:
        what, mend = "no protocol is named", 'name it with `protocol`, or by protocol = "..." there'
        raise SubmissionError(about_fault("protocol", what, mend))
    protocol = protocols.find_frozen(name)
    if protocol is None:
        mend = f"{protocols.hint(name)}one of your own is given by `protocol`"
        raise SubmissionError(about_fault("protocol", f"the TOML names {name[:80]!r}, no frozen protocol", mend))
    return protocol


def by_parameter(mend: str, facts: About) -> str:
    """Return how to mend what a fact says wrongly: by the parameter that said it, where no line of a TOML did."""
    for name in POSES:
        if getattr(facts, name):
            mend = re.sub(rf'write {name} = "(\w+)"', rf"give `{name}` \1", mend)
    return mend
