import gc
import itertools
import shutil
import threading

import cv2
import h5py
import msgspec
import numpy as np
import pytest
import torch

from baselines.networks import IMAGE_MEAN, IMAGE_STD
from benchmark.loaders import compose, stores, stream
from benchmark.loaders import open as opening
from benchmark.loaders.memory import free_memory
from benchmark.loaders.open import GPU_SHARE, RAM_SHARE, STORES, choose, open_store
from benchmark.loaders.stream import StreamStore, _runs
from benchmark.training.draws import cumulative, draw, endless
from headposeplus.datasets.dataset import open_dataset, read_labels
from headposeplus.errors import DatasetError, TrainingError
from headposeplus.images import encode
from headposeplus.rotations import from_matrix
from tests.digests import sign

CPU = torch.device("cpu")
KINDS = STORES[1:]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    torch.set_num_threads(1)
    before = set(threading.enumerate())
    yield
    if (
        not set(threading.enumerate()) <= before
    ):  # what goes round in circles is only freed by a collection, which is slow
        gc.collect()
    assert set(threading.enumerate()) <= before


def by_h5py(folder, *names):
    """Return crops and packed masks (or None) of datasets, read without the toolkit."""
    crops, masks = [], []
    for path in (path for name in names for path in sorted((folder / name).glob("shard-*.h5"))):
        with h5py.File(path) as file:
            data, offset = file["image/bytes"][...], file["image/offset"][...]
            for start, end in itertools.pairwise(offset):
                crops.append(cv2.imdecode(data[start:end], cv2.IMREAD_COLOR)[..., ::-1])
            masks += list(file["mask/bits"][...]) if "mask" in file else []
    return np.stack(crops), np.stack(masks) if masks else None


def agree(batches, plan, crops, masks):
    """Check batches against the rows of a plan."""
    received = list(batches)
    assert len(received) == len(plan)
    for rows, (a, b) in zip(plan, received, strict=True):
        assert a.dtype == torch.uint8 and (a.numpy() == crops[rows]).all()
        assert (b is None) == (masks is None)
        assert b is None or (b.dtype == torch.uint8 and (b.numpy() == masks[rows]).all())


def tiny_windows(monkeypatch, draws=40):
    """Let a stream's windows hold a few draws; return the list that each read one is noted in."""
    read = []
    reading = StreamStore._read

    def noting(self, batches, stop):
        read.append(sum(len(rows) for rows in batches))
        return reading(self, batches, stop)

    monkeypatch.setattr(StreamStore, "_draws", lambda self: draws)
    monkeypatch.setattr(StreamStore, "_read", noting)
    return read


@pytest.mark.parametrize("name", ["biwi+", "synbiwi+", "synhead++"])
def test_all_stores_give_the_rows_of_the_plan(built, monkeypatch, name):
    folder, _ = built
    crops, masks = by_h5py(folder, *(("synhead+", "synbiwi+") if name == "synhead++" else (name,)))
    rng = np.random.default_rng(0)
    plan = [rng.integers(0, len(crops), size) for size in (20, 1, 33, 20, 7, 20, 50)]
    plan += [np.array([3, 3, 0, len(crops) - 1, 3]), np.zeros(0, np.int64), np.arange(len(crops))[::-1].copy()]
    dataset = open_dataset(folder / name)
    for kind in KINDS:
        store = open_store(dataset, CPU, kind, threads=2)
        assert (store.kind, store.size, len(store)) == (kind, 32, len(crops))
        agree(store.batches(plan), plan, crops, masks)
        agree(store.batches(iter(plan)), plan, crops, masks)
        agree([store.gather(plan[2])], plan[2:3], crops, masks)
        assert not list(store.batches([]))
    read = tiny_windows(monkeypatch)
    agree(store.batches(plan), plan, crops, masks)
    assert len(read) > 4 and sum(read) == sum(map(len, plan)) and max(read[:-1]) <= 53


