"""Scores of one model from its samples, and the difference of two on the same questions."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ded import stats
from ded.errors import BenchmarkError
from ded.grading import VERDICTS


def summarise(table: pd.DataFrame, model: str, settings: dict[str, Any]) -> pd.DataFrame:
    """The scores (see above) of a table of samples: pass@1 by crossed bootstrap over questions and
    seeds, unbiased pass@k."""
    rows = [
        {"model": model, "benchmark": name, "group": group, **_score(cells), "settings": settings}
        for (name, group), cells in _groups(table).items()
    ]
    return pd.DataFrame(rows)


def compare(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Model a minus model b on the same questions, from their samples.

    One row a (benchmark, group) that both have: benchmark, group, a, b (pass@1), difference with
    low and high (95 %, questions paired; see `stats.paired_questions`), n, better ("a", "b" or ""
    where the interval holds 0 or nothing can be judged), note. The intervals are plain: with many
    rows some will leave 0 out by chance. Raises BenchmarkError where no benchmark is shared, or the
    questions of one differ.
    """
    groups_a, groups_b = _groups(a), _groups(b)
    shared = [key for key in groups_a if key in groups_b]
    if not shared:
        names = [", ".join(sorted(set(table["benchmark"]))) for table in (a, b)]
        raise BenchmarkError(f"no benchmark in common: {names[0]} against {names[1]}")
    rows = []
    for name, group in shared:
        cells_a, cells_b = groups_a[name, group], groups_b[name, group]
        try:
            interval = stats.paired_questions(cells_a, cells_b)
        except ValueError as error:
            raise BenchmarkError(
                f"{name} ({group}): {error}. Run both with the same source and limit"
            ) from error
        rows.append(
            {
                "benchmark": name,
                "group": group,
                "a": _pass_at_1(cells_a),
                "b": _pass_at_1(cells_b),
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "n": interval.n,
                "better": _better(interval),
                "note": _note(interval),
            }
        )
    return pd.DataFrame(rows)


def _groups(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each (benchmark, group): of a benchmark all rows as group "all", then those of
    each of its groups where there are several."""
    groups = {}
    for name, part in table.groupby("benchmark", sort=False):
        groups[name, "all"] = part
        named = part[part["group"] != ""].groupby("group")
        if named.ngroups > 1:
            groups |= {(name, group): cells for group, cells in named}
    return groups


def _score(cells: pd.DataFrame) -> dict[str, Any]:
    interval = stats.crossed_bootstrap(cells)
    questions = cells.groupby("question")["value"]
    samples, judged, correct = questions.size().max(), questions.count(), questions.sum()
    verdicts = cells["verdict"].value_counts().reindex(list(VERDICTS), fill_value=0)
    pass_at = {}
    for k in (2**i for i in range(1, int(samples).bit_length())):
        # a question with fewer than k judged samples has no pass@k, and so has the mean
        enough = (judged >= k).all()
        pass_at[f"pass@{k}"] = stats.pass_at_k(judged, correct, k).mean() if enough else math.nan
    return {
        "metric": "pass@1",
        "value": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "n": len(judged),
        "samples": int(samples),
        **verdicts.to_dict(),
        **pass_at,
        "n_tokens": float(cells["n_tokens"].mean()),
        "note": _note(interval),
    }


def _pass_at_1(cells: pd.DataFrame) -> float:
    return cells.groupby("question")["value"].mean().mean()


def _better(interval: stats.Interval) -> str:
    if interval.problem or interval.low <= 0 <= interval.high:
        return ""
    return "a" if interval.low > 0 else "b"


def _note(interval: stats.Interval) -> str:
    problem = "one question has no interval" if interval.n == 1 else interval.problem
    if problem:
        return f"not judged: {problem}"
    return "all alike: the interval says nothing" if interval.flat else ""
