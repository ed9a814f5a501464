"""Claims and their verdicts: Holm, the three-way rule, the difference that could be seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ded.wording import line, number

from .intervals import ALPHA, Interval, numbers, unmeasured

DELTA = 0.03  # the difference that matters: 3 points
POWER = 0.8
WORST_FIRST = ("not reproduced", "not judged", "inconclusive", "reproduced")


def holm(p_values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(step-down adjusted p-values, one-sided levels of the members' lower bounds) by Holm 1979;
    nan counts as 1 and still as a member.

    'Bound above the line' is Holm's decision: the k-th smallest of m p-values gets the level
    ALPHA / (m - k + 1). From the first that fails on, all get the level of that one, so that none
    of them can show a bound above its line.
    """
    values, m = np.nan_to_num(np.asarray(p_values, float), nan=1.0), len(p_values)
    order, remaining = np.argsort(values, kind="stable"), np.arange(m, 0, -1)
    adjusted, levels = np.empty(m), np.empty(m)
    adjusted[order] = np.maximum.accumulate(values[order] * remaining).clip(max=1.0)
    n_rejected = np.cumprod(values[order] < ALPHA / remaining).sum()
    levels[order] = ALPHA / remaining[np.minimum(np.arange(m), n_rejected)]
    return adjusted, levels


def detectable(se: float, df: float, alpha: float = ALPHA) -> float:
    """The smallest true difference that a one-sided t-test at ``alpha`` finds with power POWER.

    ``se`` and ``df`` are those of the interval (noncentral t, se taken as known). nan without a
    usable se. statsmodels' solver gives up where df is small and alpha strict; this one does not.
    """
    from scipy.optimize import brentq
    from scipy.special import chdtri, ndtr, ndtri, stdtrit

    if not se > 0 or not df > 0:
        return math.nan
    if math.isinf(df):
        return float(se * (ndtri(1 - alpha) + ndtri(POWER)))
    # noncentral t as a normal over a chi, averaged over 1,000 quantiles of the chi
    chi = np.sqrt(chdtri(df, (np.arange(1000) + 0.5) / 1000) / df)
    critical = stdtrit(df, 1 - alpha)

    def power_beyond(shift: float) -> float:
        return ndtr(shift - critical * chi).mean() - POWER

    return float(se * brentq(power_beyond, 0.0, 10 + 10 * critical))


@dataclass(frozen=True)
class Part:
    """One condition of a claim: the interval lies above -margin (with one: non-inferiority, for
    which `detectable` counts from -margin, not from 0).

    Or a test that has no interval: then ``test_p_value`` stands for it.
    """

    label: str
    interval: Interval | None = None
    margin: float = 0.0
    test_p_value: float | None = None

    @property
    def p_value(self) -> float:
        """One-sided; 1 where nothing was measured."""
        if self.test_p_value is not None:
            return 1.0 if math.isnan(self.test_p_value) else self.test_p_value
        return 1.0 if self.interval is None else self.interval.p_above(-self.margin)

    @property
    def problem(self) -> str:
        """Why no verdict can rest on this part; empty if one can."""
        if self.interval is not None:
            return self.interval.problem
        lacking = self.test_p_value is None or math.isnan(self.test_p_value)
        return "not measured" if lacking else ""

    def refuted_below(self, delta: float) -> float:
        """The line that an upper bound below it refutes."""
        return -self.margin if self.margin else delta

    def lacks_room(self, delta: float) -> str:
        """Why the part would have come out so whatever is true; empty where it need not have.

        The change asked for is 2 delta. A part with a margin asks for no change, but that a fall of
        delta beyond its margin was possible.
        """
        if self.interval is None:
            return ""
        room = self.interval.loss if self.margin else self.interval.gain
        asked = self.margin + delta if self.margin else 2 * delta
        return f"no headroom: {room.bound}; {line(asked)} asked for" if room.size < asked else ""


