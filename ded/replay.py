"""A run held against the committed reference that it is a slice of (`ded.params.whole`): score by
score, and effect by effect.

How far rounding alone moves a score was measured beforehand (params/tolerance.yml).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from ded import home, results, stats, wording
from ded.files import read_yaml
from ded.params import described, whole

KEYS = ["scored", "arm", "base", "replicate", "family"]  # of a cell; scored: in notebook 01
CELLS = [*KEYS, "group", "n", "accuracy", "reference", "difference", "tolerance", "within"]
EFFECTS = ["claim", "verdict", "part", "base", "here", "reference", "difference", "tolerance"]
EFFECTS += ["within"]
NONE = pd.DataFrame(columns=CELLS), pd.DataFrame(columns=EFFECTS)


@dataclass(frozen=True)
class Replay:
    """cells: a row a score that both runs have; effects: a row a base of a part of a claim; both in
    fractions. in_words: what each comes to, or why there are none."""

    cells: pd.DataFrame
    effects: pd.DataFrame
    in_words: tuple[str, ...]

    @property
    def text(self) -> str:
        """All in words."""
        return "\n".join(self.in_words)

    @property
    def is_slice(self) -> bool:
        """Whether there is anything to compare."""
        return len(self.cells) > 0


class Run(Protocol):
    """Of `ded.results.Recorder` what tells which run it is."""

    notebook: str
    params: dict[str, Any]
    fingerprints: dict[str, dict[str, str]]


def against_reference(run: Run, scores: pd.DataFrame, claims: Sequence[stats.Claim]) -> Replay:
    """The run's scores and claims beside the reference's; without either where it is no slice."""
    if why := no_slice(run):
        return Replay(*NONE, (f"Not held against the reference: {why}.",))
    folder = whole.folder(run.notebook)
    cells = _cells(scores, pd.read_csv(folder / "scores.csv"))
    there = {claim["name"]: claim for claim in (results.read_metrics(folder) or {})["claims"]}
    effects = _effects([claim.to_dict() for claim in claims], there, _independent(cells))
    return Replay(cells, effects, (_of_cells(cells), _of_effects(effects, there)))


def no_slice(run: Run) -> str:
    """Why a run is no slice of the committed reference of its notebook, "" where it is one."""
    committed = whole.manifest(run.notebook)
    if committed is None:
        return "none is committed here"
    if pairs := whole.beyond(committed["params"], run.params):
        return f"the committed one has other parameters: {described(pairs)}"
    for kind, prints in run.fingerprints.items():
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
    here: list[dict[str, Any]], there: Mapping[str, dict[str, Any]], n: float
) -> pd.DataFrame:
    rows = []
    bound = math.sqrt(2) * tolerance(n)  # of a difference of two scores
    for claim in here:
        verdict = there.get(claim["name"], {}).get("verdict", "")
        parts = {part["label"]: part for part in there.get(claim["name"], {}).get("parts", ())}
        for part in claim["parts"]:
            committed = parts.get(part["label"], {}).get("bases") or {}
            for base, value in (part.get("bases") or {}).items():
                if value is not None and committed.get(base) is not None:
                    gap = value - committed[base]
                    row = [claim["name"], verdict, part["label"], base, value, committed[base]]
                    rows.append([*row, gap, bound, abs(gap) <= bound])
    return pd.DataFrame(rows, columns=EFFECTS)


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
    verdicts = f"The reference's verdicts, at full power: {wording.summary([*there.values()])}"
    if effects.empty:
        return f"{verdicts} This slice measures none of their effects."
    limit = wording.number(effects["tolerance"].iloc[0])
    counts = f"{effects['within'].sum()} of {len(effects)} effects a base that this slice measures"
    agree = f"{counts} agree with the reference's for the same bases, within {limit} points."
    others = [
        f"{row.claim}, {row.base} ({wording.number(row.here, True)} here, "
        f"{wording.number(row.reference, True)} there)"
        for row in effects[~effects["within"].astype(bool)].itertuples()
    ]
    return f"{verdicts} {agree}" + (f" Not so: {'; '.join(others)}." if others else "")
