"""Commands as a shell runs them, where notebooks, settings, encodings and pipes are not as they are at home."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.training.predictions import commit

ROOT = Path(__file__).resolve().parents[3]
ODD = os.fsdecode(b"caf\xe9 \xe4")  # a folder's name in Latin-1, which is no UTF-8
# What a matplotlibrc can do to a picture, and more: TeX is not even here.
HOSTILE = """
font.size: 22
font.family: serif
figure.dpi: 31
savefig.dpi: 33
savefig.bbox: tight
savefig.transparent: True
axes.facecolor: red
axes.grid: True
lines.linewidth: 9
text.usetex: True
svg.fonttype: path
axes.prop_cycle: cycler('color', ['k'])
"""


def run(*words, folder=None, stdout=subprocess.PIPE, **environment):
    """Run ``hpp`` in a process of its own; return its status and what it printed, as bytes."""
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


def pictures(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_a_notebook_or_a_matplotlibrc_changes_no_picture(built, tmp_path, hpp):
    backend = "module://matplotlib_inline.backend_inline"  # which matplotlib refuses where there is no notebook
    hpp("inspect", built[0], "--out", tmp_path / "plain")
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    done = run("inspect", built[0], "--out", "drawn", folder=tmp_path, MPLBACKEND=backend)
    assert done.returncode == 0, done.stderr.decode()
    assert len(pictures(tmp_path / "plain")) == 4 and pictures(tmp_path / "drawn") == pictures(tmp_path / "plain")


def test_a_users_settings_stay_as_they_are_and_change_no_picture(tmp_path):
    """The pictures of pages and studies, too; in a notebook, the user's backend and settings are theirs."""
    code = """
import sys
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
plt.switch_backend("svg")
from pathlib import Path
from benchmark.board import plots
from benchmark.studies import figures
def draw(name):
    figures.intervals([("a", [figures.Interval("b", 1.0, 0.5, 2.0)])], "degrees", Path(name))
    plots.cumulative.cache_clear()
    return Path(name).read_bytes(), plots.cumulative((1.0, 2.0, 4.0), (2.0, 3.0, 5.0))
plain = draw("plain.png")
matplotlib.rcParams.update(matplotlib.rc_params_from_file(sys.argv[1], use_default_template=False))
before = dict(matplotlib.rcParams)
assert draw("hostile.png") == plain
assert dict(matplotlib.rcParams) == before and plt.get_backend() == "svg"
"""
    (tmp_path / "hostile").write_text(HOSTILE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code, "hostile"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# A command of the same group that prints what processes that it starts would inherit.
TELLS = """
import os, sys
import click
from benchmark.cli.main import main
@click.command()
def tell():
    assert "torch" not in sys.modules
    click.echo(os.environ.get("GOMP_SPINCOUNT", "unset"))
main.add_section("Test", tell)
main(["tell"])
"""


@pytest.mark.parametrize(
    ("setting", "told"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "unset")],
)
def test_threads_do_not_spin_long_unless_the_user_says_so(setting, told):
    """Which they read as torch is imported: a command is ready before that."""
    plain = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**plain, "PYTHONPATH": str(ROOT), **setting}
    words = [sys.executable, "-c", TELLS]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{told}\n", "")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_no_encoding_of_the_output_ends_a_command(tiny, tmp_path, encoding):
    folder = tmp_path / f"\u2713 {ODD}"  # a check mark, which those encodings lack
    folder.mkdir()
    words = ["--biwi", tiny / "hpdb", "--manifest", tiny / "data_manifest.csv", "--jobs", "1"]
    done = run("verify", *words, "--json", folder / "found.json", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    text = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)
    mark = "\u2713" if encoding in ("utf-8", "ascii") else r"\u2713"
    assert rf"report {tmp_path}/{mark} caf\udce9 \udce4/found.json" in text
    assert (folder / "found.json").exists()
    assert b"\r" not in done.stderr and b"raw Biwi: 4 of 4 parts in " in done.stderr  # progress, as a log gets it


def test_a_build_whose_output_is_redirected_ends_well(tiny, tmp_path):
    words = ["build-datasets", "--biwi", tiny / "hpdb", "--size", "16", "--jobs", "1"]
    done = run(*words, "--out", tmp_path / f"\u2713 {ODD}", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr.decode()
    assert rf"datasets in {tmp_path}/\u2713 caf\udce9 \udce4" in done.stdout.decode("cp1252")


def test_a_closed_pipe_ends_a_command_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    done = run("protocols", "list", stdout=writer)
    os.close(writer)
    assert done.returncode == 1 and done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_under_the_output_is_one_line():
    with open("/dev/full", "wb") as full:
        done = run("protocols", "list", stdout=full)
    assert (done.returncode, done.stderr.decode()) == (
        1, "Error: No space left on device; make room, or write elsewhere\n"
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_next_command_can_be_pasted_wherever_the_files_lie(built, tmp_path):
    data, runs = tmp_path / "my  data", tmp_path / f"it's {ODD}"
    data.symlink_to(built[0])
    words = ["benchmark", "--method", "source-only", "--data", data, "--out", runs, "--preset", "trial",
             "--device", "cpu", "--threads", "1"]  # fmt: skip
    done = run(*words)
    assert done.returncode == 0, done.stderr.decode()
    line = done.stdout.decode().splitlines()[-1].removeprefix("all figures: ")
    shell = f'hpp() {{ {shlex.quote(sys.executable)} -m benchmark "$@"; }}; {line}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    scored = subprocess.run(["bash", "-c", shell], env=environment, capture_output=True, check=False)
    assert scored.returncode == 0 and b"MAE" in scored.stdout, scored.stderr.decode()
    entry = json.loads(next(runs.rglob("score.json")).read_text(encoding="utf-8"))
    shell = f"hpp() {{ printf '%s\\0' \"$@\"; }}; {entry['command']}"
    typed = subprocess.run(["bash", "-c", shell], stdout=subprocess.PIPE, check=True).stdout.split(b"\0")[:-1]
    assert [os.fsdecode(word) for word in typed] == [str(word) for word in words]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_what_git_complains_of_ends_no_run(tmp_path, monkeypatch):
    git = tmp_path / "git"
    git.write_bytes(b"#!/bin/sh\nprintf 'fatal: dubious ownership of caf\\351' >&2\nexit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == ""
