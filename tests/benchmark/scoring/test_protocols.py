import re
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from benchmark import evaluate
from benchmark.scoring import labels, protocols
from benchmark.upkeep import bench_score
from headposeplus import rotations as rot
from headposeplus.errors import SubmissionError
from headposeplus.miniature import write
from headposeplus.miniature.poses import biwi_motion
from headposeplus.raw import manifest, subsets
from headposeplus.raw.ids import frame_id
from headposeplus.raw.manifest import ids_sha256

# The hash of everything that a frozen protocol says. A change here is a mistake: give what must change a new id.
FROZEN = {
    "aflw2000/cross@1": "efdfe804fcd3c140b087ac94f0a4b88954139bd94f9bf0f02375a67e8728b3cd",
    "aflw2000/pda@1": "4f08a23e582399f06a427112c6390202c55ef4aaa288a2b0ed1d9c5bc12b438b",
    "biwi+/accurate-head-pose@1": "4f3eb75bacb64567f45415bdd65ed58d482100371a12c10cdde7fc232830a78a",
    "biwi+/16-8@1": "3f64d089a4b61bed6a6599631430a8518f97561749a64c78aefcde4fb0679f5e",
    "biwi+/70-30-1@1": "ab09b2bf60aa11f004284fb011c42d874150b0c57a6b58ef2342f7311a0d2560",
    "biwi+/70-30-2@1": "5bed514cdfbeab58cb3c5a3c819e69c337cb9b845036a36b4826d39104f7d494",
    "biwi+/70-30-3@1": "0ecb70a47840212a9744b3917f4462b4d4d61e1a350f9e670bac075bd43379ab",
    "biwi+/cross@1": "de9366a65320d3d8fb1c6808fa54beaed279cf7f89f5255aa17d3613956635a5",
    "biwi+/da@1": "0efe8167c2f768528f6adf939eb2ef9cd650b07f3463d1f5127952db11f96f67",
    "biwi+/female-male@1": "41652a8511f1f5eb0ca7e5c6f28b3277cbb6d299bcb271d083b4f1db4c73f63c",
    "biwi+/leave-F01-out@1": "bca853754ffc95c22cdd784de91f9fc869c3fcfc2c562eac5a3e4ebfacf2e4d7",
    "biwi+/leave-F02-out@1": "c185f35ad509a728844786e08bf110ddb23d8951c13102096dbbea6d850e4ca9",
    "biwi+/leave-F03-out@1": "2bf6b97d9e060b2aa88c48453539f8626f388a794a3bf6af349419dadfa349bb",
    "biwi+/leave-F04-out@1": "2b1f8504f26287ebb2b1f6bf10e32c0b1e921ef82d57945c24635025013fc925",
    "biwi+/leave-F05-out@1": "5e4213799787b040511c5f0cd361d835aa8d4568c9cc1b4f7799283b9fd01804",
    "biwi+/leave-F06-out@1": "abf52302ec4ae1966cf1ac74c36bb67949ad9cf2aff050ec37ef127eb47488bc",
    "biwi+/leave-M01-out@1": "6d6efbe522eb3dd72da74a8b4853acccd6fbb5fcbcba9110cc4d28bb3e068311",
    "biwi+/leave-M02-out@1": "eedcfd8f80a7bf0b6eecf1cae860b5bf3ebb8a8f92976c3e6e9f94a6a5ca66e5",
    "biwi+/leave-M03-out@1": "882304fa45e2de390fbdc08bb3736754b9a20e3f0e8c7154316c27167e0bc617",
    "biwi+/leave-M04-out@1": "22dfa87aea0cd299b9ff836a7a53b9e4c0594d5d34e1b9951ccc374cd4be6b1a",
    "biwi+/leave-M05-out@1": "4b724795ee082df9ca5fa7171767b1e2d762e591e724fe68635ee9bfd38758a8",
    "biwi+/leave-M06-out@1": "628652106fa2a7056df3e3d9033224d1334a717e1edf64d3b65dfaecd906e410",
    "biwi+/leave-M07-out@1": "c56468df482823c6ca75c84dc275b7187bfeb0f16e2fb0beb9729fa8a8b24021",
    "biwi+/leave-M08-out@1": "19abeb05de3f8c5aba0b2e72c880f4672627301d22130d6d0b3a99b7ad2c5769",
    "biwi+/leave-M09-out@1": "b784f9098fea549b2d7b121864c9939c4a5649651adad09d5b4fddd3b8ead678",
    "biwi+/leave-M10-out@1": "75d2b027032144338648ae9556e90663439fe98932a710a7f5d89c787a018ac0",
    "biwi+/leave-M11-out@1": "8f71d5af777a593c7ed096d6bda9acfb590da1c5fb2711aca803ef2d8050b611",
    "biwi+/leave-M12-out@1": "7286777a2c3cdb09a60786ee5654fb71a5ca90893239b8f80cdbe7d483d8805d",
    "biwi+/leave-M13-out@1": "bc0794006e57e795adf288fcbf2c87ee082d5cc3ae1ab7a320d6d57c96497ccb",
    "biwi+/leave-M14-out@1": "f4ac696e1b954db03727e58791459f021b8cd15d120dd12ac6c81470e74d328f",
    "biwi+/male-female@1": "8f1697156f2d134a8aa0cdcb3b0d1a303e6f729462634c1afc8347ff4c30c531",
    "biwi+/pda@1": "3817ebdf3aedf86d85f0122c76cb29c27b1c5c265547b2ff8629915f325b50b0",
    "miniature/da@1": "ab21c40ee3553b1ba038fe6c4d89ac177cadf2bba22009e02867006468a1a939",
    "miniature/da@2": "b3314b2dc8a54243d5449d00604c4be1daa73c9b21850d675eb66fd1ffe52c6c",
    "miniature/pda@1": "b864df37c85603559c71fc822bbd0b3813adb8e8578556a85f09147e750a9dd7",
    "miniature/pda@2": "3687d153f142f317870f95ab5b32774236301bd32203e5717b88dca9c3846b53",
}


