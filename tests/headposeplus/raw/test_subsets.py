import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from msgspec import UNSET
from msgspec.structs import asdict

from benchmark.board import entries as scoreboard
from benchmark.scoring import metrics, submission
from benchmark.scoring import score as scoring
from headposeplus import rotations as rot
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import DatasetError, SubmissionError
from headposeplus.raw import manifest, subsets

ABOUT = {
    "name": "mine", "authors": "me", "link": "", "training_data": "synhead++", "task": "pda", "convention": "pyr",
    "camera": "rgb", "selection": "last epoch", "uses_target_images": True, "seed": 0,
}  # fmt: skip
DEFINED = pd.read_csv(subsets.FILE, dtype=str, keep_default_na=False).set_index("name")


def sha(ids):
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def test_the_committed_file_is_what_the_rule_gives():
    assert subsets.FILE.read_text(encoding="utf-8") == subsets.generate()


@pytest.mark.real
def test_subsets_are_frames_of_the_published_biwi(real):
    images = np.load(real / "Biwi_plus.npz")["images"].tolist()
    for name, row in DEFINED.iterrows():
        lists, sequences = subsets.frame_lists().get(name), row["sequences"].split()
        ids = [
            f"biwi/{i[:2]}/{i[9:14]}"
            for i in images
            if i[:2] in sequences and (lists is None or int(i[9:14]) in lists[i[:2]])
        ]
        assert lists is None or len(ids) == sum(map(len, lists.values()))
        found = subsets.find(name)
        assert found.ids == tuple(sorted(ids)) and found.sha256 == sha(ids) == row["frames_sha256"]
        assert len(ids) == int(row["frames"])


def test_splits_share_no_frame_and_leave_none_out():
    subject = dict(
        pd.read_csv(manifest.default_path(), dtype=str).query("dataset == 'biwi'")[["unit", "subject"]].values
    )
    splits = DEFINED[DEFINED["part"] != ""].groupby("split")
    assert len(splits) == 4 + 20 + 1 and len(subsets.names()) == 2 * 25 + 2 + len(subsets.frame_lists())
    for split, rows in splits:
        train, test = (rows.set_index("part").loc[part, "sequences"].split() for part in ("train", "test"))
        assert sorted(train + test) == [f"{n:02d}" for n in range(1, 25)]
        straddling = {subject[s] for s in train} & {subject[s] for s in test}
        assert set(rows["straddling_subjects"]) == {" ".join(sorted(straddling))}
        assert straddling <= {"F02", "F03", "F05", "M01"}
        if "leave" in split:
            assert not straddling and {subject[s] for s in test} == {split[11:14]}
        elif split == "biwi/accurate-head-pose":
            assert test == ["01", "10", "23"] and not straddling
        else:
            assert len(train) == (16 if "16-8" in split else 17)
            assert "was never published" in rows["source"].iloc[0]
            draw = {s: hashlib.sha256(f"{split} seed 0 sequence {s}".encode()).hexdigest() for s in train + test}
            assert max(draw[s] for s in train) < min(draw[s] for s in test)
            assert " ".join(sorted(straddling)) in subsets.find(f"{split}/train").source
    assert [len(subsets.find(f"biwi/{sex}").ids) for sex in ("female", "male")] == [5874, 9804]
    assert {subject[s][0] for s in DEFINED.loc["biwi/female", "sequences"].split()} == {"F"}


# Rows of VGGT-HPE's protocols/table2_hard_pairs.csv and table3_easy_pairs.csv.
HARD = {
    "01": (488, 491, 498, 495, 490), "02": (392, 391, 395, 393, 390), "03": (562, 561, 560, 563, 559),
    "04": (153, 146, 158, 154, 156), "05": (862, 861, 857, 863, 858), "20": (50, 49, 47, 52, 51),
    "21": (461, 460, 459, 458, 462), "22": (233, 234, 232, 231, 230), "23": (66, 65, 63, 62, 225),
    "24": (146, 147, 151, 150, 149),
}  # fmt: skip
EASY = {
    "01": (271, 267, 266, 272, 265), "02": (507, 506, 505, 510, 509), "03": (26, 34, 21, 35, 23),
    "04": (478, 474, 479, 473, 480), "05": (491, 11, 3, 9, 4), "21": (570, 254, 568, 571, 336),
    "22": (315, 317, 413, 412, 314), "23": (328, 269, 326, 268, 272), "24": (193, 226, 225, 227, 228),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "rows"), [("hard", HARD), ("easy", EASY)])
