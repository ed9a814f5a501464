"""The words that every figure is written in: canvas and caption, looks, axes, points, levels."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import pandas as pd

from ded import stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Params = ParamSpec("Params")

WIDTH = 6.0  # inches: the width of a page's text
MARKERS = "osD^vPX<>*"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
# seaborn's "colorblind", its yellow and pink darkened, which are lost on white
BLUE, ORANGE, GREEN, RED, PINK = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"
BROWN, SKY, GREY, OLIVE, PURPLE = "#ca9161", "#56b4e9", "#949494", "#a89c00", "#7a5195"
COLOURS = (BLUE, ORANGE, GREEN, RED, PINK, BROWN, SKY, GREY, OLIVE, PURPLE)
DASHED = (0, (4, 2))
MINUS = "\N{MINUS SIGN}"
POINT = {"linestyle": "none", "elinewidth": 1, "capsize": 1.5}
WHITE_EDGE = {"markeredgecolor": "white", "markeredgewidth": 0.4}


# --- style and canvas -----------------------------------------------------------------------------
@contextmanager
def style() -> Iterator[None]:
    """The house style (house.mplstyle) for what is drawn inside."""
    from matplotlib import pyplot  # whose import also makes notebooks show a returned Figure

    with pyplot.style.context(Path(__file__).with_name("house.mplstyle")):
        yield


def styled(draw: Callable[Params, Figure]) -> Callable[Params, Figure]:
    """Decorates a function that makes a Figure: the house style from first line to last tick."""

    @wraps(draw)
    def figure(*args: Params.args, **kwargs: Params.kwargs) -> Figure:
        with style():
            made = draw(*args, **kwargs)
            made.draw_without_rendering()  # ticks are made on drawing: here, while the style holds
            # constrained layout moves a little with each drawing: kept as it is now
            made.set_layout_engine("none")
            return made

    return figure


def canvas(
    panels: int,
    columns: int,
    height: float,
    note: str,
    x: str = "",
    y: str = "",
    width: float = WIDTH,
    **share: Any,
) -> tuple[Figure, list[Axes]]:
    """A Figure with `panels` axes, `height` inches a row, axis names on the outer ones.

    `note` is the small caption under them. `share` goes to `Figure.subplots` (sharex, sharey).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, panels)
    rows, lines = math.ceil(panels / columns), textwrap.wrap(note, int(width * 19))
    figure = Figure((width, height * rows + 0.12 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, **share).flat)
    for empty in axes[panels:]:
        empty.set_axis_off()
    # the last of each column, also above an empty cell
    for ax in axes[max(0, panels - columns) : panels]:
        ax.set_xlabel(x)
        ax.xaxis.set_tick_params(labelbottom=True)
    for ax in axes[:panels]:
        # not by the style alone: how many ticks fit is asked again when it no longer holds
        ax.tick_params(labelsize=7.5)
    for ax in axes[:panels:columns]:
        ax.set_ylabel(y)
    figure.supxlabel("\n".join(lines), x=0.005, ha="left", fontsize=6.5, color="0.35")
    return figure, axes[:panels]


def caption(table: pd.DataFrame, more: str = "") -> str:
    """The number of replicates and bases in a table, what the whiskers are, and `more`."""
    counts = table.groupby("base")["replicate"].nunique()
    few, many = counts.min(), counts.max()
    n = f"{few}" if few == many else f"{few}-{many}"
    bars = "95 % t-intervals over replicates"
    if few < 2:
        bars = "no interval where there is one replicate"
    bases = f"{len(counts)} student bases" if len(counts) > 1 else "one student base"
    return f"n = {n} replicate{'s' * (n != '1')} a base, {bases}; {bars}. {more}".strip()


