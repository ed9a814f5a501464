"""Scores against corpus size: the log axis, the curves, and what a corpus costs out of domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ded import stats

from . import parts
from .labels import Named, label

CURVE = "random"  # the selection that is drawn as a curve
BESIDE = np.inf  # the size of a model that was not made from a corpus of known size
BEFORE = {"marker": "*", "color": "0.35", "markersize": 9}


def size_axis(axes: Sequence[parts.Axes], sizes: Sequence[float]) -> dict[float, float]:
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
    words = {0.0: "before", BESIDE: "no corpus"}
    labels = [words.get(size) or f"{size:,.0f}" for size in place]
    for ax in axes:
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xticks(list(place.values()), labels)
    return place


def sideways(i: Any, n: Any, step: float) -> Any:
    """The factor by which the i-th of n at one place of a log axis is moved, `step` apart."""
    return step ** (i - (n - 1) / 2)


def _selections(rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row a scored arm: arm, size, selection; by size."""
    arms = rows.loc[rows["arm"].isin(parts.names(scores)), ["arm", "size", "selection"]]
    return arms.drop_duplicates("arm").sort_values("size", kind="stable")


def _curve(ax: parts.Axes, table: pd.DataFrame, arms: pd.DataFrame) -> None:
    """Selection CURVE against size: a thin line a base, their mean with its band, dashed before."""
    arms = arms[arms["selection"] == CURVE]
    parts.before_level(ax, table)
    if arms.empty:  # not run
        return
    sizes = arms["size"].to_numpy()
    thin = {"linewidth": 0.9, "markersize": 2.5}
    for base, look in parts.curve_looks(parts.names(table, "base")).items():
        values = [parts.interval(table, arm, base).estimate for arm in arms["arm"]]
        ax.plot(sizes, values, label=f"{CURVE}, {base}", **thin, **look)
    means = pd.DataFrame([stats.numbers(parts.interval(table, arm)) for arm in arms["arm"]])
    finite = np.isfinite(means["high"] - means["low"])
    band = {"where": finite, "color": "0.3", "alpha": 0.25, "linewidth": 0}
    ax.fill_between(sizes, means["low"], means["high"], **band)
    thick = {"color": "black", "marker": "o", "linewidth": 2, "markersize": 4}
    ax.plot(sizes, means["estimate"], label=f"{CURVE}, mean of bases", **thick)
    size_axis([ax], sizes)


@parts.styled
def size_curve(scores: pd.DataFrame, rows: pd.DataFrame) -> parts.Figure:
    """ID pass@1 against corpus size (the shape of the paper's Figure 1).

    Selection CURVE is a curve, the others are markers. `scores` may hold the arm "before" (dashed).
    `rows`: arm, size, selection.
    """
    table = parts.cells(scores)
    arms = _selections(rows, table)
    figure, (ax,) = parts.canvas([""], 1, 3.3, parts.words("size_curve", table))
    _curve(ax, table, arms)
    others = [name for name in parts.names(arms, "selection") if name != CURVE]
    marks = parts.looks(others, 3)
    for i, (name, look) in enumerate(marks.items()):
        for row in arms[arms["selection"] == name].itertuples(index=False):
            x = row.size * sideways(i, len(others), 2**0.13)
            parts.point(ax, x, parts.interval(table, row.arm), zorder=4, markersize=6, **look)
    if (table["arm"] == "before").any():
        marks["before distillation"] = {"color": "0.25", "linestyle": parts.DASHED}
    parts.scores_on(ax.yaxis)
    parts.legend(figure, ax, marks, loc="outside right upper", ncols=1)
    return figure


@parts.styled
def ood_families(scores: pd.DataFrame, rows: pd.DataFrame) -> parts.Figure:
    """pass@1 of each OOD family and of their macro mean against corpus size, a panel each."""
    families = parts.names(scores[scores["group"] == "OOD"], "family")
    titles, columns = ["macro mean", *families], 3 if len(families) % 3 == 2 else 4
    words = parts.words("ood_families", scores)
    figure, axes = parts.canvas(titles, columns, 1.9, words, sharex=True, sharey=True)
    for ax, family in zip(axes, ["OOD", *families], strict=True):
        table = parts.cells(scores, family)
        _curve(ax, table, _selections(rows, table))
        ax.xaxis.set_tick_params(rotation=90)
    axes[0].title.set_fontweight("bold")
    parts.scores_on(*(ax.yaxis for ax in axes))
    parts.legend(figure, axes[0], ncols=4)
    return figure


