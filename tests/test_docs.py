import doctest
import html
import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import torch

import headposeplus
from benchmark.cli.main import main
from benchmark.upkeep import readme, walk
from headposeplus.datasets import card
from headposeplus.errors import HeadposeError

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
WITHOUT_COMMANDS = ("findings", "architecture", "angles", "published", "benchmarks")
WITH_COMMANDS = [page for page in PAGES if page != "CHANGELOG.md" and Path(page).stem not in WITHOUT_COMMANDS]
WALKED = [f"docs/{name}" for name in walk.PAGES]


def check_tables(path):
    """Return cog's exit status where it checks a page with the options of the Makefile."""
    cogapp = pytest.importorskip("cogapp", reason="cog is not installed: pip install -e .[dev]")
    options = re.search(r"^COG := .* -m cogapp (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    return cogapp.Cog().main(["cog", *shlex.split(options), "--check", str(path)])


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_what_the_records_give(page):
    assert check_tables(ROOT / page) == 0, "run make readme"


def test_every_table_is_generated():
    marks = r'<!-- \[\[\[cog show\("(.+?)"\) \]\]\] -->\n.*?<!-- \[\[\[end\]\]\] -->'
    assert {name for page in PAGES.values() for name in re.findall(marks, page, re.DOTALL)} == set(readme.TABLES)
    for page, text in PAGES.items():  # tables that are typed have |---| below their heads
        assert "|----" not in re.sub(marks, "", text, flags=re.DOTALL), page


def test_a_changed_table_and_a_lost_mark_are_told(tmp_path, capsys):
    begin, end = '<!-- [[[cog show("methods")', "<!-- [[[end]]] -->\n"
    block = PAGES["docs/training.md"].partition(begin)[2].partition("<!-- [[[end]]] -->")[0]
    for text, says in (
        (f"{begin}{block}{end}", ""),
        (f"{begin}{block.replace('source-only', 'source')}{end}", "Check failed"),
        (f"{begin}{block}", "Missing '[[[end]]]'"),
        (f"{block.partition('-->')[2]}{end}", "Unexpected '[[[end]]]'"),
    ):
        (tmp_path / "page.md").write_text(text)
        assert (check_tables(tmp_path / "page.md") == 0) == (says == "")
        assert says in "".join(capsys.readouterr())


# What GitHub's style sheet says of tables, and how wide a page is there.
STYLE = """<meta charset="utf-8"><style>body { margin: 0; width: 846px; font: 16px/1.5 -apple-system, "Segoe UI",
"Noto Sans", Helvetica, Arial, sans-serif } table { display: block; width: max-content; max-width: 100%; overflow: auto;
border-collapse: collapse } th, td { padding: 6px 13px; border: 1px solid } th { font-weight: 600 } code { padding: .2em
.4em; font: 85% ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; white-space: break-spaces }</style>"""


ROWS = r"^\|.*\n\|[-|: ]+\n(?:\|.*\n)*"


def as_html(table):
    """A table of Markdown as GitHub shows it."""

    def cell(text):
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text.strip())
        return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(html.unescape(text)))

    head, _, *rows = (line.strip().strip("|").split("|") for line in table.splitlines())
    parts = [f"<tr>{''.join(f'<th>{cell(text)}' for text in head)}"]
    return "<table>" + "".join(parts + [f"<tr>{''.join(f'<td>{cell(text)}' for text in row)}" for row in rows])


@pytest.mark.slow
def test_every_table_fits_a_page(tmp_path, browser):
    boards = [ROOT / "results" / name / "scoreboard.md" for name in ("board", "demo/scoreboard")]
    pages = PAGES | {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in boards}
    wide = [("wide", f"| {'| '.join(['unbreakable' * 3] * 5)}|\n|---|\n")]  # the test can fail
    tables = [(page, table) for page in pages for table in re.findall(ROWS, pages[page], re.MULTILINE)]
    (tmp_path / "tables.html").write_text(STYLE + "</table>".join(as_html(table) for _, table in tables + wide))
    browser.get((tmp_path / "tables.html").as_uri())
    widths = browser.execute_script("return [...document.querySelectorAll('table')].map((table) => table.scrollWidth)")
    found = [(page, width) for (page, _), width in zip(tables + wide, widths, strict=True) if width > 846]
    assert [page for page, _ in found] == ["wide"], found


def test_python_examples_hold():
    results = doctest.testfile(str(ROOT / "docs/angles.md"), module_relative=False)
    assert results.attempted > 0 and not results.failed


