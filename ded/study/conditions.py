"""Conditions before outcomes: what a run starts from, held against the paper's.

The bands stand in params/conditions.yml, fixed beforehand. A notebook measures before it trains an
arm: {measure: {base or teacher: value}}, by the functions below; what is not measured is left out.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from ded import home
from ded.errors import ParameterError, no_such
from ded.files import read_yaml
from ded.params import validated
from ded.study.pipeline import Arm, steps_of
from ded.study.unit import Unit

Measured = dict[str, dict[str, float]]
FILE = "params/conditions.yml"
FAR = 0.1  # how far outside a band of shares a base may lie, as long as the mean lies within


class Condition(BaseModel):
    """A condition of params/conditions.yml, which says what its keys mean."""

    model_config = ConfigDict(extra="forbid")

    what: str
    measure: str
    unit: Literal["share", "number"]
    band: tuple[float | None, float | None]
    at_least: float = 0.0
    paper: str
    source: str

    def inside(self, value: float, slack: float = 0.0) -> bool:
        """Whether a value lies within the band, or no more than `slack` outside."""
        low, high = self.band
        above = low is None or value >= low - slack
        return bool(above and (high is None or value <= high + slack))


class Bands(BaseModel):
    """The file: conditions by name; and by notebook and claim (how its name begins) their names."""

    conditions: dict[str, Condition]
    claims: dict[str, dict[str, list[str]]]


# ---- what is measured --------------------------------------------------------------------------


def of_students(before: pd.DataFrame) -> Measured:
    """By base, of the scores before distillation: id_before, code_before, ood_before, above_chance
    (of ID, above guessing). By perturbation: perturbed_above_chance, perturbed_below_id.
    """
    family = before["family"]
    above = before.assign(above=before["accuracy"] - before["chance"])
    robust = above[above["group"] == "robust"].groupby("family", sort=False)
    return {
        "id_before": _by_base(before[family == "ID"], "accuracy"),
        "code_before": _by_base(before[family == "ID code"], "accuracy"),
        "ood_before": _by_base(before[before["group"] == "OOD"], "accuracy"),
        "above_chance": _by_base(above[family == "ID"], "above"),
        "perturbed_above_chance": robust["above"].mean().to_dict(),
        "perturbed_below_id": (
            before.loc[family == "ID", "accuracy"].mean() - robust["accuracy"].mean()
        ).to_dict(),
    }


def of_teachers(own: Mapping[str, float], entropy: Mapping[str, float]) -> Measured:
    """By teacher, of own pass@1 and the token entropy of corpora: teachers_own, token_entropy; and
    teachers_apart, the smallest difference among the four that lead.
    """
    leading = pd.Series(own, dtype=float).dropna().nlargest(4)
    gaps = [above - below for above, below in pairwise(leading)]
    apart = {"": min(gaps)} if gaps else {}
    by_teacher = {"teachers_own": dict(own), "token_entropy": dict(entropy)}
    return by_teacher | {"teachers_apart": apart}


def of_compression(funnel: pd.DataFrame) -> Measured:
    """By base, of a funnel: keep_share, the share of rated questions that compression leaves."""
    steps = funnel[funnel["step"] == "compression"].groupby("base", sort=False)
    counts = steps[["kept", "dropped"]].sum()
    return {"keep_share": (counts["kept"] / counts.sum(axis=1)).to_dict()}


def of_candidates(facts: Iterable[Mapping[str, Any]], n_kept: int) -> Measured:
    """By base, of facts about pools (base, distinct: of each question how many valid trajectories
    differ): candidates, the median number a question over P.
    """
    table = pd.DataFrame(facts).explode("distinct")
    medians = table["distinct"].astype(float).groupby(table["base"], sort=False).median()
    return {"candidates": (medians / n_kept).to_dict()}


def of_arm(calls: Iterable[Mapping[str, Any]], name: str) -> Measured:
    """By base, of one arm among the calls of `study.run_arm`: trajectories (a question),
    batch_share, steps; and epochs.
    """
    planned: list[tuple[Unit, Arm]] = [(call["unit"], call["arm"]) for call in calls]
    rows = []
    for unit, arm in planned:
        if arm.name == name and len(arm.corpus):
            n, params = len(arm.corpus), unit.params
            trajectories = n / arm.corpus["problem_id"].nunique()
            row = {"trajectories": trajectories, "batch_share": params.batch_size / n}
            rows.append(unit.row | row | {"steps": arm.max_steps or steps_of(unit, n)})
    epochs = {"": planned[0][0].params.epochs} if planned else {}
    columns = ("trajectories", "batch_share", "steps")
    table = pd.DataFrame(rows, columns=["base", "replicate", *columns])
    return {"epochs": epochs} | {column: _by_base(table, column) for column in columns}


def _by_base(table: pd.DataFrame, column: str) -> dict[str, float]:
    return table.groupby("base", sort=False)[column].mean().to_dict()


# ---- held against the bands --------------------------------------------------------------------


def compare(notebook: str, measured: Measured) -> pd.DataFrame:
    """A row a condition of a notebook's claims: its name (condition), the keys of `Condition`,
    measured, value, inside, outliers, claims.

    measured: by base or teacher; value: the mean, NaN where nothing was measured, as inside is then
    None. outliers: the names that lie outside, where shares of bases are meant by more than FAR.
    claims: how the names of the claims begin that rest on it. ParameterError, which names file and
    key, where the file is not as it should be.
    """
    bands = validated(Bands, read_yaml(home() / FILE), FILE)
    claims, rows = bands.claims[notebook], []
    for key in dict.fromkeys(key for keys in claims.values() for key in keys):
        if key not in bands.conditions:
            raise ParameterError(f"{FILE}: {no_such('condition', key, bands.conditions)}")
        condition = bands.conditions[key]
        values = pd.Series(measured.get(condition.measure, {}), dtype=float).dropna()
        inside = condition.inside(values.mean()) if len(values) else None
        if len(values) and condition.at_least:
            inside = bool(values.map(condition.inside).mean() >= condition.at_least)
        slack = 0.0 if condition.at_least or condition.unit != "share" else FAR
        row = {"condition": key, **condition.model_dump(), "measured": values.to_dict()}
        row |= {"value": values.mean(), "inside": inside}
        row["outliers"] = [n for n, value in values.items() if not condition.inside(value, slack)]
        rows.append(row | {"claims": [claim for claim, keys in claims.items() if key in keys]})
    return pd.DataFrame(rows)
