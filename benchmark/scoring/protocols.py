"""Protocols: what a score means. Frozen files with an id, and one of one's own data where none fits."""

from __future__ import annotations

import difflib
import hashlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
import tomli_w
from msgspec import Meta, Struct
from msgspec.structs import replace

from benchmark.scoring import parse
from benchmark.scoring.labels import Labels
from benchmark.scoring.metrics import NEARER_TRIPLE
from headposeplus import tables
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, plural, said, shown
from headposeplus.files import content_hash, listing, write_text
from headposeplus.raw import manifest, subsets
from headposeplus.raw.manifest import ids_sha256
from headposeplus.raw.subsets import Subset
from headposeplus.raw.targets import BIWI_PLUS, STILLS, TARGETS, join_task, listed_ids, of_protocol, split_task
from headposeplus.rotations import Floats, from_matrix

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LABEL_TOLERANCE = 1e-3  # degrees, of the means and deviations of the test labels
TASKS = {
    "da": "the label spaces of source and target agree",
    "pda": "the target's label space is a subset of the source's, with another density",
    "cross": "trained on any data but the test set's own",
    "intra": "trained on one part of Biwi+, tested on another",
}
# Those that a TOML may name; the target stands behind a hyphen where it is not Biwi+.
ALL_TASKS = (*TASKS, *(join_task(kind, target) for target in STILLS for kind in ("pda", "cross")))
_NEW = "hpp protocols new writes one"
# No colon, which stands before a subset's name, and nothing that a shell or a table would take apart.
_OWN_ID = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*@\d+", re.ASCII)

Task = Literal["da", "pda", "cross", "intra"]
Convention = Literal["pyr", "biwi", "ypr"]
Camera = Literal["rgb", "depth"]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Meta(max_length=300)]
Degrees = Annotated[float, Meta(ge=-180, le=180)]


class Protocol(Struct, frozen=True, forbid_unknown_fields=True):
    """A protocol. ``frames_sha256`` is the hash of the sorted ids of the test frames, one a line.

    ``label_mean`` and ``label_std`` are of the pitch, yaw and roll of the test labels, in degrees. ``subset`` names the
    subset of the test set's frames that counts; empty where all do.
    """

    id: Annotated[str, Meta(min_length=1, max_length=300)]
    task: Task
    title: Text
    test_set: Text
    training_data: Text
    target_images: Text
    selection: Text
    convention: Convention
    camera: Camera
    metric: Text
    frames: Annotated[int, Meta(ge=1, le=10_000_000)]
    frames_sha256: Sha256
    label_mean: tuple[Degrees, Degrees, Degrees]
    label_std: tuple[Degrees, Degrees, Degrees]
    subset: Text = ""

    @property
    def sha256(self) -> str:
        """The hash of all that the protocol says."""
        return content_hash(plain(self))


def plain(protocol: Protocol) -> dict[str, object]:
    """Return what a protocol says as plain values."""
    return msgspec.to_builtins(protocol)


def hashed(protocol: Protocol) -> dict[str, object]:
    """Return what a protocol says as plain values, and the hash of that."""
    return {**plain(protocol), "sha256": protocol.sha256}


class Reference(NamedTuple):
    """What predictions are checked against: a protocol and the ids (n,) of its frames, with their labels if at hand.

    ``beyond`` are ids of the whole test set that a subset leaves out: predictions of all of them, or of none, may come
    along. ``ids`` is None where nothing at hand says which frames they are.
    """

    protocol: Protocol
    ids: np.ndarray | None
    labels: Labels | None
    beyond: frozenset[str] = frozenset()
    subset: Subset | None = None


@cache
def frozen() -> tuple[Protocol, ...]:
    """Return the frozen protocols by id: of all of Biwi+, its splits, the miniature, and the datasets of stills."""
    protocols = []
    for path in listing(Path(__file__).with_name("frozen"), ".toml"):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        protocols += [msgspec.convert(fields, Protocol) for fields in content.get("protocol", [content])]
    return tuple(sorted(protocols, key=lambda protocol: protocol.id))


def find_frozen(name: str) -> Protocol | None:
    """Return the frozen protocol of an id, or None."""
    return next((protocol for protocol in frozen() if protocol.id == name), None)


def find(id_or_file: str) -> Protocol:
    """Return a frozen protocol by its id, or that of a file as :func:`write` makes one.

    Raises
    ------
    SubmissionError
        If there is none, or the file is faulty.
    """
    known = find_frozen(id_or_file)
    if known is not None:
        return known
    path = Path(id_or_file)
    if not path.is_file():
        raise SubmissionError(Fault("no such protocol", f"{hint(id_or_file)}hpp protocols lists them", id_or_file))
    protocol = read(path)
    if find_frozen(protocol.id) is not None:
        raise SubmissionError(Fault(f"its id {protocol.id} is a frozen protocol's", "choose another", path))
    return protocol


