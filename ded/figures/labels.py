"""Names beside their points. adjustText was tried: its names left the axes and covered whiskers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .parts import centre, whisker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REACHES = (6, 10, 15, 21, 29, 38)  # points between a name and what it names
ANGLES = np.linspace(0, 2 * math.pi, 16, endpoint=False)
FAR = 10  # points beyond which a thin line leads from the name to its point
LINE = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.5", "shrinkA": 0, "shrinkB": 2}


@dataclass
class Named:
    """A name, and the point that it names: two numbers or intervals."""

    name: str
    x: Any
    y: Any


@dataclass
class Spot:
    """A place for a name, in pixels; `toward` leads there from its point, `reach` is in points."""

    middle: np.ndarray
    toward: np.ndarray
    reach: float


def label(ax: Axes, points: Sequence[Named], avoid: Sequence[tuple] = ()) -> None:
    """Names beside their points, each where it covers least.

    `avoid`: more points (x, y; numbers or intervals) not to cover. To be called last: names are
    placed in the pixels of the final layout and limits. Far ones get a thin line.
    """
    from matplotlib.patheffects import withStroke

    ax.figure.draw_without_rendering()
    renderer, scale = ax.figure.canvas.get_renderer(), ax.figure.dpi / 72
    shown = [named for named in points if np.isfinite([centre(named.x), centre(named.y)]).all()]
    if not shown:
        return
    places = [(centre(named.x), centre(named.y)) for named in shown]
    homes = ax.transData.transform(places)
    ink = _ink(ax, [*((named.x, named.y) for named in points), *avoid])
    ground = Ground(ax, ink, homes, scale)
    readable = [withStroke(linewidth=1.5, foreground="white")]  # across a line
    looks = {"ha": "center", "va": "center", "fontsize": 7, "path_effects": readable}
    for named, place, home in zip(shown, places, homes, strict=True):
        note = ax.annotate(named.name, place, (0, 0), textcoords="offset points", zorder=6, **looks)
        note.set_in_layout(False)
        half = np.array(note.get_window_extent(renderer).size) / 2
        spot = ground.best_spot(home, half)
        note.set_position((spot.middle - home) / scale)
        if spot.reach > FAR:
            end = (spot.middle - spot.toward * half - home) / scale
            line = ax.annotate("", place, end, textcoords="offset points", arrowprops=LINE)
            line.set_in_layout(False)


def _ink(ax: Axes, points: Sequence[tuple[Any, Any]]) -> np.ndarray:
    """Pixels that a name should not cover: points, and some along their whiskers."""
    ink = []
    for x, y in points:
        ink.append((centre(x), centre(y)))
        if whisker(x) is not None:
            ink += [(end, centre(y)) for end in np.linspace(x.low, x.high, 12)]
        if whisker(y) is not None:
            ink += [(centre(x), end) for end in np.linspace(y.low, y.high, 12)]
    return ax.transData.transform(ink)


class Ground:
    """What a panel holds, in pixels: ink, the points that have names, the names placed so far."""

    def __init__(self, ax: Axes, ink: np.ndarray, homes: np.ndarray, scale: float) -> None:
        self.frame = ax.get_window_extent()
        self.ink, self.homes, self.scale = ink, homes, scale
        self.taken: list[tuple[np.ndarray, np.ndarray]] = []

    def best_spot(self, home: np.ndarray, half: np.ndarray) -> Spot:
        """The cheapest place for a name of half size `half` around `home`; it is then taken."""
        spots = []
        for reach in REACHES:
            for angle in ANGLES:
                toward = np.array([math.cos(angle), math.sin(angle)])
                spots.append(Spot(home + toward * (half + reach * self.scale), toward, reach))
        best = min(spots, key=lambda spot: self._cost(spot, home, half))
        self.taken.append((best.middle, half + self.scale))
        return best

    def _cost(self, spot: Spot, home: np.ndarray, half: np.ndarray) -> float:
        """Dearest is to leave the frame, then to cover a name, a nearer point, ink; then reach."""
        middle = spot.middle
        outside = (middle - half < self.frame.min).any() or (middle + half > self.frame.max).any()
        over = sum(
            (np.abs(middle - other) < half + other_half).all() for other, other_half in self.taken
        )
        covered = (np.abs(self.ink - middle) < half + 1.5 * self.scale).all(axis=1).sum()
        gaps = np.linalg.norm(np.maximum(np.abs(self.homes - middle) - half, 0), axis=1)
        own_gap = np.linalg.norm(np.maximum(np.abs(home - middle) - half, 0))
        nearer = (gaps < own_gap - 0.5).sum()
        return 100 * outside + 30 * over + 3 * nearer + 2 * covered + 0.12 * spot.reach
