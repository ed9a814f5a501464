"""What happens before a training: pass rates, the steps of a curation, distances, distinct ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ded import stats

from . import parts

UNIT = ["base", "replicate"]
BOX = {"whis": (5, 95), "showfliers": False, "showcaps": False, "width": 0.6, "saturation": 1}
BOX |= {"color": "#cfe3f1", "linecolor": "0.2"}


@parts.styled
def pass_rates(rates: pd.DataFrame) -> parts.Figure:
    """Questions by the pass rate of the student before distillation, and by level.

    Compression drops the shaded, and where it draws some of those before. `rates`: base, replicate,
    level, n (samples), pass_rate, kept (by compression), a row a question. In the titles the share
    that is kept.
    """
    k = int(rates["n"].max())
    step = (rates["pass_rate"] * k).round().astype(int)
    rates = rates.assign(step=step)
    highest = rates[rates["kept"]].groupby("base")["pass_rate"].max()
    kept = rates.groupby(UNIT)["kept"].mean().reset_index()
    bases = parts.names(rates, "base")
    shares = {base: stats.pooled(units, "kept") for base, units in kept.groupby("base")}
    thresholds = {base: float(highest.get(base, 0.0)) for base in bases}
    titles = [f"{base}: {parts.text(shares[base])} % kept" for base in bases]
    words = parts.words("pass_rates", rates, k=k)
    figure, axes = parts.canvas(titles, 3, 2.3, words, sharey=True)
    levels = sorted(rates["level"].unique())
    greys = [str(grey) for grey in np.linspace(0.85, 0.2, len(levels))]
    bars = {"color": greys, "edgecolor": "white", "linewidth": 0.5, "width": 0.7, "rot": 0}
    for ax, base in zip(axes, bases, strict=True):
        questions = rates[rates["base"] == base]
        ax.axvspan(
            math.floor(thresholds[base] * k + 1e-9) + 0.5, k + 0.5, color="0.93", linewidth=0
        )
        share = pd.crosstab(questions["step"], questions["level"], normalize="all")
        share = share.reindex(index=range(k + 1), columns=levels, fill_value=0.0)
        bars["xlabel"] = ax.get_xlabel()
        share.add_prefix("level ").plot.bar(ax=ax, stacked=True, legend=False, **bars)
        for step in range(k + 1):
            units = questions.assign(share=questions["step"] == step).groupby(UNIT)["share"].mean()
            whole = stats.pooled(units.reset_index(), "share")
            parts.point(ax, step, whole, marker="", color=parts.RED, elinewidth=1.4)
        ax.set_xticks(range(k + 1), [f"{100 * step / k:g}" for step in range(k + 1)])
        parts.percent(ax.yaxis)
    axes[0].set_ylim(0, min(1, axes[0].get_ylim()[1]))
    parts.legend(figure, axes[0])
    return figure


@parts.styled
def funnel(table: pd.DataFrame, by: str = "teacher") -> parts.Figure:
    """Share of the sampled trajectories left after each step of the curation, a panel a `by`.

    `table`: step (in order), kept, dropped, base, replicate and `by` (teacher, pool). Beside a bar:
    percent and mean count.
    """
    sampled = table.groupby([*UNIT, by])[["kept", "dropped"]].transform("first").sum(axis=1)
    table = table.assign(share=table["kept"] / sampled.where(sampled > 0))
    panels = {name: parts.names(rows, "step") for name, rows in table.groupby(by, sort=False)}
    same_steps = len({tuple(steps) for steps in panels.values()}) == 1
    height = 0.5 + 0.2 * max(map(len, panels.values()))
    words = parts.words("funnel", table)
    figure, axes = parts.canvas(list(panels), 4, height, words, sharey=same_steps)
    for ax, (name, steps) in zip(axes, panels.items(), strict=True):
        for row, step in enumerate(steps):
            part = table[(table[by] == name) & (table["step"] == step)]
            share = stats.pooled(part, "share")
            fade = 1 - 0.6 * row / len(steps)
            ax.barh(row, share.estimate, 0.7, color=parts.SKY, alpha=fade, edgecolor="0.3")
            parts.point(ax, share, row, marker="", color="black")
            end = share.estimate if parts.whisker(share) is None else min(share.high, 1.0)
            beside = f"{100 * share.estimate:.0f} ({part['kept'].mean():.0f})"
            ax.text(end + 0.03, row, beside, va="center", fontsize=6.5)
        parts.rows_on(ax, steps)
        ax.set(xlim=(0, 1.5), xticks=(0, 0.5, 1))
        ax.grid(axis="y", visible=False)
        parts.percent(ax.xaxis)
    return figure


@parts.styled
def distances(statistics: pd.DataFrame) -> parts.Figure:
    """Smallest distances between the kept trajectories of a question, by rule, and their mean.

    `statistics`: base, replicate, arm, token_edits, step_edits.
    """
    import seaborn

    table = statistics.reset_index(drop=True)  # seaborn wants each row's label once
    arms = parts.names(table)
    words = parts.words("distances", table)
    titles = ["smallest distance in tokens", "smallest distance in steps"]
    figure, axes = parts.canvas(titles, 2, 0.9 + 0.36 * len(arms), words, sharey=True)
    for ax, value in zip(axes, ("token_edits", "step_edits"), strict=True):
        seaborn.boxplot(table, x=value, y="arm", order=arms, ax=ax, **BOX)
        means = table.groupby(["arm", *UNIT])[value].mean().reset_index()
        for row, arm in enumerate(arms):
            mean = parts.interval(means, arm, None, value)
            parts.point(ax, mean, row, marker="D", color=parts.RED, zorder=6)
        parts.rows_on(ax, arms)
        ax.set(xlabel="edits", ylabel="rule" if ax is axes[0] else "")
    return figure


@parts.styled
def distinct(facts: Sequence[Mapping[str, Any]], n_kept: int) -> parts.Figure:
    """Histogram of the number of truly different, valid trajectories a question.

    A line at twice `n_kept`, P; in the title the lucky share. `facts`, a mapping a unit: base,
    replicate, distinct (counts), lucky (share of correct answers with a wrong step).
    """
    table = pd.DataFrame(facts)[[*UNIT, "lucky", "distinct"]]
    counts = table.explode("distinct").astype({"distinct": int})
    edges = np.arange(counts["distinct"].max() + 2) - 0.5
    lucky = parts.text(stats.pooled(table, "lucky"))
    title = f"lucky wrong chains: {lucky} % of the correct answers"
    figure, (ax,) = parts.canvas([title], 1, 2.5, parts.words("distinct", table))
    share = np.histogram(counts["distinct"], edges)[0] / len(counts)
    ax.stairs(share, edges, fill=True, color="0.85", label="all bases")
    for base, look in parts.curve_looks(parts.names(table, "base")).items():
        own = counts.loc[counts["base"] == base, "distinct"]
        share = np.histogram(own, edges)[0] / len(own)
        line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.4}
        ax.stairs(share, edges, label=f"{base}: median {np.median(own):g}", **line)
    ax.axvline(2 * n_kept, color="black", linestyle=parts.DASHED, label=f"2P = {2 * n_kept}")
    parts.legend(figure, ax, loc="outside right upper", ncols=1)
    parts.percent(ax.yaxis)
    return figure
