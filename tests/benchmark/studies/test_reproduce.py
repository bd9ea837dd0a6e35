import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmark.scoring import selection
from benchmark.scoring.submission import read_submission
from benchmark.studies import records, reproduce, runs
from benchmark.studies.page import write_page
from benchmark.studies.runs import OUTPUT, expected_lines, plan, run_side_by_side
from benchmark.training import presets
from benchmark.training.job import PREDICTIONS
from benchmark.training.predictions import STATISTICS
from benchmark.training.presets import PRESETS
from headposeplus.datasets.dataset import open_dataset
from headposeplus.errors import HeadposeError, TrainingError
from headposeplus.tasks import fork_server

ROOT = Path(__file__).resolve().parents[3]
ARGUMENTS = {"scale": "tiny", "preset": "trial", "device": "cpu", "jobs": 2, "threads": 1}
METHODS = ["source-only", "padaco"]


@pytest.fixture(scope="module", autouse=True)
def smaller():
    """A trial preset with fewer steps: what is tested here is what happens to runs, not how they train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "trial", PRESETS["trial"]._replace(epoch_samples=40, stage1_epochs=2))
        yield


@pytest.fixture(scope="module")
def table(built, tmp_path_factory, smaller):
    """The results of two methods with two seeds, and the folder of their runs."""
    out = tmp_path_factory.mktemp("reproduce")
    page = reproduce.reproduce("pda", METHODS, [0, 1], built[0], out, None, **ARGUMENTS)
    return page, out


@pytest.mark.slow
def test_diagrams_come_as_pdf_where_they_are_asked_for(table, built):
    page, out = table
    for pdf in (True, False):  # and those of before do not stay
        reproduce.reproduce("pda", METHODS, [0, 1], built[0], out, None, pdf=pdf, **ARGUMENTS)
        found = {path.name for path in page.parent.iterdir() if path.suffix == ".pdf"}
        assert found == ({"curves.pdf", "label_spaces.pdf"} if pdf else set())


@pytest.mark.slow
def test_the_page_has_means_and_deviations_of_the_scores(table, built):
    page, _ = table
    assert page.parent.name == "pda-trial" and {"records.json", "curves.png", "label_spaces.png"} <= {
        path.name for path in page.parent.iterdir()
    }
    about = json.loads((page.parent / "records.json").read_text())
    assert [(record["method"], record["seed"]) for record in about["records"]] == [
        ("source-only", 0), ("source-only", 1), ("padaco", 0), ("padaco", 1),
    ]  # fmt: skip
    for method in METHODS:
        mae = [record["scores"]["mae"] for record in about["records"] if record["method"] == method]
        text = f"{sum(mae) / 2:.2f} ± {abs(mae[0] - mae[1]) / np.sqrt(2):.2f}"
        assert any(line.startswith(f"| {method} ") and text in line for line in page.read_text().splitlines())
    assert "MAE in the paper" not in page.read_text()  # the data are not the paper's
    source = open_dataset(built[0] / "synhead++").info.rows
    assert about["miniature"] is None and about["data"] == {"source": source, "target": 48}


@pytest.mark.slow
def test_records_agree_with_the_runs(table):
    page, _ = table
    about = json.loads((page.parent / "records.json").read_text())
    record = next(record for record in about["records"] if record["method"] == "padaco")
    assert record["rules"]["last"] == pytest.approx(record["scores"]["mae"], abs=1e-3) == record["mae_of_epochs"][-1]
    assert record["rules"][selection.ORACLE] == min(record["mae_of_epochs"]) and len(record["mae_of_epochs"]) == 3
    assert set(record["statistics"]) == set(STATISTICS)
    assert "oracle (sees the labels)" in page.read_text()
    # What is read is what was written.
    read = records.read_record(page.parent / "records.json", records.TaskRecords, "records")
    assert msgspec.to_builtins(read) == about


@pytest.mark.slow
def test_a_run_says_the_command_that_does_the_same(table, built):
    _, out = table
    about = read_submission(out / "runs/pda-trial-seed1/padaco" / PREDICTIONS).about
    assert about.command == (
        f"hpp benchmark --method padaco --task pda --data {built[0]} --out {out / 'runs'} --preset trial --seed 1 "
        "--device cpu --threads 1"
    )


@pytest.mark.slow
def test_a_second_time_trains_nothing(table, built):
    page, out = table
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    again = reproduce.reproduce("pda", METHODS, [0, 1], built[0], out, None, **ARGUMENTS)
    assert again == page
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()} == before


OWN = """
import os
import signal
import sys
import threading
import time

import torch

from baselines.method import Method
from headposeplus.errors import TrainingError
from headposeplus.faults import Fault

class Own(Method):
    trains = False

class Failing(Own):
    def finish(self, network):
        print("some words", torch.get_num_threads())
        raise TrainingError(Fault("no such luck", "try again", "some file"))

