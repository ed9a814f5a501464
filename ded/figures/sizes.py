"""Scores against corpus size: the log axis, the curves, and what a corpus costs out of domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ded import stats

from . import parts

CURVE = "random"  # the selection that is drawn as a curve
BESIDE = np.inf  # the size of a model that was not made from a corpus of known size
NEAR = 0.15  # of the axis: a size that is nearer to the one before has no label
STAR = {"marker": "*", "color": "0.35", "markersize": 9}


def size_axis(axes: Sequence[parts.Axes], sizes: Sequence[float]) -> dict[float, float]:
    """A log axis of corpus sizes: {size: its place on it}.

    "before" for 0 stands on its left and "no corpus" for inf on its right.
    """
    real = sorted({size for size in sizes if 0 < size < BESIDE}) or [1.0]
    gap = max(2.0, (real[-1] / real[0]) ** (1 / 3))
    place = {size: size for size in real}
    if 0 in sizes:
        place = {0.0: real[0] / gap} | place
    if BESIDE in sizes:
        place[BESIDE] = real[-1] * gap
    words, shown = {0.0: "before", BESIDE: "no corpus"}, dict[float, str]()
    apart = (max(place.values()) / min(place.values())) ** NEAR
    for size, spot in place.items():
        if not shown or spot / max(shown) >= apart:
            shown[spot] = words.get(size) or f"{size:,.0f}"
    for ax in axes:
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xticks(list(shown), list(shown.values()))
    return place


def _curves(rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row an arm of selection CURVE that has a score: arm, size; the student before at 0."""
    before = pd.DataFrame({"arm": ["before"], "size": [0], "selection": [CURVE]})
    arms = pd.concat([before, rows[["arm", "size", "selection"]]]).drop_duplicates("arm")
    scored = scores.loc[scores["accuracy"].notna(), "arm"]
    arms = arms[arms["arm"].isin(scored) & (arms["selection"] == CURVE)]
    return arms.sort_values("size", kind="stable")


def _curve(ax: parts.Axes, table: pd.DataFrame, rows: pd.DataFrame) -> list[parts.Bar]:
    """Scores against size: a thin line with a dot a base, and their means, which it returns, with
    their whiskers.
    """
    arms = _curves(rows, table)
    if arms.empty:  # not run
        return []
    place = size_axis([ax], arms["size"].tolist())
    x = [place[size] for size in arms["size"]]
    means = [parts.rate(parts.interval(table, arm)) for arm in arms["arm"]]
    bases = pd.DataFrame([mean.bases for mean in means])
    ax.plot(x, bases, color=parts.SKY, alpha=0.6, marker="o", markersize=2.5, linewidth=0.6)
    ax.plot(x, [mean.estimate for mean in means], color="black", linewidth=1.6, zorder=3)
    for spot, mean, name in zip(x, means, arms["arm"], strict=True):
        look = STAR if name == "before" else parts.MEAN | {"markersize": 4.5}
        parts.point(ax, spot, mean, **(look | {"zorder": 4}))
        if name == "before":
            ax.axhline(mean.estimate, **parts.BEFORE)
    return means


@parts.styled
def size_curve(
    panels: Mapping[str, pd.DataFrame], rows: pd.DataFrame, alike: bool = False
) -> parts.Figure:
    """Scores against corpus size (the shape of the paper's Figure 1), of selection CURVE; a panel a
    cell table ({title: cells}), on axes of their own or, `alike`, on one.

    The tables may hold the arm "before", which then begins the curve. `rows`: arm, size, selection.
    """
    words = parts.words("size_curve", next(iter(panels.values())))
    columns, height = 3 if alike else 2, 3.0 if len(panels) == 1 else 1.8
    figure, axes = parts.canvas(list(panels), columns, height, words, sharey=alike)
    means = [_curve(ax, table, rows) for ax, table in zip(axes, panels.values(), strict=True)]
    for ax, table, own in zip(axes, panels.values(), means, strict=True):
        shown = [mean for each in means for mean in each] if alike else own
        parts.rates_on(ax.yaxis, shown, stats.chance(table))
    return figure


def ood_families(scores: pd.DataFrame, rows: pd.DataFrame) -> parts.Figure:
    """pass@1 against corpus size: the macro mean of the OOD families, each of them, and those that
    the students had mastered before (group "mastered"), a panel each.
    """
    families = scores.drop_duplicates("family").groupby("group")["family"].apply(list)
    titles = {"macro mean": "OOD"} | {name: name for name in families.get("OOD", ())}
    titles |= {f"{name} (mastered)": name for name in families.get("mastered", ())}
    panels = {title: parts.cells(scores, family) for title, family in titles.items()}
    return size_curve(panels, rows, alike=True)


@parts.styled
def pareto(scores: pd.DataFrame, rows: pd.DataFrame) -> parts.Figure:
    """ID (x) against the OOD macro mean (y) of all arms, with the frontier.

    No other arm beats one on the frontier in both. Selection CURVE is joined in the order of its
    sizes; a star is the student before.
    """
    inside, outside = parts.cells(scores, "ID"), parts.cells(scores, "OOD")
    curve, arms = _curves(rows, inside), rows[rows["arm"].isin(parts.names(inside))]
    others = arms.loc[arms["selection"] != CURVE, "arm"].unique()
    sizes = dict(zip(curve["arm"], curve["size"].map("{:,}".format), strict=True)) | {"before": ""}
    marks = parts.looks(others.tolist(), 2)
    figure, (ax,) = parts.canvas([""], 1, 4.2, parts.words("pareto", inside, curve=CURVE))
    bars = []
    beside = {"textcoords": "offset points", "fontsize": 7, "zorder": 6}
    for arm in [*curve["arm"], *others]:
        x, y = (parts.rate(parts.interval(table, arm)) for table in (inside, outside))
        bars.append((x, y))
        look = STAR if arm == "before" else marks.get(arm, parts.MEAN)
        thin = {"elinewidth": 0.6, "capsize": 0, "markersize": 6, "zorder": 3}
        parts.point(ax, x, y, **(thin | look))
        ax.annotate(sizes.get(arm, ""), (x.estimate, y.estimate), (4, 6), **beside)
    means = pd.DataFrame([(x.estimate, y.estimate) for x, y in bars])
    path = means.head(len(curve)).to_numpy()
    ax.plot(*path.T, color="black", linewidth=1, zorder=2)
    frontier = means[stats.unbeaten(means)].sort_values([0, 1]).to_numpy()
    parts.pale_steps(ax, frontier, where="pre")
    for axis, table, i in ((ax.xaxis, inside, 0), (ax.yaxis, outside, 1)):
        shown = [point[i]._replace(bases={}) for point in bars]
        parts.rates_on(axis, shown, stats.chance(table))
    parts.legend(figure, ax, marks, ncols=4)
    return figure
