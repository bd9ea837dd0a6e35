"""What people see on a terminal: help and tables that fit, and hints where a word is no command."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from baselines.methods import METHODS
from benchmark.board import entries as scoreboard
from benchmark.cli.groups import HelpfulGroup
from benchmark.cli.main import main
from benchmark.scoring import score as scoring
from benchmark.scoring.submission import About, write_predictions
from benchmark.studies import page
from benchmark.studies.records import PoseErrors, RunRecord, Sizes, TaskRecords, write_record
from benchmark.upkeep import readme
from headposeplus import rotations as rot
from headposeplus import tables
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import HeadposeError
from headposeplus.raw import render_order
from tests.benchmark.cli.test_cli import commands

MOST = 80
ABOUT = {
    "name": "a method whose name is long, as those of networks are", "authors": "me", "link": "", "task": "pda",
    "training_data": "SynHead++", "convention": "pyr", "camera": "rgb", "selection": "last epoch",
    "uses_target_images": True,
}  # fmt: skip


def groups(group, *before):
    """Every group of the command line, the first one too, by the words that call it."""
    yield before, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from groups(command, *before, name)


EVERY = [*commands(main), *groups(main)]
GROUPS = list(groups(main))
WITH_TABLES = {words for words, command in EVERY if any("--wide" in option.opts for option in command.params)}
LISTINGS = {words for words in WITH_TABLES if any(o.name == "json" for o in dict(EVERY)[words].params)}


@pytest.fixture
def here(monkeypatch, tmp_path, tiny, built):
    """Stand in a folder where RAW and DATA lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # one job: no process is started
    monkeypatch.setattr(render_order, "IMAGES", 320)
    (tmp_path / "RAW").symlink_to(tiny)
    shutil.copytree(built[0], "DATA")


@pytest.fixture
def mine(here, built):
    """Two files of predictions of the frames of DATA, and BOARD, which has both as the seeds of one method."""
    ids, rotations = read_labels(open_dataset(built[0] / "biwi+"))
    paths = [Path("a.csv"), Path("b.csv")]
    for seed, path in enumerate(paths):
        angles = rot.from_matrix(rotations) + np.random.default_rng(seed).normal(0, 4, (len(ids), 3))
        write_predictions(path, ids, angles, About(**ABOUT, seed=seed))
    scoreboard.add(Path("BOARD"), scoring.score(paths, Path("DATA")).entry, paths)
    scoreboard.add(Path("BOARD"), scoring.score(paths[0], Path("DATA")).entry, paths[:1])
    return paths


def check_width(text, most=MOST):
    for line in text.splitlines():
        assert len(line) <= most, line