def test_frozen_protocols_do_not_change():
    assert {protocol.id: protocol.sha256 for protocol in protocols.frozen()} == FROZEN


def test_frames_are_those_of_the_manifest_and_the_named_subsets():
    table = manifest.read()
    every = [f"biwi/{name}/{n:05d}" for name, numbers in manifest.biwi_frames(table).items() for n in numbers]
    named = set()
    for protocol in protocols.frozen():
        if protocol.id.startswith("biwi+/") and not protocol.subset:
            assert (protocol.frames, protocol.frames_sha256) == (len(every), ids_sha256(every)), protocol.id
            assert set(protocols.frames_of(protocol)) == set(every)
        elif protocol.subset:
            found = subsets.find(protocol.subset)
            assert (protocol.frames, protocol.frames_sha256) == (len(found.ids), found.sha256), protocol.id
            train = protocol.training_data.removeprefix("Biwi+, ")
            assert not set(subsets.find(train).ids) & set(found.ids)
            named |= {train, protocol.subset}
    # Each named subset is a part of some protocol, but for those that are lists of frames.
    assert named == set(subsets.names()) - subsets.frame_lists().keys()


def test_an_older_version_says_which_is_current(hpp):
    listed = " ".join(hpp("protocols").output.split())
    for name in ("miniature/da@1", "miniature/pda@1"):
        assert f"out of date, now {name[:-1]}2" in " ".join(hpp("protocols", name).output.split())
        assert "out of date" not in hpp("protocols", f"{name[:-1]}2").output
    assert listed.count("out of date") == 2 and "biwi+/pda@1" in listed


def test_label_statistics_are_those_of_the_manifest():
    """The manifest has mean and deviation of each sequence: those of any union of them follow."""
    rows = manifest.biwi_rows(manifest.read())
    for protocol in protocols.frozen():
        if not protocol.id.startswith("biwi+/"):
            continue
        mine = [rows[name] for name in sorted({name[5:7] for name in protocols.frames_of(protocol)})]
        weight = np.array([row.frames for row in mine])
        statistics = np.stack([row.statistics for row in mine])
        for place in range(3):
            mean, std = statistics[:, place], statistics[:, place + 3]
            pooled = np.average(mean, weights=weight)
            second = np.average(std**2 + mean**2, weights=weight)
            assert protocol.label_mean[place] == pytest.approx(pooled, abs=1e-3), protocol.id
            assert protocol.label_std[place] == pytest.approx(np.sqrt(second - pooled**2), abs=1e-3), protocol.id


