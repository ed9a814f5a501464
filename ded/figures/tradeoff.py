"""Figures of notebook 02: in-domain and out-of-domain scores against corpus size and against each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

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
    label,
    looks,
    names,
    percent,
    point,
    scores_on,
    styled,
    text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _name(family: str) -> str:
    return "OOD pass@1 (%), macro mean" if family == "OOD" else f"{family} pass@1 (%)"


def _arms(rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row a scored arm: arm, size, selection; by size."""
    arms = rows.loc[rows["arm"].isin(scores["arm"]), ["arm", "size", "selection"]]
    return arms.drop_duplicates("arm").sort_values("size", kind="stable")


def _curve(ax: Axes, table: pd.DataFrame, arms: pd.DataFrame, main: str) -> None:
    """Arms of one selection against size: a thin line a base, the mean of the bases with its band, dashed before."""
    arms = arms[arms["selection"] == main]
    sizes = arms["size"].to_numpy()
    for line, (base, look) in zip(LINES * 9, looks(names(table, "base")).items()):
        values = [interval(table, arm, base).estimate for arm in arms["arm"]]
        ax.plot(
            sizes,
            values,
            linewidth=0.9,
            linestyle=line,
            label=f"{main}, {base}",
            markersize=2.5,
            **look,
        )
    found = [interval(table, arm) for arm in arms["arm"]]
    low, high = (np.array([getattr(one, end) for one in found]) for end in ("low", "high"))
    ax.fill_between(
        sizes,
        low,
        high,
        where=np.isfinite(low) & np.isfinite(high),
        color="0.3",
        alpha=0.25,
        linewidth=0,
    )
    mean = [one.estimate for one in found]
    ax.plot(
        sizes,
        mean,
        color="black",
        marker="o",
        linewidth=2,
        markersize=4,
        label=f"{main}, mean of bases",
    )
    before_line(ax, table)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.minorticks_off()


