"""Weights that others have saved: taken where they are a ResNet18's, refused in one line where they are not."""

import argparse
import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from baselines import networks, pretrained
from benchmark.training.job import make_job
from benchmark.training.presets import PRESETS
from benchmark.training.run import load_run
from headposeplus.errors import TrainingError

torch.manual_seed(0)
NETWORK = networks.make_network("resnet18")
STATE = torchvision.models.resnet18(weights=None).state_dict()
FEATURES = {name: tensor for name, tensor in STATE.items() if not name.startswith("fc.")}


def under(prefix, state=STATE):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def to(dtype, state=STATE):
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def with_one(name, tensor):
    return {**STATE, name: tensor}


def load(path):
    """The network's features with the weights of a file, and what is told of them."""
    network = copy.deepcopy(NETWORK)
    return network, pretrained.fill(network.features, path)


def others(network):
    """The names of another network; reading stops before their shapes are looked at."""
    with torch.device("meta"):
        return {name: torch.zeros(1, device="cpu") for name in network().state_dict()}


SMALL = {"conv1.weight": torch.zeros(3), "layer1.0.conv1.weight": torch.zeros(3)}
HEADS = {f"fc_{angle}.weight": torch.zeros(66, 512) for angle in ("yaw", "pitch", "roll")}
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}
TAKEN = {
    "torchvision's": (STATE, "left out: fc;"),
    "of several GPUs": (under("module."), "left out: fc;"),
    "a checkpoint": (
        {"state_dict": under("module."), "epoch": 3, "optimizer": OPTIMIZER}, "left out: fc, optimizer;",
    ),
    "another checkpoint": ({"net": {"model": STATE}, "best": 1.5}, "left out: fc;"),
    "a backbone": (under("backbone.", FEATURES), "are taken; the pose regressor begins anew"),
    "another head": ({**FEATURES, **HEADS}, "left out: fc_yaw, fc_pitch, fc_roll;"),
    "without counts": ({k: v for k, v in STATE.items() if "num_batches" not in k}, "left out: fc;"),
    "bfloat16": (to(torch.bfloat16), "left out: fc;"),
    "double precision": (to(torch.float64), "left out: fc;"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAKEN)
def test_the_features_of_a_resnet18_are_taken_however_they_were_saved(tmp_path, kind):
    content, says = TAKEN[kind]
    torch.save(content, tmp_path / "w.pth")
    network, told = load(tmp_path / "w.pth")
    assert told.startswith(f"{tmp_path / 'w.pth'}: the features of ResNet18 are taken") and says in told
    loaded = network.features.state_dict()
    assert loaded.keys() == FEATURES.keys()
    for name, tensor in FEATURES.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.allclose(loaded[name], tensor, atol=1e-2 if kind == "bfloat16" else 1e-3), name


def test_one_network_by_many_names_is_one(tmp_path):
    content = {"model": STATE}
    content["again"] = content
    torch.save(content, tmp_path / "w.pth")
    network, _ = load(tmp_path / "w.pth")
    assert torch.equal(network.features.conv1.weight, STATE["conv1.weight"])


def test_a_run_of_this_toolkit_is_taken(tmp_path):
    torch.save({"network": NETWORK.state_dict()}, tmp_path / "model.pt")
    told = []
    network = networks.make_network("resnet18", str(tmp_path / "model.pt"), told.append)
    assert torch.equal(network.features.layer4[1].conv2.weight, NETWORK.features.layer4[1].conv2.weight)
    assert "left out: angle_mean, angle_std, regressor;" in told[0]


def safetensors(state):
    """A file as https://huggingface.co/docs/safetensors describes it."""
    header, data = {"__metadata__": {"format": "pt"}}, bytearray()
    for name, tensor in state.items():
        kind = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}[tensor.dtype]
        flat = tensor.contiguous().reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("state", [STATE, under("module.", to(torch.bfloat16))], ids=["float32", "bfloat16"])
def test_safetensors_are_taken(tmp_path, state):
    (tmp_path / "w.safetensors").write_bytes(safetensors(state))
    network, _ = load(tmp_path / "w.safetensors")
    for name, tensor in FEATURES.items():
        assert torch.allclose(network.features.state_dict()[name], tensor, atol=1e-2), name
    assert network.features.bn1.num_batches_tracked == 0


