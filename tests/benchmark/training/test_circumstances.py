"""Training where a write fails, where locks are missing, and under a path that is no UTF-8."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from baselines.methods import METHODS
from benchmark.scoring.submission import read_submission
from benchmark.training import run as train
from benchmark.training.checkpoint import CHECKPOINT, Place
from benchmark.training.job import PREDICTIONS
from benchmark.training.log import LOG, LogWriter, StepRecord
from benchmark.training.presets import PRESETS
from headposeplus.errors import HeadposeError, TrainingError
from tests.circumstances import file_limit, small_disk

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("one_thread")


LIMIT = "the system's limit for a file's size is reached"


def test_a_limit_of_file_size_is_told_and_the_run_goes_on_when_there_is_room(trained, job):
    whole = train.run(trained).parent
    with pytest.raises(HeadposeError, match=f"stage1/{CHECKPOINT}: {LIMIT}"), file_limit(100_000):
        train.run(job)
    assert not list(job.out.rglob("*.part"))
    again = train.run(job).parent
    for name in (PREDICTIONS, LOG):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_a_log_that_cannot_grow_is_told(tmp_path):
    log = LogWriter(tmp_path, Place(), False, 0)
    records = [StepRecord(1, 0, step, 0.1, 0.0, {"loss": 1.0}) for step in range(100)]
    with pytest.raises(HeadposeError, match=f"{LOG}: {LIMIT}"), file_limit(1000):
        log.write_steps(records)
    log.close()


def test_a_disk_that_is_full_at_the_end_of_training_costs_no_epoch(trained, tmp_path):
    whole = train.run(trained).parent
    parts = [whole, whole.parent / "stage1"]  # others are trained beside it
    needed = sum(path.stat().st_size for part in parts for path in part.rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", needed // 3) as disk:
        with pytest.raises(HeadposeError, match="the disk is full; make room and run the same command again"):
            train.run(trained._replace(out=disk))
        shutil.copytree(disk, tmp_path / "moved")
    again = train.run(trained._replace(out=tmp_path / "moved")).parent
    assert (again / PREDICTIONS).read_bytes() == (whole / PREDICTIONS).read_bytes()


COMMANDS = """
import json, os, sys
from benchmark.cli.main import main
for words in json.loads(sys.argv[1]):
    main([os.fsdecode(word.encode("latin-1")) for word in words], standalone_mode=False)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are no UTF-8")
def test_paths_that_are_no_utf_8_cost_no_result(built, tmp_path, trained):
    folder = tmp_path / os.fsdecode(b"donn\xe9es")
    shutil.copytree(built[0], folder / "data")
    data, runs = "donn\xe9es/data", "donn\xe9es/runs"
    training = "benchmark --method source-only --preset trial --threads 1 --device cpu --weights none"
    predictions = f"{runs}/pda-trial-seed0/source-only/{PREDICTIONS}"
    lines = [
        f"{training} --data {data} --out {runs}",
        f"{training} --data {data} --out {runs}",  # which is finished
        f"verify {data}",
        f"inspect {data}",
        f"score {predictions} --data {data} --resamples 10 --report {data}/report.html --json {data}/score.json",
        f"scoreboard add {predictions} --data {data} --scoreboard {data}/board --resamples 10",
    ]
    words = [sys.executable, "-c", COMMANDS, json.dumps([line.split() for line in lines])]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    expected = train.run(trained._replace(method=METHODS["source-only"]))
    found = folder / "runs/pda-trial-seed0/source-only" / PREDICTIONS
    assert found.read_bytes() == expected.read_bytes()
    assert read_submission(found).about.seed == 0
    for file in ("score.json", "report.html", "inspect/card.md", "board/index.html"):
        assert (folder / "data" / file).read_text("utf-8")


def test_weights_that_are_none_leave_no_folder(job, tmp_path):
    with pytest.raises(TrainingError, match=r"typo\.pth: cannot be read: No such file or directory"):
        train.run(job._replace(preset=job.preset._replace(backbone="resnet18"), weights=str(tmp_path / "typo.pth")))
    assert not job.out.exists()


def test_a_processor_that_computes_in_bfloat16_is_named_where_that_is_worth_a_word(job):
    cpu, large = torch.device("cpu"), job._replace(preset=PRESETS["paper"])
    able = frozenset({"avx2", "avx512_bf16"})
    assert large.could_be_half(cpu, able) and large.could_be_half(cpu, frozenset({"amx_bf16"}))
    assert not large.could_be_half(cpu, frozenset({"avx2"})) and not large.could_be_half(torch.device("cuda"), able)
    assert not job.could_be_half(cpu, able)  # the slim network gains nothing by it
    for chosen in (True, False):
        assert not large._replace(options=large.options._replace(half=chosen)).could_be_half(cpu, able)
