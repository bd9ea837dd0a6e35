import doctest
import re
from pathlib import Path

import pytest

from benchmark import readme
from benchmark.cli import main
from headposeplus.errors import HeadposeError

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_what_the_records_give():
    assert readme.generate(TEXT) == TEXT, "run make readme"


def test_python_examples_hold():
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert results.attempted > 0 and not results.failed


def test_commands_and_options_exist():
    used = re.findall(r"^    hpp ([a-z-]+)(.*)$", TEXT, re.MULTILINE)
    assert {name for name, _ in used} >= {"build-datasets", "benchmark", "score"}
    for name, rest in used:
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)", TEXT)) <= set(targets)


def test_linked_files_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / path).exists(), path


def test_a_lost_mark_is_told():
    with pytest.raises(HeadposeError, match="expected the marks <!-- published -->"):
        readme.generate(TEXT.replace("<!-- published -->", ""))
