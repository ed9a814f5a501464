"""Teachers: against their students, in each base, and what might foretell a good one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ded import stats, tables
from ded.wording import number

from . import parts

ARROW = {"arrowstyle": "->,head_width=0.25", "color": "black", "linewidth": 1.5}
RING = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": "black", "clip_on": False}


@parts.styled
def teacher_vs_student(
    own: pd.DataFrame, student: pd.DataFrame, before: pd.DataFrame
) -> parts.Figure:
    """A teacher's ID pass@1 (x), that of the student distilled from it (y): a panel a base.

    Score rows of the teachers themselves, of their students (arm = teacher) and of the bases (arm
    "before", dashed). The best students are ringed; those of teachers without an own score stand at
    the left edge.
    """
    own, student, before = (parts.cells(table) for table in (own, student, before))
    panels, teachers = parts.with_mean(student), parts.looks(parts.names(student))
    chance = stats.chance(student)
    words = parts.words("teacher_vs_student", student, chance=number(chance))
    figure, axes = parts.canvas(list(panels), 4, 1.8, words, sharex=True, sharey=True)
    shown_x, shown_y = [], []
    for ax, base in zip(axes, panels.values(), strict=True):
        whole = base is None or len(panels) == 1
        xs, ys = (_bars(table, teachers, base, whole) for table in (own, student))
        (level,) = _bars(before, ["before"], base, whole)
        parts.level(ax, level)
        edge = {"transform": ax.get_yaxis_transform()}
        best = np.nanmax([y.estimate for y in ys], initial=-1)
        for x, y, look in zip(xs, ys, teachers.values(), strict=True):
            place, at = (x, {}) if np.isfinite(x.estimate) else (0.015, edge)
            parts.point(ax, place, y, **(look | at))
            if y.estimate == best:
                ax.plot(parts.centre(place), best, "o", **(RING | at))
        shown_x += xs
        shown_y += [*ys, level]
    for ax in axes:
        parts.rates_on(ax.xaxis, shown_x)  # limits that the diagonal does not stretch
        parts.rates_on(ax.yaxis, shown_y, chance)
        if own["accuracy"].notna().any():
            ax.axline((0, 0), slope=1, color="0.7", linewidth=0.9, zorder=0)
        else:
            ax.set_xticks([])
    parts.legend(figure, axes[0], teachers, ncols=5)
    return figure


def _bars(
    table: pd.DataFrame, arms: Iterable[str], base: str | None, whole: bool
) -> list[parts.Bar]:
    """The mean of each arm; not of `whole`, without its interval, for the few replicates of one
    base among several say nothing."""
    bars = [parts.rate(parts.interval(table, arm, base)) for arm in arms]
    return bars if whole else [bar._replace(low=np.nan, high=np.nan) for bar in bars]


@parts.styled
def teacher_interaction(student: pd.DataFrame) -> parts.Figure:
    """Heat map of the students' ID pass@1 by teacher and base, and the mean of the bases.

    What was not measured is empty.
    """
    import seaborn

    table = parts.cells(student)
    arms, columns = parts.names(table), parts.with_mean(table)
    bars = {
        title: _bars(table, arms, base, base is None or len(columns) == 1)
        for title, base in columns.items()
    }
    intervals = pd.DataFrame(bars, index=arms)
    values = intervals.map(parts.centre)
    texts = intervals.map(lambda bar: parts.text(bar).replace(" ± ", "\n± "))
    words = parts.words("teacher_interaction", table, chance=number(stats.chance(table)))
    width = min(parts.WIDTH, 2.2 + 1.1 * len(columns))
    figure, (ax,) = parts.canvas([""], 1, 0.9 + 0.33 * len(arms), words, width=width)
    look = {
        "cmap": seaborn.light_palette(parts.SKY, as_cmap=True),
        "annot_kws": {"color": "black", "size": 6.5},
    }
    seaborn.heatmap(values, annot=texts, fmt="", cbar=False, ax=ax, **look)
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
        if np.isfinite(rho["low"]):  # of one base there is no interval
            rho |= {"low": max(-1.0, rho["low"]), "high": min(1.0, rho["high"])}
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
    published = [
        f"{row.score} {row.spearman} ({row.note}; {row.source})"
        for row in tables.reported(["foretelling"]).itertuples()
    ]
    words = parts.words("predictors", note=note, published=", ".join(published))
    figure, axes = parts.canvas(titles, 3, 1.9, words, sharey=True)
    teachers = parts.looks(parts.names(points.dropna(subset="gain"), "teacher"))
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
        if panel.empty:
            ax.set_xticks([])
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
