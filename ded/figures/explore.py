"""The figure of the interactive view: drawn anew at every move of a slider, hence quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .parts import COLOURS, DASHED, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ded.widgets import Choice, Pool


def explored(pool: Pool, choice: Choice, again: Figure | None = None) -> Figure:
    """What each step leaves; and difficulty, lengths and distances of the corpus (line) against all that was stored (grey).

    Histograms are in per cent of their own number; the dashed line is the pass-rate threshold. again: a Figure that this function made,
    to be drawn upon, which takes half the time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    corpus, rates, metric = choice.table[choice.table["why"] == ""], pool.rates.dropna(), choice.values["metric"]
    asked = rates["problem_id"].isin(set(corpus["problem_id"]))
    panels = (
        (f"questions (%) by {pool.whose}'s pass rate", rates["pass_rate"], rates["pass_rate"][asked], 17),
        ("trajectories (%) by tokens", pool.trajectories["n_tokens"], corpus["n_tokens"], 30),
        (f"{metric} distances; line: smallest of a question", pool.apart[metric], choice.statistics["min_distance"].dropna(), 30),
    )
    with style():
        if not (drawn := again):
            drawn = Figure((7.6, 4.4))  # not the house's canvas: its layout engine alone takes more time than an answer has
            FigureCanvasAgg(drawn)
            place = {"left": 0.12, "right": 0.985, "top": 0.94, "bottom": 0.07, "hspace": 0.36, "wspace": 0.16}
            for ax in drawn.subplots(2, 2, gridspec_kw=place).flat:
                ax.grid(False)
                ax.locator_params(nbins=5)  # to draw ticks and their numbers is most of the work
        for artist in [a for ax in drawn.axes for a in (*ax.patches, *ax.lines, *ax.texts)]:
            artist.remove()
        steps, *others = drawn.axes
        kept = choice.funnel["kept"].tolist()
        steps.barh(range(len(kept)), kept, color=COLOURS[0], height=0.7)
        for row, number in enumerate(kept):
            steps.text(number, row, f" {number:,}", va="center", fontsize=7)
        steps.set(xlim=(0, 1.2 * max(1, *kept)), ylim=(len(kept) - 0.4, -0.6), xticks=[], yticks=range(len(kept)), yticklabels=choice.funnel["step"])
        steps.set_title("trajectories left after each step", y=1.02)
        for ax, (title, every, some, bins) in zip(others, panels):
            edges = np.linspace(0, np.asarray(every).max(initial=0) or 1, bins + 1)
            shares = [100 * np.histogram(values, edges)[0] / max(1, len(values)) for values in (every, some)]
            ax.stairs(shares[0], edges, fill=True, color="0.85")
            ax.stairs(shares[1], edges, color=COLOURS[0], linewidth=1.6)
            ax.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.08 * max(1, *map(max, shares))))
            ax.set_title(title, y=1.02)
        others[0].axvline(choice.values["pass_rate_threshold"], color="black", linestyle=DASHED, linewidth=1)
        others[0].set(xlim=(0, 1))
    return drawn
