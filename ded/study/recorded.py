"""What recorded teachers show of themselves: answers to training questions alone. What stands here
takes the place of an own score that nobody measured, and never its column.
"""

import math
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from ded import evaluation
from ded.study import pipeline
from ded.study.preflight import recorded_teachers
from ded.study.unit import Unit, short

AGREEMENT = ["base", "replicate", "teacher", "questions", "agreement", "correct"]


def agreement(unit: Unit) -> pd.DataFrame:
    """A row a recorded teacher whose own score is not measured: questions (with a trace),
    agreement: the share of its first answers that are the consensus, correct: the share that the
    references call so (fractions of the training questions that it has a trace of).

    The consensus of a question is the most frequent first answer of all these teachers, its own
    too, the same where the grader calls them correct or their normal forms are; questions on which
    several lead do not count. Empty with fewer than three.
    """
    recorded, scored = recorded_teachers(unit.params), unit.suite()["ID"]
    teachers = [teacher for teacher in recorded if pipeline.lacks_traces(teacher, scored)]
    if len(teachers) < 3:
        return pd.DataFrame(columns=AGREEMENT)
    questions = unit.questions()
    tables = [pipeline.graded(unit, teacher, 1, questions) for teacher in teachers]
    answers = pd.concat(tables, ignore_index=True)
    asked = {question.id: question for question in questions}
    answers["vote"] = evaluation.votes(answers, asked)
    given = answers[answers["vote"] >= 0]
    consensus = given.groupby("problem_id")["vote"].agg(_leader)
    leader = answers["problem_id"].map(consensus)
    answers["agreement"] = (answers["vote"] == leader).astype(float).where(leader.notna())
    answers["correct"] = (answers["verdict"] == "correct").astype(float)
    each = answers.groupby("model", sort=False)
    table = each[["agreement", "correct"]].mean().assign(questions=each.size())
    table = table.rename(index=short).rename_axis("teacher").reset_index()
    return table.assign(**unit.row)[AGREEMENT]


def _leader(votes: pd.Series) -> float:
    leaders = votes.mode()
    return leaders[0] if len(leaders) == 1 else math.nan


def overlaps(units: Iterable[Unit]) -> dict[str, float]:
    """{evaluation set: training questions a unit, on average, that stand in it too} and are left
    out; {} where nothing is compared."""
    tables = [table for unit in units if (table := unit.overlaps()) is not None]
    pairs = {
        (unit, row.eval_id.partition(":")[0], row.train_id)
        for unit, table in enumerate(tables)
        for row in table.itertuples()
    }
    counts = Counter(family for _, family, _ in sorted(pairs))
    return {family: n / len(tables) for family, n in counts.items()}
