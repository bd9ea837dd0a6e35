import os

import numpy as np
import pytest

from headposeplus.errors import RawDataError
from headposeplus.images import foreground, read_image
from headposeplus.raw import synhead


@pytest.fixture
def root(tiny_copy):
    return synhead.find_root(tiny_copy)


def test_layout(tiny):
    root = synhead.find_root(tiny / "synhead2_release")
    tracks = synhead.tracks(root)
    assert [t.group for t in tracks] == ["BIWI"] * 4 + ["breitenstein"] * 2 + ["kinect"] + ["softkinetic"] * 2
    assert synhead.heads(root) == list(synhead.HEADS)
    angles = synhead.read_angles(tracks[0])
    images = synhead.list_images(tracks[0], "m03", len(angles))
    assert angles.shape == (10, 3) and [int(p.stem) for p in images] == list(range(10))
    assert len(synhead.backgrounds(root)) == 4
    assert synhead.image_id("BIWI", "f01", "00", 12) == "synhead/BIWI/f01/00/00012"


def test_images_are_sorted_by_number_not_by_name(root):
    track = synhead.tracks(root)[0]
    with track.csv.open("a") as file:
        file.write("1,2,3\n")
    folder = track.images_folder("f01")
    for path in folder.iterdir():
        path.rename(folder / f"{int(path.stem)}.png")
    (folder / "10.png").write_bytes((folder / "9.png").read_bytes())
    assert [p.name for p in synhead.list_images(track, "f01", 11)][-2:] == ["9.png", "10.png"]


def test_deep_copies_and_the_other_spelling(root, tmp_path):
    deep = tmp_path / "x/media/someone/Data2/synhead2_release"
    deep.parent.mkdir(parents=True)
    (root / "softkinetic").rename(root / "softkinect")
    root.rename(deep)
    assert synhead.find_root(tmp_path / "x") == deep
    assert synhead.tracks(deep)[-1].group == "softkinetic"
    assert synhead.tracks(deep)[-1].csv.parent.name == "softkinect"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda text: "pitch,yaw,roll\n" + text, "line 1: expected a row a frame"),
        (lambda text: text.replace(",", ";"), "line 1"),
        (lambda text: text.replace(text.split(",")[0], "nan", 1), "line 1"),
        (lambda text: text + "1,2\n", "line 11"),
        (lambda text: "\n", "empty"),
    ],
)
def test_faulty_angles(root, edit, says):
    track = synhead.tracks(root)[0]
    track.csv.write_text(edit(track.csv.read_text()))
    with pytest.raises(RawDataError) as error:
        synhead.read_angles(track)
    assert str(track.csv) in str(error.value) and says in str(error.value)


def test_where_the_heads_are(root):
    (root / "head_places.csv").write_text("\ufeffhead, x, y, pixels_per_mm\nf01, 31.5, 30, 0.25\nm02,1,-2.5,3\n\n")
    places = synhead.read_head_places(root)
    assert list(places) == ["f01", "m02"]
    pivot, offset, scale = places["f01"]
    assert (pivot.tolist(), offset.tolist(), scale) == ([31.5, 30], [0, 0, 0], 0.25)
    assert (places["m02"].pivot.tolist(), places["m02"].pixels_per_mm) == ([1, -2.5], 3)
    (root / "head_places.csv").unlink()
    assert synhead.read_head_places(root) is None


ONE_HEAD = b"head,x,y,pixels_per_mm\nf02,1,2,3\n"
EXPECTED = "expected a line head,x,y,pixels_per_mm and a row a head"


