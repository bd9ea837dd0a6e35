"""Valid submissions, mutated at random: each comes out as a score or as a list of faults.

``HPP_FUZZ`` says how many (``make fuzz`` takes 10,000), ``HPP_FUZZ_SEED`` which.
"""

import gzip
import io
import os
import shutil
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w

from benchmark.board import entries as scoreboard
from benchmark.board import site
from benchmark.board.markdown import PAGE
from benchmark.scoring import entry as entry_file
from benchmark.scoring import labels, protocols
from benchmark.scoring import score as scoring
from headposeplus import rotations as rot
from headposeplus.errors import SubmissionError

COUNT, SEED = int(os.environ.get("HPP_FUZZ", "1000")), int(os.environ.get("HPP_FUZZ_SEED", "0"))
LONGEST = 5.0  # seconds
HOSTILE = (
    b"</script><script>alert(1)</script>", b"=cmd|' /C calc'!A0", b"../../../../etc/passwd", b"javascript:alert(1)",
    b"nan", b"inf", b"-1e308", b"9" * 400, b"1e999", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b",", b";", b"\n",
    b"\r", b"\t", b"[" * 300, b"{" * 300, b".".join([b"a"] * 200), "\u202e\u2028\ud7ff".encode(), b"true", b"0x10",
    b"1979-05-27T07:32:00Z", b"__import__('os')", b"%s%n", b"$(touch hacked)", b"id", b"pitch", b"PAR1", b"PK\x03\x04",
    b"\x1f\x8b",
)  # fmt: skip
NAMES = ("id", "ID", "images", "subject", "pitch", "yaw", "roll", "rotation", "quaternion", "pyr", "ypr", "r11", "qx")
ABOUT = {
    "name": "mine", "authors": "me", "link": "https://example.org", "training_data": "any", "convention": "pyr",
    "camera": "rgb", "selection": "last epoch", "uses_target_images": True, "seed": 0, "notes": "none",
    "run": {"method": "mine"},
}  # fmt: skip


@pytest.fixture(scope="module")
def truth():
    ids = np.array([f"biwi/{s:02d}/{n:05d}" for s in (1, 2) for n in range(12)])
    return labels.from_arrays(ids, rot.to_matrix(np.random.default_rng(0).normal(0, 25, (len(ids), 3))), camera="rgb")


def valid(truth):
    """Valid predictions in every kind of file."""
    rotations = truth.rotations
    angles = rot.from_matrix(rotations)
    frame = pd.DataFrame(angles, columns=["pitch", "yaw", "roll"]).assign(id=truth.ids)
    matrices = pd.DataFrame(rotations.reshape(-1, 9), columns=[f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)])
    csv = frame.to_csv(index=False).encode()
    parquet, feather, npz, zipped = (io.BytesIO() for _ in range(4))
    frame.to_parquet(parquet, index=False)
    frame.to_feather(feather)
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("predictions.csv", csv)
    np.savez(npz, id=truth.ids, rotation=rotations)
    return [
        csv, csv, matrices.assign(id=truth.ids).to_csv(index=False).encode(), csv.replace(b",", b";"),
        gzip.compress(csv), parquet.getvalue(), feather.getvalue(), npz.getvalue(), zipped.getvalue(),
    ]  # fmt: skip


def mutated(data, rng):
    """Change, cut, repeat or move bytes, or put hostile ones among them, once to five times."""
    for _ in range(rng.integers(1, 6)):
        a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
        kind = rng.integers(8)
        if kind == 0 and data:
            place = int(rng.integers(len(data)))
            data = data[:place] + bytes([int(rng.integers(256))]) + data[place + 1 :]
        elif kind == 1:
            data = data[:a] + data[min(b, a + 40) :]
        elif kind == 2:
            data = data[:a]
        elif kind == 3:
            data = data[:b] + data[a:b][:2000] + data[b:]
        elif kind == 4:
            data = data[:a] + HOSTILE[rng.integers(len(HOSTILE))] + data[a:]
        elif kind == 5:
            lines = data.split(b"\n")
            rng.shuffle(lines)
            data = b"\n".join(lines)
        elif kind == 6:
            cells = data.split(b",")
            cells[rng.integers(len(cells))] = HOSTILE[rng.integers(len(HOSTILE))]
            data = b",".join(cells)
        else:
            word = HOSTILE[rng.integers(len(HOSTILE))]
            data = data[:a] + word + data[a + len(word) :]
    return data


def disguised(data, rng):
    """Change a CSV in ways that leave it valid; anything else a byte at most."""
    if not data.startswith(b"id"):
        return mutated(data, rng) if rng.integers(2) else data
    header, *rows = data.strip().split(b"\n")
    rng.shuffle(rows)
    row = int(rng.integers(len(rows)))
    rows[row] = rows[row].replace(b"1", str(rng.integers(10)).encode(), 1) if rng.integers(2) else rows[row] + b"  "
    text = b"\n".join([header.upper() if rng.integers(2) else header, *rows])
    return (b"\n", b"\xef\xbb\xbf", b"")[rng.integers(3)] + text.replace(
        b"\n", (b"\r\n", b"\n\n", b"\n")[rng.integers(3)]
    )


