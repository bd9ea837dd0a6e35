"""The page on the data: its links, and where its numbers come from."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from benchmark.training.presets import PRESETS
from benchmark.upkeep import data_page, readme
from benchmark.upkeep.bench_build import BuildFigures
from benchmark.upkeep.bench_train import TrainFigures
from headposeplus.raw import manifest

PAGE = (Path(__file__).resolve().parents[3] / "docs/data.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def figures():
    train = {store: readme._bench(f"train-gpu-{store}", TrainFigures) for store in ("device", "host", "stream")}
    return readme._bench("build", BuildFigures), readme._real_frames(), train


def hours(table, store):
    row = next(line for line in table.splitlines() if line.startswith(f"| {store} "))
    return [float(cell) for cell in row.split("|")[2:6]]


def test_every_address_is_one_and_says_who_gives_it():
    known = set()
    for copies in data_page.COPIES.values():
        for copy in copies:
            assert copy.name and copy.holds and copy.given_by
            known |= {copy.link, *LINK.findall(f"{copy.given_by} {copy.size} {copy.holds}")}
    outside = {link for link in LINK.findall(PAGE) if not link.startswith(("open-heads.md", "datasets.md"))}
    assert outside == known and not re.search(r"(?<!\()https?://", PAGE)
    for link in known:
        parts = urlsplit(link)
        assert parts.scheme in ("http", "https") and "." in parts.hostname and re.fullmatch(r"[!-~]+", link), link


def test_the_numbers_follow_from_the_records():
    build, real, train = figures()
    sizes = {need.name: need for need in data_page.needs(build, real)}
    frames = sum(len(row.numbers) for row in manifest.listed_sequences(manifest.read()).values())
    assert [need.crops for need in sizes.values()] == [frames, 510_960, 10 * frames]
    assert sizes["biwi+"].decoded == frames * 224 * 224 * 3
    assert sizes["biwi+"].stored == pytest.approx(frames * real.stored_bytes / real.frames)
    assert sizes["synbiwi+"].decoded == 10 * frames * (224 * 224 * 3 + 224 * 224 / 8)
    steps = int((510_960 + 10 * frames) * 0.97) // 200
    first, second, both, table = hours(data_page.describe_training_needs(build, real, train), "host")
    alone, adapting = (sorted(stage.images_a_second)[1] for stage in train["host"].stages)
    at_first = sorted(train["host"].stages[1].images_a_second_at_first)[1]
    assert first == pytest.approx(20 * steps * 200 / alone / 3600, abs=0.01)
    # While lambda is 0, for 7 of 19 epochs (10 of 30 in da), a step is shorter.
    assert second == pytest.approx(steps * 400 * (7 / at_first + 12 / adapting) / 3600, abs=0.01)
    assert both == pytest.approx(first + second, abs=0.06)
    # Three methods of pda, and two of da, whose source is SynBiwi+ alone.
    steps_of_da = int(10 * frames * 0.97) // 200
    of_da = steps_of_da * 200 * (20 / alone + 2 * 2 * (10 / at_first + 20 / adapting)) / 3600
    assert table == pytest.approx(first + 3 * second + of_da, abs=0.1)


def test_a_rate_at_first_that_was_not_measured_is_that_of_the_stage():
    _, _, train = figures()
    first, second = train["host"].stages
    without = msgspec.structs.replace(
        train["host"], stages=[first, msgspec.structs.replace(second, images_a_second_at_first=[])]
    )
    _, hours = data_page.training_hours(without, 100_000, "pda")
    assert hours == pytest.approx(19 * 97_000 * 2 / sorted(second.images_a_second)[1] / 3600)


def test_another_record_gives_another_page(monkeypatch):
    build, real, train = figures()
    slower = msgspec.structs.replace(
        train["host"],
        stages=[
            msgspec.structs.replace(
                stage,
                images_a_second=[rate / 10 for rate in stage.images_a_second],
                images_a_second_at_first=[rate / 10 for rate in stage.images_a_second_at_first],
            )
            for stage in train["host"].stages
        ],
    )
    before, after = (hours(data_page.describe_training_needs(build, real, {"host": some}), "host")
                     for some in (train["host"], slower))  # fmt: skip
    assert after[1] == pytest.approx(10 * before[1], rel=0.02)
    larger = msgspec.structs.replace(build, stored_mib=2 * build.stored_mib)
    assert data_page.needs(larger, real)[1].stored == 2 * data_page.needs(build, real)[1].stored
    monkeypatch.setitem(PRESETS, "paper", PRESETS["paper"]._replace(stage1_epochs=40))
    assert hours(data_page.describe_training_needs(build, real, train), "host")[0] == pytest.approx(
        2 * before[0], rel=0.02
    )
