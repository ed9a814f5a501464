"""From a teacher to what the arms of a unit select from: graded, curated, rated. Each stage is
looked up in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ded import curation, evaluation, generation, problems, store
from ded.grading import grade
from ded.problems import Problem
from ded.study.unit import short

if TYPE_CHECKING:
    from ded.study.unit import Unit


@dataclass(frozen=True)
class Corpus:
    """Examples to train on, and the funnel that led to them (step, kept, dropped, reason, base,
    replicate, teacher).
    """

    examples: pd.DataFrame
    funnel: pd.DataFrame


def graded(
    unit: Unit, teacher: str, n: int, questions: Sequence[Problem] | None = None
) -> pd.DataFrame:
    """n graded trajectories a training question by a teacher, of all training questions unless some
    are given.

    What came as text alone is counted by the student's tokenizer; each distinct program runs once.
    """
    questions = list(unit.questions() if questions is None else questions)
    sampled = generation.sample(teacher, questions, n, **unit.sampling())
    counted = generation.counted(sampled, unit.base)
    return grade(counted, questions, seen=store.root() / "programs.sqlite")


def filtered(
    unit: Unit, trajectories: pd.DataFrame, questions: Sequence[Problem]
) -> curation.Filtered:
    """What the quality filters keep of graded trajectories; steps are checked where
    params.verification asks and they can be.
    """
    checkable = all("terms" in question.meta for question in questions)
    return curation.curate(
        trajectories,
        questions,
        max_tokens=unit.params.max_tokens,
        verify=unit.params.verification if checkable else "answer",
        step_check=step_valid,
    )


def curate(unit: Unit, teacher: str, n: int, source: str = "") -> curation.Filtered:
    """The quality filters over n trajectories a question by a teacher, with questions and traces
    lost before in the funnel.
    """
    questions = unit.questions(source)
    trajectories = graded(unit, teacher, n, questions)
    result = filtered(unit, trajectories, questions)
    lost = _lost_before(unit, n, source, len(trajectories))
    return result._replace(funnel=pd.concat([*lost, result.funnel], ignore_index=True))


def _lost_before(unit: Unit, n: int, source: str, n_trajectories: int) -> list[pd.DataFrame]:
    """The funnel's rows before the filters: questions that the evaluation holds too, traces that a
    record lacks.
    """
    rows, total, overlaps = [], n * len(unit.questions(source)), unit.overlaps(source)
    if overlaps is not None:
        pairs = overlaps.head(20).itertuples(index=False)
        why = "; ".join(f"{train} in {asked} ({share:.2f})" for train, asked, share in pairs)
        dropped = n * overlaps["train_id"].nunique()
        rows.append(curation.funnel_row("contamination", total, dropped, why))
    if missing := total - n_trajectories:
        reason = f"no trace: {missing}"
        rows.append(curation.funnel_row("recorded", n_trajectories, missing, reason))
    return rows


def pass_rates(unit: Unit, questions: Sequence[Problem]) -> pd.DataFrame:
    """Pass rates of the student before distillation, of params.pass_rate_samples a question:
    problem_id, level, pass_rate ...
    """
    params = unit.params
    sampling = unit.sampling(params.eval_temperature)
    return evaluation.pass_rates(unit.base, list(questions), params.pass_rate_samples, **sampling)


def step_valid(problem: Problem, think: str) -> bool:
    """Whether every step of a solution is valid (the last line giving the answer)."""
    return problems.trace(problem, think) is not None


def first_of_each(kept: pd.DataFrame) -> pd.DataFrame:
    """The first trajectory of every question."""
    return kept.drop_duplicates("problem_id")


def shuffled(unit: Unit, table: pd.DataFrame) -> pd.DataFrame:
    """The rows in an order of the unit's own, so that its first n are a random n and each size
    contains the smaller ones.
    """
    return table.sample(frac=1.0, random_state=unit.seed, ignore_index=True)


def without_ids(trajectories: pd.DataFrame) -> pd.DataFrame:
    """Without token ids, which only distances need: what is handed from process to process is
    mostly these.
    """
    return trajectories.drop(columns="token_ids", errors="ignore")


def teacher_corpus(unit: Unit, teacher: str) -> Corpus:
    """A teacher's corpus: the first kept trajectory of each question, cut to params.corpus_size
    questions.
    """
    curated = curate(unit, teacher, unit.params.n_attempts)
    first = first_of_each(curated.kept)
    corpus = first.head(unit.params.corpus_size)
    more = [
        curation.funnel_row("one a question", len(first), len(curated.kept) - len(first)),
        curation.funnel_row("corpus size", len(corpus), len(first) - len(corpus)),
    ]
    funnel = pd.concat([curated.funnel, *more], ignore_index=True)
    return Corpus(without_ids(corpus), funnel.assign(**unit.row, teacher=short(teacher)))
