"""Claims and their verdicts, several at once: Holm, the three-way rule, the difference that could be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from .intervals import ALPHA, Interval, make_interval, numbers

DELTA = 0.03  # the difference that matters: 3 points
POWER = 0.8


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979); nan counts as 1 and still as a member of the family."""
    p = np.nan_to_num(np.asarray(p, float), nan=1.0)
    order, steps = np.argsort(p, kind="stable"), np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1.0)
    return adjusted


def holm_levels(p: Sequence[float], alpha: float = ALPHA) -> np.ndarray:
    """One-sided level at which each member's lower bound is taken, so that 'bound above the line' is Holm's decision.

    The k-th smallest of m p-values gets alpha / (m - k + 1). From the first that fails on, all get the level of that
    one, so that none of them can show a bound above its line.
    """
    p = np.nan_to_num(np.asarray(p, float), nan=1.0)
    order, steps = np.argsort(p, kind="stable"), alpha / np.arange(len(p), 0, -1)
    failed = np.flatnonzero(p[order] >= steps)
    levels = np.empty(len(p))
    levels[order] = steps[np.minimum(np.arange(len(p)), failed[0] if len(failed) else len(p))]
    return levels


def detectable(se: float, df: float, power: float = POWER, alpha: float = ALPHA) -> float:
    """The smallest true difference that a one-sided t-test at ``alpha`` finds with probability ``power``.

    ``se`` and ``df`` are those of the interval (noncentral t, se taken as known). nan without a usable se.
    """
    from scipy.optimize import brentq
    from scipy.special import chdtri, ndtr, ndtri, stdtrit

    if not se > 0 or not df > 0:
        return math.nan
    if math.isinf(df):
        return float(se * (ndtri(1 - alpha) + ndtri(power)))
    # noncentral t as a normal over a chi: also exact where its library function fails (few df, strict alpha)
    chi = np.sqrt(chdtri(df, (np.arange(1000) + 0.5) / 1000) / df)
    critical = stdtrit(df, 1 - alpha)
    return float(
        se
        * brentq(lambda shift: ndtr(shift - critical * chi).mean() - power, 0.0, 10 + 10 * critical)
    )


@dataclass(frozen=True)
class Part:
    """One condition of a claim: the interval lies above -margin. Or, with ``p``, a test that has no interval."""

    label: str
    interval: Interval | None = None
    margin: float = 0.0
    p: float | None = None

    @property
    def p_value(self) -> float:
        if self.p is not None:
            return 1.0 if math.isnan(self.p) else self.p
        return 1.0 if self.interval is None else self.interval.p_above(-self.margin)

    @property
    def problem(self) -> str:
        if self.interval is not None:
            return self.interval.problem
        return "not measured" if self.p is None or math.isnan(self.p) else ""


@dataclass(frozen=True)
class Claim:
    """A claim and its verdict; all its parts must hold. ``low`` is the Holm-adjusted bound, ``high`` the plain one.

    ``estimate``, ``low``, ``high`` and ``n`` are those of the first part that has an interval; ``detectable`` is the
    largest over the parts, at the strictest level of the family.
    """

    name: str
    statement: str
    parts: tuple[Part, ...]
    verdict: str = "not judged"
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    p: float = 1.0
    p_holm: float = 1.0
    detectable: float = math.nan
    delta: float = DELTA
    level: float = ALPHA
    rule: str = ""
    note: str = ""

    def to_dict(self) -> dict:
        """Plain values for metrics.json; what is not a finite number becomes None."""
        parts = []
        for part in self.parts:
            row = {"label": part.label, "margin": part.margin, "p": part.p_value}
            if part.interval is not None:
                row |= numbers(part.interval) | {"low_adjusted": part.interval.lower(self.level)}
            parts.append(_finite(row))
        return _finite(asdict(replace(self, parts=()))) | {"parts": parts}


def _finite(values: dict) -> dict:
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()
    }


def claim(name: str, statement: str, *parts: Interval | Part | None) -> Claim:
    """An unjudged claim that holds if every part does (intersection-union). None stands for what was not measured."""
    return Claim(
        name,
        statement,
        tuple(part if isinstance(part, Part) else Part(name, part) for part in parts),
    )


def not_below(name: str, statement: str, difference: Interval | None, margin: float) -> Claim:
    """An unjudged claim of non-inferiority: the difference (new - reference, a fraction) lies above -``margin``.

    ``judge`` makes it *reproduced* if the lower bound is above -margin, *not reproduced* if the upper bound is below
    -margin, else *inconclusive*. As ``margin`` is added to the line, `detectable` counts from -margin, not from 0.
    Raises ValueError without a margin above 0: with none it would be the claim 'above', which has another rule.
    """
    if not margin > 0:
        raise ValueError(f"non-inferiority needs a margin above 0, not {margin}")
    return claim(name, statement, Part(name, difference, margin))


