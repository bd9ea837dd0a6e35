import json
import math
import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmark.upkeep import box_rule
from headposeplus.boxes import detection, geometry
from headposeplus.boxes.compare import (
    BoxMapping,
    apply_mapping,
    compare_boxes,
    describe_comparison,
    fit_mapping,
    read_mapping,
    write_mapping,
)
from headposeplus.boxes.detection import MIN_AGREEMENT, detect_faces
from headposeplus.boxes.files import correct_boxes, read_boxes, write_boxes
from headposeplus.boxes.formats import NOT_DETECTED
from headposeplus.boxes.geometry import BoxTable, iou, make_boxes
from headposeplus.boxes.sources import project_heads
from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.images import read_image
from headposeplus.raw import biwi

FIVE = "id,x,y,width,height\nbiwi/01/00003,50,30,41,42\n"
SEVEN = "# headposeplus boxes 1\nid,x,y,width,height,source,checked\nbiwi/01/00003,50,30,41,42,dlib-hog,yes\n"


def random_table(count, seed=0, source="projected"):
    rng = np.random.default_rng(seed)
    boxes = np.column_stack((rng.integers(-5, 60, (count, 2)), rng.integers(8, 40, (count, 2))))
    return make_boxes([f"biwi/01/{number:05d}" for number in range(count)], boxes, source)


# ---- files


def test_a_file_comes_back_as_it_was(tmp_path):
    table = random_table(9)
    table = BoxTable(table.ids[::-1], table.boxes, np.array(["imported", "dlib-cnn", "a+b"] * 3), np.arange(9) % 2 == 0)
    write_boxes(tmp_path / "boxes.csv", table)
    again = read_boxes(tmp_path / "boxes.csv")
    order = np.argsort(table.ids)
    assert all((mine[order] == theirs).all() for mine, theirs in zip(table, again, strict=True))
    lines = (tmp_path / "boxes.csv").read_text().splitlines()
    assert lines[:2] == ["# headposeplus boxes 1", "id,x,y,width,height,source,checked"]
    x, y, width, height = table.boxes[-1]
    assert lines[2] == f"biwi/01/00000,{x:.0f},{y:.0f},{width:.0f},{height:.0f},a+b,yes"


@pytest.mark.parametrize("checked", ["1,,0", "True,,no", "yes,no,", ",,"])
def test_the_words_for_checked(tmp_path, checked):
    path, words = tmp_path / "boxes.csv", checked.split(",")
    lines = [f"biwi/01/0000{i},1,2,3,4,{word}" for i, word in enumerate(words)]
    path.write_text("\n".join(["id,x,y,width,height,checked", *lines]))
    assert read_boxes(path).checked.tolist() == [word in ("1", "True", "yes") for word in words]


