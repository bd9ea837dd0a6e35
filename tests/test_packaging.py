"""An installation holds all that the code reads, wherever it lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
CODE = """
import sys
import headposeplus, benchmark
assert headposeplus.__file__.startswith(sys.argv[1]), headposeplus.__file__
from benchmark.board import published, site
from benchmark.scoring import protocols
from headposeplus.boxes import review
from headposeplus.raw import manifest, subsets
assert len(manifest.read()) > 90
assert len(subsets.find("biwi/female").ids) > 1000
assert len(protocols.frozen()) > 30 and len(published.published()) > 20
assert "<html" in site.board_page([])
from benchmark import compare, evaluate
from benchmark.cli.main import main
main(["subsets"])
"""


@pytest.mark.slow
@pytest.mark.skipif(UV is None, reason="uv is needed to install the project into a folder")
def test_an_installation_into_a_folder_finds_its_data(tmp_path):
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, tracked):
        if name.split("/")[0] not in ("tests", "results", "docs"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    target = tmp_path / "target"
    install = [UV, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", target, source]
    subprocess.run(install, check=True, capture_output=True)
    # Isolated from this clone, but with the packages that the project needs.
    code = f"import sys; sys.path.insert(0, {str(target)!r})\n" + CODE
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(target)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "biwi/female" in done.stdout
