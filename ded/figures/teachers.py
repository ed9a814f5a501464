"""Teachers: against their students, in each base, and what might foretell a good one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ded import stats

from . import parts
from .labels import Named, label

ARROW = {"arrowstyle": "->,head_width=0.25", "color": "black", "linewidth": 1.5}
RING = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": "black"}


@parts.styled
def teacher_vs_student(
    own: pd.DataFrame, student: pd.DataFrame, before: pd.DataFrame
) -> parts.Figure:
    """The headline of 01: a teacher's ID pass@1 (x), that of the student distilled from it (y).

    A panel a base. Score rows of the teachers themselves, of their students (arm = teacher) and of
    the bases (arm "before", dashed).
    """
    own, student, before = (parts.cells(table) for table in (own, student, before))
    panels = parts.with_mean(student)
    words = parts.words("teacher_vs_student", student)
    figure, axes = parts.canvas(list(panels), 2, 2.6, words, sharex=True, sharey=True)
    named: list[list[Named]] = []
    for ax, base in zip(axes, panels.values(), strict=True):
        points = []
        for arm, look in parts.looks(parts.names(student)).items():
            x, y = parts.interval(own, arm, base), parts.interval(student, arm, base)
            parts.point(ax, x, y, **look)
            points.append(Named(arm, x, y))
        best = max(points, key=lambda point: np.nan_to_num(point.y.estimate, nan=-1))
        ax.plot(*best.place, "o", **RING)
        parts.before_level(ax, before, base)
        ax.margins(0.12, 0.1)
        named.append(points)
    for ax in axes:
        parts.scores_on(ax.xaxis, ax.yaxis)  # and fixes the limits: the diagonal stretches nothing
        ax.axline((0, 0), slope=1, color="0.5", linestyle=":", linewidth=0.9, zorder=0)
    for ax, points in zip(axes, named, strict=True):
        label(ax, points)
    return figure


@parts.styled
def teacher_rank(own: pd.DataFrame, student: pd.DataFrame) -> parts.Figure:
    """Ranks of the teachers by their own ID pass@1 and by their students', base by base.

    A flip of order is a crossing.
    """
    own, student = parts.cells(own), parts.cells(student)
    arms = parts.names(student)
    columns = {"own score": {arm: parts.interval(own, arm) for arm in arms}}
    for title, base in parts.with_mean(student).items():
        columns[f"student\n{title}"] = {arm: parts.interval(student, arm, base) for arm in arms}
    rankings = [_ranked(scores) for scores in columns.values()]
    words = parts.words("teacher_rank", student)
    figure, (ax,) = parts.canvas([""], 1, 0.8 + 0.4 * len(arms), words)
    on_white = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}
    small = {"ha": "center", "va": "top", "fontsize": 6.5, "zorder": 3, "bbox": on_white}
    for arm, look in parts.looks(arms).items():
        ranks = [ranking.index(arm) + 1 for ranking in rankings]
        width = 2.8 if arm == rankings[0][0] else 1.2
        ax.plot(ranks, **(look | {"linewidth": width, "linestyle": "-", "markersize": 6}))
        for i, (rank, scores) in enumerate(zip(ranks, columns.values(), strict=True)):
            ax.text(i, rank + 0.22, parts.text(scores[arm]), **small)
        ax.text(len(columns) - 0.6, ranks[-1], arm, va="center", fontsize=7.5)
    ax.set_xticks(range(len(columns)), columns)
    ax.set(xlim=(-0.5, len(columns) - 0.6), ylim=(len(arms) + 0.8, 0.5))
    ticks = [f"{arm}  {rank}" for rank, arm in enumerate(rankings[0], 1)]
    ax.set_yticks(range(1, len(arms) + 1), ticks)
    ax.grid(visible=False)
    return figure


def _ranked(scores: dict[str, stats.Interval]) -> list[str]:
    """The arms, best first; those without a score last."""
    return sorted(scores, key=lambda arm: -np.nan_to_num(scores[arm].estimate, nan=-1))


@parts.styled
def teacher_interaction(student: pd.DataFrame) -> parts.Figure:
    """Heat map of the students' ID pass@1 by teacher and base, and the mean of the bases.

    A column's best is framed; what was not measured is empty.
    """
    import seaborn
    from matplotlib.patches import Rectangle

    table = parts.cells(student)
    arms, columns = parts.names(table), parts.with_mean(table)
    scores = {
        title: [parts.interval(table, arm, base) for arm in arms] for title, base in columns.items()
    }
    intervals = pd.DataFrame(scores, index=arms)
    values, texts = intervals.map(parts.centre), intervals.map(parts.text)
    words = parts.words("teacher_interaction", table)
    width = min(parts.WIDTH, 2.2 + 1.1 * len(columns))
    figure, (ax,) = parts.canvas([""], 1, 0.7 + 0.33 * len(arms), words, width=width)
    look = {"cmap": seaborn.light_palette(parts.SKY, as_cmap=True), "annot_kws": {"color": "black"}}
    seaborn.heatmap(values, annot=texts, fmt="", cbar=False, ax=ax, **look)
    for cell in ax.texts:
        x, y = (int(middle) for middle in cell.get_position())
        if values.iat[y, x] == values.iloc[:, x].max():
            cell.set_fontweight("bold")  # the frame is faint in black and white
            frame = {"fill": False, "edgecolor": parts.RED, "linewidth": 2.2}
            ax.add_patch(Rectangle((x + 0.03, y + 0.05), 0.94, 0.9, **frame))
    ax.set(xlabel="student base", ylabel="teacher")
    ax.tick_params(axis="y", rotation=0)
    return figure


@parts.styled
def latent_shift(shifts: Sequence[tuple[str, Sequence, Sequence]]) -> parts.Figure:
    """Hidden states before and after distillation, in the plane of their PCA.

    `shifts`: (label, before, after), both (n, 2).
    """
    titles = [name for name, _, _ in shifts]
    figure, axes = parts.canvas(
        titles, 4, 1.9, parts.words("latent_shift"), sharex=True, sharey=True
    )
    hollow = {"markerfacecolor": "none", "markeredgecolor": "0.45"}
    for ax, (name, before, after) in zip(axes, shifts, strict=True):
        old, new = (np.asarray(states, float)[:, :2] for states in (before, after))
        ax.plot(*np.stack([old, new]).transpose(2, 0, 1), color="0.8", linewidth=0.6, zorder=1)
        ax.plot(*old.T, "o", markersize=3, label="before", **hollow)
        ax.plot(*new.T, "^", markersize=3, label="after", color=parts.RED, alpha=0.6)
        start, end = old.mean(axis=0), new.mean(axis=0)
        ax.annotate("", end, start, arrowprops=ARROW | {"shrinkA": 0, "shrinkB": 0})
        ax.set_title(f"{name}\nshift {np.linalg.norm(end - start):.2f}")
    parts.legend(figure, axes[0], loc="outside upper right", markerscale=1.6)
    return figure


# --- what might foretell a good teacher -----------------------------------------------------------
def rank_correlations(points: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rho of each predictor with the gain, over the teachers of a base. Descriptive.

    `points`: predictor (its name with the unit), teacher, base, turn, value, gain (a fraction),
    seconds; see `study.teachers.points`. A base's rho is the mean of its turns'. One row a
    predictor: predictor, estimate, low, high (over bases), se, df, n (bases), seconds (what it
    costs for one teacher and base).
    """
    rows = []
    for name, part in points.groupby("predictor", sort=False):
        by_turn = {
            (base, turn): cells[["value", "gain"]].dropna().rank().corr(min_periods=3).iat[0, 1]
            for (base, turn), cells in part.groupby(["base", "turn"], sort=False)
        }
        rhos = pd.Series(by_turn, dtype=float).groupby(level=0, sort=False).mean()
        rhos = rhos.dropna() if rhos.notna().any() else rhos
        cells = pd.DataFrame({"arm": name, "base": rhos.index, "replicate": 0, "value": rhos})
        rho = stats.numbers(stats.arm_interval(cells, name, "value"))
        rows.append({"predictor": name, **rho, "seconds": part["seconds"].mean()})
    return pd.DataFrame(rows)


