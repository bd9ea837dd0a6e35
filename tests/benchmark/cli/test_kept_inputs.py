"""What a command reads it does not overwrite, and what stands beside a table is not left to lie of it."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.scoring import submission
from headposeplus import open_dataset, read_labels
from headposeplus.files import sha256
from headposeplus.rotations import from_matrix


@pytest.fixture
def here(built, tmp_path, monkeypatch):
    """An empty folder with predictions of the built Biwi+, ``mine.csv`` and ``mine.toml``, and its data."""
    monkeypatch.chdir(tmp_path)
    ids, rotations = read_labels(open_dataset(built[0] / "biwi+"))
    about = submission.About("Mine", "me", task="cross", training_data="other", convention="pyr", camera="rgb",
                             selection="last", uses_target_images=False)  # fmt: skip
    submission.write_predictions(Path("mine.csv"), ids, from_matrix(rotations) + np.arange(3.0), about)
    shutil.copy("mine.csv", "other.csv")
    shutil.copy("mine.toml", "other.toml")
    return built[0]


@pytest.mark.parametrize(
    "words",
    [
        ("score", "mine.csv", "--report", "mine.csv"),
        ("score", "mine.csv", "--json", "./mine.toml"),
        ("check", "mine.csv", "--json", "mine.toml"),
        ("compare", "mine.csv", "other.csv", "--json", "other.csv"),
        ("compare", "mine.csv", "other.csv", "--json", "other.toml"),
    ],
)
def test_a_file_that_is_read_is_not_written_to(here, hpp, words):
    before = {path.name: sha256(path) for path in Path().iterdir()}
    told = hpp(*words, "--data", here, expect=1).output
    assert told == f"Error: {words[-1].removeprefix('./')}: is read by this command; choose another name to write to\n"
    assert {path.name: sha256(path) for path in Path().iterdir()} == before


def test_a_report_does_not_take_the_place_of_boxes(here, hpp):
    Path("boxes.csv").write_text("id,x,y,width,height\n")
    told = hpp("verify", here, "--boxes", "boxes.csv", "--json", "boxes.csv", expect=1).output
    assert told == "Error: boxes.csv: is read by this command; choose another name to write to\n"
    assert Path("boxes.csv").read_text() == "id,x,y,width,height\n"


def test_poses_are_not_converted_under_the_name_of_others(here, hpp):
    before = sha256(Path("mine.csv"))
    told = hpp("convert", "mine.csv", "mine.csv", "--from", "pyr", "--to", "ypr", expect=1).output
    assert "Error: mine.csv: mine.toml beside it says what its poses are, and would be of the old ones; choose" in told
    assert sha256(Path("mine.csv")) == before
    hpp("convert", "mine.csv", "new.csv", "--from", "pyr", "--to", "ypr")
    hpp("convert", "new.csv", "new.csv", "--from", "ypr", "--to", "pyr")


def test_few_subjects_decide_nothing(here, hpp):
    """Three people who all err less with one: chance does so in one of four cases."""
    worse = pd.read_csv("other.csv")
    worse[["pitch", "yaw", "roll"]] += 9
    worse.to_csv("other.csv", index=False)
    told = hpp("compare", "mine.csv", "other.csv", "--data", here).output
    assert told.count("too few subjects") == 6 and "is better" not in told
    assert "A has the lower MAE in 3 of 3 subjects." in told
