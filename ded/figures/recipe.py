"""Figures of notebook 04: named points against corpus size, measured here and reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ded import stats

from . import parts
from .labels import Named, label
from .sizes import BESIDE, STAR, size_axis

ABOVE_LEVEL: dict[str, Any] = {"ha": "left", "va": "bottom", "fontsize": 6.5, "color": "0.25"}
HOLLOW = {"markerfacecolor": "white", "markeredgewidth": 1.2}
RECIPE_LOOKS = {
    "other": {"marker": "o", "color": parts.BLUE, "markeredgecolor": parts.BLUE} | HOLLOW,
    "equal": {"marker": "_", "color": "0.5", "markeredgecolor": "0.5", "markersize": 9},
    "before": STAR,
    "DED": {"marker": "D", "color": "black", "markersize": 6},
}
BENCHMARKS = (  # column of the reported scores, panel, what the name says more
    ("aime_2024", "AIME 2024", ""),
    ("aime_2025", "AIME 2025", ""),
    ("aime_2025_i", "AIME 2025", " (I)"),
)


@parts.styled
def recipe_pareto(panels: Mapping[str, pd.DataFrame], sizes: Mapping[str, float]) -> parts.Figure:
    """Score against corpus size ("before" at 0) with the frontier: the axes of the paper's Figure
    1, filled with what was measured.

    `panels`: {title: cell table}. `sizes`: {arm: examples}; a model that has none, as a teacher, is
    a level. DED is a filled diamond, other arms of its size are strokes without a name, those of
    equal steps are not drawn. No arm on the frontier is beaten by an arm as small or smaller. Right
    of a named point a dot a base.
    """
    rows, places = [], {**sizes, "before": 0}
    for panel, cells in panels.items():
        for arm in [arm for arm in cells["arm"].unique() if arm in ("before", *parts.names(cells))]:
            mean, size = parts.rate(parts.interval(cells, arm)), places.get(arm, np.nan)
            kind = "equal" if size == sizes["DED"] else "other"
            row = {"arm": arm, "kind": arm if arm in RECIPE_LOOKS else kind, "size": size}
            row |= {"panel": panel, "chance": stats.chance(cells)}
            rows.append(row | mean._asdict())
    table = pd.DataFrame(rows).query("not arm.str.endswith('equal steps')")
    named = table["kind"] != "equal"
    table = table.assign(name=table["arm"].where(named, ""), low=table["low"].where(named))
    first, guesses = next(iter(panels.values())), parts.guessing(panels.values())
    words = parts.words("recipe_pareto", first, guesses=guesses)
    return _named_points(table, RECIPE_LOOKS, words)


@parts.styled
def paper_figure_1(reported: pd.DataFrame) -> parts.Figure:
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
    words = parts.words("paper_figure_1", student=student)
    return _named_points(points, marks, words, sources=sources)


def _reported_points(reported: pd.DataFrame, student: str) -> pd.DataFrame:
    """A row a reported score; `kind` is (source, whether it was made from another base)."""
    table = reported.assign(
        arm=reported["model"],
        name=reported["short"].where(reported["short"] != "", reported["model"]),
        kind=[(row.source, row.base not in ("", student)) for row in reported.itertuples()],
        size=pd.to_numeric(reported["examples"], errors="coerce").fillna(BESIDE),
        bases=[{} for _ in reported.index],
        **{"low": np.nan, "high": np.nan, "chance": 0.0},
    )
    panels = []
    for column, panel, more in BENCHMARKS:
        scores = pd.to_numeric(table[column], errors="coerce") / 100
        panels.append(table.assign(name=table["name"] + more, panel=panel, estimate=scores))
    return pd.concat(panels).dropna(subset="estimate")


def _named_points(
    table: pd.DataFrame,
    marks: Mapping[Any, dict],
    words: Mapping[str, str],
    sources: Mapping[str, dict] | None = None,
) -> parts.Figure:
    """A panel a `panel`, one under the other; a point a row of table, its `name` beside it.

    `table`: arm, name ("": none), kind (of `marks`, its look), panel, size (nan: a level), chance,
    estimate, low, high, and bases. `sources` is the legend of what others reported; without it the
    frontier is drawn.
    """
    table = table[np.isfinite(table["estimate"].astype(float))]
    levels, table = table[table["size"].isna()], table.dropna(subset="size")
    panels = parts.names(table, "panel")
    height = 2.5 if len(panels) > 2 else 2.9
    figure, axes = parts.canvas(panels, 1, height, words, sharex=True)
    table = _moved_apart(table, size_axis(axes, table["size"].tolist()))
    first, last = np.log(table["x"].min()), np.log(table["x"].max())
    margin = 0.07 * max(0.5, last - first)
    axes[0].set_xlim(np.exp(first - margin), np.exp(last + margin))
    beside = np.exp(0.2 * margin)
    points, corners = [], []
    for ax, panel in zip(axes, panels, strict=True):
        rows = table[table["panel"] == panel].sort_values("size", kind="stable")
        for row in rows.itertuples(index=False):
            parts.point(ax, row.x, row, zorder=4, **marks[row.kind])
            for dot in row.bases.values() if row.name else ():
                ax.plot(row.x * beside, dot, "o", markersize=2.5, **parts.DOT)
            if row.size == BESIDE:
                ax.axhline(row.estimate, color="0.6", linestyle=":", linewidth=0.9, zorder=1)
        points.append([Named(row.name, row.x, row) for row in rows.itertuples() if row.name])
        across = list(levels[levels["panel"] == panel].itertuples())
        for row in across:
            parts.level(ax, row)
            ax.text(0.15, row.estimate, row.arm, transform=ax.get_yaxis_transform(), **ABOVE_LEVEL)
        steps = np.empty((0, 2)) if sources else _frontier(rows, table["x"].max())
        parts.pale_steps(ax, steps, where="post")
        x, y = np.repeat(steps, 2, axis=0).T
        corners.append(np.column_stack([x[1:], y[:-1]]))
        parts.rates_on(ax.yaxis, [*rows.itertuples(), *across], rows["chance"].mean())
    if sources:
        look: dict[str, Any] = {"title_fontproperties": {"weight": "bold", "size": 9}, "ncols": 1}
        parts.legend(figure, axes[0], sources, title=words["legend"], fontsize=6.5, **look)
    for ax, named, path in zip(axes, points, corners, strict=True):
        label(ax, named, path=path)
    return figure


def _moved_apart(table: pd.DataFrame, place: Mapping[float, float]) -> pd.DataFrame:
    """The table with x: named arms of one size stand apart, by the same amount in each panel.

    And not in among those of the next size.
    """
    arms = table.loc[table["name"] != "", ["size", "kind", "arm"]].drop_duplicates()
    same_size = arms.groupby("size")["arm"]
    most, spots = same_size.nunique().max(), np.array(list(place.values()))
    widest = max(4.0, spots[-1] / spots[0]) ** (0.3 / max(8, most))
    step = min([widest, *(spots[1:] / spots[:-1]) ** (1 / (most + 1))])
    shift = step ** (same_size.cumcount() - (same_size.transform("size") - 1) / 2)
    moved = table.merge(arms.assign(x=arms["size"].map(place) * shift), how="left")
    return moved.fillna({"x": moved["size"].map(place)})


def _frontier(rows: pd.DataFrame, end: float) -> np.ndarray:
    """Steps (x, score) through the arms above all that are smaller; the last goes to `end`."""
    unbeaten = stats.unbeaten(rows[["size", "estimate"]] * (-1, 1))
    steps = rows.loc[unbeaten, ["x", "estimate"]].to_numpy()
    return np.vstack([steps, [end, steps[-1, 1]]])
