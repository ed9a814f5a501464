"""Scores against corpus size on a log axis: curves (notebooks 02, 05), named points (04)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .labels import Named, label
from .parts import (
    BLUE,
    DASHED,
    before_level,
    canvas,
    caption,
    cells,
    curve_looks,
    handles,
    interval,
    legend,
    level,
    looks,
    names,
    pale_steps,
    point,
    scores_on,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = "corpus size (examples, log scale)"
CURVE = "random"  # the selection that is drawn as a curve
BESIDE = np.inf  # the size of a model that was not made from a corpus of known size
APART = "Arms of one size are moved apart sideways."
BEFORE = {"marker": "*", "color": "0.35", "markersize": 9}
HOLLOW = {"markerfacecolor": "white", "markeredgewidth": 1.2}
RECIPE_LOOKS = {
    "other": {"marker": "o", "color": BLUE, "markeredgecolor": BLUE} | HOLLOW,
    "before": BEFORE,
    "DED": {"marker": "D", "color": "black", "markersize": 6},
}
BENCHMARKS = (  # column of the reported scores, panel, what the name says more
    ("aime_2024", "AIME 2024", ""),
    ("aime_2025", "AIME 2025", ""),
    ("aime_2025_i", "AIME 2025", " (I)"),
)
MEASURES = {
    "accuracy": "pass@1 (%)",
    "completion_rate": "answers that end (%)",
    "think_rate": "open with a think tag (%)",
}


# --- the axis -------------------------------------------------------------------------------------
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


# --- curves: notebooks 02 and 05 ------------------------------------------------------------------
def selections(rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row a scored arm: arm, size, selection; by size."""
    arms = rows.loc[rows["arm"].isin(scores["arm"]), ["arm", "size", "selection"]]
    return arms.drop_duplicates("arm").sort_values("size", kind="stable")


def _curve(ax: Axes, table: pd.DataFrame, arms: pd.DataFrame) -> None:
    """Selection CURVE against size: a thin line a base, their mean with its band, dashed before."""
    arms = arms[arms["selection"] == CURVE]
    sizes = arms["size"].to_numpy()
    thin = {"linewidth": 0.9, "markersize": 2.5}
    for base, look in curve_looks(names(table, "base")).items():
        values = [interval(table, arm, base).estimate for arm in arms["arm"]]
        ax.plot(sizes, values, label=f"{CURVE}, {base}", **thin, **look)
    means = [interval(table, arm) for arm in arms["arm"]]
    low, high = np.array([(mean.low, mean.high) for mean in means]).reshape(-1, 2).T
    finite = np.isfinite(low) & np.isfinite(high)
    ax.fill_between(sizes, low, high, where=finite, color="0.3", alpha=0.25, linewidth=0)
    thick = {"color": "black", "marker": "o", "linewidth": 2, "markersize": 4}
    ax.plot(sizes, [mean.estimate for mean in means], label=f"{CURVE}, mean of bases", **thick)
    before_level(ax, table)
    size_axis([ax], sizes)


@styled
def size_curve(scores: pd.DataFrame, rows: pd.DataFrame, family: str = "ID") -> Figure:
    """pass@1 against corpus size (the shape of the paper's Figure 1).

    Selection CURVE is a curve, the others are markers. `scores` may hold the arm "before" (dashed).
    `rows`: arm, size, selection. Family "OOD" is the macro mean.
    """
    table = cells(scores, family)
    arms = selections(rows, table)
    note = caption(table, "Markers of one size are moved apart sideways.")
    mean = ", macro mean" if family == "OOD" else ""
    figure, (ax,) = canvas(1, 1, 3.3, note, SIZE, f"{family} pass@1 (%){mean}")
    _curve(ax, table, arms)
    others = [name for name in names(arms, "selection") if name != CURVE]
    for i, (name, look) in enumerate(looks(others, 3).items()):
        for row in arms[arms["selection"] == name].itertuples(index=False):
            x = row.size * sideways(i, len(others), 2**0.13)
            point(ax, x, interval(table, row.arm), zorder=4, markersize=6, **look)
        ax.plot([], [], linestyle="none", label=name, **look)
    if (table["arm"] == "before").any():
        ax.plot([], [], color="0.25", linestyle=DASHED, label="before distillation")
    scores_on(ax.yaxis)
    legend(figure, ax, "right upper", ncols=1)
    return figure


