import builtins
import gc

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from benchmark.studies import analysis, plan
from headposeplus.errors import HeadposeError

statsmodels = pytest.importorskip("statsmodels", reason="statsmodels is not installed: pip install -e .[study]")


def crossed(rng, mean, draws, subjects, of_draws, of_persons, rest):
    """Differences of each draw's subjects, each of which is one of four persons, who return in other draws."""
    draw_effects, person_effects = rng.normal(0, of_draws, draws), rng.normal(0, of_persons, (subjects, 4))
    rows = []
    for draw in range(draws):
        for subject, member in enumerate(rng.integers(4, size=subjects)):
            value = mean + draw_effects[draw] + person_effects[subject, member] + rng.normal(0, rest)
            rows.append((draw, f"{member}-{subject}", value))
    return pd.DataFrame(rows, columns=["draw", "person", "difference"])


def test_it_finds_a_mean_and_its_intervals_cover_it():
    """Of intervals of 95 % of 120 simulated studies, 91.4 to 98.6 % should cover: two standard errors of that count.

    Persons differ more than draws, so intervals that take draws for independent, as they share persons, cover less.
    """
    mean, found, naive, times = -0.5, [], 0, 120
    for seed in range(times):
        table = crossed(np.random.default_rng(seed), mean, 10, 8, of_draws=0.2, of_persons=1.5, rest=0.3)
        found.append(analysis.estimate(table))
        of_draws = table.groupby("draw")["difference"].mean()
        low, high = stats.ttest_1samp(of_draws, 0).confidence_interval(0.95)
        naive += low <= mean <= high
    means = np.array([one.mean for one in found])
    assert means.mean() == pytest.approx(mean, abs=3 * means.std() / np.sqrt(times))
    covered = sum(one.low <= mean <= one.high for one in found) / times
    assert 0.91 <= covered <= 0.99
    assert naive / times < covered - 0.05
    for one in found:
        assert one.draws == 10 and one.low < one.mean < one.high
        assert (one.p < 0.05) == (one.low > 0 or one.high < 0)


def restricted_fit(table):
    """The mean and its standard error where the restricted likelihood is highest, by SciPy from many starts."""
    of_draw = pd.get_dummies(table["draw"]).to_numpy(float)
    of_person = pd.get_dummies(table["person"]).to_numpy(float)
    y, one = table["difference"].to_numpy(), np.ones((len(table), 1))

    def solved(variances):
        a, b, c = variances
        v = a * of_draw @ of_draw.T + b * of_person @ of_person.T + c * np.eye(len(y))
        inverse = np.linalg.inv(v)
        information = (one.T @ inverse @ one).item()
        mean = (one.T @ inverse @ y).item() / information
        rest = y - mean
        minus_twice = np.linalg.slogdet(v)[1] + np.log(information) + rest @ inverse @ rest
        return minus_twice, mean, information**-0.5

    starts = [(a, b, 0.1) for a in (0.0, 0.3) for b in (0.0, 0.3)]
    bounds = [(0, None), (0, None), (1e-6, None)]
    fits = [optimize.minimize(lambda v: solved(v)[0], start, bounds=bounds, method="L-BFGS-B") for start in starts]
    return solved(min(fits, key=lambda fit: fit.fun).x)[1:]


@pytest.mark.parametrize(("of_draws", "of_persons"), [(0.4, 0.6), (0.0, 0.6), (0.4, 0.0), (0.0, 0.0)])
def test_it_is_where_the_restricted_likelihood_is_highest(of_draws, of_persons):
    """Also where a variance is 0, at the edge of what it may be."""
    for seed in range(3):
        table = crossed(np.random.default_rng(seed), 0.2, 9, 6, of_draws, of_persons, rest=0.3)
        found, (mean, deviation) = analysis.estimate(table), restricted_fit(table)
        half = stats.t.ppf(0.975, 8) * deviation
        assert found.mean == pytest.approx(mean, abs=2e-3)
        assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=0.01 * half + 2e-3)
        own = (found.high - found.low) / 2 / stats.t.ppf(0.975, 8)
        assert found.p == pytest.approx(2 * stats.t.sf(abs(found.mean) / own, 8))