def verdict(
    part: Interval | Part, delta: float = DELTA, level: float = ALPHA, alpha: float = ALPHA
) -> str:
    """The verdict on one condition; ``level`` is the one-sided level of the lower bound (see `holm_levels`).

    *reproduced* if the lower bound is above -margin; else *not reproduced* if the plain upper bound is below delta (for
    a condition with a margin: below -margin); else *inconclusive*, also where all replicates agree exactly and
    nothing measures the error; *not judged* where there is a `problem`.
    """
    part = part if isinstance(part, Part) else Part("", part)
    if part.problem:
        return "not judged"
    if part.interval is None:
        return "reproduced" if part.p_value < level else "inconclusive"
    if part.interval.flat:
        return "inconclusive"
    if part.interval.lower(level) > -part.margin:
        return "reproduced"
    return (
        "not reproduced"
        if part.interval.upper(alpha) < (-part.margin if part.margin else delta)
        else "inconclusive"
    )


def judge(claims: Sequence[Claim], delta: float = DELTA, alpha: float = ALPHA) -> list[Claim]:
    """The claims with their verdicts, in the same order; Holm over the claims given, which are one family.

    A claim's p-value is the largest of its parts. It is reproduced if all parts are, at its Holm level; not judged if
    one part is; not reproduced if one part is refuted. A claim that cannot be judged still counts in the family.
    """
    p = [max((part.p_value for part in one.parts), default=1.0) for one in claims]
    columns = zip(claims, p, holm(p), holm_levels(p, alpha))
    return [
        _judged(one, p_one, p_holm, level, delta, alpha, len(claims))
        for one, p_one, p_holm, level in columns
    ]


def _judged(
    one: Claim, p: float, p_holm: float, level: float, delta: float, alpha: float, family: int
) -> Claim:
    verdicts = [verdict(part, delta, level, alpha) for part in one.parts] or ["not judged"]
    outcome = next(
        (v for v in ("not judged", "not reproduced", "inconclusive") if v in verdicts), "reproduced"
    )
    measured = [part for part in one.parts if part.interval is not None]
    head = measured[0].interval if measured else make_interval(math.nan, math.nan, math.nan, 0)
    note = ""
    if outcome == "not judged":
        note = (
            "; ".join(f"{part.label}: {part.problem}" for part in one.parts if part.problem)
            or "not measured"
        )
    elif any(part.interval.flat for part in measured):
        note = "all replicates agree exactly, so nothing measures the error"
    elif outcome != "reproduced" and len(one.parts) > 1:
        note = "does not hold: " + ", ".join(
            part.label for part, v in zip(one.parts, verdicts) if v != "reproduced"
        )
    elif (
        outcome == "reproduced"
        and measured
        and not measured[0].margin
        and head.upper(alpha) < delta
    ):
        note = f"real, but smaller than {delta:g}"
    lines = [
        f"{part.label} above {-part.margin or 0:g}"
        if part.p is None
        else f"{part.label} significant"
        for part in one.parts
    ]
    rule = (
        f"reproduced if the lower bound (Holm over {family}) holds: {' and '.join(lines)}; not reproduced if an "
        f"upper bound is below {delta:g}, or below -margin where the line is not 0"
    )
    seen = [
        detectable(i.se, math.inf if i.draws is not None else i.df, alpha=alpha / family)
        for i in (part.interval for part in measured)
    ]
    return replace(
        one,
        verdict=outcome,
        estimate=head.estimate,
        low=head.lower(level),
        high=head.upper(alpha),
        n=head.n,
        p=float(p),
        p_holm=float(p_holm),
        detectable=max(seen, default=math.nan),
        delta=delta,
        level=float(level),
        rule=rule,
        note=note,
    )


def any_of(name: str, statement: str, judged: Sequence[Claim]) -> Claim:
    """The claim that at least one of a judged family holds; its numbers are those of the member with the smallest p.

    Reproduced if one member is (their Holm adjustment covers the choice); not reproduced if all are refuted.
    """
    if not judged:
        return Claim(name, statement, ())
    best = min(judged, key=lambda one: one.p)
    found = {one.verdict for one in judged}
    outcome = next(
        (v for v in ("reproduced", "not judged", "inconclusive") if v in found), "not reproduced"
    )
    note = "; ".join(filter(None, [f"strongest of {len(judged)}: {best.name}", best.note]))
    if outcome == "not judged":
        lacking = [one for one in judged if one.verdict == "not judged"]
        note = f"{len(lacking)} of {len(judged)} not judged: " + "; ".join(
            dict.fromkeys(one.note for one in lacking)
        )
    rule = f"reproduced if one of {len(judged)} is; not reproduced if all are refuted; each {best.rule}"
    return replace(
        best, name=name, statement=statement, verdict=outcome, p=best.p_holm, rule=rule, note=note
    )
