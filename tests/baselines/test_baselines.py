import sys
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import losses, methods, networks, weights
from baselines.method import DomainBatch, Look, MethodSettings, Seen
from headposeplus.errors import HeadposeError, TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def labels():
    rng = np.random.default_rng(0)
    return rng.normal(0, 20, (300, 3)), rng.normal(3, 12, (80, 3))


def test_padaco_counts_by_brute_force(labels):
    source, predictions = labels
    counts = np.zeros(len(source))
    for prediction in predictions:
        distance = np.sqrt(((source - prediction) ** 2).sum(axis=1))
        for index in sorted(range(len(source)), key=lambda i: distance[i])[:7]:
            counts[index] += 1
    assert weights.padaco(source, predictions, 7) == pytest.approx(counts / counts.sum())


def test_padaco_counts_neighbours_in_units_of_the_source(labels):
    source, predictions = labels[0] * [1, 3, 0.2], labels[1]
    spread = [np.sqrt(np.mean((column - column.mean()) ** 2)) for column in source.T]
    counts = np.zeros(len(source))
    for prediction in predictions:
        distance = sum(((source[:, i] - prediction[i]) / spread[i]) ** 2 for i in range(3))
        counts[np.argsort(distance)[:7]] += 1
    found = weights.padaco(source, predictions, 7, "normalised")
    assert found == pytest.approx(counts / counts.sum())
    assert np.abs(found - weights.padaco(source, predictions, 7)).sum() > 0.1
    level = source * [1, 1, 0]  # without a roll there is nothing to divide by
    assert weights.padaco(level, level[:1], 1, "normalised").tolist() == [1] + [0] * 299
    with pytest.raises(TrainingError, match="`metric` radians: expected degrees or normalised"):
        weights.padaco(source, predictions, 7, "radians")


def test_padaco_draws_only_poses_of_the_target():
    source = np.array([[0.0, 0, 0], [1, 0, 0], [50, 0, 0]])
    assert weights.padaco(source, np.array([[0.4, 0, 0], [0.1, 0, 0]]), 1).tolist() == [1, 0, 0]
    assert weights.padaco(source, np.array([[0.4, 0, 0]]), 2).tolist() == [0.5, 0.5, 0]


def test_pada_like_is_equation_3_by_brute_force(labels):
    source, predictions = labels
    expected = []
    for label in source:
        nearest = min(((label - prediction) ** 2).mean() for prediction in predictions)
        expected.append(max(0.0, 3.5 - nearest))
    expected = np.array(expected) / max(expected)  # the paper divides by the largest; the sampler normalises
    assert weights.pada_like(source, predictions, 3.5) == pytest.approx(expected / expected.sum())


def test_weights_that_cannot_be(labels):
    source, predictions = labels
    with pytest.raises(TrainingError, match="no source label is within"):
        weights.pada_like(source, predictions + 1000)
    with pytest.raises(TrainingError, match="301 neighbours of 300"):
        weights.padaco(source, predictions, 301)


def test_effective_sample_size():
    assert weights.effective_sample_size(weights.uniform(40)) == pytest.approx(40)
    assert weights.effective_sample_size(np.array([0.5, 0.5, 0, 0])) == pytest.approx(2)


def test_gradient_reversal():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (losses.reverse_gradient(x, 0.3) * torch.tensor([2.0, 5.0])).sum().backward()
    assert x.grad.tolist() == pytest.approx([-0.6, -1.5])


