"""What the figures share: style, canvas and caption, points with whiskers, names beside points; and forest plots."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ded import stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.0  # inches: the width of a page's text
MARKERS = "osD^vPX<>*"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
# seaborn's "colorblind", its yellow and pink darkened, which are lost on white
COLOURS = (
    "#0173b2",
    "#de8f05",
    "#029e73",
    "#d55e00",
    "#cc78bc",
    "#ca9161",
    "#56b4e9",
    "#949494",
    "#a89c00",
    "#7a5195",
)
DASHED = (0, (4, 2))
MINUS = "\N{MINUS SIGN}"


# --- style and canvas -------------------------------------------------------------------------------------------------
@contextmanager
def style() -> Iterator[None]:
    """The house style (seaborn "ticks", paper-size fonts) for what is drawn inside."""
    import matplotlib as mpl
    import seaborn as sns  # its import of pyplot also makes notebooks show a returned Figure

    small = dict.fromkeys(
        ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize"), 7.5
    )
    rc = (
        sns.plotting_context("paper")
        | sns.axes_style("ticks")
        | small
        | {
            "axes.labelsize": 8.5,
            "axes.titlesize": 8.5,
            "font.size": 8,
            "font.family": "DejaVu Sans",
            "axes.grid": True,
            "grid.color": "0.92",
            "grid.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.8,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "legend.frameon": False,
            "lines.markersize": 5,
            "figure.dpi": 110,
        }
    )
    with mpl.rc_context(rc):
        yield


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorates a function that makes a Figure: the house style from its first line to its last tick."""

    @wraps(draw)
    def figure(*args: Any, **kwargs: Any) -> Figure:
        with style():
            made = draw(*args, **kwargs)
            made.draw_without_rendering()  # ticks are made on drawing: here, while the style holds
            made.set_layout_engine(
                "none"
            )  # constrained layout moves a little with each drawing: kept as it is now
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
    """A Figure with `panels` axes, `height` inches a row, axis names on the outer ones, a small caption under them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, panels)
    rows, lines = math.ceil(panels / columns), textwrap.wrap(note, int(width * 19))
    figure = Figure((width, height * rows + 0.12 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, **share).flat)
    for empty in axes[panels:]:
        empty.set_axis_off()
    for ax in axes[
        max(0, panels - columns) : panels
    ]:  # the last of each column, also above an empty cell
        ax.set_xlabel(x)
        ax.xaxis.set_tick_params(labelbottom=True)
    for ax in axes[:panels]:
        ax.tick_params(
            labelsize=7.5
        )  # said to the axes: how many ticks fit is asked again when the style no longer holds
    for ax in axes[:panels:columns]:
        ax.set_ylabel(y)
    figure.supxlabel("\n".join(lines), x=0.005, ha="left", fontsize=6.5, color="0.35")
    return figure, axes[:panels]


def caption(table: pd.DataFrame, more: str = "") -> str:
    """The number of replicates and bases in a table, what the whiskers are, and `more`."""
    counts = table.groupby("base")["replicate"].nunique()
    n = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}-{counts.max()}"
    bars = (
        "95 % t-intervals over replicates"
        if counts.min() > 1
        else "no interval where there is one replicate"
    )
    bases = f"{len(counts)} student bases" if len(counts) > 1 else "one student base"
    return f"n = {n} replicate{'s' * (n != '1')} a base, {bases}; {bars}. {more}".strip()


def looks(names: Sequence[str], start: int = 0) -> dict[str, dict]:
    """A colour and a marker for each name, by its place."""
    spots = enumerate(names, start)
    return {
        n: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, n in spots
    }


def percent(*axes: Any) -> None:
    """Fractions of the data as percent on these axes (or percentage points)."""
    for axis in axes:
        axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}".replace("-", MINUS))


def scores_on(*axes: Any) -> None:
    """Percent on these axes of pass rates; limits stay within what a rate can be. To be called when all is drawn."""
    percent(*axes)
    for axis in axes:
        low, high = getattr(axis.axes, f"get_{axis.axis_name}lim")()
        margin = 0.04 * (
            min(high, 1) - max(low, 0)
        )  # of what is shown: no tick lies beyond 0 or 100 %
        axis.axes.set(**{f"{axis.axis_name}lim": (max(low, -margin), min(high, 1 + margin))})


# --- numbers ----------------------------------------------------------------------------------------------------------
def names(table: pd.DataFrame, column: str = "arm") -> list[str]:
    """Distinct values in order of appearance, "before" aside."""
    return [name for name in dict.fromkeys(table[column]) if name != "before"]


def cells(scores: pd.DataFrame, family: str = "ID", value: str = "accuracy") -> pd.DataFrame:
    """One row per (arm, base, replicate): those of one family, or for "OOD" the macro mean over the OOD families."""
    return (
        stats.macro(scores, "OOD", value) if family == "OOD" else scores[scores["family"] == family]
    )


def interval(
    table: pd.DataFrame, arm: str, base: str | None = None, value: str = "accuracy"
) -> stats.Interval:
    """The mean of an arm of a cell table, over all bases or of one."""
    return stats.arm_interval(table if base is None else table[table["base"] == base], arm, value)


def bar(value: Any) -> tuple[float, np.ndarray | None]:
    """(number, its whiskers' lengths) of a number or of what has estimate, low, high; None where these are infinite."""
    if not hasattr(value, "low"):
        return value, None
    lengths = np.array([[value.estimate - value.low], [value.high - value.estimate]])
    return value.estimate, lengths if np.isfinite(lengths).all() else None


def text(value: stats.Interval) -> str:
    """'80.7 ± 2.9', in percent; without the half-width where there is none; "not measured" for nan."""
    at, bars = bar(value)
    if np.isnan(at):
        return "not measured"
    return f"{100 * at:.1f}" + ("" if bars is None else f" ± {100 * bars.mean():.1f}")


# --- marks ------------------------------------------------------------------------------------------------------------
def point(ax: Axes, x: Any, y: Any, **look: Any) -> None:
    """A marker at two numbers or intervals, with the whiskers of the latter."""
    (at_x, x_bar), (at_y, y_bar) = bar(x), bar(y)
    plain = {
        "linestyle": "none",
        "elinewidth": 1,
        "capsize": 1.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }
    ax.errorbar(at_x, at_y, xerr=x_bar, yerr=y_bar, **(plain | look))


def before_line(
    ax: Axes,
    table: pd.DataFrame,
    base: str | None = None,
    value: str = "accuracy",
    vertical: bool = False,
) -> None:
    """The student before distillation (arm "before", if the table has it): a dashed line, its interval a faint band."""
    if not (table["arm"] == "before").any():
        return
    found = interval(table, "before", base, value)
    line, span = (ax.axvline, ax.axvspan) if vertical else (ax.axhline, ax.axhspan)
    line(found.estimate, color="0.25", linestyle=DASHED, linewidth=1, zorder=1)
    if bar(found)[1] is not None:
        span(found.low, found.high, color="0.5", alpha=0.15, linewidth=0, zorder=0)


def label(
    ax: Axes, points: Mapping[str, tuple], avoid: Sequence[tuple] = (), size: float = 7
) -> None:
    """Names beside their points (pairs of numbers or intervals), each where it covers least: points, whiskers, names.

    `avoid`: more points (numbers or intervals) not to cover. To be called last: names are placed in the pixels of the
    final layout and limits. Far ones get a thin line.
    """
    from matplotlib.patheffects import withStroke

    ax.figure.draw_without_rendering()
    renderer, scale, frame = (
        ax.figure.canvas.get_renderer(),
        ax.figure.dpi / 72,
        ax.get_window_extent(),
    )
    at = {name: tuple(bar(v)[0] for v in pair) for name, pair in points.items()}
    at = {name: pair for name, pair in at.items() if np.isfinite(pair).all()}
    ink, taken = [], []
    for x, y in [*points.values(), *avoid]:
        (at_x, x_bar), (at_y, y_bar) = bar(x), bar(y)
        ink.append((at_x, at_y))
        ink += [] if x_bar is None else [(end, at_y) for end in np.linspace(x.low, x.high, 12)]
        ink += [] if y_bar is None else [(at_x, end) for end in np.linspace(y.low, y.high, 12)]
    ink, homes = (
        ax.transData.transform(ink),
        ax.transData.transform(list(at.values())) if at else [],
    )
    for name, pair in at.items():
        where = {
            "textcoords": "offset points",
            "fontsize": size,
            "ha": "center",
            "va": "center",
            "zorder": 6,
            "path_effects": [withStroke(linewidth=1.5, foreground="white")],
        }  # readable across a line
        note, home = ax.annotate(name, pair, (0, 0), **where), ax.transData.transform(pair)
        note.set_in_layout(False)
        half = np.array(note.get_window_extent(renderer).size) / 2
        spots = []
        for reach in (6, 10, 15, 21, 29, 38):
            for angle in np.linspace(0, 2 * math.pi, 16, endpoint=False):
                toward = np.array([math.cos(angle), math.sin(angle)])
                middle = home + toward * (half + reach * scale)
                over = sum(
                    bool((np.abs(middle - other) < half + size_).all()) for other, size_ in taken
                )
                covered = int((np.abs(ink - middle) < half + 1.5 * scale).all(axis=1).sum())
                outside = bool(
                    (middle - half < frame.min).any() or (middle + half > frame.max).any()
                )
                gaps = np.linalg.norm(np.maximum(np.abs(homes - middle) - half, 0), axis=1)
                foreign = int(
                    (gaps < np.linalg.norm(np.maximum(np.abs(home - middle) - half, 0)) - 0.5).sum()
                )  # points that are nearer
                cost = 30 * over + 2 * covered + 100 * outside + 0.12 * reach + 3 * foreign
                spots.append((cost, len(spots), reach, toward, middle))
        *_, reach, toward, middle = min(spots, key=lambda spot: spot[:2])
        taken.append((middle, half + scale))
        note.set_position((middle - home) / scale)
        if reach > 10:
            arrow = {
                "arrowstyle": "-",
                "linewidth": 0.5,
                "color": "0.5",
                "shrinkA": 0,
                "shrinkB": 2,
            }
            offset = (middle - toward * half - home) / scale
            ax.annotate(
                "", pair, offset, textcoords="offset points", arrowprops=arrow
            ).set_in_layout(False)


# --- differences, for every notebook ----------------------------------------------------------------------------------
def claim_rows(claims: Sequence[stats.Claim]) -> pd.DataFrame:
    """Rows for `forest`: each measured condition of each claim, its plain 95 % interval and the claim's verdict.

    The conditions of a claim that has many stand under a heading with its verdict, which is not that of any one of them.
    """
    rows = []
    for one in claims:
        for part in one.parts:
            if part.interval is not None:
                many = len(one.parts) > 2
                name = (
                    part.label
                    if many
                    else one.name
                    if part.label in (one.name, "")
                    else f"{one.name}: {part.label}"
                )
                head = (
                    {"group": f"{one.name}: {one.verdict}", "verdict": ""}
                    if many
                    else {"group": "", "verdict": one.verdict}
                )
                rows.append({"label": name, **stats.numbers(part.interval), **head})
    return pd.DataFrame(rows)


VERDICT_LOOKS = {
    "reproduced": {"marker": "D", "color": COLOURS[0]},
    "not reproduced": {"marker": "X", "color": COLOURS[3]},
}


@styled
def forest(
    rows: pd.DataFrame,
    delta: float = stats.DELTA,
    xlabel: str = "difference in pass@1 (percentage points)",
    by_base: pd.DataFrame | None = None,
    note: str = "",
) -> Figure:
    """Differences with their 95 % intervals, the zero line and the band of ±delta in which a difference matters little.

    `rows`: label, estimate, low, high (fractions) and, where known, group (a heading), verdict, n. `by_base`: label,
    base, estimate, drawn as small markers under the interval of that label.
    """
    rows = rows.reset_index(drop=True)
    groups = rows["group"] if "group" in rows else pd.Series("", index=rows.index)
    fresh = groups.ne(
        groups.shift(fill_value="")
    )  # a heading takes a line, and so does the end of what stands under one
    head, place = fresh & groups.ne(""), pd.Series(rows.index, rows.index) + fresh.cumsum()
    counted = (
        f"n = {rows['n'].min():g} or more replicates. "
        if "n" in rows and rows["n"].notna().any()
        else ""
    )
    note = (
        f"{counted}Whiskers: unadjusted 95 % intervals; a verdict takes the adjusted bound, and all parts of its claim. "
        f"Shaded: within ±{100 * delta:g} points. {note}"
    )
    labels = [textwrap.fill(str(name), 44) for name in rows["label"]]
    step = 0.32 if any("\n" in name for name in labels) else 0.24
    figure, (ax,) = canvas(
        1, 1, 0.8 + step * (place.max() + 1) + 0.3 * (by_base is not None), note, xlabel
    )
    ax.axvspan(-delta, delta, color="0.92", linewidth=0, zorder=0)
    ax.axvline(0, color="black", linewidth=0.8, zorder=1)
    side = ax.get_yaxis_transform()
    for y, row in zip(place, rows.itertuples(index=False)):
        verdict = getattr(row, "verdict", "")
        look = VERDICT_LOOKS.get(verdict, {"marker": "o", "color": "0.3"})
        point(ax, row, y, zorder=4, **look)
        ax.text(1.01, y, verdict, transform=side, va="center", fontsize=7.5, color=look["color"])
    for y, name in zip(place[head], groups[head]):
        ax.text(
            0.01,
            y - 1,
            name,
            transform=side,
            va="center",
            fontsize=7.5,
            fontweight="bold",
            bbox={"color": "white", "pad": 1},
        )
    if by_base is not None:
        where = dict(zip(rows["label"], place))
        for base, look in looks(names(by_base, "base")).items():
            part = by_base[(by_base["base"] == base) & by_base["label"].isin(list(where))]
            y = part["label"].map(where) + 0.3
            ax.plot(part["estimate"], y, linestyle="none", markersize=3, label=base, **look)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=6)
    ax.set(yticks=place, yticklabels=labels, ylim=(place.max() + 0.6, -0.6))
    ax.grid(axis="y", visible=False)
    percent(ax.xaxis)
    return figure
