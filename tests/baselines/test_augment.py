import numpy as np
import pytest
import torch
from scipy import ndimage

from baselines import augment as augmenting
from baselines.augment import DRAWS, STRENGTHS
from benchmark.loaders import compose
from benchmark.loaders.stores import check_rows
from headposeplus.datasets.dataset import open_dataset
from headposeplus.errors import TrainingError

CPU = torch.device("cpu")
KINDS = ("device", "host", "stream")
SIZE, COUNT = 20, 6

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def draws():
    return np.random.default_rng(0).random((COUNT, DRAWS))


@pytest.fixture
def images():
    """Smooth images, as crops are, and float64 for the independent way."""
    noise = np.random.default_rng(1).random((COUNT, 3, SIZE, SIZE))
    return ndimage.gaussian_filter(noise, (0, 0, 1, 1)) * 2 - 0.5


def changed(draws, kind, images):
    change = augmenting.change_of(draws, CPU)
    return augmenting.augment(torch.from_numpy(images).float(), change, kind).double().numpy()


def other_boxes(draws, images):
    """The crops of shifted and scaled boxes by SciPy: pixel i lies (i + 0.5) / s along the side."""
    out = np.empty_like(images)
    for image, row, into in zip(images, draws, out, strict=True):
        x, y, scale = 0.05 * (2 * row[11] - 1), 0.05 * (2 * row[12] - 1), 1 + 0.05 * (2 * row[7] - 1)
        places = [(((np.arange(SIZE) + 0.5) / SIZE - 0.5) * scale + 0.5 + shift) * SIZE - 0.5 for shift in (y, x)]
        for channel in range(3):
            grid = np.meshgrid(*places, indexing="ij")
            into[channel] = ndimage.map_coordinates(image[channel], grid, order=1, mode="reflect")
    return out