@pytest.mark.parametrize(
    ("words", "command"), EVERY, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_help_fits(words, command, monkeypatch):
    context = click.Context(main, info_name="hpp", **main.context_settings)
    for place, word in enumerate(words):
        context = click.Context(dict(EVERY)[words[: place + 1]], parent=context, info_name=word)
    for columns in ("", "80", "200"):  # a pipe, a terminal, and a wide one
        monkeypatch.setenv("COLUMNS", columns)
        check_width(command.get_help(context), 78)


@pytest.mark.parametrize(
    ("words", "group"), GROUPS, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_summary_is_whole_and_one_line(words, group, hpp):
    assert isinstance(group, HelpfulGroup)
    text = hpp(*words, "--help", columns=None).output
    assert "..." not in text.partition("Options:")[2] and "…" not in text
    for name, command in group.commands.items():
        [line] = re.findall(rf"^  {re.escape(name)}  +(.*)$", text, re.MULTILINE)
        assert line.endswith(".") and line.rstrip(".") == command.get_short_help_str(1000).rstrip(".")


def test_every_command_is_in_a_section(hpp):
    assert sorted(name for names in main.sections.values() for name in names) == sorted(main.commands)
    text = hpp("--help").output
    titles = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert titles == ["Options", *main.sections] and {"Data", "Training", "Scoring"} <= set(titles)


# How each command that has --wide is called; those of hpp bench and hpp reproduce, which take long, have tests below.
RAW = ("--biwi", "RAW/hpdb", "--synhead", "RAW/synhead2_release")
CALLED = {
    ("protocols",): [()],
    ("protocols", "list"): [()],
    ("protocols", "show"): [("biwi+/pda@1",), ("miniature/da@2",)],
    ("methods",): [()],
    ("presets",): [()],
    ("submission", "convert"): [("--from",)],
    ("subsets",): [(), ("biwi/70-30-1/test",)],
    ("scoreboard", "build"): [("BOARD",)],
    ("verify",): [RAW, ("DATA", "--manifest", "RAW/data_manifest.csv"), ("DATA",)],
    ("render-order",): [RAW[2:]],
    ("build-datasets",): [(*RAW, "--size", 32, "--out", "DATA"), (*RAW, "--out", "OTHER", "--dry-run")],
    ("inspect",): [("DATA", "--out", "LOOK")],
    ("boxes", "compare"): [("boxes.csv", "boxes.csv", *RAW[:2])],
    ("score",): [("a.csv", "--data", "DATA"), ("a.csv", "b.csv", "--data", "DATA")],
    ("compare",): [("a.csv", "b.csv", "--data", "DATA")],
    ("serve", "token", "list"): [("--database", "sqlite:///hpp.db")],
}
BENCHES = ("build", "loader", "train", "score", "start", "step", "scale", "service")
APART = {("reproduce",), ("serve", "results"), *(("bench", name) for name in BENCHES)}  # the second in test_results.py


def test_every_command_with_a_table_is_called_here():
    assert set(CALLED) | APART == WITH_TABLES
    assert {("protocols",), ("methods",), ("subsets",), ("scoreboard", "build"), ("serve", "token", "list")} < LISTINGS


def test_tables_of_files_fit(mine, hpp):
    hpp("boxes", "project", *RAW[:2], "--out", "boxes.csv")
    for words, calls in CALLED.items():
        for given in calls if words not in LISTINGS else ():
            text = hpp(*words, *given, columns=None).output
            assert len(text.splitlines()) >= 3, words
            check_width(text)


@pytest.mark.parametrize("columns", [None, 80, 120])
def test_listings_fit_and_tell_all_with_wide_and_with_json(columns, mine, hpp):
    calls = {words: given for words, given in CALLED.items() if words in LISTINGS}
    if importlib.util.find_spec("sqlalchemy"):
        hpp(
            "serve", "token", "add", "A laboratory whose name is as long as it may be", "--database", "sqlite:///hpp.db"
        )
    else:
        del calls["serve", "token", "list"]
    for words, several in calls.items():
        for given in several:
            text = hpp(*words, *given, columns=columns).output
            check_width(text, columns or MOST)
            wide = hpp(*words, *given, "--wide", columns=columns).output
            assert len(wide.splitlines()) <= len(text.splitlines())
            if words[0] != "scoreboard":  # whose whole rows are told in another order
                assert {word for word in text.split() if word.strip("-")} <= set(wide.split())
            assert json.loads(hpp(*words, *given, "--json").output), words
    assert len(json.loads(hpp("protocols", "--json").output)) == len(hpp("protocols", "--wide").output.splitlines()) - 8
    assert [row["name"] for row in json.loads(hpp("methods", "--json").output)] == list(METHODS)
    [one, two] = json.loads(hpp("scoreboard", "BOARD", "--json").output)
    assert (len(one["seeds"]), len(two["seeds"])) in ((1, 2), (2, 1))
    assert "geodesic" in hpp("scoreboard", "BOARD", "--wide").output


def test_tables_of_long_runs_fit(monkeypatch, tmp_path):
    """Those of hpp bench on the records that are kept, and that of hpp reproduce on made-up ones."""
    check_width(readme.describe_build(readme._bench("build", readme.BuildFigures)))
    check_width(readme.describe_loader(readme._bench("loader", readme.LoaderFigures)))
    check_width(readme.describe_train(readme._bench("train", readme.TrainFigures)))
    check_width(readme.describe_start(readme._bench("start", readme.StartUp)))
    check_width(readme.describe_step(readme._bench("step", readme.Steps)))
    check_width(readme.describe_scale(readme._bench("scale", readme.ScaleFigures)))
    check_width(readme.describe_service(readme._bench("service", readme.ServiceFigures)))
    names = ["source-only", "padaco-updated-plainly", "dann"]
    runs = [
        RunRecord(method=name, seed=seed, protocol="biwi+/pda@1", frames=15678, uses_target_images=True, device="cpu",
                  scores=PoseErrors(12.25 + seed, 10.5, 11.5, 14.75, 20.5), statistics={"source": 11.0, "target": 12.0})
        for name in names for seed in (0, 1)
    ]  # fmt: skip
    about = TaskRecords("pda", "paper", [0, 1], None, Sizes(670_000, 15_678), {}, "2.0", runs)
    write_record(tmp_path / page.RECORDS, about)
    text = page.describe(tmp_path)
    check_width(text)
    assert re.search(r"^padaco-updated-plainly +12\.75 ± 0\.71 +10\.50 +11\.50 +14\.75 +yes", text, re.MULTILINE)
    assert "6.05" in text and "paper" in text and "geodesic" not in text
    with tables.whole_rows():
        assert "20.50 ± 0.00" in page.describe(tmp_path) and "MAE, source statistics" in page.describe(tmp_path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["build", "--biwi", "x"], "'build'. Did you mean build-datasets, scoreboard build or bench build?"),
        (["train"], "Did you mean benchmark, reproduce or bench train?"),
        (["evaluate"], "Did you mean score?"),
        (["detect"], "Did you mean boxes detect?"),
        (["template"], "Did you mean submission template or serve template?"),
        (["scorebord"], "Did you mean scoreboard or score?"),
        (["miniatur"], "Did you mean miniature?"),
        (["download"], "hpp miniature writes a stand-in"),
        (["xyzzy"], "Error: No such command 'xyzzy'.\n"),
        (["boxes", "projekt"], "Did you mean project?"),
        (["bench", "bild"], "Did you mean build?"),
        (["serve", "token", "lst"], "Did you mean list?"),
        (["protocols", "lst"], "No such command 'lst'. Did you mean list?"),
        (["scoreboard", "biuld"], "Did you mean build?"),
        (["score", "--protocl", "x"], "Did you mean '--protocol'?"),
        (["protocols", "biwi+/pda"], "did you mean biwi+/pda@1?"),
        (["protocols", "accurate"], "did you mean biwi+/accurate-head-pose@1?"),
        (["scoreboard", "nowhere"], "nowhere: no such folder; add entries"),
    ],
)  # fmt: skip
def test_what_may_be_meant(words, says, hpp):
    result = CliRunner().invoke(main, words)
    assert says in result.output and result.exit_code in (1, 2) and "Traceback" not in result.output