def built(truth, rng):
    """Return a Parquet or npz file that is well formed and holds whatever it likes."""
    rows = int(rng.choice([0, 1, len(truth.ids), 3 * len(truth.ids)]))
    ids = np.resize(truth.ids, rows)
    pool = [
        ids, ids.astype("S"), ids.astype(object), np.arange(rows), np.zeros(rows), np.zeros(rows, np.float16),
        np.zeros((rows, 3)), np.zeros((rows, 3, 3)), np.ones(rows, bool), np.zeros(rows, "datetime64[s]"),
        np.full(rows, np.nan), np.zeros(rows, complex), np.zeros(rows, [("a", float)]), np.zeros((3, rows), order="F"),
        np.zeros(rows, ">f4"), np.zeros((rows, 4)), np.float64(3), np.zeros((rows, 0)), np.full(rows, 1e308),
    ]  # fmt: skip
    arrays = {name: pool[rng.integers(len(pool))] for name in NAMES if rng.integers(3)}
    arrays |= {"id": ids} if rng.integers(2) else {}
    file = io.BytesIO()
    if rng.integers(2):
        np.savez(file, **arrays)
    else:
        lists = [[1.0], [], None, {"x": 1.0}, "a", b"a", True, 2**62, [[1.0]]]
        columns = {
            name: value.tolist() for name, value in arrays.items() if value.ndim == 1 and value.dtype.kind in "UfiuS"
        }
        columns |= {str(rng.choice(NAMES)): [lists[rng.integers(len(lists))]] * rows for _ in range(rng.integers(3))}
        pq.write_table(pa.table(columns), file)
    return file.getvalue()


def described(rng):
    """Return a TOML that is one, with hostile texts and values in its fields."""
    about = dict(ABOUT)
    for _ in range(rng.integers(1, 4)):
        field = str(rng.choice([*ABOUT, "protocol", "task", "unknown"]))
        text = HOSTILE[rng.integers(len(HOSTILE))].decode("latin-1")
        about[field] = (text, text * 30, int(rng.integers(-9, 9)), [text], {text: text}, True, 0.5)[rng.integers(7)]
    for field in ("name", "authors", "notes"):
        about[field] = (
            f"{about[field]} {HOSTILE[rng.integers(6)].decode('latin-1')}" if rng.integers(2) else about[field]
        )
    return tomli_w.dumps(about).encode()


KEPT = sorted((Path(__file__).resolve().parents[3] / "results/demo/scoreboard").glob("*.json"))


def test_every_mutated_entry_is_an_entry_or_one_fault():
    data, outcomes = KEPT[0].read_bytes(), {"read": 0, "refused": 0}
    for number in range(COUNT // 2):
        rng = np.random.default_rng([SEED, 1, number])
        changed = mutated(data, rng)
        try:
            read = entry_file.read(changed, KEPT[0])
        except SubmissionError as error:
            assert error.fault.file == KEPT[0] and "not an entry of the scoreboard: " in error.fault.what, number
            assert str(error).isprintable() and len(str(error)) < 500, number
            outcomes["refused"] += 1
        else:
            assert entry_file.read(entry_file.to_bytes(read)) == read, number
            outcomes["read"] += 1
    assert min(outcomes.values()) > 0


@pytest.mark.slow
def test_every_mutation_is_a_score_or_a_list_of_faults(truth, tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    protocol = protocols.for_test_set("cross", truth)
    files, toml = valid(truth), tomli_w.dumps(ABOUT).encode()
    for data in files:
        assert scoring.assess(data, toml, protocol, truth, resamples=10).entry is not None

    class TooLongError(BaseException):
        """Nothing that reads a file may catch it."""

    def too_long(*_):
        raise TooLongError(f"over {LONGEST} seconds")

    before = signal.signal(signal.SIGALRM, too_long)
    outcomes, longest, board = {"scored": 0, "faulty": 0}, 0.0, tmp_path / "inside" / "board"
    try:
        for number in range(COUNT):
            rng = np.random.default_rng([SEED, number])
            data, about = files[rng.integers(len(files))], toml
            which = rng.integers(3)
            if which < 2:
                data = (mutated(data, rng), disguised(data, rng), built(truth, rng))[rng.choice(3, p=(0.4, 0.4, 0.2))]
            if which > 0:
                about = mutated(about, rng) if rng.integers(2) else described(rng)
            began = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, LONGEST)
            found = scoring.assess(data, about, protocol, truth, resamples=10)
            signal.setitimer(signal.ITIMER_REAL, 0)
            longest = max(longest, time.perf_counter() - began)
            assert (found.entry is None) == bool(found.faults), number
            assert all("\n" not in str(fault) and len(str(fault)) < 2_000 for fault in found.faults), number
            outcomes["faulty" if found.faults else "scored"] += 1
            if found.entry is not None:
                path = scoreboard.add(board, found.entry)
                assert scoreboard.read_entry(path) == found.entry, number
                if outcomes["scored"] % 100 == 1:
                    page = site.entry_page(found.entry)
                    assert "<script>alert" not in page and 'href="javascript' not in page, number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    print(f"\n{COUNT:,} mutations: {outcomes}, the longest took {longest:.2f} s")
    assert min(outcomes.values()) > COUNT / 20 and longest < LONGEST
    scoreboard.build(board)
    shutil.rmtree(board / site.ENTRIES)
    (board / site.INDEX).unlink()
    (board / PAGE).unlink()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file() and path.parent != board} == set()