@pytest.mark.parametrize("start", ["", "\ufeff", "\ufeff# headposeplus boxes 1\n", "# headposeplus boxes 1\r\n"])
def test_a_plain_csv_is_read(tmp_path, start):
    path = tmp_path / "boxes.csv"
    path.write_bytes((start + FIVE.replace(",", ", ")).encode())
    ids, boxes, sources, checked = read_boxes(path)
    assert ids.tolist() == ["biwi/01/00003"] and boxes.tolist() == [[50, 30, 41, 42]]
    assert sources.tolist() == ["imported"] and checked.tolist() == [False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            SEVEN.replace("boxes 1", "boxes 2"),
            "begins with '# headposeplus boxes 2'; expected '# headposeplus boxes 1'",
        ),
        ("# made by hand\n" + FIVE, "begins with '# made by hand'"),
        (FIVE.replace("height", "h"), "lack the columns height"),
        ("id;x;y;width;height\n1;2;3;4;5\n", "line 2: expected a Biwi frame such as biwi/01/00003"),
        ("a;b\n1;2\n", "lack the columns id, x, y, width, height; expected a CSV of id, x, y, width and height"),
        ("id,x,y,width,height\n", "holds no box"),
        (FIVE + "biwi/01/00004,1,2,3,4,5\n", "line 3: 6 cells, where the header has 5"),
        (FIVE + "biwi/01/00004,1,2,3\n", "line 3: expected a number for height, found nothing"),
        (FIVE + "biwi/01/x,1,2,3,4\nsynhead/1,1,2,3,4\n", "lines 3, 4: expected a Biwi frame"),
        (
            "id,x1,y1,x2,y2\n01/frame_00003,9,9,9,20\n",
            "line 2: the box of biwi/01/00003 (9, 9, 0, 11) is not finite, is below a",
        ),
        ("id,x,y,width,height,x1,y1,x2,y2\n01/frame_00003,1,2,3,4,1,2,4,6\n", "has both x, y, width, height and x1"),
        ('{"01/frame_00003": [1, 2, 3, 4], "01/frame_00003": [1, 2, 3, 4]}', "not JSON ('01/frame_00003' comes twice)"),
        ("[[1, 2, 3, 4]]", "a JSON list; expected {"),
        ('{"01/frame_00003": [1, 2, 3]}', "[1, 2, 3]' for '01/frame_00003'; expected {"),
        ('{"01/frame_00003": ', "not JSON (Expecting value"),
        ("\0\1\2", "no text, and no other file that is read; expected a CSV"),
        (FIVE + ",1,2,3,4\n", "line 3: the box has no id"),
        (SEVEN + ",1,2,3,4,imported,no\n", "line 4: the box has no id"),
        (FIVE + "biwi/01/00004,1,2,wide,4\n", "line 3: expected a number for width, found 'wide'"),
        (SEVEN + "biwi/01/00004,1,,3,4,imported,no\n", "line 4: expected a number for y, found"),
        (FIVE.replace("41", "nan"), "line 2: expected a number for width"),
        (
            FIVE.replace("41", "inf"),
            "box of biwi/01/00003 (50, 30, inf, 42) is not finite, is below a pixel or is too large",
        ),
        (
            FIVE.replace("41", "0"),
            "box of biwi/01/00003 (50, 30, 0, 42) is not finite, is below a pixel or is too large",
        ),
        (FIVE.replace("41", "0.4"), "is below a pixel"),
        (FIVE.replace("41", "-41"), "is below a pixel"),
        (FIVE.replace("50", "20001"), "too large"),
        (FIVE + FIVE.splitlines()[1], "line 3: biwi/01/00003 comes twice; keep one box of each frame"),
        (SEVEN.replace("dlib-hog", "dlib hog"), "the source 'dlib hog' is not a word"),
        (SEVEN.replace("dlib-hog", ""), "the source '' is not a word"),
        (SEVEN.replace("dlib-hog", "x" * 25), "is not a word"),
        (SEVEN.replace("yes", "maybe"), "line 3: expected yes or no for checked, found 'maybe'"),
        ("", "an empty file; expected a CSV of id, x, y, width and height"),
    ],
)
def test_a_faulty_file_is_told(tmp_path, text, says):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=re.escape(says)) as error:
        read_boxes(path)
    assert str(path) in str(error.value)