def test_long_runs_and_gaps_are_read_alike(built, monkeypatch):
    folder, _ = built
    crops, masks = by_h5py(folder, "synhead+")
    dataset = open_dataset(folder / "synhead+")
    plan = [np.random.default_rng(i).permutation(len(crops))[:90] for i in range(2)]
    store = open_store(dataset, CPU, "stream")
    counts = []
    for gap, run in ((0, 1), (0, 1 << 20), (2000, 1 << 20), (1 << 20, 3000), (1 << 20, 1 << 20)):
        monkeypatch.setattr(stream, "_GAP", gap)
        monkeypatch.setattr(stream, "_RUN", run)
        agree(store.batches(plan), plan, crops, masks)
        counts.append(len(_runs(np.array([0, 1, 2, 5, 9]), store._offsets[0])))
    assert counts[0] == 5 and counts[1] == 3 and counts[-1] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_several_iterators_at_once_and_abandoned_ones(built, monkeypatch, kind):
    folder, _ = built
    tiny_windows(monkeypatch)
    crops, masks = by_h5py(folder, "synbiwi+")
    store = open_store(open_dataset(folder / "synbiwi+"), CPU, kind, threads=2)
    plans = [[np.random.default_rng([i, j]).integers(0, len(crops), 16) for j in range(9)] for i in range(2)]
    first, second = (store.batches(plan) for plan in plans)
    pairs = list(zip(first, second, strict=True))
    for plan, batches in zip(plans, zip(*pairs, strict=True), strict=True):
        agree(batches, plan, crops, masks)

    before = threading.active_count()
    unending = endless(np.random.default_rng(0), len(store), 16)
    abandoned, never_begun = store.batches(unending), store.batches(plans[0])
    next(abandoned), next(abandoned)
    del abandoned, never_begun
    assert threading.active_count() == before
    agree(store.batches(plans[0]), plans[0], crops, masks)


def test_what_is_given_stays_as_it_is(built, monkeypatch):
    folder, _ = built
    tiny_windows(monkeypatch)
    for kind in KINDS:
        store = open_store(open_dataset(folder / "synbiwi+"), CPU, kind)
        plan = [np.arange(i, i + 20) for i in range(0, 200, 20)]
        given = [(crops, crops.clone()) for crops, _ in store.batches(plan)]
        assert all(torch.equal(a, b) for a, b in given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_there_is_not(built, kind):
    store = open_store(open_dataset(built[0] / "biwi+"), CPU, kind)
    for row in (48, -1):
        with pytest.raises(IndexError, match=f"rows 0 to 48 of 48|rows {row} to 0 of 48"):
            list(store.batches([np.array([0, row])]))


def damage(folder, kind):
    path = folder / "shard-00001-of-00004.h5"
    if kind == "no file":
        path.unlink()
    elif kind == "no hdf5":
        path.write_bytes(b"half")
    else:
        with h5py.File(path, "r+") as file:
            if kind == "no field":
                del file["image/bytes"]
            elif kind == "few rows":
                offset = file["image/offset"][:-1]
                del file["image/offset"]
                file["image/offset"] = offset
            elif kind == "other size":
                data = encode(np.zeros((16, 16, 3), np.uint8), lossless=True)
                file["image/bytes"][: len(data)] = data
            else:
                file["image/bytes"][...] = 0
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["no file", "no hdf5", "no field", "few rows", "other size", "zeros"])
def test_a_damaged_shard_is_named_to_whoever_asks(built, tmp_path, monkeypatch, kind, fault):
    tiny_windows(monkeypatch, draws=8)
    folder = shutil.copytree(built[0] / "biwi+", tmp_path / "biwi+")
    dataset = open_dataset(folder)
    plan = [np.arange(i, i + 4) for i in range(0, 48, 4)]
    store = None
    if kind == "stream":
        store = open_store(dataset, CPU, kind, threads=2)
        assert len(list(store.batches(plan))) == 12
    path = damage(folder, fault)
    given = []
    says = "is missing; build again" if fault == "no file" else r"(damaged|not as a build writes it).*delete it"
    with pytest.raises(DatasetError, match=says) as error:
        store = store or open_store(dataset, CPU, kind, threads=2)
        if fault == "few rows":  # seen when the store is opened
            store = open_store(dataset, CPU, kind, threads=2)
        for crops, _ in store.batches(plan):
            given.append(crops)
    assert str(path) in str(error.value) and len(given) <= 6


