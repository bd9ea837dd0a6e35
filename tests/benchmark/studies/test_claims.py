import numpy as np
import pandas as pd
import pytest

from benchmark.studies import analysis, claims, plan
from benchmark.studies.plan import Claim
from headposeplus.errors import HeadposeError

pytest.importorskip("statsmodels", reason="statsmodels is not installed: pip install -e .[study]")

KINDS = [f"{kind}{angle}" for kind in ("", "ray ") for angle in plan.ANGLES]
# By method and setting: what it adds to the errors of the first stage, degrees.
ADDED = {("first", "paper"): 0.0, ("good", "paper"): -1.0, ("bad", "paper"): 0.8, ("same", "paper"): 0.0,
         ("first", "augmented"): -2.0, ("good", "augmented"): -4.0}  # fmt: skip
CLAIMS = (
    Claim("good", "pda", "good", "first", primary=True),
    Claim("bad", "pda", "bad", "first", primary=True),
    Claim("same", "pda", "same", "first"),
)


@pytest.fixture
def runs():
    """Runs of ten draws of five persons; errors of single methods differ by a tenth of a degree by chance."""
    rng, rows = np.random.default_rng(0), []
    for draw in range(100, 110):
        of_draw = rng.normal(0, 0.2)
        for subject in range(5):
            person = f"{rng.integers(3)}-F{subject:02d}"
            common = 8 + of_draw + rng.normal(0, 1, 6)
            for (method, setting), added in ADDED.items():
                errors = common + added + rng.normal(0, 0.1, 6)
                rows.append([draw, "pda", setting, method, person, *errors, np.nan, "cpu"])
                # The same on the other task has no difference at all.
                rows.append([draw, "da", setting, method, person, *common, np.nan, "cpu"])
    columns = ["draw", "task", "setting", "method", "person", *KINDS, "accuracy", "device"]
    return pd.DataFrame(rows, columns=columns)


LOOKS = dict(zip((5, 8, 16), plan.SPENT, strict=True))


def test_differences_are_paired_and_by_setting(runs):
    found = claims.differences(runs, CLAIMS[0], "paper")
    assert len(found) == 50 and found["difference"].mean() == pytest.approx(-1, abs=0.05)
    pda = runs[(runs["task"] == "pda") & (runs["setting"] == "paper")].set_index(["draw", "person", "method"])
    for row in found.itertuples():
        good, first = (pda.loc[row.draw, row.person, method][plan.ANGLES[0] : plan.ANGLES[-1]].mean()
                       for method in ("good", "first"))  # fmt: skip
        assert row.difference == pytest.approx(good - first)
    row = next(claims.differences(runs, CLAIMS[0], "paper", ["yaw", "roll"], "ray ").itertuples())
    good, first = (
        pda.loc[row.draw, row.person, method][["ray yaw", "ray roll"]].mean() for method in ("good", "first")
    )
    assert row.difference == pytest.approx(good - first)
    # A setting of one side's own, and a share of the worse one's error: 4 - 0.9 * 7 from 8 - 4 and 8 - 1.
    own = Claim("own", "pda", "good:augmented", "good:paper", share=0.9)
    assert claims.differences(runs, own, "augmented")["difference"].mean() == pytest.approx(4 - 0.9 * 7, abs=0.2)


def test_one_side_may_be_scored_with_the_viewing_ray(runs):
    """Then the errors with the ray of the one are compared with the plain ones of the other."""
    lower = runs.assign(**{f"ray {angle}": runs[angle] - 3 for angle in plan.ANGLES})
    claim = Claim("ray", "pda", "good:augmented:ray", "first:paper")
    assert claims.differences(lower, claim, "paper")["difference"].mean() == pytest.approx(-7, abs=0.1)
    claim = claim._replace(worse="first:augmented:ray")
    assert claims.differences(lower, claim, "paper")["difference"].mean() == pytest.approx(-2, abs=0.1)


def test_a_claim_is_decided_at_the_first_look_that_rejects(runs):
    good, bad, same = claims.judge(runs, CLAIMS, "paper", LOOKS)
    assert (good.verdict, good.decided) == ("holds", 5)
    assert (bad.verdict, bad.decided) == ("does not hold: the opposite does", 5)
    assert (same.verdict, same.decided) == ("not decided", None)
    for judged, mean in ((good, -1), (bad, 0.8), (same, 0)):
        claim = Claim(judged.text, "pda", judged.text, "first")
        whole = analysis.estimate(claims.differences(runs, claim, "paper"))
        assert (judged.mean, judged.low, judged.high) == pytest.approx(whole[:3], abs=6e-4)
        assert judged.mean == pytest.approx(mean, abs=0.06) and judged.draws == 10
        assert judged.parts.keys() == {"pitch", "yaw and roll"} and judged.ray[0] == pytest.approx(mean, abs=0.06)
        # All three angles together are pitch once and the mean of yaw and roll twice.
        assert (judged.parts["pitch"][0] + 2 * judged.parts["yaw and roll"][0]) / 3 == pytest.approx(
            judged.mean, abs=5e-3
        )


