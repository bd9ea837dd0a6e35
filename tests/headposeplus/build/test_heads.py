"""Where rendered heads are in their images: as a copy says, or found from their outlines."""

import numpy as np
import pytest

from headposeplus.boxes import geometry
from headposeplus.build import heads
from headposeplus.build.work import Options
from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.errors import DatasetError, RawDataError
from headposeplus.miniature.poses import hidden_order
from headposeplus.raw import synhead

MARGIN = Options().visible_margin


@pytest.fixture
def root(tiny_copy):
    return synhead.find_root(tiny_copy)


def places_of(root, out, keep=True):
    return heads.head_places(synhead.look_through(root), out, hidden_order(0), MARGIN, 1, keep)


def test_a_copy_says_where_its_heads_are(root, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "fit_ball", lambda work: pytest.fail("nothing has to be found"))
    found = places_of(root, tmp_path / "out")
    assert found.source == "projected" and list(found.of) == list(synhead.HEADS)
    for place in found.of.values():  # the miniature's heads turn about the middle of 64 pixels, 800 mm away
        assert place.pivot.tolist() == [31.5, 31.5] and place.offset.tolist() == [0, 0, 0]
        assert place.pixels_per_mm == pytest.approx(1.9 * 64 / 800, rel=1e-4)
    assert not (tmp_path / "out").exists()


def test_heads_are_found_where_a_copy_does_not_say(root, tmp_path, monkeypatch):
    said = places_of(root, tmp_path).of
    (root / "head_places.csv").unlink()
    found = places_of(root, tmp_path / "trial", keep=False)
    assert found.source == "outline" and list(found.of) == list(synhead.HEADS)
    assert not (tmp_path / "trial").exists()
    # A head of the miniature is not that of Biwi's sequence 01, from which its middle and size are told.
    middles = np.array([place.pivot + place.offset[:2] - said[head].pivot for head, place in found.of.items()])
    scales = np.array([place.pixels_per_mm / said[head].pixels_per_mm for head, place in found.of.items()])
    assert np.abs(middles).max() < 0.15 * 255 * 1.9 * 64 / 800  # of a box's side, pixels
    assert np.abs(np.log(scales)).max() < 0.2 and len(set(scales)) > 5
    # What was found is kept, and read again.
    kept = places_of(root, tmp_path / "out")
    record = tmp_path / "out/synhead+/head_balls.json"
    assert record.exists()
    monkeypatch.setattr(heads, "fit_ball", lambda work: pytest.fail("it was found already"))
    again = places_of(root, tmp_path / "out")
    for head in synhead.HEADS:
        for a, b in zip(kept.of[head], again.of[head], strict=True):
            assert np.array_equal(a, b)
    content = record.read_text()
    record.write_text(content.replace("radius", "size"))
    with pytest.raises(DatasetError, match=r"head_balls\.json: not where the heads are; delete it and build again"):
        places_of(root, tmp_path / "out")


def test_a_head_that_a_copy_does_not_place(root, tmp_path):
    path = root / "head_places.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if line[:3] not in ("f02", "m05")))
    with pytest.raises(RawDataError, match=r"head_places\.csv: no row of f02, m05; add it, or delete the file") as told:
        places_of(root, tmp_path)
    assert str(told.value).startswith(str(path))
    # One that the copy has no images of does no harm.
    path.write_text("\n".join([*lines, "m09,1,1,1"]))
    assert list(places_of(root, tmp_path).of) == list(synhead.HEADS)


def built_boxes(data):
    """The boxes and rotations of SynHead+ and SynBiwi+ by id, and how many boxes come from each source."""
    boxes, sources = {}, {}
    for name in ("synhead+", "synbiwi+"):
        dataset = open_dataset(data / name)
        for part in read_fields(dataset, "id", "box", "label/rotation", "box_source"):
            assert set(part["box_source"]) == set(dataset.info.boxes)
            rows = zip(part["box"], part["label/rotation"], strict=True)
            boxes |= dict(zip(part["id"].tolist(), rows, strict=True))
        sources |= dataset.info.boxes
    return boxes, set(sources)


def hashes(data):
    return [shard.sha256 for name in ("synhead+", "synbiwi+") for shard in open_dataset(data / name).info.shards]


def test_a_build_with_and_without_the_file(built, root, tiny_copy, tmp_path, hpp):
    said, sources = built_boxes(built[0])
    assert sources == {"projected"}
    scale = 1.9 * 64 / 800
    for box, rotation in said.values():
        side, shift = geometry.framed(rotation)
        assert box[2] == box[3] == pytest.approx(scale * side, abs=0.51)
        assert box[:2] + (box[2:] - 1) / 2 == pytest.approx(31.5 + scale * shift, abs=1.01)
    path, content = root / "head_places.csv", (root / "head_places.csv").read_bytes()
    words = ("build-datasets", "--biwi", tiny_copy / "hpdb", "--synhead", root, "--size", 32, "--jobs", 1,
             "--manifest", tiny_copy / "data_manifest.csv", "--out", tmp_path / "data")  # fmt: skip
    path.unlink()
    hpp(*words)
    found, sources = built_boxes(tmp_path / "data")
    assert sources == {"outline"} and found.keys() == said.keys()
    overlaps = [geometry.iou(box, said[name][0]) for name, (box, _) in found.items()]
    assert 0.7 < np.mean(overlaps) < 0.99
    # The file comes back, and what the outlines gave is built anew.
    path.write_bytes(content)
    hpp(*words)
    assert hashes(tmp_path / "data") == hashes(built[0])


def test_faults_of_the_file_are_one_line(root, tiny_copy, tmp_path, hpp):
    path = root / "head_places.csv"
    header, *rows = path.read_text().splitlines()
    words = ("build-datasets", "--synhead", root, "--render-order", str(hidden_order(0)), "--size", 32, "--jobs", 1,
             "--manifest", tiny_copy / "data_manifest.csv", "--out", tmp_path / "data")  # fmt: skip
    for lines, says in (
        (["head,left,top,scale", *rows], ": expected a line head,x,y,pixels_per_mm and a row a head; mend it, or"),
        ([header, rows[0], "f02,1,2"], ", line 3: expected a line head,x,y,pixels_per_mm and a row a head; mend it"),
        ([header, *rows[1:]], ": no row of f01; add it, or delete the file to have the heads found"),
    ):
        path.write_text("\n".join(lines))
        output = hpp(*words, expect=1).output
        assert f"Error: {path}{says}" in output and output.strip().count("\n") == 0, output
        assert not list((tmp_path / "data").rglob("*.h5"))
