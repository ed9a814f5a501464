"""Notebook 05: corpora of rising size for a student that answers without thinking, and what they
should hold.
"""

import math
from dataclasses import dataclass

import pandas as pd

from ded import jobs
from ded.params.schemas import Valley
from ded.study import pipeline
from ded.study.unit import Unit, short

SELECTIONS = ("easy", "hard", "correct", "incorrect")


@dataclass(frozen=True)
class Pool:
    """One unit's trajectories, one a question, in an order in which each size contains the smaller
    ones.

    table: the first correct trajectory of every question, with difficulty; wrong: of those
    questions that the teacher also answered wrongly the first wrong one, which has passed the
    filters of length and format; tokens: sampled by the teacher.
    """

    table: pd.DataFrame
    wrong: pd.DataFrame
    funnel: pd.DataFrame
    tokens: int


def arms(params: Valley) -> dict[str, int]:
    """{arm of notebook 05: examples that it trains on}, in order; the notebook says what makes
    each.
    """
    selected = {f"{name} {size}": size for name in SELECTIONS for size in params.selection_sizes}
    return {f"random {size}": size for size in params.sizes} | selected


@jobs.looked_up
def pool(unit: Unit[Valley]) -> Pool:
    """What the arms of notebook 05 select from."""
    params, questions = unit.params, unit.questions()
    curated = pipeline.curate(unit, params.teacher, params.n_attempts)
    right = pipeline.without_ids(curated.kept).drop_duplicates("problem_id")
    table = pipeline.shuffled(unit, right)
    difficulty = {question.id: float(question.level) for question in questions}
    if params.difficulty != "level":  # one minus the pass rate of the student before
        rates = pipeline.pass_rates(unit, questions)
        difficulty = dict(zip(rates["problem_id"], 1 - rates["pass_rate"], strict=True))
    table = table.assign(difficulty=table["problem_id"].map(difficulty).astype(float))
    dropped = pipeline.without_ids(curated.dropped)
    wrong = dropped[(dropped["step"] == "answer") & (dropped["reason"] == "wrong")]
    wrong = wrong.drop_duplicates("problem_id").drop(columns=["step", "reason"])
    wrong = table[["problem_id"]].merge(wrong, on="problem_id")  # in the table's order
    funnel = curated.funnel.assign(teacher=short(params.teacher), **unit.row)
    return Pool(table, wrong, funnel, curated.n_tokens)


def even_cut(difficulty: pd.Series) -> float:
    """The difficulty up to which questions are easy: the cut that halves them most evenly; NaN
    where all are alike.
    """
    cuts = sorted(difficulty.dropna().unique())[:-1]
    return min(cuts, key=lambda cut: abs((difficulty <= cut).mean() - 0.5), default=math.nan)