def test_faulty_npz_and_missing_files_are_told(tmp_path):
    path = tmp_path / "boxes.npz"
    names, boxes = np.array(["01/frame_00003_rgb.png"]), np.ones((1, 4))
    for arrays, says in (
        ({"images": names}, "no array bbox; expected the arrays images and bbox"),
        ({"images": names, "bbox": boxes[:, :3]}, "bbox (1, 3) of float64; expected n texts and n x 4 numbers"),
        ({"images": np.array(["a.png"]), "bbox": boxes}, "row 1: expected a Biwi frame such as"),
        ({"images": names.astype(object), "bbox": boxes}, "holds pickled objects; expected the arrays"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DatasetError, match=re.escape(str(path)) + ".*" + re.escape(says)):
            read_boxes(path)
    np.savez(path, images=names, bbox=boxes)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"boxes\.npz: a damaged npz or zip file \(.*\); write it"):
        read_boxes(path)
    for name in ("no.npz", "no.csv"):
        with pytest.raises(DatasetError, match=rf"{name}: cannot be read: No such file or directory; expected a CSV"):
            read_boxes(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        "id,x1,y1,x2,y2\n01/frame_00003_rgb.png,10,20,40,60\n06_frame_00007_rgb.png,1,2,11,12\n",
        "image;xmin;ymin;xmax;ymax\nfaces_0/01/frame_00003_rgb.png;10;20;40;60\nbiwi/06/00007;1;2;11;12\n",
        "#;image;tl_x;tl_y;br_x;br_y;pose\nkinect_head_pose_db/01/frame_00003_rgb.png;10;20;40;60;13.7;-31.8;1.1\n"
        "kinect_head_pose_db/06/frame_00007_rgb.png;1;2;11;12;1;2;3\n",
        '{"01/frame_00003": [10, 20, 40, 60], "06/frame_00007": [1, 2, 11, 12]}',
        "id\tx\ty\twidth\theight\n01/frame_00003\t10\t20\t30\t40\n06/frame_00007\t1\t2\t10\t10\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_others(tmp_path, text, encoding):
    (tmp_path / "boxes").write_bytes(text.encode(encoding))
    table = read_boxes(tmp_path / "boxes")
    assert table.ids.tolist() == ["biwi/01/00003", "biwi/06/00007"]
    assert table.boxes.tolist() == [[10, 20, 30, 40], [1, 2, 10, 10]] and set(table.sources) == {"imported"}


def test_widths_and_heights_can_be_read_as_corners(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("id,x,y,width,height\n01/frame_00003,10,20,40,60\n")
    assert read_boxes(path, corners=True).boxes.tolist() == [[10, 20, 30, 40]]
    path.write_text("id,x1,y1,x2,y2\n01/frame_00003,10,20,40,60\n")
    assert read_boxes(path, corners=True).boxes.tolist() == [[10, 20, 30, 40]]
    path.write_text("id,x,y,width,height\n01/frame_00003,10,20,5,6\n")
    with pytest.raises(DatasetError, match=r"line 2: .* is below a pixel or is too large; read without `corners`\?"):
        read_boxes(path, corners=True)


@pytest.mark.real
def test_two_other_published_files(real):
    opal = read_boxes(real / "boxes/opal_biwi_ann_15677.txt")
    assert len(opal.ids) == 15_677
    assert opal.boxes[opal.ids == "biwi/09/00112"].tolist() == [[335, 179, 100, 104]]
    detected = read_boxes(real / "boxes/jianzhnie_BIWI_boxes.json")
    assert len(detected.ids) == 15_678
    assert detected.boxes[detected.ids == "biwi/01/00003"].tolist() == [[300, 210, 83, 109]]


def test_boxes_checked_by_hand_are_not_lost(tmp_path):
    path, table = tmp_path / "boxes.csv", random_table(4)
    by_hand = table._replace(checked=np.array([True, False, True, False]))
    write_boxes(path, by_hand)
    before = path.read_bytes()
    with pytest.raises(DatasetError, match=r"holds 2 boxes checked by hand, biwi/01/00000 the first, .*another `out`"):
        write_boxes(path, table)
    assert path.read_bytes() == before
    write_boxes(path, by_hand._replace(checked=np.ones(4, bool)))  # more of them is fine
    assert read_boxes(path).checked.all()


@pytest.mark.real
def test_the_published_file(real, tmp_path):
    table = read_boxes(real / "Biwi_plus.npz")
    assert len(table.ids) == len(np.unique(table.ids)) == 15678 and set(table.sources) == {"imported"}
    assert table.boxes[table.ids == "biwi/01/00003"].tolist() == [[274, 209, 132, 132]]
    write_boxes(tmp_path / "boxes.csv", table)
    again = read_boxes(tmp_path / "boxes.csv")
    assert (again.boxes == table.boxes[np.argsort(table.ids)]).all()


# ---- corrections, comparison, mapping


def test_corrections_move_confirm_and_add():
    table = random_table(5, source="dlib-hog")
    moved = table.boxes[1] + [3, 0, 0, 0]
    new = np.array([1, 2, 30, 30])
    ids = ["biwi/01/00001", "biwi/01/00003", "biwi/02/00007"]
    corrections = make_boxes(ids, np.stack((moved, table.boxes[3], new)), "imported")
    corrected, changed, added = correct_boxes(table, corrections)
    assert (changed, added) == (1, 1)
    assert corrected.ids.tolist() == [*table.ids, "biwi/02/00007"]
    assert corrected.sources.tolist() == ["dlib-hog", "corrected", "dlib-hog", "dlib-hog", "dlib-hog", "corrected"]
    assert corrected.checked.tolist() == [False, True, False, True, False, True]
    assert (corrected.boxes == np.stack((table.boxes[0], moved, *table.boxes[2:], new))).all()
    assert table.checked.sum() == 0 and (table.sources == "dlib-hog").all()  # the table itself is as it was


def pixels(box):
    x, y, width, height = box.astype(int)
    return {(column, row) for column in range(x, x + width) for row in range(y, y + height)}


def test_compare_is_what_counting_pixels_gives():
    a, b = random_table(40, 1), random_table(50, 2).where(np.arange(50) % 3 > 0)
    rng = np.random.default_rng(3)
    b = b._replace(sources=np.where(rng.random(len(b.ids)) < 0.2, NOT_DETECTED, "dlib-hog"))
    angles = {str(name): rng.uniform(-80, 80, 3) for name in a.ids[:30]}
    table = compare_boxes(a, b, angles)
    both = [name for name in a.ids if name in b.ids]
    for row in table.to_dict("records"):
        names = both
        if row["bin"] != "all":
            angle, low, high = re.fullmatch(r"\|(\w+)\| (?:(\d+) to (\d+)|from 60)", row["bin"]).groups()
            column, low, high = ["pitch", "yaw", "roll"].index(angle), float(low or 60), float(high or 180)
            names = [name for name in both if name in angles and low <= abs(angles[name][column]) < high]
        detected = [name for name in names if b.sources[b.ids == name][0] == "dlib-hog"]
        overlaps, moves = [], []
        for name in detected:
            first, second = a.boxes[a.ids == name][0], b.boxes[b.ids == name][0]
            mine, theirs = pixels(first), pixels(second)
            overlaps.append(len(mine & theirs) / len(mine | theirs))
            middle = np.mean(list(theirs), axis=0) - np.mean(list(mine), axis=0)
            moves.append([*middle / first[2], second[2] / first[2]])
        assert row["frames"] == len(names) and row["not_detected"] == len(names) - len(detected)
        assert row["mean_iou"] == pytest.approx(np.mean(overlaps)) and row["median_iou"] == np.median(overlaps)
        assert row["below_half"] == pytest.approx(np.mean(np.array(overlaps) < 0.5))
        assert [row["shift_x"], row["shift_y"], row["width_ratio"]] == pytest.approx(np.mean(moves, axis=0))
    binned = table[table["bin"].str.startswith("|yaw|")]["frames"].sum()
    assert binned == sum(name in angles for name in both) < table["frames"][0] == len(both)
    assert 0 < table["not_detected"][0] < len(both)


def test_compare_where_nothing_is_detected():
    a = random_table(3)
    table = compare_boxes(a, a._replace(sources=np.full(3, NOT_DETECTED)))
    assert table.to_dict("records") == [{"bin": "all", "frames": 3, "not_detected": 3}]
    assert "all" in describe_comparison(table)


def test_compare_without_a_frame_in_common():
    a = random_table(3)
    with pytest.raises(DatasetError, match="hold no frame in common; their ids begin with"):
        compare_boxes(a, a._replace(ids=np.array(["x", "y", "z"])))
    with pytest.raises(DatasetError, match="no pose is known for the frames of the two files, such as biwi/01/00000"):
        compare_boxes(a, a, {"biwi/09/00001": np.zeros(3)})


def test_fit_recovers_a_shift_and_a_scale_in_spite_of_outliers():
    rng = np.random.default_rng(0)
    count, shift, scale = 300, np.array([0.02, -0.11]), np.array([0.62, 0.71])
    side = rng.uniform(80, 160, (count, 2))
    middle = rng.uniform(200, 400, (count, 2))
    size = side * scale * (1 + rng.normal(0, 0.03, (count, 2)))
    target = middle + shift * side + rng.normal(0, 0.02, (count, 2)) * side
    wrong = rng.random(count) < 0.1
    target[wrong] += rng.uniform(100, 300, (wrong.sum(), 2))
    ids = [f"biwi/01/{number:05d}" for number in range(count)]
    a = make_boxes(ids, np.column_stack((middle - (side - 1) / 2, side)), "projected")
    b = make_boxes(ids, np.column_stack((target - (size - 1) / 2, size)), "dlib-hog")
    mapping = fit_mapping(a, b)
    assert mapping.shift == pytest.approx(shift, abs=0.01) and mapping.scale == pytest.approx(scale, abs=0.01)
    assert mapping.pairs == count and mapping.iou_after > mapping.iou_before + 0.1
    assert mapping.iou_before == pytest.approx(iou(a.boxes, b.boxes).mean())
    # Frames that the detector did not find have the projection's box, and do not count.
    undetected = a._replace(sources=np.full(count, NOT_DETECTED))
    half = np.arange(count) < count // 2
    mixed = BoxTable(
        a.ids, np.where(half[:, None], b.boxes, a.boxes), np.where(half, "dlib-hog", undetected.sources), a.checked
    )
    assert fit_mapping(a, mixed).shift == pytest.approx(fit_mapping(a, b.where(half)).shift)
    with pytest.raises(DatasetError, match="the two files have 19 frames with boxes in common; a fit needs 20"):
        fit_mapping(a, b.where(np.arange(19)))
    with pytest.raises(DatasetError, match="no frame in common"):
        fit_mapping(a, undetected)


def test_a_mapping_by_hand_and_through_a_file(tmp_path):
    mapping = BoxMapping(np.array([0.1, -0.2]), np.array([0.5, 0.75]), 40, 0.3, 0.8)
    write_mapping(tmp_path / "map.json", mapping)
    read = read_mapping(tmp_path / "map.json")
    assert read.shift.tolist() == [0.1, -0.2] and read.scale.tolist() == [0.5, 0.75] and read[2:] == mapping[2:]
    # A box of 101 x 101 about (60, 70): its middle goes to (70.1, 49.8), its sides become 50.5 and 75.75.
    table = make_boxes(["biwi/01/00003"], np.array([10, 20, 101, 101]), "imported", checked=True)
    moved = apply_mapping(read, table)
    assert moved.boxes[0] == pytest.approx([70.1 - 49.5 / 2, 49.8 - 74.75 / 2, 50.5, 75.75], abs=0.5)
    assert moved.sources.tolist() == ["imported+transform"] and not moved.checked[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": [0.5, 0]}, "a shift and a positive scale of two numbers each"),
        ({"shift": [0.5]}, "a shift and a positive scale of two numbers each"),
        ({"shift": [0.5, float("nan")]}, "a shift and a positive scale of two numbers each"),
        ({"shift": "far"}, "expected a mapping between boxes, as hpp boxes fit writes"),
        ({"pairs": None}, "expected a mapping between boxes, as hpp boxes fit writes"),
        (None, "expected a mapping between boxes, as hpp boxes fit writes, which is JSON"),
    ],
)
def test_a_faulty_mapping_is_told(tmp_path, change, says):
    path = tmp_path / "map.json"
    write_mapping(path, BoxMapping(np.zeros(2), np.ones(2), 40, 0.3, 0.8))
    path.write_text(json.dumps(json.loads(path.read_text()) | change) if change else "{")
    with pytest.raises(HeadposeError, match=says) as error:
        read_mapping(path)
    assert str(path) in str(error.value)
    with pytest.raises(
        HeadposeError, match=r"none\.json: cannot be read: No such file.*; expected a mapping between boxes"
    ):
        read_mapping(tmp_path / "none.json")


# ---- projection and detection


def by_hand(root, frame):
    """The middle and side of a head's box, from the numbers in the files."""
    pose = np.array(frame.pose.read_text().split(), float).reshape(4, 3)
    camera = [line.split() for line in (root / frame.sequence / "rgb.cal").read_text().splitlines() if line.strip()]
    k, rotation, translation = (np.array(camera[i:j], float) for i, j in ((0, 3), (4, 7), (7, 8)))
    x, y, z = rotation @ pose[3] + translation[0]
    # Seen along the ray through the head: the frame is turned about the axis that is perpendicular to ray and z.
    angle, across = math.atan2(math.hypot(x, y), z), math.hypot(x, y)
    turned = Rotation.from_rotvec(angle * np.array([-y, x, 0]) / across)
    (_, down_x, back_x), (_, down_y, back_y), _ = turned.inv().as_matrix() @ rotation @ pose[:3]
    far = math.log(min(max(z, 739), 1324) / 900)
    side = 255.0 * math.exp(0.032 * back_y - 0.056 * back_y**2 + 0.138 * far + 1.681 * far**2)
    x += -3.22 + 13.92 * back_x - 17.20 * down_x
    y += 41.33 - 8.43 * back_y - 42.93 * down_y
    return np.array([k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]]), k[0, 0] * side / z


