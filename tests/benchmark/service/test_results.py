"""What came of submissions, as tables for the organisers and for everybody."""

import csv
import io
import json

import pytest

from benchmark.service.results import Result, as_csv
from tests.benchmark.service.cases import about, files, new_token, outcome, predictions, send, serving


@pytest.fixture
def served(database):
    """A challenge with entries of two teams, a hidden one and a faulty one."""
    formula, plain = new_token(database, "=HYPERLINK(1)"), new_token(database, "Team B")
    with serving(database) as client:
        sent = [
            outcome(client, send(client, formula, files(predictions(2.0), about("-2+3 net")))),
            outcome(client, send(client, plain, files(predictions(3.0), about("Plain")))),
            outcome(client, send(client, plain, files(predictions(5.0, seed=1), about("No step")))),
            outcome(client, send(client, plain, files(predictions(1.0), about("Hidden")), publish="false")),
            outcome(client, send(client, plain, files(b"nonsense"))),
        ]
        yield client, sent


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_organisers_see_all_of_every_submission(served, database, tmp_path, hpp):
    client, sent = served
    path = tmp_path / "results.csv"
    assert hpp("serve", "results", path, "--database", database).output == f"5 submissions\nresults {path}\n"
    rows = rows_of(path.read_text())
    assert tuple(rows[0]) == Result._fields
    assert [(row["team"], row["method"], row["status"], row["published"]) for row in rows] == [
        ("'=HYPERLINK(1)", "'-2+3 net", "scored", "yes"), ("Team B", "Plain", "scored", "yes"),
        ("Team B", "No step", "scored", "yes"), ("Team B", "Hidden", "scored", "no"), ("Team B", "", "faulty", "yes"),
    ]  # fmt: skip
    assert [row["counts"] for row in rows] == ["yes"] * 4 + ["no"] and rows[4]["fault"] and not rows[4]["mae"]
    for row, one in zip(rows[:4], sent[:4], strict=True):
        assert float(row["told"]) == one["entry"]["scores"]["mae"]
        assert (row["improved"] == "yes") == one["entry"]["improved"] and row["received"] == one["received"][:19]
        low, high = sorted((float(row["public"]), float(row["private"])))
        assert low <= float(row["mae"]) <= high and row["protocol"] == "lab/faces@1"
    assert f"/entries/{rows[0]['key']}" == sent[0]["entry_url"]

    hpp("serve", "close", "--database", database)  # then the service tells the same
    for row, one in zip(rows[:4], sent[:4], strict=True):
        told = client.get(f"/api/submissions/{one['id']}").json()
        assert told["parts"] == {part: round(float(row[part]), 2) for part in ("public", "private")}
        assert told["entry"]["scores"]["mae"] == round(float(row["mae"]), 2)

    listed = json.loads(hpp("serve", "results", "--json", "--database", database).output)
    assert [one["team"] for one in listed] == ["=HYPERLINK(1)", *["Team B"] * 4] and listed[0]["published"] is True
    table = hpp("serve", "results", "--wide", "--database", database).output
    assert "No step" in table and len(table.splitlines()) == 7
    narrow = hpp("serve", "results", "--database", database, columns=80).output
    assert "HYPERLINK" in narrow and max(map(len, narrow.splitlines())) <= 80
    hpp("serve", "results", path, "--database", database)  # earlier results give way


def test_everybody_sees_of_the_board_what_it_shows(served, database, hpp):
    client, _ = served
    answer = client.get("/api/entries.csv")
    assert answer.headers["content-type"].startswith("text/csv") and '/api/entries.csv"' in client.get("/").text
    rows, listed = rows_of(answer.text), client.get("/api/entries").json()["entries"]
    assert [(row["team"], row["method"]) for row in rows] == [("'=HYPERLINK(1)", "'-2+3 net"), ("Team B", "Plain")]
    figures = ("private", "mae", "pitch", "yaw", "roll", "geodesic", "maev")
    for row, entry in zip(rows, listed, strict=True):
        assert float(row["public"]) == entry["scores"]["mae"] and not any(row[name] for name in figures)
    hpp("serve", "close", "--database", database)
    rows, listed = rows_of(client.get("/api/entries.csv").text), client.get("/api/entries").json()["entries"]
    assert sorted(row["method"] for row in rows) == ["'-2+3 net", "No step", "Plain"]
    for row, entry in zip(rows, listed, strict=True):
        assert {name: float(row[name]) for name in figures[1:]} == entry["scores"]
        assert {part: float(row[part]) for part in ("public", "private")} == entry["parts"]
        assert row["key"] == entry["key"] and row["target_images"] == "yes"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text):
    ((cell, number),) = csv.reader(io.StringIO(as_csv(["a", "b"], [[text, -1.5]]).partition("\n")[2], newline=""))
    assert cell == f"'{text.strip()}" and number == "-1.5"  # a number stays one


def test_a_file_of_something_else_is_not_lost(lite, tmp_path, hpp):
    assert "no such database" in hpp("serve", "results", "--database", lite, expect=1).output
    new_token(lite)
    assert hpp("serve", "results", "--database", lite).output == "nothing was submitted\n"
    assert json.loads(hpp("serve", "results", "--json", "--database", lite).output) == []
    labels = tmp_path / "labels.csv"
    labels.write_bytes(predictions(0))
    for path in (labels, tmp_path / "serve.db"):
        before = path.read_bytes()
        output = hpp("serve", "results", path, "--database", lite, expect=1).output
        assert f"{path}: exists already, and holds no results; name a new file" in output
        assert path.read_bytes() == before