class Broken(Own):
    def finish(self, network):
        {}["key"]

class Verbose(Own):
    def finish(self, network):
        raise TrainingError(Fault("no such luck " + "x" * 300_000))

class Leaving(Own):
    def finish(self, network):
        sys.exit(7)

class Dying(Own):
    def finish(self, network):
        os.kill(os.getpid(), signal.SIGKILL)

class Waiting(Own):
    def finish(self, network):
        if not os.path.exists("go"):
            open(f"waiting-{os.getpid()}", "w").close()
            time.sleep(600)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with methods of a user's own, in which everything runs; its runs share a stage 1."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("own", None)


def planned(data, *methods):
    """Runs of methods, a step each."""
    preset = PRESETS["trial"]._replace(epoch_samples=20, stage1_epochs=1)
    methods = [f"own:{method}" for method in methods]
    return plan("pda", methods, {3: data}, Path("runs"), preset, {"device": "cpu", "threads": 1})


@pytest.mark.parametrize(
    ("method", "says", "printed"),
    [
        ("Failing", "some file: failing, seed 3: no such luck; try again", "some words 1\nError: some file: no such"),
        ("Broken", "broken, seed 3: KeyError: 'key'", "Traceback (most recent call last)"),
        ("Verbose", "verbose, seed 3: no such luck x+$", "Error: no such luck xxx"),  # more than a pipe holds
        ("Leaving", f".*{OUTPUT}: leaving, seed 3: it ended with status 7", ""),
        ("Dying", r"dying, seed 3: the process was killed \(signal 9\).*with a lower `jobs` or", ""),
    ],
)
def test_a_run_that_fails_says_why(built, own, method, says, printed):
    """The message is the error's; of one that a signal ended, which has printed nothing of use, what to do."""
    (job,) = planned(built[0], method)
    with pytest.raises(TrainingError, match=f"^{says}"):
        run_side_by_side([job], 1, "runs")
    assert printed in (job.folder / OUTPUT).read_text()
    assert not multiprocessing.active_children()


