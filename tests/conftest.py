"""Fixtures that several test files use."""

import gc
import os
import pickle
import random
import shutil
import sys
import tarfile
from pathlib import Path

# Read when SciPy and torch are loaded: what tests compute is small, and threads would wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import tqdm
from click.testing import CliRunner
from filelock import FileLock

from benchmark.cli.main import main
from headposeplus.build.build import build_datasets
from headposeplus.build.work import Options
from headposeplus.miniature.write import source_of, write_miniature
from tests.photographs import PHOTOGRAPHS, write_photograph

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"


def pytest_configure(config):
    """Let pytest-randomly shuffle the tests and leave the random numbers to ``seeded``."""
    config.option.randomly_reset_seed = False


def pytest_sessionstart(session):
    """Let no progress bar begin a thread in the middle of a test that counts threads."""
    tqdm.tqdm.monitor_interval = 0


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage among the modules that stay: a look at all of them takes as long as a test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_unconfigure():
    """Let Python tidy up at its end as ever."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def real():
    """The folder of real Biwi files, which the project does not ship."""
    if not (REAL / "Biwi_plus.npz").exists():
        pytest.skip(f"the real Biwi files are not at {REAL}")
    return REAL


@pytest.fixture(scope="session")
def annotations(real, once):
    """Biwi's own annotations of all frames: a folder of ``NN/frame_00003_pose.bin``."""

    def unpack(folder):
        with tarfile.open(real / "db_annotations.tar.gz") as archive:
            archive.extractall(folder, filter="data")

    return once("annotations", unpack)[0] / "db_annotations"


@pytest.fixture(scope="session")
def real_photographs():
    """The folder of the real AFLW2000-3D, which the project does not ship."""
    if not (REAL / "aflw2000/image00002.mat").exists():
        pytest.skip(f"the real AFLW2000-3D is not at {REAL / 'aflw2000'}")
    return REAL / "aflw2000"


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Make a folder once for all processes of a test run; return it, and what making it returned."""
    own = tmp_path_factory.getbasetemp()
    base = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make_once(name, make):
        folder, result = base / name, base / f"{name}.pickle"
        with FileLock(base / f"{name}.lock"):
            if not result.exists():
                made = make(folder)
                result.write_bytes(pickle.dumps(made))
        return folder, pickle.loads(result.read_bytes())

    return make_once


@pytest.fixture(scope="session")
def tiny(once):
    """A tiny miniature; tests that damage it take ``tiny_copy``."""
    return once("tiny", lambda out: write_miniature(out, "tiny", seed=0, jobs=1))[0]


@pytest.fixture
def tiny_copy(tiny, tmp_path):
    """A copy of the tiny miniature to damage."""
    return Path(shutil.copytree(tiny, tmp_path / "raw"))


@pytest.fixture(scope="session")
def built(tiny, once):
    """The datasets built from the tiny miniature, and the build's summary."""
    return once("built", lambda out: build_datasets(source_of(tiny), out, Options(size=32)))


@pytest.fixture(scope="session")
def photographs(once):
    """A made-up raw AFLW2000-3D of ten photographs, two of which the dataset leaves out."""

    def write(folder):
        folder.mkdir()
        for number, angles in PHOTOGRAPHS.items():
            write_photograph(folder, number, angles)

    return once("AFLW2000", write)[0]


@pytest.fixture
def photographs_copy(photographs, tmp_path):
    """A copy of the made-up AFLW2000-3D to damage."""
    return Path(shutil.copytree(photographs, tmp_path / "AFLW2000"))


@pytest.fixture
def hpp():
    """Run the command line; return its result. No line is wrapped, unless ``columns`` says how wide the terminal is."""

    def run(*arguments, expect=0, columns=1000):
        environment = {"COLUMNS": str(columns) if columns else None}  # None: a pipe
        result = CliRunner(env=environment).invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == expect, result.output + repr(result.exception)
        if expect:
            assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return result

    return run


@pytest.fixture
def browser(tmp_path):
    """Chromium without a window; what it downloads lies in ``tmp_path / "saved"``."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e .[dev]")
    from selenium.webdriver.chrome.service import Service

    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((found for found in map(shutil.which, names) if found), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip(f"a browser is needed: chromium is {chromium}, chromedriver is {driver}")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(tmp_path / "saved"), "download.prompt_for_download": False}
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def one_thread():
    """Torch with one thread and the same random numbers."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
