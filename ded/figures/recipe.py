"""Figures of notebook 04: score against corpus size, ablations, the paper's Figure 1 from reported points, cheap teacher scores.

The tables hold finished numbers (fractions, with the ends of their 95 % intervals, nan where there is none); a row without an
estimate is not drawn. `note` goes to the end of a caption: the number of replicates, for one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ded import stats

from .parts import (
    COLOURS,
    MINUS,
    bar,
    canvas,
    label,
    looks,
    names,
    percent,
    point,
    scores_on,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OTHER = {
    "marker": "o",
    "color": COLOURS[0],
    "markerfacecolor": "white",
    "markeredgecolor": COLOURS[0],
    "markeredgewidth": 1.2,
}
BEFORE = {"marker": "*", "color": "0.35", "markersize": 9}
MAIN = {"marker": "D", "color": "black", "markersize": 6}
BESIDE = np.inf  # the size of a model that was not made from a corpus of known size


def size_axis(axes: Sequence[Axes], sizes: Sequence[float]) -> dict[float, float]:
    """A log axis of corpus sizes with "before" for 0 on its left and "no corpus" for inf on its right: {size: its place on it}."""
    known = sorted({size for size in sizes if 0 < size < BESIDE}) or [1.0]
    gap = max(2.0, (known[-1] / known[0]) ** 0.25)
    place = {size: size for size in known} | {0.0: known[0] / gap, BESIDE: known[-1] * gap}
    place = {size: place[size] for size in sorted(set(sizes) | set(known))}
    ends = np.log([min(place.values()), max(place.values())])
    width, shown = ends[1] - ends[0], []
    for size in place:  # ticks that have room
        if not shown or np.log(place[size] / place[shown[-1]]) > 0.055 * width:
            shown.append(size)
    words = {0: "before", BESIDE: "no corpus"}
    for ax in axes:
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xticks(
            [place[size] for size in shown], [words.get(size) or f"{size:,.0f}" for size in shown]
        )
    return place


def _against_size(
    table: pd.DataFrame,
    by: str,
    marks: Mapping[str, dict],
    note: str,
    y: str,
    frontier: bool = False,
    legend: tuple[str, Mapping[str, dict]] | None = None,
) -> Figure:
    """A panel a value of `by`, one under the other; a point a row of table (arm, kind, size, estimate, low, high), its name (or arm) beside it.

    `marks`: the look of each kind. Arms of one size are moved apart sideways, by the same amount in each panel.
    """
    table = table[np.isfinite(table["estimate"].astype(float))]
    panels = names(table, by)
    figure, axes = canvas(
        len(panels),
        1,
        2.5 if len(panels) > 2 else 2.9,
        note,
        "corpus size (examples, log scale)",
        y,
        sharex=True,
    )
    place, placed = size_axis(axes, [float(size) for size in table["size"]]), []
    most, spots = table.groupby("size")["arm"].nunique().max(), np.array(list(place.values()))
    step = max(4.0, spots[-1] / spots[0]) ** (0.3 / max(8, most))
    step = min(
        [step, *(spots[1:] / spots[:-1]) ** (1 / (most + 1))]
    )  # and not in among those of the next size
    at = {}
    for size, group in table.groupby("size"):
        arms = list(dict.fromkeys(zip(group["kind"], group["arm"])))
        at |= {
            (size, *arm): place[size] * step ** (i - (len(arms) - 1) / 2)
            for i, arm in enumerate(arms)
        }
    for ax, panel in zip(axes, panels):
        rows = table[table[by] == panel].sort_values("size", kind="stable")
        points, steps = {}, []
        for row in rows.itertuples(index=False):
            x = at[row.size, row.kind, row.arm]
            point(ax, x, row, zorder=4, **marks[row.kind])
            name = getattr(row, "name", str(row.arm))
            while name in points:  # told by two sources
                name += " "
            points[name] = x, row
            if row.size == BESIDE:
                ax.axhline(row.estimate, color="0.6", linestyle=":", linewidth=0.9, zorder=1)
        if frontier:
            best = rows[
                rows["estimate"] > rows["estimate"].shift().cummax().fillna(-np.inf)
            ]  # above all that are smaller
            best = best.loc[best.groupby("size")["estimate"].idxmax()]
            steps += [(at[row.size, row.kind, row.arm], row.estimate) for row in best.itertuples()]
            steps.append((max(at.values()), steps[-1][1]))
            ax.step(
                *np.transpose(steps),
                where="post",
                color=COLOURS[0],
                linewidth=4,
                alpha=0.3,
                zorder=1,
            )
        ax.set_title(panel)
        ax.margins(y=0.14)
        ends = np.log([min(at.values()), max(at.values())])
        ax.set_xlim(*np.exp(ends + max(0.5, np.ptp(ends)) * np.array([-0.07, 0.07])))
        placed.append(
            (
                ax,
                points,
                [
                    (x, y)
                    for (a, y), (b, _) in zip(steps, steps[1:])
                    for x in np.geomspace(a, b, 40)
                ],
            )
        )
    for ax in axes:
        scores_on(ax.yaxis)
    if legend:
        handles = [
            axes[0].plot([], [], linestyle="none", label=name, **look)[0]
            for name, look in legend[1].items()
        ]
        figure.legend(
            handles=handles,
            title=legend[0],
            title_fontproperties={"weight": "bold", "size": 9},
            loc="outside upper center",
            fontsize=6.5,
        )
    for ax, points, avoid in placed:
        label(ax, points, avoid)
    return figure


@styled
def recipe_pareto(table: pd.DataFrame, main: str = "DED", note: str = "") -> Figure:
    """Score against corpus size (log axis, "before" at 0) with the frontier: no arm on it is beaten by an arm as small or smaller.

    `table`: arm, size (examples), group ("ID", "OOD", ...: a panel each), estimate, low, high. The arm `main` is a filled
    diamond.
    """
    note = f"Whiskers: 95 % intervals. Steps: the best score that a corpus up to that size gave. Arms of one size are moved apart sideways. {note}"
    return _against_size(
        _kinds(table, main), "group", _marks(main), note.strip(), "pass@1 (%)", frontier=True
    )


@styled
def same_axes(measured: pd.DataFrame, main: str = "DED", note: str = "") -> Figure:
    """The axes of the paper's Figure 1 filled with what was measured: arm, size, estimate, low, high, benchmark (a panel each)."""
    measured = _kinds(measured, main).assign(
        benchmark=measured["benchmark"].astype(str) + ": measured here"
    )
    note = f"Whiskers: 95 % intervals. Arms of one size are moved apart sideways. {note}".strip()
    return _against_size(measured, "benchmark", _marks(main), note, "pass@1 (%)")


