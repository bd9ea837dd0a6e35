import functools
import json
import shutil
import signal

import msgspec
import pytest

from benchmark.upkeep import bench_build, bench_score, bench_start, bench_step, bench_train, readme
from headposeplus.datasets.dataset import open_dataset, read_fields
from headposeplus.raw import synhead


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench_build, "SCALE", "tiny")
    monkeypatch.setattr(bench_build, "SEQUENCES", ("01", "06", "15"))
    monkeypatch.setattr(bench_build, "REPEATED", 2)
    monkeypatch.setattr(bench_build, "MATCHED", (50, 200))
    monkeypatch.setattr(bench_build, "cores", lambda: 1)
    monkeypatch.setattr(bench_build.render_order, "IMAGES", 240)
    assert bench_build.Options().size == 224
    monkeypatch.setattr(bench_build, "Options", functools.partial(bench_build.Options, size=64))


@pytest.mark.slow
def test_bench_build_measures_what_it_says(small, tiny, tmp_path, hpp):
    shutil.copytree(tiny, tmp_path / "raw")  # the miniature of this scale and seed, which is not written again
    text = hpp("bench", "build", tmp_path, "--repeats", 2, "--json", tmp_path / "build.json").output
    record = json.loads((tmp_path / "build.json").read_text())
    raw = tmp_path / "raw"
    copy = synhead.look_through(raw / "synhead2_release")
    assert {len(angles) for angles in copy.angles.values()} == {20, 16} and not copy.faults
    # 36 frames, two SynBiwi+ images for each, and of SynHead's poses, all twice, those that show a face.
    assert 36 + 72 < record["crops"] <= 36 + 72 + 2 * 2 * (4 * 10 + 5 * 8)
    [run] = record["runs"]
    assert run["processes"] == 1 and len(run["build_seconds"]) == len(run["bare_seconds"]) == 2
    for i in range(2):
        assert run["ratios"][i] == pytest.approx(run["bare_seconds"][i] / run["build_seconds"][i], abs=0.05)
        assert run["opencv_ratios"][i] == pytest.approx(run["opencv_seconds"][i] / run["build_seconds"][i], abs=0.05)
    assert 50 < run["peak_mib_of_a_process"] < 5000
    assert len(record["shares"]) == 3 and min(record["shares"].values()) > 0 and sum(record["shares"].values()) < 1.2
    assert f"{record['crops']:,} crops of 64 pixels" in text and "of 2 rounds" in " ".join(text.split())
    assert f"({min(run['ratios']):.2f} to {max(run['ratios']):.2f})" in text
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize(
    ("ratios", "says"),
    [
        ([0.96, 0.97], "All reach the aim."),
        ([0.96, 0.94], "The aim is not reached by 2 processes."),
        ([0.51, 0.80], "The aim is not reached by any of them."),
    ],
)
def test_an_aim_that_is_missed_is_said(ratios, says):
    kept = readme._bench("build", bench_build.BuildFigures)
    runs = [msgspec.structs.replace(run, ratios=[one]) for run, one in zip(kept.runs, ratios, strict=True)]
    text = bench_build.describe_build(msgspec.structs.replace(kept, runs=runs), "github")
    assert f"median that of the rounds' ratios. {says} " in text


def test_a_stage_that_misses_the_aim_is_said():
    kept = readme._bench("train", bench_train.TrainFigures)
    stages = [msgspec.structs.replace(kept.stages[0], ratio=0.944), msgspec.structs.replace(kept.stages[1], ratio=0.95)]
    text = bench_train.describe_train(msgspec.structs.replace(kept, stages=stages))
    assert "The aim is not reached by stage 1. " in " ".join(text.split())


def test_on_a_gpu_each_aim_that_is_missed_is_said():
    kept = readme._bench("train-gpu-device", bench_train.TrainFigures)
    fast = [msgspec.structs.replace(stage, images_a_second=[12_000.0], ratio=0.966, idle=0.03) for stage in kept.stages]

    def told(**changed):
        stages = [msgspec.structs.replace(fast[0], **changed), fast[1]]
        return bench_train.describe_on_gpu({"device": msgspec.structs.replace(kept, stages=stages)})

    reached, missed = "All reach the aim.", "The aim is not reached by device in stage 1."
    assert told().count(reached) == 3
    for aim, changed in (
        ("Images a second", {"images_a_second": [11_999.0]}),
        ("Ratio", {"ratio": 0.964}),
        ("Time without a step", {"idle": 0.031}),
    ):
        assert f"{aim}: {missed}" in told(**changed) and told(**changed).count(reached) == 2