def test_projection_by_hand(tiny):
    root = tiny / "hpdb"
    table, faults, _ = project_heads(root, manifest_file=tiny / "data_manifest.csv")
    frames = [frame for name in biwi.sequences(root) for frame in biwi.list_frames(root, name)[0]]
    assert table.ids.tolist() == [frame.id for frame in frames] and not faults
    assert set(table.sources) == {"projected"} and not table.checked.any()
    for frame, (x, y, width, height) in zip(frames, table.boxes, strict=True):
        middle, side = by_hand(root, frame)
        assert [x + (width - 1) / 2, y + (height - 1) / 2] == pytest.approx(middle, abs=1.01)
        assert width == height == pytest.approx(side, abs=0.51)


@pytest.mark.real
def test_projection_of_the_real_frame(real):
    table, faults, _ = project_heads(real / "hpdb")
    assert table.ids.tolist() == ["biwi/01/00003"] and not faults
    assert iou(table.boxes[0], np.array([274, 209, 132, 132])) > 0.75


@pytest.mark.real
def test_the_rule_is_what_fits_half_of_the_subjects_and_holds_for_the_others(real, annotations):
    heads = box_rule.read_heads(real / "Biwi_plus.npz", annotations)
    assert len(heads.poses) == 15_677
    fitted, held_out = box_rule.halves(heads)
    assert not set(heads.subjects[fitted]) & set(heads.subjects[held_out])
    size, by_pitch, by_distance, shift_x, shift_y = box_rule.fit(heads.where(fitted))
    assert size == pytest.approx(geometry.SIZE_MM, abs=0.05)
    assert [*by_pitch, *by_distance] == pytest.approx([*geometry.SIZE_BY_PITCH, *geometry.SIZE_BY_DISTANCE], abs=0.0006)
    assert [*shift_x, *shift_y] == pytest.approx([*geometry.SHIFT_X_MM, *geometry.SHIFT_Y_MM], abs=0.006)
    figures = box_rule.measure(heads, real / "Biwi_plus.npz")
    whole, *bins = figures.bins
    assert whole.rule > 0.85 > whole.squares["270"] > whole.squares["230"]
    assert all(part.rule > 0.8 for part in bins if part.frames > 200)
    # An overlap by hand, of 270 mm squares about the projected centres, over all frames.
    camera = biwi.known_camera("A").matrix
    overlaps = []
    for (_, (x, y, z)), (left, top, width, height) in zip(heads.poses, heads.boxes, strict=True):
        side = round(camera[0, 0] * 270 / z)
        u = round(camera[0, 0] * x / z + camera[0, 2] - camera[0, 0] * 135 / z + 0.5)
        v = round(camera[1, 1] * y / z + camera[1, 2] - camera[0, 0] * 135 / z + 0.5)
        w = max(min(u + side, left + width) - max(u, left), 0)
        h = max(min(v + side, top + height) - max(v, top), 0)
        overlaps.append(w * h / (side**2 + width * height - w * h))
    assert np.mean(np.array(overlaps)[held_out]) == pytest.approx(whole.squares["270"], abs=2e-4)


