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
PREDICTORS = ["own", "token_entropy", "latent_shift", "n_tokens", "corpus_loss"]


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
    figure, axes = parts.canvas(titles, 4, 1.9, parts.words("latent_shift"))
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
def predictor_table(rows: pd.DataFrame, own: pd.DataFrame, student: pd.DataFrame) -> pd.DataFrame:
    """One row per (base, arm), means over replicates: `PREDICTORS`, the student's ID accuracy."""
    key = ["base", "arm"]
    table = rows.groupby(key, sort=False)[PREDICTORS[1:]].mean()
    for name, scores in (("own", own), ("accuracy", student)):
        table[name] = parts.cells(scores).groupby(key)["accuracy"].mean()
    return table.reset_index()


def rank_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rho of each predictor of `predictor_table` with accuracy.

    Over ranks within a base; descriptive. One row a predictor: predictor, estimate, low, high
    (bootstrap over the points), se, df, n (points).
    """
    ranks = table.groupby("base")[[*PREDICTORS, "accuracy"]].rank()
    rhos = {name: stats.spearman(ranks[name], ranks["accuracy"]) for name in PREDICTORS}
    return pd.DataFrame([{"predictor": name, **stats.numbers(rho)} for name, rho in rhos.items()])


def cheap_score_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """The same of each predictor of `cheap_scores` with the gain, and its mean cost in seconds.

    The cost is that for one teacher and base. Descriptive.
    """
    rows = []
    for name, part in table.groupby("predictor", sort=False):
        points = part.groupby(["base", "teacher"])[["value", "gain"]].mean()
        ranks = points.dropna().groupby("base").rank()
        rho = stats.spearman(ranks["value"], ranks["gain"])
        seconds = part["seconds"].mean()
        rows.append({"predictor": name, **stats.numbers(rho), "seconds": seconds})
    return pd.DataFrame(rows)


@parts.styled
def predictors(rows: pd.DataFrame, own: pd.DataFrame, student: pd.DataFrame) -> parts.Figure:
    """What might foretell a good teacher, against the smoke test: a panel a predictor.

    A point is a teacher and base. `rows`: base, replicate, arm, token_entropy, latent_shift,
    n_tokens, corpus_loss; `own`, `student`: score rows.
    """
    table = predictor_table(rows, own, student)
    titles = [_rho(rank) for rank in rank_correlations(table).itertuples()]
    own, student = parts.cells(own), parts.cells(student)
    words = parts.words("predictors", student)
    figure, axes = parts.canvas(titles, 3, 2.1, words, sharey=True)
    bases = parts.looks(parts.names(student, "base"))
    for ax, name in zip(axes, PREDICTORS, strict=True):
        source, value = (own, "accuracy") if name == "own" else (rows, name)
        for base, arm in zip(table["base"], table["arm"], strict=True):
            x = parts.interval(source, arm, base, value)
            parts.point(ax, x, parts.interval(student, arm, base), **bases[base])
        _scale(ax, words[name], table[name])
    parts.scores_on(axes[0].xaxis, *(ax.yaxis for ax in axes))
    parts.legend(figure, axes[0], bases, title="student base")
    return figure


@parts.styled
def cheap_scores(table: pd.DataFrame, note: str = "") -> parts.Figure:
    """Scores of a teacher against the gain of the student distilled from it: a panel a predictor.

    A point is a teacher and base. `table`: predictor (its name with the unit), teacher, base,
    value, gain (a fraction), seconds; replicates are averaged. In the titles Spearman's rho (see
    `cheap_score_ranks`) and what the predictor costs.
    """
    ranks = cheap_score_ranks(table)
    titles = [f"{_rho(rank)}\n{rank.seconds:.2g} s" for rank in ranks.itertuples()]
    words = parts.words("cheap_scores", note=note)
    figure, axes = parts.canvas(titles, 3, 2.1, words, sharey=True)
    bases = parts.looks(parts.names(table, "base"))
    means = table.groupby(["predictor", "base", "teacher"])[["value", "gain"]].mean()
    for ax, name in zip(axes, ranks["predictor"], strict=True):
        for base, look in bases.items():
            ax.plot(*means.loc[name, base].to_numpy().T, **parts.WHITE_EDGE, **look)
        ax.axhline(0, color="black", linewidth=0.8, zorder=1)
        _scale(ax, textwrap.fill(name, 24), means.loc[name, "value"])
        parts.percent(ax.yaxis)
    parts.legend(figure, axes[0], bases)
    return figure


def _rho(rank: Any) -> str:
    """A rank correlation in words."""
    if np.isnan(rank.estimate):
        return "rho: not measured"
    ends = "" if parts.whisker(rank) is None else f" [{rank.low:+.2f}, {rank.high:+.2f}]"
    return f"rho {rank.estimate:+.2f}{ends}".replace("-", parts.MINUS)


def _scale(ax: parts.Axes, xlabel: str, values: pd.Series) -> None:
    """Axis name and scale of a predictor's panel."""
    ax.set_xlabel(xlabel)
    if values.min() > 0 and values.max() > 20 * values.min():
        ax.set_xscale("log")