def test_places_of_heads_from_a_spreadsheet(root):
    (root / "head_places.csv").write_text('head;x;y;pixels_per_mm;\n"f01";31,5;30;0,25;\n;;;;\n')
    place = synhead.read_head_places(root)["f01"]
    assert place.pivot.tolist() == [31.5, 30] and place.pixels_per_mm == 0.25


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ": an empty file; mend it, or delete it to have the heads found"),
        (b"head,x,y\nf01,1,2\n", f": {EXPECTED}; mend it"),
        (b"f01,1,2,3\n", f": {EXPECTED}; mend it"),
        (b"\xff\xfe\x00", ": not UTF-16, as its first bytes say"),
        (ONE_HEAD + b"f01,1,2\n", f", line 3: {EXPECTED}; mend it"),
        (ONE_HEAD + b"f01,1,2,3,4\n", f", line 3: {EXPECTED}; mend it"),
        (ONE_HEAD + b"f01,1,left,3\n", f", line 3: {EXPECTED}; found 'f01,1,left,3'"),
        (ONE_HEAD + b"f01,1,nan,3\n", f", line 3: {EXPECTED}; found 'f01,1,nan,3'"),
        (ONE_HEAD + b"f01,1,2,0\n", f", line 3: {EXPECTED}; found 'f01,1,2,0'"),
        (ONE_HEAD + b"f01,1,2,-3\n", f", line 3: {EXPECTED}; found 'f01,1,2,-3'"),
        (ONE_HEAD + b"\nf01,1,2,x\n", f", line 4: {EXPECTED}; found 'f01,1,2,x'"),
        (ONE_HEAD + b"f02,1,2,3\n", ", line 3: a second row of f02; keep the right one"),
    ],
)
def test_faulty_places_of_heads(root, content, says):
    path = root / "head_places.csv"
    path.write_bytes(content)
    with pytest.raises(RawDataError) as error:
        synhead.read_head_places(root)
    assert str(error.value).startswith(f"{path}{says}") and "\n" not in str(error.value)


def test_a_missing_image_names_both(root):
    track = synhead.tracks(root)[0]
    (track.images_folder("f02") / "04.png").unlink()
    with pytest.raises(RawDataError, match=r"f02/00: 9 images, but .*00\.csv has 10 rows"):
        synhead.list_images(track, "f02", 10)


def test_two_images_with_one_number(root):
    track = synhead.tracks(root)[0]
    (track.images_folder("f02") / "004.png").write_bytes(b"")
    with pytest.raises(RawDataError, match=r"has the number 4, as .* has; keep the right one"):
        synhead.list_images(track, "f02", 10)


def test_not_synhead(tmp_path):
    with pytest.raises(RawDataError, match="not raw SynHead"):
        synhead.find_root(tmp_path)
    with pytest.raises(RawDataError, match="no such folder"):
        synhead.find_root(tmp_path / "nowhere")


def test_foreground_of_rgba_and_of_rgb_on_black_agree(tiny):
    image = read_image(tiny / "synhead2_release/BIWI/f01/00/03.png")
    assert image.shape[2] == 4
    colours, mask = image[..., :3].copy(), foreground(image) > 127
    colours[30:32, 30:32] = 0  # a pupil may be black: it does not touch the border
    assert mask[30:32, 30:32].all()
    opaque = np.dstack((np.where(mask[..., None], colours, 0), np.full(mask.shape, 255))).astype(np.uint8)
    assert ((foreground(opaque) > 127) == mask).all()
    on_black = np.where(mask[..., None], colours, 0).astype(np.uint8)
    assert ((foreground(on_black) > 127) == mask).all()
    assert read_image(tiny / "synhead2_release/kinect/f01/00/03.png").shape[2] == 3


def test_folders_that_cannot_be_listed(tiny, tmp_path, monkeypatch):
    real, refused = os.listdir, set()

    def listdir(path):
        if path in refused:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tiny)
    root = tmp_path / "b/synhead2_release"
    track = synhead.tracks(root)[0]
    refused |= {tmp_path / "a", root / "BIWI", track.images_folder("f01")}
    assert synhead.find_root(tmp_path) == root
    assert synhead.heads(root) == list(synhead.HEADS)
    told = "cannot be read: Permission denied; expected a folder; give yourself the right to read it"
    with pytest.raises(RawDataError, match=f"BIWI: {told}"):
        synhead.tracks(root)
    with pytest.raises(RawDataError, match=f"f01/{track.name}: {told}"):
        synhead.list_images(track, "f01", 10)
    refused.add(root)
    for function in (synhead.find_root, synhead.tracks, synhead.heads):
        with pytest.raises(RawDataError, match=f"synhead2_release: {told}"):
            function(root)
    with pytest.raises(RawDataError, match=r"not raw SynHead; .*; not looked into: "):
        synhead.find_root(tmp_path)
