import doctest
import importlib
import json
import re
from pathlib import Path

import click
import numpy as np
import pytest
import torch

from benchmark.cli.main import main
from benchmark.upkeep import readme, walk
from headposeplus.errors import HeadposeError

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in readme.PAGES}
WITH_COMMANDS = [page for page in PAGES if page != "docs/findings.md"]


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_what_the_records_give(page):
    assert readme.generate(page, PAGES[page]) == PAGES[page], "run make readme"


def test_python_examples_hold():
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert results.attempted > 0 and not results.failed


def known(words):
    """The options of the command that some words call."""
    command = main
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("--"):
            break
        command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_and_options_exist(page):
    text = PAGES[page]
    lines = re.findall(r"^    (hpp .*)$", text, re.MULTILINE) + re.findall(r"`(hpp [^`]*)`", text) + walk.commands(text)
    used = [part for line in lines for part in re.split(r"&&|\|", line) if part.strip().startswith("hpp ")]
    assert len(used) >= 3
    for command in used:
        words = command.split()[1:]
        if not words[0].isupper():  # hpp COMMAND --help
            assert set(re.findall(r"--[a-z-]+", command)) <= known(words) | {"--help"}, command
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= set(targets)


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_exist(page):
    for path in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        assert ((ROOT / page).parent / path).exists(), path


@pytest.mark.slow
def test_the_method_of_the_page_trains(built, tmp_path, hpp, monkeypatch):
    lines = (ROOT / "docs/my_method.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 40
    monkeypatch.chdir(ROOT)
    hpp("benchmark", "--method", "docs.my_method:MMD", "--data", built[0], "--out", tmp_path, "--preset", "trial",
        "--device", "cpu", "--threads", 1)  # fmt: skip
    log = [json.loads(line) for line in (tmp_path / "pda-trial-seed0/mmd/log.jsonl").read_text().splitlines()]
    assert all(record["discrepancy"] > 0 for record in log if "step" in record)


def test_the_discrepancy_of_the_page_against_a_loop(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    mmd = importlib.import_module("docs.my_method").mmd

    a, b = torch.randn(5, 3, generator=torch.manual_seed(0)), torch.randn(7, 3)
    both = torch.cat((a, b))
    width = np.mean([(x - y).square().sum().item() for x in both for y in both])

    def kernel(x, y):
        return np.mean([np.exp(-(p - q).square().sum().item() / width) for p in x for q in y])

    assert mmd(a, b).item() == pytest.approx(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b), abs=1e-5)


@pytest.mark.slow
def test_the_walk_works(tmp_path):
    """Every command of the page ends as the page says, on the smallest miniature, and draws its pictures."""
    page = PAGES["docs/datasets.md"].replace("--scale small", "--scale tiny").replace("of-00024", "of-00004")
    walked = walk.walk(page, tmp_path, pictures=tmp_path / "pictures")
    shown = [command for command in walk.commands(page) if command.startswith("hpp ")]
    assert len(shown) > 15 and walked.count("\n$ hpp ") == len(shown) and "rgb.cal" in walked
    names = [name.split("/")[-1] for name in re.findall(r"<!-- picture: (\S+) -->", page)]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted(names)


def test_a_walk_tells_what_went_otherwise(tmp_path):
    assert walk.walk("<!-- run: echo one; echo two -->\n<!-- end -->", tmp_path) == (
        "<!-- run: echo one; echo two -->\n```console\n$ echo one; echo two\none\ntwo\n```\n<!-- end -->"
    )
    assert "... (7 more lines)" in walk.walk("<!-- run lines 3: seq 10 -->\nold\n<!-- end -->", tmp_path)
    for page, says in (
        ("<!-- run: echo no >&2; exit 4 -->\n<!-- end -->", "exit status 4 instead of 0: no"),
        ("<!-- picture: a/b.png -->", "a/b.png: the commands before it have made no such picture"),
    ):
        with pytest.raises(HeadposeError, match=says):
            walk.walk(page, tmp_path)


def test_a_lost_mark_is_told():
    with pytest.raises(HeadposeError, match="expected the marks <!-- published -->"):
        readme.generate("README.md", TEXT.replace("<!-- published -->", ""))
