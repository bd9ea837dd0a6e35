import json
import re

import numpy as np
import pytest

from headposeplus.boxes.files import read_boxes, write_boxes
from headposeplus.boxes.formats import MISPLACED
from headposeplus.boxes.geometry import make_boxes, projected
from headposeplus.boxes.placement import check_boxes, misplaced, outside
from headposeplus.boxes.sources import import_boxes, project_heads
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.errors import DatasetError
from headposeplus.miniature.write import source_of
from headposeplus.verify.datasets import verify_data
from headposeplus.verify.raw import verify_raw

HEAD = [200.0, 100.0, 100.0, 100.0]  # its middle is (250, 150)


@pytest.mark.parametrize(
    ("box", "wrong"),
    [
        ([200, 100, 100, 100], False),
        ([225, 125, 50, 50], False),
        ([150, 50, 195, 195], False),
        ([100, 50, 140, 90], True),  # misses the middle
        ([260, 100, 100, 100], True),
        ([240, 140, 20, 20], True),  # a fifth as wide
        ([100, 50, 220, 220], True),  # more than twice as wide
        ([200, 100, 300, 200], True),  # corners
        ([200, 100, -10, 20], True),
    ],
)
def test_which_boxes_cannot_be(box, wrong):
    assert misplaced(np.array([box], float), np.array([HEAD])).tolist() == [wrong]


def test_how_much_of_a_box_lies_outside_by_counting_pixels():
    rng = np.random.default_rng(0)
    boxes = np.column_stack((rng.integers(-30, 60, (60, 2)), rng.integers(5, 40, (60, 2)))).astype(float)
    for box, wrong in zip(boxes.astype(int), outside(boxes, 50, 40), strict=True):
        x, y = np.meshgrid(np.arange(box[0], box[0] + box[2]), np.arange(box[1], box[1] + box[3]))
        share = ((x >= 0) & (x < 50) & (y >= 0) & (y < 40)).mean()
        assert wrong == (share < 0.9)


@pytest.fixture(scope="module")
def heads(tiny):
    return project_heads(tiny / "hpdb", manifest_file=tiny / "data_manifest.csv")


def as_corners(boxes):
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)


def test_most_of_a_file_is_wrong(heads, tmp_path):
    table, path = heads.table, tmp_path / "boxes.csv"
    assert check_boxes(table, path, table, heads.width) == []
    corners = table._replace(boxes=as_corners(table.boxes))
    with pytest.raises(DatasetError, match=r"boxes\.csv: \d+ of 48 boxes miss the head, or are far too large or small, "
                       r"biwi/\d\d/\d{5} the first; read as corners, .* hpp boxes import with `corners`"):  # fmt: skip
        check_boxes(corners, path, table, heads.width)
    larger = table._replace(boxes=table.boxes * 1280 / heads.width)
    with pytest.raises(DatasetError, match=r"as boxes of images of 1280 x 960 they fit: .* with `image_width` 1280"):
        check_boxes(larger, path, table, heads.width)
    middles = np.concatenate((table.boxes[:, :2] + table.boxes[:, 2:] / 2 + 1, table.boxes[:, 2:]), axis=1)
    with pytest.raises(DatasetError, match="they fit where x and y are their middles: take half of the width"):
        check_boxes(table._replace(boxes=middles), path, table, heads.width)
    with pytest.raises(DatasetError, match=r"holds no box of these frames; expected ids such as .*, found biwi/24"):
        check_boxes(make_boxes(["biwi/24/00007"], table.boxes[:1], "imported"), path, table, heads.width)
    aside = table._replace(boxes=table.boxes + np.array([0, 500, 0, 0]))
    with pytest.raises(DatasetError, match=r"48 of 48 boxes miss .*; expected x, y, width and height in pixels"):
        check_boxes(aside, path, table, heads.width)
    few = table._replace(boxes=np.where(np.arange(48)[:, None] % 9 == 4, aside.boxes, table.boxes))
    assert check_boxes(few, path, table, heads.width) == table.ids[4::9].tolist()
    # Boxes of frames whose pose is not known are not judged.
    assert check_boxes(few, path, table.where(np.arange(48) % 9 != 4), heads.width) == []


