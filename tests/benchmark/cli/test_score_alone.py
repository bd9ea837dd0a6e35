"""Predictions with no TOML beside them: what is asked, what is scored, and what a scoreboard still needs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.scoring import entry as entry_file
from benchmark.scoring import submission
from headposeplus import rotations as rot
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import SubmissionError
from headposeplus.poses.columns import MATRIX_COLUMNS

ROOT = Path(__file__).resolve().parents[3]
SAID = ["--convention", "ypr", "--camera", "rgb"]
WORDS = ["--name", "Mine", "--authors", "Me", "--training-data", "300W-LP", "--selected-by", "released weights",
         "--no-target-images"]  # fmt: skip


@pytest.fixture
def predicted(built):
    """The ids of the miniature's frames, and noisy angles in the convention ypr."""
    ids, truth = read_labels(open_dataset(built[0] / "biwi+"))
    angles = rot.from_matrix(truth, "ypr") + np.random.default_rng(0).normal(0, 4, (len(ids), 3))
    return ids, angles


@pytest.fixture
def mine(predicted, tmp_path):
    """A CSV of those."""
    return write(tmp_path / "mine.csv", *predicted)


def write(path, ids, angles):
    pd.DataFrame({"id": ids, **dict(zip(("pitch", "yaw", "roll"), angles.T, strict=True))}).to_csv(path, index=False)
    return path


def mae(path):
    return json.loads(path.read_text())["scores"]["mae"]


def expected(built, predicted):
    """The MAE, by the library."""
    ids, angles = predicted
    from benchmark import evaluate

    return evaluate(ids, rot.to_matrix(angles, "ypr"), labels=built[0], resamples=0).scores.mae


def test_the_first_command_asks_and_the_second_scores(built, predicted, tmp_path, hpp, monkeypatch):
    """An npz as networks leave it: names of images, and yaw, pitch, roll in one array whose name says so."""
    monkeypatch.chdir(tmp_path)
    ids, angles = predicted
    images = [f"{name[5:7]}/frame_{name[8:]}_rgb.png" for name in ids.tolist()]
    np.savez("network.npz", images=images, pred_ypr=angles[:, [1, 0, 2]], label_ypr=np.zeros((len(ids), 3)))
    words = ["score", "network.npz", "--data", built[0], "--resamples", 20]
    asked = hpp(*words, expect=2).output
    lines = asked.splitlines()
    assert lines[0] == "Error: network.npz: which protocol? That depends on what the network was trained on:"
    assert lines[1] == "  trained on any data but these: --task cross" and len(lines) == 5
    assert lines[4] == "  and camera: missing; give --camera rgb or depth, or say it in network.toml"
    told = hpp(*words, "--task", "cross", "--camera", "rgb").output
    assert mae(tmp_path / "network-score.json") == pytest.approx(expected(built, predicted), abs=1e-4)
    needs = "--name, --authors, --training-data, --selected-by, --target-images or --no-target-images"
    assert f"a scoreboard still needs {needs}; or write them into network.toml" in told
    assert "network.npz, trained on data that nobody named" in told


def test_figures_without_the_authors_words_are_no_entry(built, mine, tmp_path, hpp):
    words = ["score", mine, "--data", built[0], "--task", "cross", *SAID, "--resamples", 20]
    hpp(*words, "--name", "Mine", "--report", tmp_path / "report.html")
    scores = tmp_path / "mine-score.json"
    content = json.loads(scores.read_text())
    assert content["name"] == "Mine" and not {"authors", "training_data", "selection", "uses_target_images"} & set(
        content
    )
    assert "target images used" not in (tmp_path / "report.html").read_text()
    with pytest.raises(SubmissionError, match=r"not an entry of the scoreboard: .* missing required field"):
        entry_file.read(scores.read_bytes())
    board = tmp_path / "board"
    told = hpp(*words, "--name", "Mine", "--scoreboard", board, expect=1).output
    assert "mine.csv: an entry of a scoreboard needs authors, training_data, selection, uses_target_images" in told
    assert "give --authors, --training-data, --selected-by, --target-images or --no-target-images" in told
    assert not board.exists()
    assert told == hpp("scoreboard", "add", mine, *words[2:], "--name", "Mine", "--scoreboard", board, expect=1).output


