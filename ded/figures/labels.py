"""Names beside their points. adjustText was tried: its names left the axes and covered whiskers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .parts import centre, whisker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

REACHES = np.repeat([6, 10, 15, 21, 29, 38], 16)  # points between a name and what it names
ANGLES = np.tile(np.linspace(0, 2 * math.pi, 16, endpoint=False), 6)
TOWARD = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
FAR = 10  # points beyond which a thin line leads from the name to its point
LINE = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.5", "shrinkA": 0, "shrinkB": 2}


@dataclass
class Named:
    """A name, and the point that it names: two numbers or intervals."""

    name: str
    x: Any
    y: Any

    @property
    def place(self) -> tuple[float, float]:
        """Where the point stands."""
        return centre(self.x), centre(self.y)


def label(ax: Axes, points: Sequence[Named], avoid: Sequence[Named] = ()) -> None:
    """Names beside their points, each where it covers least.

    `avoid`: more points not to cover, whose names are not shown. To be called last: names are
    placed in the pixels of the final layout and limits. Far ones get a thin line.
    """
    from matplotlib.patheffects import withStroke

    ax.figure.draw_without_rendering()
    renderer, scale = ax.figure.canvas.get_renderer(), ax.figure.dpi / 72
    shown = [named for named in points if np.isfinite(named.place).all()]
    if not shown:
        return
    homes = ax.transData.transform([named.place for named in shown])
    panel = Panel(ax.get_window_extent(), _ink(ax, [*points, *avoid]), homes, scale)
    readable = [withStroke(linewidth=1.5, foreground="white")]  # across a line
    looks = {"ha": "center", "va": "center", "fontsize": 7, "path_effects": readable}
    for named, home in zip(shown, homes, strict=True):
        note = ax.annotate(named.name, named.place, (0, 0), textcoords="offset points", **looks)
        note.set(zorder=6, in_layout=False)
        half = np.array(note.get_window_extent(renderer).size) / 2
        middles = home + TOWARD * (half + REACHES[:, None] * scale)
        best = np.argmin(panel.costs(middles, home, half))
        panel.taken.append((middles[best], half + scale))
        note.set_position((middles[best] - home) / scale)
        if REACHES[best] > FAR:
            end = (middles[best] - TOWARD[best] * half - home) / scale
            line = ax.annotate("", named.place, end, textcoords="offset points", arrowprops=LINE)
            line.set_in_layout(False)


def _ink(ax: Axes, points: Sequence[Named]) -> np.ndarray:
    """Pixels that a name should not cover: points, and some along their whiskers."""
    ink = []
    for named in points:
        x, y = named.place
        ink.append((x, y))
        if whisker(named.x) is not None:
            ink += [(end, y) for end in np.linspace(named.x.low, named.x.high, 12)]
        if whisker(named.y) is not None:
            ink += [(x, end) for end in np.linspace(named.y.low, named.y.high, 12)]
    return ax.transData.transform(ink)


@dataclass
class Panel:
    """What a panel holds, in pixels: ink, the points that have names, the names placed so far."""

    frame: Bbox
    ink: np.ndarray
    homes: np.ndarray
    scale: float  # pixels a point
    taken: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # middle, half size

    def costs(self, middles: np.ndarray, home: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Of the places (n, 2) for the middle of a name of half size `half` that belongs to `home`.

        Dearest is to leave the frame, then to cover a name, to be nearer to another point, to cover
        ink; then distance.
        """
        beyond = (middles - half < self.frame.min) | (middles + half > self.frame.max)
        over = np.zeros(len(middles))
        for other, other_half in self.taken:
            over += _within(middles - other, half + other_half)
        covered = _within(self.ink - middles[:, None], half + 1.5 * self.scale).sum(axis=1)
        gaps = _gap(self.homes - middles[:, None], half)
        nearer = (gaps < _gap(home - middles, half)[:, None] - 0.5).sum(axis=1)
        return 100 * beyond.any(axis=1) + 30 * over + 3 * nearer + 2 * covered + 0.12 * REACHES


def _within(offsets: np.ndarray, half: np.ndarray) -> np.ndarray:
    return (np.abs(offsets) < half).all(axis=-1)


def _gap(offsets: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Distance from a box of half size `half` to the points at these offsets from its middle."""
    return np.linalg.norm(np.maximum(np.abs(offsets) - half, 0), axis=-1)
