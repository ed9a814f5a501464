"""The tables that a reader sees: numbers from the statistics, arranged."""

import math

import pandas as pd
import pytest

from ded import stats, tables


def scores():
    """Two arms, two bases, three replicates, an in-domain family and two out-of-domain ones; b is
    0.1 above a in domain.
    """
    rows = []
    for arm, lift in (("a", 0.0), ("b", 0.1)):
        for base, level in (("s1", 0.4), ("s2", 0.6)):
            for r in range(3):
                ID = level + lift * (1 + 0.1 * (r - 1)) + 0.01 * r
                for family, group, value in (
                    ("ID", "ID", ID),
                    ("sort", "OOD", 0.9 - lift - 0.01 * r),
                    ("swap", "OOD", 0.7 - lift),
                ):
                    rows.append(
                        {
                            "base": base,
                            "arm": arm,
                            "replicate": r,
                            "family": family,
                            "group": group,
                            "n": 50,
                            "n_tokens": 20.5,
                            "error": 0,
                            "accuracy": value,
                        }
                    )
    return pd.DataFrame(rows)


def cells():
    found = scores()
    return {"ID": found[found["group"] == "ID"], "OOD": stats.macro(found, "OOD")}


def test_ood_cells_are_the_mean_over_families_not_over_questions():
    found = scores()
    found.loc[found["family"] == "swap", "n"] = 1000
    cell = stats.macro(found, "OOD")
    assert len(cell) == 12
    one = cell[(cell["arm"] == "b") & (cell["base"] == "s1") & (cell["replicate"] == 2)]
    assert one["accuracy"].item() == pytest.approx((0.78 + 0.6) / 2)


def test_tokens_are_those_of_all_rows():
    assert tables.tokens(scores()) == 36 * 50 * 20.5


def test_comparisons_are_paired_and_name_their_arms():
    found = tables.compare(cells(), [("b", "a"), ("a", "b")])
    assert list(found["a"] + found["b"] + found["value"]) == ["baID", "baOOD", "abID", "abOOD"]
    lifted = found.iloc[0]
    assert lifted["estimate"] == pytest.approx(0.1) and 0 < lifted["low"] < 0.1 < lifted["high"]
    assert found.iloc[2]["estimate"] == pytest.approx(-0.1) and found.iloc[2][
        "high"
    ] == pytest.approx(-lifted["low"])
    assert found.iloc[1]["estimate"] == pytest.approx(-0.1)
    assert lifted["high"] - lifted["low"] < 0.05  # the bases differ by 0.2, the pairs do not


def test_an_arm_has_its_mean_and_interval_and_nothing_where_it_was_not_measured():
    found = cells()
    found["OOD"] = found["OOD"][found["OOD"]["arm"] == "a"]
    table = tables.arm_table(found)
    assert list(table["arm"]) == ["a", "b"]
    a, b = table.iloc[0], table.iloc[1]
    assert (
        a["ID"] == pytest.approx(0.51)
        and a["ID low"] < a["ID"] < a["ID high"]
        and a["OOD"] == pytest.approx(0.795)
    )
    assert b["ID"] == pytest.approx(0.61) and math.isnan(b["OOD"])


def test_verdicts_are_in_points_with_what_was_not_measured():
    found = cells()["ID"]
    judged = stats.judge(
        [
            stats.claim("lifts", "b above a", stats.paired(found, "b", "a")),
            stats.claim("unknown", "c above a", None),
        ]
    )
    table = tables.verdicts(judged).set_index("claim")
    assert table["verdict"].tolist() == ["reproduced", "not judged"]
    low, high = (round(100 * bound, 1) for bound in (judged[0].low, judged[0].high))
    bases = "2 of 2 bases above 0, interval for these alone"
    assert 0 < low < 10 < high and table.loc["lifts", "points"] == f"+10.0 [{low}, {high}], {bases}"
    assert (
        table.loc["lifts", "n"] == "6 replicates" and table.loc["unknown", "why"] == "not measured"
    )
    assert table.loc["unknown", "points"] == "not measured"


def test_verdicts_show_the_effect_in_each_base_and_say_why():
    ID = cells()["ID"]
    judged = stats.judge(
        [
            stats.claim("lifts", "b above a", stats.paired(ID, "b", "a")),
            stats.claim("sinks", "a above b", stats.paired(ID, "a", "b")),
        ]
    )
    table = tables.verdicts(judged).set_index("claim")
    assert table.loc["lifts", ["s1", "s2"]].tolist() == ["+10.0", "+10.0"]
    assert table.loc["sinks", "s1"] == "−10.0"
    one_base = stats.judge(
        [stats.claim("lifts", "", stats.paired(ID[ID["base"] == "s1"], "b", "a"))]
    )
    assert "s1" not in tables.verdicts(one_base), "it is the claim's own effect"
    assert table.loc["lifts", "why"] == "" and "upper bound" in table.loc["sinks", "why"]
    assert list(table)[-3:] == ["s2", "why", "outside"]


def test_reported_numbers_carry_their_source():
    table = tables.reported(["teachers", "pipeline"])
    assert (
        set(table["section"]) == {"teachers", "pipeline"} and (table["source"].str.len() > 10).all()
    )
    best = table[table.get("model") == "QwQ-32B"].iloc[0]
    assert best["token_entropy"] == 0.477
    assert table.loc[table["what"] == "max_trajectory_tokens", "value"].item() == 16384
    assert (
        table.loc[table["what"] == "pass_rate_threshold", "value"].item() == ""
    )  # not known is shown as nothing, not as 0
