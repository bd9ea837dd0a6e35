"""What the house promises; which room may import which is checked by import-linter (``make lint``)."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for package in ("headposeplus", "baselines", "benchmark") for path in (ROOT / package).rglob("*.py")
)
MOST_LINES, MOST_IN_A_BODY = 450, 50


def bodies(tree):
    """The name of each function, and the lines of its body without the docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, node.end_lineno - statements[0].lineno + 1 if statements else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    assert {name: lines for name, lines in bodies(ast.parse(text)) if lines > MOST_IN_A_BODY} == {}


def test_pytest_passes_by_no_folder_of_tests(pytestconfig):
    folders = {part for path in (ROOT / "tests").rglob("test_*.py") for part in path.relative_to(ROOT).parts[:-1]}
    assert "build" in folders
    assert not [
        (name, rule) for name in folders for rule in pytestconfig.getini("norecursedirs") if fnmatch(name, rule)
    ]


def test_folders_are_listed_in_one_place():
    """So that nothing looks at what a system put beside people's files, and endings in capitals count everywhere."""
    lists = re.compile(r"\.(?:iterdir|r?glob|scandir|listdir|f?walk)\(|(?:from|import) glob")
    found = [str(path.relative_to(ROOT)) for path in FILES if lists.search(path.read_text(encoding="utf-8"))]
    assert found == ["headposeplus/files.py"], "list folders by headposeplus.files.listing or below"


def test_every_table_is_laid_out_in_one_place():
    """So that all of them fit the terminal, and ``--wide`` reaches all."""
    found = [str(path.relative_to(ROOT)) for path in FILES if re.search("(?:from|import) tabulate", path.read_text())]
    assert found == ["headposeplus/tables.py"], "make tables by headposeplus.tables.table"


def called(tree):
    """The names of the functions that are called anywhere in a tree."""
    functions = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id if isinstance(function, ast.Name) else getattr(function, "attr", "") for function in functions}


def test_every_picture_is_drawn_with_the_settings_of_the_house():
    """A user's fonts, sizes and styles are taken up at each step of a drawing, so all of it is under ours."""
    drawing = 0
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert "pyplot" not in {
            word for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names for word in f"{getattr(node, 'module', '')}.{name.name}".split(".")
        }, path  # fmt: skip
        if "Figure" not in called(tree):
            continue
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            if called(function) & {"save", "_svg"}:
                drawing += 1
                assert any("own_settings" in called(decorator) for decorator in function.decorator_list), function.name
    assert drawing > 15


def test_every_room_says_what_it_is():
    for folder in {path.parent for path in FILES}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), folder


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
