"""Who this process is among several."""

import pytest

from benchmark.loaders.launch import Ranks, ranks_here
from headposeplus.errors import HeadposeError

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def launched(monkeypatch):
    """Set the launcher's variables, in its order, as one line; those that are left out are not set."""

    def set_variables(line):
        for name in LAUNCHER:
            monkeypatch.delenv(name, raising=False)
        for name, value in (word.split("=") for word in line.split()):
            monkeypatch.setenv(name, value)

    return set_variables


WHOLE = "RANK=1 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=host MASTER_PORT=29500"


@pytest.mark.parametrize(
    ("line", "ranks"),
    [
        ("", Ranks()),
        ("RANK=0", Ranks()),
        ("RANK= WORLD_SIZE= LOCAL_RANK=", Ranks()),  # as scripts leave them
        ("MASTER_PORT=tcp://10.0.0.7:8080", Ranks()),  # as container systems name a service called master
        ("RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1", Ranks()),
        (WHOLE, Ranks(1, 4, 1, 2, "host", 29500)),
    ],
)
def test_who_this_process_is(launched, line, ranks):
    launched(line)
    assert ranks_here() == ranks


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("RANK=1", "RANK is 1, but WORLD_SIZE is not set; unset it to train with one process"),
        (WHOLE.replace("29500", "70000"), "MASTER_PORT is 70000, expected 1 to 65535"),
        ("WORLD_SIZE=two", "WORLD_SIZE is 'two', expected a number"),
        ("RANK=-1 WORLD_SIZE=2", "RANK is '-1', expected a number"),
        ("WORLD_SIZE=0", "RANK is 0, but WORLD_SIZE is 0"),
        ("RANK=4 WORLD_SIZE=4", "RANK is 4, but WORLD_SIZE is 4"),
        ("LOCAL_RANK=1", "LOCAL_RANK 1, LOCAL_WORLD_SIZE 1, WORLD_SIZE 1 contradict each other"),
        ("LOCAL_WORLD_SIZE=8", "LOCAL_RANK 0, LOCAL_WORLD_SIZE 8, WORLD_SIZE 1 contradict each other"),
        ("WORLD_SIZE=2", "RANK and LOCAL_RANK and LOCAL_WORLD_SIZE and MASTER_ADDR and MASTER_PORT not set"),
        (WHOLE.replace("MASTER_ADDR=host", "MASTER_ADDR="), "WORLD_SIZE is 4, but MASTER_ADDR not set"),
        (WHOLE.replace("29500", "0x10"), "MASTER_PORT is '0x10', expected a number"),
    ],
)
def test_variables_that_make_no_sense_are_told_in_one_line(launched, line, says):
    launched(line)
    with pytest.raises(HeadposeError) as raised:
        ranks_here()
    assert says in str(raised.value) and "start several with torchrun" in str(raised.value)