@styled
def ood_families(scores: pd.DataFrame, rows: pd.DataFrame) -> Figure:
    """pass@1 of each OOD family and of their macro mean against corpus size, a panel each."""
    families = ["OOD", *names(scores[scores["group"] == "OOD"], "family")]
    note = caption(scores, "Dashed: the students before distillation.")
    columns = 4 if len(families) % 3 else 3
    share = {"sharex": True, "sharey": True}
    x, y = "corpus size (examples)", "OOD pass@1 (%)"
    figure, axes = canvas(len(families), columns, 1.9, note, x, y, **share)
    for ax, family in zip(axes, families, strict=True):
        table = cells(scores, family)
        _curve(ax, table, selections(rows, table))
        if family == "OOD":
            ax.set_title("macro mean", fontweight="bold")
        else:
            ax.set_title(family)
        ax.xaxis.set_tick_params(rotation=90)
    scores_on(*(ax.yaxis for ax in axes))
    legend(figure, axes[0], ncols=4)
    return figure


@styled
def valley(table: pd.DataFrame, note: str = "") -> Figure:
    """A panel a measure, a line an arm, against corpus size; the student before at 0, and dashed.

    `table`: arm, size (examples), measure (`MEASURES`, or any other name), estimate, low, high
    (fractions, ends nan where there is no interval). The arm "before" (size 0) is a star; the line
    of the first arm begins there. `note` ends the caption.
    """
    measures, arms = names(table, "measure"), names(table)
    note = f"Whiskers: 95 % intervals. Dashed: the student before. {APART} {note}".strip()
    figure, axes = canvas(len(measures), 1, 2.0, note, SIZE, sharex=True)
    place = size_axis(axes, [float(size) for size in table["size"]])
    step = (max(place.values()) / min(place.values())) ** 0.012
    for ax, measure in zip(axes, measures, strict=True):
        rows = table[(table["measure"] == measure) & np.isfinite(table["estimate"])]
        before = rows[rows["arm"] == "before"]
        for row in before.itertuples(index=False):
            level(ax, row)
            point(ax, place[0.0], row, zorder=4, **BEFORE)
        for i, (arm, look) in enumerate(curve_looks(arms).items()):
            own = rows[rows["arm"] == arm].sort_values("size")
            x = own["size"].map(place) * sideways(i, len(arms), step)
            for spot, row in zip(x, own.itertuples(index=False), strict=True):
                point(ax, spot, row, zorder=4, **(look | {"linestyle": "none"}))
            y = own["estimate"]
            if i == 0 and len(before):
                x, y = [place[0.0], *x], [before["estimate"].iloc[0], *y]
            line = {"color": look["color"], "linestyle": look["linestyle"], "zorder": 2}
            ax.plot(x, y, linewidth=1 if i else 1.4, **line)
            ax.plot([], [], label=arm, **look)
        ax.set_ylabel(MEASURES.get(measure, measure))
        ax.margins(y=0.1)
    for ax in axes:
        scores_on(ax.yaxis)
    legend(figure, axes[0], ncols=4)
    return figure


# --- points with names: notebook 04 ---------------------------------------------------------------
@styled
def recipe_pareto(table: pd.DataFrame, note: str = "") -> Figure:
    """Score against corpus size ("before" at 0) with the frontier.

    No arm on the frontier is beaten by an arm as small or smaller. `table`: arm, size (examples),
    group ("ID", "OOD", ...: a panel each), estimate, low, high, fractions; a row without an
    estimate is not drawn. DED is a filled diamond. `note` ends the caption.
    """
    note = (
        "Whiskers: 95 % intervals. Steps: the best score that a corpus up to that size gave. "
        f"{APART} {note}"
    )
    points = _recipe_points(table, "group")
    return _named_points(points, RECIPE_LOOKS, note.strip(), frontier=True)


@styled
def same_axes(measured: pd.DataFrame, note: str = "") -> Figure:
    """The axes of the paper's Figure 1 filled with what was measured.

    `measured`: arm, size, estimate, low, high, benchmark (a panel each).
    """
    points = _recipe_points(measured, "benchmark")
    points["panel"] += ": measured here"
    note = f"Whiskers: 95 % intervals. {APART} {note}"
    return _named_points(points, RECIPE_LOOKS, note.strip())


def _recipe_points(table: pd.DataFrame, by: str) -> pd.DataFrame:
    kind = table["arm"].where(table["arm"] == "DED", "other").mask(table["size"] == 0, "before")
    return table.assign(name=table["arm"], kind=kind, panel=table[by].astype(str))


@styled
def paper_figure_1(reported: pd.DataFrame) -> Figure:
    """The paper's Figure 1 redrawn from what was reported: nothing in it is measured here.

    `reported`: `tables.reported(["scores", "figure_1"])`. A panel a benchmark, a marker a source;
    hollow: from another base than the paper's student. Where only AIME 2025 I is known, the name
    says so. Models without a corpus of known size (the teachers) stand on the right, with a dotted
    line.
    """
    student = reported["model"].iloc[0]
    points = _reported_points(reported, student)
    sources = looks(names(points, "source"))
    marks = {}
    for source, look in sources.items():
        marks[source, False] = look
        marks[source, True] = look | HOLLOW | {"markeredgecolor": look["color"]}
    note = (
        "Scores from different evaluators and settings, drawn as reported, without intervals. "
        f"DS-32B: {student}. Hollow: distilled from another base. (I): AIME 2025 I alone. Dotted: "
        "models that are no distillation of a known corpus. Sizes of 0.8k are approximate."
    )
    return _named_points(points, marks, note, sources=sources)


