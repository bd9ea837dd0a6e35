"""The methods that align features or follow predictions, and what every method can do.

Transport, reweighting and relative poses are in ``test_methods_target.py``.
"""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from baselines import listed, weights
from baselines.adabn import estimate_statistics, in_turn
from baselines.coral import coral_loss
from baselines.dare_gram import SHARE, dare_gram_loss
from baselines.method import DomainBatch, Look, MethodSettings, Seen, of_target
from baselines.methods import METHODS
from baselines.networks import make_network
from baselines.updated import PlainUpdates, UpdatedPADACO, confident, within_trust

pytestmark = pytest.mark.usefixtures("one_thread")


def make_look(seed=0, source=40, target=15, drift=0.0):
    """Return what a method may look at: random labels, predictions that drift, and features of the slim network."""
    rng = np.random.default_rng(7)
    angles = rng.normal(0, 20, (source, 3))
    predictions = rng.normal(3, 12, (target, 3)) + drift * np.random.default_rng(seed).normal(size=(target, 3))

    def seen(angles):
        return Seen(rng.normal(size=(len(angles), 128)).astype(np.float32), angles)

    return Look(angles, np.random.default_rng(seed), seen(predictions), np.arange(source), seen(angles))


def make_batch():
    return DomainBatch(torch.randn(8, 3, 32, 32), 20 * torch.randn(8, 3), 1 + 2 * torch.randn(6, 3, 32, 32))


# CORAL


def test_coral_against_numpy():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(30, 7)), 2 * rng.normal(size=(20, 7))
    expected = np.linalg.norm(np.cov(source.T) - np.cov(target.T), "fro") ** 2 / (4 * 7**2)
    assert coral_loss(torch.tensor(source), torch.tensor(target)).item() == pytest.approx(expected)
    assert coral_loss(torch.tensor(source), torch.tensor(source + 5)).item() == pytest.approx(0, abs=1e-12)


# DARE-GRAM


