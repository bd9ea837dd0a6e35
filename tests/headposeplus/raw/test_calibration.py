"""Every command that takes ``--biwi`` notices a calibration that is another sequence's."""

import shutil
from pathlib import Path

import click
import pytest

from benchmark.cli.main import main
from headposeplus.boxes.files import write_boxes
from headposeplus.boxes.sources import project_heads

# Sequence 06 is of the other calibration group: with its rgb.cal, 01's poses are about a degree off.
SAYS = "not the calibration of this sequence, whose group is A; restore it from the raw archive"


def state(folder):
    """What a folder holds, and when each of its files was last written."""
    return {(path, path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def made(built, tiny, tmp_path_factory):
    """The raw copy, and what the commands need beside it, made from one that is whole. No test changes them."""
    folder = tmp_path_factory.mktemp("swapped")
    raw = Path(shutil.copytree(tiny, folder / "raw"))
    shutil.copy(tiny / "hpdb/06/rgb.cal", raw / "hpdb/01/rgb.cal")
    boxes, faults, _ = project_heads(tiny / "hpdb", 1, tiny / "data_manifest.csv")
    assert not faults
    write_boxes(folder / "boxes.csv", boxes)
    (folder / "poses.csv").write_text("id,pitch,yaw,roll\nbiwi/01/00003,-7.70527,-3.05309,1.99114\n")
    before = state(folder)
    yield {
        "BIWI": raw / "hpdb", "SYNHEAD": raw / "synhead2_release", "MANIFEST": raw / "data_manifest.csv",
        "BOXES": folder / "boxes.csv", "POSES": folder / "poses.csv", "DATA": built[0],
    }  # fmt: skip
    assert state(folder) == before


@pytest.fixture
def inputs(made, tmp_path):
    return made | {"OUT": tmp_path / "out"}


# Each command as it is typed, and its exit status. None of them may use the calibration.
COMMANDS = {
    "verify": ("verify --biwi BIWI --manifest MANIFEST --jobs 1", 3),
    "boxes project": ("boxes project --biwi BIWI --manifest MANIFEST --out OUT.csv --jobs 1", 3),
    "boxes detect": ("boxes detect --biwi BIWI --manifest MANIFEST --out OUT.csv --jobs 1", 3),
    "boxes import": ("boxes import BOXES --biwi BIWI --manifest MANIFEST --out OUT.csv --jobs 1", 3),
    "boxes compare": ("boxes compare BOXES BOXES --biwi BIWI --manifest MANIFEST", 3),
    "boxes review": ("boxes review BOXES --biwi BIWI --manifest MANIFEST --out OUT.html --jobs 1", 3),
    "build-datasets": ("build-datasets --biwi BIWI --manifest MANIFEST --out OUT --size 16 --jobs 1", 3),
    "inspect": ("inspect DATA --biwi BIWI --out OUT", 0),
    "convert": (
        "convert POSES OUT.csv --from pyr --to pyr --from-camera depth --to-camera rgb --biwi BIWI", 1,
    ),
}  # fmt: skip
# Their poses stay in the depth camera, so no calibration is read.
WITHOUT = {"render", "render-order"}


def commands(group, name=""):
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name}{word} ")
        else:
            yield f"{name}{word}", {option for parameter in command.params for option in parameter.opts}


def test_every_command_with_biwi_is_tried():
    assert {name for name, options in commands(main) if "--biwi" in options} == COMMANDS.keys() | WITHOUT


@pytest.mark.parametrize("name", COMMANDS)
def test_a_calibration_of_another_sequence_is_told(name, inputs, hpp, tmp_path):
    if name == "boxes detect":
        pytest.importorskip("dlib")
    words, status = COMMANDS[name]
    typed = words
    for key, path in inputs.items():
        typed = typed.replace(key, str(path))
    output = hpp(*typed.split(), expect=status).output
    if name == "inspect":  # the remark stands below the picture
        output = (tmp_path / "out/card.md").read_text()
    assert f"{inputs['BIWI'] / '01/rgb.cal'}: {SAYS}" in " ".join(output.split()), output
    if name == "convert":
        assert not (tmp_path / "out.csv").exists()


def test_poses_in_the_depth_camera_need_no_calibration(inputs, hpp):
    words = ("render-order", "--synhead", inputs["SYNHEAD"], "--jobs", 1)
    before = hpp(*words).stdout
    after = hpp(*words, "--biwi", inputs["BIWI"]).stdout
    assert before.splitlines()[0] == after.splitlines()[0]
