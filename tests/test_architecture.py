import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "headposeplus": {"headposeplus"},
    "baselines": {"headposeplus", "baselines"},
    "benchmark": {"headposeplus", "baselines", "benchmark"},
}
FILES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))


def imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    assert (imported(path) & set(ALLOWED)) <= ALLOWED[package]
    if package == "headposeplus":
        assert not imported(path) & {"torch", "torchvision"}


def test_headposeplus_builds_without_torch(tiny, tmp_path):
    code = f"""
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from benchmark.cli.main import main
main(["build-datasets", "--biwi", {str(tiny)!r}, "--synhead", {str(tiny)!r}, "--out", {str(tmp_path / "data")!r},
      "--size", "24", "--jobs", "1", "--render-order", "xzy---", "--manifest", {str(tiny / "data_manifest.csv")!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/synhead++/dataset.json").exists()