def numpy_dare_gram(source, target):
    designs = [np.column_stack((np.ones(len(features)), features)) for features in (source, target)]
    decompositions = [np.linalg.svd(design.T @ design) for design in designs]
    kept = max(sum(np.cumsum(s) <= SHARE * s.sum()) for _, s, _ in decompositions)
    inverses = [u[:, :kept] / s[:kept] @ vt[:kept] for u, s, vt in decompositions]
    norms = [np.linalg.norm(inverse, axis=0) for inverse in inverses]
    angle = np.mean(1 - np.sum(inverses[0] * inverses[1], axis=0) / (norms[0] * norms[1]))
    (_, one, _), (_, other, _) = decompositions
    return angle, np.sqrt(np.sum((one - other)[:kept] ** 2)) / kept


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_dare_gram_against_numpy(dtype, tolerance):
    """Also where rounding could decide how many eigenvalues are kept."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        spread = np.exp(-np.arange(24) / 4)
        source, target = 1 + rng.normal(size=(50, 24)) * spread, rng.normal(size=(40, 24)) * spread**1.1
        found = dare_gram_loss(torch.tensor(source, dtype=dtype), torch.tensor(target, dtype=dtype))
        assert [term.item() for term in found] == pytest.approx(numpy_dare_gram(source, target), rel=tolerance)


def test_dare_gram_of_the_same_features_is_nothing():
    features = torch.randn(20, 6)
    assert [term.item() for term in dare_gram_loss(features, features[torch.randperm(20)])] == pytest.approx(
        [0, 0], abs=1e-4
    )


@pytest.mark.parametrize("loss", [coral_loss, lambda *features: sum(dare_gram_loss(*features))])
@pytest.mark.parametrize("kind", ["few samples", "equal samples", "dead features"])
def test_gradients_are_finite(loss, kind):
    source, target = torch.rand(10, 64), torch.rand(12, 64)
    if kind == "equal samples":
        source = source[:1].repeat(10, 1)
    if kind == "dead features":
        source[:, :50] = target[:, :50] = 0
    source.requires_grad_(), target.requires_grad_()
    loss(source, target).backward()
    assert source.grad.isfinite().all() and target.grad.isfinite().all() and target.grad.any()


@pytest.mark.parametrize(("count", "size"), [(1, 1.0), (6, 1.0), (6, 1e-4), (6, 1e3)])
def test_dare_gram_inverts_no_rounding(count, size):
    """One domain has a lower rank than the number of eigenvalues that the other one needs."""
    source = (size * torch.randn(count, 64)).repeat(6 // count, 1)
    features = source.requires_grad_(), torch.randn(50, 64).relu().requires_grad_()
    angle, _ = dare_gram_loss(*features)
    angle.backward()
    assert all(part.grad.isfinite().all() and part.grad.abs().max() < 10 for part in features)


# AdaBN


def test_adabn_against_numpy():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
    network.eval()
    images = 3 + 2 * torch.randn(10, 3, 8, 8)
    batches = images.split(4)  # 4, 4 and 2
    estimate_statistics(network, batches)

    def mean_and_variance(outputs):
        shares = np.array([len(output) for output in outputs]) / len(images)
        means = [output.mean(axis=(0, 2, 3)) for output in outputs]
        variances = [output.var(axis=(0, 2, 3), ddof=1) for output in outputs]
        return shares @ means, shares @ variances

    first, normalise, rectify, second, _ = network
    with torch.no_grad():
        outputs = [first(batch) for batch in batches]
        mean, variance = mean_and_variance([output.numpy() for output in outputs])
        assert normalise.running_mean.numpy() == pytest.approx(mean, rel=1e-5)
        assert normalise.running_var.numpy() == pytest.approx(variance, rel=1e-5)
        # The second layer sees what the first one makes of each batch by its own statistics.
        normalised = [nn.functional.batch_norm(output, None, None, training=True) for output in outputs]
        mean, variance = mean_and_variance([second(rectify(output)).numpy() for output in normalised])
    assert network[4].running_mean.numpy() == pytest.approx(mean, rel=1e-4, abs=1e-6)
    assert network[4].running_var.numpy() == pytest.approx(variance, rel=1e-4)
    assert normalise.momentum == 0.1 and not network.training and not normalise.training


@pytest.mark.parametrize(("count", "used"), [(9, 8), (8, 8)])
def test_adabn_leaves_out_an_image_left_over(count, used):
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4))  # one value a channel and image
    images = torch.randn(count, 3, 8, 8)
    estimate_statistics(network, images.split(4))
    with torch.no_grad():
        outputs = [network[0](batch) for batch in images[:used].split(4)]
    assert torch.allclose(network[1].running_mean, torch.cat(outputs).mean(dim=(0, 2, 3)), atol=1e-6)
    variance = torch.stack([output.var(dim=(0, 2, 3)) for output in outputs]).mean(dim=0)
    assert torch.allclose(network[1].running_var, variance, rtol=1e-5)


def test_adabn_uses_every_image_where_all_batches_have_one():
    network = nn.Sequential(nn.BatchNorm2d(3))
    images = 3 + torch.randn(5, 3, 8, 8)
    estimate_statistics(network, images.split(1))
    assert torch.allclose(network[0].running_mean, images.mean(dim=(0, 2, 3)), rtol=1e-5)


def test_adabn_changes_statistics_only():
    network = make_network("slim").train()
    before = {name: value.clone() for name, value in network.named_parameters()}
    estimate_statistics(network, iter([torch.randn(4, 3, 32, 32)]))
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert network.training and network.features[1].running_mean.any()


# Source-only with the statistics of both domains


def test_mixed_statistics_are_those_of_both_domains_in_equal_parts():
    network = make_network("slim").eval()
    source, target = 3 * torch.randn(12, 3, 32, 32) - 1, 1 + torch.randn(10, 3, 32, 32)
    estimate_statistics(network, in_turn(iter(source.split(4)), iter(target.split(4))))
    seen = [source[[*range(10)]].split(4), target.split(4)]  # the last batch of either has two images
    with torch.no_grad():
        outputs = [[network.features[0](batch).double().numpy() for batch in batches] for batches in seen]
    means = [np.concatenate(batches).mean(axis=(0, 2, 3)) for batches in outputs]
    variances = [sum(len(batch) * batch.var(axis=(0, 2, 3), ddof=1) for batch in batches) / 10 for batches in outputs]
    assert network.features[1].running_mean.numpy() == pytest.approx((means[0] + means[1]) / 2, rel=1e-4, abs=1e-6)
    assert network.features[1].running_var.numpy() == pytest.approx((variances[0] + variances[1]) / 2, rel=1e-4)
    assert np.abs(means[0] - means[1]).max() > 0.1 and not network.training


# PADACO with updated weights


def test_trust_region():
    old, new = np.array([0.5, 0.5, 0, 0]), np.array([0, 0.2, 0.8, 0])
    moved, distance = within_trust(old, new, 0.1)
    assert distance == pytest.approx(0.1) and np.abs(moved - old).sum() / 2 == pytest.approx(0.1)
    assert moved.sum() == pytest.approx(1) and (moved >= 0).all()
    assert moved == pytest.approx(old + (new - old) / 8)  # they are 0.8 apart
    for largest in (0.8, 5):
        moved, distance = within_trust(old, new, largest)
        assert moved == pytest.approx(new) and distance == pytest.approx(0.8)
    moved, distance = within_trust(old, old, 0.1)
    assert (moved == old).all() and distance == 0


def test_gate_lets_those_pass_that_moved_least():
    rng = np.random.default_rng(0)
    average = rng.normal(size=(50, 3))
    newest = average + rng.normal(size=(50, 3)) * np.arange(50)[:, None]
    gate = confident(average, newest, 0.8)
    largest = [
        max(abs(a - b) for a, b in zip(one, other, strict=True)) for one, other in zip(average, newest, strict=True)
    ]
    assert gate.sum() == 40
    assert max(value for value, inside in zip(largest, gate, strict=True) if inside) < min(
        value for value, inside in zip(largest, gate, strict=True) if not inside
    )


@pytest.mark.parametrize("metric", ["degrees", "normalised"])
def test_updated_padaco_begins_as_padaco_and_moves_a_little(metric):
    network, settings = make_network("slim"), MethodSettings(neighbours=4, metric=metric)
    method = UpdatedPADACO(settings)
    look = make_look()
    method.start(network, look)
    average, old = look.target.angles, method.sampling(0, look)
    assert (old == weights.padaco(look.angles, look.target.angles, 4, metric)).all()
    for epoch in (1, 2, 3):
        look = make_look(epoch, drift=8)
        newest = look.target.angles
        found = method.sampling(epoch, look)
        average = average + (1 - method.momentum) * (newest - average)
        distance = np.abs(average - newest).max(axis=1)
        gate = distance <= np.quantile(distance, method.confident)
        wanted = weights.padaco(look.angles, average[gate], 4, metric)
        total = np.abs(wanted - old).sum() / 2
        assert found == pytest.approx(old + min(1, method.trust / total) * (wanted - old))
        assert found.sum() == pytest.approx(1) and (found >= 0).all()
        assert method.facts()["confident"] == pytest.approx(gate.mean(), abs=1e-4)
        assert method.facts()["moved"] == pytest.approx(min(total, method.trust), abs=1e-4)
        old = found


def test_plain_updates_are_padaco_of_the_newest_predictions():
    method = PlainUpdates(MethodSettings(neighbours=4))
    method.start(make_network("slim"), make_look())
    for epoch in (1, 2):
        look = make_look(epoch, drift=8)
        assert method.sampling(epoch, look) == pytest.approx(weights.padaco(look.angles, look.target.angles, 4))
        assert method.facts()["confident"] == 1


# Every method


def train(method, network, optimizer, epochs, log):
    for epoch in epochs:
        torch.manual_seed(epoch)  # as the loop does
        probabilities = method.sampling(epoch, make_look(epoch, drift=3))
        for _ in range(3):
            network.train(), method.train()
            loss, parts = method.loss(network, make_batch(), 0.5)
            optimizer.zero_grad()
            loss.backward()
            assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
            optimizer.step()
            method.after_step(network)
            log.append((loss.item(), {name: part.item() for name, part in parts.items()}))
        log.append((None if probabilities is None else probabilities.tolist(), method.facts()))


def begin(kind, backbone="slim"):
    torch.manual_seed(1)
    network = make_network(backbone)
    method = kind(MethodSettings(neighbours=4, threshold=500.0))
    method.start(network, make_look())
    trained = [p for p in [*network.parameters(), *method.parameters()] if p.requires_grad]
    return method, network, torch.optim.SGD(trained, lr=1e-3, momentum=0.9)


@pytest.mark.parametrize("kind", METHODS.values(), ids=METHODS)
def test_every_method_trains_and_goes_on_from_a_checkpoint(kind, tmp_path):
    method, network, optimizer = begin(kind)
    log = []
    train(method, network, optimizer, [0, 1], log)
    parts = {"network": network, "method": method, "optimizer": optimizer}
    torch.save({name: part.state_dict() for name, part in parts.items()}, tmp_path / "checkpoint.pt")
    train(method, network, optimizer, [2, 3], log)
    assert all(np.isfinite(loss) for loss, parts in log if isinstance(loss, float))
    assert all(value.isfinite().all() for value in network.state_dict().values())

    method, network, optimizer = begin(kind)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for name, part in {"network": network, "method": method, "optimizer": optimizer}.items():
        part.load_state_dict(state[name])
    resumed = []
    train(method, network, optimizer, [2, 3], resumed)
    assert resumed == log[8:]


@pytest.mark.parametrize("kind", METHODS.values(), ids=METHODS)
def test_every_method_says_what_it_is(kind):
    assert kind.__doc__ and METHODS[kind.name] is kind


def test_the_listed_methods_are_those_that_there_are():
    said = [(one.name, one.trains, one.uses_target) for one in listed.METHODS]
    assert said == [(kind.name, kind.trains, kind.uses_target) for kind in METHODS.values()]
    assert all(one.summary for one in listed.METHODS)


@pytest.mark.parametrize("kind", METHODS.values(), ids=METHODS)
def test_without_lambda_every_gradient_is_that_of_the_pose_loss(kind):
    """Of the features and the regressor: in the first third of the second stage nothing else moves them."""
    gradients = []
    batch = make_batch()
    for method, network, _ in (begin(METHODS["control-uniform"]), begin(kind)):
        method.loss(network.train(), batch, 0.0)[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "backbone"), [*((one.name, "slim") for one in listed.METHODS if one.trains), ("dann", "resnet18")]
)
def test_while_lambda_is_0_the_targets_images_take_no_gradient_back_and_weights_are_the_same(
    name, backbone, monkeypatch
):
    """To the bit, against a method that is handed what the target gives with its gradient."""
    states, passed = [], []

    def with_gradient(network, images, lam):
        passed.append(lam)
        return network(images)

    kind = METHODS[name]
    for forced in (False, True):
        method, network, optimizer = begin(kind, backbone)
        if forced:
            for module in {sys.modules[one.__module__] for one in kind.__mro__}:
                if hasattr(module, "of_target"):
                    monkeypatch.setattr(module, "of_target", with_gradient)
        for step in range(2):
            torch.manual_seed(step)
            optimizer.zero_grad()
            method.loss(network.train(), make_batch(), 0.0)[0].backward()
            optimizer.step()
            method.after_step(network)
        states.append({**network.state_dict(), **method.state_dict()})
    assert passed and all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_target_images_take_a_gradient_back_where_lambda_asks_for_it():
    network, images = make_network("slim"), torch.randn(4, 3, 32, 32)
    assert of_target(network, images, 0.1).features.requires_grad
    assert not of_target(network, images, 0.0).features.requires_grad
    with torch.no_grad():
        assert not of_target(network, images, 0.1).features.requires_grad
