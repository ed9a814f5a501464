"""An arm: a corpus with a name. One way from it to a score, and one row that says what it was
trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from ded import evaluation, problems, training
from ded.grading import VERDICTS
from ded.models import traces
from ded.models.spec import parse
from ded.problems import Problem
from ded.study.unit import short

if TYPE_CHECKING:
    from ded.study.unit import Unit

MEASURES = ("accuracy", "pass_at_k", "n_tokens", "think_rate")


@dataclass(frozen=True)
class Arm:
    """What one student of a unit is distilled on. An empty corpus is not measured, and `note` says
    why.
    """

    name: str
    corpus: pd.DataFrame = field(repr=False)
    max_steps: int = 0  # optimizer steps; 0: as many as params.epochs make
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)  # more columns of its row


@dataclass(frozen=True)
class Outcome:
    """Of one arm: scores (see `ded.tables`), row (what it was trained on), student (a model spec,
    "" if not measured).
    """

    scores: pd.DataFrame
    row: dict[str, Any]
    student: str


def sized(
    selection: str,
    size: int,
    candidates: pd.DataFrame,
    *,
    max_steps: int = 0,
    at_least: int | None = None,
) -> Arm:
    """The arm "<selection> <size>": the first `size` candidates; not measured with fewer than
    `at_least` (all of them).
    """
    least = size if at_least is None else at_least
    enough = len(candidates) >= least
    note = "" if enough else f"not measured: {len(candidates)} of {least} examples"
    facts = {"size": size, "selection": selection}
    corpus = candidates.head(size if enough else 0)
    return Arm(f"{selection} {size}", corpus, max_steps, note, facts)


def run_arm(unit: Unit, arm: Arm, perturbations: Iterable[str] = ()) -> Outcome:
    """Distils the unit's base on the arm's corpus and scores it on the unit's suite.

    The row: base, replicate, arm, the arm's facts, questions, examples, tokens (of the corpus),
    steps (of the optimizer), note.
    """
    families, steps, student, note = unit.suite(perturbations), 0, "", arm.note
    if arm.corpus.empty:
        note = arm.note or "not measured: nothing to train on"
        scores = unscored(unit, arm.name, families)
    else:
        student = distil(unit, arm.corpus, arm.max_steps)
        steps = arm.max_steps or steps_of(unit, len(arm.corpus))
        scores = score(unit, student, arm.name, families)
    trained_on = {
        "questions": arm.corpus["problem_id"].nunique(),
        "examples": len(arm.corpus),
        "tokens": int(arm.corpus["n_tokens"].sum()),
    }
    row = unit.row | {"arm": arm.name, **arm.facts, **trained_on, "steps": steps, "note": note}
    return Outcome(scores, row, student)


def steps_of(unit: Unit, n_examples: int) -> int:
    """Optimizer steps that the parameters' epochs make over so many examples."""
    return training.optimizer_steps(n_examples, unit.params.epochs, unit.params.batch_size)


def distil(unit: Unit, corpus: pd.DataFrame, max_steps: int = 0) -> str:
    """The spec of the unit's base trained on `corpus`; max_steps above 0 replaces the epochs."""
    return training.sft(unit.base, corpus, max_steps=max_steps, **unit.training())


def score(unit: Unit, model: str, arm: str, families: Mapping[str, list[Problem]]) -> pd.DataFrame:
    """Score rows of one model (see `ded.tables`), of params.samples a question; group is ID, OOD or
    robust.
    """
    sampling = unit.sampling(unit.params.eval_temperature)
    table = evaluation.evaluate(model, dict(families), samples=unit.params.samples, **sampling)
    return _grouped(unit, table, arm)


def unscored(unit: Unit, arm: str, families: Iterable[str]) -> pd.DataFrame:
    """Score rows of what could not be measured (nothing to train on, a teacher that answers no new
    questions): n = 0, NaN.
    """
    blank = dict.fromkeys(MEASURES, math.nan) | dict.fromkeys(("n", *VERDICTS), 0)
    return _grouped(unit, pd.DataFrame([{"family": name, **blank} for name in families]), arm)


def before(unit: Unit, perturbations: Iterable[str] = ()) -> pd.DataFrame:
    """Scores of the student base before any distillation, on the same questions."""
    return score(unit, unit.base, "before", unit.suite(perturbations))


def own_score(unit: Unit, teacher: str) -> pd.DataFrame:
    """The teacher's own scores on the unit's in-domain questions; n = 0 and NaN for recorded traces
    that lack one of them.
    """
    families = {"ID": unit.suite()["ID"]}
    if parse(teacher).kind == "recorded":
        recorded = traces.traces(teacher, families["ID"], 1)
        if not all(recorded.values()):
            return unscored(unit, short(teacher), families)
    return score(unit, teacher, short(teacher), families)


def _grouped(unit: Unit, table: pd.DataFrame, arm: str) -> pd.DataFrame:
    ood = {problems.source(source).family for source in unit.params.ood_sources}
    groups = [
        "OOD" if f in ood else "ID" if f.startswith("ID") else "robust" for f in table["family"]
    ]
    return table.assign(**unit.row, arm=arm, group=groups)
