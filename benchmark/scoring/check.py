"""What is wrong with predictions, all at once: faults, which keep them from being scored, and suspicions.

A suspicion is found by fitting: where the poses come much closer to the truth when their columns are swapped, their
signs turned or their convention read as another, that is said with the error that the mended file would have. The
file is never mended silently.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from benchmark.scoring.labels import Labels
from benchmark.scoring.metrics import scores
from benchmark.scoring.orders import renumbered
from benchmark.scoring.protocols import Protocol, Reference
from benchmark.scoring.submission import BLANK, POSES, REQUIRED, About, about_fault, read_about, repeated
from benchmark.scoring.suspicions import CONSTANT, SAME, UNITS, find_suspicions
from headposeplus.faults import Fault, plural, remarked, shown
from headposeplus.poses.columns import ANGLE_COLUMNS
from headposeplus.poses.tables import Poses, read
from headposeplus.raw import subsets
from headposeplus.raw.targets import BIWI_PLUS, STILLS, of_ids, of_protocol, parse_frame, split_task
from headposeplus.rotations import CONVENTIONS, Floats, geodesic, to_matrix

ON_HONOUR = "a method of the authors' own"
_RADIANS = (0.008, 0.04)  # the spread of angles in radians as a share of the labels' in degrees; exactly 0.0175


class Checked(NamedTuple):
    """What a check finds. ``rotations`` (n, 3, 3) are in the order of the test set's ids; None if there are faults.

    ``unused`` is the number of rows of frames that a subset leaves out.
    """

    faults: list[Fault]
    suspicions: list[Fault]
    about: About
    rotations: Floats | None
    unused: int = 0


def check(
    predictions: bytes, about: bytes, reference: Reference, secret: bool = False, for_board: bool = True
) -> Checked:
    """Return everything that is wrong with predictions, the bytes of a table and of a TOML.

    The convention need not be said of rotations, nor of angles whose names say it, nor the camera of photographs, which
    have but one; where they are not ``for_board``, nor what the authors say of themselves. Without labels, what needs
    them is not looked for; nor is it where they are ``secret``: neither what is found nor the time that it takes
    depends on them then.
    """
    reference = reference._replace(labels=None) if secret else reference
    said, faults = read_about(about)
    faults += against_protocol(said, reference.protocol)
    poses = read(predictions, said.convention, otherwise=reference.protocol.convention)
    target = of_protocol(reference.protocol.id) if reference.ids is None else of_ids(reference.ids)
    faults = needed(faults, poses, target, for_board)
    faults += poses.faults
    suspicions: list[Fault] = []
    rotations = None
    if len(poses.ids):
        faults += repeated(poses)
        places, of_frames = _places(poses, reference, secret)
        faults += of_frames
        faults += _too_uniform(poses, said, reference)
        if places is not None and np.isfinite(poses.rotations[places]).all():
            rotations = poses.rotations[places]
            if reference.labels is not None and not any(fault.kind == CONSTANT for fault in faults):
                convention = reference.protocol.convention
                if any(fault.field == "convention" and fault.kind == BLANK for fault in faults):
                    faults = [_with_fit(fault, poses, places, reference.labels, convention) for fault in faults]
                else:
                    suspicions = find_suspicions(poses, places, said, reference.labels, convention)
                # Angles in another unit are more than a suspicion: no method is scored so by choice.
                if any(suspicion.kind == UNITS for suspicion in suspicions):
                    faults, suspicions = faults + suspicions, []
    suspicions += [*_odd_training(said, reference), *_on_honour(said)]
    unused = int(np.isin(poses.ids, list(reference.beyond)).sum()) if reference.beyond else 0
    return Checked(faults, suspicions, said, None if faults else rotations, unused)


def needed(faults: list[Fault], poses: Poses, target: str | None, for_board: bool) -> list[Fault]:
    """Return the faults of a TOML without those of facts that nobody need say of poses of a target's frames."""
    told = {"camera"} if target in STILLS else set()
    if poses.form and (poses.form != ANGLE_COLUMNS or poses.told):
        told.add("convention")
    if not for_board:
        told |= {field for field in REQUIRED if field not in POSES}
    return [fault for fault in faults if fault.kind != BLANK or fault.field not in told]


def _with_fit(fault: Fault, poses: Poses, places: np.ndarray, labels: Labels, convention: str) -> Fault:
    """Return the fault of angles whose convention nobody says, with what they would score in each."""
    if fault.field != "convention" or fault.kind != BLANK:
        return fault
    values = poses.values[places]
    errors = {name: scores(to_matrix(values, name), labels.rotations, convention).mae for name in CONVENTIONS}
    told = ", ".join(f"{name} {errors[name]:.2f}" for name in sorted(errors, key=errors.__getitem__))
    return remarked(fault._replace(mend=""), f"the MAE would be: {told}")._replace(mend=fault.mend)


