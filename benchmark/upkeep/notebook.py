"""Runs the notebook in ``examples/`` in an empty folder, and writes down what its cells print and draw.

python -m benchmark.upkeep.notebook
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from headposeplus.files import write_text

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "quickstart.ipynb"


def read() -> Any:
    """Return the notebook."""
    return nbformat.read(NOTEBOOK, as_version=4)


def run(notebook: Any, folder: Path) -> Any:
    """Run a notebook's cells in a folder and return it with their outputs; raises CellExecutionError if one fails."""
    # A command that ran in this process may have chosen how pictures are drawn: a notebook shows its own.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran: another time each time
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        write_text(NOTEBOOK, nbformat.writes(run(read(), Path(temporary))) + "\n")
