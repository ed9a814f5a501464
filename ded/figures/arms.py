"""Arms: their scores, and the differences between them with intervals and verdicts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ded import stats

from . import parts

HOLLOW = {"markersize": 6, "color": "0.4", "markerfacecolor": "white"}
ABOVE = {"marker": "D", "color": parts.BLUE}
BELOW = {"marker": "X", "color": parts.RED}
NEITHER = {"marker": "o", "color": "0.3"}
VERDICT_LOOKS = {"reproduced": ABOVE, "not reproduced": BELOW}


@parts.styled
def arm_scores(
    scores: pd.DataFrame,
    families: Sequence[str] = ("ID",),
    values: Mapping[str, str] | None = None,
) -> parts.Figure:
    """Scores by arm, a panel a family ("OOD": macro mean) and value.

    The bases' mean with its interval, a mark a base. `values`: {column of scores: its name}, for
    example {"accuracy": "pass@1", "pass_k": "pass@4"}.
    """
    values = values or {"accuracy": "pass@1"}
    panels = {
        f"{family} {name}": parts.cells(scores.assign(accuracy=scores[column]), family)
        for family in families
        for column, name in values.items()
    }
    return _arm_strips(panels, parts.names(scores), "arm_scores")


@parts.styled
def robustness(scores: pd.DataFrame, reference: str = "ID") -> parts.Figure:
    """pass@1 by arm on the questions as they are, and on each perturbation (group "robust").

    The former stands, hollow, in the panels of the latter.
    """
    families = [reference, *parts.names(scores[scores["group"] == "robust"], "family")]
    panels = {family: parts.cells(scores, family) for family in families}
    return _arm_strips(panels, parts.names(scores), "robustness", reference)


def _arm_strips(
    panels: Mapping[str, pd.DataFrame], arms: Sequence[str], name: str, reference: str = ""
) -> parts.Figure:
    """A row an arm, a panel a cell table; `reference`: that whose means stand in the others."""
    first = next(iter(panels.values()))
    bases = parts.looks(parts.names(first, "base"))
    words = parts.words(name, first, reference=reference)
    share = {"sharey": True, "sharex": bool(reference)}
    figure, axes = parts.canvas(list(panels), 4, 0.9 + 0.32 * len(arms), words, **share)
    for ax, (title, table) in zip(axes, panels.items(), strict=True):
        for i, (base, look) in enumerate(bases.items()):
            means = [parts.interval(table, arm, base).estimate for arm in arms]
            ax.plot(means, np.arange(len(arms)) + 0.2 + 0.09 * i, markersize=3, **look)
        for row, arm in enumerate(arms):
            if reference and title != reference:
                ax.plot(parts.interval(first, arm).estimate, row, "o", **HOLLOW)
            mean = parts.interval(table, arm)
            parts.point(ax, mean, row, marker="o", color="black", elinewidth=1.4, zorder=4)
        parts.before_level(ax, table, vertical=True)
        parts.rows_on(ax, arms, top=-0.5)
    for ax in axes:
        parts.scores_on(ax.xaxis)
    parts.legend(figure, axes[0], bases)
    return figure


def claim_rows(claims: Sequence[stats.Claim]) -> pd.DataFrame:
    """Rows for `forest`: each measured condition of each claim, its interval, the verdict.

    The interval is the one that decides: its lower bound is adjusted. The conditions of a claim
    that has many stand under a heading with its verdict, which is not that of any one of them.
    """
    rows = []
    for claim in claims:
        many = len(claim.parts) > 2
        heading = {"group": f"{claim.name}: {claim.verdict}", "verdict": ""}
        beside = heading if many else {"group": "", "verdict": claim.verdict}
        for part in claim.parts:
            alone = claim.name if part.label in (claim.name, "") else f"{claim.name}: {part.label}"
            if part.interval is not None:
                label = {"label": part.label if many else alone}
                decides = {"low": part.interval.lower(claim.level)}
                rows.append(label | stats.numbers(part.interval) | decides | beside)
    return pd.DataFrame(rows)


@parts.styled
def forest(rows: pd.DataFrame, delta: float = stats.DELTA) -> parts.Figure:
    """Differences with their intervals, the zero line and the band of ±delta around it.

    `rows`: label, estimate, low, high (fractions) and, where known, group (a heading), verdict, n.
    """
    rows = rows.reset_index(drop=True)
    groups = rows.get("group", pd.Series("", index=rows.index))
    # a heading takes a line, and so does the end of what stands under one
    begins = groups.ne(groups.shift(fill_value=""))
    place = rows.index + begins.cumsum()
    n = ""
    if "n" in rows and rows["n"].notna().any():
        n = f"n = {rows['n'].min():g} or more replicates. "
    labels = [textwrap.fill(str(name), 44) for name in rows["label"]]
    step = 0.24 + 0.08 * max((name.count("\n") for name in labels), default=0)
    words = parts.words("forest", n=n, points=100 * delta)
    figure, (ax,) = parts.canvas([""], 1, 0.8 + step * (place.max() + 1), words)
    parts.delta_band(ax, delta)
    beside = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 7.5}
    for y, row in zip(place, rows.itertuples(index=False), strict=True):
        verdict = getattr(row, "verdict", "")
        look = VERDICT_LOOKS.get(verdict, NEITHER)
        parts.point(ax, row, y, zorder=4, **look)
        ax.text(1.01, y, verdict, color=look["color"], **beside)
    on_white = {"fontweight": "bold", "bbox": {"color": "white", "pad": 1}}
    for y, heading in zip(place[begins], groups[begins], strict=True):
        if heading:
            ax.text(0.01, y - 1, heading, **on_white, **beside)
    ax.set(yticks=place, yticklabels=labels, ylim=(place.max() + 0.6, -0.6))
    return figure


@parts.styled
def ablation(table: pd.DataFrame, delta: float = stats.DELTA, note: str = "") -> parts.Figure:
    """Paired differences, DED minus each arm, a panel a group; shaded: the band of ±delta.

    `table`: arm, group, estimate, low, high (fractions). A diamond is above 0, a cross below it, a
    circle neither.
    """
    arms, groups = parts.names(table), parts.names(table, "group")
    words = parts.words("ablation", points=100 * delta, note=note)
    figure, axes = parts.canvas(groups, 3, 0.7 + 0.26 * len(arms), words, sharey=True)
    for ax, group in zip(axes, groups, strict=True):
        parts.delta_band(ax, delta)
        for row in table[table["group"] == group].itertuples(index=False):
            parts.point(ax, row, arms.index(row.arm), zorder=4, **_side(row))
        parts.rows_on(ax, arms)
    return figure


def _side(row: Any) -> dict[str, str]:
    """The look of an interval by the side of 0 on which it lies."""
    if parts.whisker(row) is None or row.low <= 0 <= row.high:
        return NEITHER
    return ABOVE if row.low > 0 else BELOW