def test_the_readme_is_short():
    """Six kB, tables included; first a picture and three doors, with their commands."""
    text = PAGES["README.md"]
    assert len(text.encode()) <= 6_000
    first = text.partition("\n## ")[0]
    places = [first.find(f"](docs/{name}") for name in ("pictures/", "try.md", "score.md", "rebuild.md")]
    assert places == sorted(places) and min(places) > 0
    assert all(command in first for command in ("    make demo\n", "    hpp score ", "    hpp build-datasets "))
    assert (ROOT / re.search(r"docs/pictures/[\w.-]+", first)[0]).stat().st_size < 300_000


def test_the_readme_leads_to_every_page():
    linked = set(re.findall(r"\]\(([\w/-]+\.md)", PAGES["README.md"]))
    assert linked == set(PAGES) - {"README.md"}


def test_the_citation_is_that_of_the_dataset_card():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "license", "repository-code"} <= set(cited)
    assert cited["version"] == headposeplus.__version__
    papers = [cited["preferred-citation"], *cited["references"]]
    for paper, text in zip(papers, (card.METHOD, card.SOURCES["biwi"][2], card.SOURCES["synhead"][2]), strict=True):
        people = ", ".join(f"{one['given-names']} {one['family-names']}" for one in paper["authors"])
        assert text.startswith(f"{people}: {paper['title']}. ") and str(paper["year"]) in text


def known(words):
    """The options of the command that some words call."""
    command = main
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("--"):
            break
        if word not in command.commands and not command.default:
            return set()  # a word that is asked back
        command = command.commands.get(word) or command.commands[command.default]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_and_options_exist(page):
    text = PAGES[page]
    lines = re.findall(r"^    (hpp .*)$", text, re.MULTILINE) + re.findall(r"`(hpp [^`]*)`", text)
    lines += [re.sub(r"\\\n *", "", step.words) for step in walk.steps(text) if step.kind == "run"]
    used = [part for line in lines for part in re.split(r"&&|\|", line) if part.strip().startswith("hpp ")]
    assert len(used) >= 3
    for command in used:
        words = command.split()[1:]
        if not words[0].isupper():  # hpp COMMAND --help
            assert set(re.findall(r"--[a-z][a-z0-9-]*", command)) <= known(words) | {"--help"}, command
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= set(targets)


MOST_COLUMNS = 120  # what GitHub shows of a code block on a wide screen is 99; one of the scripts shown has more


@pytest.mark.parametrize("page", PAGES)
def test_commands_fit_a_page(page):
    """A command longer than a code block is wide is broken by a backslash."""
    lines = re.findall(r"^(?:\$ |    (?=hpp |docker |torchrun ))(.*)$", PAGES[page], re.MULTILINE)
    assert [line for line in lines if len(line) > MOST_COLUMNS] == []


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_and_headings_exist(page):
    for path, heading in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", PAGES[page]):
        linked = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert linked.exists(), path
        if heading:
            assert heading in headings(linked.read_text(encoding="utf-8")), f"{path}#{heading}"


def headings(text):
    """The anchors that GitHub gives to the headings of a page."""
    lines = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_a_heading_is_found_by_its_anchor():
    assert headings("# A method of one's own\n\n```\n# no heading\n```\n## AFLW2000-3D, another\n") == {
        "a-method-of-ones-own",
        "aflw2000-3d-another",
    }


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


@pytest.mark.parametrize("page", WALKED)
def test_a_page_is_what_its_commands_printed(page):
    assert walk.seal(PAGES[page]) == PAGES[page], "a step, an output or a file was changed: run make walk"


@pytest.mark.parametrize("page", WALKED)
def test_pictures_of_a_page_are_kept_and_shown(page):
    pictures = [Path(step.words.split()[-1]).name for step in walk.steps(PAGES[page]) if step.kind == "picture"]
    pictures += [step.words.split()[2] for step in walk.steps(PAGES[page]) if step.kind == "page"]
    assert pictures
    for name in pictures:
        assert f"](pictures/{name})" in PAGES[page] and (ROOT / "docs/pictures" / name).exists(), name


def test_a_seal_breaks_with_a_command_an_output_and_a_file(monkeypatch, tmp_path):
    (tmp_path / "a.py").write_text("print(1)\n")
    monkeypatch.setattr(walk, "DOCS", tmp_path)
    page = "<!-- file: a.py -->\n<!-- end -->\n\ntext\n\n<!-- run: python a.py -->\nold\n<!-- end -->\n"
    (tmp_path / "here").mkdir()
    walked = walk.walk(page, tmp_path / "here", tmp_path / "pictures")
    assert "\n$ python a.py\n1\n```\n" in walked and "```python\nprint(1)\n```\n" in walked
    assert walk.seal(walked) == walked == walk.seal(walk.seal(walked))
    assert walk.seal(walked.replace("text", "words")) == walked.replace("text", "words")
    for old, new in (("run: python", "run exit 0: python"), ("$ python", "$ python3"), ("\n1\n", "\n2\n")):
        assert walk.seal(walked.replace(old, new)) != walked.replace(old, new)
    (tmp_path / "a.py").write_text("print(2)\n")
    assert walk.seal(walked) != walked


