"""Figures of notebook 01: the funnel, teachers against their students, and what might foretell a good teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ded import stats

from .parts import (
    COLOURS,
    MINUS,
    WIDTH,
    bar,
    before_line,
    canvas,
    caption,
    cells,
    interval,
    label,
    looks,
    names,
    percent,
    point,
    scores_on,
    styled,
    text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREDICTORS = {
    "own": "teacher's ID pass@1 (%)",
    "token_entropy": "token entropy (nats a token)",
    "latent_shift": "latent shift (PCA units)",
    "n_tokens": "trajectory length (tokens)",
    "corpus_loss": "corpus loss (nats a token)",
}


@styled
def funnel(table: pd.DataFrame, by: str = "teacher") -> Figure:
    """Share of the sampled trajectories left after each step of the curation, a panel a teacher (or other column `by`).

    `table`: step (in order), kept, dropped, base, replicate and `by`. Beside a bar: percent and mean count.
    """
    unit = ["base", "replicate", by]
    first = table.groupby(unit, sort=False).first()
    table = table.join((first["kept"] + first["dropped"]).rename("sampled"), on=unit)
    table = table.assign(share=table["kept"] / table["sampled"].where(table["sampled"] > 0))
    shown = {name: names(table[table[by] == name], "step") for name in names(table, by)}
    most, same = max(shown.values(), key=len), len({tuple(steps) for steps in shown.values()}) == 1
    note = caption(
        table, "Beside a bar: percent of what its panel begins with, in brackets the mean count."
    )
    figure, axes = canvas(
        len(shown), 4, 0.5 + 0.2 * len(most), note, "left (%)", "step", sharey=same
    )
    for ax, (name, steps) in zip(axes, shown.items()):
        for row, step in enumerate(steps):
            part = table[(table[by] == name) & (table["step"] == step)]
            found = stats.stratified(part, "share")
            ax.barh(
                row,
                found.estimate,
                0.7,
                color=COLOURS[6],
                alpha=1 - 0.6 * row / len(steps),
                edgecolor="0.3",
            )
            point(ax, found, row, marker="", color="black")
            end = found.estimate if bar(found)[1] is None else min(found.high, 1.0)
            beside = f"{100 * found.estimate:.0f} ({part['kept'].mean():.0f})"
            ax.text(end + 0.03, row, beside, va="center", fontsize=6.5)
        ax.set(
            title=name, yticks=range(len(steps)), yticklabels=steps, ylim=(len(steps) - 0.4, -0.6)
        )
        ax.set(xlim=(0, 1.5), xticks=(0, 0.5, 1))
        ax.grid(axis="y", visible=False)
        percent(ax.xaxis)
    return figure


@styled
def teacher_vs_student(
    own: pd.DataFrame, student: pd.DataFrame, before: pd.DataFrame, family: str = "ID"
) -> Figure:
    """The headline of 01: a teacher's own pass@1 (x), that of the student distilled from it (y); a panel a base.

    Score rows of the teachers themselves, of their students (arm = teacher) and of the bases (arm "before", dashed).
    """
    own, student, before = (cells(table, family) for table in (own, student, before))
    bases = names(student, "base")
    panels = [*bases, None] if len(bases) > 1 else bases
    note = "Dashed: the student before distillation. Dotted: student equals teacher. Ring: the best student."
    figure, axes = canvas(
        len(panels),
        2,
        2.6,
        caption(student, note),
        f"teacher's own {family} pass@1 (%)",
        f"student's {family} pass@1 (%)",
        sharex=True,
        sharey=True,
    )
    placed = []
    for ax, base in zip(axes, panels):
        points = {}
        for arm, look in looks(names(student)).items():
            points[arm] = interval(own, arm, base), interval(student, arm, base)
            point(ax, *points[arm], **look)
        x, y = max(points.values(), key=lambda pair: np.nan_to_num(pair[1].estimate, nan=-1))
        ax.plot(
            x.estimate,
            y.estimate,
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor="black",
        )
        before_line(ax, before, base)
        ax.margins(0.12, 0.1)
        ax.set_title(base or f"mean of {len(bases)} bases")
        placed.append((ax, points))
    for ax in axes:
        scores_on(ax.xaxis, ax.yaxis)  # and fixes the limits: the diagonal stretches nothing
        ax.axline((0, 0), slope=1, color="0.5", linestyle=":", linewidth=0.9, zorder=0)
    for ax, points in placed:
        label(ax, points)
    return figure


@styled
def teacher_rank(own: pd.DataFrame, student: pd.DataFrame, family: str = "ID") -> Figure:
    """Ranks of the teachers by their own pass@1 and by their students', base by base: a flip of order is a crossing."""
    own, student = cells(own, family), cells(student, family)
    arms, bases = names(student), names(student, "base")
    columns = {"own score": (own, None)} | {f"student\n{base}": (student, base) for base in bases}
    if len(bases) > 1:
        columns[f"student\nmean of {len(bases)}"] = student, None
    note = f"Numbers: {family} pass@1 (%) ± half of the 95 % interval. Thick: the teacher that scores best itself."
    figure, (ax,) = canvas(
        1, 1, 0.8 + 0.4 * len(arms), caption(student, note), "ranked by", "rank (1 = best)"
    )
    found = [{arm: interval(table, arm, base) for arm in arms} for table, base in columns.values()]
    order = [
        sorted(arms, key=lambda arm: -np.nan_to_num(one[arm].estimate, nan=-1)) for one in found
    ]
    for arm, look in looks(arms).items():
        ranks = [ranking.index(arm) + 1 for ranking in order]
        ax.plot(ranks, linewidth=2.8 if arm == order[0][0] else 1.2, markersize=6, **look)
        for at, rank in enumerate(ranks):
            box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}
            ax.text(
                at,
                rank + 0.22,
                text(found[at][arm]),
                ha="center",
                va="top",
                fontsize=6.5,
                zorder=3,
                bbox=box,
            )
        ax.text(len(columns) - 0.6, ranks[-1], arm, va="center", fontsize=7.5)
    ax.set_xticks(range(len(columns)), columns)
    ax.set(xlim=(-0.5, len(columns) - 0.6), ylim=(len(arms) + 0.8, 0.5))
    ax.set_yticks(
        range(1, len(arms) + 1), [f"{arm}  {rank}" for rank, arm in enumerate(order[0], 1)]
    )
    ax.grid(visible=False)
    return figure