def test_published_rows_are_in_the_lists(kind, rows):
    lists = subsets.frame_lists()[f"biwi/vggt-hpe/{kind}"]
    assert {sequence: set(lists[sequence]) for sequence in rows} == {key: set(row) for key, row in rows.items()}


def test_a_sequence_is_a_subset(tiny, hpp):
    found = subsets.find("biwi/sequence-19")
    assert found.ids == subsets.find("biwi/leave-M11-out/test").ids and len(found.ids) == 502
    assert "M11" in found.source
    assert len(subsets.find("biwi/sequence-03", tiny / "data_manifest.csv").ids) == 12
    assert hpp("subsets", "biwi/sequence-19").output.splitlines()[0] == "biwi/19/00000"
    for wrong, near in (("25", "2"), ("9", "09")):
        with pytest.raises(DatasetError, match=f"biwi/sequence-{wrong}: no such subset, .* biwi/sequence-{near}"):
            subsets.find(f"biwi/sequence-{wrong}")
    with pytest.raises(DatasetError, match="`subset` is empty"):
        subsets.find("")
    assert "biwi/sequence-01 to biwi/sequence-24" in subsets.table()


def test_the_frames_of_fsa_net():
    """Their number is the literature's; and the last lines of OPAL's list, which have gaps."""
    ids = subsets.find("biwi/fsa-net").ids
    assert len(ids) == 13_219
    tail = [*range(508, 524), 525, *range(527, 535), *range(583, 593), 594, 595, *range(606, 623)]
    assert {int(name[8:]) for name in ids if name > "biwi/24/00424"} == set(tail)


@pytest.mark.real
def test_the_lists_follow_from_the_depth_cameras_poses(annotations):
    for sequence in sorted(path.name for path in annotations.iterdir()):
        distances = {}
        for path in (annotations / sequence).iterdir():
            pitch, yaw, roll = np.radians(np.frombuffer(path.read_bytes(), "<f4")[3:].astype(float))
            # The trace of Rz Ry Rx, written out.
            a, b, c = np.cos([pitch, yaw, roll])
            trace = b * c + a * c + np.prod(np.sin([pitch, yaw, roll])) + a * b
            distances[int(path.name[6:11])] = np.arccos((trace - 1) / 2)
        ranked = sorted(distances, key=distances.__getitem__)
        assert subsets.frame_lists()["biwi/vggt-hpe/hard"][sequence] == set(ranked[-5:])
        assert subsets.frame_lists()["biwi/vggt-hpe/easy"][sequence] == set(ranked[3:8])


def test_the_table_lists_all():
    text = subsets.table()
    for name, row in DEFINED.iterrows():
        assert re.search(rf"^{name} +{int(row['frames']):,} .*{row['frames_sha256'][:8]}$", text, re.MULTILINE)
        assert " ".join(row["source"].split()) in " ".join(text.split())


def test_under_a_miniatures_manifest_a_name_has_other_frames(tiny):
    path = tiny / "data_manifest.csv"
    found = subsets.find("biwi/16-8/test", path)
    assert len(found.ids) == 12 and {name[:8] for name in found.ids} == {"biwi/06/"}
    assert found.sha256 == sha(found.ids) != DEFINED.loc["biwi/16-8/test", "frames_sha256"]
    with pytest.raises(DatasetError, match=r"data_manifest\.csv: lists no frame of the subset biwi/leave-M14-out/test"):
        subsets.find("biwi/leave-M14-out/test", path)


