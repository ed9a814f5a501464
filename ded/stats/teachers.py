"""Choosing a teacher: rank inversions, regret, teacher-by-base interaction (notebook 01)."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd

from . import intervals
from .claims import DELTA, Claim, Part, claim, judge
from .intervals import Interval

# Halves that choose for each other are not independent: without a true effect their scores
# correlate by up to 1/pi (two arms; less with more). The cross-fitted standard errors are widened
# accordingly; see docs/statistics.md.
CROSS_FIT = math.sqrt(1 + 1 / math.pi)


def rank_inversions(
    own: pd.DataFrame, student: pd.DataFrame, value: str = "value", delta: float = DELTA
) -> tuple[pd.DataFrame, list[Claim]]:
    """Pairs (a, b) in which teacher a scores above b itself but its student falls below b's.

    ``own`` and ``student`` are cell tables over the same arms. Each ordered pair is a claim with
    p = max(p[own a above b], p[student of a below b's]); Holm over all ordered pairs. Both
    are pooled over the bases (``base`` is "all").
    Returns the table (a, b, base, both differences with plain 95 % intervals, p, p_holm, holds) and
    the judged claims; hand the claims to `any_of` for 'there is an inversion'.
    """
    rows, family = [], []
    for a, b in itertools.permutations(_same_arms(own, student), 2):
        own_above = intervals.paired(own, a, b, value)
        student_below = intervals.paired(student, b, a, value)
        parts = Part(f"own score, {a} − {b}", own_above), Part(f"student, {b} − {a}", student_below)
        family.append(claim(f"{a}, {b}", f"{a} scores above {b}, its student below b's", *parts))
        row = {"a": a, "b": b, "base": "all"}
        ends = {"own_a_minus_b": own_above, "student_b_minus_a": student_below}
        for column, end in ends.items():
            row |= {column: end.estimate, f"{column}_low": end.low, f"{column}_high": end.high}
        rows.append(row)
    judged = judge(family, delta)
    for row, pair in zip(rows, judged, strict=True):
        row |= {"p": pair.p_value, "p_holm": pair.p_holm, "holds": pair.verdict == "reproduced"}
    return pd.DataFrame(rows), judged


def regret(
    own: pd.DataFrame, student: pd.DataFrame, value: str = "value"
) -> tuple[Interval, pd.DataFrame]:
    """What choosing the teacher by its own score loses against the smoke test (positive: a loss).

    Cross-fitted: the replicates of a base are dealt into two halves by turns; both choices are made
    on one half and scored on each replicate of the other, so that each replicate gives one value
    and no score helps to choose what it scores. Teachers that tie share the choice. The interval is
    the stratified one over these values, its standard error times CROSS_FIT.
    Returns it and the table base, replicate, value, by_own, by_smoke_test (the choices that the
    replicate scored).
    """
    _same_arms(own, student)
    own_cells, cells = intervals.cells_of(own, value), intervals.cells_of(student, value)
    losses = []
    for base in cells.index.unique("base"):
        scores = cells.loc[base]
        own_scores = own_cells.loc[base if "base" in own else "all"].reindex(scores.index)
        for chosen_on, scored_on in _halves(scores.index):
            by_own = _winner(own_scores.loc[chosen_on])
            by_test = _winner(scores.loc[chosen_on])
            loss = (scores.loc[scored_on] @ (by_test - by_own)).rename("value").reset_index()
            choices = {"by_own": _names(by_own), "by_smoke_test": _names(by_test)}
            losses.append(loss.assign(base=base, **choices))
    columns = ["base", "replicate", "value", "by_own", "by_smoke_test"]
    table = pd.concat(losses, ignore_index=True)[columns]
    interval = _cross_fitted(table, max(intervals.error_rate(own), intervals.error_rate(student)))
    missing = intervals.missing_scores(own_cells, "own score") or intervals.missing_scores(cells)
    return replace(interval, missing=missing), table


def transfer_regret(student: pd.DataFrame, value: str = "value") -> tuple[Interval, pd.DataFrame]:
    """What is lost on one base by using the teacher that won on another, against its own winner.

    Cross-fitted as `regret`: both winners are chosen on half of the replicates of their base (equal
    halves, so that neither choice is better informed) and scored on the other half of the target.
    Returns the interval over target replicates (mean over the other bases) and the matrix of mean
    losses, source base x target base. With fewer than two bases there is nothing to judge: the
    interval is nan.
    """
    cells = intervals.cells_of(student, value)
    bases = list(cells.index.unique("base"))
    if len(bases) < 2:
        return intervals.unmeasured(), pd.DataFrame(0.0, index=bases, columns=bases)
    halves = {base: _halves(cells.loc[base].index) for base in bases}
    winners, losses = {}, []
    for base in bases:
        winners[base] = [_winner(cells.loc[base].loc[chosen_on]) for chosen_on, _ in halves[base]]
    for target in bases:
        for half, (_, scored_on) in enumerate(halves[target]):
            scores = cells.loc[target].loc[scored_on]
            best = scores @ winners[target][half]
            loss = pd.DataFrame({source: best - scores @ winners[source][half] for source in bases})
            losses.append(loss.assign(base=target).reset_index())
    table = pd.concat(losses, ignore_index=True)
    # a base loses nothing to its own winner: the sum is over the others
    mean_loss = table[bases].sum(axis=1, skipna=False) / (len(bases) - 1)
    matrix = table.groupby("base")[bases].mean().T
    matrix = matrix.rename_axis("source").rename_axis("target", axis=1)
    return _cross_fitted(table.assign(value=mean_loss), intervals.error_rate(student)), matrix


def interaction(
    student: pd.DataFrame, value: str = "value", n_permutations: int = 2000
) -> dict[str, float]:
    """Does the effect of the teacher depend on the base? F-test of arm x base, with blocks.

    A block is a replicate of a base. Returns F, df1, df2, p_f, p_permutation, p (the larger),
    share. The permutation of blocks among bases does not need the equal variances of all contrasts
    that the F-test assumes. ``share`` is the part of the variance of the true arm effects, noise
    removed, that is interaction (descriptive, 0..1). All nan where it cannot be computed.
    """
    from scipy.special import fdtrc

    cells = intervals.cells_of(student, value)
    codes, bases = pd.factorize(cells.index.get_level_values("base"))
    n_arms, n_blocks, n_bases = cells.shape[1], len(cells), len(bases)
    df1, df2 = (n_arms - 1) * (n_bases - 1), (n_arms - 1) * (n_blocks - n_bases)
    names = ("F", "df1", "df2", "p_f", "p_permutation", "p", "share")
    if df1 < 1 or df2 < 1 or cells.isna().any(axis=None):
        return dict.fromkeys(names, math.nan)
    profiles = cells.to_numpy(float)
    profiles = profiles - profiles.mean(axis=1, keepdims=True)  # a block's level is not the arms'
    arm_ss = np.sum(profiles.sum(axis=0) ** 2) / n_blocks
    membership = np.eye(n_bases)[codes] / np.sqrt(np.bincount(codes))  # block x base

    def interaction_ss(blocks: np.ndarray) -> float:
        return np.sum((membership.T @ blocks) ** 2) - np.sum(blocks.sum(axis=0) ** 2) / n_blocks

    measured_ss = interaction_ss(profiles)
    total_ss = np.sum((profiles - profiles.mean(axis=0)) ** 2)
    error = (total_ss - measured_ss) / df2
    if error < 1e-18:
        return dict.fromkeys(names, math.nan)
    rng = np.random.default_rng(0)
    permuted = [interaction_ss(rng.permutation(profiles)) for _ in range(n_permutations)]
    as_large = sum(other >= measured_ss - 1e-12 for other in permuted)
    f_ratio = measured_ss / df1 / error
    p_f = float(fdtrc(df1, df2, f_ratio))
    p_permutation = (1 + as_large) / (n_permutations + 1)
    of_arm = max(arm_ss - (n_arms - 1) * error, 0.0)
    of_both = max(measured_ss - df1 * error, 0.0)
    share = float(of_both / (of_arm + of_both)) if of_arm + of_both else 0.0
    values = (float(f_ratio), df1, df2, p_f, p_permutation, max(p_f, p_permutation), share)
    return dict(zip(names, values, strict=True))


def _same_arms(own: pd.DataFrame, student: pd.DataFrame) -> list:
    arms, others = set(own["arm"]), set(student["arm"])
    if arms != others:
        raise ValueError(f"own scores and students name different arms: {sorted(arms ^ others)}")
    return sorted(arms)


def _halves(replicates: pd.Index) -> list[tuple[pd.Index, pd.Index]]:
    """(chosen on, scored on), twice. With a single replicate one is empty, the choice nan."""
    even, odd = replicates[::2], replicates[1::2]
    return [(even, odd), (odd, even)]


def _cross_fitted(table: pd.DataFrame, error_rate: float) -> Interval:
    plain = intervals.pooled(table, error_rate=error_rate)
    return replace(plain, se=plain.se * CROSS_FIT)


def _winner(cells: pd.DataFrame) -> pd.Series:
    """Weight of each arm in the choice of the best mean: 1 for the winner, shared by ties.

    All nan if a score is missing.
    """
    means = cells.mean(skipna=False)
    if means.isna().any():
        return means * math.nan
    best = (means >= means.max() - 1e-12).astype(float)
    return best / best.sum()


def _names(weights: pd.Series) -> str:
    return " = ".join(map(str, weights.index[weights > 0]))