def predictor_table(rows: pd.DataFrame, own: pd.DataFrame, student: pd.DataFrame) -> pd.DataFrame:
    """One row per (base, arm), means over replicates: `PREDICTORS` and accuracy, that of the student on ID."""
    key = ["base", "arm"]
    table = rows.groupby(key, sort=False)[list(PREDICTORS)[1:]].mean()
    scores = {"own": own, "accuracy": student}
    return table.assign(
        **{name: cells(t).groupby(key)["accuracy"].mean() for name, t in scores.items()}
    ).reset_index()


def rank_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rho of each predictor of `predictor_table` with accuracy, over ranks within a base (descriptive).

    One row a predictor: predictor, estimate, low, high (bootstrap over the points), se, df, n (points).
    """
    ranks = table.groupby("base")[[*PREDICTORS, "accuracy"]].rank()
    found = {name: stats.spearman(ranks[name], ranks["accuracy"]) for name in PREDICTORS}
    return pd.DataFrame([{"predictor": name, **stats.numbers(one)} for name, one in found.items()])


@styled
def predictors(rows: pd.DataFrame, own: pd.DataFrame, student: pd.DataFrame) -> Figure:
    """What might foretell a good teacher, against the smoke test: a panel a predictor, a point a teacher and base.

    `rows`: base, replicate, arm, token_entropy, latent_shift, n_tokens, corpus_loss; `own`, `student`: score rows.
    """
    table = predictor_table(rows, own, student)
    rho, own, student = rank_correlations(table).set_index("predictor"), cells(own), cells(student)
    note = (
        "Corpus loss: the student's, before distillation. rho: Spearman over ranks within a base, with a bootstrap interval "
        "over the points; descriptive."
    )
    figure, axes = canvas(
        len(PREDICTORS) + 1,
        3,
        2.1,
        caption(student, note),
        y="student's ID pass@1 (%)",
        sharey=True,
    )
    bases = looks(names(student, "base"))
    for ax, (name, title) in zip(axes, PREDICTORS.items()):
        source, value = (own, "accuracy") if name == "own" else (rows, name)
        for base, arm in zip(table["base"], table["arm"]):
            point(
                ax, interval(source, arm, base, value), interval(student, arm, base), **bases[base]
            )
        one, values = rho.loc[name], table[name]
        ends = (
            f" [{one.low:+.2f}, {one.high:+.2f}]" if np.isfinite([one.low, one.high]).all() else ""
        )
        known = f"rho {one.estimate:+.2f}{ends}".replace("-", MINUS)
        ax.set(xlabel=title, title=known if np.isfinite(one.estimate) else "rho: not measured")
        if values.min() > 0 and values.max() > 20 * values.min():
            ax.set_xscale("log")
    scores_on(axes[0].xaxis, *(ax.yaxis for ax in axes))
    handles = [
        axes[-1].plot([], [], linestyle="none", label=base, **look)[0]
        for base, look in bases.items()
    ]
    axes[-1].legend(handles=handles, title="student base", loc="center")
    axes[-1].set_axis_off()
    return figure


@styled
def latent_shift(shifts: Sequence[tuple[str, Sequence, Sequence]]) -> Figure:
    """Hidden states before and after distillation, in the plane of their PCA: (label, before, after), each (n, 2)."""
    note = "Grey lines join the two states of one input; the arrow, the shift, the centroids. Each panel has the axes of its own PCA."
    figure, axes = canvas(len(shifts), 4, 1.9, note, "PC 1 (PCA units)", "PC 2 (PCA units)")
    for ax, (name, *states) in zip(axes, shifts):
        old, new = (np.asarray(state, float)[:, :2] for state in states)
        ax.plot(*np.stack([old, new]).transpose(2, 0, 1), color="0.8", linewidth=0.6, zorder=1)
        ax.plot(
            *old.T,
            "o",
            markersize=3,
            markerfacecolor="none",
            markeredgecolor="0.45",
            label="before",
        )
        ax.plot(*new.T, "^", markersize=3, color=COLOURS[3], alpha=0.6, label="after")
        arrow = {
            "arrowstyle": "->,head_width=0.25",
            "color": "black",
            "linewidth": 1.5,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        ax.annotate("", new.mean(0), old.mean(0), arrowprops=arrow)
        ax.set_title(f"{name}\nshift {np.linalg.norm(new.mean(0) - old.mean(0)):.2f}")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, markerscale=1.6
    )
    return figure


@styled
def teacher_interaction(student: pd.DataFrame, family: str = "ID") -> Figure:
    """Heat map of the students' pass@1 by teacher and base, and the mean of the bases; a column's best is framed."""
    from matplotlib.patches import Rectangle

    table = cells(student, family)
    arms, bases = names(table), names(table, "base")
    columns = [*bases, None] if len(bases) > 1 else bases
    found = [[interval(table, arm, base) for base in columns] for arm in arms]
    values = np.array([[one.estimate for one in row] for row in found])
    note = caption(
        table,
        f"Student's {family} pass@1 (%) ± half of the 95 % interval. Framed: best of its column.",
    )
    width = min(WIDTH, 2.2 + 1.1 * len(columns))
    figure, (ax,) = canvas(1, 1, 0.7 + 0.33 * len(arms), note, "student base", "teacher", width)
    image = ax.imshow(values, cmap="cividis", aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        ink = "black" if image.norm(value) > 0.55 else "white"
        weight = (
            "bold" if value == np.fmax.reduce(values[:, x]) else "normal"
        )  # the frame is faint in black and white
        ax.text(x, y, text(found[y][x]), ha="center", va="center", color=ink, fontweight=weight)
    for x in np.flatnonzero(np.isfinite(values).any(axis=0)):
        corner = x - 0.47, np.nanargmax(values[:, x]) - 0.45
        ax.add_patch(Rectangle(corner, 0.94, 0.9, fill=False, edgecolor=COLOURS[3], linewidth=2.2))
    ax.set(
        xticks=range(len(columns)),
        xticklabels=[base or f"mean of {len(bases)}" for base in columns],
    )
    ax.set(yticks=range(len(arms)), yticklabels=arms)
    ax.grid(visible=False)
    return figure
