import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from benchmark.board import entries as scoreboard
from benchmark.board.published import published_rows
from benchmark.scoring import entry as entry_file
from benchmark.scoring import evaluation, labels, submission
from benchmark.scoring import score as scoring
from benchmark.scoring.figures import Scores
from headposeplus import rotations as rot
from headposeplus.datasets.dataset import open_dataset, read_fields, read_labels
from headposeplus.errors import SubmissionError

ABOUT = {
    "name": "mine", "authors": "me", "link": "", "training_data": "synhead++", "task": "pda", "convention": "pyr",
    "camera": "rgb", "selection": "last epoch", "uses_target_images": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(built, tmp_path_factory):
    """Noisy predictions of three seeds, in a folder each."""
    ids, rotations = read_labels(open_dataset(built[0] / "biwi+"))
    folder, paths = tmp_path_factory.mktemp("runs"), []
    for seed in range(3):
        angles = rot.from_matrix(rotations) + np.random.default_rng(seed).normal(0, 4 + seed, (len(ids), 3))
        paths.append(folder / str(seed) / "predictions.csv")
        submission.write_predictions(paths[-1], ids, angles, submission.About(**ABOUT, seed=seed))
    return paths


@pytest.fixture(scope="module")
def filled(built, runs, tmp_path_factory):
    """A scoreboard with one entry of one seed and one of three, and their predictions; tests change ``board``."""
    folder = tmp_path_factory.mktemp("filled") / "board"
    for paths in (runs[:1], runs):
        scoreboard.add(folder, scoring.score(paths, built[0]).entry, paths)
    return folder


@pytest.fixture
def board(filled, tmp_path):
    """A copy of the scoreboard to change."""
    return shutil.copytree(filled, tmp_path / "board")


def test_an_entry_fits_the_schema_and_says_what_was_scored(built, runs):
    entry = scoring.score(runs[0], built[0]).entry
    assert entry_file.read(entry_file.to_bytes(entry)) == entry
    assert entry.protocol.id.startswith("local-") and entry.seeds == (0,) and entry.deviation is None
    truth = read_labels(open_dataset(built[0] / "biwi+"))[1]
    predicted = submission.read_submission(runs[0]).rotations
    by_hand = np.abs(rot.angle_difference(rot.from_matrix(predicted), rot.from_matrix(truth))).mean(axis=0)
    assert [entry.scores.pitch, entry.scores.yaw, entry.scores.roll] == pytest.approx(
        by_hand, abs=0.3
    )  # a few near yaw 90
    subjects = np.concatenate([f["subject"] for f in read_fields(open_dataset(built[0] / "biwi+"), "subject")])
    assert [group.name for group in entry.by.subject] == sorted(set(subjects))
    assert entry.bootstrap.subjects == len(set(subjects))


def test_seeds_of_one_method_are_one_entry(built, runs):
    entry = scoring.score(runs, built[0]).entry
    single = [scoring.score(path, built[0]).entry.scores for path in runs]
    assert entry.seeds == (0, 1, 2) and list(entry.scores_of_seeds) == single
    assert entry.scores.mae == pytest.approx(np.mean([scores.mae for scores in single]), abs=1e-4)
    assert entry.deviation.mae == pytest.approx(np.std([scores.mae for scores in single], ddof=1), abs=1e-4)
    assert len(entry.predictions_sha256) == 3 and scoreboard.key(entry) != scoreboard.key(
        scoring.score(runs[0], built[0]).entry
    )


def test_the_same_predictions_are_not_two_seeds(built, runs, tmp_path):
    shutil.copytree(runs[0].parent, tmp_path / "1")
    toml = tmp_path / "1/predictions.toml"
    toml.write_text(toml.read_text().replace("seed = 0", "seed = 7"))
    with pytest.raises(SubmissionError, match="the same predictions as in another of these files"):
        scoring.score([runs[0], tmp_path / "1/predictions.csv"], built[0])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed = 1", "seed = 0", r"seeds \[0, 0\]; give each of several files a seed of its own"),
        ("seed = 1", "", r"seeds \[0, None\]"),
        ('"mine"', '"yours"', r"name is 'yours', in .* 'mine'; several files are the seeds of one method"),
    ],
)
def test_files_that_are_not_the_seeds_of_one_method(built, runs, tmp_path, old, new, says):
    shutil.copytree(runs[1].parent, tmp_path / "1")
    toml = tmp_path / "1/predictions.toml"
    toml.write_text(toml.read_text().replace(old, new))
    with pytest.raises(SubmissionError, match=says):
        scoring.score([runs[0], tmp_path / "1/predictions.csv"], built[0])


