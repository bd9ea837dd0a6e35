"""What a soak finds where there is something to find."""

import random
import sys
from functools import partial

import numpy as np
import pytest

pytest.importorskip("httpx", reason="httpx is not installed: pip install -e .[dev]")

from benchmark.studies.records import read_record, write_record
from benchmark.upkeep import soak, soak_attacks, soak_kills, soak_record
from benchmark.upkeep.soak_attacks import Base, Secret, guesses
from benchmark.upkeep.soak_kills import Command
from benchmark.upkeep.soak_service import Receipts, compare

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def python(code, *words):
    return [sys.executable, "-c", code, *map(str, words)]


# ---- kills


@linux
def test_a_process_that_outlives_a_kill_is_found_and_ended():
    assert soak_kills.kill_once(python("import os, time; os.fork(); time.sleep(60)"), 1.5, grace=0.3) == (True, 1)
    assert soak_kills.kill_once(python("import time; time.sleep(60)"), 0.2, grace=0.3) == (True, 0)
    assert soak_kills.kill_once(python("pass"), 10.0, grace=0.3) == (False, 0)


WRITE = "import sys, os, pathlib, time; out = pathlib.Path(sys.argv[1]); out.mkdir(parents=True, exist_ok=True); "


@linux
@pytest.mark.parametrize(
    ("code", "equal", "leftovers"),
    [
        ("(out / 'a.csv').write_text('same')", True, False),
        ("(out / 'a.csv').write_text(str(os.getpid()))", False, False),  # a changed file
        ("(out / f'{os.getpid()}.csv').write_text('more')", False, False),  # a file of another name
        ("(out / 'a.csv').write_text('same'); sys.exit('killed' in out.name)", False, False),  # one that fails
        ("(out / f'.a.csv.{os.getpid()}.part').write_text('half'); (out / 'a.csv').write_text('same')", True, True),
    ],
)
def test_runs_that_end_in_other_files_are_counted(tmp_path, code, equal, leftovers):
    command = Command("write", lambda out: python(f"{WRITE}time.sleep(0.3); {code}", out), (".csv",))
    steps = []
    found = soak_kills.kill_command(command, tmp_path, 2, random.Random(0), partial(steps.append, 1), grace=0.0)
    assert found.early == len(steps) == 2 <= found.kills and found.survivors == 0
    assert found.equal == (found.kills if equal else 0) and (found.leftovers > 0) == leftovers


