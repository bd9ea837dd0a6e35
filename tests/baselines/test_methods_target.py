import copy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from baselines.mean_teacher import MeanTeacher, changed, symmetric
from baselines.method import DomainBatch, Look, MethodSettings, Seen
from baselines.networks import IMAGE_MEAN, IMAGE_STD, make_network
from baselines.relative_pose import (
    Alteration,
    RelativePose,
    RelativePosePADACO,
    consistency_loss,
    draw_alteration,
    turn,
)
from baselines.reweighting import EVERY, POOL, RADIUS, Reweighting, critic_values, reweight
from baselines.rotations import about_z, to_matrix
from baselines.transport import Transport, unbalanced_sinkhorn
from headposeplus import rotations

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network():
    made = make_network("slim")
    made.angle_mean.copy_(torch.tensor([-4.0, -2, 1]))
    made.angle_std.copy_(torch.tensor([23.0, 31, 11]))
    return made.train()


@pytest.fixture
def batch():
    return DomainBatch(torch.randn(6, 3, 32, 32), 20 * torch.randn(6, 3), torch.randn(5, 3, 32, 32))


# Unbalanced optimal transport


def relative_entropy(p, q):
    return float((p * np.log(p / q) - p + q).sum())


def objective(plan, cost, regularisation, marginal):
    n, m = cost.shape
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    ends = relative_entropy(plan.sum(1), a) + relative_entropy(plan.sum(0), b)
    return float((plan * cost).sum()) + regularisation * relative_entropy(plan, np.outer(a, b)) + marginal * ends


def test_unbalanced_sinkhorn_is_the_iteration_on_kernels():
    cost = np.random.default_rng(0).uniform(0, 2, (5, 7))
    regularisation, marginal = 0.3, 0.8
    a, b = np.full(5, 1 / 5), np.full(7, 1 / 7)
    kernel = np.outer(a, b) * np.exp(-cost / regularisation)
    u, v, power = np.ones(5), np.ones(7), marginal / (marginal + regularisation)
    for _ in range(200):
        u = (a / (kernel @ v)) ** power
        v = (b / (kernel.T @ u)) ** power
    plan = unbalanced_sinkhorn(torch.tensor(cost), regularisation, marginal, 200)
    assert plan.numpy() == pytest.approx(u[:, None] * kernel * v, rel=1e-9)


def test_unbalanced_sinkhorn_minimises_its_objective():
    cost = np.random.default_rng(1).uniform(0, 2, (3, 3))
    found = minimize(
        lambda logs: objective(np.exp(logs).reshape(3, 3), cost, 0.2, 0.5),
        np.full(9, np.log(1 / 9)), method="BFGS", options={"gtol": 1e-9},
    )  # fmt: skip
    plan = unbalanced_sinkhorn(torch.tensor(cost), 0.2, 0.5, 500).numpy()
    assert plan == pytest.approx(np.exp(found.x).reshape(3, 3), abs=1e-6)
    assert objective(plan, cost, 0.2, 0.5) <= found.fun + 1e-12


def test_unbalanced_sinkhorn_leaves_what_is_dear_and_balances_without_a_price_limit():
    cost = torch.tensor([[0.0, 0.1], [0.1, 0.0], [9.0, 9.0]], dtype=torch.float64)
    plan = unbalanced_sinkhorn(cost, 0.05, 0.5, 500)
    assert plan[2].sum() < 1e-3 and plan[0].sum() > 0.3
    balanced = unbalanced_sinkhorn(cost, 0.05, float("inf"), 2000)
    assert balanced.sum(1).tolist() == pytest.approx([1 / 3] * 3)
    assert balanced.sum(0).tolist() == pytest.approx([1 / 2] * 2)
    assert unbalanced_sinkhorn(1e4 * cost.float(), 0.05, 0.5, 50).isfinite().all()