@dataclass(frozen=True)
class Claim:
    """A claim and its verdict; all its parts must hold.

    ``low`` is the Holm-adjusted bound (at ``level``), ``high`` the plain one. ``estimate``,
    ``low``, ``high`` and ``n`` are those of the first part that has an interval; ``detectable`` is
    the largest over the parts, at the strictest level of the family. ``note`` says why a claim is
    not reproduced, and what else has to be known beside its verdict.
    """

    name: str
    statement: str
    parts: tuple[Part, ...]
    verdict: str = "not judged"
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    p_value: float = 1.0
    p_holm: float = 1.0
    detectable: float = math.nan
    delta: float = DELTA
    level: float = ALPHA
    note: str = ""
    outside: str = ""  # which of the paper's conditions the run does not meet (`ded.reading`)

    @property
    def intervals(self) -> list[Interval]:
        """Those of the parts that have one, in order."""
        return [part.interval for part in self.parts if part.interval is not None]

    def to_dict(self) -> dict:
        """Plain values for metrics.json, ``p_value`` as p; what is not a finite number is None."""
        parts = []
        for part in self.parts:
            measured = part.interval is not None or not part.problem
            row = {"label": part.label, "margin": part.margin}
            row |= {"p": part.p_value if measured else None}
            row |= {"verdict": verdict(part, self.delta, self.level)}
            if part.interval is not None:
                row |= numbers(part.interval) | {"low_adjusted": part.interval.lower(self.level)}
                row |= {"over": part.interval.over, "bases": _finite(part.interval.bases)}
                row |= {"evaluation_noise": part.interval.noise, "chosen": part.interval.chosen}
            parts.append(_finite(row))
        fields = asdict(replace(self, parts=())).items()
        own = {"p" if field == "p_value" else field: value for field, value in fields}
        return _finite(own) | {"parts": parts}


def _finite(values: Mapping) -> dict:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def claim(name: str, statement: str, *parts: Interval | Part | None) -> Claim:
    """An unjudged claim that holds if every part does (intersection-union); None: not measured."""
    as_parts = (part if isinstance(part, Part) else Part(name, part) for part in parts)
    return Claim(name, statement, tuple(as_parts))


def verdict(part: Interval | Part, delta: float = DELTA, level: float = ALPHA) -> str:
    """The verdict on one condition; ``level`` is that of the lower bound (see `holm`).

    *reproduced* if the lower bound is above -margin; else *not reproduced* if the plain upper bound
    is below delta (for a condition with a margin: below -margin); else *inconclusive*, also where
    all values agree exactly and nothing measures the error; *not judged* where there is a `problem`
    or no headroom.
    """
    part = part if isinstance(part, Part) else Part("", part)
    outcome = _by_bounds(part, delta, level)
    # what did change had room to; what did not fall beyond its margin counts where it could have
    sure = outcome == ("not reproduced" if part.margin else "reproduced")
    return "not judged" if part.lacks_room(delta) and not sure else outcome


def _by_bounds(part: Part, delta: float, level: float) -> str:
    if part.problem:
        return "not judged"
    if part.interval is None:
        return "reproduced" if part.p_value < level else "inconclusive"
    if part.interval.flat:
        return "inconclusive"
    if part.interval.lower(level) > -part.margin:
        return "reproduced"
    refuted = part.interval.upper() < part.refuted_below(delta)
    return "not reproduced" if refuted else "inconclusive"


def judge(claims: Sequence[Claim], delta: float = DELTA) -> list[Claim]:
    """The claims with their verdicts, in the same order; Holm over the claims given, one family.

    A claim's p-value is the largest of its parts. It is reproduced if all parts are, at its Holm
    level; not judged if one part is not measured; not reproduced if one part is refuted; not judged
    if one part had no headroom. A claim that cannot be judged still counts in the family.
    """
    p_values = [max((part.p_value for part in each.parts), default=1.0) for each in claims]
    adjusted, levels = (each.tolist() for each in holm(p_values))
    m, judged = len(claims), []
    for unjudged, p_value, p_holm, level in zip(claims, p_values, adjusted, levels, strict=True):
        verdicts = [verdict(part, delta, level) for part in unjudged.parts]
        unmeasured_parts = any(part.problem for part in unjudged.parts)
        outcome = "not judged" if unmeasured_parts else _first_of(WORST_FIRST, verdicts)
        intervals = unjudged.intervals or [unmeasured()]
        seen = [detectable(interval.se, interval.df, ALPHA / m) for interval in intervals]
        head = intervals[0]
        placed = replace(unjudged, p_value=p_value, p_holm=p_holm, level=level, delta=delta)
        placed = replace(placed, estimate=head.estimate, low=head.lower(level), high=head.upper())
        note = _note(placed, outcome, verdicts)
        placed = replace(placed, n=head.n, detectable=max(seen), note=note)
        judged.append(replace(placed, verdict=outcome))
    return judged


