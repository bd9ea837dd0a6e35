import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from baselines.networks import IMAGE_MEAN, IMAGE_STD
from benchmark.loaders import compose
from benchmark.upkeep import bench_loader
from headposeplus.datasets.dataset import open_dataset, read_backgrounds, unpack_mask

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Two rounds with one worker, on few files."""
    monkeypatch.setattr(bench_loader, "ROUNDS", 2)
    monkeypatch.setattr(bench_loader, "FILES", 50)
    monkeypatch.setattr(bench_loader, "WARM", 1)
    monkeypatch.setattr(bench_loader, "cores", lambda: 1)
    torch.set_num_threads(1)


def pixels(image):
    """A normalised image (3, s, s) as (s, s, 3), 0 to 255."""
    return (image.permute(1, 2, 0).numpy() * IMAGE_STD + IMAGE_MEAN) * 255


def drawn(size, count):
    """Rows of a dataset, sorted."""
    return np.sort(np.random.default_rng(0).permutation(size)[:count])


def test_bench_loader_measures_each_store_beside_both_usual_loaders(built, tiny, tmp_path, hpp):
    kept = tmp_path / "loader.json"
    text = hpp("bench", "loader", "--data", built[0], "--raw", tiny, "--batch", 10, "--seconds", 0.02,
               "--device", "cpu", "--json", kept).output  # fmt: skip
    record = json.loads(kept.read_text())
    assert (record["batch"], record["seconds"], record["workers"], record["device"]) == (10, 0.02, 1, "cpu")
    rows = {}
    for line in text.splitlines():
        if line.startswith(("synhead++ ", "biwi+ ")):
            rows.setdefault(tuple(line.split()[:2]), []).append(line)
    for dataset, (name, count) in zip(record["datasets"], (("synhead++", 50), ("biwi+", 48)), strict=True):
        assert (dataset["dataset"], dataset["size"], dataset["files"]) == (name, 32, count)
        assert [store["store"] for store in dataset["stores"]] == ["device", "host", "stream"]
        for store in dataset["stores"]:
            rates = [store[what] for what in ("raw", "prepared", "gather", "compose", "both")]
            assert all(len(values) == 2 and min(values) > 0 and np.isfinite(values).all() for values in rates)
            line, quotients = rows[name, store["store"]]
            of_raw, of_prepared = (np.divide(store["both"], store[of]) for of in ("raw", "prepared"))
            assert all(f"{np.median(values):,.0f}" in line for values in rates)
            assert f"{np.median(of_raw):.1f} ({of_raw.min():.1f} to {of_raw.max():.1f})" in quotients
            assert f"{np.median(of_prepared):.1f} ({of_prepared.min():.1f} to" in quotients
    assert len(rows) == 6 and "times raw frames (at least 20)" in text and "composing alone (at least 0.8)" in text
    width, height = Image.open(next((tiny / "hpdb").rglob("*_rgb.png"))).size
    assert f"48 of biwi+ (raw frames of {width} x {height}); batches of 10, on {record['processor']}" in text


@pytest.mark.parametrize("name", ["synhead++", "biwi+"])
def test_the_loader_of_prepared_crops_gives_the_same_images_in_the_same_shape(built, tmp_path, name):
    """A crop inside of its mask and a window of a background outside of it, as the composer's are; or the crop."""
    dataset = open_dataset(built[0] / name)
    source = bench_loader._open(dataset, "host", CPU)
    rows = drawn(len(source.store), 40)
    files = bench_loader.write_files(dataset, rows, tmp_path)
    backgrounds = source.backgrounds if dataset.rendered else None
    usual = bench_loader.UsualDataset(files, 32, backgrounds)
    crops, masks = source.store.gather(rows)
    assert len(usual) == len(rows)
    for i in (0, 20, 39):
        torch.manual_seed(i)
        image = usual[i]
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32
        inside = np.ones((32, 32), bool) if masks is None else unpack_mask(masks[i].numpy(), 32)
        assert np.abs(pixels(image) - crops[i].numpy())[inside].mean() < 2  # two JPEG decoders
        if masks is not None:
            torch.manual_seed(i)
            which, left, top = (int(torch.randint(n, ())) for n in (len(backgrounds), 33, 33))
            behind = backgrounds[which, top : top + 32, left : left + 32]
            assert np.allclose(pixels(image)[~inside], behind[~inside], atol=0.01)


