"""Sentences under figures: they say the estimate, its interval and where that lies, and no more."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ded import problems, reading, stats, wording


def cells(**values):
    """One base, three replicates; a column is an arm's scores."""
    rows = [
        {"arm": arm, "base": "s1", "replicate": replicate, "accuracy": score}
        for arm, scores in values.items()
        for replicate, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


LIFTED = cells(before=(0.3, 0.4, 0.5), a=(0.5, 0.61, 0.7), b=(0.31, 0.38, 0.5))


def test_a_difference_says_where_its_interval_lies():
    above = reading.difference(LIFTED, "a", "before", "ID pass@1")
    assert above.startswith("ID pass@1, a minus before: +20.3 [18.9, 21.8] points, above 0")
    assert reading.difference(LIFTED, "before", "a", "x").endswith("below 0.")
    assert "holds 0" in reading.difference(LIFTED, "b", "before", "x")
    alone = reading.difference(cells(before=(0.3,), a=(0.4,)), "a", "before", "x")
    assert (
        alone
        == "x, a minus before: +10.0 points, no interval (fewer than two replicates in a base)."
    )
    nothing = cells(before=(0.3, 0.4, 0.5), a=(math.nan,) * 3)
    assert "not measured (arm a was not run, or lacked examples)" in reading.difference(
        nothing, "a", "before", "x"
    )


@pytest.mark.parametrize(
    "effects, expected",
    [
        ([1] * 9 + [-1], "9 of 10 bases above 0"),
        ([1] * 8 + [-1] * 2, "8 of 10 bases above 0, they disagree"),
        ([-1] * 8 + [1] * 2, "2 of 10 bases above 0, they disagree"),
        ([1, 1, -1], "2 of 3 bases above 0, they disagree"),
        ([1, 1, 0], "2 of 3 bases above 0"),
        ([1] * 4 + [-1], "4 of 5 bases above 0"),
        ([1, None, 1], "2 of 2 bases above 0"),
        ([1], ""),
    ],
)
def test_bases_that_differ_in_sign_are_counted(effects, expected):
    part = {"bases": dict(enumerate(effects)), "over": "bases"}
    assert wording.bases(part) == expected
    fixed = f"{expected}, interval for these alone" if expected else ""
    assert wording.bases(part | {"over": "replicates"}) == fixed
    if None not in effects:
        shifted = {base: effect - 0.5 for base, effect in enumerate(effects)}
        above = f"{sum(effect > 0 for effect in effects)} of {len(effects)} bases above −50"
        assert wording.bases({"bases": shifted, "margin": 0.5}).startswith(above * bool(expected))


def test_changes_name_the_extremes_and_count_intervals():
    text = reading.changes(LIFTED, "before", "ID pass@1")
    assert "from −0.3" in text and "(b) to +20.3" in text and "(a)" in text
    assert "Of 2 intervals 1 lie above 0 and 0 below" in text
    assert "no arm was measured" in reading.changes(LIFTED.query("arm == 'before'"), "before", "x")


def test_winners_and_the_front_go_by_means():
    assert reading.winners(LIFTED, "ID pass@1") == "Highest ID pass@1 by base: s1 a (60.3 %)."
    ood = cells(before=(0.9,) * 3, a=(0.8,) * 3, b=(0.7,) * 3)
    front = reading.pareto(LIFTED, ood)
    assert "a (60.3 %, 80.0 %)" in front and "before (40.0 %, 90.0 %)" in front
    assert "b (" not in front


def test_corpora_in_words():
    steps = [("sampled", 100, 0), ("length", 90, 10), ("answer", 60, 30)]
    funnel = pd.DataFrame(steps, columns=["step", "kept", "dropped"])
    assert reading.funnel(funnel) == (
        "Of 100 trajectories the steps drop: length 10.0 %, answer 30.0 %."
    )
    assert reading.funnel(funnel.iloc[:0]) == "No trajectory was sampled."
    rated = {"base": list("xxyy"), "pass_rate": [0.0, 1.0, 0.75, 1.0]}
    rates = pd.DataFrame(rated | {"kept": [True, False, True, False]})
    assert "50.0 % of 4 rated questions" in reading.pass_rates(rates)
    assert "x 0.0 %, y 75.0 %" in reading.pass_rates(rates)
    assert reading.distinct([{"distinct": [1, 3]}, {"distinct": [4, 0]}], 3).startswith(
        "50.0 % of 4 questions have 3 different"
    )
    apart = pd.DataFrame({"arm": ["far", "far"], "token_edits": [4.0, 6.0], "step_edits": [1, 2]})
    assert "far 5 and 1.5." in reading.distances(apart)
    assert "no distances" in reading.distances(apart.iloc[2:])


def test_teachers_in_words():
    choices = pd.DataFrame(
        {"base": list("vwxyz"), "replicate": 0, "rest": [0.01, 0.02] * 2 + [0.03]}
    )
    choices = choices.assign(other=["a", "b", "a", "b", "a"], highest="c")
    text = reading.highest_scorer(stats.pooled(choices, "rest"), choices)
    assert "(a against c, then b against c): +1.8 [" in text and text.count("points, above 0") == 2
    nothing = stats.paired(cells(a=(0.1, 0.2), b=(math.nan,) * 2), "a", "b")
    assert reading.highest_scorer(nothing, choices).endswith(
        "rest: not measured (arm b was not run, or lacked examples)."
    )
    before = np.zeros((3, 2))
    states = [
        ("a", before, before + np.array([0, 2])),
        ("b", before, before + np.array([0.3, 0.4])),
    ]
    assert reading.shifts(states) == "Centroids move by 0.5 (b) to 2 (a)."
    assert "no latent shift" in reading.shifts([])
    reported = pd.DataFrame({"model": ["x", "y", "z"], "aime_2024": [50.0, "", 80]})
    assert "highest is 80 (z), the lowest 50 (x)" in reading.reported_range(reported)


@pytest.mark.parametrize(
    "a, verdict, why",
    [
        ((0.6, 0.7, 0.81), "reproduced", ""),
        ((0.1, 0.2, 0.31), "not reproduced", "upper bound −18.2, below 3"),
        ((0.3, 0.6, 0.31), "inconclusive", "neither above 0 nor below 3"),
        ((math.nan,) * 3, "not judged", "arm a was not run, or lacked examples"),
    ],
)
def test_a_verdict_says_why(a, verdict, why):
    table = cells(a=a, b=(0.3, 0.4, 0.5))
    (claim,) = stats.judge([stats.claim("c", "s", stats.paired(table, "a", "b"))])
    assert claim.verdict == verdict and why in claim.note
    assert bool(claim.note) == (verdict != "reproduced")


def test_what_must_not_be_shown_is_not_shown():
    open_one, hidden = problems.load("lab:sum", 2, "train", "reading")
    hidden = type(hidden)(**vars(hidden) | {"meta": hidden.meta | {"hide": True}})
    rows = [
        {"problem_id": q.id, "prompt": q.prompt, "text": "<think> 1 </think> 1", "reason": "long"}
        for q in (hidden, open_one)
    ]
    text = reading.trajectory(pd.DataFrame(rows), [open_one, hidden])
    assert open_one.prompt in text and hidden.prompt not in text and "reason: long" in text
    assert "may be shown" in reading.dropped(pd.DataFrame(rows[:1]), [hidden])
    assert reading.dropped(pd.DataFrame(rows[:0]), [hidden]) == "The filters dropped none of them."


@pytest.mark.parametrize(
    "band, text",
    [
        ((None, 0), "0 or less"),
        ((-2, 0), "-2 to 0"),
        ((3, None), "3 or more"),
        ((10, 10), "10"),
        ((0, None), "0 or more"),
    ],
)
def test_a_band_is_open_where_it_has_no_end(band, text):
    assert reading.band(SimpleNamespace(band=band, unit="number")) == text


def test_where_bases_begin_to_reason_counts_what_bears_no_tag():
    cells = pd.DataFrame(
        {"base": base, "replicate": 0, "arm": arm, "think_rate": tag, "untagged_rate": untagged}
        for base, arm, tag, untagged in (
            ("a", "random 8", 0.2, 0.4),
            ("a", "random 16", 1.0, 0.0),
            ("b", "random 8", 0.0, 0.1),
            ("b", "random 16", math.nan, math.nan),
        )
    )
    text = reading.begins_to_reason(cells, ["random 8", "random 16"])
    assert text.endswith("by base: a random 8 (20.0 %, 40.0 % without it), b none.")
