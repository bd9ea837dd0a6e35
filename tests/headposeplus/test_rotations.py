import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from headposeplus import rotations as rot
from headposeplus.errors import HeadposeError

# Frame 01/00501 in the depth camera.
GOLDEN = np.array([[0.45684, -0.404949, -0.792031], [-0.103806, 0.860022, -0.499587], [0.883471, 0.310449, 0.350856]])


@pytest.fixture
def many():
    return Rotation.random(500, random_state=3).as_matrix()


@pytest.mark.parametrize(
    ("convention", "pitch", "yaw", "roll"),
    [("biwi", 41.503, -62.064, -12.802), ("pyr", 41.503, 62.064, 12.802), ("ypr", -54.920, -52.376, 41.554)],
)
def test_golden_frame(convention, pitch, yaw, roll):
    assert rot.from_matrix(GOLDEN, convention) == pytest.approx([pitch, yaw, roll], abs=1e-3)


def test_conventions_by_their_definitions_in_scipy(many):
    flip = np.diag([1, -1, -1])
    flipped = Rotation.from_matrix(flip @ many @ flip)
    assert np.allclose(rot.from_matrix(many, "biwi"), Rotation.from_matrix(many).as_euler("xyz", degrees=True))
    assert np.allclose(rot.from_matrix(many, "pyr"), flipped.as_euler("xyz", degrees=True))
    assert np.allclose(rot.from_matrix(many, "ypr"), -flipped.as_euler("zyx", degrees=True)[:, ::-1])


@pytest.mark.parametrize("order", rot.ALL_ORDERS, ids=str)
def test_every_order_round_trips_and_multiplies_as_written(order, many):
    angles = rot.from_matrix(many, order)
    assert rot.geodesic(rot.to_matrix(angles, order), many).max() < 1e-6
    signed = angles * order.signs
    product = np.eye(3)
    for axis in order.axes:
        product = Rotation.from_euler(axis, signed[:, ["xyz".index(axis)]], degrees=True).as_matrix() @ product
    assert np.allclose(product, rot.FLIP @ many @ rot.FLIP)


def test_orders_are_48_and_have_distinct_names():
    assert len({str(order) for order in rot.ALL_ORDERS}) == 48
    assert all(rot.euler_order(str(order)) == order for order in rot.ALL_ORDERS)
    with pytest.raises(HeadposeError, match="unknown angle convention 'rpy'"):
        rot.euler_order("rpy")


def test_shapes_are_kept(many):
    stacked = many.reshape(5, 100, 3, 3)
    assert rot.from_matrix(stacked).shape == (5, 100, 3)
    assert rot.to_matrix(np.zeros(3)).shape == (3, 3)
    assert rot.to_matrix(np.zeros((2, 4, 3))).shape == (2, 4, 3, 3)
    assert rot.geodesic(stacked, stacked).shape == (5, 100)


def test_geodesic_is_scipys_magnitude(many):
    a, b = Rotation.from_matrix(many), Rotation.random(500, random_state=4)
    assert np.allclose(rot.geodesic(a.as_matrix(), b.as_matrix()), np.rad2deg((a.inv() * b).magnitude()))
    tiny = Rotation.from_euler("x", 1e-5, degrees=True).as_matrix()
    assert rot.geodesic(np.eye(3), tiny) == pytest.approx(1e-5, rel=1e-6)


def test_in_plane_keeps_the_third_row_and_is_scipys_z(many):
    turned = rot.in_plane(33.0) @ many
    assert np.allclose(turned[:, 2], many[:, 2])
    assert np.allclose(rot.in_plane(33.0), Rotation.from_euler("z", 33, degrees=True).as_matrix())


def test_best_in_plane_is_what_brute_force_finds(many):
    targets = Rotation.random(500, random_state=5).as_matrix()
    best = rot.best_in_plane(many, targets)
    reached = rot.geodesic(rot.in_plane(best) @ many, targets)
    grid = np.arange(-180, 180, 0.25)
    for i in range(20):
        brute = rot.geodesic(rot.in_plane(grid) @ many[i], targets[i])
        assert reached[i] <= brute.min() + 1e-9
        assert abs(rot.angle_difference(best[i], grid[brute.argmin()])) < 0.26
    third_rows = np.rad2deg(np.arccos(np.clip((many[:, 2] * targets[:, 2]).sum(1), -1, 1)))
    assert np.allclose(reached, third_rows, atol=1e-5)


