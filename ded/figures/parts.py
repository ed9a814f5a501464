"""The words that every figure is written in: canvas and caption, looks, axes, points, levels."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ded import results, stats
from ded.files import read_yaml
from ded.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 6.0  # inches: the width of a page's text
LETTERS = 14  # of a legend, an inch
MARKERS = "osD^vPX<>*"
# seaborn's "colorblind", its yellow and pink darkened, which are lost on white
BLUE, ORANGE, GREEN, RED, PINK = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"
BROWN, SKY, GREY, OLIVE, PURPLE = "#ca9161", "#56b4e9", "#949494", "#a89c00", "#7a5195"
COLOURS = (BLUE, ORANGE, GREEN, RED, PINK, BROWN, SKY, GREY, OLIVE, PURPLE)
DASHED = (0, (4, 2))
MINUS = "\N{MINUS SIGN}"
WHITE_EDGE = {"markeredgecolor": "white", "markeredgewidth": 0.4}
POINT = {"linestyle": "none", "elinewidth": 1, "capsize": 1.5} | WHITE_EDGE
MEAN: dict[str, Any] = {"marker": "o", "color": "black"}
DOT = {"color": SKY, "alpha": 0.8, "markeredgewidth": 0, "zorder": 3}
BEFORE = {"color": "0.25", "linestyle": DASHED, "linewidth": 1, "zorder": 1}
CHANCE = {"color": "0.25", "linestyle": ":", "linewidth": 1, "zorder": 1}


# --- style and canvas -----------------------------------------------------------------------------
def style() -> AbstractContextManager[None]:
    """The house style for what is drawn inside: house.mplstyle."""
    import matplotlib.style

    results.show_figures()  # as the import of pyplot does, which is slow
    return matplotlib.style.context(Path(__file__).with_name("house.mplstyle"))


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorates a function that makes a Figure: the house style from first line to last tick."""

    @wraps(draw)
    def figure(*args: Any, **kwargs: Any) -> Figure:
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        with style():
            made = draw(*args, **kwargs)
            # once: a figure's own engine would lay it out, and draw it, before each file is saved
            ConstrainedLayoutEngine().execute(made)
            made.get_tightbbox()  # ticks are made on measuring: here, while the style holds
            return made

    return figure


