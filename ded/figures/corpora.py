"""What happens before a training: pass rates, the steps of a curation, distances."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from ded import stats

from . import parts

UNIT = ["base", "replicate"]


@parts.styled
def pass_rates(rates: pd.DataFrame) -> parts.Figure:
    """Questions by the pass rate of the student before distillation, and which of them question
    compression keeps: a panel a base.

    `rates`: base, replicate, n (samples), pass_rate, kept (by compression), a row a question.
    """
    k, looks = int(rates["n"].max()), {True: ("kept", parts.BLUE), False: ("dropped", "0.85")}
    bases, words = parts.names(rates, "base"), parts.words("pass_rates", k=k)
    figure, axes = parts.canvas(bases, 4, 1.9, words, sharey=True)
    for ax, base in zip(axes, bases, strict=True):
        of_base = rates[rates["base"] == base]
        shares = pd.crosstab(of_base["pass_rate"], of_base["kept"], normalize="all")
        below = 0.0
        for kept, (name, color) in looks.items():
            height = shares.get(kept, 0.0 * shares.index)
            ax.bar(shares.index, height, 0.8 / k, below, color=color, label=name)
            below = below + height
        parts.percent(ax.xaxis)
        parts.percent(ax.yaxis)
    parts.legend(figure, axes[0])
    return figure


@parts.styled
def funnel(table: pd.DataFrame, by: str = "teacher") -> parts.Figure:
    """A table of the share of the sampled trajectories left after each step of the curation, a
    column a `by`; steps that drop nothing anywhere are named below it alone.

    `table`: step (in order), kept, dropped, base, replicate and `by` (teacher, pool). Shaded: the
    more is left, the darker.
    """
    started = table.groupby([*UNIT, by])[["kept", "dropped"]].transform("first").sum(axis=1)
    table = table.assign(share=table["kept"] / started.where(started > 0))
    dropped = table.groupby("step", sort=False)["dropped"].sum()
    steps = dropped.index[dropped > 0]
    idle = dropped.index[dropped == 0].difference(table.groupby(by)["step"].first(), sort=False)
    means = table.groupby(["step", by])[["share", "kept"]].mean().unstack()
    share, kept = (means[column].reindex(steps)[table[by].unique()] for column in ("share", "kept"))
    texts = share.map("{:.1%}".format) + kept.map("\n{:,.0f}".format)
    words = parts.words("funnel", idle=", ".join(idle) or "none")
    figure, (ax,) = parts.canvas([""], 1, 0.9 + 0.3 * len(steps), words)
    look = {"cmap": "Blues", "vmin": 0, "vmax": 2.5, "edgecolors": "white", "linewidth": 1}
    ax.pcolormesh(share, **look)  # seaborn's heatmap would take as long as all else here to import
    for (row, column), text in np.ndenumerate(texts):
        if np.isfinite(share.iat[row, column]):
            ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7)
    names = [textwrap.fill(str(name), 9, break_long_words=False) for name in share]
    ax.set_xticks(np.arange(len(names)) + 0.5, names)
    ax.set_yticks(np.arange(len(steps)) + 0.5, steps)
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    ax.set(xlabel=by, ylabel=words["y"])
    ax.grid(visible=False)
    ax.tick_params(length=0, rotation=0)
    return figure


@parts.styled
def distances(statistics: pd.DataFrame) -> parts.Figure:
    """Smallest distance between the trajectories that a rule keeps of a question: the bases' mean
    with its interval, a dot a base.

    `statistics`: base, replicate, arm, problem_id, and by metric, a panel each, the distance.
    """
    metrics = statistics.columns.difference([*UNIT, "arm", "problem_id"], sort=False)
    means = statistics.groupby(["arm", *UNIT], sort=False)[list(metrics)].mean().reset_index()
    arms, words = parts.names(means), parts.words("distances", means)
    titles = [metric.replace("_", " ") for metric in metrics]
    figure, axes = parts.canvas(titles, 2, 0.8 + 0.3 * len(arms), words, sharey=True)
    for ax, metric in zip(axes, metrics, strict=True):
        ax.set_xlim(-0.04 * means[metric].max(), 1.1 * means[metric].max() + 0.1)
        for row, arm in enumerate(arms):
            parts.with_bases(ax, stats.arm_interval(means, arm, metric), row, **parts.MEAN)
        parts.rows_on(ax, arms)
    return figure