@pytest.mark.parametrize(
    "text",
    [
        "biwi/01/00003\nbiwi/24/00622\n",
        "\ufeff# mine\r\n\r\n24/frame_00622_rgb.png\r\n  biwi/01/00003  \r\n",
        "/data/hpdb/01/frame_00003_rgb.jpg\nC:\\biwi\\faces_0\\24\\frame_00622_rgb.png",
        "# headposeplus boxes 1\nx, id ,note\n1,biwi/24/00622,\"a, b\"\n2,01/frame_00003_rgb.png,\n",
        "\ufeffid\nbiwi/01/00003\n\nbiwi/24/00622",
        "#;image;tl_x\nhpdb/24/frame_00622_rgb.png;335;179;435\nhpdb/01/frame_00003_rgb.png;1;2;3",
        '{"01/frame_00003": [1, 2, 3, 4], "24/frame_00622": [1, 2, 3, 4]}',
        '["01/frame_00003", "24_frame_00622_rgb.png"]',
    ],
)  # fmt: skip
def test_files_of_frames(tmp_path, text):
    path = tmp_path / "mtcnn.txt"
    path.write_bytes(text.encode())
    found = subsets.find(str(path))
    assert found.name == "file:mtcnn" and found.ids == ("biwi/01/00003", "biwi/24/00622")
    assert found.sha256 == sha(["biwi/01/00003", "biwi/24/00622"]) and "mtcnn.txt" in found.source


def test_an_npz_is_a_subset(tmp_path):
    path = tmp_path / "mine.npz"
    names = np.array(["01/frame_00003_rgb.png", "24/frame_00622_rgb.png"])
    for arrays in ({"images": names, "pyr": np.zeros((2, 3))}, {"id": names}):
        np.savez(path, **arrays)
        assert subsets.find(path).ids == ("biwi/01/00003", "biwi/24/00622")
    np.savez(path, images=np.array(["x", "01/frame_00003"]))
    with pytest.raises(DatasetError, match=r"mine\.npz, .* 1: expected a Biwi frame .* found 'x'"):
        subsets.find(path)
    for arrays in ({"pyr": np.zeros((2, 3))}, {"images": names.astype(object)}):
        np.savez(path, **arrays)
        with pytest.raises(DatasetError, match=r"mine\.npz: .*expected a text file with a Biwi frame a line, an npz"):
            subsets.find(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(DatasetError, match=r"mine\.npz: a damaged npz or zip file \(it has no end\); write it again"):
        subsets.find(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'["01/frame_00003"', "expected a text file with a Biwi frame a line, an npz with images, or JSON: Expecting"),
        (b"biwi/01/00003\n\nbiwi/01/00003\n", "line 3: biwi/01/00003 comes twice, first in line 1"),
        (b"# a\nbiwi/01/00502\n", "line 2: biwi/01/00502 is not among the 15,678 frames of the manifest"),
        (b"biwi/25/00003\n", "line 1: biwi/25/00003 is not among"),
        (b"# a\n\n", "names no frame; expected one a line"),
        (b"", "names no frame"),
        (b"id,x\n", "names no frame"),
        (b"frame,x\nbiwi/01/00003,1\n", "line 1: expected a Biwi frame such as biwi/01/00003"),
        (b"x,id\n1\n", "line 2: expected a Biwi frame such as"),
        (b"biwi/01/3\n", "line 1: expected a Biwi frame such as"),
        (b"\xff\xfeb\x00c", "not UTF-16, as its first bytes say"),
    ],
)
def test_faulty_files_of_frames(tmp_path, text, says):
    path = tmp_path / "frames.txt"
    path.write_bytes(text)
    with pytest.raises(DatasetError) as error:
        subsets.find(str(path))
    assert str(path) in str(error.value) and says in str(error.value)