@pytest.mark.real
def test_detection_on_the_real_frame(real):
    pytest.importorskip("dlib")
    detections = detect_faces(real / "hpdb").table
    x, y, width, height = detections.boxes[0]
    assert detections.sources.tolist() == ["dlib-hog"]
    middle, side = by_hand(real / "hpdb", biwi.list_frames(real / "hpdb", "01")[0][0])
    assert (np.abs(np.array([x + width / 2, y + height / 2]) - middle) < side / 2).all()


@pytest.mark.slow
def test_every_frame_has_a_box_and_detections_agree_with_the_projection(tiny):
    dlib = pytest.importorskip("dlib")
    projected = project_heads(tiny / "hpdb", manifest_file=tiny / "data_manifest.csv").table
    detections, faults, _ = detect_faces(tiny / "hpdb", upsample=2, manifest_file=tiny / "data_manifest.csv")
    assert detections.ids.tolist() == projected.ids.tolist() and not faults
    detected = detections.sources == "dlib-hog"
    assert set(detections.sources[~detected]) <= {NOT_DETECTED}
    assert (detections.boxes[~detected] == projected.boxes[~detected]).all()
    assert detected.sum() > 10 and iou(detections.boxes, projected.boxes)[detected].min() >= MIN_AGREEMENT
    # dlib itself, asked of one frame of each kind.
    for index in (int(detected.argmax()), int((~detected).argmax())):
        name = detections.ids[index].split("/")
        image = read_image(tiny / f"hpdb/{name[1]}/frame_{name[2]}_rgb.png")
        faces = [
            (f.left(), f.top(), f.width(), f.height()) for f in dlib.get_frontal_face_detector()(image[..., :3], 2)
        ]
        assert (tuple(detections.boxes[index]) in faces) == detected[index]