def test_verify_scores_again(board, built, tmp_path, hpp):
    found = hpp("scoreboard", "verify", board, "--data", built[0]).output
    assert "2 entries, 0 wrong, 2 scored again" in found
    unscored = hpp("scoreboard", "verify", board).output
    assert "2 entries, 0 wrong, 0 scored again" in unscored and "consistent, not scored again: no labels" in unscored
    hpp("scoreboard", "verify", board, "--strict", expect=3)
    hpp("scoreboard", "verify", board, "--strict", "--data", built[0])
    path = sorted(board.glob("*.json"))[0]
    entry = json.loads(path.read_text())
    files = sorted((board / "predictions" / path.stem).glob("*"))
    for change, says in (
        (lambda e: e["scores"].update(mae=0.5), "its MAE 0.5 is not the mean of its three angles"),
        (lambda e: e["scores"].update(dict.fromkeys(("mae", "pitch", "yaw", "roll"), 1.0)), "scores is {"),
        (lambda e: e["intervals"].update(yaw=[0.1, 0.2]), "intervals is {"),
        (lambda e: e["by"]["yaw"][0].update(mae=0.01), "by is {"),
        (lambda e: e.update(name="other"), "the file of this entry is named local-"),
        (lambda e: e.update(uses_target_images=False), "uses_target_images is false, but its predictions give true"),
        (lambda e: e["protocol"].update(frames=3), "protocol_sha256 is not the hash of the protocol in it"),
        (lambda e: e["protocol"].update(id="biwi+/pda@1"), "its protocol biwi+/pda@1 is not as it is frozen"),
        (lambda e: e.update(predictions_sha256=["0" * 64] * len(e["seeds"])), "have other hashes than it says"),
        (lambda e: e.pop("scores"), "missing required field scores"),
    ):
        changed = json.loads(json.dumps(entry))
        change(changed)
        path.write_text(json.dumps(changed))
        output = hpp("scoreboard", "verify", board, "--data", built[0], expect=3).output
        assert "2 entries, 1 wrong" in output and says in output, output
    path.write_text(json.dumps(entry))
    text = files[0].read_text()
    files[0].write_text(text.replace("0", "1", 1))
    assert "have other hashes than it says" in hpp("scoreboard", "verify", board, "--data", built[0], expect=3).output
    shutil.rmtree(files[0].parent)
    assert "no predictions beside it" in hpp("scoreboard", "verify", board, "--data", built[0]).output
    assert "no such folder" in hpp("scoreboard", "verify", tmp_path / "none", expect=1).output


def test_scores_under_other_statistics_are_told_only_with_their_predictions(built, runs, tmp_path, hpp):
    board, path = tmp_path / "board", tmp_path / "run/predictions.csv"
    shutil.copytree(runs[0].parent, path.parent)
    ids, rotations = read_labels(open_dataset(built[0] / "biwi+"))
    for kind, off in (("source", 3.0), ("target", 7.0)):
        other = path.with_name(f"predictions-{kind}.csv")
        submission.write_predictions(
            other, ids, rot.from_matrix(rotations) + np.array([off, 0, 0]), submission.About(**ABOUT)
        )
    hpp("scoreboard", "add", path, "--data", built[0], "--scoreboard", board)
    verify = ("scoreboard", "verify", board, "--data", built[0], "--strict")
    assert "1 entry, 0 wrong, 1 scored again" in hpp(*verify).output
    file = next(board.glob("*.json"))
    told = json.loads(file.read_text())["scores_of_other_statistics"]
    shown = f"{told['source']['mae']:.2f} / {told['target']['mae']:.2f}"
    assert shown in scoreboard.build(board).read_text()
    whole = file.read_text()
    file.write_text(whole.replace(f'"mae": {told["target"]["mae"]}', '"mae": 0.01'))
    output = hpp(*verify, expect=3).output
    assert "1 entry, 1 wrong" in output and "scores_of_other_statistics is {" in output
    file.write_text(whole)
    (board / "predictions" / file.stem / "00-target.csv").unlink()
    output = hpp(*verify, expect=3).output
    assert "consistent, not scored again: no predictions beside it for its scores under other batch" in output
    page = scoreboard.build(board).read_text()
    assert shown not in page and "With other batch statistics" not in next(board.glob("entries/*.html")).read_text()