def test_predictions_of_all_frames_may_come_to_a_split():
    """All frames or those of the test part; the score is that of the test part."""
    protocol = protocols.find("biwi+/leave-F01-out@1")
    truth = bench_score.random_labels(0)
    rows = np.isin(truth.ids, protocols.frames_of(protocol))
    own = rot.from_matrix(truth.rotations[rows])
    fitting = replace(protocol, label_mean=tuple(own.mean(axis=0).tolist()), label_std=tuple(own.std(axis=0).tolist()))
    moved = rot.to_matrix(rot.from_matrix(truth.rotations) + np.array([2, 0, 0]))
    whole = evaluate(truth.ids, moved, fitting, truth, resamples=0)
    part = evaluate(truth.ids[rows], moved[rows], fitting, truth, resamples=0)
    assert whole.scores == part.scores and whole.protocol.frames == 499 and part.scores.pitch == pytest.approx(2)


@pytest.mark.real
def test_every_protocol_of_biwi_fits_the_published_labels(real):
    published = labels.read_labels(real / "Biwi_plus.npz")
    other = labels.read_labels(real / "Biwi_plus_non_cal.npz")
    for protocol in protocols.frozen():
        if not protocol.id.startswith("biwi+/"):
            continue
        found = protocols.reference(protocol, published)
        assert len(found.labels.ids) == protocol.frames
        with pytest.raises(
            SubmissionError,
            match=r"non_cal\.npz: labels of the depth camera, but .* is about the rgb camera; hpp convert",
        ):
            protocols.reference(protocol, other)
        with pytest.raises(SubmissionError, match="not the test set of"):
            protocols.reference(protocol, published.take(np.arange(100)))


def test_the_miniature_is_the_one_of_its_protocols():
    """Its poses drawn anew: whoever changes how they are drawn has to give the protocol a new id."""
    rows = manifest.biwi_rows(manifest.read())
    scale = write.SCALES["small"]
    motions = {name: biwi_motion(rows[name], scale.frames, seed=0) for name in scale.sequences}
    ids = np.array([frame_id(name, n) for name, motion in motions.items() for n in motion.numbers])
    rotations = rot.to_matrix(np.concatenate([motion.angles for motion in motions.values()]))
    truth = labels.from_arrays(ids, rotations, camera="rgb")
    for task in ("da", "pda"):
        protocol = protocols.for_test_set(task, truth)
        assert protocol.id == f"miniature/{task}@2" and f"version {write.VERSION}," in protocol.test_set
        assert protocols.for_test_set(task, truth.take(np.arange(1, len(ids)))).id.startswith("local-")
        turned = truth._replace(rotations=rot.in_plane(0.01) @ rotations)
        assert protocols.for_test_set(task, turned).id.startswith("local-")


# What a file of a protocol may hold wrongly: a text in it, what stands there instead, and what is said of that.
WRONG = (
    ('id = "lab/faces@1"', 'id = "biwi+/pda@1"', r"its id biwi\+/pda@1 is a frozen protocol's"),
    ('id = "lab/faces@1"', 'id = ""', "id: not a protocol: expected str of length >= 1, found ''"),
    (
        'convention = "pyr"',
        'convention = "rpy"',
        "convention: .* 'rpy', expected one of pyr, biwi, ypr; hpp protocols new",
    ),
    (
        'camera = "rgb"',
        'camera = "left"',
        "camera: .* 'left', expected one of rgb, depth",
    ),
    ("frames = 30", 'frames = "many"', "frames: not a protocol: expected int, got str, found 'many'"),
    ("frames = 30", "frames = true", "frames: not a protocol: expected int, got bool, found 'true'"),
    (
        "frames = 30",
        "frames = 0x" + "f" * 5000,
        "frames: not a protocol: expected int <= 10000000, found a very long int",
    ),
    ("label_mean = [", "label_mean = [\n    nan,", r"label_mean: not a protocol: expected array of length 3"),
    (
        "label_mean = [",
        "label_mean = [nan, 0, 0]\nold = [",
        r"label_mean\[0\]: .*expected float >= -180",
    ),
    ('title = "Faces of the lab"', 'titel = "Faces"', "not a protocol: object contains unknown field titel"),
    ('task = "cross"', "task = 3", "task: not a protocol: expected str, got int, found '3', expected one of"),
    ('title = "Faces of the lab"', "title = 3", "title: not a protocol: expected str, got int, found '3'"),
    ("frames = 30", "", "not a protocol: object missing required field frames"),
    ("frames = 30", "frames =", "not a protocol"),
)


