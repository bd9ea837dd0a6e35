import os
import pty
import subprocess
import sys

import numpy as np
import pytest

from headposeplus import tables

ROWS = [
    {
        "name": "one",
        "frames": "15,678",
        "what it is": "a text of many words that goes on and on and on",
        "hash": "4f3eb",
    },
    {"name": "another-name-of-one-word", "frames": "7", "what it is": "short", "hash": "beff45"},
]


@pytest.fixture
def columns(monkeypatch):
    return lambda number: monkeypatch.setenv("COLUMNS", str(number))


def rebuilt(text):
    """The cells of a table, each put together again from its lines."""
    lines = text.splitlines()
    place = next(place for place, line in enumerate(lines) if not line.strip("- "))
    rule, lines = lines[place], lines[place + 1 :]
    places = [place for place, sign in enumerate(rule) if sign == "-" and rule[place - 1 : place] != "-"]
    cells = []
    for line in lines:
        parts = [line[start:end].strip() for start, end in zip(places, [*places[1:], None], strict=True)]
        if parts[0]:
            cells.append(parts)
        else:
            cells[-1] = [f"{old} {new}".strip() for old, new in zip(cells[-1], parts, strict=True)]
    return cells


@pytest.mark.parametrize("number", [60, 66, 72, 80, 100])
def test_a_table_fits_and_loses_no_word(number, columns):
    columns(number)
    text = tables.table(ROWS, right=["frames"])
    assert max(map(len, text.splitlines())) <= number - 2
    assert rebuilt(text) == [list(row.values()) for row in ROWS]
    assert "     7  short" in text  # to the right


def test_a_table_that_fits_is_one_line_a_row(columns):
    columns(200)
    assert len(tables.table(ROWS).splitlines()) == 4
    columns(60)
    assert len(tables.table(ROWS).splitlines()) > 4
    with tables.whole_rows():
        assert len(tables.table(ROWS).splitlines()) == 4
        assert tables.prose("word " * 50) == ["word " * 50]
    assert tables.width() == 58


def test_headers_are_wrapped_before_cells(columns):
    columns(40)
    rows = [{"a long header of words": "1.25", "another long header": "3.50 to 4.75", "text": "7 frames"}]
    assert rebuilt(tables.table(rows)) == [["1.25", "3.50 to 4.75", "7 frames"]]
    assert len(tables.table(rows).splitlines()) == 4


def test_where_no_column_can_be_narrower_each_row_is_told_by_names(columns):
    columns(40)
    wide = [{f"column{number}": "unbreakable" for number in range(6)}]
    assert tables.table(wide).splitlines() == [f"column{number}  unbreakable" for number in range(6)]


def test_markdown_is_never_wrapped(columns):
    columns(40)
    assert "| a text of many words that goes on and on and on |" in tables.table(ROWS, "github")
    assert tables.table([], "github") == tables.table([]) == ""


def test_rows_may_lack_what_others_have():
    assert rebuilt(tables.table([{"a": "1"}, {"a": "2", "b": "3"}])) == [["1", ""], ["2", "3"]]


def test_nothing_in_a_cell_moves_the_cursor():
    assert "\x1b" not in tables.table([{"name": "red\x1b[31m\ntwo"}]) and "red?[31m two" in tables.table(
        [{"name": "red\x1b[31m\ntwo"}]
    )


def test_words_and_paths_are_not_broken(columns):
    columns(40)
    path = "/a/very/long/path/that/is/longer/than/the/terminal/is/wide.csv"
    [text] = tables.prose(f"the report is written to {path} and nowhere else-where")
    assert tables.prose(f"report {path}") == [f"report {path}"]  # for who copies it, or reads it by a script
    assert path in text.split() and "else-where" in text.split()
    assert all(len(line) <= 38 or path in line for line in text.splitlines())
    assert all(line.startswith("  ") for line in text.splitlines()[1:])


def test_short_texts_stand_side_by_side(columns):
    columns(40)
    lines = tables.columns([f"cell {number}" for number in range(10)]).splitlines()
    assert lines[0] == "cell 0  cell 1  cell 2  cell 3  cell 4" and len(lines) == 2


def test_the_width_is_that_of_the_terminal(monkeypatch):
    code = "from headposeplus import tables; print(tables.width())"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert piped.stdout.decode().strip() == "78"
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", "120"], stdin=theirs, check=True)
    subprocess.run([sys.executable, "-c", code], stdin=theirs, stdout=theirs, env=environment, check=True)
    assert os.read(ours, 100).decode().strip() == "118"
    monkeypatch.setenv("COLUMNS", "0")
    assert tables.width() in (78, tables._columns() - 2)


@pytest.mark.parametrize(
    ("value", "signed", "rounded"),
    [(0.0, "0.00", "0.00"), (-0.0, "0.00", "0.00"), (-0.004, "0.00", "0.00"), (0.004, "0.00", "0.00"),
     (-0.006, "-0.01", "-0.01"), (0.25, "+0.25", "0.25"), (-12.345678, "-12.35", "-12.35"),
     (1234.5, "+1234.50", "1234.50")],
)  # fmt: skip
def test_what_is_rounded_to_zero_has_no_sign(value, signed, rounded):
    assert (tables.signed(value), tables.rounded(value)) == (signed, rounded)
    # As it is written without these, also where a number of NumPy is rounded otherwise.
    assert tables.rounded(np.float64(18.095)) == f"{18.095:.2f}" and tables.signed(-0.4, 0) == "0"
