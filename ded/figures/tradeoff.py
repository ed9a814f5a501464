"""Figures of notebook 02: pass rates before distillation, and ID against OOD scores of all arms."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ded import stats

from . import parts
from .labels import Named, label
from .sizes import CURVE, selections

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@parts.styled
def pass_rates(rates: pd.DataFrame, threshold: float) -> Figure:
    """Questions by the pass rate of the student before distillation, and by level.

    Compression drops the shaded. `rates`: base, replicate, level, n (samples), pass_rate, a row a
    question. In the titles the share that is kept.
    """
    k, bases = int(rates["n"].max()), parts.names(rates, "base")
    step = (rates["pass_rate"] * k).round()
    rates = rates.assign(step=step, kept=rates["pass_rate"] <= threshold)
    dropped = f"Shaded: above {threshold:g}, dropped by question compression."
    note = parts.caption(rates, f"{k} samples a question. {dropped}")
    x, y = "student's pass rate (%)", "questions (%)"
    figure, axes = parts.canvas(len(bases), 3, 2.3, note, x, y, sharey=True)
    first_dropped = math.floor(threshold * k + 1e-9) / k + 0.5 / k
    for ax, base in zip(axes, bases, strict=True):
        questions = rates[rates["base"] == base]
        ax.axvspan(first_dropped, 1 + 0.5 / k, color="0.93", linewidth=0, zorder=0)
        _stacked_levels(ax, questions, sorted(rates["level"].unique()), k)
        units = questions.groupby(["base", "replicate"])
        for step in range(k + 1):
            share = units["step"].agg(lambda steps, step=step: (steps == step).mean())
            whole = stats.stratified(share.reset_index(), "step")
            parts.point(ax, step / k, whole, marker="", color=parts.RED, elinewidth=1.4)
        kept = stats.stratified(units["kept"].mean().reset_index(), "kept")
        ax.set(title=f"{base}: {parts.text(kept)} % kept", xticks=np.arange(k + 1) / k)
        parts.percent(ax.xaxis, ax.yaxis)
    axes[0].set_ylim(0, min(1, axes[0].get_ylim()[1]))
    parts.legend(figure, axes[0])
    return figure


def _stacked_levels(ax: Axes, questions: pd.DataFrame, levels: list, k: int) -> None:
    """Shares of the questions by step (pass rate times k), a grey a level, one on the other."""
    share = pd.crosstab(questions["level"], questions["step"], normalize="all")
    share = share.reindex(index=levels, columns=range(k + 1), fill_value=0.0)
    bottom = np.zeros(k + 1)
    look = {"width": 0.7 / k, "edgecolor": "white", "linewidth": 0.5}
    for level, grey in zip(levels, np.linspace(0.85, 0.2, len(levels)), strict=True):
        height = share.loc[level].to_numpy()
        x = np.arange(k + 1) / k
        ax.bar(x, height, bottom=bottom, color=str(grey), label=f"level {level}", **look)
        bottom += height


@parts.styled
def pareto(scores: pd.DataFrame, rows: pd.DataFrame, each_base: bool = False) -> Figure:
    """ID (x) against the OOD macro mean (y) of all arms, with the frontier.

    No other arm beats one on the frontier in both. Selection CURVE is joined in the order of its
    sizes; a star is the student before. `each_base`: a panel a base.
    """
    inside, outside = parts.cells(scores, "ID"), parts.cells(scores, "OOD")
    arms = selections(rows, inside)
    if (inside["arm"] == "before").any():
        before = pd.DataFrame({"arm": ["before"], "size": [0], "selection": ["before"]})
        arms = pd.concat([before, arms])
    others = [name for name in parts.names(arms, "selection") if name != CURVE]
    marks = {CURVE: {"color": "black", "marker": "o"}} | parts.looks(others, 3)
    marks["before"] = {"color": "0.4", "marker": "*"}
    note = (
        f"Numbers, line: sizes of {CURVE}; larger markers: larger corpora. "
        "Broad pale steps: Pareto frontier of the means."
    )
    bases = parts.names(inside, "base") if each_base else [None]
    height = 2.8 if each_base else 4.2
    axis_names = "ID pass@1 (%)", "OOD pass@1 (%), macro mean"
    figure, axes = parts.canvas(len(bases), 2, height, parts.caption(inside, note), *axis_names)
    largest = math.log2(max(2, arms["size"].max()))
    on_curve = (arms["selection"] == CURVE).to_numpy()
    thin = {"elinewidth": 0.6, "capsize": 0}
    points: dict[Axes, list[Named]] = {}
    for ax, base in zip(axes, bases, strict=True):
        points[ax] = []
        for row in arms.itertuples(index=False):
            x, y = parts.interval(inside, row.arm, base), parts.interval(outside, row.arm, base)
            points[ax].append(Named(f"{row.size:g}", x, y))
            markersize = 3 + 5 * math.log2(max(1, row.size)) / largest
            if row.selection == "before":
                markersize = 9
            zorder = 3 + (row.selection != CURVE)
            parts.point(
                ax, x, y, markersize=markersize, zorder=zorder, **thin, **marks[row.selection]
            )
        means = np.array([named.place for named in points[ax]])
        ax.plot(*means[on_curve].T, color="black", linewidth=1, zorder=2)
        parts.pale_steps(ax, _frontier(means), where="pre")
        ax.set_title(base or "")
        ax.margins(0.08)
        parts.scores_on(ax.xaxis, ax.yaxis)
    figure.legend(handles=parts.handles(axes[0], marks), loc="outside upper center", ncols=4)
    for ax, named in points.items():
        sizes = [named[i] for i in np.flatnonzero(on_curve)]
        line = [np.array(size.place) for size in sizes]
        along = [
            Named("", *(start + share * (end - start)))
            for start, end in itertools.pairwise(line)
            for share in np.linspace(0, 1, 20)
        ]
        label(ax, sizes, [*named, *along])
    return figure


def _frontier(means: np.ndarray) -> np.ndarray:
    """Those of the (n, 2) points that no other beats in both, from left to right."""
    means = means[np.isfinite(means).all(axis=1)]
    beaten = [((means >= mean).all(axis=1) & (means > mean).any(axis=1)).any() for mean in means]
    return np.unique(means[~np.array(beaten, bool)], axis=0)
