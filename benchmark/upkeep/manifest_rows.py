"""The rows of the manifest for a dataset of stills, measured on a full raw copy.

``python -m benchmark.upkeep.manifest_rows aflw2000 FOLDER`` prints them as lines of ``data_manifest.csv``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from pathlib import Path

import numpy as np

from headposeplus.raw import manifest
from headposeplus.raw.targets import STILLS
from headposeplus.rotations import Floats, from_matrix


def rows(name: str, folder: Path) -> str:
    """Return the rows of both parts of a dataset of stills: what it holds, and what its rule leaves out.

    Raises
    ------
    RawDataError
        If a label is damaged: only a whole copy can be measured.
    """
    stills = STILLS[name]
    found, faults = stills.list_stills(stills.find_root(folder))
    if faults:
        raise SystemExit(str(faults[0]))
    parts: dict[str, dict[int, Floats]] = {manifest.TESTED: {}, manifest.BEYOND: {}}
    for still in found:
        label = stills.read_label(still.label)
        parts[manifest.BEYOND if label.beyond else manifest.TESTED][still.number] = label.rotation
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for unit, rotations in parts.items():
        if not rotations:
            continue
        numbers = sorted(rotations)
        files = [f"{stills.stem.format(number)}{stills.image}" for number in numbers]
        listed = hashlib.sha256("\n".join(files).encode()).hexdigest()
        statistics = ["", "", "", "", "", ""]
        if unit == manifest.TESTED:
            angles = from_matrix(np.array([rotations[number] for number in numbers]))
            statistics = [f"{value:.4f}" for value in (*angles.mean(axis=0), *angles.std(axis=0))]
        source = f"{stills.title} as distributed: pyr of its ypr, RGB camera"
        ranges = manifest.to_ranges(numbers)
        writer.writerow(
            [name, unit, "", "", len(numbers), numbers[0], numbers[-1], ranges, listed, "", *statistics, source]
        )
    return out.getvalue()


if __name__ == "__main__":
    print(rows(sys.argv[1], Path(sys.argv[2])), end="")
