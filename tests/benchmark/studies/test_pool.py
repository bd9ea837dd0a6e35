import itertools
from collections import Counter

import numpy as np
import pytest

from benchmark.studies import pool
from headposeplus.datasets.dataset import open_dataset, open_shard, read_crops, read_labels
from headposeplus.errors import DatasetError, HeadposeError
from headposeplus.files import sha256

SEEDS = (0, 5)  # of which the first takes the rooms of the first member, the second those of the second
ROWS = ("id", "subject", "box", "box_source", "label/rotation", "label/pyr")
TURNED = ("source", "turn", "residual/geodesic", "residual/euler")


@pytest.fixture(scope="module")
def draws(members, tmp_path_factory):
    """Two draws, by seed."""
    return pool.draw_miniatures(members, SEEDS, tmp_path_factory.mktemp("draws"), 1)


def everyone(members):
    """All subjects of a member, Biwi's and SynHead's."""
    found = set()
    for name in ("biwi+", "synhead+"):
        found |= {row["subject"] for row in rows_of(members[0] / name).values()}
    return sorted(found)


def rows_of(folder):
    """All rows of a dataset as they are stored, by id."""
    dataset, rows = open_dataset(folder), {}
    for shard in dataset.info.shards:
        with open_shard(folder / shard.file) as file:
            names = [name for name in (*ROWS, *TURNED, "mask/bits") if name in file]
            fields = {name: file[name][...] for name in names}
            data, offset = file["image/bytes"][...], file["image/offset"][...]
        for i, (start, end) in enumerate(itertools.pairwise(offset)):
            row = {name: values[i].tobytes() for name, values in fields.items()} | {"image": data[start:end].tobytes()}
            row["subject"] = fields["subject"][i].decode()
            name = fields["id"][i].decode()
            assert name not in rows
            rows[name] = row
    assert len(rows) == dataset.info.rows
    return rows


def test_members_have_the_same_labels_and_other_people(members):
    for name in ("biwi+", "synhead+", "synbiwi+"):
        a, b = (rows_of(member / name) for member in members)
        assert a.keys() == b.keys()
        for key, row in a.items():
            assert {field: row[field] for field in ("subject", "label/rotation")} == {
                field: b[key][field] for field in ("subject", "label/rotation")
            }
            assert row["image"] != b[key]["image"]


def test_a_pool_is_written_once_and_is_no_other(members):
    out = members[0].parents[1]
    files = {path: path.stat().st_mtime_ns for path in (out / "people-3").rglob("*.png")}
    assert pool.make_pool(out, "tiny", 0, (3, 4), 32, 1) == members == [out / "people-3/data", out / "people-4/data"]
    assert files == {path: path.stat().st_mtime_ns for path in (out / "people-3").rglob("*.png")}
    with pytest.raises(HeadposeError, match="holds the miniature"):
        pool.make_pool(out, "tiny", 1, (3, 4), 32, 1)


def test_a_draw_is_whole(draws, members, hpp):
    manifest = members[0].parent / "raw/data_manifest.csv"
    for seed, folder in draws.items():
        assert folder.name == f"draw-{seed}"
        output = hpp("verify", folder, "--manifest", manifest, "--deep", "--jobs", 1).output
        assert f"{folder}: whole" in output, output
        joined = open_dataset(folder / "synhead++")
        assert len(read_labels(joined)[0]) == joined.info.rows == sum(part.info.rows for part in joined.parts())
        assert open_dataset(folder / "biwi+").info.cameras == open_dataset(members[0] / "biwi+").info.cameras


def test_everyone_comes_whole_from_the_member_that_was_chosen(draws, members):
    names = everyone(members)
    assert len(names) == 3 + 10  # sequences 03 and 15 show the same person
    kept = {name: [rows_of(member / name) for member in members] for name in ("biwi+", "synhead+", "synbiwi+")}
    for seed, folder in draws.items():
        chosen = pool.choose(names, len(members), seed)
        assert set(chosen.values()) == {0, 1}
        for name, theirs in kept.items():
            drawn = rows_of(folder / name)
            assert drawn.keys() == theirs[0].keys()
            for key, row in drawn.items():
                assert row == theirs[chosen[row["subject"]]][key], key


def test_rooms_are_those_of_one_member(draws, members):
    for seed, member in zip(SEEDS, members, strict=True):
        ours, theirs = (folder / "synhead+/backgrounds.h5" for folder in (draws[seed], member))
        assert sha256(ours) == sha256(theirs) == open_dataset(draws[seed] / "synhead+").info.backgrounds_sha256


def test_draws_have_the_same_labels(draws):
    for name in ("biwi+", "synhead+", "synbiwi+"):
        (ids, a), (others, b) = (read_labels(open_dataset(folder / name)) for folder in draws.values())
        first, second = np.argsort(ids), np.argsort(others)
        assert np.array_equal(ids[first], others[second]) and np.array_equal(a[first], b[second])
        images = [
            {crop.id: crop.encoded.tobytes() for crop in read_crops(dataset, np.arange(dataset.info.rows))}
            for dataset in (open_dataset(folder / name) for folder in draws.values())
        ]
        assert images[0] != images[1]


def test_a_draw_is_written_once_and_finished_where_it_was_stopped(draws, members, tmp_path):
    def times(folder):
        return {path.name: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    folder = pool.draw_miniature(members, 7, tmp_path / "draw-7")
    before = times(folder)
    contents = {path.parent.name: path.read_bytes() for path in folder.glob("*/dataset.json")}
    assert pool.draw_miniature(members, 7, folder) == folder and times(folder) == before
    (folder / "synhead++/dataset.json").unlink()
    next((folder / "synbiwi+").glob("*.h5")).unlink()
    pool.draw_miniature(members, 7, folder)
    assert {path.parent.name: path.read_bytes() for path in folder.glob("*/dataset.json")} == contents


def test_a_shard_that_was_changed_in_a_member_is_found_in_its_draws(draws, members, tmp_path, hpp):
    folder = pool.draw_miniature(members, 9, tmp_path / "draw-9")
    link = sorted((folder / "synhead+").glob("shard-*.h5"))[0]
    content = bytearray(link.read_bytes())
    link.unlink()
    content[len(content) // 2] ^= 1
    link.write_bytes(content)
    output = hpp("verify", folder, "--jobs", 1, expect=3).output
    assert f"{link.name}: damaged or changed" in output
    link.unlink()
    with pytest.raises(DatasetError, match="the shard is missing"):
        open_dataset(folder / "synhead+")


def test_choices_are_even_and_those_of_biwi_do_not_depend_on_who_else_is_there():
    subjects = [f"F{i:02d}" for i in range(1, 7)] + [f"M{i:02d}" for i in range(1, 15)]
    heads = [f"{letter}{i:02d}" for letter in "fm" for i in range(1, 6)]
    counts, pairs = Counter(), Counter()
    for seed in range(400):
        chosen = pool.choose(sorted(subjects + heads), 4, seed)
        assert pool.choose(subjects, 4, seed) == {name: chosen[name] for name in subjects}
        assert pool.choose(subjects, 4, seed) == pool.choose(subjects, 4, seed)
        counts.update(chosen.values())
        pairs[chosen["F01"], chosen["m05"]] += 1
    assert all(abs(count / 12000 - 1 / 4) < 0.02 for count in counts.values())
    assert len(pairs) == 16 and max(pairs.values()) < 50  # 25 expected