def _reported_points(reported: pd.DataFrame, student: str) -> pd.DataFrame:
    """A row a reported score; `kind` is (source, whether it was made from another base)."""
    rows = []
    for row in reported.to_dict("records"):
        size = pd.to_numeric(row.get("examples"), errors="coerce")
        if row["model"] == student:
            size = 0
        for column, panel, part in BENCHMARKS:
            rows.append(
                {
                    "arm": row["model"],
                    "name": (row.get("short") or row["model"]) + part,
                    "source": row["source"],
                    "kind": (row["source"], bool(row.get("base")) and row["base"] != student),
                    "size": BESIDE if np.isnan(size) else size,
                    "panel": panel,
                    "estimate": pd.to_numeric(row.get(column), errors="coerce") / 100,
                }
            )
    return pd.DataFrame(rows).dropna(subset="estimate").assign(low=np.nan, high=np.nan)


def _named_points(
    table: pd.DataFrame,
    marks: Mapping[Any, dict],
    note: str,
    frontier: bool = False,
    sources: Mapping[str, dict] | None = None,
) -> Figure:
    """A panel a `panel`, one under the other; a point a row of table, its `name` beside it.

    `table`: arm, name, kind (of `marks`, its look), panel, size, estimate, low, high. `sources` is
    the legend of what others reported.
    """
    table = table[np.isfinite(table["estimate"].astype(float))]
    panels = names(table, "panel")
    height = 2.5 if len(panels) > 2 else 2.9
    figure, axes = canvas(len(panels), 1, height, note, SIZE, "pass@1 (%)", sharex=True)
    table = _moved_apart(table, size_axis(axes, table["size"].tolist()))
    first, last = np.log(table["x"].min()), np.log(table["x"].max())
    margin = 0.07 * max(0.5, last - first)
    named: dict[Axes, list[Named]] = {}
    steps: dict[Axes, list[tuple]] = {}
    for ax, panel in zip(axes, panels, strict=True):
        rows = table[table["panel"] == panel].sort_values("size", kind="stable")
        named[ax] = [Named(row.name, row.x, row) for row in rows.itertuples(index=False)]
        for row in rows.itertuples(index=False):
            point(ax, row.x, row, zorder=4, **marks[row.kind])
            if row.size == BESIDE:
                ax.axhline(row.estimate, color="0.6", linestyle=":", linewidth=0.9, zorder=1)
        if frontier:
            steps[ax] = _frontier(rows, table["x"].max())
            pale_steps(ax, steps[ax], where="post")
        ax.set_title(panel)
        ax.margins(y=0.14)
        ax.set_xlim(np.exp(first - margin), np.exp(last + margin))
    for ax in axes:
        scores_on(ax.yaxis)
    if sources:
        figure.legend(
            handles=handles(axes[0], sources),
            title="Reported by others, not measured here",
            title_fontproperties={"weight": "bold", "size": 9},
            loc="outside upper center",
            fontsize=6.5,
        )
    for ax, points in named.items():
        pairs = itertools.pairwise(steps.get(ax, ()))
        along = [(x, y) for (a, y), (b, _) in pairs for x in np.geomspace(a, b, 40)]
        label(ax, points, along)
    return figure


def _moved_apart(table: pd.DataFrame, place: Mapping[float, float]) -> pd.DataFrame:
    """The table with x: arms of one size stand apart, by the same amount in each panel.

    And not in among those of the next size.
    """
    arms = table[["size", "kind", "arm"]].drop_duplicates()
    same_size = arms.groupby("size")["arm"]
    most, spots = same_size.nunique().max(), np.array(list(place.values()))
    widest = max(4.0, spots[-1] / spots[0]) ** (0.3 / max(8, most))
    step = min([widest, *(spots[1:] / spots[:-1]) ** (1 / (most + 1))])
    shift = sideways(same_size.cumcount(), same_size.transform("size"), step)
    return table.merge(arms.assign(x=arms["size"].map(place) * shift))


def _frontier(rows: pd.DataFrame, end: float) -> list[tuple[float, float]]:
    """Steps (x, score) through the arms above all that are smaller; the last goes to `end`."""
    best = rows[rows["estimate"] > rows["estimate"].shift().cummax().fillna(-np.inf)]
    best = best.loc[best.groupby("size")["estimate"].idxmax()]
    steps = list(zip(best["x"], best["estimate"], strict=True))
    return [*steps, (end, steps[-1][1])]