def test_an_entry_that_nobody_can_verify_is_marked(board, hpp):
    clean = scoreboard.build(board).read_text()
    assert "not verifiable" not in clean and "not verifiable" not in (board / "index.html").read_text()
    bare, other = sorted(board.glob("*.json"))
    shutil.rmtree(board / "predictions" / bare.stem)
    csv = board / "predictions" / other.stem / "00.csv"
    csv.write_text(csv.read_text().replace("0", "1", 1))
    output = hpp("scoreboard", "build", board).output
    assert output.count("mine: not verifiable: ") == 2
    for name, why in (
        (bare.stem, "its predictions are not beside it"),
        (other.stem, "the predictions beside it are not those that it names"),
    ):
        assert f"not verifiable: {why}" in (board / "index.html").read_text()
        assert f"mine: not verifiable: {why}" in output
        assert f"Nobody can score this entry again: {why}." in (board / "entries" / f"{name}.html").read_text()
    csv.unlink()
    os.mkfifo(csv)
    assert "cannot be read: it is a pipe" in hpp("scoreboard", "verify", board, expect=3).output


def test_a_key_that_comes_twice_makes_no_entry(board, hpp):
    """People read the first value, programs the last."""
    path = sorted(board.glob("*.json"))[0]
    text = path.read_text()
    for old, new, twice in (
        ('"mae": ', '"mae": 0.5, "mae": ', "'mae'"),
        ('"name": ', '"name": "theirs", "name": ', "'name'"),
        ('"name": ', '"na\\u006de": "theirs", "name": ', "'name'"),
    ):
        path.write_text(text.replace(old, new, 1))
        output = hpp("scoreboard", "verify", board, expect=3).output
        assert f"not an entry of the scoreboard: {twice} comes twice" in output
        assert f"{twice} comes twice" in hpp("scoreboard", "build", board, expect=1).output


def test_what_a_system_put_beside_entries_is_no_entry(board, built, hpp):
    for path in [path for path in board.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    (board / "predictions" / sorted(board.glob("[!.]*.json"))[0].stem / "desktop.ini").write_text("[x]")
    (board / "desktop.ini").write_text("[x]")
    assert "2 entries, 0 wrong, 2 scored again" in hpp("scoreboard", "verify", board, "--data", built[0]).output
    hpp("scoreboard", "build", board)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "truncated"),
        ("[" * 100_000, "expected object, got array"),
        ('{"schema": 1, "by": ' + '{"yaw": [' * 50_000, "by.yaw[0]"),
        ('{"schema": NaN}', "JSON is malformed"),
        ('{"schema": 1, "name": "\\udc00 more"}', "invalid utf-16 surrogate"),
        ("[]", "expected object, got array"),
        ('{"\\u001b[31m\\u202e\\n": 1}', "unknown field \ufffd[31m\ufffd"),
        ("x" * (5 << 20), "more than 4,194,304 bytes"),
    ],
    ids=["empty", "deep", "deep in a field", "NaN", "surrogate", "list", "hidden", "large"],
)
def test_files_that_are_no_entries(board, text, says):
    path = board / "other.json"
    path.write_text(text)
    with pytest.raises(SubmissionError) as error:
        scoreboard.entries(board)
    message = str(error.value)
    assert message.startswith(str(path)) and "not an entry of the scoreboard: " in message
    assert says in message and len(message) < 500


