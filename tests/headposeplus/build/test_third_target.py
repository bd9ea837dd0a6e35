"""A third target of photographs is what the page on the house says: a file, two lines, a row and a protocol."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
READER = '''
"""Reader of a made-up dataset: a PNG, and beside it a line of pitch, yaw, roll (pyr), the head's x and y, its scale."""

from pathlib import Path

import numpy as np

from headposeplus.errors import RawDataError
from headposeplus.faults import RESTORE, Fault
from headposeplus.raw.stills import StillLabel, StillSet
from headposeplus.rotations import to_matrix


def read_label(path: Path) -> StillLabel:
    """Return the label of a file."""
    try:
        numbers = [float(word) for word in path.read_text().split(",")]
        pitch, yaw, roll, x, y, scale = numbers
    except (OSError, ValueError) as error:
        raise RawDataError(Fault(f"expected six numbers: {error}", RESTORE, path)) from error
    return StillLabel(to_matrix([pitch, yaw, roll]), np.array([x, y]), scale)


FACES = StillSet(
    name="faces", title="Faces of the lab", stem="photo{:04d}", image=".png", label=".csv", pixels=(300, 200),
    convention="pyr", limit="nothing", box_source="by-hand", what="Faces.", terms="ours", citation="us",
    read_label=read_label,
)
'''
# Commands in one process, each with a NUL behind what it prints.
SEVERAL = """
import json, sys
from benchmark.cli.main import main
for words in json.loads(sys.argv[1]):
    assert not main(words, prog_name="hpp", standalone_mode=False), words
    print(end=chr(0))
"""
ANGLES = np.random.default_rng(0).uniform(-50, 50, (9, 3)).round(2)


@pytest.fixture
def house(tmp_path):
    """A copy of the project with the new target, and a function that runs its command line."""
    copy = tmp_path / "project"
    for package in ("headposeplus", "baselines", "benchmark"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "data_manifest.csv", copy)
    (copy / "headposeplus/raw/faces.py").write_text(READER)
    for path, old, new in (
        ("headposeplus/raw/targets.py", "in (aflw2000.AFLW2000,)", "in (aflw2000.AFLW2000, faces.FACES)"),
        ("headposeplus/raw/targets.py", "import aflw2000, ", "import aflw2000, faces, "),
        ("benchmark/cli/common.py", 'RAW_STILLS = {"aflw', 'RAW_STILLS = {"faces": "Faces of the lab", "aflw'),
    ):
        text = (copy / path).read_text()
        assert old in text
        (copy / path).write_text(text.replace(old, new))

    def run(*words, expect=0):
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=copy, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(copy)},
        )  # fmt: skip
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    def several(*commands):
        told = run("-c", SEVERAL, json.dumps([[str(word) for word in words] for words in commands])).split(chr(0))
        assert told.pop() == "" and len(told) == len(commands)
        return told

    return copy, run, several


@pytest.mark.slow
def test_a_third_target_is_one_file_and_its_rows(house, tmp_path):
    copy, run, several = house
    raw, data, predictions = tmp_path / "raw/faces", tmp_path / "data", tmp_path / "mine.csv"
    raw.mkdir(parents=True)
    for number, angles in enumerate(ANGLES):
        cv2.imwrite(str(raw / f"photo{number:04d}.png"), np.full((200, 300, 3), 20 * number, np.uint8))
        (raw / f"photo{number:04d}.csv").write_text(",".join(map(str, [*angles, 150, 100, 0.6])))
    with (copy / "data_manifest.csv").open("a") as file:
        file.write(run("-m", "benchmark.upkeep.manifest_rows", "faces", raw))
    frozen = copy / "benchmark/scoring/frozen"
    several(["protocols", "new", tmp_path / "p.toml", "--id", "x/y@1", "--title", "F", "--labels", raw])
    text = (tmp_path / "p.toml").read_text().replace("x/y@1", "faces/cross@1")
    (frozen / "faces-cross-1.toml").write_text(text)
    pda = text.replace("faces/cross@1", "faces/pda@1").replace('task = "cross"', 'task = "pda"')
    (frozen / "faces-pda-1.toml").write_text(pda)

    verified, built, again, inspected, exported, _ = several(
        ["verify", "--faces", tmp_path / "raw"],
        ["build-datasets", "--faces", tmp_path / "raw", "--out", data, "--size", 24],
        ["verify", data],
        ["inspect", data],
        ["export", data / "faces", "--out", tmp_path / "labels.csv"],
        ["submission", "template", "--protocol", "faces/cross@1", "--out", predictions],
    )
    assert "raw Faces of the lab: complete: 9 of 9 images" in verified
    assert "9 by-hand" in built and "1 as in the manifest" in again
    assert "Faces" in inspected + (data / "inspect/card.md").read_text()
    assert "9 rows" in exported

    ids = predictions.read_text().split()[1:]
    assert ids[0] == "faces/photo0000,,,"
    rows = [f"faces/photo{number:04d},{','.join(map(str, angles + 2))}" for number, angles in enumerate(ANGLES)]
    predictions.write_text("\n".join(["id,pitch,yaw,roll", *rows]) + "\n")
    about = re.sub('= ""', '= "x"', predictions.with_suffix(".toml").read_text())
    predictions.with_suffix(".toml").write_text(about)
    checked, *scored, helped = several(
        ["check", predictions],
        ["score", predictions, "--data", data],
        ["score", predictions, "--labels", tmp_path / "raw"],
        ["benchmark", "--help"],
    )
    assert "0 faults" in checked
    for told in scored:
        assert "faces/cross@1, 9 frames" in told and re.search(r"mae +2\.00", told) and "the 9 subjects" in told
    assert "pda-faces" in helped