def test_auto_takes_the_fastest_that_fits(built, monkeypatch):
    dataset = open_dataset(built[0] / "synbiwi+")
    needed = 480 * (32 * 32 * 3 + 32 * 32 // 8)

    def chosen(device, memory, gpu=0):
        monkeypatch.setattr(opening, "free_memory", lambda: int(memory))
        monkeypatch.setattr(opening, "free_device_memory", lambda device: int(gpu))
        return choose(dataset, torch.device(device))

    enough, too_little = needed / RAM_SHARE + 2, needed / RAM_SHARE - 2
    gpu_enough, gpu_too_little = needed / GPU_SHARE + 2, needed / GPU_SHARE - 2
    assert chosen("cpu", enough) == "device"
    assert open_store(dataset, CPU).kind == "device"
    assert chosen("cpu", too_little, gpu_enough) == "stream"
    assert open_store(dataset, CPU).kind == "stream"
    assert chosen("cuda", too_little, gpu_enough) == "device"
    assert chosen("cuda", enough, gpu_too_little) == "host"
    assert chosen("cuda", too_little, gpu_too_little) == "stream"


@pytest.mark.parametrize("name", ["biwi+", "synhead++"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.98])
def test_what_fits_is_held_decoded_where_not_all_does(built, monkeypatch, capsys, name, share):
    folder, _ = built
    crops, masks = by_h5py(folder, *(("synhead+", "synbiwi+") if name == "synhead++" else (name,)))
    dataset = open_dataset(folder / name)
    needed = crops.nbytes + (0 if masks is None else masks.nbytes)
    monkeypatch.setattr(opening, "free_memory", lambda: int(share * needed / RAM_SHARE))
    store = open_store(dataset, CPU, threads=2)
    told = capsys.readouterr().err
    assert store.kind == "stream" and store.held == pytest.approx(share * len(crops), abs=1)
    assert told.startswith(f"{name}: its crops take")
    assert f"{store.held / len(crops):.0%} of them are held decoded" in told
    read = tiny_windows(monkeypatch)
    wanted = set()
    reading = StreamStore._read

    def noting(self, batches, stop):
        window = reading(self, batches, stop)
        wanted.update(window.rows.tolist())
        return window

    monkeypatch.setattr(StreamStore, "_read", noting)
    rng = np.random.default_rng(0)
    plan = [rng.integers(0, len(crops), size) for size in (20, 1, 33, 20, 7)]
    plan += [np.arange(store.held)[:9], np.arange(store.held, len(crops))[:9], np.zeros(0, np.int64)]
    agree(store.batches(plan), plan, crops, masks)
    drawn = set(np.concatenate(plan).tolist())
    assert read and wanted == {row for row in drawn if row >= store.held}
    assert open_store(dataset, CPU, "stream").held == 0  # who asks for it by name has none held


def test_free_memory_is_that_of_the_machine_or_its_container():
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    assert 1 << 20 < free_memory() < total


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "1000", "memory.current": "600", "memory.stat": "anon 1\ninactive_file 50"}, 450),
        ("0::/\n", {"memory.max": "1000", "memory.current": "2000", "memory.stat": "inactive_file 0"}, 0),
        ("0::/\n", {"memory.max": "max", "memory.current": "2000", "memory.stat": "inactive_file 0"}, 8_000 << 10),
        ("0::/slurm/job_1\n", {"slurm/memory.max": "9000", "slurm/memory.current": "1000",
                               "slurm/memory.stat": "inactive_file 10"}, 8_010),
        ("4:memory:/job\n0::/\n",
         {"memory/job/memory.limit_in_bytes": "9000", "memory/job/memory.usage_in_bytes": "4000",
          "memory/job/memory.stat": "total_inactive_file 500"}, 5_500),
    ],
)  # fmt: skip
def test_free_memory_is_what_a_control_group_leaves(tmp_path, groups, files, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert free_memory(tmp_path) == expected


def test_a_long_decode_shows_how_far_it_is(built, monkeypatch, capfd):
    dataset = open_dataset(built[0] / "biwi+")
    open_store(dataset, CPU)
    assert "decode" not in capfd.readouterr().err
    monkeypatch.setattr(stores, "PROGRESS_FROM", 48)
    open_store(dataset, CPU)
    assert "decode: 48 of 48 crops in " in capfd.readouterr().err


def test_datasets_that_cannot_be_opened(built, tmp_path):
    dataset = open_dataset(built[0] / "biwi+")
    bare = dataset._replace(info=msgspec.structs.replace(dataset.info, shards=[]))
    with pytest.raises(DatasetError, match=r"biwi\+: the dataset is empty"):
        open_store(bare, CPU)


def test_a_target_has_no_labels(built, tmp_path):
    folder = shutil.copytree(built[0] / "biwi+", tmp_path / "biwi+")
    for path in folder.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            del file["label"]
    sign(folder)
    for kind in KINDS:
        target = compose.load_target(open_dataset(folder), CPU, kind)
        assert target._fields == ("store", "ids") and len(target.ids) == len(target.store) == 48
        assert target.ids[0].startswith("biwi/")
    with pytest.raises(DatasetError, match="damaged"):
        compose.load_source(open_dataset(folder), CPU)


def composed_by_hand(source, seed, rows, epoch):
    """Return the images (n, 3, s, s) of rows, float64, pixel by pixel as the documentation says."""
    crops, masks = source.store.gather(rows)
    size = source.store.size
    images = np.empty((len(rows), size, size, 3))
    for i, row in enumerate(rows):
        draws = compose.keyed_random(seed, epoch, np.array([row]), 3)[0]
        head = np.unpackbits(masks[i].numpy())[: size * size].reshape(size, size) == 1
        if len(source.backgrounds):
            top, left = int(draws[1] * (size + 1)), int(draws[2] * (size + 1))
            behind = source.backgrounds[int(draws[0] * len(source.backgrounds))]
            behind = behind[top : top + size, left : left + size]
        else:
            behind = np.broadcast_to((draws * 256).astype(np.uint8), (size, size, 3))
        images[i] = np.where(head[..., None], crops[i].numpy(), behind)
    return ((images / 255 - IMAGE_MEAN) / IMAGE_STD).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("backgrounds", [True, False])
def test_batches_are_composed_as_by_hand_under_every_store(built, backgrounds, monkeypatch):
    tiny_windows(monkeypatch)
    folder, _ = built
    dataset = open_dataset(folder / "synhead++")
    rows = np.array([0, 5, 17, 17, 700, 3])
    composed = []
    for kind in KINDS:
        source = compose.load_source(dataset, CPU, kind)
        rows[-1] = len(source.store) - 1
        if not backgrounds:
            source = source._replace(backgrounds=source.backgrounds[:0])
        composer = compose.Composer(source, CPU, seed=1)
        crops, masks = source.store.gather(rows)
        images, angles = composer.source(rows, crops, masks, epoch=2)
        assert images.shape == (6, 3, 32, 32) and images.dtype == angles.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.numpy() == pytest.approx(composed_by_hand(source, 1, rows, 2), abs=1e-5)
        assert angles.numpy() == pytest.approx(source.angles[rows], abs=1e-4)
        assert torch.equal(images[2], images[3])  # what is behind a head depends on it and the epoch alone
        assert not torch.equal(composer.source(rows, crops, masks, epoch=3)[0], images)
        assert not torch.equal(compose.Composer(source, CPU, 2).source(rows, crops, masks, 2)[0], images)
        draws = compose.keyed_random(1, 2, rows, 3)
        on_cpu, on_gpu = (f(draws, crops, masks) for f in (composer._compose_on_cpu, composer._compose_on_gpu))
        assert torch.equal(on_cpu, on_gpu)
        target = composer.target(crops)
        expected = (crops.numpy() / 255 - IMAGE_MEAN) / IMAGE_STD
        assert target.permute(0, 2, 3, 1).numpy() == pytest.approx(expected, abs=1e-5)
        composed.append(images)
    assert torch.equal(composed[0], composed[1]) and torch.equal(composed[0], composed[2])
    _, labels = read_labels(dataset)
    assert source.angles == pytest.approx(from_matrix(labels), abs=1e-9)
    # Mask and crop are aligned: the colours inside are the head's own, those outside were bled.
    assert 0.2 < np.mean(np.unpackbits(masks[0].numpy())[: 32 * 32]) < 0.95


def test_images_stay_as_they_are_when_others_are_made(built):
    source = compose.load_source(open_dataset(built[0] / "synbiwi+"), CPU)
    composer = compose.Composer(source, CPU, seed=0)
    kept = []
    for start in range(0, 200, 20):
        rows = np.arange(start, start + 20)
        images, _ = composer.source(rows, *source.store.gather(rows), 0)
        kept += [(images, images.clone()), (images[:3], images[:3].clone())]
        target = composer.target(source.store.gather(rows)[0])
        kept.append((target, target.clone()))
        if start % 40:
            del kept[0], images, target
    assert all(torch.equal(a, b) for a, b in kept)


def test_keyed_random_depends_on_its_keys_alone():
    numbers = compose.keyed_random(3, 5, np.arange(20_000), 3)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert numbers.mean(axis=0) == pytest.approx([0.5] * 3, abs=0.01)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(3)).max() < 0.03
    assert np.abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.03
    some = np.array([7, 3, 19_999])
    assert (compose.keyed_random(3, 5, some, 3) == numbers[some]).all()
    for seed, epoch in ((4, 5), (3, 6)):
        others = compose.keyed_random(seed, epoch, np.arange(20_000), 1)[:, 0]
        assert np.abs(np.corrcoef(others, numbers[:, 0])[0, 1]) < 0.03


