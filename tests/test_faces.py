"""What people import from the packages, without naming a room."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark
import headposeplus
from headposeplus import (
    HeadposeError,
    Options,
    Source,
    build_datasets,
    open_dataset,
    read_boxes,
    verify_data,
    verify_raw,
    write_miniature,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("package", [headposeplus, benchmark], ids=lambda package: package.__name__)
def test_every_public_name_is_there_and_no_other(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name and name in dir(package)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_what_a_type_checker_sees_is_what_is_handed_on():
    text = (ROOT / "headposeplus/__init__.py").read_text(encoding="utf-8")
    seen = dict(reversed(pair) for pair in re.findall(r"    from ([\w.]+) import (\w+) as \2", text))
    assert seen == headposeplus._ROOMS
    for name, room in seen.items():
        assert getattr(headposeplus, name) is getattr(importlib.import_module(room), name)


def test_a_face_imports_nothing_before_it_is_asked():
    code = (
        "import sys, headposeplus, benchmark; print([m for m in ('numpy', 'cv2', 'torch', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_paths_may_be_texts(tiny, tmp_path):
    """As people write them in notebooks."""
    raw, data = str(tiny), str(tmp_path / "data")
    write_miniature(raw, "tiny")
    manifest = f"{raw}/data_manifest.csv"
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("id,x,y,width,height\n01/frame_00049,200,150,120,150\n")
    assert len(read_boxes(str(boxes)).ids) == 1
    built = build_datasets(Source(biwi=f"{raw}/hpdb", manifest=manifest), data, Options(size=32))
    assert open_dataset(f"{data}/biwi+").info == built.datasets[0].info
    assert not verify_raw(f"{raw}/hpdb", f"{raw}/synhead2_release", manifest).faults
    assert not verify_data(data, manifest).faults


def test_a_miniature_of_no_known_scale_is_told(tmp_path):
    with pytest.raises(HeadposeError, match="there is no scale 'large'; there are tiny, small, study, "):
        write_miniature(tmp_path, "large")
