import gzip
import io
import json
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from msgspec.structs import asdict, replace
from scipy.spatial.transform import Rotation

from benchmark.scoring import check, labels, protocols, submission, suspicions
from benchmark.scoring import score as scoring
from benchmark.scoring.submission import tomllib
from headposeplus import rotations as rot
from headposeplus.faults import listed, shown
from headposeplus.poses import tables
from headposeplus.poses.columns import MATRIX_COLUMNS, QUATERNION_COLUMNS
from headposeplus.raw import biwi

ABOUT = {
    "name": "mine", "authors": "me", "training_data": "any", "convention": "pyr", "camera": "rgb",
    "selection": "last epoch", "uses_target_images": True, "seed": 0,
}  # fmt: skip
PLAIN = ("id", "pitch", "yaw", "roll")


@pytest.fixture(scope="module")
def truth():
    """Labels of frames named as Biwi's in six sequences, as wide as Biwi's."""
    ids = np.array([f"biwi/{s:02d}/{n:05d}" for s in range(1, 7) for n in range(40)])
    angles = np.random.default_rng(0).normal([-12, -8, 2], [22, 28, 12], (len(ids), 3))
    return labels.from_arrays(ids, rot.to_matrix(angles), camera="rgb")


@pytest.fixture(scope="module")
def reference(truth):
    return protocols.reference(None, truth, "cross")


def angles_of(truth, noise=3.0):
    return rot.from_matrix(truth.rotations) + np.random.default_rng(1).normal(0, noise, (len(truth.ids), 3))


def csv(ids, values, columns=PLAIN[1:], delimiter=","):
    rows = [delimiter.join(("id", *columns))]
    rows += [
        delimiter.join((str(name), *(f"{value:.6f}" for value in row))) for name, row in zip(ids, values, strict=True)
    ]
    return ("\n".join(rows) + "\n").encode()


def toml(**changes):
    return tomli_w.dumps({key: value for key, value in (ABOUT | changes).items() if value is not None}).encode()