def against_protocol(about: About, protocol: Protocol) -> list[Fault]:
    """Return what in a TOML does not go with the protocol."""
    faults = []
    if about.camera not in ("", protocol.camera):
        what = f"poses in the {about.camera} camera, but {protocol.id} scores those in the {protocol.camera} camera"
        mend = f"hpp convert --from-camera {about.camera} --to-camera {protocol.camera} writes those; then say so"
        faults.append(about_fault("camera", what, mend))
    # A subset's protocol is the whole one's with the subset's name.
    whole = protocol.id.partition(":")[0]
    if about.protocol and about.protocol not in (whole, protocol.id):
        what = f"predictions for {shown(about.protocol)}, to be scored under {protocol.id}"
        faults.append(about_fault("protocol", what, "score them under their own, or change the line if that is wrong"))
    if about.task and about.protocol is None and split_task(about.task)[0] != protocol.task:
        what = f"predictions for the task {about.task}, to be scored under {protocol.id}"
        faults.append(about_fault("task", what, "score them under a protocol of their task, or change the line"))
    if about.uses_target_images and protocol.task == "intra":
        what = f"training saw test images, which {protocol.id} does not allow"
        faults.append(about_fault("uses_target_images", what, "train without them"))
    return faults


def _places(poses: Poses, reference: Reference, secret: bool) -> tuple[np.ndarray | None, list[Fault]]:
    """Return the row (m,) of each frame of the test set, None if any is missing; and what is wrong with the ids."""
    if reference.ids is None:
        return None, []
    position = {name: row for row, name in enumerate(poses.ids.tolist())}
    wanted = reference.ids.tolist()
    known = set(wanted)
    faults = []
    missing = [name for name in wanted if name not in position]
    # Who sends predictions to a service has the table of its page, and no say in its frames.
    table = "the table on the page /submit" if secret else "hpp submission template"
    extra = np.array([name not in known and name not in reference.beyond for name in poses.ids.tolist()])
    if missing and extra.any():
        names = [parse_frame(name) or name for name in poses.ids.tolist()]
        why, mend = renumbered(names, [*wanted, *reference.beyond])
        if why:
            first = shown(poses.ids[int(extra.argmax())])
            what = f"{plural(int(extra.sum()), 'id is', 'ids are')} not in the test set, the first {first}: {why}"
            return None, [poses.fault(extra, what, mend)]
    if len(missing) == len(wanted):
        mend = f"give each frame its id, such as {wanted[0]} ({table} has them all)"
        return None, [Fault(f"no id is one of the test set's, the first {shown(poses.ids[0])}", mend)]
    if missing:
        some = ", ".join(missing[:3])
        of_all = f"of {len(wanted):,} frames"
        what = f"{plural(len(missing), f'{of_all} is', f'{of_all} are')} missing, the first {some}"
        mend = f"{reference.protocol.id} scores all frames or none: {table} has a row for each"
        if not secret and not reference.protocol.subset:
            part = subsets.covered(poses.ids)
            if part:
                mend += f"; these are all of {part}: `subset` {part} scores it alone"
            else:
                mend += "; to score only those of a subset, name it with `subset` (hpp subsets lists them)"
        faults.append(Fault(what, mend))
    if extra.any():
        number = plural(int(extra.sum()), "id is", "ids are")
        what = f"{number} not in the test set, the first {shown(poses.ids[int(extra.argmax())])}"
        faults.append(
            poses.fault(
                extra, what, f"take {'this row' if extra.sum() == 1 else 'these rows'} out; an id reads {wanted[0]}"
            )
        )
    return (None if missing else np.array([position[name] for name in wanted])), faults


def _too_uniform(poses: Poses, about: About, reference: Reference) -> list[Fault]:
    """Return the fault of a constant output, or of angles that have the spread of radians."""
    good = poses.rotations[np.isfinite(poses.rotations).all(axis=(1, 2))]
    if len(good) < 2:
        return []
    if geodesic(good, good[0]).max() < SAME:
        if about.constant_output:
            return []
        meant = "constant_output = true in the TOML says it is on purpose"
        mend = f"write the predictions anew, one for each image; {meant}"
        return [Fault("every row holds the same pose", mend, kind=CONSTANT)]
    if poses.form == ANGLE_COLUMNS and reference.labels is None and len(good) >= 10:
        values = poses.values[np.isfinite(poses.rotations).all(axis=(1, 2))]
        spread = values.std(axis=0).max() / max(reference.protocol.label_std)
        if np.abs(values).max() <= np.pi and _RADIANS[0] < spread < _RADIANS[1]:
            what = "angles in radians, by their size"
            return [Fault(what, "multiply pitch, yaw and roll by 180 / pi", kind=UNITS)]
    return []


def _on_honour(about: About) -> list[Fault]:
    """Return a remark if training ran a method of the authors' own, whose code it does not watch."""
    if not about.own_method:
        return []
    what = f"{ON_HONOUR} ({shown(about.own_method)}), which is code that training does not watch"
    return [about_fault("own_method", what, "that it used no label of the target is on their honour")]


def _odd_training(about: About, reference: Reference) -> list[Fault]:
    """Return a suspicion if the training data do not read as those of the protocol."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9+]", "", text.lower())

    said, wanted = about.training_data, reference.protocol.training_data
    if not said or reference.protocol.task not in ("da", "pda") or plain(said) == plain(wanted):
        return []
    target = of_protocol(reference.protocol.id) or BIWI_PLUS
    what = f"training data {shown(said)}, where {reference.protocol.id} is about {wanted}"
    return [about_fault("training_data", what, f"other data belong under {target}/cross@1")]
