"""Writes what the site is built from: the pages of the repository as they are, and the reference from the code.

README.md is the first page; every other one stays where it is in the repository, so that links hold in both. The
reference has a page a room of the code, and one for the commands.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.cli.main import main as hpp

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("headposeplus", "baselines", "benchmark")
FOREIGN = ["mediapipe"]  # what a module imports and no extra brings
# The pages of docs/ as the site's contents group them. One that is named nowhere comes under "More".
SHELVES = {
    "Start": ("try", "score", "rebuild", "using", "installing"),
    "Data": ("data", "datasets", "open-heads", "angles", "networks"),
    "Train": ("training", "findings", "published"),
    "Submit": ("submitting", "challenge"),
    "Inside": ("architecture", "benchmarks"),
    "Reference": ("command-line",),
}
_NOT_FOUND = """---
orphan: true
---
# There is no such page

It may have moved: look for it by the search, or begin at the [first page](index.md).
"""
_LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def find_pages() -> list[str]:
    """Return the pages: those of the root and of ``docs/``, and any other one that a page links to."""
    paths = [path for folder in (ROOT, ROOT / "docs") for path in sorted(folder.glob("*.md"))]
    pages = [path.relative_to(ROOT).as_posix() for path in paths]
    for page in pages:  # grows on the way
        pages += sorted(name for name in linked(page) if name.endswith(".md") and name not in pages)
    return pages


def linked(page: str, shown: bool = False) -> set[str]:
    """Return the files of the repository that a page links to, or the pictures that it shows, from the root."""
    targets = _LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    paths = {(ROOT / page).parent.joinpath(target).resolve() for mark, target in targets if bool(mark) == shown}
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and path.is_relative_to(ROOT)}


def find_files(pages: list[str]) -> set[str]:
    """Return the files that the pages link to and that are none; of a page in HTML all that lies beside it."""
    files = {name for page in pages for name in linked(page)} - set(pages)
    beside = [(ROOT / name).parent.rglob("*") for name in files if name.endswith(".html")]
    return files | {path.relative_to(ROOT).as_posix() for paths in beside for path in paths if path.is_file()}


def write_source(folder: Path) -> None:
    """Write into an empty folder what Sphinx reads."""
    pages = find_pages()
    pictures = {name for page in pages for name in linked(page, shown=True)}
    for name in {*pages, *pictures, *find_files(pages)}:
        _copy(name, folder / ("index.md" if name == "README.md" else name))
    (folder / "404.md").write_text(_NOT_FOUND, encoding="utf-8")
    with (folder / "index.md").open("a", encoding="utf-8") as file:
        file.writelines(_contents(pages))
    reference = folder / "reference"
    reference.mkdir()
    (reference / "commands.md").write_text(_commands(), encoding="utf-8")
    rooms = _rooms()
    (reference / "python.rst").write_text(_face(rooms), encoding="utf-8")
    for room, modules in rooms.items():
        (reference / f"{room}.rst").write_text(_room(room, modules), encoding="utf-8")


def copy_files(site: Path) -> None:
    """Copy the files that the pages link to into the site, where the links expect them."""
    for name in find_files(find_pages()):
        _copy(name, site / name)


def _copy(name: str, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / name, copy)


def _contents(pages: list[str]) -> Iterator[str]:
    """Return the site's contents, a hidden list a shelf."""
    shelves = {shelf: [f"docs/{name}" for name in names] for shelf, names in SHELVES.items()}
    shelves["Reference"] += ["reference/commands", "reference/python"]
    shelves["Inside"] += ["CONTRIBUTING", "CHANGELOG"]
    placed = {name for names in shelves.values() for name in names}
    rest = [page.removesuffix(".md") for page in pages]
    shelves["More"] = [page for page in rest if page not in placed and page != "README"]
    for shelf, names in shelves.items():
        if names:
            yield "\n".join(["\n```{toctree}", ":hidden:", f":caption: {shelf}", "", *names, "```\n"])


def modules() -> list[ModuleType]:
    """Return all modules of the packages, the packages among them."""
    from sphinx.ext.autodoc.mock import mock

    found = [importlib.import_module(name) for name in PACKAGES]
    with mock(FOREIGN):
        for package in tuple(found):
            inside = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            found += [importlib.import_module(one.name) for one in inside if not one.name.endswith("__main__")]
    return found


def public(module: ModuleType) -> dict[str, Any]:
    """Return the functions and classes that a module defines under a name without an underscore."""
    return {name: value for name, value in vars(module).items() if name[0] != "_" and _is_defined(value, name, module)}


def _is_defined(value: Any, name: str, module: ModuleType) -> bool:
    if (getattr(value, "__module__", ""), getattr(value, "__name__", "")) != (module.__name__, name):
        return False
    return inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value))


def _rooms() -> dict[str, list[str]]:
    """Return the modules of each room: a folder of a package, or the package for its files outside all folders."""
    rooms: dict[str, list[str]] = {}
    for module in modules():
        name = module.__name__
        room = name if Path(module.__file__ or "").stem == "__init__" else name.rpartition(".")[0]
        rooms.setdefault(room, [])
        if name != room and public(module):
            rooms[room].append(name)
    return rooms


def _title(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _face(rooms: dict[str, list[str]]) -> str:
    """Return the first page of the reference: what people use, and the list of rooms."""
    pages = "".join(f"   {room}\n" for room in rooms)
    purposes = "".join(f"- :doc:`{room} <{room}>`: {sentence(importlib.import_module(room))}\n" for room in rooms)
    return (
        _title("From Python")
        + f".. automodule:: {PACKAGES[0]}\n   :members:\n\n"
        + _title("Room by room", "-")
        + "All else, for those who work on the toolkit. :doc:`A method of one's own <../docs/training>` builds on "
        f":mod:`baselines.method`.\n\n{purposes}\n.. toctree::\n   :hidden:\n\n{pages}"
    )


def _room(room: str, names: list[str]) -> str:
    """Return the page of a room, its files one below the other."""
    about = f".. automodule:: {room}\n   :no-members:\n\n"
    if room == PACKAGES[0]:  # it stands on the first page
        about = "The files outside all rooms, which these build on.\n\n"
    files = (_title(name, "-") + f".. automodule:: {name}\n   :members:\n\n" for name in names)
    return _title(room) + about + "".join(files)


def contents(module: ModuleType) -> list[str]:
    """Return what a module holds, as lines of reStructuredText that lead there."""
    name = module.__name__
    if name == PACKAGES[0]:
        return [f"- :py:obj:`~{name}.{one}`: {sentence(getattr(module, one))}" for one in module.__all__]
    return [", ".join(f":py:obj:`~{name}.{one}`" for one in public(module))]


def sentence(value: object) -> str:
    """Return the first sentence of a docstring."""
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\w\w\.) (?=[A-Z])", text)[0]


def _commands() -> str:
    """Return the page of the commands: what each one's ``--help`` prints."""
    parts = ["# All commands\n\nWhat `hpp COMMAND --help` prints.\n"]
    with hpp.make_context("hpp", [], resilient_parsing=True) as context:
        parts += _help(hpp, context, 2)
    return "\n".join(parts)


def _help(command: Any, context: Any, level: int) -> Iterator[str]:
    """Return the sections of a command and of those below it."""
    yield f"{'#' * level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            with below.make_context(name, [], parent=context, resilient_parsing=True) as inner:
                yield from _help(below, inner, min(level + 1, 3))
