"""What people import from the packages, without naming a room."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark
import headposeplus

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("package", [headposeplus, benchmark], ids=lambda package: package.__name__)
def test_every_public_name_is_there_and_no_other(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name and name in dir(package)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_what_a_type_checker_sees_is_what_is_handed_on():
    text = (ROOT / "headposeplus/__init__.py").read_text(encoding="utf-8")
    seen = dict(reversed(pair) for pair in re.findall(r"    from headposeplus\.([\w.]+) import (\w+) as \2", text))
    assert seen == headposeplus._ROOMS
    for name, room in seen.items():
        assert getattr(headposeplus, name) is getattr(importlib.import_module(f"headposeplus.{room}"), name)


def test_a_face_imports_nothing_before_it_is_asked():
    code = (
        "import sys, headposeplus, benchmark; print([m for m in ('numpy', 'cv2', 'torch', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
