"""What lies beside predictions: those of other seeds, of every epoch, and under other batch statistics."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from benchmark.scoring import selection
from benchmark.scoring.check import Checked, check
from benchmark.scoring.entry import OtherStatistics
from benchmark.scoring.figures import rounded
from benchmark.scoring.labels import Labels
from benchmark.scoring.metrics import scores
from benchmark.scoring.protocols import Reference
from benchmark.scoring.submission import about_fault, about_path, of_other_statistics, placed, read_files, stop
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault
from headposeplus.files import content_hash, sha256
from headposeplus.rotations import Floats, to_matrix

DIGITS = 4  # of an entry's figures
# What several seeds of one method have in common.
_SAME = ("name", "authors", "training_data", "selection", "uses_target_images", "preset", "preset_changes", "augment")


def check_seeds(paths: list[Path], checked: list[Checked], hashes: list[str], for_board: bool) -> None:
    """Raise SubmissionError if several files are not the seeds of one method, which a board has to be told."""
    if len(paths) == 1:
        return
    first = checked[0].about
    for path, other in zip(paths[1:], checked[1:], strict=True):
        for field in _SAME:
            theirs, mine = getattr(other.about, field), getattr(first, field)
            if mine != theirs:
                what = f"{field} is {theirs!r}, in {about_path(paths[0])} {mine!r}"
                mend = "several files are the seeds of one method: score others one by one"
                raise SubmissionError(Fault(what, mend, about_path(path)))
    if len(set(hashes)) < len(hashes):
        twice = next(path for place, path in enumerate(paths) if hashes[place] in hashes[:place])
        raise SubmissionError(
            Fault("the same predictions as in another of these files", "give each seed its own", twice)
        )
    seeds = [file.about.seed for file in checked]
    known = [seed for seed in seeds if seed is not None]
    if (for_board and len(known) < len(seeds)) or len(set(known)) < len(known):
        fault = about_fault("seed", f"seeds {seeds}", "give each of several files a seed of its own in its TOML")
        raise SubmissionError(placed(fault, paths[-1]))


class Selected(NamedTuple):
    """Rotations (1, n, 3, 3) of the epoch, counted from 1, that a rule takes; its words, and a hash of both."""

    rotations: Floats
    sha256: str
    rule: str
    epoch: int


def selected(rule: str, paths: list[Path], labels: Labels, reference: Reference) -> Selected:
    """Return the predictions of the epoch that a rule takes; raises SubmissionError if they are not at hand."""
    if len(paths) > 1:
        raise SubmissionError(Fault("`selection` takes the predictions of one run", "score the others one by one"))
    path = paths[0].with_name(selection.EPOCHS)
    epochs = selection.read_epochs(path, labels.ids, labels.source)
    epoch, words = selection.find_epoch(rule, epochs, labels.rotations, reference.protocol.convention)
    assert reference.ids is not None
    chosen = np.isin(labels.ids, reference.ids)
    rotations = to_matrix(epochs.angles[epoch])[chosen][None]
    return Selected(rotations, content_hash([sha256(path), rule]), words, epoch + 1)


def other_statistics(path: Path, reference: Reference) -> OtherStatistics | UnsetType:
    """Return the scores of the predictions under other batch statistics that lie beside some, if any do."""
    assert reference.labels is not None
    statistics = OtherStatistics()
    for kind in OtherStatistics.__struct_fields__:
        other = of_other_statistics(path, kind)
        if other.exists() and about_path(other).exists():
            checked = check(*read_files(other), reference)
            stop(other, checked.faults)
            assert checked.rotations is not None
            errors = scores(checked.rotations, reference.labels.rotations, reference.protocol.convention)
            statistics = replace(statistics, **{kind: rounded(errors, DIGITS)})
    return UNSET if statistics == OtherStatistics() else statistics
