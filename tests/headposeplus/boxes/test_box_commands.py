import re

import numpy as np
import pytest

from headposeplus.boxes.files import read_boxes, write_boxes
from headposeplus.boxes.formats import NOT_DETECTED
from headposeplus.boxes.geometry import iou
from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.raw import biwi

FIVE = "id,x,y,width,height\nbiwi/01/00003,50,30,41,42\n"


@pytest.fixture
def commands(tiny, tmp_path, hpp):
    """Run ``hpp boxes`` on the tiny miniature; paths that begin with ``=`` lie in the test's folder."""

    def run(*words, biwi=False, expect=0):
        words = [tmp_path / word[1:] if str(word).startswith("=") else word for word in words]
        more = ("--biwi", tiny / "hpdb") if biwi else ()
        return hpp("boxes", *words, *more, expect=expect).output

    return run


def test_commands_from_projection_to_build(tiny, tmp_path, hpp, commands):
    manifest = ("--manifest", tiny / "data_manifest.csv")
    text = commands("project", "--out", "=p.csv", *manifest, "--jobs", 1, biwi=True)
    assert f"48 boxes (48 projected)\nboxes {tmp_path / 'p.csv'}" in text
    projected = read_boxes(tmp_path / "p.csv")

    # A file of another convention: smaller boxes, higher up.
    other = projected.boxes * [1, 1, 0.5, 0.5] + projected.boxes[:, [2, 2, 2, 2]] * [0.25, 0.1, 0, 0]
    lines = [f"{name},{x:.0f},{y:.0f},{w:.0f},{h:.0f}" for name, (x, y, w, h) in zip(projected.ids, other, strict=True)]
    (tmp_path / "theirs.csv").write_text("\n".join(["id,x,y,width,height", *lines]))
    assert "48 boxes (48 imported)" in commands("import", "=theirs.csv", "--out", "=i.csv")
    text = commands("fit", "=i.csv", "=p.csv", "--out", "=map.json")
    assert "fitted to 48 boxes: shift" in text and "mean IoU 0.2" in text and f"mapping {tmp_path / 'map.json'}" in text
    assert "48 boxes (48 imported+transform)" in commands(
        "import", "=i.csv", "--transform", "=map.json", "--out", "=t.csv"
    )
    assert iou(read_boxes(tmp_path / "t.csv").boxes, projected.boxes).mean() > 0.9

    text = commands("compare", "=p.csv", "=t.csv")
    row = dict(zip(*(re.split(r"  +", text.splitlines()[i].strip()) for i in (0, 2)), strict=True))
    assert row["bin"] == "all" and row["frames"] == "48" and float(row["mean iou"]) > 0.9 and "|yaw|" not in text
    text = commands("compare", "=p.csv", "=t.csv", *manifest, biwi=True)
    for angle in ("pitch", "yaw", "roll"):
        assert sum(int(n) for n in re.findall(rf"\|{angle}\| (?:\d+ to|from) \d+ +(\d+)", text)) == 48

    first, second, third = projected.ids[:3]
    x, y, width, height = projected.boxes[0].astype(int)
    same = ",".join(str(int(value)) for value in projected.boxes[1])
    (tmp_path / "c.csv").write_text(f"id,x,y,width,height\n{first},{x + 4},{y},{width},{height}\n{second},{same}\n")
    text = commands("correct", "=p.csv", "=c.csv", "--out", "=checked.csv")
    assert "1 box changed, 0 added, 2 checked by hand in all" in text and "(1 corrected, 47 projected)" in text

    mixed = read_boxes(tmp_path / "checked.csv")
    mixed.sources[mixed.ids == third] = "imported"
    write_boxes(tmp_path / "mixed.csv", mixed.where(np.arange(48) != 47))
    hpp("build-datasets", "--biwi", tiny / "hpdb", "--boxes", tmp_path / "mixed.csv", "--out", tmp_path / "data",
        "--size", 16, "--jobs", 1, *manifest)  # fmt: skip
    dataset = open_dataset(tmp_path / "data/biwi+")
    fields = list(read_fields(dataset, "id", "box", "box_source"))
    sources = dict(zip(*(np.concatenate([f[key] for f in fields]) for key in ("id", "box_source")), strict=True))
    assert sources == {
        str(name): {str(first): "corrected", str(third): "imported"}.get(str(name), "projected") for name in mixed.ids
    }
    assert fields[0]["box"][0].tolist() == [x + 4, y, width, height]
    assert dataset.info.boxes == {"corrected": 1, "imported": 1, "projected": 46}

    text = commands("review", "=checked.csv", "--out", "=page.html", "--against", "=t.csv", "--limit", 5, biwi=True)
    assert (
        "48 frames:" in text and "5 are on the page" in text and "<html" in (tmp_path / "page.html").read_text().lower()
    )


@pytest.mark.slow
def test_detect_command(tiny, tmp_path, commands):
    pytest.importorskip("dlib")
    text = commands("detect", "--out", "=d.csv", "--upsample", 1, "--jobs", 1, biwi=True)
    table = read_boxes(tmp_path / "d.csv")
    counts = {source: int((table.sources == source).sum()) for source in np.unique(table.sources)}
    assert f"48 boxes ({', '.join(f'{count} {source}' for source, count in counts.items())})" in text
    assert counts.keys() <= {"dlib-hog", NOT_DETECTED}


@pytest.mark.parametrize(
    ("words", "needs_biwi", "says"),
    [
        (["import", "=no.csv", "--out", "=o.csv"], False, "no.csv: cannot be read: No such file"),
        (["fit", "=few.csv", "=few.csv", "--out", "=o.json"], False, "1 frame with boxes in common; a fit needs 20"),
        (["compare", "=few.csv", "=other.csv"], False, "hold no frame in common"),
        (["import", "=few.csv", "--transform", "=few.csv", "--out", "=o.csv"], False, "few.csv: expected a mapping"),
        (["detect", "--model", "=few.csv", "--out", "=o.csv"], True, "few.csv: not a CNN face detector of dlib"),
    ],
)
def test_commands_say_what_is_wrong_in_one_line(tmp_path, commands, words, needs_biwi, says):
    if "detect" in words:
        pytest.importorskip("dlib")
    (tmp_path / "few.csv").write_text(FIVE)
    (tmp_path / "other.csv").write_text(FIVE.replace("01/", "02/"))
    output = commands(*words, biwi=needs_biwi, expect=1)
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and says in lines[0] and not list(tmp_path.glob("o.*"))


def test_a_frame_without_a_box_gives_a_status(tiny_copy, tmp_path, hpp):
    pose = biwi.list_frames(tiny_copy / "hpdb", "06")[0][3].pose
    pose.write_text("")
    text = hpp("boxes", "project", "--biwi", tiny_copy, "--out", tmp_path / "p.csv", "--jobs", 1, expect=3).output
    assert "47 boxes (47 projected)" in text and "1 fault in frames or files, which have no box:" in text
    assert f"{pose}: expected three rows" in text and len(read_boxes(tmp_path / "p.csv").ids) == 47