@pytest.fixture
def waiting(built, own):
    """A run that has come as far as its method, and the process that it is in; it goes on when the test has ended."""
    (job,) = planned(built[0], "Waiting")
    for path in (own / "go", *own.glob("waiting-*")):
        path.unlink(missing_ok=True)

    def process(seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if paths := list(own.glob("waiting-*")):
                return int(paths[0].name.removeprefix("waiting-"))
            time.sleep(0.02)
        raise AssertionError("the run does not come as far as its method")

    yield job, process
    with pytest.raises(ProcessLookupError):  # it was ended with the others
        os.kill(process(1), 0)
    assert not multiprocessing.active_children() and not list(job.folder.rglob("*.part"))
    assert not (job.folder / PREDICTIONS).exists()
    (own / "go").touch()
    run_side_by_side([job], 1, "runs")  # it can go on
    assert (job.folder / PREDICTIONS).exists()
    shutil.rmtree(job.folder)


@pytest.fixture
def interruptible():
    """A process that Ctrl+C interrupts: one that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_ends_the_runs_too(waiting, number, raised):
    job, process = waiting
    before = signal.getsignal(signal.SIGTERM)

    def send():
        os.kill(process(), signal.SIGINT)  # Ctrl+C reaches every process; a run leaves it to the one that started it
        time.sleep(0.2)
        os.kill(process(), 0)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(raised):
        run_side_by_side([job], 1, "runs")
    sender.join()
    assert signal.getsignal(signal.SIGTERM) == before


def test_one_failure_stops_the_others(waiting, built):
    job, process = waiting
    failing = planned(built[0], "Failing")[0]

    def start(job):
        if job is failing:
            process()  # only when the other one has begun
        return starting(job)

    starting = runs._start
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TrainingError, match="no such luck"):
        patch.setattr(runs, "_start", start)
        run_side_by_side([job, failing], 2, "runs")


def test_without_a_fork_server_processes_are_spawned(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert fork_server(runs._PRELOADED).get_start_method() == "spawn"
    monkeypatch.undo()
    if "forkserver" in multiprocessing.get_all_start_methods():
        assert fork_server(runs._PRELOADED).get_start_method() == "forkserver"


@pytest.mark.slow
def test_runs_with_other_settings_or_data_are_not_taken_for_these(table, built, tmp_path):
    _, out = table
    other = Path(shutil.copytree(built[0], tmp_path / "other"))
    info = json.loads((other / "biwi+/dataset.json").read_text())
    matched = info["content_sha256"]
    for path in other.glob("*/dataset.json"):
        path.write_text(path.read_text().replace(matched, "0" * 64))
    with pytest.raises(TrainingError, match="with other settings: target '"):
        reproduce.reproduce("pda", ["padaco"], [0], other, out, tmp_path, **ARGUMENTS)


@pytest.mark.slow
def test_without_a_second_stage_no_older_picture_is_shown(table, built, tmp_path):
    page, out = table
    results = Path(shutil.copytree(page.parent, tmp_path / "results"))
    assert len(list(results.glob("*.png"))) == 2
    again = reproduce.reproduce("pda", ["source-only"], [0, 0], built[0], out, results, **ARGUMENTS)
    assert "png" not in again.read_text() and not list(results.glob("*.png"))
    assert len(json.loads((results / "records.json").read_text())["records"]) == 1


def test_what_cannot_be_reproduced(tmp_path):
    arguments = ARGUMENTS | {"preset": "paper"}
    with pytest.raises(HeadposeError, match="`preset` paper needs `data`"):
        reproduce.reproduce("pda", None, [0], None, tmp_path, None, **arguments)
    with pytest.raises(TrainingError, match=r"selection`? best: expected one of last, source-val, consistency, dev"):
        reproduce.reproduce("pda", ["padaco"], [0], None, tmp_path, None, **ARGUMENTS, selection="best")
    with pytest.raises(HeadposeError, match="unknown method 'padako'"):
        reproduce.reproduce("pda", ["padako"], [0], None, tmp_path, None, **ARGUMENTS)


def test_records_that_are_none(tmp_path):
    path = tmp_path / "records.json"
    with pytest.raises(HeadposeError, match=r"records\.json: expected the records: No such file"):
        records.read_record(path, records.TaskRecords, "the records")
    path.write_text('{"task": "da", "preset": 3}')
    with pytest.raises(HeadposeError, match=r"expected the records: Expected 'str', got 'int' - at '\$.preset'"):
        records.read_record(path, records.TaskRecords, "the records")


def test_options_are_typed_as_they_are_given(tmp_path):
    options = {"highest_lambda": 0.5, "neighbours": 3, "compiled": True, "device": "cpu", "clip": None}
    (job,) = plan("da", ["padaco"], {4: tmp_path}, tmp_path / "runs", PRESETS["trial"], {"metric": "normalised"})
    assert job.command.endswith("--metric normalised") and job.settings.metric == "normalised"
    (job,) = plan("da", ["padaco"], {4: tmp_path}, tmp_path / "runs", PRESETS["trial"], options)
    assert job.folder == Path(tmp_path / "runs/da-trial-seed4/padaco-neighbours3-highest_lambda0.5")
    assert "--lambda 0.5 --neighbours 3 --compile --device cpu" in job.command and "--clip" not in job.command
    preset = PRESETS["trial"]
    steps = preset.epoch_samples // preset.batch
    assert expected_lines(job) == expected_lines(job._replace(task="pda-aflw2000")) == 3 * (steps + 1)
    assert expected_lines(job._replace(preset=preset._replace(warm={"da": 4, "pda": 1}))) == 6 * (steps + 1)
    batched = plan("da", ["padaco"], {4: tmp_path}, tmp_path, preset, options | {"batch": 10})
    assert expected_lines(batched[0]) == 3 * (2 * steps + 1) and batched[0].preset.batch == 10


def test_an_augmentation_is_passed_on_and_told(tmp_path):
    (job,) = plan("pda", ["dann"], {0: tmp_path}, tmp_path / "runs", PRESETS["trial"], {"augment": "boxes"})
    assert job.options.augment == "boxes" and job.folder == tmp_path / "runs/pda-trial-boxes-seed0/dann"
    assert job.command.endswith("--preset trial --seed 0 --augment boxes")
    errors = records.PoseErrors(1.0, 1.0, 1.0, 1.0, 1.0)
    run = records.RunRecord(
        method="dann", seed=0, protocol="local-x", frames=1, uses_target_images=True, device="cpu", scores=errors,
        statistics={},
    )  # fmt: skip
    about = records.TaskRecords("pda", "trial", [0], None, records.Sizes(1, 1), {"augment": "boxes"}, "2", [run])
    for options, says in (({"augment": "boxes"}, "Preset trial, augmentation boxes, seeds 0"), ({}, "Preset trial, s")):
        records.write_record(tmp_path / "records.json", msgspec.structs.replace(about, options=options))
        assert says in write_page(tmp_path).read_text()
    changed = msgspec.structs.replace(about, preset="trial-batch5", changes="trial, but batch 5, not 20", options={})
    records.write_record(tmp_path / "records.json", changed)
    assert "Preset trial-batch5 (trial, but batch 5, not 20), seeds 0" in write_page(tmp_path).read_text()


def test_a_method_of_ones_own_has_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    own = plan("pda", ["docs.my_method:MMD"], {0: tmp_path}, tmp_path, PRESETS["trial"], {})
    assert own[0].folder == tmp_path / "pda-trial-seed0/mmd"
