"""Files whose endings are in capitals, and zips, wherever a file of predictions or of labels is given."""

import gzip
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest

from benchmark.scoring import submission
from benchmark.scoring.label_files import LabelsAt, read_label_file
from headposeplus import rotations as rot
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import SubmissionError
from headposeplus.raw import subsets

ABOUT = submission.About(
    name="mine", authors="me", training_data="synhead++", task="pda", convention="pyr", camera="rgb",
    selection="last epoch", uses_target_images=True, seed=0,
)  # fmt: skip
ANGLES = ["pitch", "yaw", "roll"]


@pytest.fixture
def noisy(built, tmp_path):
    """Noisy predictions of the tiny miniature as ``mine.csv``, and their table."""
    ids, rotations = read_labels(open_dataset(built[0] / "biwi+"))
    angles = rot.from_matrix(rotations) + np.random.default_rng(0).normal(0, 4, (len(ids), 3))
    path = tmp_path / "mine.csv"
    submission.write_predictions(path, ids, angles, ABOUT)
    return path


def packed(path, *names, about="", at="about.toml"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in names:
            archive.write(file, name)
        if about:
            archive.writestr(at, about)
    return path


def renamed(path, name, toml):
    """The predictions under another name, and in the form that its ending says."""
    other = path.with_name(name)
    table = pd.read_csv(path)
    kind = name.lower()
    if kind.endswith(".gz"):
        other.write_bytes(gzip.compress(path.read_bytes()))
    elif kind.endswith(".parquet"):
        table.to_parquet(other)
    elif kind.endswith(".npz"):
        with other.open("wb") as file:
            np.savez(file, id=table["id"].to_numpy(str), pyr=table[ANGLES].to_numpy())
    elif kind.endswith(".zip"):
        packed(other, ("predictions.csv", path))
    else:
        shutil.copy(path, other)
    path.with_suffix(".toml").rename(path.with_name(toml))
    return other


@pytest.mark.parametrize(
    ("name", "toml"),
    [
        ("A.CSV", "A.TOML"),
        ("a.Csv", "a.toml"),
        ("A.TXT", "A.TOML"),
        ("A.CSV.GZ", "A.TOML"),
        ("A.PARQUET", "A.TOML"),
        ("A.NPZ", "A.TOML"),
        ("A.ZIP", "A.TOML"),
        ("a.v2.zip", "a.v2.toml"),
        ("a.csv.zip", "a.toml"),
    ],
)
def test_endings_in_capitals_are_endings(noisy, built, tmp_path, hpp, name, toml):
    plain = hpp("score", noisy, "--data", built[0], "--resamples", 20).output
    path = renamed(noisy, name, toml)
    board = tmp_path / "board"
    assert "0 faults, 0 suspicions" in hpp("check", path, "--data", built[0]).output
    scored = hpp("score", path, "--data", built[0], "--resamples", 20).output
    assert scored.partition("\nentry")[0] == plain.partition("\nentry")[0]
    hpp("scoreboard", "add", path, "--data", built[0], "--scoreboard", board)
    assert "1 entry, 0 wrong, 1 scored again" in hpp("scoreboard", "verify", board, "--data", built[0]).output
    converted = hpp("convert", path, tmp_path / "OUT.CSV", "--from", "pyr", "--to", "ypr").output
    assert "48 rows, from pyr" in converted and len(pd.read_csv(tmp_path / "OUT.CSV")) == 48


def test_a_zip_may_hold_its_toml(noisy, built, tmp_path, hpp):
    path = packed(tmp_path / "sent.zip", ("p/predictions.csv", noisy), about=ABOUT.to_toml())
    assert submission.about_path(path) == path / "about.toml"
    assert "0 faults, 0 suspicions" in hpp("check", path, "--data", built[0]).output
    board = tmp_path / "board"
    hpp("scoreboard", "add", path, "--data", built[0], "--scoreboard", board)
    assert "1 entry, 0 wrong, 1 scored again" in hpp("scoreboard", "verify", board, "--data", built[0]).output
    packed(path, ("predictions.csv", noisy), about=ABOUT.to_toml().replace('"mine"', '""'))
    assert f"fault: {path}/about.toml, name: empty" in hpp("check", path, "--data", built[0], expect=3).output
    # That beside the zip comes first.
    path.with_suffix(".toml").write_text(ABOUT.to_toml())
    assert "0 faults, 0 suspicions" in hpp("check", path, "--data", built[0]).output


@pytest.mark.parametrize("at", ["folder/mine.toml", "/etc/mine.toml", "../mine.toml", "x/\x1b[31mred.toml"])
def test_a_toml_is_read_from_the_zip_wherever_the_zip_says_it_is(noisy, built, tmp_path, hpp, at):
    path = packed(tmp_path / "sent.zip", ("folder/mine.csv", noisy), about=ABOUT.to_toml(), at=at)
    assert submission.read_files(path)[1].decode() == ABOUT.to_toml()
    named = submission.about_path(path)
    assert named.parent == path and str(named).isprintable()
    assert "0 faults, 0 suspicions" in hpp("check", path, "--data", built[0]).output


def test_a_zip_names_no_file_of_this_machine(noisy, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('name = "a secret"')
    path = packed(tmp_path / "sent.zip", ("mine.csv", noisy), about='name = "theirs"', at=str(own))
    assert submission.read_files(path)[1] == b'name = "theirs"'


def test_of_several_tomls_the_one_of_the_table_s_name_counts(noisy, tmp_path):
    path = packed(tmp_path / "sent.zip", ("mine.csv", noisy), about=ABOUT.to_toml(), at="mine.toml")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("pyproject.toml", "")
        archive.writestr("log.txt", "epoch 1")
    assert submission.read_files(path)[1].decode() == ABOUT.to_toml()
    with pytest.raises(SubmissionError, match="a zip of 2 TOMLs; pack one table, and at most its TOML"):
        submission.read_submission(packed_twice(tmp_path, noisy))


def packed_twice(tmp_path, noisy):
    path = packed(tmp_path / "twice.zip", ("mine.csv", noisy), about="", at="a.toml")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.toml", ABOUT.to_toml())
        archive.writestr("b.toml", ABOUT.to_toml())
    return path


def test_labels_in_a_zip_have_their_toml_there(noisy, tmp_path):
    said = 'convention = "pyr"\ncamera = "rgb"\n'
    path = packed(tmp_path / "labels.zip", ("labels.csv", noisy), about=said, at="labels.toml")
    table = read_label_file(LabelsAt(path, "", ""))
    assert (table.convention, table.camera, table.unsaid) == ("pyr", "rgb", ())


def test_a_zip_that_cannot_be_scored_is_told(noisy, built, tmp_path, hpp):
    alone = packed(tmp_path / "alone.zip", ("predictions.csv", noisy))
    words = f"{tmp_path}/alone.zip, camera: missing; give --camera rgb or depth, or say it in alone.toml"
    assert words in hpp("check", alone, "--data", built[0], expect=3).output
    both = packed(tmp_path / "mine.zip", ("a.csv", noisy), ("b.csv", noisy))
    output = hpp("check", both, "--data", built[0], expect=3).output
    assert f"fault: {both}: a zip of 2 tables, 'a.csv', 'b.csv'; pack one table, and at most its TOML" in output
    np.save(tmp_path / "mine.npy", np.zeros((48, 3)))
    output = hpp("check", tmp_path / "mine.npy", "--data", built[0], expect=3).output
    assert "mine.npy: a NumPy array (.npy), which has no place for ids; save it with its ids, numpy.savez(" in output
    output = hpp("convert", tmp_path / "mine.npy", tmp_path / "b.csv", "--from", "pyr", "--to", "ypr", expect=1).output
    assert "mine.npy: a NumPy array (.npy), which has no place for ids; save it with its ids, numpy.savez(" in output
    noisy.write_text('[{"id": "biwi/01/00003"}]')
    assert "mine.csv: JSON, no table; write a CSV" in hpp("check", noisy, "--data", built[0], expect=3).output


def test_labels_templates_exports_and_subsets_in_capitals(noisy, built, tiny, tmp_path, hpp):
    labels = tmp_path / "LABELS.CSV"
    hpp("export", built[0] / "biwi+", "--out", labels)
    assert labels.exists() and (tmp_path / "LABELS.toml").exists()
    (tmp_path / "LABELS.toml").rename(tmp_path / "LABELS.TOML")
    assert "0 faults, 0 suspicions" in hpp("check", noisy, "--labels", labels).output
    (tmp_path / "LABELS.TOML").write_text('camera = "left"\n')
    assert "LABELS.TOML, camera: 'left' is unknown" in hpp("check", noisy, "--labels", labels, expect=1).output
    (tmp_path / "LABELS.TOML").unlink()
    hpp("export", built[0] / "biwi+", "--out", tmp_path / "LABELS.NPZ")
    assert "0 faults, 0 suspicions" in hpp("check", noisy, "--labels", tmp_path / "LABELS.NPZ").output
    hpp("submission", "template", "--protocol", "biwi+/16-8@1", "--out", tmp_path / "T.CSV")
    assert (tmp_path / "T.CSV").exists() and (tmp_path / "T.toml").exists()
    few = tmp_path / "FEW.TXT"
    few.write_text("\n".join(pd.read_csv(noisy)["id"][:5]))
    assert len(subsets.find(few, tiny / "data_manifest.csv").ids) == 5