def canvas(
    titles: Sequence[str],
    columns: int,
    height: float,
    words: Mapping[str, str],
    width: float = WIDTH,
    **share: bool,
) -> tuple[Figure, list[Axes]]:
    """A Figure with axes of these titles, `height` inches a row, axis names on the outer ones.

    `words`: their names, x and y, and `note`, the small caption under them (see `words`). `share`
    goes to `Figure.subplots` (sharex, sharey).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels, columns = len(titles), min(columns, len(titles))
    rows, lines = math.ceil(panels / columns), textwrap.wrap(words["note"], int(width * 19))
    figure = Figure((width, height * rows + 0.12 * len(lines)))
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, **share).flat)
    for empty in axes[panels:]:
        empty.set_axis_off()
    for i, (ax, title) in enumerate(zip(axes[:panels], titles, strict=True)):
        ax.set(title=title, ylabel="" if i % columns else words.get("y"))
        # not by the style alone: how many ticks fit is asked again when it no longer holds
        ax.tick_params(labelsize=7.5)
        if i >= panels - columns:  # the last of each column, also above an empty cell
            ax.set_xlabel(words.get("x"))
            ax.xaxis.set_tick_params(labelbottom=True)
    figure.supxlabel("\n".join(lines), x=0.005, ha="left", fontsize=6.5, color="0.35")
    return figure, axes[:panels]


def words(figure: str, table: pd.DataFrame | None = None, **values: Any) -> dict[str, str]:
    """x, y, note of a figure (words.yml), with the values put in.

    With a table, the note begins with its `replicates`.
    """
    texts = read_yaml(Path(__file__).with_name("words.yml"))[figure]
    filled = {key: text.format(**values).strip() for key, text in texts.items()}
    if table is not None:
        filled["note"] = f"{replicates(table)} {filled['note']}"
    return filled


def replicates(table: pd.DataFrame) -> str:
    """A sentence: the number of replicates and bases in a table, and what its intervals are over,
    as `stats.unit_of` has it."""
    counts = table.groupby("base")["replicate"].nunique()
    few, many = counts.min(), counts.max()
    n = f"{few}" if few == many else f"{few}-{many}"
    over = stats.unit_of(counts)
    bars = f"95 % t-intervals over {over}"
    if few < 2 and over == "replicates":
        bars = "no interval where there is one replicate"
    bases = f"{len(counts)} student bases" if len(counts) > 1 else "one student base"
    return f"n = {n} replicate{'s' * (n != '1')} a base, {bases}; {bars}."


# --- looks and legends ----------------------------------------------------------------------------
def looks(names: Sequence[str], start: int = 0) -> dict[str, dict]:
    """A colour and a marker for each name, by its place, no two alike among a hundred; no line."""
    return {
        name: {"color": COLOURS[i % 10], "marker": MARKERS[(i + i // 10) % 10], "linestyle": "none"}
        for i, name in enumerate(names, start)
    }


def legend(figure: Figure, ax: Axes, marks: Mapping[str, dict] | None = None, **look: Any) -> None:
    """One legend for the figure, outside its panels: what is labelled in `ax`, then `marks`.

    `marks`: {name: its look}. `look` goes to `Figure.legend` (loc, ncols, title, ...); there are
    fewer columns where so many would be wider than the figure, which grows by what rows that takes.
    """
    for name, mark in (marks or {}).items():
        ax.plot([], [], label=name, **mark)
    handles, names = ax.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": 6} | look
    room = LETTERS * figure.get_figwidth() / (6 + max(map(len, names), default=0))
    ncols = max(1, min(place["ncols"], int(room)))
    figure.legend(handles, names, **(place | {"ncols": ncols}))
    n_rows = math.ceil(len(names) / ncols)
    figure.set_figheight(figure.get_figheight() + 0.16 * max(0, n_rows - 3))


# --- axes -----------------------------------------------------------------------------------------
def percent(axis: Axis) -> None:
    """Fractions of the data as percent on this axis (or percentage points)."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}".replace("-", MINUS))


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
    """Distinct values in order of appearance, without "before" and what the table has no score of
    at all (arms that were not run); where nothing has one, all."""
    table = table[table[column] != "before"]
    for value in ("accuracy", "estimate"):
        if value in table and table[value].notna().any():
            table = table[table[value].notna()]
    return list(table[column].unique())


def with_mean(table: pd.DataFrame) -> dict[str, str | None]:
    """{title: base} of each base, and None for the mean of the bases where there are several."""
    titles: dict[str, str | None] = {base: base for base in names(table, "base")}
    return titles | {f"mean of {len(titles)} bases": None} if len(titles) > 1 else titles


def cells(scores: pd.DataFrame, family: str = "ID") -> pd.DataFrame:
    """One row per (arm, base, replicate) of a family; "OOD" is the macro mean over the OOD ones."""
    return stats.macro(scores, "OOD") if family == "OOD" else scores[scores["family"] == family]