def test_transport_is_plan_times_cost(network, batch):
    method = Transport(MethodSettings())
    _, parts = method.loss(network, batch, 1.0)
    with torch.no_grad():
        source, target = network(batch.images), network(batch.target)
        labels = network.normalise(batch.degrees)
    cost = np.empty((6, 5))
    for i in range(6):
        for j in range(5):
            features = ((source.features[i] - target.features[j]) ** 2).mean()
            angles = ((labels[i] - target.angles[j]) ** 2).mean()
            cost[i, j] = method.feature_cost * features + method.pose_cost * angles
    plan = unbalanced_sinkhorn(torch.tensor(cost), method.regularisation, method.marginal, method.iterations).numpy()
    assert parts["transport_loss"].item() == pytest.approx((plan * cost).sum(), rel=1e-4)
    assert parts["transported_mass"].item() == pytest.approx(plan.sum(), rel=1e-4)


# Weights by a critic


@pytest.mark.parametrize(("radius", "seed"), [(0.05, 0), (0.5, 1), (5.0, 2), (15.0, 3)])
def test_reweight_against_slsqp(radius, seed):
    values = np.random.default_rng(seed).normal(size=12)
    found = minimize(
        lambda w: w @ values, np.ones(12), jac=lambda w: values, method="SLSQP", bounds=[(0, None)] * 12,
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 12},
            {"type": "ineq", "fun": lambda w: radius * 12 - ((w - 1) ** 2).sum()},
        ],
        options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    weights = reweight(values, radius)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(12)
    assert np.square(weights - 1).sum() <= radius * 12 * (1 + 1e-9)
    assert weights == pytest.approx(found.x, abs=1e-3)
    assert weights @ values == pytest.approx(found.fun, abs=1e-6)


def test_reweight_at_its_limits():
    assert reweight(np.full(7, 2.0), 5).tolist() == [1] * 7
    assert reweight(np.array([3.0, 1, 2]), 5).tolist() == [0, 3, 0]
    assert reweight(np.array([0.0, 0, 1, 1]), 1).tolist() == [2, 2, 0, 0]


