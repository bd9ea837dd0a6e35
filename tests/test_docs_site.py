import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.scoring import label_files
from headposeplus import rotations

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "docs" / "site"


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(TOOL)
    import pages

    return pages


@pytest.fixture
def links(pages):
    import links

    return links


def test_each_page_has_its_place(pages):
    """The contents name each page of docs/ once, and no page that is gone."""
    placed = [name for names in pages.SHELVES.values() for name in names]
    assert sorted(placed) == sorted(path.stem for path in (ROOT / "docs").glob("*.md")), "SHELVES in docs/site/pages.py"


def test_the_source_has_the_pages_as_they_are_and_what_they_link_to(pages, tmp_path, monkeypatch):
    monkeypatch.setitem(pages.SHELVES, "Start", ("score",))
    monkeypatch.setattr(pages, "modules", list)  # without the reference
    pages.write_source(tmp_path)
    first = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert first.startswith((ROOT / "README.md").read_text(encoding="utf-8"))
    assert ":caption: Start\n\ndocs/score\n```" in first
    more = first.partition(":caption: More\n\n")[2].split()
    assert {"docs/try", "docs/rebuild", "results/demo/scoreboard/scoreboard"} < set(more)
    assert "CONTRIBUTING" not in more
    for name in (
        "docs/my_method.py",
        "docs/pictures/crops.png",
        "results/demo/scoreboard/scoreboard.md",
        "CITATION.cff",
    ):
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


def test_of_a_linked_page_in_html_all_comes_that_lies_beside_it(pages, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    for name in ("board/index.html", "board/entries/one.html", "other.txt", "shown.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "README.md").write_text("[board](board/index.html#top), ![a picture](shown.png), [away](https://x.org)")
    assert pages.find_files(["README.md"]) == {"board/index.html", "board/entries/one.html"}
    assert pages.linked("README.md", shown=True) == {"shown.png"}


def test_the_commands_page_has_the_help_of_each_command(pages):
    text = pages._commands()
    for command in ("hpp score", "hpp boxes detect", "hpp scoreboard add"):
        assert f" {command}\n\n```text\nUsage: {command} [OPTIONS]" in text


def test_public_are_the_functions_and_classes_that_a_module_defines(pages):
    from benchmark.cli import common

    assert {"convert", "EulerOrder"} < set(pages.public(rotations))
    assert not {"CONVENTIONS", "Rotation", "HeadposeError", "_FLIP_SIGNS"} & set(pages.public(rotations))
    assert "RAW_MANIFEST" not in pages.public(common)  # a decorator of click's


@pytest.mark.parametrize(
    ("element", "fault"),
    [
        ('<a href="gone.html">', "gone.html leads to no file"),
        ('<a href="b/c.html#none">', "b/c.html#none leads to no such heading"),
        ('<a href="b">', "b leads to a folder: name a file"),
        ('<img src="gone.png">', "gone.png leads to no file"),
        ('<script src="https://cdn.org/x.js">', "https://cdn.org/x.js is loaded from elsewhere: copy it into the site"),
        (
            '<link rel="stylesheet" href="//x.org/a.css">',
            "//x.org/a.css is loaded from elsewhere: copy it into the site",
        ),
        ('<a href="#here" id="here">', ""),
        ('<a href="b/c.html?q=1#top">', ""),
        ('<a href="https://x.org">', ""),
        ('<img src="data:image/png;base64,AA">', ""),
    ],
)
def test_a_link_that_leads_nowhere_is_told(links, tmp_path, element, fault):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.html").write_text('<h1 id="top">C</h1>')
    (tmp_path / "a.html").write_text(element)
    assert links.broken(tmp_path) == ([f"a.html: {fault}"] if fault else [])


@pytest.mark.slow
def test_names_in_docstrings_lead_where_they_mean_and_others_are_told(pages, links, tmp_path, monkeypatch):
    """Sphinx reads one module, and a page on which a name, a heading and a picture are wrong."""
    pytest.importorskip("sphinx", reason="the site's tools are not installed: pip install -e .[docs]")
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "index.md").write_text("# A\n\n[b](b.md#none)\n\n![c](c.png)\n\n```{toctree}\nb\nscoring\n```\n")
    (source / "b.md").write_text("# B\n\n[code](scoring.rst)\n")
    module = "benchmark.scoring.label_files"
    text = f"Scoring\n=======\n\n.. automodule:: {module}\n   :members:\n\n:func:`{module}.no_such`\n"
    (source / "scoring.rst").write_text(text)
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "-c", str(TOOL), str(source), str(site)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert done.returncode == 1 and len(warnings) == 3, done.stderr
    for says in (f"nothing is called {module}.no_such here", "local id not found in doc 'b': 'none'", "c.png"):
        assert any(says in line for line in warnings), says
    monkeypatch.setattr(links, "modules", lambda: [rotations, label_files])
    left_out = links.left_out(site)
    assert left_out == [f"headposeplus.rotations.{name}" for name in pages.public(rotations)]
    page = (site / "scoring.html").read_text(encoding="utf-8")
    assert f'href="#{module}.LabelsAt"' in page and "Alias for field number" not in page
