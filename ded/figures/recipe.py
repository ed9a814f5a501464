"""Figures of notebook 04: named points against corpus size, measured here and reported."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import parts
from .labels import Named, label
from .sizes import APART, BEFORE, BESIDE, SIZE, sideways, size_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOLLOW = {"markerfacecolor": "white", "markeredgewidth": 1.2}
RECIPE_LOOKS = {
    "other": {"marker": "o", "color": parts.BLUE, "markeredgecolor": parts.BLUE} | HOLLOW,
    "before": BEFORE,
    "DED": {"marker": "D", "color": "black", "markersize": 6},
}
BENCHMARKS = (  # column of the reported scores, panel, what the name says more
    ("aime_2024", "AIME 2024", ""),
    ("aime_2025", "AIME 2025", ""),
    ("aime_2025_i", "AIME 2025", " (I)"),
)


@parts.styled
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


@parts.styled
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


@parts.styled
def paper_figure_1(reported: pd.DataFrame) -> Figure:
    """The paper's Figure 1 redrawn from what was reported: nothing in it is measured here.

    `reported`: `tables.reported(["scores", "figure_1"])`. A panel a benchmark, a marker a source;
    hollow: from another base than the paper's student. Where only AIME 2025 I is known, the name
    says so. Models without a corpus of known size (the teachers) stand on the right, with a dotted
    line.
    """
    student = reported["model"].iloc[0]
    points = _reported_points(reported, student)
    sources = parts.looks(parts.names(points, "source"))
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
    panels = parts.names(table, "panel")
    height = 2.5 if len(panels) > 2 else 2.9
    figure, axes = parts.canvas(len(panels), 1, height, note, SIZE, "pass@1 (%)", sharex=True)
    table = _moved_apart(table, size_axis(axes, table["size"].tolist()))
    first, last = np.log(table["x"].min()), np.log(table["x"].max())
    margin = 0.07 * max(0.5, last - first)
    named: dict[Axes, list[Named]] = {}
    steps: dict[Axes, list[tuple]] = {}
    for ax, panel in zip(axes, panels, strict=True):
        rows = table[table["panel"] == panel].sort_values("size", kind="stable")
        named[ax] = [Named(row.name, row.x, row) for row in rows.itertuples(index=False)]
        for row in rows.itertuples(index=False):
            parts.point(ax, row.x, row, zorder=4, **marks[row.kind])
            if row.size == BESIDE:
                ax.axhline(row.estimate, color="0.6", linestyle=":", linewidth=0.9, zorder=1)
        if frontier:
            steps[ax] = _frontier(rows, table["x"].max())
            parts.pale_steps(ax, steps[ax], where="post")
        ax.set_title(panel)
        ax.margins(y=0.14)
        ax.set_xlim(np.exp(first - margin), np.exp(last + margin))
    for ax in axes:
        parts.scores_on(ax.yaxis)
    if sources:
        figure.legend(
            handles=parts.handles(axes[0], sources),
            title="Reported by others, not measured here",
            title_fontproperties={"weight": "bold", "size": 9},
            loc="outside upper center",
            fontsize=6.5,
        )
    for ax, points in named.items():
        pairs = itertools.pairwise(steps.get(ax, ()))
        along = [Named("", x, y) for (a, y), (b, _) in pairs for x in np.geomspace(a, b, 40)]
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