def test_options_are_a_whole_description(built, mine, predicted, tmp_path, hpp):
    """The board keeps them as the TOML, and anyone scores the entry again."""
    board = tmp_path / "board"
    words = [mine, "--data", built[0], *SAID, *WORDS, "--resamples", 20]
    told = hpp("score", *words, "--scoreboard", board).output
    assert "no protocol was named; this is that of training data '300W-LP'" in told and "still needs" not in told
    (kept,) = board.glob("predictions/*/*.toml")
    about, faults = submission.read_about(kept.read_bytes())
    assert (about.selection, about.uses_target_images, about.convention, faults) == (
        "released weights",
        False,
        "ypr",
        [],
    )
    entry = entry_file.read((tmp_path / "mine-score.json").read_bytes())
    assert entry.authors == "Me" and entry.scores.mae == pytest.approx(expected(built, predicted), abs=1e-4)
    kept.write_text(kept.read_text() + 'task = "cross"\n')
    assert (
        "1 entry, 0 wrong, 1 scored again" in hpp("scoreboard", "verify", board, "--data", built[0], "--strict").output
    )


def test_rotations_and_angles_whose_names_say_it_need_no_convention(built, predicted, tmp_path, hpp):
    ids, angles = predicted
    matrices = rot.to_matrix(angles, "ypr").reshape(-1, 9)
    forms = {
        "matrices": dict(zip(MATRIX_COLUMNS, matrices.T, strict=True)),
        "named": dict(zip(("pitch_ypr", "yaw_ypr", "roll_ypr"), angles.T, strict=True)),
        # Angles of nobody knows which convention beside a rotation are not read.
        "both": dict(zip((*MATRIX_COLUMNS, "pitch", "yaw", "roll"), (*matrices.T, *angles.T), strict=True)),
    }
    for name, columns in forms.items():
        path = tmp_path / f"{name}.csv"
        pd.DataFrame({"id": ids, **columns}).to_csv(path, index=False)
        words = [path, "--data", built[0], "--camera", "rgb", *WORDS]
        assert "0 faults, 0 suspicions" in hpp("check", *words).output
        hpp("scoreboard", "add", *words, "--resamples", 20, "--scoreboard", tmp_path / name)
        (kept,) = (tmp_path / name).glob("*.json")
        assert mae(kept) == pytest.approx(expected(built, predicted), abs=1e-4), name


def test_what_angles_need_is_asked_and_never_assumed(built, mine, tmp_path, hpp):
    words = [mine, "--data", built[0], "--task", "cross"]
    told = hpp("score", *words, expect=1).output
    assert "these poses need convention, camera, which nothing says; give --convention pyr or biwi or ypr, " in told
    told = hpp("score", *words, "--camera", "rgb", expect=1).output
    found = re.search(
        r"convention: missing \(the MAE would be: ypr (\S+), \w+ (\S+), \w+ (\S+)\); give --convention", told
    )
    assert float(found[1]) < 5 < float(found[2]) <= float(found[3]) and not list(tmp_path.glob("*.json"))
    told = hpp("score", *words, "--convention", "ypr", expect=1).output
    assert told == f"Error: {mine}, camera: missing; give --camera rgb or depth, or say it in mine.toml\n"
    assert "looks like pyr" not in told
    faults = hpp("check", *words, expect=3).output
    assert "convention: missing" in faults and "camera: missing" in faults and "2 faults" in faults


