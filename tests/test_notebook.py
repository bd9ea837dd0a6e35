"""The notebook of ``examples/``, run as Jupyter runs it."""

import os
import shutil

import pytest

pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e .[dev]")

from benchmark.upkeep import notebook


def texts(cell):
    """What a cell has printed or returned, as text."""
    for output in cell.get("outputs", []):
        yield output.get("text") or output.get("data", {}).get("text/plain", "")


def pictures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


@pytest.fixture
def one_core():
    """Bind this process, and those that it starts, to one core: their threads would wait for one another."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_core")
def test_the_notebook_runs_from_raw_copies_to_a_score(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "quickstart/raw")  # which its first cell would write in seconds
    kept = notebook.read()
    run = notebook.run(notebook.read(), tmp_path)
    assert len(run.cells) == 10 and [cell.source for cell in run.cells] == [cell.source for cell in kept.cells]
    assert (
        [pictures(cell) for cell in run.cells]
        == [pictures(cell) for cell in kept.cells]
        == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]
    )
    said = "\n".join(text for cell in run.cells for text in texts(cell))
    for words in (
        "synhead++    1250",
        "biwi/01/00408",
        "local-6c0e59b2/pda",
        "Intervals: 2,000 resamples of the 3 subjects",
    ):
        assert words in said, words