def measures(cells: pd.DataFrame, values: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """{name: cell table} of columns of one ({column: name}), each the accuracy of its table; what
    guessing scores is known of pass@1 alone."""
    return {
        name: cells
        if column == "accuracy"
        else cells.assign(accuracy=cells[column], chance=math.nan)
        for column, name in values.items()
    }


def interval(table: pd.DataFrame, arm: str, base: str | None = None) -> stats.Interval:
    """The mean of an arm of a cell table, over all bases or of one."""
    return stats.arm_interval(table if base is None else table[table["base"] == base], arm)


def centre(value: Any) -> float:
    """A number, or the estimate of what has estimate, low, high (an interval, a row of a table)."""
    return getattr(value, "estimate", value)


def whisker(value: Any) -> np.ndarray | None:
    """The lengths of its whiskers, (2, 1); None of a number, and where they are not finite."""
    if not hasattr(value, "low"):
        return None
    lengths = np.array([[value.estimate - value.low], [value.high - value.estimate]])
    return lengths if np.isfinite(lengths).all() else None


def rate(value: stats.Interval) -> Bar:
    """The interval of a pass rate, within what a rate can be; one that is none stays so."""
    low, high = value.low, value.high
    if whisker(value) is not None:
        low, high = max(0.0, low), min(1.0, high)
    return Bar(value.estimate, low, high, value.bases)


def text(value: stats.Interval) -> str:
    """'80.7 ± 2.9', in percent; without what there is not; "not measured" for nan."""
    if np.isnan(value.estimate):
        return "not measured"
    lengths = whisker(value)
    half = "" if lengths is None else f" ± {100 * lengths.mean():.1f}"
    return f"{100 * value.estimate:.1f}{half}"


class Bar(NamedTuple):
    """An interval as it is drawn."""

    estimate: float
    low: float
    high: float
    bases: Mapping[str, float]


# --- marks ----------------------------------------------------------------------------------------
def point(ax: Axes, x: Any, y: Any, **look: Any) -> None:
    """A marker at two numbers or intervals, with the whiskers of the latter."""
    ax.errorbar(centre(x), centre(y), xerr=whisker(x), yerr=whisker(y), **(POINT | look))


def with_bases(ax: Axes, value: Any, y: float, below: float = 0.3, **look: Any) -> None:
    """A marker with its whiskers at a height y, and so far below it a dot a base (`value.bases`).

    To be called with the final limits of x: what leaves them ends in an arrow at the edge.
    """
    low, high = ax.get_xlim()
    inside = Bar(value.estimate, max(low, value.low), min(high, value.high), {})
    point(ax, value if whisker(value) is None else inside, y, **({"zorder": 4} | look))
    marks = [(dot, y + below, "o", DOT) for dot in (getattr(value, "bases", None) or {}).values()]
    ends = [end for end in (value.low, value.high) if not low <= end <= high]
    marks += [(end, y, "", {"color": look["color"], "zorder": 4}) for end in ends]
    for x, height, marker, mark in marks:
        if x is not None and math.isfinite(x):
            marker = "<" if x < low else ">" if x > high else marker
            x = float(np.clip(x, low, high))
            ax.plot(x, height, marker, markersize=3.5, clip_on=False, **mark)


def guessing(tables: Iterable[pd.DataFrame]) -> str:
    """What guessing scores in each of these cell tables, as far as it is known, as a caption says
    it."""
    chances = (stats.chance(table) for table in tables)
    return " / ".join(dict.fromkeys(number(rate) for rate in chances if math.isfinite(rate)))


def rates_on(axis: Axis, means: Iterable[Bar], chance: float = 0.0) -> None:
    """Limits of an axis for pass rates and their bases, within what a rate can be; whiskers stretch
    them by 10 points at most, as does the line of guessing, where it is not farther away.
    """
    means = [mean for mean in means if math.isfinite(mean.estimate)]
    points = [value for mean in means for value in (mean.estimate, *mean.bases.values())]
    low, high = min(points, default=0.0), max(points, default=1.0)
    floor = chance if chance > low - 0.1 else low
    ends = [floor, *(end for mean in means for end in (mean.low, mean.high))]
    near = np.clip([end for end in ends if math.isfinite(end)], low - 0.1, high + 0.1)
    low, high = min(low, near.min()) - 0.005, max(high, near.max()) + 0.005
    low, high = max(0.0, low), min(1.0, max(high, low + 0.04))
    margin = 0.04 * (high - low)
    axis.axes.set(**{f"{axis.axis_name}lim": (low - margin, high + margin)})
    if chance and low <= chance <= high:
        line = axis.axes.axvline if axis.axis_name == "x" else axis.axes.axhline
        line(chance, **CHANCE)
    percent(axis)


def level(ax: Axes, value: Any) -> None:
    """An interval as a level to compare with: a dashed line and a faint band."""
    ax.axhline(value.estimate, **BEFORE)
    if whisker(value) is not None:
        ax.axhspan(value.low, value.high, color="0.5", alpha=0.15, linewidth=0, zorder=0)


def pale_steps(ax: Axes, points: np.ndarray, where: str) -> None:
    """A frontier: broad pale steps through the (n, 2) points, behind all else."""
    ax.step(*points.T, where=where, color=BLUE, linewidth=4, alpha=0.3, zorder=1)