def test_a_walk_keeps_its_pictures(tmp_path):
    page = "<!-- run: mkdir made; echo jpg > made/a.jpg -->\n<!-- end -->\n<!-- picture: made/a.jpg -->\n"
    walk.walk(page, tmp_path, tmp_path / "pictures")
    assert (tmp_path / "pictures/a.jpg").read_text() == "jpg\n"


HERE = """<!doctype html><meta name="viewport" content="width=device-width"><h1>Here</h1>
<script>document.write(`<p style="width:100px;height:20px;background:rgb(${innerWidth % 256},0,0)">`)</script>
<table style="position:absolute;top:100px">ROWS</table>""".replace("ROWS", "<tr><td style='height:40px'>a row" * 9)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
def test_a_walk_photographs_a_page(tmp_path):
    pytest.importorskip("selenium", reason="selenium is not installed: pip install -e .[dev]")
    (tmp_path / "a.html").write_text(HERE)
    page = "<!-- page: a.html 390x300 phone.png -->\n<!-- page: a.html 800x120 flat.png -->\n"
    walk.walk(page, tmp_path, tmp_path / "pictures")
    phone, flat = (cv2.imread(str(tmp_path / f"pictures/{name}.png")) for name in ("phone", "flat"))
    # A phone's window is as narrow as it says, has two pixels for each, and ends between two rows.
    assert phone.shape[1] == 2 * 390 and (phone[..., 2] == 390 % 256).any()
    assert 2 * 200 < phone.shape[0] < 2 * 300 and (phone[-8:] == 255).all()
    assert 100 <= flat.shape[0] < 120 and flat.shape[1] == 800 and (flat[..., 2] == 800 % 256).any()


def test_pictures_are_kept_with_few_colours_and_no_wider_than_a_page(tmp_path):
    rng = np.random.default_rng(0)
    wide = np.repeat(np.repeat(rng.integers(0, 255, (60, 200, 3), np.uint8), 10, axis=0), 10, axis=1)
    wide[:, :600] = 255
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    cv2.imwrite(str(tmp_path / "photograph.jpg"), wide)
    before = (tmp_path / "photograph.jpg").read_bytes(), (tmp_path / "wide.png").stat().st_size
    walk.walk("<!-- picture: wide.png -->\n<!-- picture: photograph.jpg -->\n", tmp_path, tmp_path / "pictures")
    kept = cv2.imread(str(tmp_path / "pictures/wide.png"))
    assert kept.shape[:2] == (508, 1692) and len(np.unique(kept.reshape(-1, 3), axis=0)) <= 256
    assert (kept[:, :400] == 255).all()  # what is white stays white
    assert (tmp_path / "pictures/photograph.jpg").read_bytes() == before[0]


PIXELS = sorted(path for path in (ROOT / "docs/pictures").iterdir() if path.suffix != ".svg")


@pytest.mark.parametrize("path", PIXELS, ids=lambda path: path.name)
def test_pictures_of_the_pages_are_no_wider_than_a_page_shows(path):
    width = cv2.imread(str(path)).shape[1]
    assert width <= 1692 and ("phone" not in path.name or width == 2 * 390)


def test_a_walk_tells_what_went_otherwise(tmp_path):
    walked = walk.walk("<!-- run: echo one; echo two -->\n<!-- end -->\n", tmp_path)
    console = "```console\n$ echo one; echo two\none\ntwo\n```"
    assert walked.startswith(f"<!-- run: echo one; echo two -->\n{console}\n<!-- end -->\n\n<!-- walked: ")
    assert "... (7 more lines)" in walk.walk("<!-- run lines 3: seq 10 -->\nold\n<!-- end -->", tmp_path)
    for page, says in (
        ("<!-- run: echo no >&2; exit 4 -->\n<!-- end -->", "exit status 4 instead of 0: no"),
        ("<!-- picture: a/b.png -->", "a/b.png: the commands before it have made no such picture"),
    ):
        with pytest.raises(HeadposeError, match=says):
            walk.walk(page, tmp_path)
