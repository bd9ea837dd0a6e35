"""An installation holds all that the code reads, wherever it lies, and works beside folders named as ours."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest

import benchmark
import headposeplus
from benchmark.scoring import submission
from headposeplus import beside

ROOT = Path(__file__).resolve().parents[1]
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
PACKAGES = ("headposeplus", "baselines", "benchmark")
THEIRS = 'print("theirs was imported")\nWHOSE = "theirs"\n'

pytestmark = pytest.mark.skipif(UV is None, reason="uv is needed to build and install the project")


def run(*words, **options):
    """Run a command outside of this clone; return its status and what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= options.pop("env", {})
    return subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, check=False, **options
    )


def must_run(*words, **options):
    done = run(*words, **options)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def listed(*folders):
    """The files of this tree that belong to it, in folders."""
    names = must_run("git", "ls-files", "--cached", "--others", "--exclude-standard", *folders, cwd=ROOT).splitlines()
    return [name for name in names if (ROOT / name).exists()]


@pytest.fixture(scope="session")
def wheel(once):
    """The wheel of this tree, built without a network."""

    def build(out):
        for name in listed(*PACKAGES, "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "data_manifest.csv"):
            (out / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, out / "source" / name, follow_symlinks=False)
        words = ("--wheel", "--no-build-isolation", "--offline", "--python", sys.executable, "--out-dir", out)
        must_run(UV, "build", *words, out / "source")
        shutil.rmtree(out / "source")

    return next(once("wheel", build)[0].glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, once):
    """The Python of a fresh environment with the wheel, which sees the packages that the project needs."""

    def install(out):
        must_run(sys.executable, "-m", "venv", "--without-pip", out)
        python = out / "bin" / "python"
        site = Path(must_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        # A path there, unlike an environment above another one, brings no editable installation of this clone.
        (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
        must_run(UV, "pip", "install", "--offline", "--no-deps", "--python", python, wheel)

    return once("installed", install)[0] / "bin" / "python"


@pytest.fixture
def project(tmp_path):
    """A project that has packages of its own named as ours."""
    for name in ("benchmark", "baselines"):
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "__init__.py").write_text(THEIRS)
    return tmp_path / "project"


def test_all_files_of_the_packages_are_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert set(listed(*PACKAGES)) <= set(archive.namelist())


@pytest.mark.slow
def test_the_commands_of_a_wheel_run_in_a_foreign_project(installed, project):
    hpp, where = installed.with_name("hpp"), {"cwd": project, "env": {"PYTHONPATH": "."}}
    assert must_run(hpp, "--version", **where) == f"hpp, version {headposeplus.__version__}\n"
    assert "biwi+/pda@1" in must_run(hpp, "protocols", **where)
    ids, angles = [f"s{number}/a" for number in range(4)], [[0, 3, 0], [0, 0, 3], [3, 0, 0], [0, -3, 0]]
    about = submission.About("Mine", "me", task="cross", training_data="other", convention="pyr", camera="rgb",
                             selection="last", uses_target_images=False)  # fmt: skip
    submission.write_predictions(project / "mine.csv", ids, np.array(angles, float), about)
    rows = ["id,pitch,yaw,roll,subject", *(f"{name},0,0,0,{name[:2]}" for name in ids)]
    (project / "labels.csv").write_text("\n".join(rows))
    labels = ("--labels", "labels.csv", "--labels-convention", "pyr", "--labels-camera", "rgb")
    printed = must_run(hpp, "score", "mine.csv", *labels, **where)
    assert "theirs" not in printed
    assert json.loads((project / "mine-score.json").read_text())["scores"]["mae"] == pytest.approx(1)


@pytest.mark.slow
def test_an_installation_into_a_folder_finds_its_data(wheel, installed, tmp_path):
    target = tmp_path / "target"
    must_run(UV, "pip", "install", "--offline", "--no-deps", "--python", installed, "--target", target, wheel)
    code = """
import sys
import headposeplus, benchmark
assert headposeplus.__file__.startswith(sys.argv[1]), headposeplus.__file__
from benchmark.board import published, site
from benchmark.scoring import protocols
from headposeplus.boxes import review
from headposeplus.raw import manifest, subsets
assert len(manifest.read()) > 90
assert len(subsets.find("biwi/female").ids) > 1000
assert len(protocols.frozen()) > 30 and len(published.published_rows()) > 20
assert "<html" in site.board_page([])
from benchmark.cli.main import main
main(["subsets"])
"""
    where = {"cwd": tmp_path, "env": {"PYTHONPATH": str(target)}}
    assert "biwi/female" in must_run(installed, "-c", code, target, **where)
    assert must_run(target / "bin" / "hpp", "--version", **where).startswith("hpp, version ")


SCRIPT = """
import sys
import headposeplus
assert "headposeplus.beside" not in sys.modules
import pickle
import numpy as np
from headposeplus import compare, evaluate
truth = (["a/1", "b/1"], headposeplus.to_matrix([[0, 0, 0], [10, 20, 30]]))
found = evaluate(["b/1", "a/1"], headposeplus.to_matrix([[10, 26, 30], [3, 0, 0]]), labels=truth, camera="rgb")
assert round(found.scores.mae, 6) == 1.5 and isinstance(found, headposeplus.Evaluation)
assert pickle.loads(pickle.dumps(found.scores)) == found.scores
assert "torch" not in sys.modules
import baselines, benchmark
assert baselines.WHOSE == benchmark.WHOSE == "theirs"
from headposeplus.beside import load
assert load("baselines").__name__ == "headposeplus.beside.baselines" and not hasattr(load("baselines"), "WHOSE")
print("evaluated")
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import baselines, benchmark\n"], ids=["ours first", "theirs first"])
def test_the_harness_and_a_projects_own_live_in_one_process(installed, project, first):
    (project / "mine.py").write_text(first + SCRIPT)
    assert must_run(installed, "mine.py", cwd=project).splitlines()[-1] == "evaluated"


def test_where_nothing_is_in_the_way_the_face_hands_on_the_harness_itself():
    assert headposeplus.evaluate is benchmark.evaluate and headposeplus.Evaluation is benchmark.Evaluation


CHILDREN = """
import multiprocessing, os, sys
from headposeplus.beside import come_first
if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())  # as a method of one's own is looked for
    come_first()
    from benchmark.scoring import protocols
    from headposeplus.tasks import fork_server
    for context in (fork_server(["benchmark.scoring.protocols"]), multiprocessing.get_context("spawn")):
        child = context.Process(target=protocols.frozen)
        child.start()
        child.join()
        assert child.exitcode == 0
"""


@pytest.mark.slow
def test_processes_that_a_command_starts_take_our_packages(installed, project, tmp_path):
    (tmp_path / "hpp.py").write_text(CHILDREN)  # as a console script, it does not lie in the project
    done = run(installed, tmp_path / "hpp.py", cwd=project)
    assert done.returncode == 0 and "theirs" not in done.stdout + done.stderr, done.stderr


def test_words_that_start_a_python_find_our_packages(project):
    words = beside.python("import benchmark.scoring; print(benchmark.__file__)")
    assert must_run(*words, cwd=project).strip() == benchmark.__file__