def _kinds(table: pd.DataFrame, main: str) -> pd.DataFrame:
    kinds = [
        "before" if size == 0 else main if arm == main else "other"
        for arm, size in zip(table["arm"], table["size"])
    ]
    return table.assign(kind=kinds)


def _marks(main: str) -> dict[str, dict]:
    return {"other": OTHER, "before": BEFORE, main: MAIN}


@styled
def paper_figure_1(reported: pd.DataFrame) -> Figure:
    """The paper's Figure 1 redrawn from what was reported (`tables.reported(["scores", "figure_1"])`): nothing in it is measured here.

    A panel a benchmark, a marker a source; hollow: from another base than the paper's student. Where only AIME 2025 I is known,
    the name says so. Models without a corpus of known size (the teachers) stand on the right, with a dotted line.
    """
    student = reported["model"].iloc[0]
    rows = []
    for row in reported.to_dict("records"):
        size = pd.to_numeric(row.get("examples"), errors="coerce")
        size = 0 if row["model"] == student else BESIDE if np.isnan(size) else size
        for column, panel, more in (
            ("aime_2024", "AIME 2024", ""),
            ("aime_2025", "AIME 2025", ""),
            ("aime_2025_i", "AIME 2025", " (I)"),
        ):
            score = pd.to_numeric(row.get(column), errors="coerce") / 100
            kind = row["source"], bool(row.get("base")) and row["base"] != student
            rows.append(
                {
                    "arm": row["model"],
                    "name": (row.get("short") or row["model"]) + more,
                    "kind": kind,
                    "size": size,
                    "panel": panel,
                    "estimate": score,
                    "low": np.nan,
                    "high": np.nan,
                }
            )
    table = pd.DataFrame(rows).dropna(subset="estimate")
    sources = looks(list(dict.fromkeys(source for source, _ in table["kind"])))
    marks = {(source, False): look for source, look in sources.items()}
    hollow = {"markerfacecolor": "white", "markeredgewidth": 1.2}
    marks |= {
        (source, True): look | hollow | {"markeredgecolor": look["color"]}
        for source, look in sources.items()
    }
    note = (
        f"Scores from different evaluators and settings, drawn as reported, without intervals. DS-32B: {student}. Hollow: distilled from another "
        "base. (I): AIME 2025 I alone. Dotted: models that are no distillation of a known corpus. Sizes of 0.8k are approximate."
    )
    return _against_size(
        table,
        "panel",
        marks,
        note,
        "pass@1 (%)",
        legend=("Reported by others, not measured here", sources),
    )