def read(path: Path) -> Protocol:
    """Return the protocol in a TOML file; raises SubmissionError, which names the field that is wrong."""
    wrong = "not a protocol"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SubmissionError(Fault(f"{wrong}: {said(error)}", _NEW, path)) from error
    return parse.from_plain(content, Protocol, wrong, _NEW, path)


def hint(name: str) -> str:
    """Return the question whether a frozen protocol of nearly this name, or with it in its own, was meant."""
    ids = [protocol.id for protocol in frozen()]
    near = difflib.get_close_matches(name[:80], ids, 1) or [one for one in ids if name and name in one]
    return f"did you mean {near[0]}? " if near else ""


def write(path: Path, name: str, task: str, labels: Labels, title: str) -> Protocol:
    """Write the protocol of a test set of one's own, and return it; a frozen protocol's id is refused.

    Its convention and camera are those of the labels; angles are compared as ``pyr`` where the labels are rotations.

    Raises
    ------
    SubmissionError
        If the id is taken or none, the file is there already, the title is empty or too long, or nothing says the
        labels' convention or camera.
    """
    ask(labels)
    if path.exists():
        raise SubmissionError(
            Fault("there is such a file, and a protocol is never changed", "choose another name", path)
        )
    if find_frozen(name) is not None or name.startswith("local-") or not _OWN_ID.fullmatch(name):
        expected = f"`name` {shown(name)}: expected one that no frozen protocol has, with a version: lab/faces@1"
        raise SubmissionError(Fault(expected))
    if not title.strip():
        raise SubmissionError(Fault("`title` is empty", "say whose faces these are, in a few words"))
    template = _template(task)
    any_data = template.task == "cross"
    protocol = replace(
        _described(template, labels.ids, labels.rotations),
        id=name,
        title=title,
        test_set=title,
        training_data="any data" if any_data else template.training_data,
        selection="any that sees no label of the test set; say which" if any_data else template.selection,
        target_images="unlabelled test images may be used (transductive); the labels are not given out",
        convention=labels.convention or template.convention,
        camera=labels.camera,
    )
    parse.from_plain(plain(protocol), Protocol, "would not be a protocol", file=path)
    about = "# Frozen: a score names this file by its id and hash. What must change gets a new id.\n"
    write_text(path, about + tomli_w.dumps(plain(protocol)))
    return protocol


def ask(labels: Labels) -> None:
    """Raise SubmissionError where nothing says the convention or the camera of labels."""
    if labels.unsaid:
        names = " and ".join(labels.unsaid)
        give = " and ".join(f"`labels_{name}`" for name in labels.unsaid)
        example = "\n".join({"convention": 'convention = "pyr"', "camera": 'camera = "rgb"'}[x] for x in labels.unsaid)
        mend = f"give {give}, or write them into a TOML of its name beside it, such as {example!r}"
        raise SubmissionError(Fault(f"nothing says the {names} of these labels", mend, labels.source))


def for_test_set(task: str, labels: Labels) -> Protocol:
    """Return the protocol of a task on the frames of labels.

    A frozen one if frames and labels are its own. Else a local one, whose id carries the hash of both: its
    scores compare with each other and with nothing else.

    Raises
    ------
    SubmissionError
        If there is no such task, or no frozen protocol fits, and nothing says the labels' convention or camera.
    """
    ids, rotations = labels.ids, labels.rotations
    fingerprint, statistics = ids_sha256(ids), _label_statistics(rotations)
    kind, _ = split_task(task)
    for protocol in frozen():
        if protocol.task == kind and protocol.frames_sha256 == fingerprint and _labels_fit(protocol, statistics):
            return protocol
    ask(labels)
    template = _template(task)
    local = _described(template, ids, rotations)
    figures = [list(local.label_mean), list(local.label_std)]
    digest = hashlib.sha256(f"{fingerprint} {figures}".encode()).hexdigest()[:8]
    source = "Other data" if template.task == "cross" else template.training_data
    title = f"{source} to a test set of one's own"
    return replace(local, id=f"local-{digest}/{template.task}", title=title, test_set="its own", camera=labels.camera)


def _template(task: str) -> Protocol:
    """Return the frozen protocol of a whole target for a task; raises SubmissionError if there is no such task."""
    kind, target = split_task(task)
    template = find_frozen(f"{target}/{kind}@1")
    if template is not None and template.task == kind:
        return template
    frozen_ids = [protocol.id for protocol in frozen()]
    whole = [(kind, target) for target in TARGETS for kind in TASKS if f"{target}/{kind}@1" in frozen_ids]
    expected = ", ".join(join_task(kind, target) for kind, target in whole)
    raise SubmissionError(Fault(f"unknown task {task!r}: expected one of {expected}"))