KEPT = sorted((Path(__file__).resolve().parents[3] / "results/demo/scoreboard").glob("*.json"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_entry_is_written_as_it_was_read(path):
    entry = scoreboard.read_entry(path)
    assert entry_file.to_bytes(entry) == path.read_bytes()
    assert entry_file.read(json.dumps(entry_file.plain(entry)).encode()) == entry
    assert scoreboard.key(entry) == path.stem and entry.protocol.sha256 == entry.protocol_sha256


def test_the_kept_board_is_what_its_entries_give(tmp_path):
    folder = KEPT[0].parent
    for path in KEPT:
        shutil.copy(path, tmp_path)
    shutil.copytree(folder / "predictions", tmp_path / "predictions")
    scoreboard.build(tmp_path)
    pages = [path.relative_to(folder) for path in (folder / "index.html", *folder.glob("entries/*.html"))]
    for page in (*pages, "scoreboard.md"):
        assert (tmp_path / page).read_bytes() == (folder / page).read_bytes(), f"{page}: run hpp scoreboard build"
    assert len(pages) == len(KEPT) + 1


def test_the_json_schema_says_what_an_entry_holds(hpp):
    schema = json.loads(hpp("scoreboard", "schema").output)
    parts = schema["$defs"]
    entry, held = parts["Entry"], json.loads(KEPT[0].read_text())
    assert schema["$ref"] == "#/$defs/Entry" and entry["additionalProperties"] is False
    assert set(entry["required"]) <= set(held) <= set(entry["properties"])
    assert set(held["by"]["yaw"][0]) == set(parts["Bin"]["required"]) == {"from", "to", "frames", "mae", "geodesic"}
    assert parts["Protocol"]["properties"]["convention"] == {"enum": ["biwi", "pyr", "ypr"]}
    assert parts["Scores"]["properties"]["mae"] == {"type": "number", "minimum": 0, "maximum": 180}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 81), ("link", 7), ("link", None), ("quantiles", None), ("selected_epoch", None), ("by", {}),
        ("selected_epoch", 0), ("scores_of_other_statistics", {"<b>": {}}), ("protocol", {}), ("deviation", {}),
        ("suspicions", [3]), ("seeds", [-1]), ("seeds", [True]), ("name", 3), ("link", "javascript:alert(1)"),
        ("uses_target_images", "yes"),
        ("seeds", []), ("predictions_sha256", ["../../x"]), ("toolkit", "<b>"), ("surprise", 1), ("scores", {"mae": 1}),
        ("schema", 2), ("bootstrap", {"over": "frames"}), ("quantiles", {"mae": [float("inf")] * 101}),
    ],
)  # fmt: skip
def test_fields_that_do_not_fit_the_schema(board, field, value):
    path = next(iter(board.glob("*.json")))
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}).replace("Infinity", "1e999"))
    with pytest.raises(SubmissionError, match="not an entry of the scoreboard") as error:
        scoreboard.read_entry(path)
    assert error.value.fault.file == path and field in str(error.value)


def test_pages(board, built, runs, tmp_path):
    entry = scoring.score(runs[0], built[0]).entry
    name, hashes = "<b>x</b> | [y](javascript:z)", ("f" * 64,)
    worse = replace(entry, name=name, predictions_sha256=hashes, scores=Scores(*[30.0] * 6))
    scoreboard.add(board, worse)
    scoreboard.add(board, worse)
    assert len(list(board.glob("*.json"))) == 3
    page = scoreboard.build(board).read_text()
    assert page.index("| mine") < page.index("&lt;b&gt;x") and "<b>" not in page and "](javascript" not in page
    assert f"{entry.scores.mae:.2f}" in page and " ± " in page
    assert "Published" not in page  # no paper has scored these frames
    assert (board / "index.html").exists() and len(list((board / "entries").glob("*.html"))) == 3
    assert "<b>x" not in (board / "index.html").read_text()


def test_the_pages_show_the_published_rows_of_their_own_protocol(hpp, tmp_path):
    """The real board has an entry of AFLW2000-3D, and two of a part of Biwi+, which no paper has scored."""
    folder = tmp_path / "board"
    shutil.copytree(Path(__file__).resolve().parents[3] / "results/board", folder)
    told = hpp("scoreboard", "build", folder, columns=80).output
    page = (folder / "scoreboard.md").read_text()
    first, second = page.split("\n## ")[1:]
    assert "Published" not in second and "published  " not in told.partition("biwi+/cross@1:")[2]
    rows = pd.DataFrame(published_rows()).query("test_set == 'AFLW2000-3D' and n_images == 1969")
    assert len(rows) == 3
    for row in rows.itertuples():
        assert re.search(rf"^\| {re.escape(row.method)} +\| {row.mae:.2f} ", first, re.MULTILINE), row.method
        assert row.source in first
        assert re.search(rf"^{re.escape(row.method)} +{row.mae:.2f} +{row.pitch:.2f} ", told, re.MULTILINE), row.method
    assert len(re.findall(r"^\| .*\[\d\]", first, re.MULTILINE)) == 3
    assert max(map(len, told.partition("\npage ")[0].splitlines())) <= 80
    assert "1 subject is too few to tell entries apart." in told and "1 subject is too few" in second


