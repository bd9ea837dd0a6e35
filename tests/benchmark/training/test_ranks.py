"""Several processes that train one network."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from benchmark.loaders.launch import Ranks
from benchmark.scoring.submission import read_submission
from benchmark.training import ranks
from benchmark.training import run as train
from benchmark.training.job import PREDICTIONS
from headposeplus.errors import TrainingError

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("one_thread")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


LEAVING = """
import os
import torch
from baselines.adversarial import PADACO

class Leaving(PADACO):
    name = "leaving"

    def finish(self, network):
        torch.save({**network.state_dict(), **self.state_dict()}, f"rank{os.environ['RANK']}.pt")
"""


@pytest.mark.slow
def test_two_processes_draw_the_same_images_and_end_with_equal_weights(trained, tmp_path, records):
    (tmp_path / "leave.py").write_text(LEAVING)
    (tmp_path / "benchmark").mkdir()  # as a project of one's own may have it
    (tmp_path / "benchmark/__init__.py").write_text("raise SystemExit('not this one')")
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    words += [
        str(Path(sys.executable).with_name("hpp")),
        "benchmark",
        "--method",
        "leave:Leaving",
        "--task",
        "pda",
        "--preset",
        "trial",
    ]
    words += ["--data", str(trained.data), "--out", str(tmp_path / "two"), "--device", "cpu", "--threads", "1"]
    words += ["--seeds", "0", "1"]  # two runs by the same two processes
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("predictions ") == 2  # the first process speaks for both
    assert done.stdout.count("MAE ") == done.stdout.count("entry ") == 2  # and scores when both have ended
    assert done.stdout.rindex("predictions ") < done.stdout.index("MAE ")
    mine, theirs = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
    two, alone = tmp_path / "two/pda-trial-seed0", train.run(trained).parents[1]
    for ours, other in (("stage1", "stage1"), ("leaving", "padaco")):
        mine, theirs = records(two / ours), records(alone / other)
        assert len(mine) == len(theirs)
        if ours == "stage1":  # later draws depend on predictions, which differ a little
            drawn = [[line["drawn"] for line in lines if "drawn" in line] for lines in (mine, theirs)]
            assert drawn[0] == drawn[1] and len(drawn[0]) == 3
    assert read_submission(two / "leaving" / PREDICTIONS).about.run["processes"] == 2


def test_ranks_share_a_batch():
    rows = np.arange(21)
    shares = [Ranks(rank, 4).share(rows) for rank in range(4)]
    assert sorted(np.concatenate(shares)) == rows.tolist() and max(map(len, shares)) - min(map(len, shares)) == 1


def gloo(rank, port, folder):
    """One of two processes that train a step together; each leaves its weights."""
    torch.set_num_threads(1)
    here = Ranks(rank, 2, rank, 2, "127.0.0.1", port)
    with ranks.connected(here, torch.device("cpu")):
        torch.manual_seed(rank)  # so that they begin apart
        network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        ranks.same(here, network)
        trained = nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)
        images = here.share(np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32))
        trained(torch.from_numpy(images)).square().mean().backward()
        own = {name: value.clone() for name, value in network[1].named_buffers()}
        ranks.average_statistics(here, network)
        gradients = [parameter.grad for parameter in network.parameters()]
        mean = ranks.mean(here, torch.tensor([1.0 + rank, np.nan if rank else 1.0]))
        torch.save([network.state_dict(), gradients, own, mean, images], Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_gradients_and_statistics_are_averages_over_the_ranks(tmp_path):
    torch.multiprocessing.start_processes(gloo, (free_port(), str(tmp_path)), nprocs=2, start_method="forkserver")
    (a, b) = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    assert all(torch.equal(a[0][key], b[0][key]) for key in a[0])
    for name in ("running_mean", "running_var"):
        assert torch.allclose(a[0][f"1.{name}"], (a[2][name] + b[2][name]) / 2)
        assert not torch.allclose(a[2][name], b[2][name])
    assert a[3][0] == b[3][0] == 1.5 and a[3][1].isnan() and b[3][1].isnan()
    # By hand: the mean of the gradients of both shares, each normalised by itself.
    expected = []
    for images in (a[4], b[4]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        network(torch.from_numpy(images)).square().mean().backward()
        expected.append([parameter.grad for parameter in network.parameters()])
    for gradient, of_a, of_b in zip(a[1], *expected, strict=True):
        assert torch.allclose(gradient, (of_a + of_b) / 2, atol=1e-6)


def test_a_rank_without_others_is_refused_before_anything_is_trained(hpp, built, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    words = ["--method", "padaco", "--preset", "trial", "--data", built[0], "--out", tmp_path / "runs"]
    output = hpp("benchmark", *words, expect=1).output
    assert output.splitlines() == [
        "Error: environment: RANK is 1, but WORLD_SIZE is not set; unset it to train with one process, or start "
        "several with torchrun, which sets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT"
    ]
    assert not (tmp_path / "runs").exists()


def test_runs_side_by_side_are_not_for_torchrun(hpp, built, tmp_path, monkeypatch):
    whole = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
    for name, value in (whole | {"MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    words = ["--methods", "padaco", "--preset", "trial", "--data", built[0], "--out", tmp_path / "runs"]
    output = hpp("reproduce", *words, expect=1).output
    assert "starts the processes that it needs itself; run it without torchrun" in output


@pytest.mark.parametrize(("rank", "awaited"), [(0, "ranks 1, 2"), (1, "rank 0")])
def test_ranks_that_never_come_are_named(rank, awaited, monkeypatch, capfd):
    monkeypatch.setattr(ranks, "_SILENCE", 0.3)
    here = Ranks(rank, 3, rank, 3, "127.0.0.1", free_port())
    with (
        pytest.raises(TrainingError, match=rf"{awaited} of 3 never came; start all of them"),
        ranks.connected(here, torch.device("cpu"), timedelta(seconds=4)),
    ):
        pass
    assert f"rank {rank} of 3: waiting for {awaited} at 127.0.0.1:{here.port}" in capfd.readouterr().err
    assert not dist.is_initialized()


def test_a_port_that_is_taken_is_told():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        here = Ranks(0, 2, 0, 2, "127.0.0.1", listener.getsockname()[1])
        with (
            pytest.raises(TrainingError, match=r"rank 0 of 2, 127.*the other processes cannot be reached"),
            ranks.connected(here, torch.device("cpu"), timedelta(seconds=1)),
        ):
            pass


def leaving(rank, port):
    """Two processes of which one leaves; the other says so."""
    with ranks.connected(Ranks(rank, 2, rank, 2, "127.0.0.1", port), torch.device("cpu")):
        ranks.wait(Ranks(rank, 2))
        if rank == 1:
            os._exit(0)
        ranks.mean(Ranks(rank, 2), torch.ones(3))


@pytest.mark.slow
def test_a_rank_that_is_gone_is_told_to_the_others():
    started = torch.multiprocessing.start_processes(
        leaving, (free_port(),), nprocs=2, join=False, start_method="forkserver"
    )
    with pytest.raises(Exception, match="see what ended them, and run the same command again"):
        while not started.join():
            pass
