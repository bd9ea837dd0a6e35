"""Circumstances that tests make real: limits of files, a small disk, a file system without locks, another user."""

import ctypes.util
import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

NOBODY = 65534
_SHIM = """
#include <errno.h>
#include <stdlib.h>
int flock(int fd, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""


@contextmanager
def file_limit(size):
    """Let no file of this process grow beyond ``size`` bytes, as ``ulimit -f`` does."""
    resource = pytest.importorskip("resource", reason="this system limits no files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder, size):
    """Mount a file system of ``size`` bytes on a new folder; skips where that is not allowed."""
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def without_rights():
    """Be a user whom files with mode 0 refuse; root reads them all."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def no_locks(folder, number):
    """Return an environment in which every lock of a file fails with an errno; skips without a compiler."""
    compiler = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)
    if compiler is None or ctypes.util.find_library("c") is None or not hasattr(os, "fork"):
        pytest.skip("a C compiler is needed to let locks fail")
    (folder / "flock.c").write_text(_SHIM)
    library = folder / "flock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "flock.c"], check=True)
    return os.environ | {"LD_PRELOAD": str(library), "FLOCK_ERRNO": str(number)}
