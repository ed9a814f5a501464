"""The tables that pass between the rooms, and those that a reader sees.

trajectories (one row each): problem_id, model, sample_index, prompt, text, token_ids, n_tokens,
finish_reason, engine, entropy_sum; after grading also verdict, answer, reason, rule. scores (one
row a base x arm x replicate x family): base, arm, replicate, family, group ("ID", "OOD", "robust"),
n, correct, wrong, unparsed, truncated, error, accuracy, pass_at_k, maj_at_k, n_tokens (mean),
think_rate, untagged_rate, completion_rate (`evaluation.evaluate`), judged (answers that a judge
decided), chance (what guessing scores). funnel: step, kept, dropped, reason. pass rates:
problem_id, level, n, correct, pass_rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from ded import home, reading, stats, wording
from ded.files import read_yaml

COLUMNS = ["claim", "verdict", "points", "detectable", "noise", "n", "why", "outside"]


def tokens(scores: pd.DataFrame) -> int:
    """Tokens sampled for a table of scores."""
    return int((scores["n"] * scores["n_tokens"]).sum())


def conditions(table: pd.DataFrame) -> pd.DataFrame:
    """`study.conditions.compare` for readers: condition, paper, this run, band, inside."""
    rows = []
    for row in table.itertuples():
        each = {name: reading.amount(value, row.unit) for name, value in row.measured.items()}
        run = reading.amount(row.value, row.unit) if each else "not measured"
        if len({*each.values()}) > 1:
            run += f" ({', '.join(f'{name} {text}' for name, text in each.items())})"
        inside = {True: "yes", False: "no"}.get(row.inside, "not measured")
        if row.outliers and len(each) > 1:
            inside += f"; far outside: {', '.join(row.outliers)}"
        paper = f"{row.paper} [{row.source}]"
        rows.append([row.what, paper, run, reading.band(row), inside])
    return pd.DataFrame(rows, columns=["condition", "paper", "this run", "band", "inside"])


def under(claims: Sequence[stats.Claim], table: pd.DataFrame) -> list[stats.Claim]:
    """The claims, each with those of its conditions that the run does not meet (table: see
    `study.conditions.compare`).
    """
    return [replace(claim, outside=reading.outside(table, claim.name)) for claim in claims]


def verdicts(claims: Sequence[stats.Claim]) -> pd.DataFrame:
    """claim, verdict, points (each part's difference, with the interval that decides), detectable
    (points), noise (how much of the variance is evaluation noise, at most), n (bases or
    replicates), why, outside.

    Where there are several bases each gets a column with its effect (points). Noise and effects are
    those of the claim's first part. why: what kept a claim from being reproduced, and what else is
    to be known. outside: the conditions of the paper that the run does not meet.
    """
    rows = []
    for claim in claims:
        recorded, detectable = claim.to_dict(), round(100 * claim.detectable, 1)
        cells = [claim.name, claim.verdict, wording.differences(recorded), detectable, "", ""]
        cells += [wording.why(recorded), claim.outside]
        row = dict(zip(COLUMNS, cells, strict=True))
        for interval in claim.intervals[:1]:
            row["n"] = f"{interval.n} {interval.over}"
            row["noise"] = "" if math.isnan(interval.noise) else f"{interval.noise:.0%}"
            if len(interval.bases) > 1:
                texts = [wording.number(value, sign=True) for value in interval.bases.values()]
                row |= dict(zip(interval.bases, texts, strict=True))
        rows.append(row)
    table = pd.DataFrame(rows)
    bases = [column for column in table if column not in COLUMNS]
    return table[[*COLUMNS[:6], *bases, *COLUMNS[6:]]].fillna(dict.fromkeys(bases, ""))


def readable(table: pd.DataFrame) -> pd.io.formats.style.Styler:
    """The table for display: texts in full, numbers with one decimal."""
    return table.style.hide().format(precision=1, na_rep="")


def compare(
    cells: Mapping[str, pd.DataFrame], pairs: Sequence[tuple[str, str]], bases: bool = False
) -> pd.DataFrame:
    """Paired differences a - b with plain 95 % intervals, for each pair and each kind of cells
    ("ID", "OOD", ...), as far as they were measured; `bases`: with those in each base, a mapping.
    """
    rows = []
    for a, b in pairs:
        for kind, table in cells.items():
            difference = stats.paired(table, a, b)
            row = {"a": a, "b": b, "value": kind, **stats.numbers(difference)}
            rows.append(row | ({"bases": difference.bases} if bases else {}))
    return pd.DataFrame(rows).dropna(subset="estimate", ignore_index=True)


def arm_table(cells: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row an arm that was measured: for each kind of cells its mean over bases and replicates,
    and the ends of the 95 % interval.
    """
    summary = pd.DataFrame({"arm": next(iter(cells.values()))["arm"].unique()})
    for kind, table in cells.items():
        means = {arm: stats.arm_interval(table, arm) for arm in table["arm"].unique()}
        for name, end in ((kind, "estimate"), (f"{kind} low", "low"), (f"{kind} high", "high")):
            summary[name] = [getattr(means.get(arm), end, math.nan) for arm in summary["arm"]]
    return summary.dropna(subset=list(cells), how="all", ignore_index=True)


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
        rows += [{"section": section, **entry} for entry in entries]
    table = pd.DataFrame(rows)
    return table.assign(source=table["source"].map(values["sources"])).fillna("")