def test_a_protocol_of_ones_own(tmp_path, hpp):
    angles = np.random.default_rng(0).normal(0, 20, (30, 3))
    rows = "".join(f"lab/{i // 10}/{i},{a:.4f},{b:.4f},{c:.4f}\n" for i, (a, b, c) in enumerate(angles))
    truth = tmp_path / "labels.csv"
    truth.write_text(f"id,pitch,yaw,roll\n{rows}")
    file = tmp_path / "faces.toml"
    words = ["protocols", "new", file, "--id", "lab/faces@1", "--title", "Faces of the lab", "--labels", truth,
             "--convention", "pyr", "--camera", "rgb"]  # fmt: skip
    assert "lab/faces@1, 30 frames" in hpp(*words).output
    text = file.read_text()
    assert "lab/0" not in text  # no frame, no label
    found = protocols.find(str(file))
    assert (found.id, found.frames, found.test_set) == ("lab/faces@1", 30, "Faces of the lab")
    assert found.label_std == pytest.approx(angles.std(axis=0), abs=1e-3)
    file.write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8", newline="")  # as Notepad writes it
    assert protocols.find(str(file)) == found
    scored = protocols.reference(found, labels.read_labels(truth))
    assert sorted(set(scored.labels.subjects)) == ["lab/0", "lab/1", "lab/2"]
    assert "there is such a file" in hpp(*words, expect=1).output
    words[2] = tmp_path / "other.toml"
    # Taken, without a version, one that names a subset, a local one, two words, and none.
    for taken in ("biwi+/pda@1", "lab/faces", "lab/faces@1:part@2", "local-1/cross@1", "lab faces@1", "@1"):
        words[4] = taken
        assert "expected one that no frozen protocol has" in hpp(*words, expect=1).output
    words[4], words[6] = "lab/y@1", " "
    assert "--title is empty" in hpp(*words, expect=1).output
    words[6] = "Faces of the lab"
    for old, new, says in WRONG:
        assert old in text
        file.write_text(text.replace(old, new))
        with pytest.raises(SubmissionError, match=says):
            protocols.find(str(file))
    file.write_text(text.replace("frames = 30", "frames = 3"))
    with pytest.raises(SubmissionError, match="says 3 frames, its hash is that of 30"):
        protocols.reference(protocols.find(str(file)), labels.read_labels(truth))
    long = hpp(*words[:4], "lab/x@1", "--title", "x" * 400, *words[7:], expect=1).output
    assert "title: would not be a protocol: expected str of length <= 300" in long


def test_listed_and_explained(hpp):
    listed = hpp("protocols").output
    assert hpp("protocols", "list").output == listed
    for protocol in protocols.frozen():
        assert re.search(rf"^{re.escape(protocol.id)} +{protocol.frames:,} ", listed, re.MULTILINE)
    shown = hpp("protocols", "show", "biwi+/pda@1").output
    for words in ("15,678 frames", "SynHead++", "transductive, honour system", "rgb camera", "-12.21, -8.35, 1.75"):
        assert words in shown
    assert "marks" in shown and "transductive" not in hpp("protocols", "show", "biwi+/16-8@1").output
    assert "did you mean biwi+/pda@1?" in hpp("protocols", "show", "biwi+/pda@7", expect=1).output
    assert "hpp protocols lists them" in hpp("protocols", "show", Path("none"), expect=1).output