def test_photographs_have_one_camera(photographs, tmp_path, hpp):
    from benchmark.scoring.labels import read_labels as read

    truth = read(photographs)
    path = write(tmp_path / "mine.csv", truth.ids, rot.from_matrix(truth.rotations, "ypr") + 1)
    words = ["score", path, "--labels", photographs, "--convention", "ypr", "--resamples", 0]
    asked = hpp(*words, expect=2).output
    assert "--task cross-aflw2000" in asked and "camera" not in asked
    assert "/cross, 8 frames" in hpp(*words, "--training-data", "300W-LP").output


def test_an_option_fills_in_a_toml_and_never_overrules_it(built, mine, tmp_path, hpp):
    toml = mine.with_suffix(".toml")
    toml.write_text('task = "cross"\nname = ""\nconvention = "ypr"\ncamera = "rgb"\n')
    words = ["--data", built[0], "--resamples", 20]
    told = hpp("score", mine, *words, "--convention", "pyr", expect=1).output
    assert "mine.toml, convention: 'ypr' there, but 'pyr' by --convention; leave that out, or change the line" in told
    told = hpp("score", mine, *words, "--name", "Mine").output
    assert "Mine, trained on data that nobody named" in told
    toml.write_text("name = Mine\n")
    assert "mine.toml: not TOML" in hpp("score", mine, *words, "--name", "Mine", expect=1).output


def test_several_files_and_two_methods_without_a_toml(built, predicted, tmp_path, hpp):
    ids, angles = predicted
    a, b = write(tmp_path / "a.csv", ids, angles), write(tmp_path / "b.csv", ids, angles + 1)
    words = ["--data", built[0], "--resamples", 20]
    assert "± over seeds" in hpp("score", a, b, *words, "--task", "cross", *SAID).output
    assert "which protocol?" in hpp("compare", a, b, *words, *SAID, expect=2).output
    assert "A - B" in hpp("compare", a, b, *words, *SAID, "--training-data", "300W-LP").output
    told = hpp("scoreboard", "add", a, b, *words, *SAID, *WORDS, "--scoreboard", tmp_path / "board", expect=1).output
    assert f"{b}, seed: seeds [None, None]; give each of several files a seed of its own in its TOML" in told


def renamed(path, ids):
    write(path, [f"lab/{name}" for name in ids], np.zeros((len(ids), 3)))


def shortened(path, ids):
    write(path, ids[1:], np.random.default_rng(0).normal(0, 20, (len(ids) - 1, 3)))


def described(text):
    return lambda path, ids: path.with_suffix(".toml").write_text(text)


@pytest.mark.parametrize(
    ("change", "task", "says"),
    [
        (lambda path, ids: path.write_text(""), True, "mine.csv: an empty file; write the header"),
        (lambda path, ids: path.write_text(""), False, "mine.csv: an empty file; write the header"),
        (lambda path, ids: path.unlink(), False, "mine.csv: expected predictions: CSV, Parquet"),
        (shortened, True, "mine.csv: 1 of 48 frames is missing"),
        (renamed, False, "mine.csv: no id is one of the labels', the first 'lab/biwi/"),
        (renamed, True, "mine.csv: no id is one of the test set's, the first 'lab/biwi/"),
        (
            described('protocol = "biwi+/pda@1"\n'),
            False,
            "not the test set of biwi+/pda@1: expected its 15,678 frames, found 48",
        ),
        (described('protocol = "biwi/pda"\n'), False, "mine.toml, protocol: the TOML names 'biwi/pda', no frozen"),
        (described("name = Mine\n"), False, "mine.toml: not TOML"),
    ],
)
def test_what_goes_wrong_has_one_line(built, mine, predicted, hpp, change, task, says):
    change(mine, predicted[0])
    told = hpp("score", mine, "--data", built[0], *(["--task", "cross"] if task else []), *SAID, expect=1).output
    assert says in told and told.startswith("Error: ") and told.count("\n") == 1 and "Traceback" not in told