def test_losses_against_numpy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 9, 3))
    assert losses.pose_loss(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(((a - b) ** 2).mean())
    source, target = rng.normal(size=(2, 9, 1))
    by_hand = (-np.log(1 / (1 + np.exp(-source))).mean() - np.log(1 - 1 / (1 + np.exp(-target))).mean()) / 2
    assert losses.domain_loss(torch.tensor(source), torch.tensor(target)).item() == pytest.approx(by_hand)


@pytest.mark.parametrize(("backbone", "size", "width"), [("slim", 32, 128), ("resnet18", 64, 512)])
def test_networks(backbone, size, width):
    network = networks.make_network(backbone)
    output = network(torch.randn(4, 3, size, size))
    assert output.features.shape == (4, width) and output.angles.shape == (4, 3)
    assert networks.make_discriminator(width)(output.features).shape == (4, 1)
    network.angle_mean.copy_(torch.tensor([1.0, 2, 3]))
    network.angle_std.copy_(torch.tensor([10.0, 20, 5]))
    degrees = torch.tensor([[11.0, -18, 3]])
    assert network.normalise(degrees).tolist() == [[1, -1, 0]]
    assert torch.allclose(network.degrees(network.normalise(degrees)), degrees)


def test_resnet_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(TrainingError, match=r"cannot be downloaded.*another one as `weights`.*`weights` none"):
        networks.make_network("resnet18", "imagenet")


def test_unknown_names():
    with pytest.raises(TrainingError, match="unknown network"):
        networks.make_network("vgg")
    with pytest.raises(TrainingError, match=r"the slim network .* begins anew; use `weights` none"):
        networks.make_network("slim", "imagenet")
    with pytest.raises(HeadposeError, match="unknown method 'x'"):
        methods.find_method("x")


def look_at(source, predictions):
    """Return what a method may look at, but for features."""
    return Look(source, np.random.default_rng(0), Seen(None, predictions), np.arange(len(source)), Seen(None, source))


def begin(name, seed=0, **settings):
    """Return a method and a network at the start of the second stage."""
    torch.manual_seed(seed)
    network = networks.make_network("slim").train()
    method = methods.METHODS[name](MethodSettings(**settings))
    method.start(network, look_at(np.zeros((1, 3)), np.zeros((1, 3))))
    return method, network


@pytest.mark.parametrize("name", ["control-uniform", "dann"])
def test_domains_are_normalised_by_their_own_batches(name):
    """The loss on the source does not depend on the target's images."""
    source, degrees = torch.randn(8, 3, 32, 32), torch.randn(8, 3)
    parts = []
    for target in (torch.randn(8, 3, 32, 32), 5 + 3 * torch.randn(8, 3, 32, 32)):
        method, network = begin(name)
        _, found = method.loss(network, DomainBatch(source, degrees, target), 0.1)
        parts.append(found["pose_loss"].item())
    assert parts[0] == pytest.approx(parts[1], rel=1e-6)


def test_with_lambda_0_the_features_learn_nothing_from_the_discriminator():
    batch = DomainBatch(torch.randn(8, 3, 32, 32), torch.randn(8, 3), torch.randn(8, 3, 32, 32))
    gradients = {}
    for name, lam in (("control-uniform", 0.0), ("dann", 0.0), ("dann", 0.5)):
        method, network = begin(name)
        method.loss(network, batch, lam)[0].backward()
        gradients[name, lam] = network.features[0].weight.grad
    assert torch.allclose(gradients["dann", 0.0], gradients["control-uniform", 0.0], atol=1e-6)
    assert not torch.allclose(gradients["dann", 0.5], gradients["dann", 0.0], atol=1e-4)


@pytest.mark.parametrize("passes", ["joint", "separate"])
def test_the_discriminator_learns_at_its_full_rate_and_the_features_against_it(passes):
    """The features' gradient is minus lambda times that of the domain loss; the discriminator's has no lambda."""
    batch = DomainBatch(torch.randn(8, 3, 32, 32), torch.randn(8, 3), torch.randn(8, 3, 32, 32))
    features, discriminator = {}, {}
    for lam in (0.0, 0.5):
        method, network = begin("dann", discriminator=passes)
        method.loss(network, batch, lam)[0].backward()
        features[lam] = network.features[0].weight.grad
        discriminator[lam] = method.discriminator[0].weight.grad
    method, network = begin("dann")
    both = [network(images).features for images in (batch.images, batch.target)]
    if passes == "separate":
        logits = [method.discriminator(one) for one in both]
    else:
        logits = method.discriminator(torch.cat(both)).split(8)
    losses.domain_loss(*logits).backward()
    # A gradient sums some thousand products in single precision, in an order that the number of threads decides.
    precision = 100 * torch.finfo(torch.float32).eps
    wanted = -0.5 * network.features[0].weight.grad
    within = precision * features[0.5].abs().max()  # the difference is of two larger gradients
    assert wanted.abs().max() > 10 * within
    assert (features[0.5] - features[0.0] - wanted).abs().max() < within
    wanted = method.discriminator[0].weight.grad
    for gradient in discriminator.values():
        assert (gradient - wanted).abs().max() < precision * wanted.abs().max()


def normalised_by_hand(discriminator, batches):
    """Return the logits of batches of features, each normalised by its own statistics, by NumPy."""
    first, normalise, _, last = (layer.double() for layer in discriminator)
    found = []
    for features in batches:
        hidden = features @ first.weight.detach().numpy().T + first.bias.detach().numpy()
        hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + normalise.eps)
        hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
        found.append(hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy())
    return np.concatenate(found)


