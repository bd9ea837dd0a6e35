"""A manifest that lies beside raw copies is used without being named."""

import shutil
from pathlib import Path

import click
import pytest

from benchmark.cli.main import main
from headposeplus.errors import HeadposeError
from headposeplus.raw import manifest
from headposeplus.raw.source import manifest_beside
from tests.benchmark.cli.test_cli import commands


@pytest.fixture
def apart(tiny, tmp_path):
    """A raw Biwi and a raw SynHead in folders of their own, with a manifest beside each, and no images."""
    for name, folder in (("one", "hpdb"), ("two", "synhead2_release")):
        (tmp_path / name).mkdir()
        (tmp_path / name / folder).symlink_to(tiny / folder)
        shutil.copy(tiny / "data_manifest.csv", tmp_path / name)
    return tmp_path / "one", tmp_path / "two"


@pytest.fixture
def change(apart):
    """Change the number of frames in a manifest's first row of a dataset."""

    def changed(folder, dataset):
        lines = (folder / "data_manifest.csv").read_text().splitlines()
        place = next(place for place, line in enumerate(lines) if line.startswith(f"{dataset},"))
        cells = lines[place].split(",")
        cells[3] = "other"  # the subject
        lines[place] = ",".join(cells)
        (folder / "data_manifest.csv").write_text("\n".join(lines) + "\n")

    return changed


def test_it_is_found_from_the_copy_from_above_and_from_within(tiny, monkeypatch):
    listed = tiny / "data_manifest.csv"
    for copies in ({"biwi": tiny / "hpdb"}, {"biwi": tiny}, {"synhead": tiny}, {"biwi": tiny, "synhead": tiny}):
        assert manifest_beside(copies) == listed
    monkeypatch.chdir(tiny)
    assert manifest_beside({"biwi": Path("hpdb")}) == manifest_beside({"biwi": Path()}) == Path("data_manifest.csv")
    monkeypatch.chdir(tiny / "hpdb")
    assert manifest_beside({"biwi": Path()}) == manifest_beside({"biwi": Path("..")}) == Path("../data_manifest.csv")


def test_without_one_it_is_that_of_the_real_datasets(apart, photographs):
    one, two = apart
    assert manifest_beside({}) is None and manifest_beside({"biwi": one / "nowhere"}) is None
    (one / "data_manifest.csv").unlink()
    assert manifest_beside({"biwi": one}) is None
    shutil.copy(manifest.default_path(), one)
    assert manifest_beside({"biwi": one}) is None
    shutil.copytree(photographs, two / "AFLW2000")  # beside a manifest that says nothing of photographs
    assert manifest_beside({"aflw2000": two / "AFLW2000"}) is None


def test_of_two_that_are_not_the_same_that_is_taken_which_says_what_both_say(apart, change):
    one, two = apart
    copies = {"biwi": one / "hpdb", "synhead": two / "synhead2_release"}
    assert manifest_beside(copies) == one / "data_manifest.csv"
    change(one, "synhead")  # what the manifest beside Biwi says of SynHead does not count
    assert manifest_beside(copies) == two / "data_manifest.csv"
    change(two, "biwi")
    with pytest.raises(HeadposeError, match=f"differ: {one}/data_manifest.csv that of `biwi`, {two}/data_manifest.csv"):
        manifest_beside(copies)
    (two / "data_manifest.csv").unlink()  # so that SynHead has the real datasets'
    with pytest.raises(HeadposeError, match="choose one by `manifest`"):
        manifest_beside(copies)


def test_one_that_repeats_the_rows_of_another_is_taken_for_both(apart):
    """As that which hpp render writes beside open heads."""
    one, two = apart
    biwi = manifest.biwi_rows(manifest.read(one / "data_manifest.csv")).values()
    heads = manifest.ManifestRow("synhead", "30", "BIWI", frames=25, source="render")
    manifest.write(two / "data_manifest.csv", [*biwi, heads])
    assert manifest_beside({"biwi": one, "synhead": two}) == two / "data_manifest.csv"


def test_what_is_no_manifest_is_one_line(apart, hpp):
    (apart[0] / "data_manifest.csv").write_text("id,pose\n1,2\n")
    output = hpp("verify", "--biwi", apart[0] / "hpdb", expect=1).output
    assert output.count("\n") == 1 and output.startswith(f"Error: {apart[0] / 'data_manifest.csv'}")
    assert (
        "lacks the columns" in output
        and "it lies beside the raw folders; move it away, or name another by --manifest" in output
    )
    (apart[0] / "data_manifest.csv").unlink()
    (apart[0] / "data_manifest.csv").mkdir()
    output = hpp("verify", "--biwi", apart[0] / "hpdb", expect=1).output
    assert output.count("\n") == 1 and "Is a directory" in output


def test_commands_use_it_say_so_and_let_the_option_win(tiny, tmp_path, hpp):
    said = f"manifest {tiny / 'data_manifest.csv'}, which lies beside the raw folders"
    output = hpp("verify", "--biwi", tiny / "hpdb", "--synhead", tiny / "synhead2_release", "--jobs", 1).output
    assert said in output and "raw Biwi: complete: 48 of 48 frames" in output
    given = hpp("verify", "--biwi", tiny / "hpdb", "--manifest", manifest.default_path(), "--jobs", 1, expect=3).output
    assert "which lies beside" not in given and "not complete" in given
    assert said in hpp("boxes", "project", "--biwi", tiny / "hpdb", "--out", tmp_path / "boxes.csv", "--jobs", 1).output


def test_every_command_that_takes_a_manifest_and_raw_folders_looks_beside_them():
    """Its help says so, and that comes from the one decorator that looks."""
    found = 0
    for words, command in commands(main):
        options = {option.name: option for option in command.params if isinstance(option, click.Option)}
        if "manifest" in options and {"biwi", "biwi_folder", "synhead"} & set(options):
            assert "beside" in options["manifest"].help, words
            found += 1
    assert found >= 9
