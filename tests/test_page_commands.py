"""The commands of the walked pages, in order, on the smallest miniature: ``hpp`` in this process, the rest in a shell.

``make walk`` runs them as a reader would; these tests find a command that no longer works before that.
"""

import importlib.util
import os
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from benchmark.scoring import protocols
from benchmark.scoring.labels import read_labels
from benchmark.upkeep import walk

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def run_part(hpp, monkeypatch):
    """Run a part of a command, in this process where it is ``hpp`` or a script of the page; return what it prints."""

    def run(part, status):
        if part.startswith("hpp "):
            return hpp(*shlex.split(part)[1:], expect=status).output
        if part.startswith("python "):
            monkeypatch.setattr(sys, "argv", shlex.split(part)[1:])
            runpy.run_path(sys.argv[0])
            return ""
        done = subprocess.run(["bash", "-c", part], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout

    return run


@pytest.fixture
def run_page(tiny, built, tmp_path, run_part, monkeypatch):
    """Run a page's steps in an empty folder, where RAW and DATA lie; return the commands and all that they print."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # one job: no process is started
    shutil.copytree(tiny, "RAW")
    shutil.copytree(built[0], "DATA")

    def run(text, skipped):
        commands, output = [], ""
        for step in walk.steps(text):
            if re.search(skipped, step.words):
                continue
            if step.kind == "file":
                shutil.copy(DOCS / step.words, step.words)
            elif step.kind == "run":
                commands.append(step.words)
                words = re.sub(r"\\\n *", "", step.words)
                *first, last = re.split(r" && |(?<=\nEND)\n", words) if "hpp " in words else [words]
                output += "".join([*(run_part(part, 0) for part in first), run_part(last, step.exit)])
            else:
                assert Path(step.words.split()[0]).exists(), step.words
        return commands, output

    return run


def test_the_walk_through_the_datasets(run_page):
    text = (DOCS / "datasets.md").read_text(encoding="utf-8").replace("of-00024", "of-00004")
    commands, output = run_page(text, "hpp miniature|hpp build-datasets|render.order")
    assert len(commands) >= 17 and sum("hpp " in command for command in commands) >= 15
    for words in ("rgb.cal: not the calibration", "its SHA-256 is not that in dataset.json", "1 checked by hand"):
        assert words in output, words


def test_the_walk_to_the_board(run_page):
    labels = read_labels(Path("DATA"))
    protocols.write(Path("tiny.toml"), "tiny/pda@1", "pda", labels, "The smallest miniature")
    text = (DOCS / "submitting.md").read_text(encoding="utf-8").replace("show miniature/pda@2", "show tiny.toml")
    text = text.replace("--protocol miniature/pda@2", "--protocol tiny.toml").replace("miniature/pda@2", "tiny/pda@1")
    named = r"(hpp (?:check|score|compare|scoreboard add) (?!alone)[^&>\n]*--data DATA)"
    text = re.sub(named, r"\1 --protocol tiny.toml", text)
    text = text.replace("mine.csv 15", "mine.csv 5")  # neighbours
    commands, output = run_page(text, "hpp miniature|hpp build-datasets")
    assert len(commands) >= 13
    for words in (
        "4 faults, 0 suspicions",
        "0 faults, 0 suspicions; tiny/pda@1, 48 frames",
        "1 suspicion; tiny/pda@1",
        "lower MAE in",
        "2 entries, 0 wrong, 2 scored again",
    ):
        assert words in output, words


def test_the_short_walk_to_a_score(run_page):
    protocols.write(Path("tiny.toml"), "tiny/pda@1", "pda", read_labels(Path("DATA")), "The smallest miniature")
    text = (DOCS / "score.md").read_text(encoding="utf-8").replace("miniature/pda@2", "tiny.toml")
    commands, output = run_page(text.replace("mine.csv 15", "mine.csv 5"), "hpp miniature")
    assert len(commands) == 5
    for words in ("mine.csv: which protocol?", "a scoreboard still needs --name", "Nearest images: MAE"):
        assert words in output, words


def test_the_short_walk_through_build_and_training(run_page):
    text = (DOCS / "rebuild.md").read_text(encoding="utf-8").replace("of-00024", "of-00004")
    commands, output = run_page(text, "hpp miniature|padaco")
    assert len(commands) == 4
    for words in (
        "raw SynHead: complete: 800 of 800",
        "datasets in DATA",
        "SHA-256 of ids, poses and boxes",
        "48 frames, pyr, rgb camera",
    ):
        assert words in output, words


def test_the_page_on_using_a_trained_network(run_page, hpp, capsys):
    hpp("benchmark", "--method", "source-only", "--preset", "trial", "--data", "DATA", "--out", "RUNS",
        "--device", "cpu", "--threads", 1)  # fmt: skip
    Path("RUNS/pda-trial-seed0").rename("RUNS/pda-miniature-seed0")
    exporting = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    # In the smallest miniature dlib finds no face.
    text = (DOCS / "using.md").read_text(encoding="utf-8")
    commands, output = run_page(text, "hpp miniature|--detect" + ("" if exporting else "|onnx"))
    assert len(commands) == (6 if exporting else 4) and "images   48 of 48 have a pose" in output
    said = capsys.readouterr().out
    assert "]] (3, 3, 3)" in said
    if exporting:
        assert float(re.search(r"48 poses, within ([\d.]+) degrees", said)[1]) < 2e-3


def test_a_class_sets_a_challenge(tmp_path, monkeypatch):
    """All of the page but its pictures, as a reader runs it: by processes, one of which is the service."""
    for name in ("fastapi", "markdown_it", "sqlalchemy"):
        pytest.importorskip(name, reason="the service is not installed: pip install -e .[serve,dev]")
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    text = (DOCS / "challenge.md").read_text(encoding="utf-8").replace("8018", str(port))
    text = re.sub("<!-- page: .*? -->", "", text).replace("--retry-delay 1", "--retry-delay 0")
    (tmp_path / "bin").mkdir()
    for name, words in (("hpp", "-m benchmark"), ("python", "")):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(command))  # beside which a walk finds hpp
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    try:
        walked = walk.walk(text, tmp_path)
    finally:
        with suppress(OSError, ValueError):
            os.kill(int((tmp_path / "serve.pid").read_text()), signal.SIGKILL)
    for words in (
        "Team Anna scored {'mae': ",
        "Team Bert scored {'mae': ",
        "2 submissions\nresults results.csv",
        '"event": "deadline", "was": "20',
        "the challenge is closed",
        "\nTeam Bert,Mean of five networks,class/heads@1,",
    ):
        assert words in walked, words
    found = {name: (tmp_path / f"{name}.html").read_text() for name in ("empty", "submit", "two", "closed")}
    assert all("Head poses of the autumn class" in found[name] for name in ("empty", "two", "closed"))
    assert "No entries yet." in found["empty"]
    assert re.search(r"\b(10|9) days left", found["submit"])  # it ends at an hour, and this may be a later one
    assert found["two"].index("Team Bert") < found["two"].index("Team Anna")
    assert "private part" in found["closed"]


def test_built_datasets_are_served(built, tmp_path, hpp, monkeypatch):
    """``hpp serve --data``, whose server tests/benchmark/service starts: here it is a client of the same app."""
    for name in ("fastapi", "httpx", "sqlalchemy"):
        pytest.importorskip(name, reason="the service is not installed: pip install -e .[serve,dev]")
    from fastapi.testclient import TestClient

    from benchmark.service import app
    from tests.benchmark.service import cases

    data, database = built[0], f"sqlite:///{tmp_path / 'serve.db'}"
    labels = read_labels(data)
    protocols.write(tmp_path / "mini.toml", "lab/mini@1", "pda", labels, "Miniature")
    token = cases.new_token(database)
    calls = []
    monkeypatch.setattr(app, "run", lambda *arguments: calls.append(arguments))
    hpp(
        "serve",
        "--protocol",
        tmp_path / "mini.toml",
        "--data",
        data,
        "--database",
        database,
        "--port",
        0,
        "--private",
        0,
    )
    [(settings, host, port)] = calls
    assert (host, port, settings.daily, settings.max_bytes) == ("127.0.0.1", 0, 5, 16 << 20)
    with TestClient(app.create_app(settings)) as client:
        parts = cases.files(cases.predictions(labels=labels), cases.about(protocol="lab/mini@1"))
        submission = cases.outcome(client, cases.send(client, token, parts))
        assert submission["status"] == "scored", submission["faults"]
        assert client.get(submission["entry_url"]).status_code == 200
