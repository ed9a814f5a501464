"""Names beside their points. adjustText was tried: its names left the axes and covered whiskers."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .parts import centre, whisker

REACHES = np.repeat([6, 10, 15, 21, 29, 38], 16)  # points between a name and what it names
ANGLES = np.tile(np.linspace(0, 2 * math.pi, 16, endpoint=False), 6)
TOWARD = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
FAR = 10  # points beyond which a thin line leads from the name to its point
LINE = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.5", "shrinkA": 0, "shrinkB": 2}


class Named(NamedTuple):
    """A name, and the point that it names: two numbers or intervals."""

    name: str
    x: Any
    y: Any

    @property
    def place(self) -> tuple[float, float]:
        """Where the point stands."""
        return centre(self.x), centre(self.y)


def label(
    ax: Any, points: Sequence[Named], avoid: Sequence[Named] = (), path: Sequence | np.ndarray = ()
) -> None:
    """Names beside their points, each where it covers least.

    `avoid`: more points not to cover, whose names are not shown; `path`: the (n, 2) corners of a
    line not to cover. To be called last: names are placed in the pixels of the final layout and
    limits. Far ones get a thin line.
    """
    from matplotlib.patheffects import withStroke

    ax.figure.draw_without_rendering()
    renderer, scale = ax.figure.canvas.get_renderer(), ax.figure.dpi / 72
    shown = [named for named in points if np.isfinite(named.place).all()]
    if not shown:
        return
    homes = ax.transData.transform([named.place for named in shown])
    ink, frame = _ink(ax, [*points, *avoid], path), ax.get_window_extent()
    taken: list[tuple[np.ndarray, np.ndarray]] = []  # middle and half size of the names placed
    readable = [withStroke(linewidth=1.5, foreground="white")]  # across a line
    looks = {"ha": "center", "va": "center", "fontsize": 7, "path_effects": readable}
    for named, home in zip(shown, homes, strict=True):
        note = ax.annotate(named.name, named.place, (0, 0), textcoords="offset points", **looks)
        note.set(zorder=6, in_layout=False)
        half = np.array(note.get_window_extent(renderer).size) / 2
        middles = home + TOWARD * (half + REACHES[:, None] * scale)
        # dearest is to leave the frame, then to cover a name, to be nearer to another point, to
        # cover ink; then distance
        beyond = (middles - half < frame.min) | (middles + half > frame.max)
        over = sum(_within(middles - other, half + size) for other, size in taken)
        covered = _within(ink - middles[:, None], half + 1.5 * scale).sum(axis=1)
        gaps = _gap(homes - middles[:, None], half)
        nearer = (gaps < _gap(home - middles, half)[:, None] - 0.5).sum(axis=1)
        costs = 100 * beyond.any(axis=1) + 30 * over + 3 * nearer + 2 * covered + 0.12 * REACHES
        best = np.argmin(costs)
        taken.append((middles[best], half + scale))
        note.set_position((middles[best] - home) / scale)
        if REACHES[best] > FAR:
            end = (middles[best] - TOWARD[best] * half - home) / scale
            line = ax.annotate("", named.place, end, textcoords="offset points", arrowprops=LINE)
            line.set_in_layout(False)


def _ink(ax: Any, points: Sequence[Named], path: Sequence | np.ndarray) -> np.ndarray:
    """Pixels that a name should not cover: points, and some along their whiskers and the path."""
    ink = []
    for named in points:
        x, y = named.place
        ink.append((x, y))
        if whisker(named.x) is not None:
            ink += [(end, y) for end in np.linspace(named.x.low, named.x.high, 12)]
        if whisker(named.y) is not None:
            ink += [(x, end) for end in np.linspace(named.y.low, named.y.high, 12)]
    corners = ax.transData.transform(path) if len(path) else ()
    along = [np.linspace(start, end, 30) for start, end in itertools.pairwise(corners)]
    return np.concatenate([ax.transData.transform(ink), *along])


def _within(offsets: np.ndarray, half: np.ndarray) -> np.ndarray:
    return (np.abs(offsets) < half).all(axis=-1)


def _gap(offsets: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Distance from a box of half size `half` to the points at these offsets from its middle."""
    return np.linalg.norm(np.maximum(np.abs(offsets) - half, 0), axis=-1)