@parts.styled
def valley(table: pd.DataFrame, note: str = "") -> parts.Figure:
    """A panel a measure, a line an arm, against corpus size; the student before at 0, and dashed.

    `table`: arm, size (examples), measure (a name in words.yml, or any other), estimate, low, high
    (fractions, ends nan where there is no interval). The arm "before" (size 0) is a star; the line
    of the first arm begins there. `note` ends the caption.
    """
    measures, looks = parts.names(table, "measure"), parts.curve_looks(parts.names(table))
    words = parts.words("valley", note=note)
    figure, axes = parts.canvas([""] * len(measures), 1, 2.0, words, sharex=True)
    place = size_axis(axes, [float(size) for size in table["size"]])
    step = (max(place.values()) / min(place.values())) ** 0.012
    for ax, measure in zip(axes, measures, strict=True):
        rows = table[(table["measure"] == measure) & np.isfinite(table["estimate"])]
        before = rows[rows["arm"] == "before"]
        for row in before.itertuples(index=False):
            parts.level(ax, row)
            parts.point(ax, place[0.0], row, zorder=4, **BEFORE)
        for i, (arm, look) in enumerate(looks.items()):
            own = rows[rows["arm"] == arm].sort_values("size")
            x = own["size"].map(place) * sideways(i, len(looks), step)
            for spot, row in zip(x, own.itertuples(index=False), strict=True):
                parts.point(ax, spot, row, zorder=4, **(look | {"linestyle": "none"}))
            y = own["estimate"]
            if i == 0 and len(before):
                x, y = [place[0.0], *x], [before["estimate"].iloc[0], *y]
            line = look | {"marker": "", "linewidth": 1 if i else 1.4, "zorder": 2}
            ax.plot(x, y, **line)
        ax.set_ylabel(words.get(measure, measure))
        ax.margins(y=0.1)
    for ax in axes:
        parts.scores_on(ax.yaxis)
    parts.legend(figure, axes[0], looks, ncols=4)
    return figure


@parts.styled
def pareto(scores: pd.DataFrame, rows: pd.DataFrame) -> parts.Figure:
    """ID (x) against the OOD macro mean (y) of all arms, with the frontier.

    No other arm beats one on the frontier in both. Selection CURVE is joined in the order of its
    sizes; a star is the student before.
    """
    inside, outside = parts.cells(scores, "ID"), parts.cells(scores, "OOD")
    arms = _selections(rows, inside)
    if (inside["arm"] == "before").any():
        before = pd.DataFrame({"arm": ["before"], "size": [0], "selection": ["before"]})
        arms = pd.concat([before, arms])
    others = [name for name in parts.names(arms, "selection") if name != CURVE]
    marks = {CURVE: {"color": "black", "marker": "o", "linestyle": "none"}} | parts.looks(others, 3)
    marks["before"] = {"color": "0.4", "marker": "*", "linestyle": "none"}
    figure, (ax,) = parts.canvas([""], 1, 4.2, parts.words("pareto", inside, curve=CURVE))
    doublings = np.log2(arms["size"].clip(lower=1))
    widths = (3 + 5 * doublings / max(1, doublings.max())).mask(arms["selection"] == "before", 9)
    points = []
    for row, width in zip(arms.itertuples(index=False), widths, strict=True):
        x, y = parts.interval(inside, row.arm), parts.interval(outside, row.arm)
        points.append(Named(f"{row.size:g}", x, y))
        look = {"elinewidth": 0.6, "capsize": 0, "markersize": width} | marks[row.selection]
        parts.point(ax, x, y, zorder=3 + (row.selection != CURVE), **look)
    means = pd.DataFrame([named.place for named in points])
    on_curve = (arms["selection"] == CURVE).to_numpy()
    curve = means[on_curve].to_numpy()
    ax.plot(*curve.T, color="black", linewidth=1, zorder=2)
    frontier = means[stats.unbeaten(means)].sort_values([0, 1]).to_numpy()
    parts.pale_steps(ax, frontier, where="pre")
    ax.margins(0.08)
    parts.scores_on(ax.xaxis, ax.yaxis)
    parts.legend(figure, ax, marks, ncols=4)
    label(ax, [points[i] for i in np.flatnonzero(on_curve)], points, curve)
    return figure