def test_the_discriminator_normalises_both_domains_together_or_each_by_itself():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(9, 128)), 1 + 2 * rng.normal(size=(7, 128))
    for passes, batches in (("joint", [np.concatenate((source, target))]), ("separate", [source, target])):
        method, _ = begin("dann", discriminator=passes)
        expected = normalised_by_hand(method.discriminator, batches)
        from_source, from_target = method.tell_apart(torch.tensor(source), torch.tensor(target))
        assert from_source.shape == (9, 1) and from_target.shape == (7, 1)
        assert torch.cat((from_source, from_target)).detach().numpy() == pytest.approx(expected)
    with pytest.raises(TrainingError, match="`discriminator` both: expected joint or separate"):
        begin("dann", discriminator="both")


def test_only_together_a_shift_of_all_features_tells_the_domains():
    """A discriminator that is trained on features that differ by a shift alone."""
    accuracies = {}
    for passes in ("joint", "separate"):
        method, _ = begin("dann", discriminator=passes)
        optimizer = torch.optim.SGD(method.parameters(), 0.1)
        for _ in range(50):
            features = torch.randn(2, 50, 128)
            logits = method.tell_apart(features[0], features[1] + 1)
            optimizer.zero_grad()
            losses.domain_loss(*logits).backward()
            optimizer.step()
        right = torch.cat((logits[0] > 0, logits[1] <= 0))
        accuracies[passes] = right.float().mean().item()
    assert accuracies["joint"] > 0.95 and accuracies["separate"] < 0.8


def test_schedules():
    lambdas = [methods.lambda_at(epoch, 7, 7, 0.2) for epoch in (0, 7, 10.5, 14, 19)]
    assert lambdas == pytest.approx([0, 0, 0.1, 0.2, 0.2])
    rates = [methods.rate_at(epoch, 30, 0.1) for epoch in (0, 10, 20, 30)]
    assert rates == pytest.approx([1, 1, 0.55, 0.1])


def test_methods_and_their_sampling(labels):
    look, settings = look_at(*labels), MethodSettings(neighbours=5)
    found = {}
    for name in (
        "source-only",
        "control-uniform",
        "dann",
        "pada-like",
        "control-pada-like",
        "padaco",
        "control-padaco",
    ):
        method = methods.METHODS[name](settings)
        found[name] = method.sampling(0, look)
        assert method.sampling(1, look) is None  # computed once, before the second stage
    assert found["source-only"] is found["control-uniform"] is found["dann"] is None
    assert (found["padaco"] == weights.padaco(*labels, 5)).all()
    assert (found["pada-like"] == weights.pada_like(*labels, 3.5)).all()
    normalised = weights.padaco(*labels, 5, "normalised")
    for name in ("padaco", "control-padaco", "rcrw"):
        method = methods.METHODS[name](settings._replace(metric="normalised"))
        assert (method.sampling(0, look) == normalised).all() and (normalised != found["padaco"]).any()
    for name in ("padaco", "pada-like"):
        control = methods.METHODS[f"control-{name}"]
        assert (found[f"control-{name}"] == found[name]).all() and control.strength == 0


def test_methods_see_what_they_say():
    for name, method in methods.METHODS.items():
        assert method.trains == (name not in ("source-only", "source-only-mixed", "adabn"))
        assert method.uses_target == (name != "source-only")
        own = {"source-only": "source", "adabn": "target"}
        assert method.batch_statistics == own.get(name, "mixed")


def test_a_method_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "their_own.py").write_text(
        "from baselines.methods import DANN\n\n\nclass Other(DANN):\n    pass\n\n\n"
        "class Dann(DANN):\n    pass\n\n\nnothing = 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark/__init__.py").write_text("")
    assert methods.find_method("their_own:Other").name == "other"  # not dann, which it inherits
    # A process that this one starts looks along the same path, and finds our packages all the same.
    assert PathFinder.find_spec("benchmark").origin == str(Path(methods.__file__).parents[1] / "benchmark/__init__.py")
    with pytest.raises(HeadposeError, match="there is a method dann already; give the class another name"):
        methods.find_method("their_own:Dann")
    with pytest.raises(HeadposeError, match="expected a class derived from"):
        methods.find_method("their_own:nothing")
    with pytest.raises(HeadposeError, match="cannot be imported: AttributeError"):
        methods.find_method("their_own:Missing")
    with pytest.raises(HeadposeError, match="cannot be imported: ModuleNotFoundError"):
        methods.find_method("not_there:Other")
