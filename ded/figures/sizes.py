"""Scores against corpus size: the log axis, and the curves of notebooks 02 and 05."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = "corpus size (examples, log scale)"
CURVE = "random"  # the selection that is drawn as a curve
BESIDE = np.inf  # the size of a model that was not made from a corpus of known size
APART = "Arms of one size are moved apart sideways."
BEFORE = {"marker": "*", "color": "0.35", "markersize": 9}
MEASURES = {
    "accuracy": "pass@1 (%)",
    "completion_rate": "answers that end (%)",
    "think_rate": "open with a think tag (%)",
}


def size_axis(axes: Sequence[Axes], sizes: Sequence[float]) -> dict[float, float]:
    """A log axis of corpus sizes: {size: its place on it}.

    "before" for 0 stands on its left and "no corpus" for inf on its right.
    """
    real = sorted({size for size in sizes if 0 < size < BESIDE}) or [1.0]
    gap = max(2.0, (real[-1] / real[0]) ** 0.25)
    place = {size: size for size in real}
    if 0 in sizes:
        place = {0.0: real[0] / gap} | place
    if BESIDE in sizes:
        place[BESIDE] = real[-1] * gap
    spots = list(place.values())
    room = 0.055 * np.log(spots[-1] / spots[0])
    shown: list[float] = []
    for size, spot in place.items():
        if not shown or np.log(spot / place[shown[-1]]) > room:
            shown.append(size)
    words = {0.0: "before", BESIDE: "no corpus"}
    ticks = [place[size] for size in shown]
    for ax in axes:
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xticks(ticks, [words.get(size) or f"{size:,.0f}" for size in shown])
    return place


def sideways(i: Any, n: Any, step: float) -> Any:
    """The factor by which the i-th of n at one place of a log axis is moved, `step` apart."""
    return step ** (i - (n - 1) / 2)


def selections(rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row a scored arm: arm, size, selection; by size."""
    arms = rows.loc[rows["arm"].isin(scores["arm"]), ["arm", "size", "selection"]]
    return arms.drop_duplicates("arm").sort_values("size", kind="stable")


def _curve(ax: Axes, table: pd.DataFrame, arms: pd.DataFrame) -> None:
    """Selection CURVE against size: a thin line a base, their mean with its band, dashed before."""
    arms = arms[arms["selection"] == CURVE]
    sizes = arms["size"].to_numpy()
    thin = {"linewidth": 0.9, "markersize": 2.5}
    for base, look in parts.curve_looks(parts.names(table, "base")).items():
        values = [parts.interval(table, arm, base).estimate for arm in arms["arm"]]
        ax.plot(sizes, values, label=f"{CURVE}, {base}", **thin, **look)
    means = [parts.interval(table, arm) for arm in arms["arm"]]
    low, high = np.array([(mean.low, mean.high) for mean in means]).reshape(-1, 2).T
    finite = np.isfinite(low) & np.isfinite(high)
    ax.fill_between(sizes, low, high, where=finite, color="0.3", alpha=0.25, linewidth=0)
    thick = {"color": "black", "marker": "o", "linewidth": 2, "markersize": 4}
    ax.plot(sizes, [mean.estimate for mean in means], label=f"{CURVE}, mean of bases", **thick)
    parts.before_level(ax, table)
    size_axis([ax], sizes)


