"""The tables that pass between the rooms, and those that a reader sees.

trajectories (one row each): problem_id, model, sample_index, prompt, text, token_ids, n_tokens,
finish_reason, engine, entropy_sum; after grading also verdict, answer, reason. scores (one row a
base x arm x replicate x family): base, arm, replicate, family, group ("ID", "OOD", "robust"), n,
correct, wrong, unparsed, truncated, error, accuracy, pass_at_k, n_tokens (mean), think_rate.
funnel: step, kept, dropped, reason. pass rates: problem_id, level, n, correct, pass_rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ded import home, reading, stats
from ded.files import read_yaml

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

    from ded.stats import Claim

POINTS = ("estimate", "low", "high", "detectable")
COLUMNS = ["claim", "verdict", *POINTS, "n", "note", "why"]


def ood_cells(scores: pd.DataFrame) -> pd.DataFrame:
    """One row an (arm, base, replicate): the macro mean over the OOD families."""
    return stats.macro(scores, "OOD")


def tokens(scores: pd.DataFrame) -> int:
    """Tokens sampled for a table of scores."""
    return int((scores["n"] * scores["n_tokens"]).sum())


def verdicts(
    claims: Sequence[Claim], effects: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """claim, verdict, and in points: estimate, low (Holm-adjusted), high, detectable; n, note, why.

    effects: {a claim's name: its effect in each base (`stats.effects_by_base`)}; each base gets a
    column with them, "estimate [low, high]". why: what kept a claim from being reproduced.
    """
    effects = effects or {}
    rows = []
    for claim in claims:
        points = {name: round(100 * getattr(claim, name), 1) for name in POINTS}
        row = {"claim": claim.name, "verdict": claim.verdict, **points}
        row |= {"n": claim.n, "note": claim.note, "why": reading.why(claim)}
        if claim.name in effects:
            for base in effects[claim.name].itertuples():
                row[base.base] = reading.points(base.estimate, base.low, base.high)
        rows.append(row)
    table = pd.DataFrame(rows)
    bases = [column for column in table if column not in COLUMNS]
    return table[[*COLUMNS[:7], *bases, *COLUMNS[7:]]].fillna(dict.fromkeys(bases, ""))


def readable(table: pd.DataFrame) -> Styler:
    """The table for display: texts in full, numbers with one decimal."""
    return table.style.hide().format(precision=1, na_rep="")


def compare(cells: Mapping[str, pd.DataFrame], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences a - b with plain 95 % intervals, for each pair and each kind of cells
    ("ID", "OOD", ...).
    """
    rows = [
        {"a": a, "b": b, "value": kind, **stats.numbers(stats.paired(table, a, b))}
        for a, b in pairs
        for kind, table in cells.items()
    ]
    return pd.DataFrame(rows)


def arm_table(cells: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row an arm: for each kind of cells its mean over bases and replicates, and the ends of
    the 95 % interval.
    """
    first = next(iter(cells.values()))
    rows = []
    for arm in dict.fromkeys(first["arm"]):
        row: dict[str, Any] = {"arm": arm}
        for kind, table in cells.items():
            if (table["arm"] == arm).any():
                mean = stats.arm_interval(table, arm)
                row |= {kind: mean.estimate, f"{kind} low": mean.low, f"{kind} high": mean.high}
        rows.append(row)
    return pd.DataFrame(rows)


def places(cells: Mapping[str, pd.DataFrame], summary: pd.DataFrame) -> pd.DataFrame:
    """Arms on the axes of size and score: arm, size (examples), group (the kind of cells),
    interval.
    """
    return pd.DataFrame(
        [
            {"arm": arm.arm, "size": arm.examples, "group": group}
            | stats.numbers(stats.arm_interval(table, arm.arm))
            for group, table in cells.items()
            for arm in summary.itertuples()
        ]
    )


def paper_figures() -> pd.DataFrame:
    """Each known figure or table of the paper: shown in the paper, notebook, figure, answer
    (measured, in part or "not reproducible here"), why, source.
    """
    return reported(["figures_of_the_paper"]).drop(columns="section")


def reported(sections: Sequence[str]) -> pd.DataFrame:
    """Rows of params/reported.yml: what the paper (or the named source) reports.

    Nothing that was measured here is among them.
    """
    values = read_yaml(home() / "params" / "reported.yml")
    rows = []
    for section in sections:
        entries = values[section]
        if isinstance(entries, dict):
            entries = [{"what": name, **entry} for name, entry in entries.items()]
        sources = values["sources"]
        rows += [{"section": section, **row, "source": sources[row["source"]]} for row in entries]
    return pd.DataFrame(rows).fillna("")
