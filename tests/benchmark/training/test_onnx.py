"""A run's network as an ONNX file, against torch."""

import re
import sys

import numpy as np
import pytest
import torch

from benchmark import load_network
from benchmark.training import onnx_file
from benchmark.training import run as train
from benchmark.training.network import NetworkFacts, Predictor, TrainedNetwork
from headposeplus import __version__
from headposeplus.datasets.dataset import open_dataset, read_crops
from headposeplus.errors import HeadposeError, TrainingError
from headposeplus.rotations import to_matrix

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(trained):
    """The folder of a trained method."""
    return train.run(trained).parent


@pytest.fixture(scope="module")
def exporting():
    """What a user of an ONNX file has, and what the export needs."""
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e .[onnx]")
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e .[onnx]")


def session_of(onnxruntime, path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_an_onnx_file_answers_as_torch_does_for_any_number_of_images(exporting, model, trained, tmp_path, hpp):
    path = tmp_path / "padaco.onnx"
    said = hpp("export-onnx", model, "--statistics", "target", "--out", path).output
    assert "images    (n, 3, 32, 32), float32, RGB from 0 to 255\n" in said and f"onnx      {path}\n" in said
    assert re.search(r"as torch  within \de-\d\d degrees on 10 random images\n", said)
    network, session = load_network(model, "target", device="cpu"), session_of(exporting, path)
    crops = [crop.image for crop in read_crops(open_dataset(trained.data / "biwi+"), np.arange(48))]
    official = load_network(model, device="cpu").predict(crops)
    for count in (1, 2, 13, 48):
        images = np.stack(crops[:count]).transpose(0, 3, 1, 2).astype(np.float32)
        angles, rotations = session.run(["angles", "rotations"], {"images": images})
        expected = network.predict(crops[:count])
        assert angles.shape == (count, 3) and rotations.shape == (count, 3, 3)
        assert np.abs(angles - expected.angles).max() < 1e-4
        assert np.abs(rotations - expected.rotations).max() < 1e-5
    assert np.abs(angles - official.angles).max() > 0.01  # whose batch statistics are others

    told = session.get_modelmeta().custom_metadata_map
    assert told["size"] == "32" and told["convention"] == "pyr" and told["camera"] == "rgb"
    assert told["toolkit"] == __version__ and told["box_rule"] == "biwi-plus-2"
    assert told["batch_statistics"] == "target, estimated anew" and len(told["weights_sha256"]) == 64
    hpp("export-onnx", model / "model.pt", "--out", path)
    again = session_of(exporting, path).get_modelmeta().custom_metadata_map
    assert again["batch_statistics"] == "mixed" and again["weights_sha256"] != told["weights_sha256"]


def test_the_papers_network_is_exported(exporting, tmp_path):
    from baselines.networks import make_network
    from benchmark.scoring.submission import About

    network = make_network("resnet18")
    network.angle_mean.copy_(torch.tensor([-4.0, -2.0, 1.0]))
    network.angle_std.copy_(torch.tensor([23.0, 31.0, 11.0]))
    facts = NetworkFacts(backbone="resnet18", size=64, box_rule="biwi-plus-2")
    trained = TrainedNetwork(Predictor(network.requires_grad_(False), facts).eval(), facts, About(name="untrained"))
    done = onnx_file.export_onnx(trained, tmp_path / "paper.onnx")
    assert done.degrees < 1e-4 and done.images == 10
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    (angles,) = session_of(exporting, tmp_path / "paper.onnx").run(
        ["angles"], {"images": images.transpose(0, 3, 1, 2).astype(np.float32)}
    )
    assert np.abs(angles - trained.predict(list(images)).angles).max() < 1e-4


def test_a_file_that_answers_otherwise_is_not_kept(exporting, model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "to_matrix", lambda angles: to_matrix(np.asarray(angles) + 0.1))
    with pytest.raises(TrainingError, match=r"a\.onnx: ONNX answers otherwise than torch, by 0\.\d+ degrees; install"):
        onnx_file.export_onnx(load_network(model, device="cpu"), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_is_not_written_over_what_is_no_onnx(exporting, model):
    before = (model / "model.pt").read_bytes()
    with pytest.raises(HeadposeError, match=r"model\.pt: a network is written as ONNX; choose a name that ends in"):
        onnx_file.export_onnx(load_network(model, device="cpu"), model / "model.pt")
    assert (model / "model.pt").read_bytes() == before


def test_rotations_of_the_graph_are_those_of_the_project():
    angles = np.random.default_rng(0).uniform((-180, -90, -180), (180, 90, 180), (500, 3))
    found = onnx_file._rotations(torch.from_numpy(angles)).numpy()
    assert np.abs(found - to_matrix(angles)).max() < 1e-12


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_without_its_packages_the_export_says_what_to_install(model, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HeadposeError, match=r"^ONNX needs other packages: pip install 'headposeplus\[onnx\]'$"):
        onnx_file.export_onnx(load_network(model, device="cpu"), tmp_path / "a.onnx")