def test_an_id_and_a_folder_are_taken_for_the_obvious_command(hpp, mine):
    assert hpp("protocols", "biwi+/pda@1").output == hpp("protocols", "show", "biwi+/pda@1").output
    assert hpp("scoreboard", "BOARD").output == hpp("scoreboard", "build", "BOARD").output
    assert Path("BOARD/index.html").exists() and "site BOARD/index.html" in hpp("scoreboard", "BOARD").output
    Path("BOARD").rename("bild")  # a folder whose name is like a command's is the folder
    assert "site bild/index.html" in hpp("scoreboard", "bild").output
    protocol = json.loads(hpp("protocols", "--json", "biwi+/pda@1").output)
    assert protocol["frames"] == 15678 and protocol == json.loads(hpp("protocols", "biwi+/pda@1", "--json").output)


def test_reproduce_alone_takes_the_preset_that_needs_no_data(hpp, monkeypatch, tmp_path):
    asked = []

    def stand_in(**options):
        asked.append(options)
        raise HeadposeError("enough")

    monkeypatch.setattr("benchmark.studies.reproduce.reproduce", stand_in)
    monkeypatch.chdir(tmp_path)
    assert "the preset is miniature" in hpp("reproduce", expect=1).output
    for words in (["--preset", "paper"], ["--data", "DATA"]):
        assert "miniature" not in hpp("reproduce", *words, expect=1).output
    assert [(options["preset"], options["data"]) for options in asked] == [
        ("miniature", None), ("paper", None), ("paper", Path("DATA")),
    ]  # fmt: skip
    assert asked[0]["seeds"] == [0, 1, 2] and asked[0]["methods"] is None


def complete(words, shell="bash"):
    """What the shell is told when the last of some words is to be completed."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    environment = {**os.environ, "_HPP_COMPLETE": f"{shell}_complete" if words else f"{shell}_source", **asked}
    code = "import sys; from benchmark.cli.main import main; main(prog_name='hpp')"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    ).stdout


def test_shells_complete_commands():
    assert "complete -o nosort -F _hpp_completion hpp" in complete("")
    assert "#compdef hpp" in complete("", "zsh")
    assert complete("hpp scor").split() == ["plain,score", "plain,scoreboard"]
    assert "plain,show" in complete("hpp protocols s")
    assert "plain,--protocol" in complete("hpp score --prot")
