"""Differences with their intervals: the claims of each notebook, the ablation of notebook 04."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ded import stats

from . import parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOVE = {"marker": "D", "color": parts.BLUE}
BELOW = {"marker": "X", "color": parts.RED}
NEITHER = {"marker": "o", "color": "0.3"}
VERDICT_LOOKS = {"reproduced": ABOVE, "not reproduced": BELOW}


def claim_rows(claims: Sequence[stats.Claim]) -> pd.DataFrame:
    """Rows for `forest`: each measured condition of each claim, its 95 % interval, the verdict.

    The interval is the plain one. The conditions of a claim that has many stand under a heading
    with its verdict, which is not that of any one of them.
    """
    rows = []
    for claim in claims:
        many = len(claim.parts) > 2
        for part in claim.parts:
            if part.interval is None:
                continue
            name = f"{claim.name}: {part.label}"
            if many:
                name = part.label
            elif part.label in (claim.name, ""):
                name = claim.name
            heading = f"{claim.name}: {claim.verdict}" if many else ""
            verdict = "" if many else claim.verdict
            row = {"label": name, **stats.numbers(part.interval)}
            rows.append(row | {"group": heading, "verdict": verdict})
    return pd.DataFrame(rows)


@parts.styled
def forest(
    rows: pd.DataFrame, delta: float = stats.DELTA, by_base: pd.DataFrame | None = None
) -> Figure:
    """Differences with their 95 % intervals, the zero line and the band of ±delta around it.

    `rows`: label, estimate, low, high (fractions) and, where known, group (a heading), verdict, n.
    `by_base`: label, base, estimate, drawn as small markers under the interval of that label.
    """
    rows = rows.reset_index(drop=True)
    groups = rows["group"] if "group" in rows else pd.Series("", index=rows.index)
    # a heading takes a line, and so does the end of what stands under one
    begins = groups.ne(groups.shift(fill_value=""))
    place = rows.index + begins.cumsum()
    note = (
        "Whiskers: unadjusted 95 % intervals; a verdict takes the adjusted bound, and all parts of "
        f"its claim. Shaded: within ±{100 * delta:g} points. "
    )
    if "n" in rows and rows["n"].notna().any():
        note = f"n = {rows['n'].min():g} or more replicates. {note}"
    labels = [textwrap.fill(str(name), 44) for name in rows["label"]]
    step = 0.32 if any("\n" in name for name in labels) else 0.24
    height = 0.8 + step * (place.max() + 1) + 0.3 * (by_base is not None)
    xlabel = "difference in pass@1 (percentage points)"
    figure, (ax,) = parts.canvas(1, 1, height, note, xlabel)
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
    if by_base is not None:
        place_of = dict(zip(rows["label"], place, strict=True))
        for base, look in parts.looks(parts.names(by_base, "base")).items():
            effects = by_base[(by_base["base"] == base) & by_base["label"].isin(list(place_of))]
            y = effects["label"].map(place_of) + 0.3
            ax.plot(effects["estimate"], y, linestyle="none", markersize=3, label=base, **look)
        parts.legend(figure, ax)
    ax.set(yticks=place, yticklabels=labels, ylim=(place.max() + 0.6, -0.6))
    return figure


@parts.styled
def ablation(table: pd.DataFrame, delta: float = stats.DELTA, note: str = "") -> Figure:
    """Paired differences, DED minus each arm, a panel a group; shaded: the band of ±delta.

    `table`: arm, group, estimate, low, high (fractions). A diamond is above 0, a cross below it, a
    circle neither.
    """
    arms, groups = parts.names(table), parts.names(table, "group")
    note = (
        "Right of 0: DED is better. Whiskers: 95 % intervals of the paired difference; diamond "
        f"above 0, cross below. Shaded: within ±{100 * delta:g} points. {note}"
    )
    height = 0.7 + 0.26 * len(arms)
    x = f"DED {parts.MINUS} arm (points)"
    figure, axes = parts.canvas(len(groups), 3, height, note.strip(), x, "arm", sharey=True)
    for ax, group in zip(axes, groups, strict=True):
        parts.delta_band(ax, delta)
        for row in table[table["group"] == group].itertuples(index=False):
            parts.point(ax, row, arms.index(row.arm), zorder=4, **_side(row))
        ax.set_title(group)
        parts.rows_on(ax, arms)
    return figure


def _side(row: Any) -> dict[str, str]:
    """The look of an interval by the side of 0 on which it lies."""
    if parts.whisker(row) is None or row.low <= 0 <= row.high:
        return NEITHER
    return ABOVE if row.low > 0 else BELOW