def detecting(monkeypatch, faces):
    """Replace dlib by a detector that finds these faces, relative to the true middle, in every image."""
    monkeypatch.setattr(detection, "_load_detector", lambda wanted: faces)


def test_of_several_faces_the_one_that_agrees_counts(real, tiny, monkeypatch):
    truth = project_heads(tiny / "hpdb", manifest_file=tiny / "data_manifest.csv").table
    middle = np.median(truth.boxes, axis=0)
    faces = np.stack((middle - [60, 0, 0, 0], middle, [0, 0, 12, 12]))
    detecting(monkeypatch, lambda image: faces)
    detections = detect_faces(tiny / "hpdb", manifest_file=tiny / "data_manifest.csv").table
    overlaps = np.array([[len(pixels(f) & pixels(t)) / len(pixels(f) | pixels(t)) for f in faces] for t in truth.boxes])
    near = overlaps.max(axis=1) >= MIN_AGREEMENT
    expected = np.where(near[:, None], faces[overlaps.argmax(axis=1)], truth.boxes)
    assert (detections.boxes == expected).all() and near.any()
    assert (detections.sources == np.where(near, "dlib-hog", NOT_DETECTED)).all()


@pytest.mark.parametrize("faces", [np.zeros((0, 4)), np.array([[0.0, 0, 9, 9]])])
def test_no_face_near_the_head_leaves_the_projection(tiny, monkeypatch, faces):
    detecting(monkeypatch, lambda image: faces)
    truth = project_heads(tiny / "hpdb", manifest_file=tiny / "data_manifest.csv").table
    detections = detect_faces(tiny / "hpdb", manifest_file=tiny / "data_manifest.csv").table
    assert set(detections.sources) == {NOT_DETECTED} and (detections.boxes == truth.boxes).all()