def test_angle_difference_wraps():
    assert rot.angle_difference([179, -179, 10, 0], [-179, 179, 350, 180]) == pytest.approx([-2, 2, 20, -180])


def test_orthonormality_and_nearest_rotation(many):
    rough = many.round(6)
    assert 1e-8 < rot.orthonormality_error(rough).max() < 1e-5
    assert rot.orthonormality_error(rot.nearest_rotation(rough)).max() < 1e-12
    assert rot.geodesic(rot.nearest_rotation(rough), many).max() < 1e-4
    assert rot.orthonormality_error(np.diag([1.0, 1, -1])) == np.inf
    assert np.linalg.det(rot.nearest_rotation(np.diag([1.0, 1, -1]))) == pytest.approx(1)


@pytest.mark.real
@pytest.mark.parametrize("name", ["Biwi_plus.npz", "Biwi_plus_non_cal.npz"])
def test_all_published_labels(real, name):
    published = np.load(real / name)
    assert len(published["pyr"]) == 15678
    yaw_pitch_roll = rot.convert(published["pyr"], "pyr", "ypr")[:, [1, 0, 2]]
    assert np.abs(rot.angle_difference(yaw_pitch_roll, published["ypr"])).max() < 1e-9
    assert np.abs(rot.convert(published["ypr"][:, [1, 0, 2]], "ypr", "pyr") - published["pyr"]).max() < 1e-9


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("convention", ["pyr", "ypr", "biwi", "yxz+-+", "xzy-++"])
def test_differences_with_the_middle_angle_at_90_are_the_least_there_are(convention):
    """Every way to part what is known of the outer angles is tried; at 90 degrees SciPy takes one that costs more."""
    order, rng = rot.euler_order(convention), np.random.default_rng(0)
    middle = "xyz".index(order.axes[1])
    outer = [axis for axis in range(3) if axis != middle]
    truth = rng.uniform(-40, 40, (20, 3))
    truth[:, middle] = rng.uniform(60, 89, 20) * rng.choice([-1, 1], 20)
    predicted = truth + rng.normal(0, 5, truth.shape)
    predicted[:, middle] = 90 * np.sign(truth[:, middle])
    found = rot.euler_difference(rot.to_matrix(predicted, convention), rot.to_matrix(truth, convention), convention)
    steps = np.linspace(-40, 40, 8001)
    for one, true, difference in zip(predicted, truth, found, strict=True):
        both = np.zeros(3)
        both[outer] = 1
        same = np.abs(rot.to_matrix(one + both, convention) - rot.to_matrix(one, convention)).max() < 1e-6
        first = np.abs(one[outer[0]] + steps - true[outer[0]])
        second = np.abs(one[outer[1]] + (1 if same else -1) * steps - true[outer[1]])
        assert np.abs(difference[outer]).sum() == pytest.approx((first + second).min(), abs=0.02)
        assert abs(difference[middle]) == pytest.approx(abs(one[middle] - true[middle]), abs=1e-5)
        # No step where the prediction reaches 90 degrees.
        inside = one.copy()
        inside[middle] *= 1 - 1e-6
        near = rot.euler_difference(rot.to_matrix(inside, convention), rot.to_matrix(true, convention), convention)
        assert np.abs(near).sum() >= np.abs(difference).sum() - 1e-3


def test_to_ray_turns_the_axis_the_shortest_way():
    rng = np.random.default_rng(3)
    points = np.vstack((rng.normal([0, 0, 1000], 300, (50, 3)), [0, 0, 5.0]))
    turns = rot.to_ray(points)
    rays = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert turns[:, :, 2] == pytest.approx(rays)
    for turn, ray in zip(turns, rays, strict=True):
        vector = Rotation.from_matrix(turn).as_rotvec()
        assert vector[2] == pytest.approx(0, abs=1e-12)  # about an axis perpendicular to the optical one
        assert np.linalg.norm(vector) == pytest.approx(np.arccos(min(ray[2], 1.0)), abs=1e-7)
    assert rot.to_ray(points.reshape(17, 3, 3)) == pytest.approx(turns.reshape(17, 3, 3, 3))
