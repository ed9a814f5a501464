"""Intervals over bases or replicates, and the way from a table of scores to one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ded.wording import number

ALPHA = 0.025  # one-sided; both bounds are the usual two-sided 95 % interval
MAX_ERROR_RATE = 0.01  # above this share of grader errors there is no verdict
# From here on the bases are the unit, whatever their replicates: t with 4 degrees of freedom is
# 2.8, with 2 it is 4.3, so that three bases would decide next to nothing.
ENOUGH_BASES = 5
REFERENCE = "before"  # the arm that others are a change of


class Room(NamedTuple):
    """How far a difference could go, as a fraction, and what bounds it, in words."""

    size: float = math.inf
    bound: str = ""


@dataclass(frozen=True)
class Interval:
    """An estimate with its uncertainty, in the units of the value (fractions, not points).

    ``over`` says what the interval is over, and ``n`` counts these: "bases" (conclusions hold for
    bases at large), "replicates" (for these bases alone) or "questions" (the bootstrap). ``draws``
    holds bootstrap draws, and bounds and p-values then come from them; otherwise they come from the
    t distribution with ``se`` and ``df``. ``bases`` is the effect in each base. ``missing`` says
    what was not measured, where the estimate is nan for it. ``gain`` and ``loss``: how far above
    and below 0 a difference could lie (see `headroom`). ``noise``: at most this share of the
    variance is evaluation noise (binomial; questions that both arms share make it less).
    ``chosen``: the scores of all bases choose whose effect it is, so that a base's depends on them.
    """

    estimate: float
    se: float
    df: float
    n: int
    error_rate: float = 0.0
    draws: np.ndarray | None = field(default=None, repr=False, compare=False)
    missing: str = field(default="", compare=False)
    over: str = field(default="replicates", compare=False)
    bases: Mapping[str, float] = field(default_factory=dict, compare=False)
    gain: Room = field(default=Room(), repr=False, compare=False)
    loss: Room = field(default=Room(), repr=False, compare=False)
    noise: float = field(default=math.nan, compare=False)
    chosen: bool = field(default=False, compare=False)

    @property
    def low(self) -> float:
        """Lower end of the two-sided 95 % interval."""
        return self.lower()

    @property
    def high(self) -> float:
        """Upper end of the two-sided 95 % interval."""
        return self.upper()

    @property
    def problem(self) -> str:
        """Why no verdict can rest on this interval; empty if one can."""
        if math.isnan(self.estimate):
            return self.missing or "a score is missing"
        if math.isnan(self.se):
            return "fewer than two replicates in a base"
        if not self.error_rate <= MAX_ERROR_RATE:
            return f"grader errors {self.error_rate:.1%}, above {MAX_ERROR_RATE:.0%}"
        return ""

    @property
    def flat(self) -> bool:
        """All values agree exactly: the bounds close on the estimate, its error unmeasured."""
        return self.se < 1e-12

    def lower(self, alpha: float = ALPHA) -> float:
        """One-sided lower bound that lies above the truth with probability ``alpha`` at most."""
        return self._bound(alpha, -1)

    def upper(self, alpha: float = ALPHA) -> float:
        """One-sided upper bound that lies below the truth with probability ``alpha`` at most."""
        return self._bound(alpha, +1)

    def p_above(self, line: float = 0.0) -> float:
        """One-sided p-value of 'the truth is at most ``line``'; 1 with a problem or no spread."""
        from scipy.special import stdtr

        if self.problem or self.flat:
            return 1.0
        if self.draws is not None:
            return float((1 + np.sum(self.draws <= line)) / (len(self.draws) + 1))
        return float(stdtr(self.df, (line - self.estimate) / self.se))

    def _bound(self, alpha: float, sign: int) -> float:
        from scipy.special import stdtrit

        if self.flat:
            return self.estimate
        if self.draws is not None:
            # the order statistic for which `bound > line` and `p_above(line) < alpha` agree
            draws = np.sort(-sign * self.draws)
            index = math.ceil(alpha * (len(draws) + 1)) - 2
            return float(-sign * draws[index]) if index >= 0 else sign * math.inf
        if math.isnan(self.estimate):
            return math.nan
        if math.isnan(self.se):
            return sign * math.inf
        return float(self.estimate - sign * self.se * stdtrit(self.df, alpha))


def unmeasured(n: int = 0, error_rate: float = 0.0) -> Interval:
    """The interval of what was not measured: all nan, so that nothing can be judged on it."""
    return Interval(math.nan, math.nan, math.nan, n, error_rate)


def numbers(interval: Interval) -> dict:
    """The interval as a row of a table or of metrics.json."""
    return {name: getattr(interval, name) for name in ("estimate", "low", "high", "se", "df", "n")}


def pooled(table: pd.DataFrame, value: str = "value", error_rate: float = 0.0) -> Interval:
    """The mean of the bases' means, each of equal weight, with its t-interval.

    ``table`` has one row per (base, replicate). With ENOUGH_BASES, or several bases of one
    replicate, the interval is over the bases, of which replicates are averaged first: it speaks of
    bases at large. With fewer it is over replicates, the bases being fixed strata: with R_b
    replicates and variance s_b^2 in base b of B, se^2 = sum_b(s_b^2 / R_b) / B^2, and df follows
    Welch and Satterthwaite. A lone replicate there gives infinite bounds, a missing value anywhere
    nan; neither supports a verdict. Raises ValueError where a (base, replicate) occurs twice.
    """
    table = with_base(table)
    if table.duplicated(["base", "replicate"]).any():
        raise ValueError("several rows for one (base, replicate): a replicate counts once")
    values = table[value].astype(float).groupby(table["base"], sort=True)
    size, means = values.size(), values.mean(skipna=False)
    n_bases, bases = len(size), means.to_dict()
    if table.empty or means.isna().any():
        return replace(unmeasured(len(table), error_rate), bases=bases)
    estimate = float(means.mean())
    if unit_of(size) == "bases":
        se = float(means.std()) / math.sqrt(n_bases)
        over_bases = Interval(estimate, se, n_bases - 1, n_bases, error_rate, over="bases")
        return replace(over_bases, bases=bases)
    fixed = Interval(estimate, math.nan, math.nan, len(table), error_rate, bases=bases)
    if (size < 2).any():
        return fixed
    variance = (values.var() / size).to_numpy()
    total, freedom = variance.sum(), size.to_numpy() - 1
    df = total**2 / np.sum(variance**2 / freedom) if total > 1e-24 else freedom.sum()
    return replace(fixed, se=math.sqrt(total) / n_bases, df=float(df))


def unit_of(n_replicates: Sequence[int] | pd.Series) -> str:
    """What an interval is over, "bases" or "replicates", by how many replicates each base has."""
    n_bases = len(n_replicates)
    many = n_bases >= ENOUGH_BASES or n_bases > 1 == max(n_replicates)
    return "bases" if many else "replicates"


def headroom(
    arms: Sequence[str], levels: Sequence[float], chance: float = 0.0, reference: str = REFERENCE
) -> tuple[Room, Room]:
    """(gain, loss): how far above and below 0 the difference of two arms, a - b, could lie.

    Scores lie between ``chance`` and 1. A change from the ``reference`` arm starts at its level. Of
    two others neither is where the other starts: for a gain the better one must be above chance and
    the worse one below 1; for a loss, b is what a could fall from.
    """
    above, below = [], []
    for arm, level in zip(arms, levels, strict=True):
        down, up, name = level - chance, 1 - level, f"{arm} {number(level)}"
        above.append(Room(down, f"{name}, {number(down)} points above chance"))
        below.append(Room(up, f"{name}, {number(up)} points below the ceiling"))
    if reference == arms[0]:
        return above[0], below[0]
    better = int(levels[1] > levels[0])
    gain = below[1] if reference == arms[1] else min(above[better], below[1 - better])
    return gain, above[1]


def macro(scores: pd.DataFrame, group: str | None = None, value: str = "accuracy") -> pd.DataFrame:
    """Cell table of the mean over families, each of equal weight (for example OOD), from scores.

    ``group`` keeps the families of one group. A cell that lacks a family is nan, not a mean over
    fewer. ``error_rate`` is the arm's worst share of grader errors in any family, so that one
    broken family is not diluted by the others.
    """
    if group is not None:
        scores = scores[scores["group"] == group]
    scores = with_base(scores)
    wide = scores.pivot(index=["arm", "base", "replicate"], columns="family", values=value)
    cells = wide.mean(axis=1, skipna=False).rename(value).to_frame()
    how = {column: how for column, how in (("chance", "mean"), ("n", "sum")) if column in scores}
    if how:
        cells = cells.join(scores.groupby(["arm", "base", "replicate"]).agg(how))
    cells = cells.reset_index()
    return cells.assign(error_rate=cells["arm"].map(_error_rates(scores)).fillna(0.0))


def paired(scores: pd.DataFrame, a: str, b: str, value: str = "accuracy") -> Interval:
    """Paired difference a - b (see `pooled`), with the names of the arms that lack a score."""
    pair = cells_of(scores, value, (a, b))[[a, b]]
    return contrast(pair, scores[scores["arm"].isin((a, b))])


def contrast(pair: pd.DataFrame, scores: pd.DataFrame) -> Interval:
    """The first column minus the second of (base, replicate) x two arms, made of these scores.

    With their grader errors, what of the variance is evaluation noise (n answers a score), and how
    far the difference could go (`headroom`).
    """
    difference = (pair.iloc[:, 0] - pair.iloc[:, 1]).rename("value").reset_index()
    interval = pooled(difference, error_rate=error_rate(scores))
    levels = pair.groupby("base").mean().mean()
    gain, loss = headroom(list(pair), levels.tolist(), chance(scores))
    noise = math.nan
    if "n" in scores and interval.se > 0:
        of_a_pair = (pair * (1 - pair)).sum(axis=1).mean() / scores["n"].mean()
        noise = min(1.0, of_a_pair / len(pair) / interval.se**2)
    missing = missing_scores(pair)
    return replace(interval, missing=missing, gain=gain, loss=loss, noise=noise)


def chance(scores: pd.DataFrame) -> float:
    """What guessing scores, on average; 0 in a table that does not say."""
    return float(scores["chance"].mean()) if "chance" in scores else 0.0


def arm_interval(scores: pd.DataFrame, arm: str, value: str = "accuracy") -> Interval:
    """The mean of one arm (see `pooled`)."""
    rows = _of_arms(scores, (arm,)).sort_values(["base", "replicate"])
    return pooled(rows, value, error_rate(rows))


def error_rate(scores: pd.DataFrame) -> float:
    """The worst share of grader errors among arms and families; 0 where none are counted."""
    if not any(scores[name].any() for name in ("error_rate", "error") if name in scores):
        return 0.0  # as nearly always, and to group them takes a while
    rates = _error_rates(scores)
    return float(rates.max()) if len(rates) else 0.0


def rise(scores: pd.DataFrame, x: Mapping[str, float], value: str = "accuracy") -> Interval:
    """Rise of ``value`` with ``x``: in each replicate a least-squares line, then their interval.

    ``x`` maps each arm to its x; other arms are left out. The rise is that of the line from the
    smallest x to the largest, in the units of DELTA. Raises ValueError for fewer than two x.
    """
    place = scores["arm"].map(x)
    levels = np.unique(place.dropna())
    if len(levels) < 2:
        raise ValueError(f"a rise needs two values of x; there are {len(levels)}")
    used = scores.assign(place=place)[place.notna()]
    cells = cells_of(used.assign(arm=used["place"]), value)
    centred = levels - levels.mean()
    slopes = cells.to_numpy(float) @ centred / (centred @ centred)
    rises = slopes * (levels[-1] - levels[0])
    table = pd.DataFrame({"value": rises}, index=cells.index).reset_index()
    interval = pooled(table, error_rate=error_rate(used))
    start = used.loc[used["place"] == levels[0], "arm"].iloc[0]
    ends = cells.groupby("base").mean().mean().iloc[[-1, 0]].tolist()
    gain, loss = headroom(["", start], ends, chance(used), start)
    missing = missing_scores(cells_of(used, value))
    return replace(interval, gain=gain, loss=loss, missing=missing)


def missing_scores(cells: pd.DataFrame) -> str:
    """What a note says of the arms (columns) that have a cell without a value; "" if none has."""
    never = [str(arm) for arm in cells.columns[cells.isna().all()]]
    arms = [str(arm) for arm in cells.columns[cells.isna().any()] if str(arm) not in never]
    texts = [f"arm {arm} was not run, or lacked examples" for arm in never]
    texts += [f"no score of {', '.join(arms)}"] if arms else []
    return "; ".join(texts)


def with_base(table: pd.DataFrame) -> pd.DataFrame:
    """The table, with a single stratum where it names no base."""
    return table if "base" in table else table.assign(base="all")


def cells_of(scores: pd.DataFrame, value: str, arms: Sequence[str] = ()) -> pd.DataFrame:
    """(base, replicate) x arm, of all arms or of those named.

    Raises ValueError for an unknown arm, and where a cell has several rows.
    """
    scores = _of_arms(scores, arms) if arms else with_base(scores)
    try:
        wide = scores.pivot(index=["base", "replicate"], columns="arm", values=value)
    except ValueError:
        mend = "average with macro() first"
        raise ValueError(f"several rows for one (arm, base, replicate): {mend}") from None
    return wide.sort_index().sort_index(axis=1)


def _of_arms(scores: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    for arm in arms:
        if not (scores["arm"] == arm).any():
            raise ValueError(f"no scores for arm {arm!r}; there are {sorted(set(scores['arm']))}")
    return with_base(scores[scores["arm"].isin(arms)])


def _error_rates(scores: pd.DataFrame) -> pd.Series:
    """An arm's worst share of grader errors in any family; empty where they are not counted."""
    if "error_rate" in scores:
        return scores.groupby("arm")["error_rate"].max()
    if not {"error", "n"} <= set(scores):
        return pd.Series(dtype=float)
    keys = ["arm", "family"] if "family" in scores else ["arm"]
    sums = scores.groupby(keys)[["error", "n"]].sum()
    return (sums["error"] / sums["n"]).groupby("arm").max()


def unbeaten(means: pd.DataFrame) -> pd.Series:
    """Which rows no other row beats: as high in every column, higher in one. False with a gap."""
    values = means.to_numpy(float)
    beaten = [((values >= row).all(axis=1) & (values > row).any(axis=1)).any() for row in values]
    return means.notna().all(axis=1) & ~np.array(beaten, bool)