def saved(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def parquet(frame):
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()


def said(data, reference, about=None, **options):
    """All faults and suspicions of predictions, as text."""
    found = check.check(data, about if about is not None else toml(), reference, **options)
    return [str(fault) for fault in found.faults], [str(fault) for fault in found.suspicions]


# How files may look


def forms(truth):
    values = angles_of(truth)
    rotations = rot.to_matrix(values)
    plain = csv(truth.ids, values).decode()
    frame = pd.DataFrame(values, columns=list(PLAIN[1:])).assign(id=truth.ids)
    order = np.random.default_rng(0).permutation(len(truth.ids))
    yield "plain", plain.encode()
    yield "gzip", gzip.compress(plain.encode())
    yield "BOM", b"\xef\xbb\xbf" + plain.encode()
    yield "UTF-16", plain.encode("utf-16")
    yield "Windows lines", plain.replace("\n", "\r\n").encode()
    yield "old Mac lines", plain.replace("\n", "\r").encode()
    yield "spaces", plain.replace(",", " ,  ").encode()
    yield "quotes", frame.to_csv(index=False, quoting=2).encode()
    yield "semicolons", csv(truth.ids, values, delimiter=";")
    yield "tabs", csv(truth.ids, values, delimiter="\t")
    yield "decimal commas", csv(truth.ids, values, delimiter=";").replace(b".", b",")
    yield "capitals", plain.replace("id,pitch,yaw,roll", "ID, Pitch ,YAW,Roll").encode()
    yield "blank lines", ("\n\n" + plain.replace("\n", "\n\n", 9)).encode()
    yield "another column", frame.assign(note="=cmd()").to_csv(index=False).encode()
    yield "other columns of one name", frame.assign(a=1, b=2).to_csv(index=False).encode().replace(b",a,b\n", b",n,N\n")
    yield "Latin-1", frame.assign(note="Jürgen").to_csv(index=False).encode("latin-1")
    yield (
        "columns and rows in another order",
        frame[["roll", "id", "yaw", "pitch"]].iloc[order].to_csv(index=False).encode(),
    )
    yield "published names", csv([f"{n[5:7]}/frame_{n[8:]}_rgb.png" for n in truth.ids], values)
    yield "matrices", csv(truth.ids, rotations.reshape(-1, 9), MATRIX_COLUMNS)
    yield "quaternions", csv(truth.ids, -Rotation.from_matrix(rotations).as_quat(), QUATERNION_COLUMNS)
    yield "Parquet", parquet(frame.iloc[order])
    yield "Parquet of float32", parquet(frame.astype(dict.fromkeys(PLAIN[1:], "float32")))
    yield "npz of columns", saved(id=truth.ids, **dict(zip(PLAIN[1:], values.T, strict=True)))
    yield "npz of rotations", saved(id=truth.ids, rotation=rotations)
    yield "npz of bytes", saved(id=truth.ids.astype("S"), quaternion=Rotation.from_matrix(rotations).as_quat())
    images = [f"{n[5:7]}/frame_{n[8:]}_rgb.png" for n in truth.ids]
    yaw_first = rot.from_matrix(rotations, "ypr")[:, [1, 0, 2]]
    yield "npz as published", saved(images=images, pyr=values, ypr=yaw_first, ids=np.zeros(3), date="2023")


def test_every_form_gives_the_same_score(truth, reference):
    scores, kinds = {}, {}
    for name, data in forms(truth):
        found = scoring.assess(data, toml(), reference.protocol, truth, resamples=0)
        assert found.entry is not None, (name, [str(fault) for fault in found.faults])
        scores[name], kinds[name] = found.entry.scores.mae, tables.read(data, "pyr").kind
    assert scores == pytest.approx(dict.fromkeys(scores, scores["plain"]), abs=2e-4)
    assert kinds["gzip"] == "CSV" and kinds["Parquet"] == "Parquet" and kinds["npz as published"] == "npz"


def test_another_convention_is_read_as_the_toml_says(truth, reference):
    values = rot.convert(angles_of(truth), "pyr", "ypr")
    found = scoring.assess(csv(truth.ids, values), toml(convention="ypr"), reference.protocol, truth, resamples=0)
    plain = scoring.assess(csv(truth.ids, angles_of(truth)), toml(), reference.protocol, truth, resamples=0)
    assert asdict(found.entry.scores) == pytest.approx(asdict(plain.entry.scores), abs=2e-4) and not found.suspicions


def test_a_description_is_written_as_it_is_read():
    fields = ABOUT | {"link": "", "constant_output": False, "run": {"method": "mine", "kept": 0.5}}
    about, faults = submission.read_about(tomli_w.dumps(fields).encode())
    assert about == submission.About(**fields) and faults == [] and about.notes is None
    assert tomllib.loads(about.to_toml()) == fields
    assert submission.read_about(about.to_toml().encode()) == (about, [])


def test_the_names_of_files_spoil_no_toml():
    odd = "/caf\udce9/\u202e\x1b[31m/a  b\\c.pth"  # Latin-1, right to left, a terminal's colour
    about = submission.About(**ABOUT, initial_weights=odd, command=f"hpp {odd} {'x' * 4000}")
    read, faults = submission.read_about(about.to_toml().encode())
    assert faults == [] and read.initial_weights == r"/caf\udce9/\u202e\x1b[31m/a b\c.pth"
    assert read.command.startswith(r"hpp /caf\udce9/\u202e\x1b[31m/a  b\c.pth xx") and read.command.endswith("xx...")


# Faults: all at once, each with its rows and a way to mend it


def test_all_faults_are_listed_at_once(truth, reference):
    values = angles_of(truth)
    rows = csv(truth.ids, values).decode().split("\n")
    rows[3] = rows[3].rpartition(",")[0] + ",nan"
    rows[5] = rows[5] + ",7"
    rows[7] = rows[8]
    rows[9] = "biwi/99/00001,1,2,3"
    faults, _ = said("\n".join(rows).encode(), reference, toml(name="", camera="left", colour="red"))
    for says in (
        'TOML, name: empty; write name = "text"',
        "TOML, camera: 'left' is unknown; write one of rgb, depth",
        "TOML, 'colour': an unknown field; remove it",
        "line 4: roll is 'nan', no number below 100,000; write a finite number",
        "line 6: 5 cells, where the header has 4; give every row a cell a column",
        f"line 9: '{truth.ids[7]}' comes twice, first in line 8; keep one row a frame",
        "line 10: 1 id is not in the test set, the first 'biwi/99/00001'; take this row out",
        f"3 of 240 frames are missing, the first {truth.ids[4]}, {truth.ids[6]}, {truth.ids[8]}; local-",
    ):
        assert any(fault.startswith(says) for fault in faults), (says, faults)
    assert len(faults) == 8
    # A browser's team has no command line, but the page of the service.
    for table, secret in (("hpp submission template", False), ("the table on the page /submit", True)):
        faults, _ = said("\n".join(rows).encode(), reference, secret=secret)
        assert any(f"scores all frames or none: {table} has a row for each" in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "an empty file; write the header id,pitch,yaw,roll"),
        (b"\n \n", "an empty file"),
        (b"\xef\xbb\xbf", "no cell that is not empty"),
        ("\u2003\n".encode(), "no cell that is not empty"),
        (b"id,pitch,yaw,roll\n", "no row; give a row a frame"),
        (b"biwi/01/00003,1,2,3\n", "line 1: no column id, but 'biwi/01/00003', '1'"),
        (b"id,pitch,yaw\na,1,2\n", "line 1: no complete pose among the columns 'id', 'pitch', 'yaw'"),
        (b"id,pitch,yaw,roll,yaw\na,1,2,3,4\n", "the column 'yaw' comes twice; keep one"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "no text, and no other file that is read; write the header id,pitch"),
        (b"\x1f\x8b\x08\0damaged", "a damaged gzip file"),
        (b"PK\x03\x04damaged", "a damaged npz or zip file (it has no end); write it again"),
        (b"PAR1damagedPAR1", "a damaged Parquet file"),
        (b"\xff\xfeodd", "not UTF-16, as its first bytes say"),
        (gzip.compress(gzip.compress(b"id,pitch,yaw,roll\na,1,2,3\n")), "an archive in an archive"),
        (b"id,pitch,yaw,roll\n" + b"a" * 5000 + b",1,2,3\n", "line 2: 5,006 characters, 4 cells in one line"),
        (b"id,pitch,yaw,roll\n" + b"a" * 200 + b",1,2,3\n", "line 2: an id of more than 100 characters"),
        (b"id,pitch,yaw,roll\na,1_0,2,3\n", "line 2: pitch is '1_0', no number below 100,000"),
        (b"id,pitch,yaw,roll\na,1,1e300,3\n", "line 2: yaw is '1e300'"),
        (b"id,pitch,yaw,roll\na,1,=HYPERLINK(1),3\n", "line 2: yaw is '=HYPERLINK(1)', no number below"),
        (
            b"id," + b",".join(b"c%d" % i for i in range(99)) + b"\n",
            "line 1: 388 characters, 100 cells in one line; give an id and a pose a line, 64 cells",
        ),
        (b"id,pitch,yaw,roll\n" + b"a,1,2,3\n" * 400_003, "more than 400,000 lines"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faulty_files(reference, data, says):
    faults, _ = said(data, reference)
    assert any(fault.startswith(says) for fault in faults), faults


def test_faulty_poses(truth, reference):
    matrices = rot.to_matrix(angles_of(truth)).reshape(-1, 9)
    matrices[2] *= 1.1
    matrices[4] = -matrices[4]  # a mirror image
    faults, _ = said(csv(truth.ids, matrices, MATRIX_COLUMNS), reference)
    assert len(faults) == 1 and faults[0].startswith("lines 4, 6: r11 to r33 is no rotation")
    quaternions = Rotation.from_matrix(truth.rotations).as_quat()
    quaternions[3] *= 2
    faults, _ = said(csv(truth.ids, quaternions, QUATERNION_COLUMNS), reference)
    shown_row = shown(" ".join(f"{value:.6f}" for value in quaternions[3]))
    assert faults == [f"line 5: qx, qy, qz, qw is not of length 1: {shown_row}; divide it by its length"]
    both = np.hstack((angles_of(truth), rot.to_matrix(angles_of(truth)).reshape(-1, 9)))
    assert said(csv(truth.ids, both, (*PLAIN[1:], *MATRIX_COLUMNS)), reference)[0] == []
    both[7, 0] += 20
    faults, _ = said(csv(truth.ids, both, (*PLAIN[1:], *MATRIX_COLUMNS)), reference)
    assert len(faults) == 1 and "line 9: pitch to roll and r11 to r33 are 2" in faults[0]


def test_one_pose_for_all_is_a_fault_unless_it_is_meant(truth, reference):
    data = csv(truth.ids, np.tile([1.0, 2.0, 3.0], (len(truth.ids), 1)))
    faults, _ = said(data, reference)
    assert len(faults) == 1 and faults[0].startswith("every row holds the same pose; write the predictions anew")
    assert said(data, reference, toml(constant_output=True))[0] == []


def test_radians(truth, reference):
    data = csv(truth.ids, np.deg2rad(angles_of(truth)))
    faults, _ = said(data, reference)
    assert len(faults) == 1 and "angles look like radians: read so, the MAE would be 2.3" in faults[0]
    assert faults[0].endswith("multiply pitch, yaw and roll by 180 / pi")
    faults, _ = said(data, reference._replace(labels=None))
    assert faults == ["angles in radians, by their size; multiply pitch, yaw and roll by 180 / pi"]
    # A method that hardly moves is poor, but its angles are degrees.
    still = np.random.default_rng(0).normal(0, 1, (len(truth.ids), 3))
    assert said(csv(truth.ids, still), reference) == ([], [])


def test_every_other_reading_of_angles_is_what_its_words_say():
    values, some = np.random.default_rng(2).normal(0, 1, (9, 3)), np.array([0, 3, 8])
    readings = suspicions._readings_of_angles(values, "pyr")
    assert len(readings) == 3 * 6 * 8 * 3 - 1  # units, orders, signs and conventions, but for the angles as they are
    for reading in readings:
        change = reading.rotations.keywords["change"]
        assert change.steps("pyr")[0][0] in reading.what
        changed = values[some][:, change.order] * change.signs * change.unit
        assert np.abs(reading.rotations(some) - rot.to_matrix(changed, change.convention)).max() < 1e-12


@pytest.mark.parametrize("noise", [1.0, 4.0, 8.0])
@pytest.mark.parametrize(
    ("change", "what", "mend"),
    [
        (lambda a: a * [1, 1, -1], "signs look turned, of roll", "multiply roll by -1"),
        (lambda a: a * [1, -1, 1], "signs look turned, of yaw", "multiply yaw by -1"),
        (lambda a: a[:, [1, 0, 2]], "columns look swapped, pitch in yaw, yaw in pitch", "rename yaw, pitch, roll to"),
        (lambda a: rot.convert(a, "pyr", "ypr"), "angles look like ypr, not pyr", 'write convention = "ypr"'),
        (lambda a: a * [1, -1, -1], "angles look like biwi, not pyr", 'write convention = "biwi"'),
        (
            lambda a: rot.convert(a, "pyr", "ypr")[:, [1, 0, 2]],
            "columns look swapped, pitch in yaw, yaw in pitch and angles look like ypr, not pyr",
            'rename yaw, pitch, roll to pitch, yaw, roll and write convention = "ypr"',
        ),
    ],
)
def test_suspicions_by_fitting(truth, reference, change, what, mend, noise):
    """Each is found under errors as large as a poor method's, told with the error that the mended file would have."""
    right = angles_of(truth, noise)
    data = csv(truth.ids, change(right))
    faults, suspicions = said(data, reference)
    assert faults == [] and len(suspicions) == 1, suspicions
    assert suspicions[0].startswith(what) and mend in suspicions[0]
    mended, now = (
        scoring.assess(one, toml(), reference.protocol, truth, resamples=0).entry.scores.mae
        for one in (csv(truth.ids, right), data)
    )
    assert f"the MAE would be {mended:.2f} degrees instead of {now:.2f}" in suspicions[0]
    assert said(data, reference, secret=True) == ([], [])
    assert said(csv(truth.ids, right), reference) == ([], [])


def test_the_labels_themselves_are_suspicious(truth, reference):
    faults, suspicions = said(csv(truth.ids, angles_of(truth, 0)), reference)
    assert faults == [] and suspicions == ["the predictions are the labels themselves; give what a model predicts"]


def test_nothing_is_proposed_that_is_still_nonsense(truth, reference):
    turned = rot.to_matrix(angles_of(truth)) @ np.diag([-1.0, 1, -1])  # half a turn about the head's axis
    assert said(csv(truth.ids, turned.reshape(-1, 9), MATRIX_COLUMNS), reference) == ([], [])


def test_quaternions_with_w_first(truth, reference):
    quaternions = Rotation.from_matrix(rot.to_matrix(angles_of(truth))).as_quat()
    for values, says, mend in (
        (quaternions[:, [3, 0, 1, 2]], "quaternions look as if w came first: ", "to qw, qx, qy, qz"),
        (
            quaternions[:, [3, 0, 1, 2]] * [1, -1, -1, -1],
            "quaternions of the inverse look as if w came first: ",
            "to qw, qx, qy, qz and turn the signs of qx, qy, qz",
        ),
    ):
        _, suspicions = said(csv(truth.ids, values, QUATERNION_COLUMNS), reference)
        assert len(suspicions) == 1 and suspicions[0].startswith(says) and suspicions[0].endswith(mend), suspicions
        assert "the MAE would be 2.3" in suspicions[0]


def test_angles_divided_by_90(truth, reference):
    faults, _ = said(csv(truth.ids, angles_of(truth) / 90), reference)
    assert len(faults) == 1 and faults[0].startswith("angles look divided by 90: read so, the MAE would be 2.3")


def test_ids_of_another_scheme_are_one_fault(truth, reference):
    for ids in (range(len(truth.ids)), [name.removeprefix("biwi/") for name in truth.ids]):
        faults, _ = said(csv(ids, angles_of(truth)), reference)
        assert len(faults) == 1 and faults[0].startswith("no id is one of the test set's, the first")
        assert "such as biwi/01/00000" in faults[0]


def test_suspicions_of_rotations_and_cameras(truth, reference):
    rotations = rot.to_matrix(angles_of(truth))
    for change, says in (
        (rotations.transpose(0, 2, 1), "rotations look inverted"),
        (rot.FLIP @ rotations @ rot.FLIP, "rotations look like those of axes with y up"),
        (rot.FLIP @ rotations, "rotations look like those into a camera with y up"),
        ((rotations @ rot.FLIP).transpose(0, 2, 1), "rotations look like the inverse, those from a head with y up"),
    ):
        inverted = "inver" in says
        _, suspicions = said(csv(truth.ids, change.reshape(-1, 9), MATRIX_COLUMNS), reference)
        assert len(suspicions) == 1 and suspicions[0].startswith(says), suspicions
        assert ("transpose each" in suspicions[0]) == inverted
    turn = rot.nearest_rotation(np.array(biwi.CALIBRATION_ROTATIONS["A"]))
    in_depth = rot.from_matrix(turn.T @ truth.take(np.arange(200)).rotations)  # sequence 06 is of the other group
    some = protocols.reference(None, truth.take(np.arange(200)), "cross")
    _, suspicions = said(csv(truth.ids[:200], in_depth), some)
    assert len(suspicions) == 1 and "look like those in the depth camera, not the rgb camera" in suspicions[0]
    assert "hpp convert --from-camera depth --to-camera rgb" in suspicions[0]


def test_the_toml_against_the_protocol(truth):
    own = protocols.reference(None, truth, "pda")
    data = csv(truth.ids, angles_of(truth))
    for changes, says in (
        ({"camera": "depth"}, "poses in the depth camera, but local-"),
        ({"protocol": "biwi+/da@1"}, "predictions for 'biwi+/da@1', to be scored under local-"),
        ({"task": "da"}, "predictions for the task da, to be scored under local-"),
    ):
        faults, _ = said(data, own, toml(training_data="SynHead++", **changes))
        assert len(faults) == 1 and says in faults[0]
    assert said(data, own, toml(training_data="synhead++"))[1] == []
    suspicions = said(data, own, toml(training_data="300W-LP"))[1]
    assert len(suspicions) == 1 and "training data '300W-LP', where local-" in suspicions[0]
    intra = protocols.find("biwi+/16-8@1")
    faults, _ = said(b"", protocols.Reference(intra, None, None), toml())
    assert any("training saw test images, which biwi+/16-8@1 does not allow" in fault for fault in faults)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"name = ", "not TOML"),
        (b"x = " + b"[" * 8000, "not TOML"),
        (b"x" * 20_000, "20,000 bytes; keep to the fields"),
        (b".".join([b"a"] * 4000) + b" = 1", "line 1: more than 50 dots"),
        (b"seed = " + b"9" * 5000, "not TOML"),
        (b"seed = 0x" + b"f" * 8000, "seed: a very long int is no whole number"),
        (b"name = 0x" + b"f" * 8000, "name: a very long int is no text"),
        (b'name = "  "', "name: empty"),
        (b'camera = ""', "camera: empty; write rgb or depth"),
        (b"seed = -1", "seed: '-1' is no whole number from 0 on; write seed = 0"),
        (b"seed = true", "seed: 'true' is no whole number"),
        (b"seed = 1e400  # or so", "seed: '1e400' is no whole number"),
        (b"'seed'\t=\t-0x_", "not TOML"),
        (b'"seed" = 0o7_7.', "not TOML"),
        (b"seed = -1_000", "seed: '-1_000' is no"),
        (b"seed = 1979-05-27", "seed: '1979-05-27' is no whole number"),
        (b'notes = """\nseed = 4"""\nseed = 2.50', "seed: '2.50' is no whole number"),
        (b"camera = 0x10", "camera: '0x10' is no text"),
        (b"seed = 99999999999999999999", "seed: '99999999999999999999' is no whole number"),
        (b'name = "' + b"x" * 81 + b'"', "name: 81 characters; write name"),
        ('name = "a\u202eb"'.encode(), "name: hidden characters in 'a\\u202eb'"),
        (b'name = "a\\u0000b"', "name: hidden characters"),
        (b'link = "javascript:alert(1)"', "link: 'javascript:alert(1)' is no link; begin it with http"),
        (b'link = "https://x y"', "link: 'https://x y' is no link"),
        (b'code = "javascript:alert(1)"', "code: 'javascript:alert(1)' is no link; begin it with http"),
        (b'date = "27.5.1979"', "date: '27.5.1979' is no date; write date = \"2026-01-31\""),
        (b'date = "1979-02-30"', "date: '1979-02-30' is no date"),
        (b"date = 1979-05-27T07:32:00Z", "date: 25 characters; write date = "),
        (b"date = 1979", "date: '1979' is no text"),
        (b"name = 1979-05-27", "name: '1979-05-27' is no text"),
        (b"run = 3", "run: '3' is no table; write [run]"),
        (
            b'uses_target_image = true\nname = "x"',
            "'uses_target_image': an unknown field; did you mean uses_target_images?",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faulty_descriptions(text, says):
    _, faults = submission.read_about(text)
    assert all(fault.file == submission.ABOUT for fault in faults)
    told = [str(fault._replace(file="")) for fault in faults]
    assert any(line.startswith(says) for line in told), told


def test_bombs_are_refused_before_they_unpack(reference):
    large = gzip.compress(b"id,pitch,yaw,roll\n" + b"\0" * (tables.MAX_BYTES + 1))
    assert len(large) < 100_000 and "MiB unpacked" in said(large, reference)[0][0]
    assert "MiB unpacked" in said(saved(id=np.zeros(tables.MAX_BYTES // 8 + 1)), reference)[0][0]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
        archive.writestr("id.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert "id.npy is shorter than its header says" in said(file.getvalue(), reference)[0][0]
    assert "pickled objects" in said(saved(id=np.array([{}], dtype=object)), reference)[0][0]
    many = saved(**{f"a{i}": np.zeros(1) for i in range(40)})
    assert "an npz or zip file of more than 32 files" in said(many, reference)[0][0]
    rows = pd.DataFrame({"id": ["a"] * 200_001, "pitch": 0.0, "yaw": 0.0, "roll": 0.0})
    assert "more than 200,000 rows" in said(parquet(rows), reference)[0][0]
    assert "200,001 rows" in said(rows.to_csv(index=False).encode(), reference)[0][0]
    fat = pd.DataFrame({"id": ["a" * 5000] * 9, "pitch": 0.0, "yaw": 0.0, "roll": 0.0})
    assert "a text of more than 100 characters in 'id'" in said(parquet(fat), reference)[0][0]


def table_of(**columns):
    """A Parquet file of these Arrow arrays, or lists."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def numbers(count, value=1.0):
    return {name: [value] * count for name in PLAIN[1:]}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"id": ["a"], **numbers(1), "pitch": [[1.0, 2.0]]}, "the column 'pitch' holds list<"),
        ({"id": ["a"], **numbers(1), "pitch": [[[]]]}, "the column 'pitch' holds list<"),
        ({"id": ["a"], **numbers(1), "yaw": [{"x": 1.0}]}, "the column 'yaw' holds struct<"),
        ({"id": ["a"], **numbers(1), "roll": [True]}, "the column 'roll' holds bool"),
        ({"id": pa.array([2**62], pa.timestamp("us")), **numbers(1)}, "the column 'id' holds timestamp"),
        ({"id": pa.array([2**30], pa.date32()), **numbers(1)}, "the column 'id' holds date32"),
        ({"id": [b"a"], **numbers(1)}, "the column 'id' holds binary"),
        ({"Name": ["a"], **numbers(1)}, "no column id, but 'pitch', 'yaw', 'roll'"),
        ({"id": ["a"], "ID": ["b"], **numbers(1)}, "the column 'id' comes twice"),
        (
            {"id": ["a"], **numbers(1), "yaw": pa.array([None], pa.float64())},
            "row 1: yaw is empty; write a finite number",
        ),
        (
            {"id": ["a", "b", "c"], **numbers(3), "yaw": pa.array([None, 1.0, np.nan], pa.float64())},
            "row 3: yaw is 'nan', no number below 100,000",
        ),
        ({"id": ["a"], **numbers(1), "yaw": ["left"]}, "row 1: yaw is 'left', no number below"),
        ({"id": ["a", "a"], **numbers(2)}, "row 2: 'a' comes twice, first in row 1"),
        ({f"c{i}": [1] for i in range(65)}, "65 columns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parquet_of_any_schema(reference, columns, says):
    faults, _ = said(table_of(**columns), reference)
    assert any(fault.startswith(says) for fault in faults), faults


def test_parquet_of_long_texts(reference):
    texts = pa.array(["a" * 9000]).take(pa.array(np.zeros(50_000, int)))  # 450 MB, a few KB in the file
    faults, _ = said(table_of(id=texts, **numbers(len(texts))), reference)
    assert any(fault.startswith("a text of more than 100 characters in 'id'") for fault in faults), faults


def test_parquet_as_it_may_well_be(truth, reference):
    values = dict(zip(PLAIN[1:], angles_of(truth).T, strict=True))
    plain = scoring.assess(table_of(id=truth.ids, **values), toml(), reference.protocol, truth, resamples=0).entry
    for columns in (
        {" ID ": truth.ids, **{name.upper(): value for name, value in values.items()}},
        {"id": pa.array(truth.ids).dictionary_encode(), **values},
        {"id": pa.array(truth.ids, pa.large_string()), **{k: pa.array(v, pa.float32()) for k, v in values.items()}},
        {"id": truth.ids, **{name: [f"{v:.6f}" for v in value] for name, value in values.items()}},
    ):
        found = scoring.assess(table_of(**columns), toml(), reference.protocol, truth, resamples=0)
        assert asdict(found.entry.scores) == pytest.approx(asdict(plain.scores), abs=2e-4), found.faults


def test_a_parquet_file_that_lies_about_its_rows_is_cut_off(reference):
    """Millions of equal values take a few bytes, and a footer may say anything."""
    count = 3_000_000
    data = table_of(id=pa.array(["a"] * count).dictionary_encode(), **numbers(count, 0.0))
    assert len(data) < 100_000 and said(data, reference)[0][0].startswith("more than 200,000 rows")


def zipped(**entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "."), data)
    return file.getvalue()


def array_bytes(header):
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (zipped(id__npy=array_bytes(b"{'descr': (((")), "a damaged npz file"),
        (zipped(id__npy=array_bytes(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }")), "a damaged npz"),
        (zipped(id__npy=array_bytes(b"{'descr': '|V8', 'fortran_order': False, 'shape': (0,), }")), "a damaged npz"),
        (zipped(id__npy=b"", ID__npy=b""), "the column 'id' comes twice"),
        (saved(id=["a"], r11=[7.0], rotation=np.eye(3)[None]), "the column 'r11' comes twice"),
    ],
    ids=["header", "negative", "void", "twice", "both"],
)
def test_npz_of_any_content(reference, data, says):
    faults, _ = said(data, reference)
    assert len(faults) == 1 and faults[0].startswith(says), faults


def test_npz_of_very_many_files(reference):
    """More than the 65,535 of a plain zip file."""
    faults, _ = said(zipped(**{f"x{i}": b"" for i in range(70_000)}), reference)
    assert len(faults) == 1 and faults[0].startswith("an npz or zip file of more than 32 files"), faults


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('id,pitch,yaw,roll\na,1,2,3\n"b,1,2,3\nc,1,2,3\n', "line 3: a quote that is not closed in its line; close it"),
        ('note,id,pitch,yaw,roll\n"two\nlines",a,1,2,3\nx,b,nan,2,3\n', "line 2: a quote that is not closed"),
        ("\n\n\nname,pitch,yaw,roll\n", "line 4: no column id"),
        ("\n\nid,pitch,yaw,roll\n\na,1,2,\n", "line 5: roll is empty"),
        ("id,pitch,yaw,roll\n" + "b,1,2,3\n" * 600 + "a\0,1,2,3\n", "line 602: hidden characters in an id"),
    ],
)
def test_lines_are_those_of_an_editor(reference, text, says):
    faults, _ = said(text.encode(), reference)
    assert any(fault.startswith(says) for fault in faults), faults


def test_arrays_of_another_shape(truth, reference):
    assert "the array rotation has the shape (9, 9)" in said(saved(id=truth.ids, rotation=np.eye(9)), reference)[0][0]
    assert (
        "the array pitch has the shape ()" in said(saved(id=truth.ids, pitch=1.0, yaw=1.0, roll=1.0), reference)[0][0]
    )
    assert "no array id or images" in said(saved(rotation=truth.rotations), reference)[0][0]


def test_texts_of_strangers_are_short_and_plain():
    assert shown("a\n\x1b[31m" + "b" * 10**6) == repr("a\n\x1b[31m" + "b" * 53) + "..."
    assert listed([3]) == "line 3" and listed(range(9)) == "lines 0, 1, 2, 3, 4 and 4 more"


# The commands


@pytest.mark.real
def test_template_check_and_score(real, tmp_path, hpp, monkeypatch):
    """What a third party does, with the published labels as predictions."""
    monkeypatch.chdir(tmp_path)
    assert "15,678 frames" in hpp("submission", "template", "--protocol", "biwi+/pda@1").output
    empty = hpp("check", "predictions.csv", expect=3).output
    assert "predictions.csv, lines 2, 3, 4, 5, 6 and 15,673 more: pitch is empty" in empty
    assert "fault: predictions.toml, name: empty" in empty
    assert "there is such a file" in hpp("submission", "template", "--protocol", "biwi+/pda@1", expect=1).output
    table = pd.read_csv("predictions.csv")
    published = np.load(real / "Biwi_plus.npz")
    order = np.random.default_rng(0).permutation(len(table))
    assert table["id"].tolist() == labels.read_labels(real / "Biwi_plus.npz").ids.tolist()
    table[list(PLAIN[1:])] = published["pyr"]
    table.iloc[order].to_csv("predictions.csv", index=False)
    text = (tmp_path / "predictions.toml").read_text()
    filled = {"name": "mine", "authors": "me", "training_data": "SynHead++", "selection": "last epoch"}
    for field, value in filled.items():
        assert f'{field} = ""' in text
        text = text.replace(f'{field} = ""', f'{field} = "{value}"')
    (tmp_path / "predictions.toml").write_text(text)
    checked = hpp("check", "predictions.csv", "--labels", real / "Biwi_plus.npz").output
    assert "0 faults, 1 suspicion;" in checked and "the predictions are the labels themselves" in checked
    words = ("score", "predictions.csv", "--labels", real / "Biwi_plus.npz", "--json", "out.json")
    scored = hpp(*words, columns=80).output
    entry = json.loads((tmp_path / "out.json").read_text())
    lines = scored.partition("\npublished ")[2].splitlines()
    rows = [words[:2] for words in map(str.split, lines) if len(words) > 4 and words[1].count(".") == 1]
    assert rows[:5] == [
        ["RCRw", "3.86"],
        ["PADACO", "4.13"],
        ["BaselinePDA", "4.53"],
        ["DANN", "6.05"],
        ["PADA-like", "6.41"],
    ]
    assert max(map(len, scored.splitlines())) <= 80
    assert "biwi+/pda@1, 15,678 frames" in scored and entry["scores"]["mae"] < 1e-3
    assert entry["protocol_sha256"] == protocols.find("biwi+/pda@1").sha256
    swapped = table.rename(columns={"pitch": "yaw", "yaw": "pitch"})
    swapped.to_csv("predictions.csv", index=False)
    found = hpp("check", "predictions.csv", "--labels", real / "Biwi_plus.npz", "--json", "faults.json").output
    assert "suspicion: predictions.csv: columns look swapped" in found
    record = json.loads((tmp_path / "faults.json").read_text())
    assert record["faults"] == [] and record["suspicions"][0]["mend"] == "rename yaw, pitch, roll to pitch, yaw, roll"


def test_a_template_of_other_frames_needs_their_labels(built, tmp_path, hpp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = hpp("submission", "template", "--protocol", "miniature/pda@2", expect=1).output
    assert "only its test set knows its frames; give --data or --labels" in found
    found = hpp("submission", "template", "--protocol", "miniature/pda@2", "--data", built[0], expect=1).output
    assert "not the test set of miniature/pda@2: expected its 432 frames, found 48" in found
    for out in ("a.csv.gz", "a.toml", "a"):
        found = hpp("submission", "template", "--protocol", "biwi+/leave-F01-out@1", "--out", out, expect=1).output
        assert "choose an --out that ends in .csv" in found and not list(tmp_path.iterdir())
    hpp("submission", "template", "--protocol", "biwi+/leave-F01-out@1", "--out", "a.csv")
    assert (tmp_path / "a.csv").read_text().count("\n") == 500 and (tmp_path / "a.toml").exists()


def test_a_template_of_odd_names_is_still_one(reference):
    odd = replace(reference.protocol, id='a "b"@1', title="two\nlines")
    rows, about = submission.template(odd, np.array(["a,b/1", 'c"d/2']))
    read = tables.read(rows.encode().replace(b",,,", b",1,2,3"), "pyr")
    assert read.ids.tolist() == ["a,b/1", 'c"d/2'] and not read.faults
    assert submission.read_about(about.encode())[0].protocol == 'a "b"@1'


def test_what_a_toml_says_of_its_protocol_hides_no_other_fault(truth, built, tmp_path, hpp):
    path = tmp_path / "p.csv"
    path.write_bytes(csv(truth.ids, np.zeros((len(truth.ids), 3))))
    for change, says in (
        (
            {"protocol": "biwi+/pda@9"},
            "p.toml, protocol: the TOML names 'biwi+/pda@9', no frozen protocol; did you mean biwi+/pda@1?",
        ),
        ({"protocol": "/etc/passwd"}, "p.toml, protocol: the TOML names '/etc/passwd', no frozen protocol"),
        ({"training_data": "SynHead and more"}, "which protocol? That depends on what the network was trained on"),
        ({"task": "intra"}, "p.toml, task: intra is the task of many protocols"),
    ):
        path.with_suffix(".toml").write_bytes(toml(name="", **change))
        found = hpp("check", path, "--data", built[0], expect=3).output
        assert says in found and "p.toml, name: empty" in found and "every row holds the same pose" in found
        if "task" not in change:  # a score names the file too
            path.with_suffix(".toml").write_bytes(toml(**change))
            told = hpp("score", path, "--data", built[0], expect=1 if "protocol" in change else 2).output
            assert says.partition(";")[0] in told
