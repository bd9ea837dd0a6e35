import pytest

from headposeplus.heads.people import draw_person
from tests.headposeplus.heads.made_up import write_assets


@pytest.fixture(scope="session")
def made_up(once):
    """Made-up assets for two women and a man, seed 0."""
    people = [draw_person(0, True, 0), draw_person(0, True, 1), draw_person(0, False, 0)]
    return once("made-up", lambda out: write_assets(out, people))[0]


@pytest.fixture(scope="session")
def makehuman():
    """MakeHuman's assets, which the project does not ship."""
    from tests.conftest import REAL

    folder = REAL.parent / "heads" / "makehuman_cc0"
    if not folder.exists():
        pytest.skip(f"MakeHuman's assets are not at {folder}")
    return folder
