"""Detection that is stopped goes on where it was, and ends in the same bytes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from benchmark.cli.main import main
from headposeplus.boxes import detection
from headposeplus.boxes.files import read_boxes, write_boxes
from headposeplus.boxes.geometry import make_boxes
from headposeplus.raw import biwi

pytest.importorskip("dlib")
FRAMES = 48  # of the tiny Biwi
# Python ignores SIGINT where the shell that runs the tests in the background does.
HPP = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from benchmark.cli.main import main
from headposeplus.boxes import detection
here, where = pathlib.Path(sys.argv.pop()), sys.argv.pop()
find = detection._find

def waiting(detector, source, frame, head):
    if str(frame.image) == where:
        here.touch()
        time.sleep(600)
    return find(detector, source, frame, head)

detection._find = waiting
main()
"""


def words(raw, out, *more):
    """The command, with one process, and quick."""
    manifest = raw / "data_manifest.csv"
    return ["boxes", "detect", "--biwi", raw, "--manifest", manifest, "--out", out, "--jobs", 1, "--upsample", 0, *more]


def kept(out):
    """What is kept beside a file, with the time at which each part was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.parent.glob(f"{out.name}.*.parts/*.csv")}


@pytest.fixture
def detected(monkeypatch):
    """The ids of the frames in which faces were looked for."""
    ids, detect = [], detection._detect

    def noting(part):
        ids.extend(frame.id for frame in part.sequence.frames)
        return detect(part)

    monkeypatch.setattr(detection, "_detect", noting)
    return ids


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """What a run that nobody stops writes."""
    out = tmp_path_factory.mktemp("whole") / "whole.csv"
    assert CliRunner().invoke(main, [str(word) for word in words(tiny, out)]).exit_code == 0
    assert os.listdir(out.parent) == ["whole.csv"]
    return out.read_bytes()


def stop(raw, out, where, number, *more):
    """Start the command, and stop it by a signal when it looks at a frame."""
    frame, here = biwi.list_frames(raw / "hpdb", where)[0][5], out.parent / "here"
    command = [sys.executable, "-c", HPP, *map(str, words(raw, out, *more)), str(frame.image), str(here)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        end = time.monotonic() + 60
        while not here.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=60)[0]
    here.unlink()
    return process.returncode, said


def test_a_stopped_detection_goes_on_and_ends_in_the_same_bytes(tiny_copy, whole, tmp_path, hpp, detected):
    out = tmp_path / "out.csv"
    status, said = stop(tiny_copy, out, "03", signal.SIGINT)
    first = kept(out)
    assert status == 1 and said.endswith("Aborted!\n") and "Traceback" not in said
    assert first and not out.exists()
    status, _ = stop(tiny_copy, out, "15", signal.SIGKILL)
    second = kept(out)
    assert status == -signal.SIGKILL and not out.exists()
    assert second.items() > first.items()
    before = {frame for path in tmp_path.glob("out.csv.*.parts/*.csv") for frame in read_boxes(path).ids}
    said = hpp(*words(tiny_copy, out)).output
    assert sorted({*detected, *before}) == read_boxes(out).ids.tolist() and not before & {*detected}
    assert f"boxes: {FRAMES} of {FRAMES} frames in " in said
    assert out.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "raw"]


def test_what_was_kept_is_of_one_detector(tiny_copy, whole, tmp_path, hpp, detected):
    out = tmp_path / "out.csv"
    stop(tiny_copy, out, "03", signal.SIGKILL, "--upsample", 1)
    first = kept(out)
    hpp(*words(tiny_copy, out))
    assert len(detected) == FRAMES and out.read_bytes() == whole
    assert first and kept(out) == first  # the other's still goes on


def test_only_what_was_mended_is_detected_again(tiny_copy, whole, tmp_path, hpp, detected):
    out = tmp_path / "out.csv"
    image = biwi.list_frames(tiny_copy / "hpdb", "03")[0][4].image
    content = image.read_bytes()
    image.write_bytes(content[:-30])
    said = hpp(*words(tiny_copy, out), expect=3).output
    (parts,) = tmp_path.glob("out.csv.dlib-hog-*.parts")
    assert f"parts {parts}, so that with the files mended only their frames take time; else delete it" in said
    assert len(read_boxes(out).ids) == FRAMES - 1
    image.write_bytes(content)
    damaged = next(parts.glob("01-*.csv"))
    again = {*read_boxes(damaged).ids}
    damaged.write_text(damaged.read_text()[:-30])
    detected.clear()
    hpp(*words(tiny_copy, out))
    assert (
        again < {*detected} and len(detected) <= 20 and all(name[:8] in ("biwi/01/", "biwi/03/") for name in detected)
    )
    assert out.read_bytes() == whole and not parts.exists()


def test_what_cannot_be_written_is_told_before_the_work(tiny, tmp_path, hpp, detected):
    out = tmp_path / "out.csv"
    write_boxes(out, make_boxes(["biwi/01/00003"], np.array([1, 2, 30, 30]), "imported", checked=True))
    said = hpp(*words(tiny, out), expect=1).output
    assert "holds 1 box checked by hand, biwi/01/00003 the first" in said and "another --out" in said
    said = hpp(*words(tiny, out / "below.csv"), expect=1).output
    assert f"{out}/below.csv.dlib-hog-" in said and "cannot be written: Not a directory" in said
    assert not detected