def test_unknown_names_are_told_with_near_ones(tmp_path):
    with pytest.raises(DatasetError, match=r"biwi/16-8: no such subset, and no such file.* such as biwi/16-8/te"):
        subsets.find("biwi/16-8")
    with pytest.raises(DatasetError, match="cannot be read: Is a directory; expected a text file with a Biwi frame"):
        subsets.find(tmp_path)


def test_select_takes_all_or_raises():
    subset = subsets.Subset("some", ("biwi/01/00003", "biwi/01/00005"), "", "")
    ids = np.array(["biwi/01/00004", "biwi/01/00005", "biwi/01/00003"])
    assert subsets.select(subset, ids).tolist() == [1, 2]
    with pytest.raises(DatasetError, match="some: 1 of its 2 frames is not in the dataset, the first biwi/01/00003"):
        subsets.select(subset, ids[:2])


@pytest.fixture
def predicted(built, tmp_path):
    """Noisy predictions of the miniature, with the true rotations and ids."""
    ids, truth = read_labels(open_dataset(built[0] / "biwi+"))
    noise = np.random.default_rng(0).normal(0, 5, (len(ids), 3))
    path = tmp_path / "predictions.csv"
    submission.write_predictions(path, ids, rot.from_matrix(truth) + noise, submission.About(**ABOUT))
    return path, ids, truth


@pytest.fixture
def few(predicted, tmp_path):
    """A file with five of the miniature's frames."""
    path = tmp_path / "five of them.txt"
    path.write_text("\n".join(predicted[1][[40, 3, 11, 17, 30]]))
    return path


def keep(path, rows):
    pd.read_csv(path).iloc[rows].to_csv(path, index=False)


def test_a_subset_is_scored_from_all_predictions_or_from_its_own(predicted, few, built, tiny):
    path, ids, truth = predicted
    listed = tiny / "data_manifest.csv"
    whole = scoring.score(path, built[0]).entry
    entry = scoring.score(path, built[0], subset=str(few), manifest_file=listed).entry
    mine = [3, 11, 17, 30, 40]
    by_hand = metrics.scores(submission.read_submission(path).rotations[mine], truth[mine])
    assert asdict(entry.scores) == pytest.approx(asdict(by_hand), abs=1e-4) and entry.scores != whole.scores
    protocol = entry.protocol
    assert protocol.id == f"{whole.protocol.id}:file:five of them@{sha(ids[mine])[:8]}"
    assert (protocol.frames, protocol.frames_sha256) == (5, sha(ids[mine]))
    assert "only the frames of file:five of them" in protocol.title
    assert protocol.label_mean == pytest.approx(rot.from_matrix(truth[mine]).mean(axis=0), abs=1e-3)
    assert entry.subset.name == "file:five of them" and whole.subset is UNSET
    table = pd.read_csv(path)
    for rows, unused in (([40, 11, 3, 30, 17], 0), ([40, 41, 11, 3, 30, 17], 1)):
        table.iloc[rows].to_csv(path, index=False)
        scored = scoring.score(path, built[0], subset=str(few), manifest_file=listed)
        assert scored.entry.scores == entry.scores and scored.unused == unused


def test_check_and_compare_take_a_subset(predicted, few, built, tiny, tmp_path, hpp):
    path, ids, _ = predicted
    keep(path, [3, 11, 17, 30, 40])
    words = ["--subset", few, "--manifest", tiny / "data_manifest.csv", "--data", built[0]]
    named = f":file:five of them@{sha(ids[[3, 11, 17, 30, 40]])[:8]}"
    text = hpp("check", path, *words).output
    assert "0 faults, 0 suspicions" in text and f"{named}, 5 frames" in text
    assert "43 of 48 frames are missing" in hpp("check", path, "--data", built[0], expect=3).output
    text = hpp("compare", path, path, *words, "--resamples", 20).output
    assert f"{named}, 5 frames" in text
    mae = scoring.score(path, built[0], subset=str(few), manifest_file=tiny / "data_manifest.csv").entry.scores.mae
    assert re.search(rf"^mae +{mae:.2f} +{mae:.2f} +0\.00", text, re.MULTILINE)


