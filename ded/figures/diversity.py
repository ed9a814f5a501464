"""Figures of notebook 03: scores and robustness by rule, distances of the kept trajectories, distinct trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ded import stats

from .parts import (
    COLOURS,
    DASHED,
    LINES,
    before_line,
    canvas,
    caption,
    cells,
    interval,
    looks,
    names,
    percent,
    point,
    scores_on,
    styled,
    text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def arm_scores(
    scores: pd.DataFrame,
    families: Sequence[str] = ("ID",),
    arms: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> Figure:
    """Scores by arm, a panel a family ("OOD": macro mean) and value: the bases' mean with its interval, a mark a base.

    `values`: {column of scores: its name}, e.g. {"accuracy": "pass@1", "pass_k": "pass@4"}.
    """
    kinds = [
        (family, *kind)
        for family in families
        for kind in (values or {"accuracy": "pass@1"}).items()
    ]
    panels = [
        (f"{family} {name}", cells(scores, family, column), column)
        for family, column, name in kinds
    ]
    return _dots(panels, list(arms) or names(scores), "score (%)")


@styled
def robustness(scores: pd.DataFrame, arms: Sequence[str] = (), reference: str = "ID") -> Figure:
    """pass@1 by arm on the questions as they are, and on each perturbation (group "robust") beside it (hollow)."""
    families = [reference, *dict.fromkeys(scores.loc[scores["group"] == "robust", "family"])]
    panels = [(family, cells(scores, family), "accuracy") for family in families]
    return _dots(panels, list(arms) or names(scores), "pass@1 (%)", reference)


def _dots(
    panels: list[tuple[str, pd.DataFrame, str]], arms: Sequence[str], x: str, reference: str = ""
) -> Figure:
    """(title, cell table, column) a panel, a row an arm; with a `reference` panel, its means again in the others."""
    first = panels[0][1]
    note = caption(
        first,
        "Dashed: the students before." + f" Hollow: the same arm on {reference}." * bool(reference),
    )
    figure, axes = canvas(
        len(panels), 4, 0.9 + 0.32 * len(arms), note, x, "arm", sharey=True, sharex=bool(reference)
    )
    for ax, (title, table, column) in zip(axes, panels):
        for i, (base, look) in enumerate(looks(names(first, "base")).items()):
            means = [interval(table, arm, base, column).estimate for arm in arms]
            rows = np.arange(len(arms)) + 0.2 + 0.09 * i
            ax.plot(means, rows, linestyle="none", markersize=3, label=base, **look)
        for row, arm in enumerate(arms):
            if reference and title != reference:
                ax.plot(
                    interval(first, arm).estimate,
                    row,
                    "o",
                    markersize=6,
                    color="0.4",
                    markerfacecolor="white",
                )
            point(
                ax,
                interval(table, arm, None, column),
                row,
                marker="o",
                color="black",
                elinewidth=1.4,
                zorder=4,
            )
        before_line(ax, table, None, column, vertical=True)
        ax.set(title=title, yticks=range(len(arms)), yticklabels=arms, ylim=(len(arms) - 0.4, -0.5))
    for ax in axes:
        scores_on(ax.xaxis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


@styled
def distances(
    statistics: pd.DataFrame, arms: Sequence[str] = (), unit: str = "token edits"
) -> Figure:
    """Distances between the kept trajectories of a question, by rule: their spread over questions, and their mean.

    `statistics`: base, replicate, arm, min_distance, mean_distance. Without `arms`, all but "...-normalised", whose
    distances have another unit.
    """
    arms = list(arms) or [arm for arm in names(statistics) if not arm.endswith("-normalised")]
    table = statistics[statistics["arm"].isin(arms)]
    note = caption(
        table,
        "Box: median, quartiles of the questions; thin line: 5th to 95th percentile; diamond: mean.",
    )
    figure, axes = canvas(2, 2, 0.9 + 0.36 * len(arms), note, unit, "rule", sharey=True)
    for ax, (value, name) in zip(axes, (("min_distance", "smallest"), ("mean_distance", "mean"))):
        columns = [table.loc[table["arm"] == arm, value].dropna() for arm in arms]
        look = {
            "boxprops": {"facecolor": "#cfe3f1"},
            "medianprops": {"color": "black"},
            "patch_artist": True,
        }
        ax.boxplot(
            columns,
            orientation="horizontal",
            positions=range(len(arms)),
            widths=0.6,
            whis=(5, 95),
            showfliers=False,
            showcaps=False,
            **look,
        )
        means = table.groupby(["arm", "base", "replicate"])[value].mean().reset_index()
        for row, arm in enumerate(arms):
            point(
                ax, interval(means, arm, None, value), row, marker="D", color=COLOURS[3], zorder=6
            )
        ax.set(title=f"{name} distance of kept pairs", ylim=(len(arms) - 0.4, -0.6))
        ax.set_yticks(range(len(arms)), arms)
    return figure


@styled
def distinct(facts: Sequence[Mapping[str, Any]], p: int) -> Figure:
    """Histogram of the number of truly different, valid trajectories a question, a line at 2P, the lucky share on top.

    `facts`, a mapping a unit: base, replicate, distinct (counts), lucky (share of correct answers with a wrong step).
    """
    table = pd.DataFrame(
        [{key: one[key] for key in ("base", "replicate", "lucky")} for one in facts]
    )
    every = np.concatenate([one["distinct"] for one in facts])
    edges = np.arange(every.max() + 2) - 0.5
    note = caption(table, "Dashed: twice P, the number of trajectories that a question keeps.")
    figure, (ax,) = canvas(
        1, 1, 2.5, note, "distinct valid trajectories of a question", "questions (%)"
    )
    ax.stairs(
        np.histogram(every, edges)[0] / len(every),
        edges,
        fill=True,
        color="0.85",
        label="all bases",
    )
    for line, (base, look) in zip(LINES * 9, looks(names(table, "base")).items()):
        counts = np.concatenate([one["distinct"] for one in facts if one["base"] == base])
        share, name = (
            np.histogram(counts, edges)[0] / len(counts),
            f"{base}: median {np.median(counts):g}",
        )
        ax.stairs(share, edges, color=look["color"], linestyle=line, linewidth=1.4, label=name)
    ax.axvline(2 * p, color="black", linestyle=DASHED, label=f"2P = {2 * p}")
    ax.set_title(
        f"lucky wrong chains: {text(stats.stratified(table, 'lucky'))} % of the correct answers"
    )
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper")
    percent(ax.yaxis)
    return figure