def test_without_effects_of_persons_it_is_a_t_test_over_draws():
    rng = np.random.default_rng(0)
    effects, rest = rng.normal(0.4, 0.5, 9), rng.normal(0, 0.3, (9, 6))
    rest -= rest.mean(axis=0) + rest.mean(axis=1)[:, None] - rest.mean()  # no person's, no draw's
    table = pd.DataFrame(
        [(d, p, effects[d] + rest[d, p]) for d in range(9) for p in range(6)], columns=["draw", "person", "difference"]
    )
    found, test = analysis.estimate(table), stats.ttest_1samp(effects, 0)
    interval = test.confidence_interval(0.95)
    assert found.mean == pytest.approx(effects.mean(), abs=1e-6)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-3)
    assert found.p == pytest.approx(test.pvalue, rel=1e-2) and found.draws == 9


def test_a_fit_that_does_not_converge_is_told(monkeypatch):
    from statsmodels.regression.mixed_linear_model import MixedLMResults

    monkeypatch.setattr(MixedLMResults, "converged", False, raising=False)
    monkeypatch.setattr(MixedLMResults, "__setattr__", lambda self, name, value: (
        None if name == "converged" else object.__setattr__(self, name, value)
    ))  # fmt: skip
    with pytest.raises(HeadposeError, match="the mixed model of the differences was not fitted"):
        analysis.estimate(crossed(np.random.default_rng(0), 0, 4, 4, 0.1, 0.1, 0.1))


def test_rows_may_come_in_any_order_and_with_any_names():
    table = crossed(np.random.default_rng(1), 0.3, 6, 5, 0.3, 0.6, 0.2)
    other = table.sample(frac=1, random_state=0).assign(draw=lambda t: "draw " + t["draw"].astype(str))
    assert analysis.estimate(other) == pytest.approx(analysis.estimate(table), rel=1e-4)
    opposite = analysis.estimate(table.assign(difference=-table["difference"]))
    assert (opposite.mean, opposite.low) == pytest.approx(
        (-analysis.estimate(table).mean, -analysis.estimate(table).high), rel=1e-4
    )


def test_what_the_findings_need_is_told(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("statsmodels"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(HeadposeError, match=r"the findings need statsmodels: pip install 'headposeplus\[study\]'"):
        analysis.estimate(pd.DataFrame({"draw": [0], "person": ["a"], "difference": [0.0]}))


def test_holm_against_statsmodels(monkeypatch):
    from statsmodels.stats.multitest import multipletests

    monkeypatch.setattr(gc, "collect", lambda: 0)  # which it calls each time: a quarter of a second in a whole run
    rng, seen = np.random.default_rng(0), set()
    for _ in range(60):
        p = rng.uniform(0, 1, rng.integers(1, 9)) ** 4
        level = float(rng.choice([0.0131, 0.05]))
        found = analysis.holm(p.tolist(), level)
        assert found == multipletests(p, level, method="holm")[0].tolist()
        seen.add(sum(found))
    assert {0, 1, 2, 3, 4} <= seen
    # By hand: 0.01 <= 0.05 / 3, 0.02 <= 0.05 / 2, 0.06 > 0.05; and what follows the first miss is not rejected.
    assert analysis.holm([0.06, 0.01, 0.02], 0.05) == [False, True, True]
    assert analysis.holm([0.03, 0.04, 0.001], 0.05) == [False, False, True]
    assert analysis.holm([], 0.05) == []


def test_what_the_looks_spend_is_pococks_function_and_sums_to_the_level():
    """alpha ln(1 + (e - 1) t) at the share t of the draws, less what was spent before (Lan & DeMets 1983)."""
    before = 0.0
    for look, spent in zip(plan.LOOKS, plan.SPENT, strict=True):
        now = 0.05 * np.log(1 + (np.e - 1) * look / plan.LOOKS[-1])
        assert spent == pytest.approx(now - before, abs=6e-5)
        before = now
    assert sum(plan.SPENT) == pytest.approx(0.05, abs=1e-9)


def test_claims_are_of_methods_that_are_run():
    for claim in (*plan.CLAIMS, *plan.OWN_CLAIMS, *plan.LATER_CLAIMS):
        for words in (claim.better, claim.worse):
            method, setting, ray = (*words.split(":"), "", "")[:3]
            assert method in (*plan.METHODS[claim.task], plan.STRONGEST), claim.text
            assert setting in ("", *plan.SETTINGS) and ray in ("", "ray"), claim.text
            assert method != plan.STRONGEST or setting == "augmented", claim.text
        assert claim.better != claim.worse and 0 < claim.share <= 1
    assert len({claim.text for claim in plan.CLAIMS}) == len(plan.CLAIMS)
    assert len(plan.DRAWS) == plan.LOOKS[-1] and not set(plan.PEOPLE) & set(plan.FIXED_ON)
