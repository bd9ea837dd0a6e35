"""Presets that are changed, by options or by files, and how runs and entries tell them."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from baselines.networks import BACKBONES
from benchmark.scoring.submission import read_submission
from benchmark.training import presets
from benchmark.training import run as train
from benchmark.training.job import PREDICTIONS, RunOptions, make_job
from benchmark.training.presets import PRESETS, SETTINGS, Preset, changed, changes, find_preset, renamed
from benchmark.training.settings import RUN
from headposeplus.errors import HeadposeError

pytestmark = pytest.mark.usefixtures("one_thread")

TRIAL, PAPER = PRESETS["trial"], PRESETS["paper"]


@pytest.fixture
def written(tmp_path):
    """A function that writes a preset's file and returns its path."""

    def write(text, name="mine.toml"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def folder(tmp_path, preset="trial", **options):
    return make_job("dann", "pda", tmp_path, tmp_path, preset, 0, options, "hpp ...").folder.parent.name


def test_every_setting_of_a_preset_is_described():
    assert list(SETTINGS) == [name for name in Preset._fields if name not in ("name", "base")]
    assert get_args(get_type_hints(Preset)["backbone"]) == BACKBONES
    assert [changes(preset) for preset in PRESETS.values()] == ["", "", ""]


def test_a_printed_preset_is_read_again_as_it_was(written):
    for name, preset in PRESETS.items():
        again = find_preset(written(presets.to_toml(preset)))
        assert again._replace(name=name, base="") == preset and again.base == name and changes(again) == ""


def test_the_presets_are_shown_with_their_values(hpp):
    lines = hpp("presets").output.splitlines()
    assert max(map(len, lines)) <= 80 and [line.split()[0] for line in lines[2:]] == list(SETTINGS)
    assert any(line.split() == ["batch", "200", "100", "20"] for line in lines)
    assert "stage1_rate = 0.03" in hpp("presets", "paper").output.splitlines()
    assert "unknown preset 'papr': expected one of paper" in hpp("presets", "papr", expect=1).output


def test_the_preset_of_the_examples_is_the_papers_network_from_scratch():
    path = Path(__file__).resolve().parents[3] / "examples/scratch.toml"
    preset = find_preset(str(path))
    assert (preset.backbone, preset.weights, preset.base) == ("resnet18", "none", "paper")
    assert all(find_preset(str(path)).stage2_epochs(kind) == 19 for kind in ("da", "pda"))


def test_options_change_both_stages_in_proportion():
    half = changed(PAPER, epochs=10, rate=0.003, batch=100)
    assert (half.stage1_epochs, half.warm, half.ramp, half.hold) == (10, {"da": 5, "pda": 4}, 4, {"da": 6, "pda": 2})
    assert half.stage1_rate == half.stage2_rate == 0.003 and half.batch == 100
    assert half.name == "paper-epochs10-rate0.003-batch100" and half.base == "paper"
    assert changes(half).startswith("paper, but batch 100, not 200; stage1_epochs 10, not 20; stage1_rate 0.003, not ")
    fewest = changed(PRESETS["miniature"], epochs=1, rate=0.001)
    assert fewest.stage2_epochs("pda") == 3 and fewest.stage2_rate == pytest.approx(0.01)
    assert changed(PAPER, epochs=20, rate=0.03, batch=200) == PAPER


def test_what_changes_a_run_changes_its_folder(tmp_path, written):
    first, second = written('base = "trial"\nbatch = 10\n'), written('base = "trial"\nbatch = 12\n', "other.toml")
    settings = [{}, {"epochs": 2}, {"rate": 1e-3}, {"rate": 1e-2}, {"batch": 10}, {"clip": 1.0}, {"clip": 2.0},
                {"weights": "a.pth"}, {"precision": "bfloat16"}, {"augment": "all"}, {"preset": first},
                {"preset": second}, {"preset": first, "epochs": 2}]  # fmt: skip
    names = [folder(tmp_path, **options) for options in settings]
    assert len(set(names)) == len(names) and names[0] == "pda-trial-seed0"
    assert names[1:4] == ["pda-trial-epochs2-seed0", "pda-trial-rate0.001-seed0", "pda-trial-rate0.01-seed0"]
    before = folder(tmp_path, preset=first)
    written('base = "trial"\nbatch = 14\n')
    assert folder(tmp_path, preset=first) != before  # the same file with another value is another preset


def test_a_run_says_what_was_changed(job, hpp, tmp_path, written):
    file = written('base = "trial"\nwarm = {pda = 3}\n')
    words = ("--method", "source-only", "--data", job.data, "--device", "cpu", "--threads", 1)
    hpp("benchmark", *words, "--out", tmp_path / "runs", "--preset", file, "--epochs", 2, "--rate", 1e-3, "--clip", 9)
    (predictions,) = (tmp_path / "runs").glob(f"*/source-only/{PREDICTIONS}")
    name = predictions.parents[1].name.removeprefix("pda-").removesuffix("-seed0")
    about = read_submission(predictions).about
    assert about.name == f"source-only (slim, {name})" and about.preset == name and name.startswith("mine-")
    assert name.endswith("-epochs2-rate0.001-clip9.0")
    assert about.preset_changes == (
        "trial, but stage1_epochs 2, not 3; stage1_rate 0.001, not 0.003; stage2_rate 0.01, not 0.03; "
        "warm 1 (da) and 2 (pda), not 1 (da) and 1 (pda); clip 9.0, not none"
    )
    hpp("score", predictions, "--data", job.data, "--scoreboard", tmp_path / "board", "--resamples", 0)
    (entry,) = (tmp_path / "board").glob("*.json")
    assert json.loads(entry.read_text())["preset_changes"] == about.preset_changes
    page = (tmp_path / "board/entries" / f"{entry.stem}.html").read_text()
    assert "<dt>changed in the preset</dt>" in page and "stage1_rate 0.001, not 0.003" in page
    assert (
        name in (tmp_path / "board/index.html").read_text() and name in (tmp_path / "board/scoreboard.md").read_text()
    )
    verified = hpp("scoreboard", "verify", tmp_path / "board", "--data", job.data).output
    assert "1 entry, 0 wrong, 1 scored again" in verified


def test_a_preset_of_the_toolkit_says_nothing_new(trained):
    predictions = train.run(trained)
    assert "preset_changes" not in predictions.with_suffix(".toml").read_text()
    assert "base" not in json.loads((predictions.parent / RUN).read_text())["preset"]  # older runs are known by it
    assert trained._replace(options=RunOptions(device="cpu", clip=1.0)).changes == "trial, but clip 1.0, not none"
    quiet = renamed(TRIAL._replace(batch=10))  # whoever changes it in Python without a word is found out as well
    assert trained._replace(preset=quiet).changes == "trial, but batch 10, not 20"
    assert trained._replace(preset=quiet).folder.parent.name == "pda-trial-changed-seed0"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('base = "trial"\nbatchs = 3', ", 'batchs': an unknown setting; did you mean batch?"),
        ('base = "papr"', ", base: expected one of paper, miniature, trial, found 'papr'"),
        ("base = 3", ", base: expected one of paper, miniature, trial, found '3'"),
        ('base = "trial"\nbatch = "many"', ", batch: expected a whole number from 2, found 'many'"),
        ('base = "trial"\nbatch = 1', ", batch: expected a whole number from 2, found '1'"),
        ('base = "trial"\nbatch = true', ", batch: expected a whole number from 2, found 'true'"),
        ('base = "trial"\nstage1_rate = nan', ", stage1_rate: expected a number above 0, found 'nan'"),
        ('base = "trial"\nstage1_rate = 1e400  # much', ", stage1_rate: expected a number above 0, found '1e400'"),
        ('base = "trial"\nlast_rate = 1.5', ", last_rate: expected a number above 0, up to 1, found '1.5'"),
        ('base = "trial"\nwarm = {pda = -1}', ", warm: expected such as {da = 10, pda = 7}, each from 0, found"),
        ('base = "trial"\nwarm = {uda = 1}', ", warm: expected such as {da = 10, pda = 7}, each from 0, found"),
        ('base = "trial"\nbackbone = "vgg"', ", backbone: expected resnet18 or slim, found 'vgg'"),
        ('base = "trial"\nname = "x"', ", 'name': an unknown setting; expected base, backbone, weights, size"),
        ("batch = 20", ": lacks backbone, weights, size, held_out,"),
        ("batch = = 20", ": not TOML: Invalid value (at line 1, column 9); hpp presets paper writes a preset"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(text, says, job, hpp, tmp_path, written):
    words = ("--method", "dann", "--data", job.data, "--out", tmp_path / "runs", "--preset", written(text))
    output = hpp("benchmark", *words, expect=1).output
    assert f"mine.toml{says}" in output and len(output.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_files_that_are_no_presets(tmp_path, written):
    for name, says in (
        (
            written('base = "trial"', "paper.toml"),
            "'paper' is the name of a preset of the toolkit; call the file",
        ),
        (written('base = "trial"', "my preset.toml"), "'my preset' is no name for a folder of runs"),
        (
            str(tmp_path / "none.toml"),
            "cannot be read: No such file or directory; expected a preset; hpp",
        ),
        ("papr", "unknown preset 'papr': expected one of paper, miniature, trial, or a file such as my.toml; did"),
    ):
        with pytest.raises(HeadposeError, match=says.replace(".", r"\.")):
            find_preset(name)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--epochs", 0), "--epochs': 0 is not in the range"),
        (("--rate", "nan"), "--rate': nan is not a number"),
        (("--lambda", "nan"), "--lambda': nan is not a number"),
        (("--rate", 0), "--rate': 0.0 is not in the range 0<x"),
        (("--batch", 1), "--batch': 1 is not in the range"),
    ],
)
def test_options_that_are_none(words, says, tmp_path, hpp):
    assert says in hpp("benchmark", "--method", "dann", "--data", tmp_path, "--out", tmp_path, *words, expect=2).output
