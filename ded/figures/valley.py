"""The figure of notebook 05: accuracy, completion rate and think-tag rate against corpus size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .parts import DASHED, LINES, bar, canvas, looks, names, point, scores_on, styled
from .recipe import BEFORE, size_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {
    "accuracy": "pass@1 (%)",
    "completion_rate": "answers that end (%)",
    "think_rate": "open with a think tag (%)",
}


@styled
def valley(table: pd.DataFrame, note: str = "") -> Figure:
    """A panel a measure, a line an arm, against corpus size (log axis; the student before at 0, and its level dashed).

    `table`: arm, size (examples), measure (`MEASURES`, or any other name), estimate, low, high (fractions, ends nan where there
    is no interval). The arm "before" (size 0) is a star; the line of the first arm begins there. `note` ends the caption.
    """
    measures, arms = names(table, "measure"), names(table)
    note = f"Whiskers: 95 % intervals. Dashed: the student before. Arms of one size are moved apart sideways. {note}".strip()
    figure, axes = canvas(
        len(measures), 1, 2.0, note, "corpus size (examples, log scale)", sharex=True
    )
    place = size_axis(axes, [float(size) for size in table["size"]])
    step = (max(place.values()) / min(place.values())) ** 0.012
    before = table[table["arm"] == "before"]
    for ax, measure in zip(axes, measures):
        for row in before[before["measure"] == measure].itertuples(index=False):
            ax.axhline(row.estimate, color="0.35", linestyle=DASHED, linewidth=1, zorder=1)
            if bar(row)[1] is not None:
                ax.axhspan(row.low, row.high, color="0.5", alpha=0.15, linewidth=0, zorder=0)
            point(ax, place[0.0], row, zorder=4, **BEFORE)
        for i, (line, (arm, look)) in enumerate(zip(LINES * 9, looks(arms).items())):
            own = table["arm"].isin([arm, "before"] if i == 0 else [arm])
            rows = table[
                own & (table["measure"] == measure) & np.isfinite(table["estimate"])
            ].sort_values("size")
            x = [
                place[float(size)] * (step ** (i - (len(arms) - 1) / 2) if size else 1)
                for size in rows["size"]
            ]
            ax.plot(
                x,
                rows["estimate"],
                color=look["color"],
                linestyle=line,
                linewidth=1.4 if i == 0 else 1,
                zorder=2,
            )
            for at, row in zip(x, rows.itertuples(index=False)):
                if row.arm == arm:
                    point(ax, at, row, zorder=4, **look)
            ax.plot([], [], linestyle=line, label=arm, **look)
        ax.set_ylabel(MEASURES.get(measure, measure))
        ax.margins(y=0.1)
    for ax in axes:
        scores_on(ax.yaxis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
