"""Fixtures that several test files use."""

from pathlib import Path

import pytest

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"


@pytest.fixture(scope="session")
def real():
    """The folder of real Biwi files, which the project does not ship."""
    if not (REAL / "Biwi_plus.npz").exists():
        pytest.skip(f"the real Biwi files are not at {REAL}")
    return REAL