@parts.styled
def size_curve(scores: pd.DataFrame, rows: pd.DataFrame, family: str = "ID") -> Figure:
    """pass@1 against corpus size (the shape of the paper's Figure 1).

    Selection CURVE is a curve, the others are markers. `scores` may hold the arm "before" (dashed).
    `rows`: arm, size, selection. Family "OOD" is the macro mean.
    """
    table = parts.cells(scores, family)
    arms = selections(rows, table)
    note = parts.caption(table, "Markers of one size are moved apart sideways.")
    mean = ", macro mean" if family == "OOD" else ""
    figure, (ax,) = parts.canvas(1, 1, 3.3, note, SIZE, f"{family} pass@1 (%){mean}")
    _curve(ax, table, arms)
    others = [name for name in parts.names(arms, "selection") if name != CURVE]
    for i, (name, look) in enumerate(parts.looks(others, 3).items()):
        for row in arms[arms["selection"] == name].itertuples(index=False):
            x = row.size * sideways(i, len(others), 2**0.13)
            parts.point(ax, x, parts.interval(table, row.arm), zorder=4, markersize=6, **look)
        ax.plot([], [], linestyle="none", label=name, **look)
    if (table["arm"] == "before").any():
        ax.plot([], [], color="0.25", linestyle=parts.DASHED, label="before distillation")
    parts.scores_on(ax.yaxis)
    parts.legend(figure, ax, "right upper", ncols=1)
    return figure


@parts.styled
def ood_families(scores: pd.DataFrame, rows: pd.DataFrame) -> Figure:
    """pass@1 of each OOD family and of their macro mean against corpus size, a panel each."""
    families = ["OOD", *parts.names(scores[scores["group"] == "OOD"], "family")]
    note = parts.caption(scores, "Dashed: the students before distillation.")
    columns = 4 if len(families) % 3 else 3
    share = {"sharex": True, "sharey": True}
    x, y = "corpus size (examples)", "OOD pass@1 (%)"
    figure, axes = parts.canvas(len(families), columns, 1.9, note, x, y, **share)
    for ax, family in zip(axes, families, strict=True):
        table = parts.cells(scores, family)
        _curve(ax, table, selections(rows, table))
        if family == "OOD":
            ax.set_title("macro mean", fontweight="bold")
        else:
            ax.set_title(family)
        ax.xaxis.set_tick_params(rotation=90)
    parts.scores_on(*(ax.yaxis for ax in axes))
    parts.legend(figure, axes[0], ncols=4)
    return figure


@parts.styled
def valley(table: pd.DataFrame, note: str = "") -> Figure:
    """A panel a measure, a line an arm, against corpus size; the student before at 0, and dashed.

    `table`: arm, size (examples), measure (`MEASURES`, or any other name), estimate, low, high
    (fractions, ends nan where there is no interval). The arm "before" (size 0) is a star; the line
    of the first arm begins there. `note` ends the caption.
    """
    measures, arms = parts.names(table, "measure"), parts.names(table)
    note = f"Whiskers: 95 % intervals. Dashed: the student before. {APART} {note}".strip()
    figure, axes = parts.canvas(len(measures), 1, 2.0, note, SIZE, sharex=True)
    place = size_axis(axes, [float(size) for size in table["size"]])
    step = (max(place.values()) / min(place.values())) ** 0.012
    for ax, measure in zip(axes, measures, strict=True):
        rows = table[(table["measure"] == measure) & np.isfinite(table["estimate"])]
        before = rows[rows["arm"] == "before"]
        for row in before.itertuples(index=False):
            parts.level(ax, row)
            parts.point(ax, place[0.0], row, zorder=4, **BEFORE)
        for i, (arm, look) in enumerate(parts.curve_looks(arms).items()):
            own = rows[rows["arm"] == arm].sort_values("size")
            x = own["size"].map(place) * sideways(i, len(arms), step)
            for spot, row in zip(x, own.itertuples(index=False), strict=True):
                parts.point(ax, spot, row, zorder=4, **(look | {"linestyle": "none"}))
            y = own["estimate"]
            if i == 0 and len(before):
                x, y = [place[0.0], *x], [before["estimate"].iloc[0], *y]
            line = {"color": look["color"], "linestyle": look["linestyle"], "zorder": 2}
            ax.plot(x, y, linewidth=1 if i else 1.4, **line)
            ax.plot([], [], label=arm, **look)
        ax.set_ylabel(MEASURES.get(measure, measure))
        ax.margins(y=0.1)
    for ax in axes:
        parts.scores_on(ax.yaxis)
    parts.legend(figure, axes[0], ncols=4)
    return figure