def test_a_template_of_a_subset(tmp_path, hpp):
    path = tmp_path / "mine.csv"
    text = hpp("submission", "template", "--protocol", "biwi+/cross@1", "--subset", "biwi/sequence-19", "--out", path)
    assert "502 frames of biwi+/cross@1 to fill in" in text.output and "--subset biwi/sequence-19" in text.output
    assert pd.read_csv(path)["id"].tolist() == list(subsets.find("biwi/sequence-19").ids)


def test_check_takes_a_subset_without_labels(tmp_path, hpp):
    path, frames = tmp_path / "predictions.csv", subsets.find("biwi/vggt-hpe/easy").ids
    submission.write_predictions(
        path, frames, np.random.default_rng(0).normal(0, 20, (120, 3)), submission.About(**ABOUT | {"task": "cross"})
    )
    words = ["check", path, "--protocol", "biwi+/cross@1", "--subset"]
    assert "0 faults, 0 suspicions; biwi+/cross@1:biwi/vggt-hpe/easy@" in hpp(*words, "biwi/vggt-hpe/easy").output
    assert "no id is one of the test set's" in hpp(*words, "biwi/vggt-hpe/hard", expect=3).output
    words = ["check", path, "--protocol", "biwi+/16-8@1", "--subset", "biwi/vggt-hpe/easy"]
    assert "80 of its 120 frames are not in the dataset" in hpp(*words, expect=1).output


def test_a_named_subset_of_the_miniature(predicted, built, tiny):
    path, ids, _ = predicted
    listed = tiny / "data_manifest.csv"
    entry = scoring.score(path, built[0], subset="biwi/leave-F03-out/test", manifest_file=listed).entry
    mine = [name for name in ids.tolist() if name[5:7] in ("03", "15")]
    assert entry.protocol.frames == 24 and entry.protocol.frames_sha256 == sha(mine)
    with pytest.raises(DatasetError, match="1,384 frames are not in the dataset, the first biwi/03/"):
        scoring.score(path, built[0], subset="biwi/leave-F03-out/test")


@pytest.mark.parametrize(
    ("rows", "subset", "says"),
    [
        (range(1, 48), False, "1 of 48 frames is missing.*name it with `subset`"),
        ([3, 11, 17, 30], True, "1 of 5 frames is missing, the first biwi/"),
        ([*range(48), 48], True, "1 id is not in the test set, the first 'biwi/99/00001'"),
        ([3, 11, 17, 30, 40, 48], True, "1 id is not in the test set"),
    ],
)
def test_predictions_of_anything_else_are_refused(predicted, few, built, tiny, rows, subset, says):
    path, *_ = predicted
    table = pd.read_csv(path)
    pd.concat((table, table[:1].assign(id="biwi/99/00001"))).iloc[list(rows)].to_csv(path, index=False)
    with pytest.raises(SubmissionError, match=says):
        scoring.score(path, built[0], None, str(few) if subset else None, tiny / "data_manifest.csv")


def test_a_subset_has_its_own_table_on_the_page(predicted, few, built, tiny, tmp_path):
    listed = tiny / "data_manifest.csv"
    whole = scoring.score(predicted[0], built[0]).entry
    part = scoring.score(predicted[0], built[0], subset=str(few), manifest_file=listed).entry
    other = scoring.score(predicted[0], built[0], subset="biwi/female", manifest_file=listed).entry
    board = tmp_path / "board"
    assert len({scoreboard.add(board, entry) for entry in (whole, part, other)}) == 3
    page = scoreboard.build(board).read_text()
    for entry in (whole, part, other):
        section = page.split(f"## {entry.protocol.id}\n")[1].split("\n## ")[0]
        assert f"{entry.protocol.frames} test frames" in section and section.count("| mine") == 2
        assert f"{entry.scores.mae:.2f}" in section
    assert "only the frames of biwi/female" in page
