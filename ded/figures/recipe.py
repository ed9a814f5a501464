"""Figures of notebook 04: scores against corpus size, measured here and reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ded import stats

from . import parts
from .sizes import BESIDE, STAR, size_axis

EQUAL = "other corpora of DED's size"
LOOKS: dict[str, dict[str, Any]] = {
    "before": STAR,
    "DED": {"marker": "D", "color": "black", "markersize": 6},
    EQUAL: {"marker": "_", "color": "0.5", "markeredgecolor": "0.5", "markersize": 9},
}
APART = 0.025  # of the axis, between points of one size
BENCHMARKS = {  # column of the reported scores: panel
    "aime_2024": "AIME 2024",
    "aime_2025": "AIME 2025",
    "aime_2025_i": "AIME 2025",
}


@parts.styled
def recipe_pareto(panels: Mapping[str, pd.DataFrame], sizes: Mapping[str, float]) -> parts.Figure:
    """Score against corpus size ("before" at 0) with the frontier: the axes of the paper's Figure
    1, filled with what was measured.

    `panels`: {title: cell table}. `sizes`: {arm: examples}; a model that has none, as a teacher, is
    a level. DED is a filled diamond, other arms of its size are strokes, those of equal steps are
    not drawn. No arm on the frontier is beaten by an arm as small or smaller. Right of a point a
    dot a base.
    """
    rows, places = [], {**sizes, "before": 0}
    for panel, cells in panels.items():
        arms = [arm for arm in cells["arm"].unique() if arm in ("before", *parts.names(cells))]
        for arm in (arm for arm in arms if not arm.endswith("equal steps")):
            row = {"panel": panel, "name": arm, "size": places.get(arm, np.nan)}
            row |= {
                "chance": stats.chance(cells),
                **parts.rate(parts.interval(cells, arm))._asdict(),
            }
            if row["size"] == sizes["DED"] and arm != "DED":
                row |= {"name": EQUAL, "low": np.nan, "bases": {}}
            rows.append(row)
    table = pd.DataFrame(rows)
    names = table.sort_values("size", kind="stable")["name"].unique()
    levels = table.loc[table["size"].isna(), "name"]
    looks = parts.looks([name for name in names if name not in LOOKS]) | LOOKS
    looks |= dict.fromkeys(levels, parts.BEFORE)
    first, guesses = next(iter(panels.values())), parts.guessing(panels.values())
    words = parts.words("recipe_pareto", first, guesses=guesses)
    return _against_size(table, {name: looks[name] for name in names}, words, ncols=3)


@parts.styled
def paper_figure_1(reported: pd.DataFrame) -> parts.Figure:
    """The paper's Figure 1 redrawn from what was reported: nothing in it is measured here.

    `reported`: `tables.reported(["scores", "figure_1"])`. A panel a benchmark, a colour and marker
    a model and source; hollow: from another base than the paper's student. Models without a corpus
    of known size (the teachers) stand on the right, with a dotted line.
    """
    student = reported["model"].iloc[0]
    numbers = {source: f"[{i}]" for i, source in enumerate(reported["source"].unique(), 1)}
    named = reported["short"].where(reported["short"] != "", reported["model"])
    table = reported.assign(
        name=named + " " + reported["source"].map(numbers),
        size=pd.to_numeric(reported["examples"], errors="coerce").fillna(BESIDE),
        bases=[{} for _ in reported.index],
        **{"low": np.nan, "high": np.nan, "chance": 0.0},
    )
    panels = [
        table.assign(panel=panel, estimate=pd.to_numeric(table[column], errors="coerce") / 100)
        for column, panel in BENCHMARKS.items()
    ]
    points = pd.concat(panels).dropna(subset="estimate")
    looks = parts.looks(parts.names(points, "name"))
    for name in points.loc[~points["base"].isin(["", student]), "name"].unique():
        edge = {"markeredgecolor": looks[name]["color"], "markeredgewidth": 1.2, "markersize": 5}
        looks[name] |= {"markerfacecolor": "white"} | edge
    words = parts.words(
        "paper_figure_1",
        student=student,
        sources="; ".join(f"{number} {source}" for source, number in numbers.items()),
        part=", ".join(named[reported["aime_2025_i"] != ""]),
    )
    bold = {"title_fontproperties": {"weight": "bold", "size": 9}, "title": words["legend"]}
    return _against_size(points, looks, words, frontier=False, ncols=4, fontsize=6.5, **bold)


def _against_size(
    table: pd.DataFrame,
    looks: Mapping[str, dict],
    words: Mapping[str, str],
    frontier: bool = True,
    **legend: Any,
) -> parts.Figure:
    """A panel a `panel`, one under the other; a point a row of table, those of one size side by
    side in an order that all panels share.

    `table`: name (of `looks`), panel, size (nan: a level), chance, estimate, low, high, and bases.
    `legend`: as `parts.legend` takes it.
    """
    table = table[np.isfinite(table["estimate"].astype(float))]
    panels, sizes = parts.names(table, "panel"), table.dropna(subset="size")
    height = 2.5 if len(panels) > 2 else 2.9
    figure, axes = parts.canvas(panels, 1, height, words, sharex=True)
    place = size_axis(axes, sizes["size"].tolist())
    reach = max(place.values()) / min(place.values())
    of_name = sizes.drop_duplicates("name").set_index("name")["size"]
    x = of_name.map(place).to_dict()
    for size, spot in place.items():
        alike = [name for name in of_name.index[of_name == size] if name != EQUAL]
        steps = APART * (np.arange(len(alike)) - (len(alike) - 1) / 2)
        x |= dict(zip(alike, spot * reach**steps, strict=True))
    axes[0].set_xlim(min(x.values()) * reach**-0.05, max(x.values()) * reach**0.05)
    for ax, panel in zip(axes, panels, strict=True):
        rows = table[table["panel"] == panel].sort_values("size", kind="stable")
        rows = rows.assign(x=rows["name"].map(x))
        for row in rows.itertuples(index=False):
            if np.isnan(row.size):
                parts.level(ax, row)
                continue
            parts.point(ax, row.x, row, zorder=4, **looks[row.name])
            for dot in row.bases.values():
                ax.plot(row.x * reach**0.01, dot, "o", markersize=2.5, **parts.DOT)
            if row.size == BESIDE:
                ax.axhline(row.estimate, color="0.6", linestyle=":", linewidth=0.9, zorder=1)
        if frontier:
            steps = _frontier(rows.dropna(subset="size"), max(x.values()))
            parts.pale_steps(ax, steps, where="post")
        parts.rates_on(ax.yaxis, rows.itertuples(), rows["chance"].mean())
    marks = {name: {"linestyle": "none"} | look for name, look in looks.items()}
    parts.legend(figure, axes[0], marks, **legend)
    return figure


def _frontier(rows: pd.DataFrame, end: float) -> np.ndarray:
    """Steps (x, score) through the arms above all that are smaller; the last goes to `end`."""
    unbeaten = stats.unbeaten(rows[["size", "estimate"]] * (-1, 1))
    steps = rows.loc[unbeaten, ["x", "estimate"]].to_numpy()
    return np.vstack([steps, [end, steps[-1, 1]]])
