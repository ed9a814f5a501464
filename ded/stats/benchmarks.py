"""Finite benchmarks and small samples: pass@k and bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .intervals import Interval, make_interval


def pass_at_k(n: Sequence[int], c: Sequence[int], k: int) -> np.ndarray:
    """Unbiased pass@k of questions with ``c`` of ``n`` samples correct (Chen et al. 2021): 1 - C(n-c, k) / C(n, k).

    pass@1 is c/n: its mean does not depend on n. Arrays broadcast. Raises ValueError unless 1 <= k <= n, 0 <= c <= n.
    """
    n, c = np.broadcast_arrays(np.asarray(n, float), np.asarray(c, float))
    if k < 1 or (n < k).any() or (c < 0).any() or (c > n).any():
        raise ValueError(f"pass@{k} needs 1 <= k <= n and 0 <= c <= n")
    missed = np.ones(n.shape)
    for i in range(k):
        missed = missed * np.maximum(n - c - i, 0) / (n - i)
    return 1 - missed


def crossed_bootstrap(
    table: pd.DataFrame, n_boot: int = 4000, seed: int = 0, level: float = 0.95
) -> Interval:
    """pass@1 of a finite benchmark: mean over questions of the mean over seeds, resampling both (Owen 2007).

    ``table`` has one row per (question, seed) and ``value``; nan (a grader error) is left out of its question's mean.
    The percentile interval speaks of other questions and other seeds alike; it errs on the wide side.
    """
    values, rng = _by_question(table), np.random.default_rng(seed)
    weights = _resample(len(values), n_boot, rng)
    draws = _crossed(values, rng, n_boot)
    return _bootstrapped(
        _mean_of(values), _weighted(draws, weights), len(values), level, _errors(table)
    )


def paired_questions(
    a: pd.DataFrame, b: pd.DataFrame, n_boot: int = 4000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Difference a - b of two models on the same questions, by crossed bootstrap: one call, tables as above.

    A draw takes the same questions for both, and seeds for each by itself (sample 3 of one has nothing in common with
    sample 3 of the other, and there may be more of them). Raises ValueError if the questions differ.
    """
    left, right, rng = _by_question(a), _by_question(b), np.random.default_rng(seed)
    if list(left.index) != list(right.index):
        raise ValueError(
            f"the models answered different questions: {sorted(set(left.index) ^ set(right.index))[:5]}"
        )
    weights = _resample(len(left), n_boot, rng)
    draws = _crossed(left, rng, n_boot) - _crossed(right, rng, n_boot)
    return _bootstrapped(
        _mean_of(left, right),
        _weighted(draws, weights),
        len(left),
        level,
        max(_errors(a), _errors(b)),
    )


def spearman(
    x: Sequence[float], y: Sequence[float], n_boot: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Spearman's rank correlation with a percentile bootstrap interval over the pairs. Descriptive: no verdict."""
    points = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 3:
        return make_interval(math.nan, math.nan, math.nan, len(points), level)
    rng = np.random.default_rng(seed)
    drawn = (points[rng.integers(len(points), size=len(points))] for _ in range(n_boot))
    draws = np.array([_rank_correlation(rows) for rows in drawn])
    return _bootstrapped(_rank_correlation(points), draws, len(points), level)


def _rank_correlation(points: np.ndarray) -> float:
    ranks = pd.DataFrame(points).rank().to_numpy()
    x, y = (ranks - ranks.mean(axis=0)).T
    norm = math.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm > 0 else math.nan


def _by_question(table: pd.DataFrame) -> pd.DataFrame:
    return table.pivot(index="question", columns="seed", values="value").sort_index().astype(float)


def _errors(table: pd.DataFrame) -> float:
    return float(table["value"].isna().mean())


def _mean_of(left: pd.DataFrame, right: pd.DataFrame | None = None) -> float:
    means = left.mean(axis=1) if right is None else left.mean(axis=1) - right.mean(axis=1)
    return float(means.mean())


def _resample(size: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    return rng.multinomial(size, np.full(size, 1 / size), size=n_boot).astype(float)


def _crossed(values: pd.DataFrame, rng: np.random.Generator, n_boot: int) -> np.ndarray:
    """draw x question: each question's mean over resampled seeds; nan where none of them was graded."""
    weights, cells = _resample(values.shape[1], n_boot, rng), values.to_numpy()
    with np.errstate(invalid="ignore"):
        return (weights @ np.nan_to_num(cells).T) / (weights @ np.isfinite(cells).T.astype(float))


def _weighted(draws: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weights = np.where(np.isfinite(draws), weights, 0.0)
    with np.errstate(invalid="ignore"):
        return (np.nan_to_num(draws) * weights).sum(axis=1) / weights.sum(axis=1)


def _bootstrapped(estimate, draws, n, level, error=0.0) -> Interval:
    draws = draws[np.isfinite(draws)]
    se = float(np.std(draws, ddof=1)) if len(draws) > 1 and n > 1 else math.nan
    return make_interval(estimate, se, math.inf, n, level, error, draws if len(draws) > 1 else None)
