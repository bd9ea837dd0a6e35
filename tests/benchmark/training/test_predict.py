"""What a run's network says of pictures: of its own target what the run said, and of any others what can be said."""

import json
import shutil
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from baselines.methods import METHODS
from benchmark import load_network
from benchmark.scoring.submission import read_submission
from benchmark.training import predict as library
from benchmark.training import run as train
from benchmark.training.job import MODEL, PREDICTIONS
from headposeplus.boxes import detection
from headposeplus.boxes.files import read_boxes
from headposeplus.boxes.geometry import iou
from headposeplus.datasets.dataset import open_dataset, read_crops
from headposeplus.errors import DatasetError, ImageError, TrainingError
from headposeplus.images import read_image
from headposeplus.raw.ids import parse_frame
from headposeplus.rotations import ANGLES, from_matrix, geodesic, to_matrix

pytestmark = pytest.mark.usefixtures("one_thread")

BATCHES = 2e-4  # degrees by which the batch that an image is in may change what is said of it, and five digits


@pytest.fixture
def model(trained):
    """The folder of a trained method."""
    return train.run(trained).parent


@pytest.fixture
def boxes(trained, once):
    """A file with the boxes of the built target."""

    def write(folder):
        from headposeplus.datasets.export import export

        folder.mkdir()
        export(trained.data / "biwi+", folder / "biwi.csv")

    return once("exported", write)[0] / "biwi.csv"


