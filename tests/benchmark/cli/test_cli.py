import re
import subprocess
import sys

import click
import pytest

from baselines.methods import METHODS
from benchmark.cli.main import main
from benchmark.training.presets import PRESETS
from headposeplus.raw import render_order


def commands(group, *before):
    """Every command of the command line, by the words that call it."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield (*before, name), command


@pytest.mark.parametrize(
    ("words", "command"), list(commands(main)), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help_and_an_example(words, command, hpp):
    text = hpp(*words, "--help").output
    assert "Example" in text and re.search(rf"^ *hpp {' '.join(words)}( |$)", text, re.MULTILINE)
    for option in command.params:
        assert option.param_type_name == "argument" or option.help, option.name


def test_every_method_and_preset_is_listed(hpp):
    assert all(name in hpp("benchmark", "--help").output for name in PRESETS)
    listed = [line.split()[0] for line in hpp("methods", "--wide").output.splitlines()[2:]]
    assert listed == list(METHODS)


def test_help_imports_nothing_heavy():
    heavy = ("torch", "numpy", "pandas", "cv2", "h5py")
    code = f"import sys, benchmark.cli.main; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


@pytest.mark.parametrize("words", ["methods", "presets", "protocols", "subsets", "submission convert --from"])
def test_a_list_is_printed_without_what_takes_long_to_import(words):
    heavy = ("torch", "torchvision", "pandas", "scipy", "h5py", "matplotlib", "sqlalchemy")
    code = (
        f"import sys; from benchmark.cli.main import main; main({words.split()}, standalone_mode=False)\n"
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) > 4 and done.stderr.strip() == "[]"


@pytest.mark.parametrize("words", ["score", "check"])
def test_a_score_loads_neither_torch_nor_tables_nor_drawings(words, tmp_path):
    rows = [f"a{number:03},{number},{-number},1" for number in range(40)]
    labels = ["id,pitch,yaw,roll,subject", *(f"{row},{place % 7}" for place, row in enumerate(rows))]
    (tmp_path / "labels.csv").write_text("\n".join(labels))
    (tmp_path / "mine.csv").write_text("\n".join(["id,pitch,yaw,roll", *rows]))
    said = "--convention pyr --camera rgb --labels-convention pyr --labels-camera rgb --task cross"
    typed = [words, "mine.csv", "--labels", "labels.csv", *said.split()]
    heavy = ("torch", "torchvision", "pandas", "matplotlib", "sqlalchemy")
    code = (
        f"import sys; from benchmark.cli.main import main; main({typed}, standalone_mode=False)\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_from_raw_to_scoreboard(tiny, tmp_path, hpp, monkeypatch):
    """The README's three commands, as a user would type them, with a preset small enough for a test."""
    small = PRESETS["miniature"]._replace(
        batch=20, epoch_samples=60, stage1_epochs=1, warm={"pda": 1, "da": 1}, ramp=1, hold={"pda": 1, "da": 1}
    )
    monkeypatch.setitem(PRESETS, "miniature", small)
    monkeypatch.setattr(render_order, "IMAGES", 320)  # a third of what is compared tells the order as well
    data, runs, board = tmp_path / "data", tmp_path / "runs", tmp_path / "board"
    built = hpp("build-datasets", "--biwi", tiny / "hpdb", "--synhead", tiny / "synhead2_release", "--out", data,
                "--size", 24, "--manifest", tiny / "data_manifest.csv", "--jobs", 1).output  # fmt: skip
    for words in ("biwi+", "synhead++", "rendering order, inferred", "xzy---", "mean Euler error", "48 projected"):
        assert words in built
    trained = hpp("benchmark", "--method", "padaco", "--data", data, "--out", runs, "--preset", "miniature",
                  "--device", "cpu", "--threads", 1).output  # fmt: skip
    predictions = runs / "pda-miniature-seed0/padaco/predictions.csv"
    assert str(predictions) in trained
    scored = hpp("score", predictions, "--data", data, "--scoreboard", board).output
    assert "padaco (slim)" in scored and "local-" in scored and (predictions.parent / "score.json").exists()
    assert "padaco (slim)" in hpp("scoreboard", board).output and (board / "index.html").exists()
    assert "Published" not in (board / "scoreboard.md").read_text(encoding="utf-8")  # on other frames
    assert "1 entry, 0 wrong, 1 scored again" in hpp("scoreboard", "verify", board, "--data", data).output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build-datasets", "--biwi", "{tmp}/none", "--out", "{tmp}/o"], "{tmp}/none: no such folder"),
        (["build-datasets", "--biwi", "{tmp}/empty", "--out", "{tmp}/o"], "{tmp}/empty: not raw Biwi"),
        (["build-datasets", "--synhead", "{tmp}/empty", "--out", "{tmp}/o"], "{tmp}/empty: not raw SynHead"),
        (["build-datasets", "--biwi", "{raw}", "--boxes", "{tmp}/bad.csv", "--out", "{tmp}/o"], "lack the columns"),
        (["build-datasets", "--biwi", "{raw}", "--boxes", "{tmp}/no.csv", "--out", "{tmp}/o"], "{tmp}/no.csv"),
        (["build-datasets", "--biwi", "{raw}", "--manifest", "{tmp}/bad.csv", "--out", "{tmp}/o"], "manifest lacks"),
        (["build-datasets", "--biwi", "{raw}", "--out", "{tmp}/bad.csv/x"], "{tmp}/bad.csv"),
        (
            ["build-datasets", "--synhead", "{raw}", "--render-order", "xyz", "--out", "{tmp}/o"],
            "unknown angle convention",
        ),
        (["build-datasets", "--out", "{tmp}/o"], "give --biwi, --synhead or --aflw2000"),
        (["benchmark", "--method", "padaco", "--data", "{tmp}/empty", "--out", "{tmp}/r"], "build the dataset first"),
        (["benchmark", "--method", "none", "--data", "{tmp}", "--out", "{tmp}/r"], "unknown method 'none'"),
        (
            ["score", "{tmp}/none.csv", "--data", "{tmp}/empty"],
            "{tmp}/none.csv: expected predictions: CSV, Parquet, Feather, npz, or a zip of one",
        ),
        (["scoreboard", "build", "{tmp}/none"], "{tmp}/none: no such folder"),
        (["score", "{tmp}/none.csv"], "give the labels: either --data FOLDER of built datasets, or --labels"),
        (["miniature", "{tmp}", "--scale", "tiny"], "not empty and not a miniature"),
    ],
)
def test_bad_input_is_one_line_and_a_status(tiny, tmp_path, hpp, arguments, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    names = {"tmp": tmp_path, "raw": tiny}
    output = hpp(*(a.format(**names) for a in arguments), expect=1).output
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and says.format(**names) in lines[0] and "Traceback" not in output


def test_a_half_written_image_is_named_and_gives_a_status(tiny_copy, tmp_path, hpp):
    image = sorted((tiny_copy / "hpdb/06").glob("*_rgb.png"))[3]
    image.write_bytes(image.read_bytes()[:2000])
    arguments = ["build-datasets", "--biwi", tiny_copy, "--size", 24, "--jobs", 1,
                 "--manifest", tiny_copy / "data_manifest.csv"]  # fmt: skip
    output = hpp(*arguments, "--out", tmp_path / "a", expect=3).output
    assert (
        "1 damaged or incomplete frame was left out:" in output and f"{image}: truncated image (2000 bytes)" in output
    )
    strict = hpp(*arguments, "--out", tmp_path / "b", "--strict", expect=1).output
    assert f"Error: {image}: truncated image" in strict