@pytest.mark.parametrize("date", ['"2026-01-31"', "2026-01-31"])
def test_a_link_to_the_code_and_a_date_come_to_the_board(built, runs, tmp_path, date):
    path = shutil.copytree(runs[0].parent, tmp_path / "run") / "predictions.csv"
    toml = path.with_suffix(".toml")
    plain = scoring.score(path, built[0], resamples=0).entry
    toml.write_text(f'code = "https://example.org/code"\ndate = {date}\n{toml.read_text()}')
    entry = scoring.score(path, built[0], resamples=0).entry
    assert (entry.code, entry.date) == ("https://example.org/code", "2026-01-31")
    assert entry_file.read(entry_file.to_bytes(entry)) == entry
    # Who gives neither has the entry that they would have had.
    assert b'"code"' not in entry_file.to_bytes(plain) and b'"date"' not in entry_file.to_bytes(plain)


def test_the_key_of_an_entry_is_a_plain_name(built, runs):
    entry = scoring.score(runs[0], built[0]).entry
    for name in ("../../etc/passwd", "a/b\\c", "..", "\0", "", "ÄÖÜ", "x" * 80, "CON", "a b<script>"):
        found = scoreboard.key(replace(entry, name=name))
        assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(found) < 180


def test_entries_from_before_the_plain_angles_are_right_and_others_are_held_to_them(board, built, hpp):
    path = next(iter(board.glob("*.json")))
    entry = json.loads(path.read_text())
    plain = entry.pop("plain_angles")
    assert plain["mae"] >= entry["scores"]["mae"] - 1e-4
    for changed, status, says in (
        (entry, 0, f"{path.name}: right"),
        (entry | {"plain_angles": plain | {"mae": 1.5}}, 3, "plain_angles is {"),
    ):
        path.write_text(json.dumps(changed))
        assert says in hpp("scoreboard", "verify", board, "--data", built[0], "--strict", expect=status).output


def test_what_no_board_could_hold_is_not_added(built, runs, tmp_path):
    entry = scoring.score(runs[0], built[0]).entry
    for change, says in (
        ({"name": ""}, "name: '' does not fit a scoreboard: expected str of length >= 1"),
        ({"name": "\ud800"}, "surrogates not allowed"),
        ({"authors": " ", "training_data": ""}, "nothing says its authors, training_data"),
        ({"seeds": tuple(range(101))}, "seeds: "),
        ({"bootstrap": replace(entry.bootstrap, resamples=10**6)}, "bootstrap.resamples: "),
        ({"quantiles": UNSET}, "missing required field quantiles"),
        ({"scores": replace(entry.scores, mae=float("nan"))}, "not JSON compliant"),
    ):
        with pytest.raises(SubmissionError, match="does not fit a scoreboard") as error:
            scoreboard.add(tmp_path / "board", replace(entry, **change))
        assert says in str(error.value) and not (tmp_path / "board").exists()
    # Half a turn is in the last bin, which ends there.
    truth = labels.from_arrays(np.array(["a/1", "b/1"]), rot.to_matrix([[0, 0, 180], [0, 0, 10]]), camera="rgb")
    found = evaluation.measure(truth.rotations[None], scoring.protocols.reference(None, truth, "cross"), 0)
    assert [(part.low, part.high) for part in found.by.roll] == [(0, 15), (165, 180)]


def test_predictions_of_the_board_can_be_added_again(board, built, hpp):
    before = {path: path.read_bytes() for path in board.rglob("predictions/*/*")}
    key = next(path for path in sorted(before) if path.name == "00.csv")
    hpp("scoreboard", "add", key, "--data", built[0], "--scoreboard", board)
    after = {path: path.read_bytes() for path in board.rglob("predictions/*/*")}
    assert {path: after[path] for path in before} == before