def _described(template: Protocol, ids: np.ndarray, rotations: Floats) -> Protocol:
    mean, std = _label_statistics(rotations)
    frames, digest = len(ids), ids_sha256(ids)
    return replace(template, frames=frames, frames_sha256=digest, label_mean=_rounded(mean), label_std=_rounded(std))


def narrowed(protocol: Protocol, subset: Subset, rotations: Floats) -> Protocol:
    """Return the protocol on a subset's frames alone, whose labels are rotations (n, 3, 3).

    Its id ends in the subset's name and the start of its hash, so that a score on it never stands beside one on all
    frames, nor beside one on other frames of that name.
    """
    mean, std = _label_statistics(rotations)
    return replace(
        protocol,
        id=f"{protocol.id}:{subset.name}@{subset.sha256[:8]}",
        title=f"{protocol.title.partition(':')[0]}, only the frames of {subset.name}",
        test_set=f"{protocol.test_set}, {subset.name}",
        frames=len(subset.ids),
        frames_sha256=subset.sha256,
        label_mean=_rounded(mean),
        label_std=_rounded(std),
        subset=subset.name,
    )


def _label_statistics(rotations: Floats) -> tuple[Floats, Floats]:
    angles = from_matrix(rotations)
    return angles.mean(axis=0), angles.std(axis=0)


def _labels_fit(protocol: Protocol, statistics: tuple[Floats, Floats]) -> bool:
    wanted = [*protocol.label_mean, *protocol.label_std]
    return bool(np.allclose(np.concatenate(statistics), wanted, atol=LABEL_TOLERANCE, rtol=0))


def _rounded(values: Floats) -> tuple[float, float, float]:
    pitch, yaw, roll = (round(float(value), 3) for value in values)
    return pitch, yaw, roll


def reference(
    protocol: Protocol | None,
    labels: Labels,
    task: str = "",
    subset: str | None = None,
    manifest_file: Path | None = None,
) -> Reference:
    """Return the frames and labels that predictions are scored on.

    ``protocol`` None means that of ``task`` on all the labels' frames. ``subset`` narrows either to the frames of a
    name or file (:func:`headposeplus.raw.subsets.find`); ``manifest_file`` lists the frames of a copy that is not the
    real one.

    Raises
    ------
    SubmissionError
        If there is no such task, or frames or labels are not those of the protocol.
    DatasetError
        If the subset is unknown or has frames that the labels lack.
    """
    if protocol is None:
        protocol, whole = for_test_set(task, labels), labels
    else:
        whole = _own_labels(protocol, labels)
    kept, few = whole, None
    if subset is not None:
        few = subsets.find(subset, manifest_file)
        kept = whole.take(subsets.select(few, whole.ids))
        protocol = narrowed(protocol, few, kept.rotations)
    beyond = frozenset(labels.ids.tolist()) - frozenset(kept.ids.tolist())
    return Reference(protocol, kept.ids, kept, beyond, few)


def _own_labels(protocol: Protocol, labels: Labels) -> Labels:
    """Return the labels of a protocol's frames; raises SubmissionError if some are missing or they are not its own."""
    if ids_sha256(labels.ids) != protocol.frames_sha256:
        wanted = frames_of(protocol)
        rows = np.flatnonzero(np.isin(labels.ids, wanted)) if wanted is not None else np.zeros(0, int)
        if ids_sha256(labels.ids[rows]) != protocol.frames_sha256:
            some = f", {len(rows):,} of them its own" if wanted is not None else ""
            what = (
                f"not the test set of {protocol.id}: expected its {plural(protocol.frames, 'frame')}, found "
                f"{len(labels.ids):,}{some}"
            )
            mend = "frames of one's own get a protocol by hpp protocols new, or are scored with `task`"
            if wanted is not None and not len(rows):
                mend = f"give the labels of {protocol.test_set}, or name a protocol of these: hpp protocols lists them"
            elif len(rows) == len(labels.ids):
                mend = "give the labels of all its frames, also where only a `subset` is scored"
            raise SubmissionError(Fault(what, mend, labels.source))
        labels = labels.take(rows)
    if labels.camera and labels.camera != protocol.camera:
        what = f"labels of the {labels.camera} camera, but {protocol.id} is about the {protocol.camera} camera"
        mend = f"hpp convert --from-camera {labels.camera} --to-camera {protocol.camera} writes those"
        raise SubmissionError(Fault(what, mend, labels.source))
    if len(labels.ids) != protocol.frames:
        what = f"says {plural(protocol.frames, 'frame')}, its hash is that of {len(labels.ids):,}"
        raise SubmissionError(Fault(what, file=protocol.id))
    statistics = _label_statistics(labels.rotations)
    if not _labels_fit(protocol, statistics):
        what = (
            f"not the labels of {protocol.id}: expected pitch, yaw and roll with the means "
            f"{list(protocol.label_mean)} ({protocol.camera} camera), found {list(_rounded(statistics[0]))}"
        )
        mend = "are they of the other camera or convention? Say which with `labels_convention` and `labels_camera`"
        raise SubmissionError(Fault(what, mend, labels.source))
    return labels


