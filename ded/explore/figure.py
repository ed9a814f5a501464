"""The figure of the interactive view: at a move of a slider only what moved is drawn anew, hence quick."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ded.figures.parts import COLOURS, DASHED, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ded.explore import Choice, Pool

TOPS = (
    10,
    25,
    50,
    100,
)  # per cent at which an axis may end: of few heights, so that the axes seldom change
KEPT = 8  # backgrounds of a panel, each a quarter of the picture


def explored(pool: Pool, choice: Choice, again: Figure | None = None) -> Figure:
    """What each step leaves; and difficulty, lengths and distances of the corpus (line) against all that was stored (grey).

    Histograms are in per cent of their own number; the dashed line is the pass-rate threshold. again: a Figure that this function made,
    to be drawn upon: axes and grey bars stay as a background as long as they are the same, and are most of the work.
    """
    corpus, rates, metric = (
        choice.table[choice.table["why"] == ""],
        pool.rates.dropna(),
        choice.values["metric"],
    )
    asked = rates["problem_id"].isin(set(corpus["problem_id"]))
    panels = (
        (
            f"questions (%) by {pool.whose}'s pass rate",
            rates["pass_rate"],
            rates["pass_rate"][asked],
            17,
        ),
        ("trajectories (%) by tokens", pool.trajectories["n_tokens"], corpus["n_tokens"], 30),
        (
            f"{metric} distances; line: smallest of a question",
            pool.apart[metric],
            choice.statistics["min_distance"].dropna(),
            30,
        ),
    )
    edges = [
        np.linspace(0, np.asarray(every).max(initial=0) or 1, bins + 1)
        for _, every, _, bins in panels
    ]
    every, some = ([_shares(panel[i], e) for panel, e in zip(panels, edges)] for i in (1, 2))
    kept, names = choice.funnel["kept"].tolist(), choice.funnel["step"].tolist()
    with style():
        drawn = again or _blank()
        steps, *others = drawn.axes
        for artist in [
            a for ax in drawn.axes for a in (*ax.patches, *ax.lines, *ax.texts) if a.get_animated()
        ]:
            artist.remove()
        ends = {"xlim": (0, 1.2 * max(1, *kept)), "ylim": (len(kept) - 0.4, -0.6)}
        _ground(
            steps,
            "trajectories left after each step",
            (*ends.values(), *names),
            xticks=[],
            yticks=range(len(kept)),
            yticklabels=names,
            **ends,
        )
        for ax, (title, *_), e, grey, line in zip(others, panels, edges, every, some):
            top = next(top for top in TOPS if top >= max(*grey, *line))
            _ground(
                ax,
                title,
                (pool, top),
                grey,
                e,
                xlim=(0, 1 if ax == others[0] else e[-1]),
                ylim=(0, 1.04 * top),
            )
        moved = [*steps.barh(range(len(kept)), kept, color=COLOURS[0], linewidth=0, height=0.7)]
        moved += [
            steps.text(number, row, f" {number:,}", va="center", fontsize=7)
            for row, number in enumerate(kept)
        ]
        moved += [
            ax.stairs(shares, e, color=COLOURS[0], linewidth=1.6)
            for ax, shares, e in zip(others, some, edges)
        ]
        moved.append(
            others[0].axvline(
                choice.values["pass_rate_threshold"], color="black", linestyle=DASHED, linewidth=1
            )
        )
        for artist in moved:
            artist.set_animated(True)  # not part of any background
            artist.axes.draw_artist(artist)
        steps.draw_artist(steps.spines["left"])  # where the bars begin
    return drawn


def picture(drawn: Figure) -> bytes:
    """What `explored` has drawn, as a PNG: a `savefig` would draw it again."""
    from PIL import Image

    Image.fromarray(np.asarray(drawn.canvas.buffer_rgba())[..., :3]).save(
        file := io.BytesIO(), "png", compress_level=1
    )
    return file.getvalue()


def _blank() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    drawn = Figure(
        (7.6, 4.4)
    )  # not the house's canvas: its layout engine alone takes more time than an answer has
    FigureCanvasAgg(drawn)
    place = {
        "left": 0.12,
        "right": 0.985,
        "top": 0.94,
        "bottom": 0.07,
        "hspace": 0.36,
        "wspace": 0.16,
    }
    axes = list(drawn.subplots(2, 2, gridspec_kw=place).flat)
    for ax in axes:
        ax.grid(False)
        ax.locator_params(nbins=5)
        ax.set_title("", y=1.02)
        ax.set_visible(False)
    drawn.canvas.draw()
    across, up = (
        drawn.bbox.width * np.array([0, 0.535, 1]),
        drawn.bbox.height * np.array([1, 0.51, 0]),
    )
    for i, ax in enumerate(axes):  # each has a cell of the picture, white so far
        ax.cell = Bbox.from_extents(across[i % 2], up[i // 2 + 1], across[i % 2 + 1], up[i // 2])
        ax.white, ax.shown, ax.grounds = drawn.canvas.copy_from_bbox(ax.cell), None, {}
        ax.set_visible(True)
    return drawn


def _ground(
    ax: Axes,
    title: str,
    key: tuple,
    grey: np.ndarray | None = None,
    edges: np.ndarray | None = None,
    **looks: Any,
) -> None:
    """Axes and grey bars: as they were drawn at an earlier move for the same title and key, else anew."""
    canvas, key = ax.figure.canvas, (title, *key)
    if ax.shown != key:
        for artist in list(ax.patches):
            artist.remove()
        if grey is not None:
            ax.stairs(grey, edges, fill=True, color="0.85")
        ax.title.set_text(title)
        ax.set(**looks)
        ax.shown = key
    if key in ax.grounds:
        return canvas.restore_region(ax.grounds[key])
    canvas.restore_region(ax.white)
    ax.draw(canvas.get_renderer())
    if len(ax.grounds) >= KEPT:
        ax.grounds.clear()
    ax.grounds[key] = canvas.copy_from_bbox(ax.cell)


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return 100 * np.histogram(values, edges)[0] / max(1, len(values))