@parts.styled
def predictors(points: pd.DataFrame, note: str = "") -> parts.Figure:
    """Scores of a teacher against the gain of the student distilled from it: a panel a predictor.

    `points` as for `rank_correlations`, whose rho stands in the titles, with what the predictor
    costs; drawn are those of the first turn. Both axes are less the base's mean over teachers: pale
    marks are teachers in one base, full ones their means over bases.
    """
    ranks = rank_correlations(points)
    titles = [_rho(rank) for rank in ranks.itertuples()]
    words = parts.words("predictors", note=note)
    figure, axes = parts.canvas(titles, 3, 1.9, words, sharey=True)
    teachers = parts.looks(parts.names(points, "teacher"))
    # a mean over turns would show the smoke test, which is the gain of others, on a diagonal
    drawn = points[points["turn"] == 0].set_index(["predictor", "base", "teacher"])
    drawn = drawn[["value", "gain"]].dropna()
    centred = drawn - drawn.groupby(["predictor", "base"]).transform("mean")
    for ax, name in zip(axes, ranks["predictor"], strict=True):
        panel = centred[centred.index.get_level_values("predictor") == name]
        for teacher, look in teachers.items():
            of_teacher = panel[panel.index.get_level_values("teacher") == teacher]
            ax.plot(*of_teacher.to_numpy().T, **look, markersize=3, alpha=0.35)
            ax.plot(*of_teacher.mean(), **(look | parts.WHITE_EDGE), markersize=7, zorder=3)
        ax.axhline(0, color="black", linewidth=0.8, zorder=1)
        ax.axvline(0, color="black", linewidth=0.8, zorder=1)
        ax.set_xlabel(textwrap.fill(name, 26))
        parts.percent(ax.yaxis)
    parts.legend(figure, axes[0], teachers, ncols=5)
    return figure


def _rho(rank: Any) -> str:
    """A rank correlation in words, and what the predictor costs."""
    if np.isnan(rank.estimate):
        return "rho: not measured"
    ends = "" if parts.whisker(rank) is None else f" [{rank.low:+.2f}, {rank.high:+.2f}]"
    cost = "" if np.isnan(rank.seconds) else f"\n{rank.seconds:.2g} s"
    return f"rho {rank.estimate:+.2f}{ends}".replace("-", parts.MINUS) + cost