@linux
def test_what_a_command_says_without_room_is_told(tmp_path):
    fill = "(out / 'a.csv').write_bytes(bytes(1 << 20))"
    says = f"try:\n    {fill}\nexcept OSError as error:\n    sys.exit(f'Error: {{error.filename}}: {{error.strerror}}')"
    for code, lines, begins in (
        (says, 1, "Error: "),
        (fill, 1, ""),
        (f"print('Error: a', file=sys.stderr); {fill}", 2, "Error: a"),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        command = Command("fill", lambda out, code=code: python(f"{WRITE}\n{code}", out), (".csv",))
        soak_kills.must_run(command.run(folder / "whole"))
        limited = soak_kills.run_without_room(command, folder)[0]
        assert limited.where == "ulimit -f" and limited.status == 1 and limited.equal
        assert limited.lines == lines and limited.said.startswith(begins) and str(tmp_path) not in limited.said


def test_a_command_that_fails_ends_the_soak(tmp_path):
    with pytest.raises(SystemExit, match="status 3"):
        soak_kills.must_run(python("import sys; sys.exit(3)"))


def test_rows_too_many_and_submissions_that_are_lost_are_counted():
    sent, before = [1.5, 2.5], {1: "b"}
    for found, again, expected in (
        ([2.5, 1.5], {0: "a", 1: "b"}, (2, 2, 0, True)),
        ([2.5, 1.5, 1.5], {0: "a", 1: "b"}, (3, 3, 0, False)),  # one is stored twice
        ([2.5, 1.5], {0: "a", 1: "c"}, (2, 2, 1, False)),  # one has another id than was acknowledged
        ([1.5], {0: "a"}, (1, 1, 1, False)),
        ([1.5, None], {0: "a", 1: "b"}, (2, 1, 0, False)),  # one is not scored
        ([1.5, 2.6], {0: "a", 1: "b"}, (2, 1, 0, False)),
    ):
        assert compare(found, sent, Receipts(before, again)) == expected


# ---- attacks


@pytest.fixture(scope="module")
def secret():
    ids, angles = soak.miniature_labels(0)
    return Secret("labels of a miniature", angles, np.char.rpartition(ids, "/")[:, 0])


def test_attacks_gain_where_the_whole_figure_is_told_and_nothing_where_none_is(secret):
    close = guesses(secret.angles, secret.sequences, error=1.0, bias=0.0)
    sequence = secret.sequences[0]
    close[secret.sequences == sequence, 1] += soak_attacks.WRONG
    wrong = guesses(secret.angles, secret.sequences)
    for attack, base, gain in (
        (soak_attacks.by_offsets, wrong, 0.2),
        (soak_attacks.by_climbing, wrong, 0.01),
        (partial(soak_attacks.by_shifts, sequence=sequence), close, 0.1),
    ):
        told = soak_attacks.play("a", attack, base, secret, lambda asked: soak_attacks.mae(asked, secret.angles))
        assert told.before - told.after > gain and told.after == told.in_full and told.informative > 1
        silent = soak_attacks.play("a", attack, base, secret, lambda _asked: 3.0)
        assert silent.after == silent.before and silent.informative == 0 and silent.in_full == told.after


def test_offsets_solve_for_the_mean_error_of_a_sequence(secret):
    angles, rows = secret.angles, secret.sequences == secret.sequences[0]
    base = guesses(angles, secret.sequences, error=2.0)
    found = soak_attacks.by_offsets(Base(base, secret.sequences), lambda asked: soak_attacks.mae(asked, angles), 1)
    expected = base[rows] - (base - angles)[rows].mean(axis=0)
    assert found[rows] == pytest.approx(expected) and np.array_equal(found[~rows], base[~rows])


# ---- the record


def test_a_record_reads_back_and_its_table_tells_what_went_wrong(tmp_path, monkeypatch):
    killed = soak_record.Killed(command="hpp x", seconds=1.0, kills=9, early=8, survivors=3, equal=7, leftovers=2)
    sent = soak_record.Sent(sent=12, acknowledged=5, rows=13, scored=11, lost=1)
    refused = soak_record.NoRoom(command="hpp x", where="a full disk", status=1, said="Error: a", lines=1, equal=True)
    traceback = soak_record.NoRoom(command="hpp y", where="a full disk", status=1, said="", lines=2, equal=False)
    parts = {
        "x": soak_record.Part(killed=killed, sent=sent, no_room=[refused]),
        "y": soak_record.Part(no_room=[traceback]),
    }
    record = soak_record.Soak(toolkit="1", processor="P", seed=4, parts=parts)
    write_record(tmp_path / "soak.json", record)
    assert read_record(tmp_path / "soak.json", soak_record.Soak, "a record") == record
    monkeypatch.setenv("COLUMNS", "1000")
    table = soak_record.describe_soak(record)
    for words in (
        "9 times, 8 in time", "the same 7 times; 3 processes left; 2 half-written files",
        "5 acknowledged before the kill, 1 of them lost; 13 rows, 11 scored", "1 said so in one line; 1 went on",
    ):  # fmt: skip
        assert words in table, table
    assert "silent" not in table and "Seed 4, release 1, on P." in table


def test_a_part_that_is_soaked_anew_leaves_the_others(tmp_path, monkeypatch, capsys):
    out, name = tmp_path / "soak.json", "silent connections"

    def silent(answered):
        return soak_record.Part(silent=soak_record.Silent(
            connections=3, seconds=1.0, opened=3, asked=9, answered=answered, slowest=0.1, lines=9, requests=9,
        ))  # fmt: skip

    def run(parts, *words):
        monkeypatch.setattr(soak, "PARTS", dict.fromkeys(soak.PARTS) | parts)
        monkeypatch.setattr(sys, "argv", ["soak", str(out), "--only", *words])
        soak.main()
        return read_record(out, soak_record.Soak, "a record").parts

    def stop(_place):
        raise KeyboardInterrupt

    first = run({name: lambda _: silent(8), "hpp serve": lambda _: soak_record.Part()}, name, "hpp serve")
    assert list(first) == ["hpp serve", name] and first[name] == silent(8)
    assert run({name: lambda _: silent(9)}, name) == {**first, name: silent(9)}
    assert "9 of 9 pages answered" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds what came of hpp serve, silent connections"):
        run({name: lambda _: silent(7), "hpp serve": stop}, name, "hpp serve")
    assert read_record(out, soak_record.Soak, "a record").parts[name] == silent(7)