def frames_of(protocol: Protocol) -> np.ndarray | None:
    """Return the ids (n,) of a protocol's frames, if they are a real target's, which the manifest lists; else None."""
    if subsets.is_name(protocol.subset):
        ids = list(subsets.find(protocol.subset).ids)
    else:
        ids = listed_ids(manifest.read())[of_protocol(protocol.id) or BIWI_PLUS]
    return np.array(ids) if ids_sha256(ids) == protocol.frames_sha256 else None


def without_labels(protocol: Protocol, few: Subset | None = None) -> Reference:
    """Return what predictions can be checked against where no labels are at hand; of a subset's frames, if it is given.

    Raises
    ------
    DatasetError
        If the subset has frames that the protocol lacks.
    """
    ids = frames_of(protocol)
    if few is None:
        return Reference(protocol, ids, None)
    kept = np.array(few.ids) if ids is None else ids[subsets.select(few, ids)]
    beyond = frozenset() if ids is None else frozenset(ids.tolist()) - frozenset(kept.tolist())
    name = f"{protocol.id}:{few.name}@{few.sha256[:8]}"
    return Reference(replace(protocol, id=name, frames=len(kept), subset=few.name), kept, None, beyond, few)


def whole(task: str) -> Protocol:
    """Return the frozen protocol of a task on the whole of its target; that of ``pda`` on Biwi+ if there is none."""
    kind, target = split_task(task)
    known = find_frozen(f"{target}/{kind}@1") or find_frozen("biwi+/pda@1")
    assert known is not None
    return known


def badges(protocol: Protocol) -> list[str]:
    """Return ``transductive`` and ``honour system`` where a protocol says that they hold."""
    return [word for word in ("transductive", "honour system") if word in protocol.target_images]


def newer(protocol: Protocol) -> str:
    """Return the id of the newest version of a frozen protocol; empty where it is that one."""
    name, _, version = protocol.id.rpartition("@")
    versions = [int(one.id.rpartition("@")[2]) for one in frozen() if one.id.rpartition("@")[0] == name]
    return f"{name}@{max(versions)}" if versions and int(version) < max(versions) else ""


def _titled(protocol: Protocol) -> str:
    return f"{protocol.title}; out of date, now {newest}" if (newest := newer(protocol)) else protocol.title


def table() -> str:
    """Return all frozen protocols as a table."""
    rows = [
        {
            "protocol": protocol.id,
            "frames": f"{protocol.frames:,}",
            "what": _titled(protocol),
            "sha256": protocol.sha256[:8],
        }
        for protocol in frozen()
    ]
    lines = [f"{name}: {what}" for name, what in TASKS.items()]
    lines.append("hpp protocols ID explains one; hpp subsets lists the parts of Biwi.")
    return "\n".join([tables.table(rows), "", *tables.prose(*lines)])


def explain(protocol: Protocol) -> str:
    """Return what a protocol says, as text."""
    mean = ", ".join(map(tables.rounded, protocol.label_mean))
    std = ", ".join(f"{value:.2f}" for value in protocol.label_std)
    angles = "pitch, yaw, roll" if protocol.convention == "pyr" else "pitch, yaw, roll (pyr)"
    rows = {
        "protocol": protocol.id,
        "sha256": protocol.sha256,
        "task": f"{protocol.task}: {TASKS[protocol.task]}",
        "title": _titled(protocol),
        "test set": f"{protocol.test_set}: {plural(protocol.frames, 'frame')}, sha256 {protocol.frames_sha256}",
        "training data": protocol.training_data,
        "test images": protocol.target_images,
        "selection": protocol.selection,
        "predictions": f"angles in the convention {protocol.convention}, or rotations; {protocol.camera} camera",
        "metric": protocol.metric,
        "in detail": NEARER_TRIPLE,
        "test labels": f"{angles}: mean {mean}; standard deviation {std} degrees",
    }
    marks = ", ".join(badges(protocol))
    if marks:
        rows["marks"] = marks
    return tables.pairs(rows)