def test_a_model_that_is_none(tiny, tmp_path):
    pytest.importorskip("dlib")
    with pytest.raises(HeadposeError, match=r"none\.dat: no such file; expected a CNN face detector of dlib"):
        detect_faces(tiny / "hpdb", tmp_path / "none.dat")
    (tmp_path / "text.dat").write_text("not a network")
    with pytest.raises(HeadposeError, match=r"text\.dat: not a CNN face detector of dlib"):
        detect_faces(tiny / "hpdb", tmp_path / "text.dat")


def test_without_dlib_the_package_is_named(tiny, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    with pytest.raises(HeadposeError, match=r"needs dlib: pip install 'headposeplus\[detect\]'"):
        detect_faces(tiny / "hpdb")


def test_damaged_frames_are_listed(tiny_copy, monkeypatch):
    root = tiny_copy / "hpdb"
    frames = biwi.list_frames(root, "03")[0]
    frames[1].pose.write_text("")
    frames[2].pose.write_text("1 0 0\n0 1 0\n0 0 1\n\n0 0 -5\n")
    frames[4].image.write_bytes(frames[4].image.read_bytes()[:-30])
    frames[5].image.unlink()
    (root / "15/rgb.cal").write_text("")
    detecting(monkeypatch, lambda image: np.zeros((0, 4)))
    table, faults, _ = detect_faces(root, manifest_file=tiny_copy / "data_manifest.csv")
    named = [frames[5].pose, frames[1].pose, frames[2].pose, frames[4].image, root / "15/rgb.cal"]
    assert len(faults) == 5 and [fault.file for fault in faults] == named
    assert len(table.ids) == 48 - 12 - 4 and not any("/15/" in name for name in table.ids)
    for name in ("01", "03", "06"):
        (root / name / "rgb.cal").write_text("")
    with pytest.raises(DatasetError, match=r"no frame can be read; the first fault: .*rgb\.cal"):
        project_heads(root, manifest_file=tiny_copy / "data_manifest.csv")
