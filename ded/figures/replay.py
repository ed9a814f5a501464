"""Scores of a rerun beside the committed ones."""

from __future__ import annotations

import pandas as pd

from . import parts


@parts.styled
def replay(cells: pd.DataFrame) -> parts.Figure:
    """Score minus the committed one, a dot a cell, a row an arm, a panel a group of families.

    Shaded: how far rounding alone moves a score of as few answers as the group's. `cells`: see
    `ded.replay`.
    """
    arms = list(dict.fromkeys(cells["arm"]))
    groups = {str(name): rows for name, rows in cells.groupby("group", sort=False)}
    height = 0.9 + 0.2 * len(arms)
    figure, axes = parts.canvas(list(groups), 3, height, parts.words("replay"), sharey=True)
    for ax, rows in zip(axes, groups.values(), strict=True):
        parts.delta_band(ax, rows["tolerance"].max())
        heights = rows["arm"].map(arms.index)
        for within, look in ((True, parts.COLOURS[0]), (False, parts.RED)):
            shown = rows["within"] == within
            mark = "o" if within else "X"
            ax.plot(rows.loc[shown, "difference"], heights[shown], mark, color=look, markersize=3.5)
        parts.rows_on(ax, arms)
    return figure
