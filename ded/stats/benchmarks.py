"""Finite benchmarks: pass@k and bootstrap intervals.

Not by scipy.stats.bootstrap, which resamples one axis, while a benchmark has two: questions and
seeds.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .intervals import Interval

SEED = 0  # of every bootstrap: the same table gives the same interval


def pass_at_k(n: Sequence[int] | int, c: Sequence[int] | int, k: int) -> np.ndarray:
    """Unbiased pass@k of questions with ``c`` of ``n`` samples correct: 1 - C(n-c, k) / C(n, k).

    pass@1 is c/n: its mean does not depend on n. Arrays broadcast. Raises ValueError unless
    1 <= k <= n and 0 <= c <= n. Source: Chen et al. 2021.
    """
    sampled, correct = np.broadcast_arrays(np.asarray(n, float), np.asarray(c, float))
    if k < 1 or (sampled < k).any() or (correct < 0).any() or (correct > sampled).any():
        raise ValueError(f"pass@{k} needs 1 <= k <= n and 0 <= c <= n")
    missed = np.ones(sampled.shape)
    for i in range(k):
        missed = missed * np.maximum(sampled - correct - i, 0) / (sampled - i)
    return 1 - missed


def crossed_bootstrap(table: pd.DataFrame, n_boot: int = 4000) -> Interval:
    """pass@1 of a finite benchmark: mean over questions of the mean over seeds, resampling both.

    ``table`` has one row per (question, seed) and ``value``; nan (a grader error) is left out of
    its question's mean. The percentile interval speaks of other questions and other seeds alike;
    it errs on the wide side. Source: Owen 2007.
    """
    return _crossed([table], n_boot)


def paired_questions(a: pd.DataFrame, b: pd.DataFrame, n_boot: int = 4000) -> Interval:
    """Difference a - b of two models on the same questions, by crossed bootstrap: tables as above.

    A draw takes the same questions for both, and seeds for each by itself (sample 3 of one has
    nothing in common with sample 3 of the other, and there may be more of them). Raises ValueError
    if the questions differ.
    """
    differ = set(a["question"]) ^ set(b["question"])
    if differ:
        raise ValueError(f"the models answered different questions: {sorted(differ)[:5]}")
    return _crossed([a, b], n_boot)


def _crossed(tables: Sequence[pd.DataFrame], n_boot: int) -> Interval:
    """The mean of the first table, minus that of the second where there is one."""
    grids = [table.pivot(index="question", columns="seed", values="value") for table in tables]
    values = [grid.sort_index().astype(float) for grid in grids]
    rng = np.random.default_rng(SEED)
    weights = _resample(len(values[0]), n_boot, rng)
    means = [grid.mean(axis=1) for grid in values]
    draws = [_seed_means(grid.to_numpy(), n_boot, rng) for grid in values]
    estimate, shifted = (means[0] - sum(means[1:])).mean(), draws[0] - sum(draws[1:])
    # in each draw the weighted mean over the questions that have a value
    weights = np.where(np.isfinite(shifted), weights, 0.0)
    with np.errstate(invalid="ignore"):
        drawn = (np.nan_to_num(shifted) * weights).sum(axis=1) / weights.sum(axis=1)
    errors = max(float(table["value"].isna().mean()) for table in tables)
    return _bootstrapped(estimate, drawn, len(values[0]), errors)


def _resample(size: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """draw x member: how often each of ``size`` members is drawn."""
    return rng.multinomial(size, np.full(size, 1 / size), size=n_boot).astype(float)


def _seed_means(cells: np.ndarray, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """draw x question: each question's mean over resampled seeds; nan where none was graded."""
    weights = _resample(cells.shape[1], n_boot, rng)
    with np.errstate(invalid="ignore"):
        return (weights @ np.nan_to_num(cells).T) / (weights @ np.isfinite(cells).T.astype(float))


def _bootstrapped(estimate: float, draws: np.ndarray, n: int, error_rate: float = 0.0) -> Interval:
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2:
        return Interval(float(estimate), math.nan, math.inf, n, error_rate, over="questions")
    se = float(np.std(draws, ddof=1)) if n > 1 else math.nan
    return Interval(float(estimate), se, math.inf, n, error_rate, draws, over="questions")