@pytest.mark.parametrize("name", ["synhead+", "biwi+"])
def test_the_loader_of_raw_frames_cuts_out_what_the_crops_show(built, tiny, name):
    dataset = open_dataset(built[0] / name)
    source = bench_loader._open(dataset, "host", CPU)
    rows = drawn(len(source.store), 20)
    files = bench_loader.raw_files(dataset, rows, tiny)
    usual = bench_loader.UsualDataset(files, 32, read_backgrounds(dataset) if dataset.rendered else None)
    crops, masks = source.store.gather(rows)
    for i in range(20):
        inside = np.ones((32, 32), bool) if masks is None else unpack_mask(masks[i].numpy(), 32)
        # Scaled in other ways, but the same part of the same frame: any other crop is further away.
        distances = np.abs(crops.numpy()[:, inside] - pixels(usual[i])[inside]).mean((1, 2))
        assert distances.argmin() == i


def test_where_a_head_is_without_a_mask(tmp_path):
    """Alpha says it, else all that is not black."""
    head = np.zeros((32, 32, 3), np.uint8)
    head[8:24, 8:24] = 200
    alpha = np.zeros((32, 32), np.uint8)
    alpha[4:28, 4:28] = 255
    for pixels_of, inside in ((head, head[..., 0] > 0), (np.dstack([head, alpha]), alpha > 0)):
        Image.fromarray(pixels_of).save(tmp_path / "a.png")
        file = bench_loader.ImageFile(tmp_path / "a.png", box=(0, 0, 32, 32))
        outside = bench_loader.UsualDataset([file], 32, np.zeros((0, 64, 64, 3), np.uint8))[0]
        assert len(np.unique(pixels(outside)[~inside].round(), axis=0)) == 1  # one colour
        assert np.allclose(pixels(outside)[inside], head[inside], atol=0.01)


def test_what_is_composed_is_what_the_store_gives(built):
    """The batches of both steps are those of the rows that were planned."""
    source = bench_loader._open(open_dataset(built[0] / "synbiwi+"), "stream", CPU)
    how = bench_loader.Measuring(CPU, 20, 0.1, 3)
    both = bench_loader._of_store(source, how)["both"]()
    composer = compose.Composer(source, CPU, 3)
    for rows in next(bench_loader._plans(len(source.store), 20, 3))[:3]:
        assert torch.equal(next(both), composer.source(rows, *source.store.gather(rows), 0)[0])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "{tmp}"], "{tmp}/synhead++/dataset.json: no such file; build the dataset first"),
        (["--data", "{data}", "--dataset", "faces"], "{data}/faces/dataset.json: no such file; build"),
        (["--data", "{data}", "--batch", "49"], "{data}/biwi+: holds 48 images, fewer than a batch of 49; lower --bat"),
        (["--data", "{data}", "--device", "gpu"], "--device gpu: expected auto, cpu, cuda or cuda:N"),
        (["--data", "{data}", "--dataset", "biwi+", "--raw", "{tmp}", "--batch", "9"], "{tmp}/synhead2_release"),
        (
            ["--data", "{data}", "--dataset", "biwi+", "--raw", "{other}", "--batch", "9"],
            "_rgb.png: no such file; name the raw copies that {data} was built from",
        ),
    ],
)
def test_bad_input_is_one_line(built, tiny, tmp_path, hpp, arguments, says):
    shutil.copytree(tiny, tmp_path / "other", ignore=shutil.ignore_patterns("*_rgb.png"))
    names = {"tmp": tmp_path, "data": built[0], "other": tmp_path / "other"}
    given = [argument.format(**names) for argument in arguments]
    given += [] if "--device" in given else ["--device", "cpu"]
    given += [] if "--raw" in given else ["--raw", str(tiny)]
    output = hpp("bench", "loader", *given, expect=1).output
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and says.format(**names) in lines[0] and "Traceback" not in output