def test_without_poses_boxes_are_compared_with_the_image(tmp_path):
    path = tmp_path / "boxes.csv"
    ids = [f"biwi/01/{number:05d}" for number in range(9)]
    boxes = np.column_stack((np.linspace(250, 330, 9), np.linspace(180, 240, 9), np.full(9, 130), np.full(9, 130)))
    assert check_boxes(make_boxes(ids, boxes, "imported"), path) == []
    with pytest.raises(DatasetError, match=r"of 9 boxes lie beyond the image, .* the first; read as corners"):
        check_boxes(make_boxes(ids, as_corners(boxes), "imported"), path)
    with pytest.raises(DatasetError, match="as boxes of images of 1920 x 1080 they fit"):
        check_boxes(make_boxes(ids, boxes * 3, "imported"), path)


def test_import_mends_what_it_is_told(heads, tiny, tmp_path):
    path, manifest = tmp_path / "boxes.csv", tiny / "data_manifest.csv"
    write_boxes(path, heads.table._replace(boxes=as_corners(heads.table.boxes)))
    asked = {"biwi_folder": tiny, "manifest_file": manifest}
    with pytest.raises(DatasetError, match="read as corners"):
        import_boxes(path, **asked)
    made = import_boxes(path, corners=True, **asked)
    table = made.table
    assert made == (table, [], 48, 1.0, ()) and (table.boxes == heads.table.boxes).all()
    write_boxes(path, heads.table._replace(boxes=heads.table.boxes * 8))
    with pytest.raises(DatasetError, match="1280 x 960"):
        import_boxes(path, **asked)
    assert (import_boxes(path, image_width=1280, **asked).table.boxes == heads.table.boxes).all()


def test_import_by_command(heads, tiny, tmp_path, hpp):
    path, out = tmp_path / "boxes.json", tmp_path / "boxes.csv"
    corners = as_corners(heads.table.boxes)
    corners[7] += [0, 300, 0, 300]
    frames = [f"faces_0/{name[5:7]}/frame_{name[8:]}_rgb.png" for name in heads.table.ids.tolist()]
    path.write_text(json.dumps(dict(zip(frames, corners.tolist(), strict=True))))
    words = ["boxes", "import", path, "--out", out, "--biwi", tiny, "--manifest", tiny / "data_manifest.csv"]
    text = hpp(*words, expect=3).output
    assert "48 of 48 compared with the boxes that the poses give: mean IoU 0.9" in text
    assert f"{path}: the box of {heads.table.ids[7]} misses the head, or is far too large or small" in text
    assert (read_boxes(out).boxes[8:] == heads.table.boxes[8:]).all()
    out.unlink()
    words += ["--jobs", 1]
    path.write_text("id,x,y,width,height\n" + "".join(
        f"{name},{','.join(map(str, box))}\n" for name, box in zip(frames, corners.tolist(), strict=True)))  # fmt: skip
    assert "hpp boxes import with --corners" in hpp(*words, expect=1).output and not out.exists()
    assert "the box of" in hpp(*words, "--corners", expect=3).output and out.exists()


