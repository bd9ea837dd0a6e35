"""The benchmark of the service's database."""

import pytest

pytest.importorskip("sqlalchemy")

from benchmark.studies.records import read_record
from benchmark.upkeep import bench_service, postgres


@pytest.fixture
def has_postgres():
    try:
        postgres._program("initdb")
        pytest.importorskip("psycopg")
    except postgres.NoPostgresError as error:
        pytest.skip(str(error))


def test_bench_service_measures_what_it_says(has_postgres, tmp_path, hpp, monkeypatch):
    monkeypatch.setattr(bench_service, "TIMES", 2)
    kept = tmp_path / "service.json"
    text = hpp("bench", "service", "--submissions", 1000, "--rounds", 1, "--json", kept, "--wide").output
    figures = read_record(kept, bench_service.ServiceFigures, "figures")
    assert figures.sizes == (100, 1000) and (figures.before, figures.now) == (4, 6)
    places = {(one.engine, one.rows) for one in figures.lookups}
    assert places == {(engine, rows) for engine in ("SQLite", "PostgreSQL") for rows in (100, 1000)}
    assert len(figures.lookups) == 4 * 9 and all(len(one.ms) == 1 and one.ms[0] > 0 for one in figures.lookups)
    assert bench_service.describe_service(figures, "github").startswith("| database")
    assert "Databases of 100 and 1,000 submissions" in text and "accept a submission" in text


def test_bench_service_takes_no_folder_that_is_no_checkout(tmp_path, hpp):
    told = hpp("bench", "service", "--before", tmp_path, expect=1).output
    assert "no checkout of an earlier release" in told and str(tmp_path) in told and "Traceback" not in told


def test_where_no_server_of_postgresql_is_installed_that_is_said(hpp, monkeypatch):
    monkeypatch.setattr(postgres.shutil, "which", lambda _name: None)
    monkeypatch.setattr(postgres, "folders", lambda _folder: [])
    told = hpp("bench", "service", expect=1).output
    assert "no PostgreSQL server is installed: initdb" in told and "install the package postgresql" in told
