import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from benchmark.studies import claims, diagnosis, findings, plan, real_pixels
from benchmark.upkeep.readme import ROOT
from headposeplus.errors import HeadposeError

KEPT = ROOT / "results" / "findings"


def test_every_table_comes_from_the_records(tmp_path):
    for name, part in findings.TABLES.items():
        assert len(part(KEPT).splitlines()) > (0 if name in ("setting", "photographs in words") else 2)
        with pytest.raises(HeadposeError, match=r"expected .*|No such file"):
            part(tmp_path)


def test_the_kept_claims_are_those_of_the_kept_runs():
    """The means of the claims, by plain averages over persons and draws: the mixed model weights them about alike."""
    runs, kept = claims.read_runs(KEPT), claims.read(KEPT)
    assert kept.draws == runs["draw"].nunique() >= plan.LOOKS[0]
    for one in kept.paper:
        claim = next(claim for claim in plan.CLAIMS if claim.text == one.text)
        some = runs[(runs["task"] == claim.task) & (runs["setting"] == one.setting)]
        means = some.groupby(["method", "draw"])[list(plan.ANGLES)].mean().mean(axis=1)
        plain = means[claim.better] - means[claim.worse]
        assert one.mean == pytest.approx(plain.mean(), abs=0.15)
        assert one.low < one.mean < one.high
        # Student's interval over the draws alone takes persons who return for new ones, so it is seldom the wider one.
        half = plain.std() / np.sqrt(len(plain)) * 2.1
        assert half < one.high - one.low < 8 * half


def test_claims_are_plain_differences_with_the_sign_of_the_picture():
    """A - B by plain averages over the kept runs, and verdicts that fit its sign and what the paper says."""
    runs, signs = claims.read_runs(KEPT), set()
    for line in findings.claims_table(KEPT).splitlines()[2:]:
        name, says, *cells = (cell.strip(" *") for cell in line.strip("|").split("|"))
        task, a, b = re.fullmatch(r"(\w+): (\S+) - (\S+)", name).groups()
        assert says == ("higher" if (task, a) in (("pda", "dann"), ("pda", "pada-like")) else "lower")
        assert a != plan.FIRST
        for setting, difference, verdict in (("paper", *cells[:2]), ("augmented", *cells[2:])):
            some = runs[(runs["task"] == task) & (runs["setting"] == setting)]
            plain = some.groupby("method")[list(plan.ANGLES)].mean().mean(axis=1)
            mean, low, high = map(float, re.findall(r"[+-]?\d+\.\d+", difference))
            assert low <= mean <= high and mean == pytest.approx(plain[a] - plain[b], abs=0.15)
            if verdict.startswith(claims.HOLDS):
                assert (mean > 0) == (says == "higher")
            elif verdict.startswith(claims.OPPOSITE):
                assert (mean > 0) == (says == "lower")
            signs.add((says, verdict.partition(" (")[0]))
    assert {("higher", claims.HOLDS), ("lower", claims.OPPOSITE)} <= signs


def test_claims_on_photographs_name_their_reference_and_count():
    runs = pd.read_csv(KEPT / real_pixels.RUNS)
    runs = runs[runs["source"].isin(["miniature", "open"])]
    runs = runs.groupby(["task", "source", "setting", "method"])["mae"].mean().to_dict()
    words, paper = findings.photographs_words(KEPT), [key for key in runs if key[2] == "paper"]
    for task in ("da", "pda", "pda-aflw2000"):
        adversaries = [key for key in paper if key[0] == task and key[3] in ("dann", "pada-like", "padaco")]
        above = sum(runs[key] > runs[(*key[:3], plan.FIRST)] for key in adversaries)
        assert f"{above} of {len(adversaries)} is above that of `{plan.FIRST}`" in words
    for method in ("source-only", "source-only-mixed", "padaco"):
        some = [key for key in paper if key[3] == method]
        lowered = sum(runs[(*key[:2], "augmented", method)] < runs[key] for key in some)
        assert f"{lowered} of {len(some)} times for `{method}`" in words


def test_the_runs_are_those_of_the_plan():
    runs = claims.read_runs(KEPT)
    assert set(runs["draw"]) <= set(plan.DRAWS) and not set(plan.PEOPLE) & set(plan.FIXED_ON)
    members = {int(person.split("-")[0]) for person in runs["person"]}
    assert members == set(range(len(plan.PEOPLE)))
    for _, of_draw in runs.groupby("draw"):
        for task, methods in plan.METHODS.items():
            for setting in plan.SETTINGS:
                some = of_draw[(of_draw["task"] == task) & (of_draw["setting"] == setting)]
                wanted = {*methods, *([plan.STRONGEST] if setting == "augmented" else [])}
                assert set(some["method"]) == wanted
                assert (some.groupby("method")["person"].nunique() == 20).all()


def test_the_plan_is_older_than_its_records():
    def first(path):
        words = ["git", "-C", str(ROOT), "log", "--format=%ct", "--diff-filter=A", "--", path]
        times = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
        return int(times[-1]) if times else None

    planned, measured = first("benchmark/studies/plan.py"), first("results/findings/runs.csv")
    if planned is None or measured is None or planned == measured:
        pytest.skip("there is no history here, or only its end")
    assert planned < measured


def test_bounds_of_the_miniature():
    kept = diagnosis.read(KEPT)
    assert kept.scale == plan.SCALE
    for one in kept.miniatures:
        assert max(abs(error.down) for error in one.built) < 0.005
        assert max(abs(error.scale - 1) for error in one.built) < 0.02
        lamps = one.steps["and no body"].bias[0] - one.steps["and the source's lamps"].bias[0]
        assert abs(lamps) < 2


def test_photographs_stand_by_size_and_source(tmp_path):
    shutil.copy(KEPT / real_pixels.RUNS, tmp_path)
    runs = pd.read_csv(tmp_path / real_pixels.RUNS)
    text = findings.photographs_table(tmp_path)
    assert all(f"{source}, " in text for source in ("miniature", "open")) and "224 pixels" not in text
    one = runs[runs["size"] == 64].iloc[0]
    assert f"{one['mae']:.2f}" in text
    real_pixels.keep(pd.DataFrame([dict(one) | {"mae": 99.0}]), tmp_path / real_pixels.RUNS)
    assert len(pd.read_csv(tmp_path / real_pixels.RUNS)) == len(runs)
    assert "99.00" in findings.photographs_table(tmp_path)


def test_networks_and_sizes_stand_apart_each_with_its_errors():
    runs = pd.read_csv(KEPT / real_pixels.RUNS)
    large = runs[runs["source"] == "miniature of the real sizes"]
    names, _, *rows = [line.split("|")[1:-1] for line in findings.sizes_table(KEPT).splitlines()]
    methods = [name.strip() for name in names[3:]]
    shown = {
        (row[0].strip(), int(row[1]), method): float(cell.split()[0])
        for row in rows
        for method, cell in zip(methods, row[3:], strict=True)
        if cell.strip()
    }
    backbones = {plan.PRESET: "slim"}
    assert shown == {
        (backbones.get(run.preset, "ResNet18"), run.size, run.method): pytest.approx(run.mae, abs=0.005)
        for run in large.itertuples()
    }
    assert len(shown) == len(large) > 5
