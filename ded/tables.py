"""The tables that pass between the rooms, and those that a reader sees.

trajectories (one row each): problem_id, model, sample_index, prompt, text, token_ids, n_tokens, finish_reason, engine,
  entropy_sum; after grading also verdict, answer, reason.
scores (one row a base x arm x replicate x family): base, arm, replicate, family, group ("ID", "OOD", "robust"), n, correct,
  wrong, unparsed, truncated, error, accuracy, pass_at_k, n_tokens (mean), think_rate.
funnel: step, kept, dropped, reason. pass rates: problem_id, level, n, correct, pass_rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ded import home, stats

if TYPE_CHECKING:
    from ded.stats import Claim


def ood_cells(scores: pd.DataFrame) -> pd.DataFrame:
    """One row an (arm, base, replicate): the macro mean over the OOD families."""
    return stats.macro(scores, "OOD")


def tokens(scores: pd.DataFrame) -> int:
    """Tokens sampled for a table of scores."""
    return int((scores["n"] * scores["n_tokens"]).sum())


def verdicts(claims: Sequence[Claim]) -> pd.DataFrame:
    """claim, verdict, and in percentage points: estimate, low (Holm-adjusted), high, detectable; n and note."""
    points = ("estimate", "low", "high", "detectable")
    rows = [
        {
            "claim": c.name,
            "verdict": c.verdict,
            **{k: round(100 * getattr(c, k), 1) for k in points},
            "n": c.n,
            "note": c.note,
        }
        for c in claims
    ]
    return pd.DataFrame(rows)


def compare(cells: Mapping[str, pd.DataFrame], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences a - b with plain 95 % intervals, for each pair and each kind of cells ("ID", "OOD", ...)."""
    rows = [
        {"a": a, "b": b, "value": kind, **stats.numbers(stats.paired(table, a, b))}
        for a, b in pairs
        for kind, table in cells.items()
    ]
    return pd.DataFrame(rows)


def arm_table(cells: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row an arm: for each kind of cells its mean over bases and replicates, and the ends of the 95 % interval."""
    first = next(iter(cells.values()))
    rows = []
    for arm in dict.fromkeys(first["arm"]):
        row: dict[str, Any] = {"arm": arm}
        for kind, table in cells.items():
            if (table["arm"] == arm).any():
                found = stats.arm_interval(table, arm)
                row |= {kind: found.estimate, f"{kind} low": found.low, f"{kind} high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


def paper_figures() -> pd.DataFrame:
    """Each known figure or table of the paper: shown in the paper, notebook, figure, answer (measured, in part or "not reproducible here"), why, source."""
    return reported(["figures_of_the_paper"]).drop(columns="section")


def reported(sections: Sequence[str]) -> pd.DataFrame:
    """Rows of params/reported.yml: what the paper (or the named source) reports; nothing measured here is among them."""
    import yaml

    known = yaml.safe_load((home() / "params" / "reported.yml").read_text(encoding="utf-8"))
    rows = []
    for section in sections:
        entries = known[section]
        if isinstance(entries, dict):
            entries = [{"what": name, **entry} for name, entry in entries.items()]
        rows += [
            {"section": section, **entry, "source": known["sources"][entry["source"]]}
            for entry in entries
        ]
    return pd.DataFrame(rows).fillna("")
