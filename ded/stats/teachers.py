"""Choosing a teacher: the highest scorer against the rest, regret, teacher-by-base interaction."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from . import intervals
from .claims import Claim, Part
from .intervals import Interval

# Halves that choose for each other are not independent: without a true effect their scores
# correlate by up to 1/pi (two arms; less with more). Standard errors over values of both halves are
# widened accordingly; see docs/statistics.md.
CROSS_FIT = math.sqrt(1 + 1 / math.pi)
HIGHEST = "the highest scorer's student"
OTHER = "another teacher's student"
SMOKE_TEST = "the student of the smoke test's choice"
OWN_BEST = "the student of the base's best teacher"
OTHERS_BEST = "the student of another base's best teacher"


def top_against_rest(
    own: pd.DataFrame, student: pd.DataFrame, value: str = "value"
) -> tuple[list[Part], pd.DataFrame]:
    """Parts of the claim that the teacher which scores highest does not make the best student.

    Cross-fitted over the bases (where these are not the unit: over the replicates), dealt into two
    halves by turns: one half says which teacher scores highest itself, and which of the others has
    the best students on average; the other half scores these two. Teachers that tie share the
    choice. Two parts must hold: the other's student is above the highest scorer's, and the highest
    scorer's own score is above the other's (a test, for a tie there refutes nothing).
    Also returns the table base, replicate, highest, other (the choices), students (other -
    highest), own_scores (highest - other), rest (the students of all others, on average, -
    highest; descriptive). Raises ValueError where the tables name different arms.
    """
    own_cells, cells = _both(own, student, value)
    bases = intervals.unit_of(cells.groupby("base").size()) == "bases"
    halves = []
    for chosen_on, scored_on in _halves("base" if bases else "replicate", own_cells, cells):
        own_means, means = (half.mean(skipna=False).to_frame().T for half in chosen_on)
        highest = _winners(own_means).iloc[0]
        is_rest = highest == 0
        other = _winners(means.where(is_rest, -math.inf, axis=1)).iloc[0]
        teachers, students = scored_on
        scored = {
            OTHER: students @ other,
            HIGHEST: students @ highest,
            "own_scores": teachers @ (highest - other),
            "rest": students @ (is_rest / is_rest.sum() - highest),
        }
        names = {"highest": _names(highest), "other": _names(other)}
        halves.append(pd.DataFrame(scored).assign(**names))
    table = pd.concat(halves).sort_index()
    above = _widened(_contrast(table[[OTHER, HIGHEST]], student, own, value))
    gap = _widened(intervals.pooled(table.reset_index(), "own_scores"))
    p_value = math.nan if gap.problem else gap.p_above()
    parts = [
        Part(f"{OTHER} above {HIGHEST}", above),
        Part("the highest scorer's own score above that teacher's", test_p_value=p_value),
    ]
    table["students"] = table[OTHER] - table[HIGHEST]
    columns = ["base", "replicate", "highest", "other", "students", "own_scores", "rest"]
    return parts, table.reset_index()[columns]


def regret(
    own: pd.DataFrame, student: pd.DataFrame, value: str = "value", by_base: bool = False
) -> tuple[Interval, pd.DataFrame]:
    """What choosing the teacher by its own score loses against the smoke test (positive: a loss).

    Cross-fitted: the replicates of a base are dealt into two halves by turns; both choices are made
    on one half and scored on each replicate of the other, so that each replicate gives one value
    and no score helps to choose what it scores. Teachers that tie share the choice. Own scores are
    averaged over the bases; ``by_base``: they are not, as of a predictor that depends on the base.
    Where bases are the unit, the values of each are averaged; where replicates are, the standard
    error is widened by CROSS_FIT.
    Returns the interval and the table base, replicate, value, by_own, by_smoke_test (the choices
    that the replicate scored).
    """
    own_cells, cells = _both(own, student, value)
    if not by_base:
        own_cells = _means(own_cells, "replicate").reindex(own_cells.index, level="replicate")
    halves = []
    for chosen_on, scored_on in _halves("replicate", own_cells, cells):
        by_own, by_test = (_winners(_means(half)) for half in chosen_on)
        scored = {
            SMOKE_TEST: _taught(scored_on[1], by_test),
            HIGHEST: _taught(scored_on[1], by_own),
        }
        names = {"by_own": by_own, "by_smoke_test": by_test}
        names = {column: winners.apply(_names, axis=1) for column, winners in names.items()}
        halves.append(pd.DataFrame(scored).join(pd.DataFrame(names), on="base"))
    table = pd.concat(halves).sort_index()
    interval = _contrast(table[[SMOKE_TEST, HIGHEST]], student, own, value)
    table["value"] = table[SMOKE_TEST] - table[HIGHEST]
    table = table.reset_index()[["base", "replicate", "value", "by_own", "by_smoke_test"]]
    return interval if interval.over == "bases" else _widened(interval), table


def transfer_regret(student: pd.DataFrame, value: str = "value") -> Interval:
    """What is lost on one base by using the teacher that won on another, against its own winner.

    Cross-fitted as `regret`: both winners are chosen on half of the replicates of their base (equal
    halves, so that neither choice is better informed) and scored on the other half of the target.
    The bases share their winners, so that the standard error is widened by CROSS_FIT in any case.
    The mean over the other bases; with a single base there is nothing to judge, and it is nan.
    """
    cells = intervals.cells_of(student, value)
    n_others = cells.index.unique("base").size - 1
    halves = []
    for (chosen_on,), (scored_on,) in _halves("replicate", cells):
        winners = _winners(_means(chosen_on))
        of_each = scored_on @ winners.T  # what each base's winner makes of each target
        best = _taught(scored_on, winners)
        others = (of_each.sum(axis=1, skipna=False) - best) / n_others
        halves.append(pd.DataFrame({OWN_BEST: best, OTHERS_BEST: others}))
    return _widened(_contrast(pd.concat(halves), student, student, value))


def without_each(
    teachers: Iterable[str], claims_without: Callable[[str], Iterable[Claim]]
) -> pd.DataFrame:
    """Leave-one-teacher-out: the claims, judged by ``claims_without`` a teacher, for each in turn.

    A row a teacher and claim: without, claim, verdict, estimate, low (the bound that decides),
    high, n.
    """
    columns = ("verdict", "estimate", "low", "high", "n")
    rows = [
        {"without": teacher, "claim": claim.name}
        | {column: getattr(claim, column) for column in columns}
        for teacher in teachers
        for claim in claims_without(teacher)
    ]
    return pd.DataFrame(rows, columns=["without", "claim", *columns])


def interaction(
    student: pd.DataFrame, value: str = "value", n_permutations: int = 2000
) -> dict[str, float]:
    """Does the effect of the teacher depend on the base? F-test of arm x base, with blocks.

    A block is a replicate of a base. Returns F, df1, df2, p_f, p_permutation, p (the larger).
    The permutation of blocks among bases does not need the equal variances of all contrasts that
    the F-test assumes. All nan where it cannot be computed.
    """
    from scipy.special import fdtrc

    cells = intervals.cells_of(student, value)
    codes, bases = pd.factorize(cells.index.get_level_values("base"))
    n_arms, n_blocks, n_bases = cells.shape[1], len(cells), len(bases)
    df1, df2 = (n_arms - 1) * (n_bases - 1), (n_arms - 1) * (n_blocks - n_bases)
    names = ("F", "df1", "df2", "p_f", "p_permutation", "p")
    if df1 < 1 or df2 < 1 or cells.isna().any(axis=None):
        return dict.fromkeys(names, math.nan)
    profiles = cells.to_numpy(float)
    profiles = profiles - profiles.mean(axis=1, keepdims=True)  # a block's level is not the arms'
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
    values = (float(f_ratio), df1, df2, p_f, p_permutation, max(p_f, p_permutation))
    return dict(zip(names, values, strict=True))


def _both(
    own: pd.DataFrame, student: pd.DataFrame, value: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(base, replicate) x arm of own scores and of students; ValueError where arms differ."""
    if differ := set(own["arm"]) ^ set(student["arm"]):
        raise ValueError(f"own scores and students name different arms: {sorted(differ)}")
    return intervals.cells_of(own, value), intervals.cells_of(student, value)


