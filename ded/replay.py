"""A run held against the committed reference that it is a slice of (`ded.params.whole`): score by
score, and effect by effect.

How far rounding alone moves a score was measured beforehand (params/tolerance.yml).
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ded import home, results, stats, wording
from ded.files import read_yaml
from ded.params import described, whole

KEYS = ["scored", "arm", "base", "replicate", "family"]  # of a cell; scored: in notebook 01
CELLS = [*KEYS, "group", "n", "accuracy", "reference", "difference", "tolerance", "within"]
EFFECTS = ["claim", "verdict", "part", "base", "here", "reference", "difference", "tolerance"]
EFFECTS += ["within"]


@dataclass(frozen=True)
class Replay:
    """cells: a row a score that both runs have; effects: a row a base of a part of a claim, but for
    those that other bases have a say in (`stats.Interval.chosen`); both in fractions, and empty
    for a run that is no slice. text: what they come to, or why there are none.
    """

    text: str
    cells: pd.DataFrame
    effects: pd.DataFrame


def against_reference(
    record: results.Recorder, scores: pd.DataFrame, claims: Sequence[stats.Claim]
) -> Replay:
    """The run's scores and claims beside those of the committed reference of its notebook. Nothing
    is said of the next reference, and of what may become it: a run of the reference's own preset,
    but other values.
    """
    committed = whole.manifest(record.notebook) or {"params": {}}
    why, next_one = no_slice(record, committed), whole.NEXT in os.environ
    if why or next_one:
        next_one |= committed["params"].get("preset") == record.params["preset"]
        text = "" if next_one else f"Not held against the reference: {why}."
        return Replay(text, pd.DataFrame(columns=CELLS), pd.DataFrame(columns=EFFECTS))
    folder = whole.folder(record.notebook)
    cells = _cells(scores, pd.read_csv(folder / "scores.csv"))
    there = {claim["name"]: claim for claim in (results.read_metrics(folder) or {})["claims"]}
    effects = _effects([claim.to_dict() for claim in claims], there.values(), _independent(cells))
    return Replay(f"{_of_cells(cells)}\n{_of_effects(effects, there)}", cells, effects)


def no_slice(record: results.Recorder, committed: Mapping[str, Any]) -> str:
    """Why a run is no slice of the committed one (a manifest), "" where it is."""
    if not committed["params"]:
        return "none is committed here"
    if pairs := whole.beyond(committed["params"], record.params):
        return f"the committed one has other parameters: {described(pairs, most=3)}"
    for kind, prints in record.fingerprints.items():
        names = [name for name, stamp in prints.items() if committed[kind].get(name) != stamp]
        if names:
            return f"it was made with other {kind}: {', '.join(names)}"
    return ""


def tolerance(n: float) -> float:
    """How far a score of n answers may lie from that of a rerun (a fraction)."""
    measured = read_yaml(home() / "params" / "tolerance.yml")
    return measured["z"] * math.sqrt(measured["changed"] / n + measured["spread"] ** 2)


def _cells(scores: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    keys = [key for key in KEYS if key in scores]
    here = scores.loc[scores["n"] > 0, [*keys, "group", "n", "accuracy"]]
    both = here.merge(reference[[*keys, "accuracy"]].rename(columns={"accuracy": "reference"}))
    difference = both["accuracy"] - both["reference"]
    bound = both["n"].map(tolerance)
    return both.assign(difference=difference, tolerance=bound, within=difference.abs() <= bound)


def _independent(cells: pd.DataFrame) -> float:
    """As many answers as tell as much as the group with the fewest, whose families weigh alike."""
    unit = cells.drop_duplicates(["group", "family"])
    counts = unit.groupby("group")["n"]
    return float(counts.agg(lambda n: len(n) ** 2 / (1 / n).sum()).min())


def _effects(
    here: Iterable[Mapping[str, Any]], there: Iterable[Mapping[str, Any]], n: float
) -> pd.DataFrame:
    both = _by_base(here, "here").drop(columns="verdict").merge(_by_base(there, "reference"))
    bound = math.sqrt(2) * tolerance(n)  # of a difference of two scores
    gap = both["here"] - both["reference"]
    return both.assign(difference=gap, tolerance=bound, within=gap.abs() <= bound)[EFFECTS]


def _by_base(claims: Iterable[Mapping[str, Any]], run: str) -> pd.DataFrame:
    """A row a base of each part of claims, but for parts that other bases have a say in."""
    rows = [
        [claim["name"], claim["verdict"], part["label"], base, effect]
        for claim in claims
        for part in claim["parts"]
        for base, effect in (part.get("bases") or {}).items()
        if effect is not None and not part.get("chosen")
    ]
    return pd.DataFrame(rows, columns=["claim", "verdict", "part", "base", run])


# ---- in words ------------------------------------------------------------------------------------


def _of_cells(cells: pd.DataFrame) -> str:
    if cells.empty:
        return "No score of this run is among the reference's."
    bounds = cells.groupby("n")["tolerance"].first().sort_index(ascending=False).items()
    limits = ", ".join(f"{wording.number(bound)} points for {n:,} answers" for n, bound in bounds)
    far = cells.loc[cells["difference"].abs().idxmax()]
    where = f"{far['arm']}, {far['base']}, {far['family']}"
    gap = wording.number(far["difference"], sign=True)
    counts = f"{cells['within'].sum()} of {len(cells)} scores lie as near to the committed ones"
    return f"{counts} as rounding leaves them ({limits}); the farthest {gap} points off ({where})."


def _of_effects(effects: pd.DataFrame, there: Mapping[str, dict[str, Any]]) -> str:
    lines = ["The reference's verdicts, at full power:"]
    lines += [f"- {verdict}: {text}" for verdict, text in wording.findings([*there.values()])]
    if effects.empty:
        return "\n".join(
            [*lines, "None of their effects can be told from this slice's bases alone."]
        )
    limit = wording.number(effects["tolerance"].iloc[0])
    counts = f"{effects['within'].sum()} of {len(effects)} effects a base that this slice measures"
    lines.append(f"{counts} agree with the reference's for the same bases, within {limit} points.")
    for row in effects[~effects["within"].astype(bool)].itertuples():
        ends = wording.number(row.here, True), wording.number(row.reference, True)
        lines.append(f"Not so: {row.claim}, {row.base}: {ends[0]} here, {ends[1]} there.")
    return "\n".join(lines)