def withheld(judged: Sequence[Claim], why: str) -> list[Claim]:
    """The claims, *not judged* where there is a reason, whatever their numbers; "": as they are.
    What could not be judged before says so behind it."""
    if not why:
        return [*judged]
    notes = [claim.note if claim.verdict == "not judged" else "" for claim in judged]
    texts = ["; ".join(filter(None, (why, note))) for note in notes]
    return [
        replace(claim, verdict="not judged", note=text)
        for claim, text in zip(judged, texts, strict=True)
    ]


def _first_of(order: Sequence[str], verdicts: Sequence[str]) -> str:
    """The first verdict of ``order`` that occurs; "not judged" where there is none at all."""
    return next((outcome for outcome in order if outcome in verdicts), "not judged")


def _note(judged: Claim, outcome: str, verdicts: Sequence[str]) -> str:
    """Why a claim is not reproduced, by the parts that decide it; or that its effect is small."""
    deciding = [part for part, its in zip(judged.parts, verdicts, strict=True) if its == outcome]
    head = next((part for part in judged.parts if part.interval is not None), None)
    if outcome != "reproduced":
        reasons = [_reason(part, outcome, judged) for part in deciding]
        return "; ".join(dict.fromkeys(reasons)) or "not measured"
    small = head and not head.margin and judged.high < judged.delta
    return f"real, but smaller than {line(judged.delta)}" if small else ""


def _reason(part: Part, outcome: str, judged: Claim) -> str:
    """Why a part is not reproduced, in points."""
    name = "" if part.label == judged.name else f"{part.label}: "
    refuted, interval = line(part.refuted_below(judged.delta)), part.interval
    if part.problem:
        return name + part.problem
    if outcome == "not judged":
        return name + part.lacks_room(judged.delta)
    if interval is None:
        return f"{name}p = {part.p_value:.2g}, not below {judged.level:.2g}"
    if interval.flat:
        return f"{name}all {interval.over} agree exactly, so nothing measures the error"
    if outcome == "not reproduced":
        return f"{name}upper bound {number(interval.upper())}, below {refuted}"
    low, high = number(interval.lower(judged.level)), number(interval.upper())
    return f"{name}{low} to {high}, neither above {line(-part.margin)} nor below {refuted}"


def any_of(name: str, statement: str, judged: Sequence[Claim]) -> Claim:
    """The claim that at least one of a judged family holds.

    Its numbers are those of the member with the smallest p-value. Reproduced if one member is
    (their Holm adjustment covers the choice); not reproduced if all are refuted.
    """
    if not judged:
        return Claim(name, statement, (), note="not measured")
    n, strongest = len(judged), min(judged, key=lambda member: member.p_value)
    verdicts = [member.verdict for member in judged]
    outcome = _first_of(("reproduced", "not judged", "inconclusive", "not reproduced"), verdicts)
    note = "; ".join(filter(None, (f"strongest of {n}: {strongest.name}", strongest.note)))
    if outcome in ("not judged", "inconclusive"):
        open_ones = [member for member in judged if member.verdict == outcome]
        telling = min(open_ones, key=lambda member: member.p_value)
        note = f"{len(open_ones)} of {n} {outcome}, such as {telling.name} ({telling.note})"
    parts = tuple(
        replace(part, interval=part.interval and replace(part.interval, chosen=True))
        for part in strongest.parts
    )
    heading = replace(strongest, name=name, statement=statement, parts=parts)
    return replace(heading, p_value=strongest.p_holm, verdict=outcome, note=note)