def _halves(level: str, *tables: pd.DataFrame) -> Iterator[tuple[list[pd.DataFrame], ...]]:
    """(chosen on, scored on), twice: the rows of each table, dealt by turns of base or replicate.

    With a single one of these a half is empty, and what is chosen on it nan.
    """
    members = tables[-1].index.unique(level).sort_values()
    dealt = [
        [table[table.index.isin(members[start::2], level=level)] for table in tables]
        for start in (0, 1)
    ]
    yield dealt[0], dealt[1]
    yield dealt[1], dealt[0]


def _contrast(pair: pd.DataFrame, student: pd.DataFrame, own: pd.DataFrame, value: str) -> Interval:
    """The interval of a pair made of students' scores, chosen by them and by own scores."""
    errors = max(intervals.error_rate(own), intervals.error_rate(student))
    own_cells, cells = _both(own, student, value)
    unscored = ", ".join(own_cells.columns[own_cells.isna().any()])
    missing = "a choice and its score need a replicate (or base) each"
    missing = f"no own score of {unscored} was measured" if unscored else missing
    missing = intervals.missing_scores(cells) or missing
    return replace(intervals.contrast(pair, student), error_rate=errors, missing=missing)


def _widened(interval: Interval) -> Interval:
    """With the standard error that effects need which share a choice."""
    return replace(interval, se=interval.se * CROSS_FIT, chosen=True)


def _means(cells: pd.DataFrame, level: str = "base") -> pd.DataFrame:
    """The mean of each base (or replicate), nan where a score is missing."""
    return cells.groupby(level).mean().where(cells.notna().groupby(level).all())


def _winners(means: pd.DataFrame) -> pd.DataFrame:
    """Weight of each arm (a column) in the choice of the best: 1 for the winner, shared by ties.

    All nan in a row that lacks a score.
    """
    best = means.ge(means.max(axis=1) - 1e-12, axis=0).astype(float)
    return best.div(best.sum(axis=1), axis=0).where(means.notna().all(axis=1), axis=0)


def _taught(cells: pd.DataFrame, winners: pd.DataFrame) -> pd.Series:
    """The score of each row's student of its base's winner."""
    weights = winners.reindex(cells.index.get_level_values("base")).set_index(cells.index)
    return (cells * weights).sum(axis=1, skipna=False)


def _names(weights: pd.Series) -> str:
    return " = ".join(map(str, weights.index[weights > 0]))
