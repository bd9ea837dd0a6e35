"""What ``make`` and the Dockerfile install; the package index is played by a stand-in for uv."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
EXTRAS = SETUP["options.extras_require"]
UV = """#!/bin/sh
echo "$@" >> uv.log
case "$*" in *--torch-backend*) test "$REACHABLE" ;; esac
"""


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def make(tmp_path):
    """Run make with a stand-in for uv; return its status, what it printed, and the words that uv got."""
    for name in ("Makefile", "requirements.lock", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    script(tmp_path / ".venv/bin/uv", UV)

    def run(*words, machine="Linux x86_64", gpu=False, reachable=True):
        script(tmp_path / "bin/uname", f"#!/bin/sh\necho {machine}\n")
        script(tmp_path / "bin/nvidia-smi", f"#!/bin/sh\nexit {0 if gpu else 9}\n")
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "TORCH", "EXTRAS"):  # of the make that runs these tests
            environment.pop(name, None)
        environment["REACHABLE"] = "yes" if reachable else ""
        (tmp_path / "uv.log").write_text("")
        done = subprocess.run(
            ["make", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        said = [line for line in done.stdout.splitlines() if "VIRTUAL_ENV=" not in line]
        return done.returncode, said, (tmp_path / "uv.log").read_text().splitlines()

    if shutil.which("make") is None:
        pytest.skip("there is no make")
    return run


CPU = "pip install --constraint requirements.lock --no-deps torch torchvision --no-verify-hashes --torch-backend cpu"
RUNTIME = (
    "pip install --constraint requirements.lock --build-constraint requirements.lock --compile-bytecode "
    "--editable .[miniature]"
)
SIZE = "torch comes with CUDA: about 3.0 GB to download, 5.5 GB on disk."


def test_without_a_gpu_the_cpu_build_of_torch_is_taken(make):
    assert make("install") == (0, [], [f"{CPU} --dry-run --quiet", CPU, RUNTIME])


def test_where_the_cpu_build_cannot_be_had_this_is_said_before_the_download(make):
    status, said, asked = make("install", reachable=False)
    assert (status, asked) == (0, [f"{CPU} --dry-run --quiet", RUNTIME])
    assert said == [
        "There is no GPU here, but PyTorch's index of CPU builds gives none (make install TORCH=cpu says why).",
        f"So {SIZE}",
    ]


def test_with_a_gpu_the_size_is_said(make):
    assert make("install", gpu=True) == (0, [f"There is a GPU here: {SIZE}"], [RUNTIME])


@pytest.mark.parametrize("machine", ["Linux aarch64", "Darwin arm64"])
def test_elsewhere_the_package_index_has_cpu_builds(make, machine):
    assert make("install", machine=machine) == (0, [], [RUNTIME])


def test_a_build_that_is_asked_for_is_taken_or_the_command_fails(make):
    assert make("install", "TORCH=cpu", reachable=False)[0] == 2
    status, _, asked = make("install", "TORCH=cu126", "EXTRAS=serve,parquet", gpu=True)
    assert status == 0 and asked[0].endswith("--reinstall --no-verify-hashes --torch-backend cu126")
    assert asked[1].endswith("--editable .[serve,parquet]") and len(asked) == 2


def test_tests_add_all_extras_to_what_is_there(make):
    make("install")
    status, _, asked = make(".venv/.ready")
    assert status == 0 and len(asked) == 1 and asked[0].endswith("--all-extras --requirement setup.cfg --editable .")
    assert make(".venv/.installed", ".venv/.ready")[2] == []  # which demo and test need next


def test_every_requirement_is_locked_with_hashes():
    blocks = re.findall(r"^([a-z0-9-]+)==.*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", LOCK, re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^[a-z0-9]", LOCK, re.MULTILINE)) > 100
    needed = "\n".join([SETUP["options"]["install_requires"], *EXTRAS.values()])
    names = {re.sub("[-_.]+", "-", name.lower()) for name in re.findall(r"^([A-Za-z0-9_.-]+)", needed, re.MULTILINE)}
    assert names - {name for name, _ in blocks} == set(), "run make lock"


def test_the_dockerfile_copies_what_is_there_and_installs_extras_that_exist():
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored and sorted(f"!{name}" for name in copied) == sorted(filter(re.compile("!").match, ignored))
    assert all((ROOT / name).exists() for name in copied)
    assert set(re.search(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)[1].split(",")) <= set(EXTRAS)
    targets = re.findall(r"make (\S+)", "\n".join(re.findall(r"^RUN (.*)$", DOCKERFILE, re.MULTILINE)))
    rules = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(VENV)", ".venv")
    assert len(targets) == 3 and all(f"\n{name}:" in rules for name in targets if name != "&&")
    [command] = re.findall(r'^ENTRYPOINT \["(.*)"\]$', DOCKERFILE, re.MULTILINE)
    assert f"{command} = " in SETUP["options.entry_points"]["console_scripts"]


def test_the_page_on_installing_names_each_extra_and_the_sizes_that_make_says():
    page = " ".join((ROOT / "docs/installing.md").read_text(encoding="utf-8").split())
    listed = page.partition("installs other extras: ")[2].partition("## ")[0]
    assert set(re.findall(r"(?:, |^)`([a-z]+)`", listed)) == set(EXTRAS)
    assert set(re.findall(r"EXTRAS=([a-z,]+)", page)) <= {"serve,parquet", "miniature,detect"}
    assert set(re.findall(r"[\d.]+ GB", SIZE)) <= set(re.findall(r"[\d.]+ GB", page))
    for name in re.findall(r"make install ([A-Z]+)=", page):
        assert f"\n{name} ?= " in (ROOT / "Makefile").read_text(encoding="utf-8")
