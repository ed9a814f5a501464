"""Arms: their scores, and the differences between them with intervals, bases and verdicts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ded import stats, wording

from . import parts

ABOVE: dict[str, Any] = {"marker": "D", "color": parts.BLUE}
BELOW: dict[str, Any] = {"marker": "X", "color": parts.RED}
NEITHER: dict[str, Any] = {"marker": "o", "color": "0.3"}
VERDICT_LOOKS = {"reproduced": ABOVE, "not reproduced": BELOW}
MOST = 6  # deltas from 0 up to which an axis of differences is stretched for what is no estimate
LINE, BAR, GAP = 0.155, 0.24, 0.1  # inches of a line of text in a forest, a bar with dots, between


@parts.styled
def arm_scores(panels: Mapping[str, pd.DataFrame]) -> parts.Figure:
    """Scores by arm, a panel a cell table ({title: cells}): the bases' mean with its interval, a
    dot a base."""
    first, rows = next(iter(panels.values())), parts.names(pd.concat(panels.values()))
    if (first["arm"] == "before").any():
        rows.append("before")
    words = parts.words("arm_scores", first, guessed=parts.guessing(panels.values()))
    figure, axes = parts.canvas(list(panels), 3, 0.9 + 0.3 * len(rows), words, sharey=True)
    for ax, table in zip(axes, panels.values(), strict=True):
        means = {arm: parts.rate(parts.interval(table, arm)) for arm in rows}
        parts.rates_on(ax.xaxis, means.values(), stats.chance(table))
        for row, mean in enumerate(means.values()):
            parts.with_bases(ax, mean, row, **parts.MEAN)
        if "before" in means:
            ax.axvline(means["before"].estimate, **parts.BEFORE)
        parts.rows_on(ax, ["student before" if row == "before" else row for row in rows])
    return figure


def robustness(scores: pd.DataFrame) -> parts.Figure:
    """pass@1 by arm on the ID questions as they are, and on each perturbation (group "robust")."""
    changed = parts.names(scores[scores["group"] == "robust"], "family")
    titles = {"ID": "ID"} | {name: f"ID, changed: {name}" for name in changed}
    return arm_scores({title: parts.cells(scores, family) for family, title in titles.items()})


def claim_rows(claims: Sequence[stats.Claim]) -> pd.DataFrame:
    """Rows for `forest`, a claim each: of its parts the weakest of those that decide its verdict.

    The interval is the one that decides: its lower bound is adjusted for the claims made together.
    """
    rows = []
    for claim in claims:
        recorded = claim.to_dict()
        deciding, n = wording.deciding(recorded), len(recorded["parts"])
        share = f"{len(deciding)} of {n} parts {claim.verdict}" if n > 1 else ""
        part, why = deciding[0], wording.why(recorded) if claim.verdict == "not judged" else ""
        # why it is not judged names the part
        shown = wording.difference(part) if why else wording.labelled(part, recorded)
        text = ", ".join(filter(None, dict.fromkeys((shown, share, why))))
        row = {key: part.get(key) for key in ("estimate", "high", "margin")}
        row |= {"low": part.get("low_adjusted"), "bases": part.get("bases") or {}}
        row |= {"label": claim.name, "verdict": claim.verdict, "text": text}
        rows.append(row)
    columns = ["label", "verdict", "text", "estimate", "low", "high", "margin", "bases"]
    numbers = dict.fromkeys(columns[3:7], float)
    return pd.DataFrame(rows, columns=columns).astype(numbers)


@parts.styled
def forest(rows: pd.DataFrame, delta: float = stats.DELTA) -> parts.Figure:
    """A row a claim: its name and verdict, and below them the difference that decides, with its
    interval and a dot a base.

    `rows`: see `claim_rows`. The zero line, the band of ±delta around it; a dotted stroke where
    the line that a claim is held against is another.
    """
    from matplotlib.patheffects import withStroke

    names = [textwrap.fill(name, 62) for name in rows["label"]]
    texts = [textwrap.fill(text, 92) for text in rows["text"]]
    lines = 1 + np.array([[text.count("\n") for text in block] for block in (names, texts)])
    heights = LINE * lines.sum(axis=0) + BAR * rows["estimate"].notna().to_numpy() + GAP
    total = GAP + heights.sum()
    figure, (ax,) = parts.canvas([""], 1, 0.4 + total, parts.words("forest", points=100 * delta))
    ax.set(xlim=_reach(rows, delta), ylim=(total, 0), yticks=[])
    ax.spines["left"].set_visible(False)
    parts.delta_band(ax, delta)
    write = {"transform": ax.get_yaxis_transform(), "va": "top", "linespacing": 1.15, "zorder": 5}
    write["path_effects"] = [withStroke(linewidth=1.5, foreground="white")]
    tops = heights.cumsum() - heights + GAP
    belows = tops + LINE * lines[0]
    bars = belows + LINE * lines[1] + BAR / 3
    for row, name, text, top, below, y in zip(
        rows.itertuples(), names, texts, tops, belows, bars, strict=True
    ):
        look = VERDICT_LOOKS.get(row.verdict, NEITHER)
        ax.text(0, top, name, **write)
        ax.text(1, top, row.verdict, ha="right", weight="bold", color=look["color"], **write)
        ax.text(0, below, text, fontsize=7, color="0.35", **write)
        if np.isfinite(row.estimate):
            parts.with_bases(ax, row, y, 0.09, **look)
        if row.margin > 0:
            ax.plot([-row.margin] * 2, [y - 0.1, y + 0.1], ":", color=parts.RED, zorder=3)
    return figure


def _reach(rows: pd.DataFrame, delta: float) -> tuple[float, float]:
    """Limits of an axis of differences: all estimates lie within, and 3 points can be seen."""
    dots = [value for bases in rows.get("bases", ()) for value in bases.values()]
    ends = np.array([*rows["low"], *rows["high"], *dots], float)
    ends = np.clip(ends[np.isfinite(ends)], -MOST * delta, MOST * delta)
    estimates = rows["estimate"].dropna()
    inner = [-1.5 * delta, 1.5 * delta, *(estimates - delta), *(estimates + delta), *ends]
    return min(inner) * 1.03, max(inner) * 1.03


@parts.styled
def ablation(table: pd.DataFrame, delta: float = stats.DELTA, note: str = "") -> parts.Figure:
    """Paired differences, DED minus each arm, a panel a group; shaded: the band of ±delta.

    `table`: arm, group, estimate, low, high (fractions), and where known bases ({base: value}). A
    diamond is above 0, a cross below it, a circle neither.
    """
    arms, groups = parts.names(table), parts.names(table, "group")
    words = parts.words("ablation", points=100 * delta, note=note)
    figure, axes = parts.canvas(groups, 3, 0.7 + 0.3 * len(arms), words, sharey=True)
    for ax, group in zip(axes, groups, strict=True):
        rows = table[table["group"] == group]
        ax.set_xlim(_reach(rows, delta))
        parts.delta_band(ax, delta)
        for row in rows.itertuples(index=False):
            parts.with_bases(ax, row, arms.index(row.arm), **_side(row))
        parts.rows_on(ax, arms)
    return figure


def _side(row: Any) -> dict[str, Any]:
    """The look of an interval by the side of 0 on which it lies."""
    if parts.whisker(row) is None or row.low <= 0 <= row.high:
        return NEITHER
    return ABOVE if row.low > 0 else BELOW