class Harmful:
    """An object whose reading writes a file, if it is let."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


def saved(content):
    return lambda path: torch.save(content, path)


def cut(content):
    def write(path):
        torch.save(content, path)
        path.write_bytes(path.read_bytes()[:-3_000_000])

    return write


def raw(data):
    return lambda path: path.write_bytes(data)


REFUSED = {
    "a pointer": (raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n"),
                  "only a pointer of Git LFS; fetch the file itself: git lfs pull"),
    "a page": (raw(b"\xef\xbb\xbf\n<!DOCTYPE html><html>"), "found a web page; download the file itself"),
    "empty": (raw(b""), "found an empty file; give another, or download it again"),
    "a text": (raw(b"hello world\n"), "found another or a damaged file"),
    "cut off": (cut(torch.zeros(1_000_000)), "found another or a damaged file"),
    "safetensors, cut off": (raw(safetensors({"conv1.weight": STATE["conv1.weight"]})[:-10]), "a damaged file"),
    "safetensors, a long header": (raw(b"\xff" * 7 + b"\x7f{" + b" " * 99), "found another or a damaged file"),
    "a folder": (Path.mkdir, "cannot be read: Is a directory; expected the weights of a ResNet18"),
    "nothing": (lambda path: None, "cannot be read: No such file or directory; expected the weights of a ResNet18"),
    "harmful": (saved({"model": SMALL, "x": Harmful()}), "and to read those is to run code; in the program that made"),
    "options": (saved({"model": SMALL, "args": argparse.Namespace(lr=1)}), "holds objects, argparse.Namespace among"),
    "a NumPy number": (saved({"model": SMALL, "best": np.float64(1)}), r"torch.save(network.state_dict(), FILE)"),
    "a whole network": (saved(torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear among them"),
    "ResNet34": (saved(others(torchvision.models.resnet34)), "of a ResNet18: it has tensors layer1.2.conv1"),
    "ResNet50": (saved(others(torchvision.models.resnet50)), "it has tensors layer1.0.conv3.weight, "),
    "half a network": (saved({k: v for k, v in STATE.items() if "layer4.1.bn" not in k}),
                       "it lacks tensors layer4.1.bn1.weight, "),
    "another network": (saved({"stem.0.weight": torch.zeros(3)}), "names, found such as 'stem.0.weight'"),
    "no tensors": (saved([1, 2]), "found no tensors"),
    "two networks": (saved({"model": SMALL, "ema": copy.deepcopy(SMALL)}),
                     "holds 2 networks (places model, ema); save one of them"),
    "small images": (saved(with_one("conv1.weight", torch.zeros(64, 3, 3, 3))),
                     "conv1.weight is 64 x 3 x 3 x 3; that of a ResNet18 is 64 x 3 x 7 x 7"),
    "NaN": (saved(with_one("bn1.bias", torch.full((64,), float("nan")))), "found others in bn1.bias"),
    "too large": (saved(with_one("bn1.bias", torch.full((64,), 1e300, dtype=torch.double))), "others in bn1.bias"),
    "a negative variance": (saved(with_one("bn1.running_var", -torch.ones(64))), "found others in bn1.running_var"),
    "sparse": (saved(with_one("bn1.bias", torch.zeros(64).to_sparse())), "a sparse or an empty tensor in bn1.bias"),
    "without numbers": (saved(with_one("bn1.bias", torch.zeros(64, device="meta"))), "an empty tensor in bn1.bias"),
    "odd names": (saved({"layer1.\x1b[31m\n": torch.zeros(1), **SMALL}), r"it has tensor 'layer1.\x1b[31m\n'; give"),
    "whole numbers": (saved(with_one("bn1.bias", torch.zeros(64, dtype=torch.int8))), "found torch.int8 in bn1.bias"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_resnet18_is_refused_in_one_line(tmp_path, kind, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    write, says = REFUSED[kind]
    write(tmp_path / "w.pth")
    with pytest.raises(TrainingError) as error:
        load(tmp_path / "w.pth")
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'w.pth'}: ") and says in text
    assert "weights_only" not in text and "\n" not in text and len(text) < 400 and not recwarn.list
    assert not (tmp_path / "harm").exists()


def test_the_kept_imagenet_weights_are_checked_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    kept = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    kept.parent.mkdir(parents=True)
    cut(STATE)(kept)
    with pytest.raises(TrainingError, match="a damaged file; delete it, and it is downloaded again"):
        networks.make_network("resnet18", "imagenet")
    torch.save(STATE, kept)
    assert torch.equal(networks.make_network("resnet18", "imagenet").features.conv1.weight, STATE["conv1.weight"])


def test_the_command_says_it_in_one_line_before_it_trains(built, tmp_path, hpp, monkeypatch):
    monkeypatch.setitem(PRESETS, "trial", PRESETS["trial"]._replace(backbone="resnet18"))
    torch.save({"model": Harmful()}, tmp_path / "w.pth")
    words = ("benchmark", "--method", "source-only", "--data", built[0], "--preset", "trial", "--device", "cpu")
    output = hpp(*words, "--weights", tmp_path / "w.pth", "--out", tmp_path / "runs", expect=1).output
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and f"{tmp_path / 'w.pth'}: holds objects" in lines[0] and "Traceback" not in output


def test_a_run_says_what_was_taken(built, tmp_path, capsys):
    torch.save({"state_dict": under("module.")}, tmp_path / "w.pth")
    options = {"device": "cpu", "threads": 1, "weights": str(tmp_path / "w.pth")}
    preset = PRESETS["trial"]._replace(backbone="resnet18")
    run = load_run(make_job("source-only", "pda", built[0], tmp_path, preset, 0, options, "hpp"))
    assert torch.equal(run.network.features.conv1.weight, STATE["conv1.weight"])
    assert f"{tmp_path / 'w.pth'}: the features of ResNet18 are taken; left out: fc;" in capsys.readouterr().err
