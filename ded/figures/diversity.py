"""Figures of notebook 03: scores and robustness by rule, distances, distinct trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ded import stats

from . import parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOLLOW = {"markersize": 6, "color": "0.4", "markerfacecolor": "white"}
BOX = {
    "widths": 0.6,
    "whis": (5, 95),
    "showfliers": False,
    "showcaps": False,
    "patch_artist": True,
    "boxprops": {"facecolor": "#cfe3f1"},
    "medianprops": {"color": "black"},
}


@dataclass
class Panel:
    """A panel of arms' scores: a cell table, and the column of it that is shown."""

    title: str
    table: pd.DataFrame
    value: str = "accuracy"


@parts.styled
def arm_scores(
    scores: pd.DataFrame,
    families: Sequence[str] = ("ID",),
    values: Mapping[str, str] | None = None,
) -> Figure:
    """Scores by arm, a panel a family ("OOD": macro mean) and value.

    The bases' mean with its interval, a mark a base. `values`: {column of scores: its name}, for
    example {"accuracy": "pass@1", "pass_k": "pass@4"}.
    """
    values = values or {"accuracy": "pass@1"}
    panels = [
        Panel(f"{family} {name}", parts.cells(scores, family, value), value)
        for family in families
        for value, name in values.items()
    ]
    return _arm_strips(panels, parts.names(scores), "score (%)")


@parts.styled
def robustness(scores: pd.DataFrame, reference: str = "ID") -> Figure:
    """pass@1 by arm on the questions as they are, and on each perturbation (group "robust").

    The former stands, hollow, in the panels of the latter.
    """
    families = [reference, *parts.names(scores[scores["group"] == "robust"], "family")]
    panels = [Panel(family, parts.cells(scores, family)) for family in families]
    return _arm_strips(panels, parts.names(scores), "pass@1 (%)", reference)


def _arm_strips(
    panels: Sequence[Panel], arms: Sequence[str], xlabel: str, reference: str = ""
) -> Figure:
    """A row an arm; with a `reference`, the means of that first panel again in the others."""
    first = panels[0].table
    more = "Dashed: the students before."
    if reference:
        more += f" Hollow: the same arm on {reference}."
    share = {"sharey": True, "sharex": bool(reference)}
    height, note = 0.9 + 0.32 * len(arms), parts.caption(first, more)
    figure, axes = parts.canvas(len(panels), 4, height, note, xlabel, "arm", **share)
    for ax, panel in zip(axes, panels, strict=True):
        for i, (base, look) in enumerate(parts.looks(parts.names(first, "base")).items()):
            means = [parts.interval(panel.table, arm, base, panel.value).estimate for arm in arms]
            rows = np.arange(len(arms)) + 0.2 + 0.09 * i
            ax.plot(means, rows, linestyle="none", markersize=3, label=base, **look)
        for row, arm in enumerate(arms):
            if reference and panel is not panels[0]:
                ax.plot(parts.interval(first, arm).estimate, row, "o", **HOLLOW)
            mean = parts.interval(panel.table, arm, None, panel.value)
            parts.point(ax, mean, row, marker="o", color="black", elinewidth=1.4, zorder=4)
        parts.before_level(ax, panel.table, None, panel.value, vertical=True)
        ax.set_title(panel.title)
        parts.rows_on(ax, arms, top=-0.5)
    for ax in axes:
        parts.scores_on(ax.xaxis)
    parts.legend(figure, axes[0])
    return figure


@parts.styled
def distances(statistics: pd.DataFrame, unit: str = "token edits") -> Figure:
    """Distances between the kept trajectories of a question, by rule, and their mean.

    `statistics`: base, replicate, arm, min_distance, mean_distance. Rules "...-normalised" are left
    out: their distances have another unit.
    """
    arms = [arm for arm in parts.names(statistics) if not arm.endswith("-normalised")]
    table = statistics[statistics["arm"].isin(arms)]
    spread = "Box: median, quartiles of the questions; thin line: 5th to 95th percentile"
    note = parts.caption(table, f"{spread}; diamond: mean.")
    figure, axes = parts.canvas(2, 2, 0.9 + 0.36 * len(arms), note, unit, "rule", sharey=True)
    for ax, name in zip(axes, ("smallest", "mean"), strict=True):
        value = "min_distance" if name == "smallest" else "mean_distance"
        spreads = [table.loc[table["arm"] == arm, value].dropna() for arm in arms]
        ax.boxplot(spreads, orientation="horizontal", positions=range(len(arms)), **BOX)
        means = table.groupby(["arm", "base", "replicate"])[value].mean().reset_index()
        for row, arm in enumerate(arms):
            mean = parts.interval(means, arm, None, value)
            parts.point(ax, mean, row, marker="D", color=parts.RED, zorder=6)
        ax.set_title(f"{name} distance of kept pairs")
        parts.rows_on(ax, arms)
    return figure


@parts.styled
def distinct(facts: Sequence[Mapping[str, Any]], n_kept: int) -> Figure:
    """Histogram of the number of truly different, valid trajectories a question.

    A line at twice `n_kept`, P; in the title the lucky share. `facts`, a mapping a unit: base,
    replicate, distinct (counts), lucky (share of correct answers with a wrong step).
    """
    table = pd.DataFrame(facts)[["base", "replicate", "lucky", "distinct"]]
    counts = table.explode("distinct").astype({"distinct": int})
    edges = np.arange(counts["distinct"].max() + 2) - 0.5
    note = parts.caption(
        table, "Dashed: twice P, the number of trajectories that a question keeps."
    )
    xlabel = "distinct valid trajectories of a question"
    figure, (ax,) = parts.canvas(1, 1, 2.5, note, xlabel, "questions (%)")
    share = np.histogram(counts["distinct"], edges)[0] / len(counts)
    ax.stairs(share, edges, fill=True, color="0.85", label="all bases")
    for base, look in parts.curve_looks(parts.names(table, "base")).items():
        own = counts.loc[counts["base"] == base, "distinct"]
        share = np.histogram(own, edges)[0] / len(own)
        line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.4}
        ax.stairs(share, edges, label=f"{base}: median {np.median(own):g}", **line)
    ax.axvline(2 * n_kept, color="black", linestyle=parts.DASHED, label=f"2P = {2 * n_kept}")
    lucky = parts.text(stats.stratified(table, "lucky"))
    ax.set_title(f"lucky wrong chains: {lucky} % of the correct answers")
    parts.legend(figure, ax, "right upper", ncols=1)
    parts.percent(ax.yaxis)
    return figure