@styled
def ablation(
    table: pd.DataFrame, delta: float = stats.DELTA, main: str = "DED", note: str = ""
) -> Figure:
    """Paired differences, `main` minus each arm, a panel a group; shaded: the band of ±delta in which a difference matters little.

    `table`: arm, group, estimate, low, high (fractions). A diamond is above 0, a cross below it, a circle neither.
    """
    arms, groups = names(table), names(table, "group")
    note = (
        f"Right of 0: {main} is better. Whiskers: 95 % intervals of the paired difference; diamond above 0, cross below. "
        f"Shaded: within ±{100 * delta:g} points. {note}"
    )
    figure, axes = canvas(
        len(groups),
        3,
        0.7 + 0.26 * len(arms),
        note.strip(),
        f"{main} {MINUS} arm (points)",
        "arm",
        sharey=True,
    )
    for ax, group in zip(axes, groups):
        ax.axvspan(-delta, delta, color="0.92", linewidth=0, zorder=0)
        ax.axvline(0, color="black", linewidth=0.8, zorder=1)
        for row in table[table["group"] == group].itertuples(index=False):
            above, below = (bar(row)[1] is not None and end > 0 for end in (row.low, -row.high))
            marker, colour = (
                ("D", COLOURS[0]) if above else ("X", COLOURS[3]) if below else ("o", "0.3")
            )
            point(ax, row, arms.index(row.arm), zorder=4, marker=marker, color=colour)
        ax.set(title=group, yticks=range(len(arms)), yticklabels=arms, ylim=(len(arms) - 0.4, -0.6))
        ax.grid(axis="y", visible=False)
        percent(ax.xaxis)
    return figure


def cheap_score_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """One row a predictor of `cheap_scores`: Spearman's rho with the gain over ranks within a base (estimate, low, high: bootstrap
    over the points, n of them), and its mean cost in seconds for one teacher and base. Descriptive."""
    rows = []
    for name, part in table.groupby("predictor", sort=False):
        cells = part.groupby(["base", "teacher"])[["value", "gain"]].mean()
        ranks = cells.dropna().groupby("base").rank()
        rows.append(
            {
                "predictor": name,
                **stats.numbers(stats.spearman(ranks["value"], ranks["gain"])),
                "seconds": part["seconds"].mean(),
            }
        )
    return pd.DataFrame(rows)


@styled
def cheap_scores(table: pd.DataFrame, note: str = "") -> Figure:
    """Scores of a teacher against the gain of the student distilled from it: a panel a predictor, a point a teacher and base.

    `table`: predictor (its name with the unit), teacher, base, value, gain (a fraction), seconds; replicates are averaged. In the
    titles Spearman's rho (see `cheap_score_ranks`) and what the predictor costs.
    """
    found, bases = cheap_score_ranks(table).set_index("predictor"), looks(names(table, "base"))
    note = (
        "A point: one teacher and student base. rho: Spearman over ranks within a base, 95 % bootstrap interval over the points; "
        f"descriptive. Seconds: a teacher and base. {note}"
    )
    figure, axes = canvas(
        len(found), 3, 2.1, note.strip(), y="student's gain (points)", sharey=True
    )
    for ax, (name, one) in zip(axes, found.iterrows()):
        cells = (
            table[table["predictor"] == name]
            .groupby(["base", "teacher"], sort=False)[["value", "gain"]]
            .mean()
        )
        for base, look in bases.items():
            part = cells.loc[[base]] if base in cells.index.get_level_values(0) else cells.iloc[:0]
            ax.plot(
                part["value"],
                part["gain"],
                linestyle="none",
                label=base,
                markeredgecolor="white",
                markeredgewidth=0.4,
                **look,
            )
        ax.axhline(0, color="black", linewidth=0.8, zorder=1)
        ends = (
            f" [{one['low']:+.2f}, {one['high']:+.2f}]"
            if np.isfinite([one["low"], one["high"]]).all()
            else ""
        )
        ax.set(
            xlabel=textwrap.fill(name, 24),
            title=f"rho {one['estimate']:+.2f}{ends}".replace("-", MINUS)
            + f"\n{one['seconds']:.2g} s",
        )
        if cells["value"].min() > 0 and cells["value"].max() > 20 * cells["value"].min():
            ax.set_xscale("log")
        percent(ax.yaxis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure
