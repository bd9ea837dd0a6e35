"""The benchmark of growth, on a thousandth of the real size."""

import json

import numpy as np
import pytest

from benchmark.board import entries
from benchmark.studies.records import read_record
from benchmark.upkeep import bench_scale, scaled
from headposeplus import files
from headposeplus.datasets.dataset import labels_sha256, layout_of, open_dataset, read_angles
from headposeplus.datasets.info import NAMES
from headposeplus.raw import manifest, synhead
from headposeplus.raw.targets import STILLS
from headposeplus.verify.datasets import verify_data

SHARE = 0.001


@pytest.fixture(scope="module", autouse=True)
def hurried():
    """No file is waited for until the disk has it: there are many, and they need not outlive a crash."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_flush", lambda path: None)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = bench_scale.Scaled(tmp_path_factory.mktemp("scaled"), SHARE)
    scaled.write_scaled(made, seed=3)
    return made


def test_the_data_are_a_share_of_the_real_ones_and_are_read_as_a_build_s(place):
    copy = synhead.look_through(place.synhead)
    assert not copy.faults and len(copy.tracks) == 70 and len(copy.heads) == 10
    poses = sum(len(angles) for angles in copy.angles.values())
    frames = sum(len(row.numbers) for row in manifest.listed_sequences(manifest.read(place.manifest)).values())
    assert poses == 2 * 70 and frames == 2 * 24  # no fewer, however small the share
    datasets = {name: open_dataset(place.data / name) for name in NAMES if name not in STILLS}
    rows = {name: layout_of(dataset).rows for name, dataset in datasets.items()}
    assert rows["biwi+"] == frames and rows["synbiwi+"] == 10 * frames and 0.9 < rows["synhead+"] / (10 * poses) <= 1
    assert rows["synhead++"] == rows["synhead+"] + rows["synbiwi+"]
    for name, dataset in datasets.items():
        assert dataset.info.labels_sha256 == labels_sha256(dataset), name
    assert not verify_data(place.data, place.manifest).warnings
    # What SynBiwi+ says remains after the turn is what lies between its poses and those of Biwi+.
    angles = read_angles(datasets["synbiwi+"])[::10]
    off = np.abs(angles - read_angles(datasets["biwi+"])).mean()
    assert off == pytest.approx(datasets["synbiwi+"].info.residual.euler.after.mean, abs=0.05)


@pytest.mark.parametrize("name", bench_scale.TRIALS)
def test_each_trial_does_its_work(place, capsys, name):
    """Those that check data find no fault in them, else they would not end."""
    bench_scale.take(name, str(place.folder), SHARE, 3)
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    things = {
        "verify-raw": 1400, "plan": 1400, "padaco": 670, "pada-like": 670, "board": 1,
        "union": open_dataset(place.data / "synhead++").info.rows,
    }  # fmt: skip
    assert done["things"] == things.get(name, things["union"] + 48)
    assert done["seconds"] > 0 and 2e7 < done["peak_bytes"] < 2e10
    assert (done["made"] is None) == (name not in ("plan", "board"))
    if name == "board":
        assert len(entries.entries(place.board)) == 2 and done["made"] == (place.board / "index.html").stat().st_size
    elif name == "plan":
        assert 1_000 < done["made"] < 100_000


def test_a_fault_of_a_trial_is_found(place, tmp_path):
    """A check that found nothing in damaged data would measure nothing."""
    (tmp_path / "data").symlink_to(place.data)
    first, *others = manifest.read(place.manifest)
    manifest.write(tmp_path / "data_manifest.csv", [first._replace(mean_pitch=77.0), *others])
    with pytest.raises(AssertionError, match="sequence 01: mean pitch"):
        bench_scale.take("verify-data", str(tmp_path), SHARE, 3)


def test_bench_scale_from_the_command_line(tmp_path, hpp, monkeypatch):
    """With the one trial that needs no data: the others were done above."""
    written = []

    def write(place, seed):
        place.folder.mkdir()
        (place.folder / "a").touch()
        written.append((place, seed))

    monkeypatch.setattr(scaled, "write_scaled", write)
    monkeypatch.setattr(bench_scale, "TRIALS", {"padaco": bench_scale.TRIALS["padaco"]})
    text = hpp("bench", "scale", "--share", 0.002, "--repeats", 2, "--seed", 5, "--json", tmp_path / "a.json").output
    assert [(place.share, seed) for place, seed in written] == [(pytest.approx(0.0002), 5), (0.002, 5)]
    assert not any(place.folder.parent.exists() for place, _ in written)
    figures = read_record(tmp_path / "a.json", bench_scale.ScaleFigures, "figures")
    (measured,) = figures.trials
    tenth, full = measured.costs
    assert (tenth.things, full.things, full.made) == (134, 1340, None)
    assert len(tenth.seconds) == len(full.mib) == 2 and 20 < full.mib[0] < 1000
    assert "PADACO's weights" in text and "1,340 labels" in text and f"{measured.growth:.1f} (14)" in text


def test_growth_is_that_of_the_medians_as_if_tenfold():
    runs = [
        [bench_scale.Done(20, seconds, 3 * 2**20, 1_000) for seconds in (1.0, 5.0, 2.0)],
        [bench_scale.Done(160, seconds, 4 * 2**20, 230_000) for seconds in (17.0, 16.0, 1.0)],
    ]
    figures = bench_scale.ScaleFigures(
        toolkit="1",
        processor="one",
        seed=0,
        trials=[bench_scale.growth("board", runs), bench_scale.growth("plan", runs)],
    )
    assert figures.trials[0].growth == 10
    text = bench_scale.describe_scale(figures, "github")
    row = (
        "| add to a scoreboard | 160 entries | 2.00 (1.00 to 5.00) | 16.00 (1.00 to 17.00) | 10.0 (11) | 3 | 4 (400) |"
    )
    assert row in " ".join(text.split())
    assert "The first page has 0.23 MB (at most 1), at a tenth 0.00." in text and "of 3 runs" in text


def test_a_trial_that_fails_is_one_line(tmp_path, hpp, monkeypatch):
    monkeypatch.setattr(bench_scale, "TRIALS", {"none": bench_scale.TRIALS["padaco"]})
    monkeypatch.setattr(scaled, "write_scaled", lambda place, seed: None)
    output = hpp("bench", "scale", "--share", 0.001, "--repeats", 1, expect=1).output
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert lines == ["Error: PADACO's weights, 0.0001 of the real size: KeyError: 'none'"] and "Traceback" not in output
