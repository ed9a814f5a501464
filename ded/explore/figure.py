"""The figure of the interactive view, which is drawn upon again at each move of a slider."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ded.explore.choice import Choice, Pool
from ded.figures.parts import COLOURS, DASHED, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (7.6, 4.4)  # inches
GRID = {"left": 0.12, "right": 0.985, "top": 0.94, "bottom": 0.07, "hspace": 0.36, "wspace": 0.16}
TOPS = (10, 25, 50, 100)  # per cent at which an axis may end: few, so that it seldom jumps


def explored(pool: Pool, choice: Choice, again: Figure | None = None) -> Figure:
    """What each step leaves; and difficulty, lengths and distances of the corpus (line) against
    all that was stored (grey).

    Histograms are in per cent of their own number; the dashed line is the last pass rate that
    question compression leaves.
    again: a Figure that this function made, to be drawn upon, which takes half the time.
    """
    corpus, values = choice.corpus, choice.values
    rates = pool.rates.dropna()
    asked = rates["problem_id"].isin(set(corpus["problem_id"]))
    with style():
        figure = again or _blank()
        for axes in figure.axes:
            for artist in [*axes.patches, *axes.lines, *axes.texts]:
                artist.remove()
        steps, difficulty, lengths, distances = figure.axes
        _draw_steps(steps, choice.funnel)
        difficulty.set_title(f"questions (%) by {pool.rated}'s pass rate")
        _compare(difficulty, rates["pass_rate"], rates["pass_rate"][asked], bins=17)
        difficulty.axvline(choice.threshold, color="black", linestyle=DASHED, linewidth=1)
        difficulty.set_xlim(0, 1)
        lengths.set_title("trajectories (%) by tokens")
        _compare(lengths, pool.trajectories["n_tokens"], corpus["n_tokens"], bins=30)
        distances.set_title(f"{values.metric} distances; line: smallest of a question")
        smallest = choice.statistics["min_distance"].dropna()
        _compare(distances, pool.all_distances[values.metric], smallest, bins=30)
    return figure


def _blank() -> Figure:
    """Four empty panels; not on the house's canvas, whose layout engine takes more time than an
    answer has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(SIZE)
    FigureCanvasAgg(figure)
    for axes in figure.subplots(2, 2, gridspec_kw=GRID).flat:
        axes.grid(False)
        axes.locator_params(nbins=5)
    return figure


def _draw_steps(axes: Axes, funnel: pd.DataFrame) -> None:
    """A bar a step of the funnel: the trajectories that it leaves."""
    kept = funnel["kept"].tolist()
    axes.barh(range(len(kept)), kept, color=COLOURS[0], linewidth=0, height=0.7)
    for row, number in enumerate(kept):
        axes.text(number, row, f" {number:,}", va="center", fontsize=7)
    axes.set_title("trajectories left after each step")
    axes.set_xticks([])
    axes.set_yticks(range(len(kept)), funnel["step"])
    axes.set(xlim=(0, 1.2 * max(1, *kept)), ylim=(len(kept) - 0.4, -0.6))


def _compare(axes: Axes, stored: np.ndarray, corpus: np.ndarray, bins: int) -> None:
    """Histograms of the corpus (line) and of all that was stored (grey), in per cent of each."""
    edges = np.linspace(0, np.asarray(stored).max(initial=0) or 1, bins + 1)
    grey, line = (100 * np.histogram(v, edges)[0] / max(1, len(v)) for v in (stored, corpus))
    top = next(top for top in TOPS if top >= max(*grey, *line))
    axes.stairs(grey, edges, fill=True, color="0.85")
    axes.stairs(line, edges, color=COLOURS[0], linewidth=1.6)
    axes.set(xlim=(0, edges[-1]), ylim=(0, 1.04 * top))


def png(figure: Figure) -> bytes:
    """A figure as a PNG, pressed lightly: the picture is looked at once."""
    file = io.BytesIO()
    figure.savefig(file, format="png", pil_kwargs={"compress_level": 1})
    return file.getvalue()