def test_subsets_are_scored_again_where_their_frames_are_known(built, tiny, runs, tmp_path, hpp):
    folder, few, ids = tmp_path / "board", tmp_path / "few.txt", submission.read_submission(runs[0]).ids
    few.write_text("\n".join(ids[:20]))
    for subset in ("biwi/female", str(few)):
        entry = scoring.score(runs[0], built[0], subset=subset, manifest_file=tiny / "data_manifest.csv").entry
        scoreboard.add(folder, entry, runs[:1])
    output = hpp("scoreboard", "verify", folder, "--data", built[0]).output
    assert "2 entries, 0 wrong, 0 scored again" in output
    assert "the frames of file:few are not known here" in output and "frames are not in the dataset" in output
    # A stranger's entry does not have files opened.
    path = next(path for path in folder.glob("*.json") if "few" in path.read_text())
    (tmp_path / "secret.txt").write_text("TOPSECRET")
    path.write_text(path.read_text().replace("file:few", str(tmp_path / "secret.txt")))
    assert "TOPSECRET" not in hpp("scoreboard", "verify", folder, "--data", built[0], expect=3).output


@pytest.mark.real
def test_a_subset_of_the_real_biwi_is_scored_again(real, tmp_path, hpp):
    truth = labels.read_labels(real / "Biwi_plus.npz")
    path = tmp_path / "p.csv"
    submission.write_predictions(
        path, truth.ids, rot.from_matrix(truth.rotations) + np.array([1, 0, 0]), submission.About(**ABOUT, seed=0)
    )
    entry = scoring.score(path, real / "Biwi_plus.npz", subset="biwi/female").entry
    assert entry.protocol.id.startswith("biwi+/pda@1:biwi/female@")
    scoreboard.add(tmp_path / "board", entry, [path])
    scoreboard.add(tmp_path / "board", scoring.score(path, real / "Biwi_plus.npz").entry, [path])
    words = ["scoreboard", "verify", tmp_path / "board", "--labels", real / "Biwi_plus.npz"]
    assert "2 entries, 0 wrong, 2 scored again" in hpp(*words).output


def test_published_rows_add_up():
    """MAE is the mean of the three angles within rounding; one row is printed otherwise in the paper."""
    rows = pd.DataFrame(published_rows())
    assert len(rows) == 58 and rows["source"].notna().all()
    # Two roundings to 0.005 each add up to 0.01.
    off = (rows["mae"] - rows[["pitch", "yaw", "roll"]].mean(axis=1)).abs() > 0.0101
    assert rows[off][["task", "method", "mae"]].to_numpy().tolist() == [["pda", "BaselinePDA", 4.53]]
    assert rows["as_printed"].tolist() == off.tolist()
    assert rows.loc[rows["as_printed"], "mean_of_angles"].tolist() == pytest.approx([4.517], abs=1e-3)


def test_add_build_compare_and_report(built, runs, tmp_path, hpp):
    folder, report = tmp_path / "board", tmp_path / "report.html"
    added = hpp("scoreboard", "add", *runs, "--data", built[0], "--scoreboard", folder).output
    assert "mine: MAE" in added and (folder / "index.html").exists()
    # All that it wrote is named, and how to look.
    entry = next(folder.glob("*.json"))
    written = (entry, folder / "scoreboard.md", folder / "index.html", folder / "entries" / f"{entry.stem}.html")
    named = [line.split()[1] for line in added.splitlines() if line.split()[0] in ("entry", "page", "site", "with")]
    assert named == [str(path) for path in written] and all(path.exists() for path in written)
    assert f"open {folder / 'index.html'} in a browser, or hpp scoreboard {folder}" in added
    kept = next(iter((folder / "predictions").iterdir()))
    assert sorted(path.name for path in kept.iterdir()) == [f"0{i}.{end}" for i in range(3) for end in ("csv", "toml")]
    hpp("score", runs[0], "--data", built[0], "--report", report, "--json", tmp_path / "entry.json")
    page = report.read_text()
    ids = read_labels(open_dataset(built[0] / "biwi+"))[0]
    assert page.count("data:image/jpeg;base64,") == 12 and sum(name in page for name in ids.tolist()) == 12
    assert page.count("<svg") >= 4
    compared = hpp("compare", runs[0], f"{runs[1]},{runs[2]}", "--data", built[0], "--json", tmp_path / "c.json").output
    assert "too few subjects" in compared and "A has the lower MAE in" in compared
    record = json.loads((tmp_path / "c.json").read_text())
    mine, other = scoring.score(runs[0], built[0]).entry, scoring.score(runs[1:], built[0]).entry
    assert record["differences"]["mae"] == pytest.approx(mine.scores.mae - other.scores.mae, abs=2e-4)