# --- looks and legends ----------------------------------------------------------------------------
def looks(names: Sequence[str], start: int = 0) -> dict[str, dict]:
    """A colour and a marker for each name, by its place."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(names, start)
    }


def curve_looks(names: Sequence[str]) -> dict[str, dict]:
    """A colour, a marker and a line style for each name, by its place."""
    return {
        name: look | {"linestyle": LINES[i % len(LINES)]}
        for i, (name, look) in enumerate(looks(names).items())
    }


def legend(figure: Figure, ax: Axes, place: str = "upper center", ncols: int = 6) -> None:
    """One legend for the figure, outside its panels, of what is labelled in `ax`."""
    figure.legend(*ax.get_legend_handles_labels(), loc=f"outside {place}", ncols=ncols)


def handles(ax: Axes, marks: Mapping[str, dict]) -> list:
    """Handles for a legend of the marks themselves: {name: its look}."""
    return [
        ax.plot([], [], linestyle="none", label=name, **look)[0] for name, look in marks.items()
    ]


# --- axes -----------------------------------------------------------------------------------------
def percent(*axes: Axis) -> None:
    """Fractions of the data as percent on these axes (or percentage points)."""
    for axis in axes:
        axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}".replace("-", MINUS))


def scores_on(*axes: Axis) -> None:
    """Percent on these axes of pass rates, limits within what a rate can be. To be called last."""
    percent(*axes)
    for axis in axes:
        low, high = axis.get_view_interval()
        # a margin of what is shown: no tick lies beyond 0 or 100 %
        margin = 0.04 * (min(high, 1) - max(low, 0))
        axis.axes.set(**{f"{axis.axis_name}lim": (max(low, -margin), min(high, 1 + margin))})


def rows_on(ax: Axes, labels: Sequence[str], top: float = -0.6) -> None:
    """A row a label on the y axis, the first on top."""
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, top))


def delta_band(ax: Axes, delta: float) -> None:
    """The zero line of differences, and the band of ±delta in which one matters little."""
    ax.axvspan(-delta, delta, color="0.92", linewidth=0, zorder=0)
    ax.axvline(0, color="black", linewidth=0.8, zorder=1)
    ax.grid(axis="y", visible=False)
    percent(ax.xaxis)


# --- numbers --------------------------------------------------------------------------------------
def names(table: pd.DataFrame, column: str = "arm") -> list[str]:
    """Distinct values in order of appearance, "before" aside."""
    return [name for name in dict.fromkeys(table[column]) if name != "before"]


def with_mean(bases: Sequence[str]) -> dict[str, str | None]:
    """{title: base} of each base, and None for the mean of the bases where there are several."""
    titles: dict[str, str | None] = {base: base for base in bases}
    return titles | {f"mean of {len(bases)} bases": None} if len(bases) > 1 else titles


def cells(scores: pd.DataFrame, family: str = "ID", value: str = "accuracy") -> pd.DataFrame:
    """One row per (arm, base, replicate) of a family; "OOD" is the macro mean over the OOD ones."""
    if family == "OOD":
        return stats.macro(scores, "OOD", value)
    return scores[scores["family"] == family]


def interval(
    table: pd.DataFrame, arm: str, base: str | None = None, value: str = "accuracy"
) -> stats.Interval:
    """The mean of an arm of a cell table, over all bases or of one."""
    return stats.arm_interval(table if base is None else table[table["base"] == base], arm, value)


def centre(value: Any) -> float:
    """A number, or the estimate of what has estimate, low, high (an interval, a row of a table)."""
    return getattr(value, "estimate", value)


def whisker(value: Any) -> np.ndarray | None:
    """The lengths of its whiskers, (2, 1); None of a number, and where they are not finite."""
    if not hasattr(value, "low"):
        return None
    lengths = np.array([[value.estimate - value.low], [value.high - value.estimate]])
    return lengths if np.isfinite(lengths).all() else None


def text(value: stats.Interval) -> str:
    """'80.7 ± 2.9', in percent; without what there is not; "not measured" for nan."""
    if np.isnan(value.estimate):
        return "not measured"
    lengths = whisker(value)
    half = "" if lengths is None else f" ± {100 * lengths.mean():.1f}"
    return f"{100 * value.estimate:.1f}{half}"


# --- marks ----------------------------------------------------------------------------------------
def point(ax: Axes, x: Any, y: Any, **look: Any) -> None:
    """A marker at two numbers or intervals, with the whiskers of the latter."""
    bars = {"xerr": whisker(x), "yerr": whisker(y)}
    ax.errorbar(centre(x), centre(y), **bars, **(POINT | WHITE_EDGE | look))


def level(ax: Axes, value: Any, vertical: bool = False) -> None:
    """An interval as a level to compare with: a dashed line and a faint band."""
    line, span = (ax.axvline, ax.axvspan) if vertical else (ax.axhline, ax.axhspan)
    line(value.estimate, color="0.25", linestyle=DASHED, linewidth=1, zorder=1)
    if whisker(value) is not None:
        span(value.low, value.high, color="0.5", alpha=0.15, linewidth=0, zorder=0)


def before_level(
    ax: Axes,
    table: pd.DataFrame,
    base: str | None = None,
    value: str = "accuracy",
    vertical: bool = False,
) -> None:
    """The level of the student before distillation (arm "before"), if the table has it."""
    if (table["arm"] == "before").any():
        level(ax, interval(table, "before", base, value), vertical)


def pale_steps(ax: Axes, points: Sequence[tuple[float, float]] | np.ndarray, where: str) -> None:
    """A frontier: broad pale steps through the points, behind all else."""
    ax.step(*np.transpose(points), where=where, color=BLUE, linewidth=4, alpha=0.3, zorder=1)
