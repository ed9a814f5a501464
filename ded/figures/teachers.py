"""Figures of notebook 01: the funnel, teachers against their students, latent shifts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ded import stats

from . import parts
from .labels import Named, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARROW = {"arrowstyle": "->,head_width=0.25", "color": "black", "linewidth": 1.5}
ON_WHITE = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}


@parts.styled
def funnel(table: pd.DataFrame, by: str = "teacher") -> Figure:
    """Share of the sampled trajectories left after each step of the curation, a panel a `by`.

    `table`: step (in order), kept, dropped, base, replicate and `by` (teacher, pool). Beside a bar:
    percent and mean count.
    """
    unit = ["base", "replicate", by]
    first = table.groupby(unit, sort=False).first()
    table = table.join((first["kept"] + first["dropped"]).rename("sampled"), on=unit)
    table = table.assign(share=table["kept"] / table["sampled"].where(table["sampled"] > 0))
    shown = {name: parts.names(table[table[by] == name], "step") for name in parts.names(table, by)}
    same_steps = len({tuple(steps) for steps in shown.values()}) == 1
    beside = "Beside a bar: percent of what its panel begins with, in brackets the mean count."
    height = 0.5 + 0.2 * max(map(len, shown.values()))
    note = parts.caption(table, beside)
    figure, axes = parts.canvas(len(shown), 4, height, note, "left (%)", "step", sharey=same_steps)
    for ax, (name, steps) in zip(axes, shown.items(), strict=True):
        for row, step in enumerate(steps):
            part = table[(table[by] == name) & (table["step"] == step)]
            share = stats.stratified(part, "share")
            fade = 1 - 0.6 * row / len(steps)
            ax.barh(row, share.estimate, 0.7, color=parts.SKY, alpha=fade, edgecolor="0.3")
            parts.point(ax, share, row, marker="", color="black")
            end = share.estimate if parts.whisker(share) is None else min(share.high, 1.0)
            words = f"{100 * share.estimate:.0f} ({part['kept'].mean():.0f})"
            ax.text(end + 0.03, row, words, va="center", fontsize=6.5)
        parts.rows_on(ax, steps)
        ax.set(title=name, xlim=(0, 1.5), xticks=(0, 0.5, 1))
        ax.grid(axis="y", visible=False)
        parts.percent(ax.xaxis)
    return figure


@parts.styled
def teacher_vs_student(
    own: pd.DataFrame, student: pd.DataFrame, before: pd.DataFrame, family: str = "ID"
) -> Figure:
    """The headline of 01: a teacher's own pass@1 (x), that of the student distilled from it (y).

    A panel a base. Score rows of the teachers themselves, of their students (arm = teacher) and of
    the bases (arm "before", dashed).
    """
    own, student, before = (parts.cells(table, family) for table in (own, student, before))
    panels = parts.with_mean(parts.names(student, "base"))
    note = parts.caption(
        student,
        "Dashed: the student before distillation. Dotted: student equals teacher. "
        "Ring: the best student.",
    )
    x, y = f"teacher's own {family} pass@1 (%)", f"student's {family} pass@1 (%)"
    share = {"sharex": True, "sharey": True}
    figure, axes = parts.canvas(len(panels), 2, 2.6, note, x, y, **share)
    points: dict[Axes, list[Named]] = {}
    for ax, (title, base) in zip(axes, panels.items(), strict=True):
        points[ax] = []
        for arm, look in parts.looks(parts.names(student)).items():
            named = Named(arm, parts.interval(own, arm, base), parts.interval(student, arm, base))
            parts.point(ax, named.x, named.y, **look)
            points[ax].append(named)
        best = max(points[ax], key=lambda named: np.nan_to_num(named.y.estimate, nan=-1))
        ring = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": "black"}
        ax.plot(best.x.estimate, best.y.estimate, "o", **ring)
        parts.before_level(ax, before, base)
        ax.margins(0.12, 0.1)
        ax.set_title(title)
    for ax in axes:
        parts.scores_on(ax.xaxis, ax.yaxis)  # and fixes the limits: the diagonal stretches nothing
        ax.axline((0, 0), slope=1, color="0.5", linestyle=":", linewidth=0.9, zorder=0)
    for ax, named_points in points.items():
        label(ax, named_points)
    return figure


@parts.styled
def teacher_rank(own: pd.DataFrame, student: pd.DataFrame, family: str = "ID") -> Figure:
    """Ranks of the teachers by their own pass@1 and by their students', base by base.

    A flip of order is a crossing.
    """
    own, student = parts.cells(own, family), parts.cells(student, family)
    arms = parts.names(student)
    columns = {"own score": {arm: parts.interval(own, arm) for arm in arms}}
    for title, base in parts.with_mean(parts.names(student, "base")).items():
        columns[f"student\n{title}"] = {arm: parts.interval(student, arm, base) for arm in arms}
    rankings = [_ranked(scores) for scores in columns.values()]
    note = parts.caption(
        student,
        f"Numbers: {family} pass@1 (%) ± half of the 95 % interval. "
        "Thick: the teacher that scores best itself.",
    )
    figure, (ax,) = parts.canvas(1, 1, 0.8 + 0.4 * len(arms), note, "ranked by", "rank (1 = best)")
    small = {"ha": "center", "va": "top", "fontsize": 6.5, "zorder": 3, "bbox": ON_WHITE}
    for arm, look in parts.looks(arms).items():
        ranks = [ranking.index(arm) + 1 for ranking in rankings]
        width = 2.8 if arm == rankings[0][0] else 1.2
        ax.plot(ranks, linewidth=width, markersize=6, **look)
        for i, (rank, scores) in enumerate(zip(ranks, columns.values(), strict=True)):
            ax.text(i, rank + 0.22, parts.text(scores[arm]), **small)
        ax.text(len(columns) - 0.6, ranks[-1], arm, va="center", fontsize=7.5)
    ax.set_xticks(range(len(columns)), columns)
    ax.set(xlim=(-0.5, len(columns) - 0.6), ylim=(len(arms) + 0.8, 0.5))
    ticks = {f"{arm}  {rank}": rank for rank, arm in enumerate(rankings[0], 1)}
    ax.set_yticks(list(ticks.values()), list(ticks))
    ax.grid(visible=False)
    return figure


def _ranked(scores: dict[str, stats.Interval]) -> list[str]:
    """The arms, best first; those without a score last."""
    return sorted(scores, key=lambda arm: -np.nan_to_num(scores[arm].estimate, nan=-1))


@parts.styled
def teacher_interaction(student: pd.DataFrame, family: str = "ID") -> Figure:
    """Heat map of the students' pass@1 by teacher and base, and the mean of the bases.

    A column's best is framed.
    """
    from matplotlib.patches import Rectangle

    table = parts.cells(student, family)
    arms, columns = parts.names(table), parts.with_mean(parts.names(table, "base"))
    scores = [[parts.interval(table, arm, base) for base in columns.values()] for arm in arms]
    values = np.array([[score.estimate for score in row] for row in scores])
    best = np.fmax.reduce(values)
    half = f"Student's {family} pass@1 (%) ± half of the 95 % interval."
    note = parts.caption(table, f"{half} Framed: best of its column.")
    width = min(parts.WIDTH, 2.2 + 1.1 * len(columns))
    figure, (ax,) = parts.canvas(
        1, 1, 0.7 + 0.33 * len(arms), note, "student base", "teacher", width
    )
    image = ax.imshow(values, cmap="cividis", aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        ink = "black" if image.norm(value) > 0.55 else "white"
        weight = "bold" if value == best[x] else "normal"  # the frame is faint in black and white
        look = {"ha": "center", "va": "center", "color": ink, "fontweight": weight}
        ax.text(x, y, parts.text(scores[y][x]), **look)
    frame = {"fill": False, "edgecolor": parts.RED, "linewidth": 2.2}
    for x in np.flatnonzero(np.isfinite(best)):
        corner = x - 0.47, np.nanargmax(values[:, x]) - 0.45
        ax.add_patch(Rectangle(corner, 0.94, 0.9, **frame))
    ax.set(xticks=range(len(columns)), xticklabels=columns)
    ax.set(yticks=range(len(arms)), yticklabels=arms)
    ax.grid(visible=False)
    return figure


@parts.styled
def latent_shift(shifts: Sequence[tuple[str, Sequence, Sequence]]) -> Figure:
    """Hidden states before and after distillation, in the plane of their PCA.

    `shifts`: (label, before, after), both (n, 2).
    """
    note = (
        "Grey lines join the two states of one input; the arrow, the shift, the centroids. "
        "Each panel has the axes of its own PCA."
    )
    figure, axes = parts.canvas(len(shifts), 4, 1.9, note, "PC 1 (PCA units)", "PC 2 (PCA units)")
    hollow = {"markerfacecolor": "none", "markeredgecolor": "0.45"}
    for ax, (name, before, after) in zip(axes, shifts, strict=True):
        old, new = (np.asarray(states, float)[:, :2] for states in (before, after))
        ax.plot(*np.stack([old, new]).transpose(2, 0, 1), color="0.8", linewidth=0.6, zorder=1)
        ax.plot(*old.T, "o", markersize=3, label="before", **hollow)
        ax.plot(*new.T, "^", markersize=3, label="after", color=parts.RED, alpha=0.6)
        start, end = old.mean(axis=0), new.mean(axis=0)
        ax.annotate("", end, start, arrowprops=ARROW | {"shrinkA": 0, "shrinkB": 0})
        ax.set_title(f"{name}\nshift {np.linalg.norm(end - start):.2f}")
    marks, words = axes[0].get_legend_handles_labels()
    figure.legend(marks, words, loc="outside upper right", ncols=2, markerscale=1.6)
    return figure