def toy_look(seed=0, count=400):
    """Source features at two places, the target at that of the first half."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, 8)).astype(np.float32)
    features[count // 2 :, 0] += 6
    target = Seen(rng.normal(size=(150, 8)).astype(np.float32), np.zeros((150, 3)))
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(count)[: Reweighting(MethodSettings()).looks_at(0).source])
    return Look(np.zeros((count, 3)), rng, target, rows, Seen(features[rows], np.zeros((len(rows), 3))))


def test_the_critics_weights_draw_what_looks_like_the_target():
    method = Reweighting(MethodSettings())
    look = toy_look()
    before = torch.get_rng_state()
    probabilities = method.sampling(0, look)
    assert torch.equal(torch.get_rng_state(), before)
    assert probabilities.sum() == pytest.approx(1) and probabilities.min() >= 0
    assert probabilities[:200].sum() > 0.99
    assert 1 / np.square(probabilities).sum() >= 400 / (1 + RADIUS) * (1 - 1e-9)
    assert probabilities == pytest.approx(method.sampling(EVERY, toy_look()))
    assert [method.sampling(epoch, look) for epoch in range(1, EVERY)] == [None] * (EVERY - 1)
    assert Reweighting.strength == 0


def test_the_critic_weighs_a_pool_and_leaves_the_rest():
    look = toy_look(count=POOL + 500)
    probabilities = Reweighting(MethodSettings()).sampling(0, look)
    rows = look.rows
    assert len(set(rows.tolist())) == POOL and probabilities.shape == (POOL + 500,)
    assert np.delete(probabilities, rows).sum() == 0 and probabilities.sum() == pytest.approx(1)


def test_the_critic_finds_the_wasserstein_distance():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 600, 1)).astype(np.float32)
    source += 8
    values = critic_values(np.concatenate([source, target]), target, 0)
    both = np.concatenate([source, target, target])[:, 0]
    distance = 8 / both.std()  # of one dimension: the shift, in standardised features
    assert values[:600].mean() - values[600:].mean() == pytest.approx(distance, rel=0.2)


# Rotations and relative pose consistency


def test_rotations_are_those_of_the_toolkit():
    degrees = np.random.default_rng(0).uniform(-80, 80, (50, 3))
    assert to_matrix(torch.tensor(degrees)).numpy() == pytest.approx(rotations.to_matrix(degrees), abs=1e-12)
    assert about_z(torch.tensor(degrees[:, 0])).numpy() == pytest.approx(rotations.in_plane(degrees[:, 0]), abs=1e-12)
    real = to_matrix(torch.tensor([[41.503, 62.064, 12.802]], dtype=torch.float64))  # Biwi's 01/00501
    assert real[0, 2].tolist() == pytest.approx([0.883471, 0.310449, 0.350856], abs=1e-4)


@pytest.mark.parametrize("degrees", [25.0, -30.0, 90.0])
def test_a_turned_picture_moves_as_rz_says(degrees):
    image = torch.zeros(1, 3, 65, 65)
    image[:, :, 31:34, 51:54] = 1  # 20 pixels right of the centre, which is (32, 32)
    turned = turn(image, torch.tensor([degrees]))[0, 0].numpy()
    rows, columns = np.mgrid[:65, :65] - 32
    found = np.array([(turned * columns).sum(), (turned * rows).sum()]) / turned.sum()
    expected = rotations.in_plane(degrees) @ [20, 0, 0]
    assert found == pytest.approx(expected[:2], abs=0.3)
    assert np.sign(found[1]) == np.sign(degrees)  # clockwise is down


def test_turn_by_nothing_and_all_the_way_round():
    images = torch.randn(2, 3, 16, 16)
    assert torch.allclose(turn(images, torch.zeros(2)), images, atol=1e-5)
    quarter = turn(images, torch.full((2,), 90.0))
    assert torch.allclose(quarter, images.rot90(-1, (2, 3)), atol=1e-4)


def test_a_perfect_network_is_consistent():
    rng = np.random.default_rng(0)
    poses = rotations.to_matrix(rng.uniform(-60, 60, (40, 3)))
    angles, mirrored = rng.uniform(-30, 30, 40), rng.random(40) < 0.5
    before = rotations.from_matrix(poses)
    shown = np.where(mirrored[:, None], before * [1, -1, -1], before)  # of a mirrored head: the other yaw and roll
    turned = rotations.from_matrix(rotations.in_plane(angles) @ rotations.to_matrix(shown))
    std = torch.tensor([23.0, 31, 11])
    student, teacher = torch.tensor(turned), torch.tensor(before)
    done = Alteration(torch.tensor(mirrored), torch.tensor(angles))
    assert consistency_loss(student, teacher, done, std).item() == pytest.approx(0, abs=1e-12)
    for other in (done._replace(turned=-done.turned), done._replace(mirrored=~done.mirrored)):
        assert consistency_loss(student, teacher, other, std).item() > 1
    assert 0 < mirrored.sum() < 40


def test_images_are_mirrored_before_they_are_turned():
    images = torch.zeros(2, 3, 65, 65)
    images[:, :, 31:34, 51:54] = 1  # 20 pixels right of the centre, which is (32, 32)
    altered = Alteration(torch.tensor([True, False]), torch.full((2,), 25.0)).images(images)[:, 0].numpy()
    rows, columns = np.mgrid[:65, :65] - 32
    for picture, x in zip(altered, (-20, 20), strict=True):
        found = np.array([(picture * columns).sum(), (picture * rows).sum()]) / picture.sum()
        assert found == pytest.approx((rotations.in_plane(25.0) @ [x, 0, 0])[:2], abs=0.3)


def test_half_of_the_images_are_mirrored_and_all_are_turned():
    torch.manual_seed(0)
    mirrored, turned = draw_alteration(2000, 30.0, torch.device("cpu"))
    assert mirrored.dtype == torch.bool and mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert 29 < turned.abs().max() <= 30 and abs(turned.mean()) < 1
    assert abs(np.corrcoef(mirrored, turned)[0, 1]) < 0.1


def test_on_the_source_the_label_teaches(network, batch):
    """The altered source images are normalised by their own batch, and leave the running statistics alone."""
    method = RelativePose(MethodSettings())
    method.start(network, None)
    copied = copy.deepcopy(network)
    torch.manual_seed(3)
    _, parts = method.train().loss(network, batch, 0.5)
    torch.manual_seed(3)
    of_source, of_target = (
        draw_alteration(len(images), 30.0, torch.device("cpu")) for images in (batch.images, batch.target)
    )
    with torch.no_grad():
        copied(batch.images), copied(of_target.images(batch.target))
        assert all(torch.equal(a, b) for a, b in zip(network.buffers(), copied.buffers(), strict=True))
        found = copied.degrees(copied(of_source.images(batch.images)).angles)
    labels = np.where(of_source.mirrored[:, None], batch.degrees * torch.tensor([1, -1, -1]), batch.degrees)
    expected = rotations.in_plane(of_source.turned.double().numpy()) @ rotations.to_matrix(labels)
    chord = rotations.to_matrix(found.double().numpy()) - expected
    scale = np.mean(1 / np.radians(network.angle_std.numpy()) ** 2)
    loss = np.square(chord).sum(axis=(1, 2)).mean() / 6 * scale
    assert parts["altered_pose_loss"].item() == pytest.approx(loss, rel=1e-4)


def test_consistency_is_in_the_units_of_the_pose_loss():
    std = torch.tensor([20.0, 30, 10], dtype=torch.float64)
    error = torch.full((1, 3), 0.5, dtype=torch.float64)
    nothing = torch.zeros(1, 3, dtype=torch.float64)
    expected = ((error / std) ** 2).mean().item()
    unaltered = Alteration(torch.tensor([False]), nothing[0, :1])
    assert consistency_loss(error, nothing, unaltered, std).item() == pytest.approx(expected, rel=0.01)


def test_the_teacher_is_a_moving_average(network, batch):
    method = RelativePose(MethodSettings())
    method.start(network, None)
    expected = {name: value.detach().clone() for name, value in network.named_parameters()}
    for _ in range(3):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(batch.images)  # moves the running statistics
        method.after_step(network)
        for name, value in network.named_parameters():
            expected[name] = method.decay * expected[name] + (1 - method.decay) * value.detach()
    for name, value in method.teacher.named_parameters():
        assert torch.allclose(value, expected[name], atol=1e-5)
    own = dict(network.named_buffers())
    assert all(torch.equal(value, own[name]) for name, value in method.teacher.named_buffers())


@pytest.mark.parametrize("kind", [Transport, Reweighting, RelativePose, RelativePosePADACO])
def test_gradients_are_finite_and_only_the_students(kind, network, batch):
    method = kind(MethodSettings())
    method.start(network, None)
    method.train()
    loss, parts = method.loss(network, batch, 0.5)
    loss.backward()
    assert "pose_loss" in parts and not any(part.requires_grad for part in parts.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad is None and not p.requires_grad for p in method.parameters())
    assert not any(part.training for part in method.modules() if part is not method)


@pytest.mark.parametrize("kind", [Transport, RelativePose])
def test_without_lambda_the_loss_is_the_pose_loss(kind, network, batch):
    method = kind(MethodSettings())
    method.start(network, None)
    loss, parts = method.loss(network, batch, 0.0)
    assert loss.item() == parts["pose_loss"].item()
    names = [name for name in parts if name in ("transport_loss", "consistency_loss", "altered_pose_loss")]
    torch.manual_seed(1)
    _, again = method.loss(network, batch, 0.5)
    torch.manual_seed(1)
    loss, _ = method.loss(network, batch, 0.5)
    assert loss.item() == pytest.approx((again["pose_loss"] + 0.5 * sum(map(again.get, names))).item(), rel=1e-6)


def test_the_running_statistics_see_both_domains(network, batch):
    method = RelativePose(MethodSettings())
    method.start(network, None)
    method.train().loss(network, batch, 0.0)
    counts = [value.item() for name, value in network.named_buffers() if name.endswith("num_batches_tracked")]
    assert set(counts) == {2}
    taught = [value.item() for name, value in method.teacher.named_buffers() if name.endswith("num_batches_tracked")]
    assert set(taught) == {0}


def train(network, method, optimizer, batch, epoch):
    torch.manual_seed(epoch)
    network.train()
    method.train()
    losses = []
    for _ in range(3):
        loss, _ = method.loss(network, batch, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(network)
        losses.append(loss.item())
    return losses


def test_rcr_goes_on_from_its_state_as_if_it_had_not_stopped(network, batch):
    stage1 = copy.deepcopy(network)

    def begin():
        student = copy.deepcopy(stage1)
        method = RelativePose(MethodSettings())
        method.start(student, None)
        return student, method, torch.optim.SGD(student.parameters(), 0.01, momentum=0.9)

    parts = begin()
    train(*parts, batch, 0)
    states = [copy.deepcopy(part.state_dict()) for part in parts]
    resumed = begin()
    for part, state in zip(resumed, states, strict=True):
        part.load_state_dict(state)
    assert train(*resumed, batch, 1) == train(*parts, batch, 1)
    teachers = resumed[1].state_dict(), parts[1].state_dict()
    assert all(torch.equal(teachers[0][name], value) for name, value in teachers[1].items())


def test_rcrw_draws_as_padaco_does():
    rng = np.random.default_rng(0)
    angles = rng.normal(0, 20, (60, 3))
    look = Look(angles, rng, Seen(None, angles[:1]))
    method = RelativePosePADACO(MethodSettings(neighbours=1))
    assert method.sampling(0, look).tolist() == [1.0] + [0.0] * 59
    assert method.sampling(1, look) is None
    assert RelativePose(MethodSettings()).sampling(0, look) is None


# Mean teacher


def test_the_teacher_answers_by_an_image_and_its_mirror_image():
    network = make_network("slim").eval()
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        found = symmetric(network, images)
        plain, mirrored = (network.degrees(network(some).angles) for some in (images, images.flip(3)))
        other_way = symmetric(network, images.flip(3))
    assert torch.allclose(found, (plain + mirrored * torch.tensor([1.0, -1, -1])) / 2, atol=1e-5)
    assert torch.allclose(other_way, found * torch.tensor([1.0, -1, -1]), atol=1e-5)  # it has no side


def test_changed_images_keep_their_place_and_follow_the_seed():
    images = torch.randn(6, 3, 32, 32).clamp(-2, 2)
    torch.manual_seed(1)
    first, second = changed(images), changed(images)
    torch.manual_seed(1)
    assert torch.equal(changed(images), first) and not torch.equal(second, first)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    values = first * std + mean
    assert values.min() > -1e-5 and values.max() < 1 + 1e-5


def test_mean_teacher_by_hand(network, batch):
    method = MeanTeacher(MethodSettings())
    method.start(network, None)
    assert method.predictor(network) is method.teacher and not any(p.requires_grad for p in method.parameters())
    method.train()
    assert not method.teacher.training
    twin = copy.deepcopy(network)
    torch.manual_seed(5)
    loss, parts = method.loss(network, batch, 2.0)
    torch.manual_seed(5)
    flips = torch.rand(len(batch.target)) < 0.5
    seen = torch.stack([image.flip(2) if flip else image for image, flip in zip(batch.target, flips, strict=True)])
    source, student = twin(batch.images), twin(changed(seen))
    with torch.no_grad():
        taught = symmetric(method.teacher, batch.target)
    taught[flips, 1:] *= -1
    pose = ((source.angles - (batch.degrees - network.angle_mean) / network.angle_std) ** 2).mean()
    difference = ((student.angles - (taught - network.angle_mean) / network.angle_std) ** 2).mean()
    assert loss.item() == pytest.approx((pose + 2 * difference).item(), rel=1e-5)
    assert parts["consistency_loss"].item() == pytest.approx(difference.item(), rel=1e-5)
    assert loss.requires_grad