def test_sampler_draws_by_the_stated_probabilities():
    probabilities = np.array([0, 0.5, 0, 0.25, 0.25, 0])
    summed = cumulative(probabilities)
    drawn = draw(np.random.default_rng(0), summed, 20_000)
    assert np.bincount(drawn, minlength=6) / 20_000 == pytest.approx(probabilities, abs=0.012)
    assert (drawn == np.random.default_rng(0).choice(6, 20_000, p=probabilities)).all()
    assert (cumulative(probabilities * 7) == summed).all()
    batches = endless(np.random.default_rng(0), 7, 3)
    seen = np.concatenate([next(batches) for _ in range(7)])
    assert (np.bincount(seen) == 3).all()
    with pytest.raises(TrainingError, match="lower `batch`"):
        next(endless(np.random.default_rng(0), 7, 8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_stores_on_a_gpu(built, monkeypatch, kind):
    tiny_windows(monkeypatch)
    folder, _ = built
    dataset, device = open_dataset(folder / "synhead++"), torch.device("cuda")
    source, on_cpu = compose.load_source(dataset, device, kind), compose.load_source(dataset, CPU, "device")
    composers = compose.Composer(source, device, 1), compose.Composer(on_cpu, CPU, 1)
    plan = [np.random.default_rng(i).integers(0, len(source.store), 33) for i in range(40)]
    kept = []
    for rows, batch, expected in zip(plan, source.store.batches(plan), on_cpu.store.batches(plan), strict=True):
        assert batch[0].device.type == batch[1].device.type == "cuda"
        torch.cuda._sleep(1_000_000)  # the device falls behind, so a buffer used again too early would show
        images, angles = composers[0].source(rows, *batch, 3)
        kept.append((batch, expected, images, angles, *composers[1].source(rows, *expected, 3)))
    for batch, expected, images, angles, images_on_cpu, angles_on_cpu in kept:
        assert torch.equal(batch[0].cpu(), expected[0]) and torch.equal(batch[1].cpu(), expected[1])
        assert torch.allclose(images.cpu(), images_on_cpu, atol=1e-5) and torch.equal(angles.cpu(), angles_on_cpu)
    before = threading.active_count()
    abandoned = source.store.batches(endless(np.random.default_rng(0), len(source.store), 16))
    next(abandoned)
    del abandoned
    assert threading.active_count() == before