def splitmix(x):
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def noise_of(seed, size):
    """The noise (3, s, s) of a seed with unsigned numbers: two words of eight bytes for four values."""
    words = -(-3 * size * size // 4)
    first = splitmix(np.uint64(seed) + np.arange(1, words + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    sums = sum(word.astype("<u8").view(np.uint8).reshape(words, 4, 2).sum(axis=2) for word in (first, splitmix(first)))
    return (sums.ravel()[: 3 * size * size].reshape(3, size, size) - 510.0) / np.sqrt(4 * (256**2 - 1) / 12)


def photographed(draws, images):
    """Light, lens, tones and noise, image by image."""
    out = np.empty_like(images)
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE * 2 - 1
    for given, row, into in zip(images, draws, out, strict=True):
        brightness, contrast, gamma, blur, deviation, turn, strength = row[:7]
        light = 0.4 * strength * (np.cos(2 * np.pi * turn) * x + np.sin(2 * np.pi * turn) * y)
        gain = (1 + 0.25 * (2 * brightness - 1)) * (1 + 0.1 * (2 * row[8:11] - 1))
        lit = given * (1 + light) * gain[:, None, None]
        lens = {"sigma": max(blur * SIZE / 32, 1e-3), "radius": int(np.ceil(2 * SIZE / 32)), "mode": "mirror"}
        soft = ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(lit, axis=1, **lens), axis=2, **lens)
        spread = soft.mean() + (0.7 + 0.6 * contrast) * (soft - soft.mean())
        toned = np.clip(spread, 0, 1) ** (0.7 + 0.7 * gamma)
        into[:] = np.clip(toned + 0.04 * deviation * noise_of(int(row[13] * 2**53), SIZE), 0, 1)
    return out


def test_boxes_are_other_crops_of_the_same_image(draws, images):
    images = np.clip(images, 0, 1)
    expected = other_boxes(draws, images)
    assert np.abs(expected - images).max() > 0.1
    assert changed(draws, "boxes", images) == pytest.approx(expected, abs=1e-5)


def test_a_jittered_crop_is_the_crop_of_a_jittered_box():
    """Of an image that linear interpolation reproduces, inside the border."""
    y, x = np.mgrid[:200, :200] / 200
    raw = np.stack((x, y, (x + y) / 2))
    side, left, top = 80, 50, 60
    draws = np.random.default_rng(3).random((1, DRAWS))
    shift, scale = 0.05 * (2 * draws[0, 11:13] - 1), 1 + 0.05 * (2 * draws[0, 7] - 1)

    def crop(middle, side):
        places = [(np.arange(SIZE) + 0.5) / SIZE * side - side / 2 + at - 0.5 for at in middle[::-1]]
        grid = np.meshgrid(*places, indexing="ij")
        return np.stack([ndimage.map_coordinates(channel, grid, order=1) for channel in raw])

    middle = np.array([left + side / 2, top + side / 2])
    expected = crop(middle + shift * side, side * scale)
    found = changed(draws, "boxes", crop(middle, side)[None])[0]
    assert found[:, 2:-2, 2:-2] == pytest.approx(expected[:, 2:-2, 2:-2], abs=1e-5)


def test_light_lens_tones_and_noise_are_as_computed_by_hand(draws, images):
    expected = photographed(draws, images)
    assert changed(draws, "photometric", images) == pytest.approx(expected, abs=2e-5)
    both = photographed(draws, other_boxes(draws, images))
    assert changed(draws, "all", images) == pytest.approx(both, abs=2e-5)
    assert (changed(draws, "none", images) == np.float32(images)).all()


@pytest.mark.parametrize("end", [0.0, 1 - 2.0**-53])
def test_draws_reach_the_strengths_and_no_further(end):
    change = augmenting.change_of(np.full((1, DRAWS), end), CPU)
    sign = 1 if end else -1
    assert change.gain.numpy() == pytest.approx(np.full((1, 3), (1 + sign * 0.25) * (1 + sign * 0.1)))
    assert float(change.light.norm()) == pytest.approx(0.4 if end else 0)
    assert float(change.contrast) == pytest.approx(1.3 if end else 0.7)
    assert float(change.gamma) == pytest.approx(1.4 if end else 0.7)
    assert float(change.blur) == pytest.approx(STRENGTHS.blur if end else 0)
    assert float(change.noise) == pytest.approx(0.04 if end else 0)
    assert change.box.numpy() == pytest.approx(np.array([[sign * 0.05, sign * 0.05, 1 + sign * 0.05]]))


def test_noise_is_nearly_normal_and_of_each_pixel_alone():
    noise = augmenting.keyed_noise(torch.arange(40), 33).numpy()
    assert noise[7] == pytest.approx(noise_of(7, 33), abs=1e-6)
    assert noise.mean() == pytest.approx(0, abs=0.01) and noise.std() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean() == pytest.approx(2.7, abs=0.05)  # of a normal one 3, of a uniform one 1.8
    flat = noise.reshape(40, -1)
    neighbours = [np.corrcoef(flat[:, :-lag].ravel(), flat[:, lag:].ravel())[0, 1] for lag in (1, 33, 33 * 33)]
    assert np.abs(neighbours).max() < 0.02 and np.abs(np.corrcoef(flat) - np.eye(40)).max() < 0.08
    assert (augmenting.keyed_noise(torch.tensor([7]), 33).numpy() == noise[7:8]).all()


def test_no_such_kind():
    with pytest.raises(TrainingError, match="unknown `augment` 'light': expected one of none, photometric, boxes, all"):
        augmenting.check("light")


@pytest.fixture
def source(built):
    return compose.load_source(open_dataset(built[0] / "synhead++"), CPU)


def test_every_store_order_batch_and_number_of_threads_gives_the_same_images(built):
    dataset = open_dataset(built[0] / "synhead++")
    rows = np.array([0, 5, 17, 700, 3, 900])
    order = np.array([4, 0, 5, 2, 1, 3])
    seen = {}
    for kind in KINDS:
        source = compose.load_source(dataset, CPU, kind)
        check_rows(rows, len(source.store))
        composer = compose.Composer(source, CPU, seed=1)
        seen[kind], angles = composer.source(rows, *source.store.gather(rows), 2, "all")
        assert angles.numpy() == pytest.approx(source.angles[rows], abs=1e-4)
        assert seen[kind].is_contiguous(memory_format=torch.channels_last) and seen[kind].dtype == torch.float32
    assert torch.equal(seen["device"], seen["host"]) and torch.equal(seen["device"], seen["stream"])
    torch.set_num_threads(2)
    mixed = composer.source(rows[order], *source.store.gather(rows[order]), 2, "all")[0]
    assert torch.allclose(mixed, seen["device"][torch.from_numpy(order)], atol=1e-5)
    alone = torch.cat([composer.source(rows[[i]], *source.store.gather(rows[[i]]), 2, "all")[0] for i in range(6)])
    assert torch.allclose(alone, seen["device"], atol=1e-5)
    for other in (
        composer.source(rows, *source.store.gather(rows), 3, "all")[0],
        compose.Composer(source, CPU, seed=2).source(rows, *source.store.gather(rows), 2, "all")[0],
    ):
        assert (other - seen["device"]).abs().mean() > 0.1


def test_without_augmentation_images_are_those_of_before(source):
    rows = np.arange(0, 900, 100)
    composer = compose.Composer(source, CPU, seed=1)
    crops, masks = source.store.gather(rows)
    draws = compose.keyed_random(1, 2, rows, 3)
    lines = composer._compose_on_cpu(draws, crops, masks).flatten(2).float()
    expected = torch.addcmul(composer._shift, lines, composer._scale).view(crops.shape).permute(0, 3, 1, 2)
    assert torch.equal(composer.source(rows, crops, masks, 2)[0], expected)
    # The same background is behind an augmented head: the draws of the augmentation come after its own.
    longer = compose.keyed_random(1, 2, rows, 3 + DRAWS)
    assert (longer[:, :3] == draws).all()
    by_hand = composer._augment(composer._compose_on_cpu(draws, crops, masks), longer[:, 3:], "all")
    augmented = composer.source(rows, crops, masks, 2, "all")[0]
    lines = by_hand.reshape(len(rows), 32, 96)
    again = torch.addcmul(composer._shift, lines, composer._scale).view(crops.shape).permute(0, 3, 1, 2)
    assert torch.allclose(augmented, again, atol=1e-6) and (augmented - expected).abs().mean() > 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_images(draws, images):
    on_cpu = changed(draws, "all", images)
    device = torch.device("cuda")
    there = torch.from_numpy(images).float().to(device)
    found = augmenting.augment(there, augmenting.change_of(draws, device), "all").cpu().double().numpy()
    assert found == pytest.approx(on_cpu, abs=2e-5)
