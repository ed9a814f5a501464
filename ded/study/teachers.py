"""Notebook 01: the smoke test, and what might have told its outcome without training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ded import analysis
from ded.study.arms import Arm, run_arm
from ded.study.unit import short

if TYPE_CHECKING:
    import pandas as pd

    from ded.params.schemas import TeacherSelection
    from ded.study.unit import Unit

MEASURED = ("token_entropy", "latent_shift", "n_tokens", "corpus_loss")


@dataclass(frozen=True)
class Smoke:
    """Of one teacher in one unit: scores of its student, row (what might have predicted them), and
    the latent shift.

    row: base, replicate, arm, corpus_size, token_entropy (nats a token), latent_shift, n_tokens
    (mean length), corpus_loss (nats a token, before training). Of a teacher whose corpus is empty
    nothing is measured: shift None, NaN elsewhere.
    """

    scores: pd.DataFrame
    row: dict[str, Any]
    shift: dict[str, Any] | None  # see `analysis.latent_shift`


def arms(params: TeacherSelection) -> dict[str, int]:
    """{arm of notebook 01: examples that it trains on at most}: an arm a teacher."""
    return {short(teacher): params.corpus_size for teacher in params.teachers}


def smoke_test(unit: Unit[TeacherSelection], teacher: str, corpus: pd.DataFrame) -> Smoke:
    """Distils the student briefly on one teacher's corpus and scores it (paper: "smoke test")."""
    outcome = run_arm(unit, Arm(short(teacher), corpus))
    row = unit.row | {"arm": short(teacher), "corpus_size": len(corpus)}
    if corpus.empty:
        return Smoke(outcome.scores, row | dict.fromkeys(MEASURED, math.nan), None)
    inputs = unit.suite()["ID"][: unit.params.shift_inputs]
    shift = analysis.latent_shift(unit.base, outcome.student, inputs)
    row |= {
        "token_entropy": analysis.token_entropy(corpus),
        "latent_shift": shift["shift"],
        "n_tokens": float(corpus["n_tokens"].mean()),
        "corpus_loss": analysis.corpus_loss(unit.base, corpus),
    }
    return Smoke(outcome.scores, row, shift)