def test_bare_work_is_with_the_builds_decoder_or_without_it(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(bench_build.cv2, "imdecode", lambda *given: asked.append(1))
    data = next(tiny.glob("hpdb/01/*_rgb.png")).read_bytes()
    bench_build._decode(data, opencv=False)
    assert not asked
    bench_build._decode(data, opencv=True)
    assert asked


def test_the_bare_pass_reads_the_file_of_each_row(built, tiny):
    out, _ = built
    tasks = bench_build.bare_tasks(out, tiny)
    rows = sum(open_dataset(out / name).info.rows for name in ("biwi+", "synhead+", "synbiwi+"))
    assert sum(len(task.files) for task in tasks) == rows
    assert all(path.exists() for task in tasks for path in task.files)
    fields = next(read_fields(open_dataset(out / "synhead+"), "id"))
    group, head, track, row = str(fields["id"][3]).split("/")[1:]
    first = next(task for task in tasks if task.shard == out / "synhead+/shard-00000-of-00040.h5")
    assert first.files[3] == tiny / "synhead2_release" / group / head / track / f"{int(row):02d}.png"


@pytest.mark.slow
def test_bench_score_measures_a_submission_of_real_size(tmp_path, hpp):
    labels = bench_score.random_labels(0)
    assert len(labels.ids) == 15_678 and len(set(labels.subjects)) == 20
    checked = bench_score.check(
        *bench_score.submission_bytes(labels, 0), bench_score.protocols.reference(None, labels, "cross")
    )
    assert checked.faults == checked.suspicions == []
    text = hpp("bench", "score", "--repeats", 1, "--json", tmp_path / "score.json").output
    record = json.loads((tmp_path / "score.json").read_text())
    assert (record["frames"], record["resamples"], record["cores"]) == (15_678, 2_000, 1)
    total = record["seconds"]["check"][0] + record["seconds"]["score"][0]
    assert f"all metrics, 2,000 resamples: {total:.2f} s on one core (at most 1)" in text


def test_bench_start_measures_commands_in_turn(hpp, tmp_path, monkeypatch):
    few = [one for one in bench_start.COMMANDS if one.words.split()[0] in ("methods", "score")]
    figures = bench_start.bench_start(few, rounds=2)
    assert [(one.command, one.aim) for one in figures.commands] == [("methods", 0.3), ("score", 0.6)]
    for one in figures.commands:
        assert len(one.seconds) == len(one.cpu_seconds) == 2 and min(one.cpu_seconds) > 0.01
        assert 10 < min(one.mebibytes) < 500  # torch alone takes more
    text = bench_start.describe_start(figures)
    assert f"{min(figures.commands[1].seconds):.2f} to {max(figures.commands[1].seconds):.2f}" in text
    with pytest.raises(RuntimeError, match="hpp nothing: exit status 2"):
        bench_start.bench_start([bench_start.Timed("nothing", 1)], rounds=1)


@pytest.mark.slow
def test_bench_step_takes_the_same_steps_in_two_ways(hpp, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_step, "ROUNDS", 1)
    monkeypatch.setattr(bench_step, "SMALL", (32, 8))
    monkeypatch.setattr(bench_step, "LARGE", (32, 2))
    monkeypatch.setattr(bench_step, "cores", lambda: 1)
    monkeypatch.setattr(bench_step, "_BUSY", "import time; time.sleep(600)")  # the figures are not looked at
    text = hpp("bench", "step", "--seconds", "0.05", "--json", tmp_path / "step.json").output
    record = json.loads((tmp_path / "step.json").read_text())
    assert [one["what"] for one in record["compared"]] == [
        "stage 2 while lambda is 0", "ResNet18 at 224 pixels", "beside a busy program on each core"
    ]  # fmt: skip
    for one in record["compared"]:
        (before,), (after,) = one["before"], one["after"]
        assert min(before, after) > 0 and f"{after / before:.2f}" in text


def test_a_busy_program_computes_all_the_time():
    """A clock that counts the time of the processor alone gets on."""

    def over(number, frame):
        raise TimeoutError("it computed")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.05)
    try:
        with pytest.raises(TimeoutError, match="it computed"):
            exec(bench_step._BUSY)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
