"""Notebook 04, first half: smoke tests on units of their own, and the teacher that each student
base gets by them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ded import analysis, models, problems, store
from ded.problems import content_hash
from ded.study.arms import distil, own_score, score, steps_of
from ded.study.pools import filtered, graded, without_ids
from ded.study.predictors import PREDICTORS
from ded.study.unit import short

if TYPE_CHECKING:
    from ded.params.schemas import Recipe
    from ded.study.unit import Unit


@dataclass(frozen=True)
class Timed:
    """A measured value and the seconds that it took."""

    value: float
    seconds: float


def smoke_test(unit: Unit[Recipe], teacher: str) -> dict[str, Any]:
    """One candidate on one unit of the selection, as a row.

    base, replicate, teacher, examples, student (pass@1 on ID math), gain over the base, and each of
    `PREDICTORS` with its seconds (<name>_seconds). NaN for what cannot be measured, all but `own`
    for an empty corpus.
    """
    corpus = smoke_corpus(unit, teacher)
    row = unit.row | {
        "teacher": teacher,
        "examples": len(corpus),
        "student": math.nan,
        "gain": math.nan,
    }
    row |= {name + suffix: math.nan for name in PREDICTORS for suffix in ("", "_seconds")}
    measured = {"own": _timed(unit, teacher, lambda: _accuracy(own_score(unit, teacher)))}
    if not corpus.empty:
        student = distil(unit, corpus, steps_of(unit, unit.params.smoke_size))
        scored = _timed(
            unit, student, lambda: _accuracy(_score_math(unit, student, short(teacher)))
        )
        row["student"] = scored.value
        row["gain"] = scored.value - _accuracy(_score_math(unit, unit.base, "before"))
        measured |= _cheap(unit, corpus) | _trained(unit, student, row["gain"], scored.seconds)
    for name, timed in measured.items():
        row |= {name: timed.value, f"{name}_seconds": timed.seconds}
    return row


def smoke_corpus(unit: Unit[Recipe], teacher: str) -> pd.DataFrame:
    """The first params.smoke_size trajectories that pass the filters, one attempt a question of the
    pool's first ones.
    """
    questions = unit.questions()[: unit.params.smoke_questions]
    trajectories = graded(unit, teacher, 1, questions)
    return without_ids(filtered(unit, trajectories, questions).kept.head(unit.params.smoke_size))


def choose(params: Recipe, smoke: pd.DataFrame) -> pd.DataFrame:
    """One row a base: base, teacher (whose student is best on ID math over the units of the
    selection), top (the one that scores highest itself), each with its mean score, and how many tie
    with it.

    Ties are drawn by the seed; "" where nothing was measured.
    """
    rows = []
    for base, of_base in smoke.groupby("base", sort=False):
        row = {"base": base}
        for name, column in (("teacher", "student"), ("top", "own")):
            scores = of_base.pivot(index="replicate", columns="teacher", values=column)
            means = scores.mean(skipna=False)
            best = means.index[means == means.max()]
            drawn = min(
                best, key=lambda spec: content_hash(f"{params.seed} {base} {spec}"), default=""
            )
            row |= {name: drawn, f"{name}_score": means.max(), f"{name}_ties": len(best)}
        rows.append(row)
    return pd.DataFrame(rows)


def _score_math(unit: Unit[Recipe], model: str, arm: str) -> pd.DataFrame:
    return score(unit, model, arm, {"ID": unit.suite()["ID"]})


def _accuracy(scores: pd.DataFrame) -> float:
    return scores["accuracy"].item()


def _timed(unit: Unit[Recipe], model: str, compute: Callable[[], float]) -> Timed:
    """The value, and what computing it cost the first time."""
    key = store.key(
        "cost",
        1,
        model=models.fingerprint(model),
        questions=problems.fingerprint(unit.suite()["ID"]),
        replicate=unit.replicate,
        seed=unit.params.seed,
    )
    seconds = store.json(key, lambda: analysis.timed(compute)["seconds"])
    return Timed(compute(), seconds)


def _cheap(unit: Unit[Recipe], corpus: pd.DataFrame) -> dict[str, Timed]:
    """What needs no training. Entropy and length cost nothing: sampling has measured them."""
    return {
        "loss": Timed(**analysis.likelihood(unit.base, corpus)),
        "lalp": Timed(**analysis.likelihood(unit.base, corpus, unit.params.lalp_window)),
        "entropy": Timed(analysis.token_entropy(corpus), 0.0),
        "length": Timed(float(corpus["n_tokens"].mean()), 0.0),
    }


def _trained(
    unit: Unit[Recipe], student: str, gain: float, scoring_seconds: float
) -> dict[str, Timed]:
    """What needs the trained student, and so costs its training too."""
    log = Path(models.locate(student), "training.json").read_text(encoding="utf-8")
    training_seconds = json.loads(log)["seconds"]
    inputs = unit.suite()["ID"][: unit.params.shift_inputs]
    shift = analysis.latent_shift(unit.base, student, inputs)
    return {
        "shift": Timed(shift["shift"], training_seconds + shift["seconds"]),
        "smoke": Timed(gain, training_seconds + scoring_seconds),
    }