def test_a_template_lists_the_protocols(built, tmp_path, hpp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = hpp("submission", "template", expect=2).output.splitlines()
    assert told[1] == "  trained on any data but Biwi, such as 300W-LP: --protocol biwi+/cross@1"
    assert told[4] == "  trained on any data but AFLW2000-3D, such as 300W-LP: --protocol aflw2000/cross@1"
    told = hpp("submission", "template", "--data", built[0], expect=2).output
    assert "These frames are no frozen one's; name it with --protocol: hpp protocols lists them" in told
    assert not list(tmp_path.iterdir())


def test_a_check_lists_the_protocols_beside_all_else(tmp_path, hpp):
    from headposeplus.raw import subsets

    ids = subsets.find("biwi/sequence-19").ids
    path = write(tmp_path / "mine.csv", ids, np.random.default_rng(0).normal(0, 20, (len(ids), 3)))
    told = hpp("check", path, "--camera", "rgb", expect=3).output
    assert "--protocol biwi+/cross@1 --subset biwi/sequence-19; " in told and "--protocol biwi+/leave-M11-out@1" in told
    assert "mine.csv, convention: missing; give --convention pyr or biwi or ypr, or say it in mine.toml" in told
    told = hpp("check", path, *SAID, "--training-data", "300W-LP").output
    assert "0 faults, 0 suspicions; biwi+/cross@1:biwi/sequence-19@5839b5c9, 502 frames" in told
    assert "no protocol was named; this is that of training data '300W-LP'" in told
    told = hpp("check", path, *SAID, "--protocol", "biwi+/cross@1", expect=3).output
    assert "these are all of biwi/sequence-19: --subset biwi/sequence-19 scores it alone" in told


def test_labels_are_no_predictions(predicted, tmp_path):
    from benchmark.scoring.label_files import LabelsAt
    from benchmark.scoring.labels import read_labels as read
    from headposeplus.errors import DatasetError

    np.savez(tmp_path / "network.npz", id=predicted[0], pred_ypr=predicted[1])
    with pytest.raises(DatasetError, match=r"network\.npz: holds predictions, pred_ypr, and no labels"):
        read(LabelsAt(tmp_path / "network.npz"))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "labels", "second", "score"),
    [
        ("fsanet19.csv", "Biwi_plus.npz", "--subset biwi/sequence-19", 6.82),
        (
            "fsanet_onnx_biwi.npz",
            "Biwi_plus.npz",
            "--protocol biwi+/cross@1 --subset biwi/sequence-19 --camera rgb",
            6.82,
        ),
        ("fsanet_onnx_aflw2000.npz", "aflw2000", "--protocol aflw2000/cross@1", 5.53),
    ],
)
def test_a_real_network_is_scored_in_two_commands(real, name, labels, second, score, tmp_path):
    for path in (real / "predictions").glob(f"{name.partition('.')[0]}.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def shell(words):
        command = f"'{sys.executable}' -m benchmark score {name} --labels '{real / labels}' --resamples 50 {words}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, shell=True, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment
        )

    first = shell("")
    assert first.returncode in (1, 2) and "Traceback" not in first.stderr
    said = second.partition(" --camera")[0]  # what the second command says more, the first has listed
    assert said in first.stderr and ("--camera rgb or depth" in first.stderr) is ("--camera" in second)
    done = shell(second)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("*-score.json")
    assert mae(written) == pytest.approx(score, abs=0.005)


def test_what_an_option_said_wrongly_is_mended_by_the_option(mine, built, tmp_path, hpp):
    """Angles in ypr that ``--convention`` calls pyr: no line of a TOML is to be changed, as there is none."""
    words = [mine, "--data", built[0], "--task", "cross", "--camera", "rgb"]
    for command in (["check"], ["score"]):
        told = hpp(*command, *words, "--convention", "pyr").output
        assert (
            "angles look like ypr, not pyr" in told
            and "give --convention ypr" in told
            and "write convention" not in told
        )
    mine.with_suffix(".toml").write_text('convention = "pyr"\n')
    assert 'write convention = "ypr"' in hpp("score", *words).output