@pytest.fixture
def photos(tiny, tmp_path, monkeypatch):
    """Three pictures in an empty folder, where the commands run."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for path, name in zip(sorted((tiny / "hpdb/01").glob("*_rgb.png")), ("a.png", "b.png", "more/a.png"), strict=False):
        shutil.copy(path, folder / name)
    monkeypatch.chdir(tmp_path)
    return folder


def angles_of(path, name="id"):
    table = pd.read_csv(path)
    return dict(zip(table[name], table[list(ANGLES)].to_numpy(), strict=True))


def only_error(output):
    (line,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in output and output.endswith(line + "\n")
    return line


def test_a_network_says_of_raw_frames_what_its_run_said_of_their_crops(model, boxes, tiny, tmp_path, hpp):
    for statistics, name in (
        ("run", PREDICTIONS),
        ("source", "predictions-source.csv"),
        ("target", "predictions-target.csv"),
    ):
        out = tmp_path / f"{statistics}.csv"
        words = ("--boxes", boxes, "--statistics", statistics, "--out", out, "--device", "cpu")
        said = hpp("predict", tiny / "hpdb", "--model", model, *words).output
        assert "images   48 of 48 have a pose" in said and f"about the boxes of {boxes}" in said
        found = {parse_frame(image): angles for image, angles in angles_of(out, "image").items()}
        run = angles_of(model / name)
        assert found.keys() == run.keys()
        assert max(np.abs(found[frame] - angles).max() for frame, angles in run.items()) < BATCHES
        mine, theirs = read_submission(out), read_submission(model / name)
        assert mine.ids.tolist() == theirs.ids.tolist() and mine.about.command.startswith("hpp")
        assert geodesic(mine.rotations, theirs.rotations).max() < 1e-3
        told = ("name", "training_data", "selection", "uses_target_images", "batch_statistics", "convention", "camera")
        assert [getattr(mine.about, key) for key in told] == [getattr(theirs.about, key) for key in told]
    source = angles_of(tmp_path / "source.csv", "image")
    assert max(np.abs(source[image] - angles).max() for image, angles in angles_of(out, "image").items()) > 0.01


def test_three_lines_of_python(model, trained, boxes, tiny):
    network = load_network(model, device="cpu")
    table, paths = read_boxes(boxes), sorted((tiny / "hpdb").glob("*/*_rgb.png"))
    wanted = table.boxes[table.positions([parse_frame(str(path)) for path in paths])]
    angles, rotations = network.predict(paths, wanted)
    run = angles_of(model / PREDICTIONS)
    assert np.abs(angles - [run[parse_frame(str(path))] for path in paths]).max() < BATCHES
    assert geodesic(rotations, to_matrix(angles)).max() < 1e-6

    images = [read_image(path) for path in paths[:3]]
    again = network.predict([images[0], str(paths[1]), np.dstack((images[2], images[2][..., :1]))], wanted[:3])
    assert np.abs(again.angles - angles[:3]).max() < BATCHES
    assert network.predict([]).rotations.shape == (0, 3, 3)

    crops = list(read_crops(open_dataset(trained.data / "biwi+"), np.arange(5)))  # each is taken whole, as it is
    found = network.predict([crop.image for crop in crops]).angles
    assert np.abs(found - [run[crop.id] for crop in crops]).max() < BATCHES


def test_a_whole_image_is_neither_cut_nor_squeezed(model):
    network = load_network(model / MODEL, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (32, 20, 3), np.uint8)
    squared = np.pad(image, ((0, 0), (6, 6), (0, 0)), "edge")
    assert np.abs(network.predict([image]).angles - network.predict([squared]).angles).max() < BATCHES


def test_what_is_no_image_or_no_box_of_it_is_told(model, photos):
    network = load_network(model, device="cpu")
    image = read_image(photos / "a.png")
    height, width = image.shape[:2]
    for images, boxes, error, says in (
        ([image / 255], None, ImageError, r"image 0: \(.*float64; expected RGB \(height, width, 3\), uint8"),
        ([image, image[..., 0]], None, ImageError, "image 1: .*expected RGB"),
        ([photos / "a.txt"], None, ImageError, r"a\.txt: cannot be read"),
        ([image], [[1, 2, 3]], DatasetError, r"boxes of shape \(1, 3\) for 1 images; expected x, y, width, height"),
        ([image], [[1, 2, 0, 5]], DatasetError, "image 0: the box 1, 2, 0, 5 is not one of an image of"),
        (
            [photos / "a.png"],
            [[width, 0, 9, 9]],
            DatasetError,
            rf"a\.png: the box {width}, .* {width} x {height} pixels",
        ),
        ([image], [[1, 2, float("nan"), 5]], DatasetError, "image 0: the box 1, 2, nan, 5 is not one"),
    ):
        with pytest.raises(error, match=says):
            network.predict(images, boxes)


def test_a_photograph_is_turned_as_its_exif_says(model, photos):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow writes the EXIF of the test")
    exif = image_module.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    image = read_image(photos / "a.png")
    image_module.fromarray(np.rot90(image)).save(photos / "turned.jpg", quality=100, subsampling=0, exif=exif)
    image_module.fromarray(image).save(photos / "plain.jpg", quality=100, subsampling=0)
    found = load_network(model, device="cpu").predict([photos / "turned.jpg", photos / "plain.jpg"])
    assert geodesic(*found.rotations) < 0.5
    assert read_image(photos / "turned.jpg").shape == np.rot90(image).shape  # a dataset's images stay as they are


def test_conventions_rotations_and_boxes_stand_in_the_table(model, photos, hpp):
    hpp("predict", photos / "a.png", "--model", model, "--rotation", "--convention", "ypr", "--device", "cpu")
    hpp("predict", photos / "a.png", "--model", model, "--out", "plain.csv", "--device", "cpu")
    table, plain = pd.read_csv("poses.csv"), pd.read_csv("plain.csv")
    names = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
    assert list(table) == ["image", *ANGLES, *names, "x", "y", "width", "height"]
    height, width = read_image(photos / "a.png").shape[:2]
    assert table.loc[0, ["x", "y", "width", "height"]].tolist() == [0, 0, width, height]
    rotation = table[names].to_numpy().reshape(3, 3)
    assert table[list(ANGLES)].to_numpy()[0] == pytest.approx(from_matrix(rotation, "ypr"), abs=2e-3)
    assert plain[list(ANGLES)].to_numpy()[0] == pytest.approx(from_matrix(rotation, "pyr"), abs=2e-3)
    assert read_submission(photos.parent / "poses.csv").about.convention == "ypr"


def test_boxes_are_found_by_the_ends_of_paths(model, photos, hpp):
    def found(text, expect=0):
        (photos.parent / "boxes.csv").write_text("image,x,y,width,height\n" + text)
        output = hpp(
            "predict", photos, "--model", model, "--boxes", "boxes.csv", "--device", "cpu", expect=expect
        ).output
        return output if expect else pd.read_csv("poses.csv")["width"].tolist()

    assert found("photos/a.png,9,9,30,30\nb.png,9,9,31,31\nmore/a.png,9,9,32,32\n") == [30, 31, 32]
    assert found(f"{photos / 'a.png'},9,9,30,30\nb,9,9,31,31\nmore\\a.png,9,9,32,32\n") == [30, 31, 32]
    (photos.parent / "poses.toml").write_text('base = "trial"\n')  # a preset of the user's, say
    said = found("b.png,9,9,31,31\n", expect=1)
    assert said.startswith(
        "Error: poses.toml: there is such a file, and it says of no predictions what they are; choose"
    )
    (photos.parent / "poses.toml").unlink()
    before = (photos.parent / "boxes.csv").read_text()
    said = hpp("predict", photos, "--model", model, "--boxes", "boxes.csv", "--out", "boxes.csv", expect=1).output
    assert said == "Error: boxes.csv: is read by this command; choose another name to write to\n"
    assert (photos.parent / "boxes.csv").read_text() == before
    said = found("a.png,9,9,30,30\nb.png,9,9,31,31\n", expect=3)
    for path in ("photos/a.png", "photos/more/a.png"):
        assert f"{photos.parent / path}: the box of a.png in boxes.csv fits 2 pictures; name the folders there" in said
    assert "2 faults in pictures, which have no row:" in said and len(pd.read_csv("poses.csv")) == 1
    said = found("more/a.png,9,9,32,32\nb.png,900,9,31,31\n", expect=3)
    assert (
        "a.png: has no box in boxes.csv; give it one" in said
        and "the box 900, 9, 31, 31 is not one of an image" in said
    )
    for text, says in (
        ("c.png,9,9,32,32\n", "boxes.csv: has a box for none of the 3 pictures, "),
        ("a.png,9,9,0,32\n", "boxes.csv, line 2: the box of a.png (9, 9, 0, 32) is not finite, is below a pixel"),
        ("a.png,9,9,1,1\na.png,9,9,1,1\n", "boxes.csv, line 3: a.png comes twice"),
    ):
        assert says in only_error(found(text, expect=1))


def test_pictures_that_cannot_be_read_are_listed_and_the_rest_is_written(model, photos, hpp):
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:-30])
    (photos / "text.JPG").write_text("no picture")
    (photos / "notes.txt").write_text("passed over")
    said = hpp("predict", photos, "none.png", photos / "a.png", "--model", model, "--device", "cpu", expect=3).output
    assert "images   3 of 6 have a pose" in said and len(pd.read_csv("poses.csv")) == 3
    for line in (
        "3 faults in pictures, which have no row:",
        f"{photos / 'broken.png'}: truncated image",
        f"{photos / 'text.JPG'}: expected a PNG or JPEG image, found something else; save it as PNG or JPEG",
        "none.png: cannot be read: No such file or directory",
    ):
        assert any(row.startswith(line) for row in said.splitlines()), line
    (photos.parent / "poses.csv").unlink()
    said = only_error(hpp("predict", photos / "text.JPG", "--model", model, "--device", "cpu", expect=1).output)
    assert "no picture has a pose; the first fault: " in said and not (photos.parent / "poses.csv").exists()
    (photos.parent / "empty").mkdir()
    said = hpp("predict", "empty", "--model", model, "--device", "cpu", expect=1).output
    assert only_error(said) == "Error: empty: holds no picture; expected files .png, .jpg, .jpeg"
    said = hpp("predict", photos, "--model", model, "--boxes", "x", "--detect", expect=2).output
    assert "give --boxes or --detect, not both" in said


def test_where_poses_cannot_be_written_no_picture_is_read(model, photos, hpp, monkeypatch):
    monkeypatch.setattr(library, "read_upright", lambda path: pytest.fail(f"{path} was read"))
    (photos.parent / "file").write_text("here")
    for out, says in (
        ("x.toml", "x.toml: expected a name for a CSV; the TOML beside it takes the ending .toml"),
        (photos / "a.png", "a.png: is one of the pictures; choose another --out"),
        ("file/poses.csv", "file/poses.csv: cannot be written: "),
    ):
        said = hpp("predict", photos, "--model", model, "--out", out, "--device", "cpu", expect=1).output
        assert says in only_error(said)


def test_pictures_are_drawn_beside_and_never_over_those_that_are_read(model, photos, hpp, monkeypatch):
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    shutil.copy(photos / "b.png", photos / "c")
    reads = []
    monkeypatch.setattr(
        library, "read_upright", lambda path, read=library.read_upright: reads.append(path) or read(path)
    )
    words = ("--model", model, "--draw", photos / "drawn", "--device", "cpu")
    for _ in range(2):  # what was drawn the first time is not read the second
        said = hpp("predict", photos, photos / "c", *words).output
        assert "images   4 of 4 have a pose" in said and f"pictures {photos / 'drawn'}" in said
    assert len(reads) == 8 and len(set(reads)) == 4
    drawn = {str(path.relative_to(photos / "drawn")) for path in (photos / "drawn").rglob("*.*")}
    assert drawn == {"a.png", "b.png", "more/a.png", "c.jpg", "sheet.jpg"}
    assert cv2.imread(str(photos / "drawn/sheet.jpg")).shape == (144, 4 * 144, 3)
    assert all(path.read_bytes() == data for path, data in before.items())
    for path in before:
        changed = read_image(photos / "drawn" / path.relative_to(photos)) != read_image(path)
        assert 0.001 < changed.any(axis=2).mean() < 0.2
    for images, folder, says in (
        ([photos], photos, "a.png: would be drawn over a picture that is read; choose another --draw"),
        ([photos / "a.png", photos / "more/a.png"], "other", "a.png: would be drawn to other/a.png, as another one"),
    ):
        said = hpp("predict", *images, "--model", model, "--draw", folder, "--device", "cpu", expect=1).output
        assert says in only_error(said)
    assert all(path.read_bytes() == data for path, data in before.items()) and not (photos.parent / "other").exists()


def test_few_pictures_wait_to_be_drawn(model, photos, monkeypatch):
    """However many and large they are, no more than some megabytes are held."""
    sizes = []
    monkeypatch.setattr(library, "_HELD", 1)
    predict = library._predict
    monkeypatch.setattr(
        library, "_predict", lambda network, held, drawing: sizes.append(len(held)) or predict(network, held, drawing)
    )
    network, pictures = load_network(model, device="cpu"), library.find_pictures([photos])
    library.predict_pictures(network, pictures, library.whole, photos.parent / "drawn")
    library.predict_pictures(network, pictures, library.whole)
    assert sizes == [1, 1, 1, 3]


def test_faces_are_found_by_dlib(model, tiny, boxes, tmp_path, hpp):
    pytest.importorskip("dlib")
    out, frames = tmp_path / "poses.csv", [tmp_path / path.name for path in (tiny / "hpdb/01").glob("*_rgb.png")]
    for path in frames:  # four times as large, since HOG finds no face of 35 pixels
        large = cv2.resize(
            cv2.imread(str(tiny / "hpdb/01" / path.name)), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC
        )
        cv2.imwrite(str(path), large)
    said = hpp("predict", *frames, "--model", model, "--detect", "--out", out, "--device", "cpu", expect=3).output
    assert "about dlib's boxes, enlarged to those of datasets" in said
    table, built = pd.read_csv(out), read_boxes(boxes)
    assert 3 <= len(table) < len(frames)
    assert said.count("_rgb.png: dlib finds no face; give its box: --boxes") == len(frames) - len(table)
    place = built.positions([parse_frame(f"01/{name.split('/')[-1]}") for name in table["image"]])
    assert iou(table[["x", "y", "width", "height"]].to_numpy() / 4, built.boxes[place]).mean() > 0.6


def test_of_several_faces_the_largest_is_taken(model, photos, hpp, monkeypatch):
    pytest.importorskip("dlib")
    monkeypatch.setattr(
        detection, "_load_detector", lambda _: lambda image: np.array([[10.0, 10, 10, 10], [30, 20, 20, 20]])
    )
    assert (
        "several faces in 3 of the images"
        in hpp("predict", photos, "--model", model, "--detect", "--device", "cpu").output
    )
    # Its middle, (39.5, 29.5), moves down by 0.03 of 20, and 20 pixels become 34.4.
    assert pd.read_csv("poses.csv").loc[0, ["x", "y", "width", "height"]].tolist() == [22.8, 13.4, 34.4, 34.4]


def test_without_dlib_detection_says_what_to_install(model, photos, hpp, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    said = hpp("predict", photos, "--model", model, "--detect", "--device", "cpu", expect=1).output
    assert only_error(said) == "Error: face detection needs dlib: pip install 'headposeplus[detect]'"


@pytest.mark.real
def test_boxes_of_real_faces_are_as_those_of_the_dataset(real):
    pytest.importorskip("dlib")
    published, find = read_boxes(real / "Biwi_plus.npz"), detection.face_finder()
    overlaps = []
    for path in sorted((real / "sequence19/hpdb/19").glob("*_rgb.jpg"))[100:200:10]:
        box = published.boxes[published.positions([parse_frame(str(path))])]
        overlaps += iou(find(read_image(path))[:1], box).tolist()
    assert len(overlaps) > 5 and np.mean(overlaps) > 0.75


def spoilt(change):
    def damage(path):
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return damage


@pytest.mark.parametrize(("damage", "says"), [
    (lambda path: path.write_bytes(path.read_bytes()[:-50]), r"damaged \(.*; delete predictions.csv in its run"),
    (spoilt(lambda content: content.update(version=9)), "of another version of the toolkit"),
    (spoilt(lambda content: content["facts"].update(backbone="vgg")), r"damaged \(network 'vgg'"),
    (spoilt(lambda content: content["facts"].update(size=10**9)), r"damaged \(Expected 'int' <= 1024"),
    (spoilt(lambda content: content["facts"].update(convention="ypr")), r"damaged \(Invalid enum value 'ypr'"),
    (spoilt(lambda content: content["facts"].pop("size")), r"damaged \(Object missing required field 'size'"),
    (spoilt(lambda content: content.update(about="name = 3")), r"damaged \(network 'slim', \d faults"),
    (spoilt(lambda content: content.update(about=3)), "damaged"),
    (spoilt(lambda content: content.pop("statistics")), "damaged"),
    (spoilt(lambda content: content["statistics"].pop("target")), r"damaged \(statistics: other names"),
    (spoilt(lambda content: content["network"].popitem()), r"damaged \(network: other names"),
    (spoilt(lambda content: content["network"]["angle_std"].fill_(float("nan"))), "network.angle_std: values that"),
    (spoilt(lambda content: content["facts"].update(backbone="resnet18")), r"damaged \(network: other names"),
    (lambda path: torch.save([1], path), "holds no network of a run; expected the folder of a method"),
    (lambda path: path.write_text("id,pitch\n"), r"damaged \(File is not a zip file\)"),
])  # fmt: skip
def test_a_file_that_is_not_a_runs_network_is_one_line(model, photos, hpp, damage, says):
    path = photos.parent / MODEL
    shutil.copy(model / MODEL, path)
    damage(path)
    with pytest.raises(TrainingError, match=says) as error:
        load_network(path)
    assert str(error.value).startswith(f"{path}: ")
    said = hpp("predict", photos, "--model", path, expect=1).output
    assert only_error(said).startswith(f"Error: {path}: ") and not (photos.parent / "poses.csv").exists()


def test_what_is_no_finished_run_is_told(model, copied):
    job = copied("source-only")
    (job.folder / MODEL).unlink()
    for path, says in (
        (
            model.parent,
            f"{model.parent}: holds no model.pt; expected the folder of a method that hpp benchmark has left",
        ),
        (model.parent / "stage1", "holds weights alone, as the first stage and an older version of the toolkit"),
        (model / "none.pt", "none.pt: cannot be read: No such file"),
        (job.folder, "holds no model.pt, which an older version of the toolkit left out; delete predictions.csv"),
    ):
        with pytest.raises(TrainingError, match=says.replace(".", r"\.")):
            load_network(path)
    (job.folder / PREDICTIONS).unlink()
    with pytest.raises(TrainingError, match="the run has not ended; type its command again, and it goes on"):
        load_network(job.folder)
    with pytest.raises(TrainingError, match="`statistics` mine: expected one of run, source, target"):
        load_network(model, "mine")


@pytest.mark.parametrize("method", ["padaco", "source-only"])
def test_a_run_of_an_older_version_is_mended_as_told(copied, trained, method):
    whole = train.run(trained._replace(method=METHODS[method])).parent
    job = copied(method)
    if method == "padaco":
        content = torch.load(job.folder / MODEL, weights_only=True)
        torch.save({"network": content["network"]}, job.folder / MODEL)
    else:
        (job.folder / MODEL).unlink()
    with pytest.raises(TrainingError, match=r"delete predictions\.csv in its run's folder and type the run's command"):
        load_network(job.folder)
    log = job.folder.parent / "stage1/log.jsonl"
    before = log.read_bytes()
    (job.folder / PREDICTIONS).unlink()
    train.run(job)
    assert log.read_bytes() == before and (job.folder / PREDICTIONS).read_bytes() == (whole / PREDICTIONS).read_bytes()
    mine, theirs = load_network(job.folder), load_network(whole)
    assert mine.facts == theirs.facts and json.dumps(mine.facts.box_rule) == '"biwi-plus-2"' and mine.facts.size == 32
    state = theirs.predictor.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in mine.predictor.state_dict().items())
