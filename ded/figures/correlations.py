"""What might foretell a good teacher without training on all of its corpus: notebooks 01 and 04."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ded import stats

from . import parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PREDICTORS = {
    "own": "teacher's ID pass@1 (%)",
    "token_entropy": "token entropy (nats a token)",
    "latent_shift": "latent shift (PCA units)",
    "n_tokens": "trajectory length (tokens)",
    "corpus_loss": "corpus loss (nats a token)",
}
RHO = "rho: Spearman over ranks within a base, with a bootstrap interval over the points"


def predictor_table(rows: pd.DataFrame, own: pd.DataFrame, student: pd.DataFrame) -> pd.DataFrame:
    """One row per (base, arm), means over replicates: `PREDICTORS`, the student's ID accuracy."""
    key = ["base", "arm"]
    means = {
        "own": parts.cells(own).groupby(key)["accuracy"].mean(),
        "accuracy": parts.cells(student).groupby(key)["accuracy"].mean(),
    }
    table = rows.groupby(key, sort=False)[list(PREDICTORS)[1:]].mean()
    return table.assign(**means).reset_index()


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


def _name_panel(ax: Axes, xlabel: str, rho: pd.Series, values: pd.Series) -> str:
    """Axis name and scale of a predictor's panel; returns its title, the correlation."""
    ax.set_xlabel(xlabel)
    if values.min() > 0 and values.max() > 20 * values.min():
        ax.set_xscale("log")
    title = f"rho {rho.estimate:+.2f}"
    if np.isfinite([rho.low, rho.high]).all():
        title += f" [{rho.low:+.2f}, {rho.high:+.2f}]"
    return title.replace("-", parts.MINUS)


@parts.styled
def predictors(rows: pd.DataFrame, own: pd.DataFrame, student: pd.DataFrame) -> Figure:
    """What might foretell a good teacher, against the smoke test: a panel a predictor.

    A point is a teacher and base. `rows`: base, replicate, arm, token_entropy, latent_shift,
    n_tokens, corpus_loss; `own`, `student`: score rows.
    """
    table = predictor_table(rows, own, student)
    rhos = rank_correlations(table).set_index("predictor")
    own, student = parts.cells(own), parts.cells(student)
    note = parts.caption(
        student, f"Corpus loss: the student's, before distillation. {RHO}; descriptive."
    )
    y = "student's ID pass@1 (%)"
    figure, axes = parts.canvas(len(PREDICTORS) + 1, 3, 2.1, note, y=y, sharey=True)
    bases = parts.looks(parts.names(student, "base"))
    for ax, (name, xlabel) in zip(axes[:-1], PREDICTORS.items(), strict=True):
        source, value = (own, "accuracy") if name == "own" else (rows, name)
        for base, arm in zip(table["base"], table["arm"], strict=True):
            x = parts.interval(source, arm, base, value)
            parts.point(ax, x, parts.interval(student, arm, base), **bases[base])
        rho = rhos.loc[name]
        title = _name_panel(ax, xlabel, rho, table[name])
        ax.set_title(title if np.isfinite(rho.estimate) else "rho: not measured")
    parts.scores_on(axes[0].xaxis, *(ax.yaxis for ax in axes))
    axes[-1].legend(handles=parts.handles(axes[-1], bases), title="student base", loc="center")
    axes[-1].set_axis_off()
    return figure


@parts.styled
def cheap_scores(table: pd.DataFrame, note: str = "") -> Figure:
    """Scores of a teacher against the gain of the student distilled from it: a panel a predictor.

    A point is a teacher and base. `table`: predictor (its name with the unit), teacher, base,
    value, gain (a fraction), seconds; replicates are averaged. In the titles Spearman's rho (see
    `cheap_score_ranks`) and what the predictor costs.
    """
    ranks = cheap_score_ranks(table).set_index("predictor")
    note = (
        "A point: one teacher and student base. rho: Spearman over ranks within a base, 95 % "
        "bootstrap interval over the points; descriptive. Seconds: a teacher and base. " + note
    )
    y = "student's gain (points)"
    figure, axes = parts.canvas(len(ranks), 3, 2.1, note.strip(), y=y, sharey=True)
    means = table.groupby(["predictor", "base", "teacher"], sort=False)[["value", "gain"]].mean()
    for ax, (name, rho) in zip(axes, ranks.iterrows(), strict=True):
        points = means.loc[name]
        for base, look in parts.looks(parts.names(table, "base")).items():
            own = points[points.index.get_level_values("base") == base]
            x, y = own["value"], own["gain"]
            ax.plot(x, y, linestyle="none", label=base, **parts.WHITE_EDGE, **look)
        ax.axhline(0, color="black", linewidth=0.8, zorder=1)
        title = _name_panel(ax, textwrap.fill(name, 24), rho, points["value"])
        ax.set_title(f"{title}\n{rho['seconds']:.2g} s")
        parts.percent(ax.yaxis)
    parts.legend(figure, axes[0])
    return figure