@styled
def pass_rates(rates: pd.DataFrame, threshold: float) -> Figure:
    """Questions by the pass rate of the student before distillation, and by level; compression drops the shaded.

    `rates`: base, replicate, level, n (samples), pass_rate, a row a question. In the titles the share that is kept.
    """
    k, bases, levels = int(rates["n"].max()), names(rates, "base"), sorted(rates["level"].unique())
    rates = rates.assign(
        step=(rates["pass_rate"] * k).round(), kept=rates["pass_rate"] <= threshold
    )
    note = caption(
        rates,
        f"{k} samples a question. Shaded: above {threshold:g}, dropped by question compression.",
    )
    figure, axes = canvas(
        len(bases), 3, 2.3, note, "student's pass rate (%)", "questions (%)", sharey=True
    )
    for ax, base in zip(axes, bases):
        mine = rates[rates["base"] == base]
        units = mine.groupby(["base", "replicate"])
        ax.axvspan(
            math.floor(threshold * k + 1e-9) / k + 0.5 / k,
            1 + 0.5 / k,
            color="0.93",
            linewidth=0,
            zorder=0,
        )
        for step in range(k + 1):
            bottom = 0.0
            for level, grey in zip(levels, np.linspace(0.85, 0.2, len(levels))):
                share = ((mine["step"] == step) & (mine["level"] == level)).mean()
                name = f"level {level}" if step == 0 else None
                ax.bar(
                    step / k,
                    share,
                    0.7 / k,
                    bottom,
                    color=str(grey),
                    edgecolor="white",
                    linewidth=0.5,
                    label=name,
                )
                bottom += share
            whole = units["step"].agg(lambda steps: (steps == step).mean()).reset_index()
            point(
                ax,
                step / k,
                stats.stratified(whole, "step"),
                marker="",
                color=COLOURS[3],
                elinewidth=1.4,
            )
        kept = stats.stratified(units["kept"].mean().reset_index(), "kept")
        ax.set(title=f"{base}: {text(kept)} % kept", xticks=np.arange(k + 1) / k)
        percent(ax.xaxis, ax.yaxis)
    axes[0].set_ylim(0, min(1, axes[0].get_ylim()[1]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


@styled
def size_curve(
    scores: pd.DataFrame, rows: pd.DataFrame, family: str = "ID", main: str = "random"
) -> Figure:
    """pass@1 against corpus size (the shape of the paper's Figure 1): selection `main` a curve, the others markers.

    `scores` may hold the arm "before" (dashed). `rows`: arm, size, selection. Family "OOD" is the macro mean.
    """
    table = cells(scores, family)
    arms = _arms(rows, table)
    note = caption(table, "Markers of one size are moved apart sideways.")
    figure, (ax,) = canvas(1, 1, 3.3, note, "corpus size (examples, log scale)", _name(family))
    _curve(ax, table, arms, main)
    others = [name for name in dict.fromkeys(arms["selection"]) if name != main]
    for i, (name, look) in enumerate(looks(others, 3).items()):
        shift = 2 ** (0.13 * (i - (len(others) - 1) / 2))
        for arm, size in arms.loc[arms["selection"] == name, ["arm", "size"]].itertuples(
            index=False
        ):
            point(ax, size * shift, interval(table, arm), zorder=4, markersize=6, **look)
        ax.plot([], [], linestyle="none", label=name, **look)
    if (table["arm"] == "before").any():
        ax.plot([], [], color="0.25", linestyle=DASHED, label="before distillation")
    scores_on(ax.yaxis)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper")
    return figure


@styled
def ood_families(scores: pd.DataFrame, rows: pd.DataFrame, main: str = "random") -> Figure:
    """pass@1 of each OOD family and of their macro mean against corpus size, a panel each."""
    families = ["OOD", *dict.fromkeys(scores.loc[scores["group"] == "OOD", "family"])]
    note = caption(scores, "Dashed: the students before distillation.")
    share = {"sharex": True, "sharey": True}
    figure, axes = canvas(
        len(families),
        4 if len(families) % 3 else 3,
        1.9,
        note,
        "corpus size (examples)",
        "OOD pass@1 (%)",
        **share,
    )
    for ax, family in zip(axes, families):
        table = cells(scores, family)
        _curve(ax, table, _arms(rows, table), main)
        ax.set_title(
            "macro mean" if family == "OOD" else family,
            fontweight="bold" if family == "OOD" else "normal",
        )
        ax.xaxis.set_tick_params(rotation=90)
    scores_on(*(ax.yaxis for ax in axes))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@styled
def pareto(
    scores: pd.DataFrame, rows: pd.DataFrame, main: str = "random", each_base: bool = False
) -> Figure:
    """ID (x) against the OOD macro mean (y) of all arms, with the frontier: no other arm beats one on it in both.

    Selection `main` is joined in the order of its sizes; a star is the student before. `each_base`: a panel a base.
    """
    inside, outside = cells(scores, "ID"), cells(scores, "OOD")
    arms = _arms(rows, inside)
    order = {"before": (0, "before")} if (inside["arm"] == "before").any() else {}
    order |= {arm: (size, name) for arm, size, name in arms.itertuples(index=False)}
    others = [name for name in dict.fromkeys(arms["selection"]) if name != main]
    marks = {main: {"color": "black", "marker": "o"}} | looks(others, 3)
    marks["before"] = {"color": "0.4", "marker": "*"}
    bases = names(inside, "base") if each_base else [None]
    note = f"Numbers, line: sizes of {main}; larger markers: larger corpora. Broad pale steps: Pareto frontier of the means."
    figure, axes = canvas(
        len(bases), 2, 2.8 if each_base else 4.2, caption(inside, note), _name("ID"), _name("OOD")
    )
    placed = []
    for ax, base in zip(axes, bases):
        points = {arm: (interval(inside, arm, base), interval(outside, arm, base)) for arm in order}
        for arm, (size, name) in order.items():
            big = (
                9
                if name == "before"
                else 3 + 5 * math.log2(max(1, size)) / math.log2(max(2, arms["size"].max()))
            )
            point(
                ax,
                *points[arm],
                markersize=big,
                elinewidth=0.6,
                capsize=0,
                zorder=3 + (name != main),
                **marks[name],
            )
        means = {arm: [one.estimate for one in pair] for arm, pair in points.items()}
        line = np.array([means[arm] for arm, (_, name) in order.items() if name == main])
        ax.plot(*line.T, color="black", linewidth=1, zorder=2)
        every = np.array([mean for mean in means.values() if np.isfinite(mean).all()])
        best = [one for one in every if not ((every >= one).all(1) & (every > one).any(1)).any()]
        ax.step(
            *np.unique(best, axis=0).T,
            where="pre",
            color=COLOURS[0],
            linewidth=4,
            alpha=0.3,
            zorder=1,
        )
        ax.set_title(base or "")
        ax.margins(0.08)
        scores_on(ax.xaxis, ax.yaxis)
        between = zip(line, line[1:])
        avoid = [
            *points.values(),
            *(a + t * (b - a) for a, b in between for t in np.linspace(0, 1, 20)),
        ]
        placed.append(
            (
                ax,
                {f"{size:g}": points[arm] for arm, (size, name) in order.items() if name == main},
                avoid,
            )
        )
    handles = [
        axes[0].plot([], [], linestyle="none", label=name, **look)[0]
        for name, look in marks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    for ax, points, avoid in placed:
        label(ax, points, avoid)
    return figure