def test_levels_are_of_looks_and_of_families(runs, monkeypatch):
    """What is judged at a look is Holm's method at the look's share, in each family, over the draws so far."""
    asked, p = [], {"good": 0.011, "bad": 0.02, "same": 0.0178}

    def estimated(table):
        asked.append(sorted(set(table["draw"])))
        name = min(p, key=lambda text: abs(table["difference"].mean() - {"good": -1, "bad": 0.8, "same": 0}[text]))
        return analysis.Estimate(-0.1, -0.2, 0.0, p[name], table["draw"].nunique())

    monkeypatch.setattr(claims, "estimate", estimated)
    good, bad, same = claims.judge(runs, CLAIMS, "paper", LOOKS)
    # Of two primary claims the smaller p has to be below half of 0.0179; alone in its family, 0.0178 is enough.
    assert (good.decided, bad.decided, same.decided) == (None, None, 5)
    assert asked[:6] == [list(range(100, 105))] * 3 + [list(range(100, 108))] * 3
    assert all(len(draws) == 10 for draws in asked[6:])  # the third look has not come, the intervals are of all draws
    p["good"] = 0.006  # below half of 0.0131, so that the first look decides, and the other is judged at all of it
    p["bad"] = 0.0125
    assert [one.decided for one in claims.judge(runs, CLAIMS, "paper", LOOKS)] == [5, 5, 5]
    p["good"], p["bad"] = 0.006, 0.0185
    assert [one.decided for one in claims.judge(runs, CLAIMS, "paper", LOOKS)] == [5, None, 5]


def test_before_the_first_look_nothing_is_decided(runs):
    few = runs[runs["draw"] < 104]
    assert [one.verdict for one in claims.judge(few, CLAIMS, "paper", LOOKS)] == ["not decided"] * 3


def test_the_record_is_of_the_kept_runs(runs, tmp_path, monkeypatch, capsys):
    later = Claim("later", "pda", "good:augmented:ray", "good:paper")
    own = Claim("own", "pda", "good:augmented", "good:paper", share=0.9)
    for name, value in {
        "LOOKS": tuple(LOOKS), "CLAIMS": CLAIMS[:1], "OWN_CLAIMS": (own,), "LATER_CLAIMS": (later,),
        "LATER": tuple(range(106, 111)), "DRAWS": tuple(range(100, 120)),
    }.items():  # fmt: skip
        monkeypatch.setattr(plan, name, value)
    with pytest.raises(HeadposeError, match=r"runs\.csv: expected the runs of benchmark\.studies\.power"):
        claims.main([str(tmp_path)])
    runs.to_csv(tmp_path / "runs.csv", index=False)
    claims.main([str(tmp_path)])
    found = claims.read(tmp_path)
    assert (found.draws, found.devices) == (10, ["cpu"])
    verdicts = [(one.text, one.setting, one.verdict) for one in (*found.paper, *found.own)]
    assert verdicts == [("good", "paper", "holds"), ("good", "augmented", "holds"), ("own", "augmented", "holds")]
    assert capsys.readouterr().out.count(" holds\n") == 3
    # Later claims wait for all of their draws, and are judged on no others.
    assert found.later == []
    monkeypatch.setattr(plan, "LATER", tuple(range(106, 110)))
    claims.main([str(tmp_path)])
    [one] = claims.read(tmp_path).later
    assert (one.text, one.setting, one.draws, one.decided, one.verdict) == ("later", "augmented", 4, 4, "holds")
    few = runs[runs["draw"] >= 106]
    assert one.mean == pytest.approx(analysis.estimate(claims.differences(few, later, "augmented")).mean, abs=6e-4)


def test_a_draw_that_is_missing_would_shift_a_look(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "DRAWS", tuple(range(100, 120)))
    runs[runs["draw"] != 103].to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(HeadposeError, match=r"runs\.csv: lacks the draws 103, so a look would be at others"):
        claims.main([str(tmp_path)])


def test_a_side_that_is_missing_is_told(runs):
    lacking = runs[~((runs["draw"] == 104) & (runs["method"] == "good"))]
    with pytest.raises(HeadposeError, match="good: its two sides are not of the same draws and persons"):
        claims.differences(lacking, CLAIMS[0], "paper")