def test_a_build_projects_what_cannot_be_and_everything_says_so(heads, tiny, tmp_path, hpp):
    boxes, manifest = tmp_path / "boxes.csv", tiny / "data_manifest.csv"
    given = heads.table.boxes + np.array([1, 0, 0, 0])
    wrong = [3, 20, 40]
    given[wrong] += [0, 500, 0, 0]
    write_boxes(boxes, make_boxes(heads.table.ids, given, "imported"))
    source = source_of(tiny)._replace(synhead=None, boxes=boxes)
    summary = build_datasets(source, tmp_path / "data", Options(size=16))
    info = open_dataset(tmp_path / "data/biwi+").info
    ids = heads.table.ids[wrong].tolist()
    assert info.misplaced == ids and info.boxes == {"imported": 45, MISPLACED: 3} and not summary.left_out
    fields = list(read_fields(open_dataset(tmp_path / "data/biwi+"), "id", "box"))
    stored = {str(name): box.tolist() for part in fields for name, box in zip(part["id"], part["box"], strict=True)}
    assert all(stored[name] == heads.table.boxes[place].tolist() for name, place in zip(ids, wrong, strict=True))
    assert stored[heads.table.ids[0]] == given[0].tolist()
    told = f"3 boxes miss the head, or are far too large or small: frames {', '.join(ids)}"
    assert told in str(verify_data(tmp_path / "data", manifest).warnings)
    assert told in hpp("inspect", tmp_path / "data").output
    assert "projected instead: 3" in (tmp_path / "data/inspect/card.md").read_text()
    again = ["build-datasets", "--biwi", tiny, "--boxes", boxes, "--out", tmp_path / "data", "--size", 16, "--jobs", 1]
    assert told in hpp(*again, "--manifest", manifest, expect=3).output
    strict = hpp(*again[:6], tmp_path / "strict", *again[7:], "--strict", expect=1).output
    assert re.search(rf"boxes\.csv: the box of ({'|'.join(ids)}) misses the head, .*; mend or remove it\n", strict)
    assert not list((tmp_path / "strict").rglob("*.part"))
    report = verify_raw(tiny, None, manifest, boxes=boxes)
    assert [fault.what for fault in report.faults] == [told]
    write_boxes(boxes, make_boxes(heads.table.ids, as_corners(heads.table.boxes), "imported"))
    text = hpp("verify", "--biwi", tiny, "--boxes", boxes, "--manifest", manifest, "--jobs", 1, expect=3).output
    assert "read as corners, x1, y1, x2 and y2, they fit: hpp boxes import with --corners" in text
    assert "read as corners" in hpp(*again, "--manifest", manifest, expect=1).output
    assert "give --biwi, too" in hpp("verify", "--synhead", tiny, "--boxes", boxes, expect=1).output


@pytest.mark.real
def test_of_the_real_files_only_the_wrong_detections_are_named(real, annotations):
    from benchmark.upkeep import box_rule
    from headposeplus.raw import biwi
    from headposeplus.raw.ids import parse_frame

    paths = sorted(annotations.glob("*/frame_*_pose.bin"))
    ids = [parse_frame(f"{path.parent.name}/{path.name}") for path in paths]
    poses = box_rule.read_heads(real / "Biwi_plus.npz", annotations).poses
    camera = biwi.known_camera("A")
    heads = make_boxes(ids, np.stack([projected(pose, camera) for pose in poses]), "projected")
    for name, wrong in (("Biwi_plus.npz", 0), ("boxes/opal_biwi_ann_15677.txt", 1)):
        assert len(check_boxes(read_boxes(real / name), real / name, heads)) == wrong
    path = real / "boxes/jianzhnie_BIWI_boxes.json"
    table = read_boxes(path)
    missed = set(check_boxes(table, path, heads))
    centres = {name: camera.project(pose.centre) for name, pose in zip(ids, poses, strict=True)}
    far = {
        name for name, box in zip(table.ids.tolist(), table.boxes, strict=True)
        if name in centres and np.abs(centres[name] - box[:2] - box[2:] / 2).max() > 200
    }  # fmt: skip
    assert len(far) > 100 and far <= missed and 200 < len(missed) < 300
    published = read_boxes(real / "Biwi_plus.npz")
    with pytest.raises(DatasetError, match="read as corners"):
        check_boxes(published._replace(boxes=as_corners(published.boxes)), path, heads)
