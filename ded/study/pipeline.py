"""From a teacher to what the arms of a unit select from, and from an arm to its scores.

Before the arms: trajectories graded, curated, questions rated. An arm is a corpus with a name; one
way leads from it to a score, and one row says what it was trained on. Each stage is looked up in
the store.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from ded import curation, evaluation, generation, grading, jobs, problems, store, training
from ded.curation import Filtered
from ded.grading import VERDICTS
from ded.models import traces
from ded.models.spec import parse
from ded.params.schemas import TeacherSelection
from ded.problems import Problem
from ded.study.unit import Unit, short

RATES = ("think_rate", "untagged_rate", "completion_rate")
MEASURES = ("accuracy", "pass_at_k", "maj_at_k", "n_tokens", *RATES)

# ---- from a teacher to a pool ------------------------------------------------------------------


def graded(unit: Unit, teacher: str, n: int, questions: list[Problem]) -> pd.DataFrame:
    """n graded trajectories of each question by a teacher.

    What came as text alone is counted by the student's tokenizer.
    """
    sampled = generation.sample(teacher, questions, n, **unit.sampling())
    counted = generation.counted(sampled, unit.base)
    how, columns = unit.params.grading, ["problem_id", "text", "finish_reason"]
    asked = {"texts": counted[columns], "problems": problems.fingerprint(questions)}
    key = store.key("graded", 1, **asked, grading=grading.identity(how))
    verdicts = grading.stored(
        key, lambda: grading.grade(counted[columns], questions, how).drop(columns=columns)
    )
    return counted.assign(**{name: verdicts[name].to_numpy() for name in verdicts})


def filtered(unit: Unit, trajectories: pd.DataFrame, questions: list[Problem]) -> Filtered:
    """What the quality filters keep of graded trajectories; steps are checked where
    params.verification asks and they can be.
    """
    checkable = all("terms" in question.meta for question in questions)
    verify = unit.params.verification if checkable else "answer"
    limits = {"max_tokens": unit.params.max_tokens, "drop_repeats": unit.params.drop_repeats}
    return curation.curate(trajectories, questions, verify=verify, **limits)


def curate(unit: Unit, teacher: str, n: int, source: str = "") -> Filtered:
    """The quality filters over n trajectories a question by a teacher.

    The funnel opens with what was lost before: questions that the evaluation holds too, traces
    that a record lacks.
    """
    questions, overlaps, lost = unit.questions(source), unit.overlaps(source), []
    trajectories = graded(unit, teacher, n, questions)
    total = n * len(questions)
    if overlaps is not None:
        pairs = overlaps.head(20).itertuples(index=False)
        why = "; ".join(f"{train} in {asked} ({share:.2f})" for train, asked, share in pairs)
        dropped = n * overlaps["train_id"].nunique()
        lost.append(curation.funnel_row("contamination", total, dropped, why))
    if missing := total - len(trajectories):
        reason = f"no trace: {missing}"
        lost.append(curation.funnel_row("recorded", len(trajectories), missing, reason))
    result = filtered(unit, trajectories, questions)
    return result._replace(funnel=pd.concat([*lost, result.funnel], ignore_index=True))


def pass_rates(unit: Unit, questions: list[Problem]) -> pd.DataFrame:
    """Pass rates of the student before distillation, of params.pass_rate_samples a question:
    problem_id, level, pass_rate ...
    """
    samples, scoring = unit.params.pass_rate_samples, unit.scoring()
    return evaluation.pass_rates(unit.base, questions, samples, **scoring)


def compressed(unit: Unit, rates: pd.DataFrame) -> Filtered:
    """Question compression after params.keep_questions."""
    return curation.compress_questions(rates, unit.params.keep_questions, unit.seed)


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


@dataclass(frozen=True)
class Corpus:
    """Examples to train on, and the funnel that led to them (step, kept, dropped, reason, base,
    replicate, teacher).
    """

    examples: pd.DataFrame
    funnel: pd.DataFrame


@jobs.looked_up
def teacher_corpus(unit: Unit, teacher: str) -> Corpus:
    """A teacher's corpus: the first kept trajectory of each question, cut to params.corpus_size
    questions.
    """
    curated = curate(unit, teacher, unit.params.n_attempts)
    first = curated.kept.drop_duplicates("problem_id")
    corpus = first.head(unit.params.corpus_size)
    one_each = curation.funnel_row("one a question", len(first), len(curated.kept) - len(first))
    cut = curation.funnel_row("corpus size", len(corpus), len(first) - len(corpus))
    funnel = pd.concat([curated.funnel, one_each, cut], ignore_index=True)
    return Corpus(without_ids(corpus), funnel.assign(**unit.row, teacher=short(teacher)))


# ---- from an arm to its scores -----------------------------------------------------------------


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
    name: str, size: int, candidates: pd.DataFrame, max_steps: int = 0, at_least: int = 0
) -> Arm:
    """The arm "<name> <size>": the first `size` candidates; not measured with fewer than `at_least`
    (0: all of them).
    """
    least = at_least or size
    enough = len(candidates) >= least
    note = "" if enough else f"not measured: {len(candidates)} of {least} examples"
    corpus = candidates.head(size if enough else 0)
    return Arm(f"{name} {size}", corpus, max_steps, note, {"size": size, "selection": name})


def is_run(unit: Unit, arm: str) -> bool:
    """Whether an arm is among those that params.arms names, or all are run."""
    return arm in (unit.params.arms or [arm])


@jobs.looked_up
def run_arm(unit: Unit, arm: Arm) -> Outcome:
    """Distils the unit's base on the arm's corpus and scores it on the unit's suite.

    An arm that params.arms leaves out is not measured.

    The row: base, replicate, arm, the arm's facts, questions, examples, tokens (of the corpus),
    steps (of the optimizer), note.
    """
    if not is_run(unit, arm.name):
        arm = replace(arm, corpus=arm.corpus.head(0), note="not run: none of `arms`")
    families, steps, student, note = unit.suite(), 0, "", arm.note
    if arm.corpus.empty:
        note = arm.note or "not measured: nothing to train on"
        scores = _unscored(unit, arm.name, families)
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


def score(unit: Unit, model: str, arm: str, families: dict[str, list[Problem]]) -> pd.DataFrame:
    """Score rows of one model (see `ded.tables`), of params.samples a question; group is ID, OOD or
    robust.
    """
    table = evaluation.evaluate(model, families, samples=unit.params.samples, **unit.scoring())
    return _grouped(unit, table, arm)


@jobs.looked_up
def before(unit: Unit) -> pd.DataFrame:
    """Scores of the student base before any distillation, on the same questions."""
    return score(unit, unit.base, "before", unit.suite())


@jobs.looked_up
def own_score(unit: Unit, teacher: str, families: Iterable[str] = ("ID",)) -> pd.DataFrame:
    """A teacher's (or any model's) own scores on the unit's questions of these families; n = 0 and
    NaN for recorded traces that lack one of them, for "", and in notebook 01, where an arm is a
    teacher, for one that is not run.
    """
    asked = {family: unit.suite()[family] for family in families}
    questions = [question for family in asked.values() for question in family]
    left_out = isinstance(unit.params, TeacherSelection) and not is_run(unit, short(teacher))
    if left_out or not teacher or lacks_traces(teacher, questions):
        return _unscored(unit, short(teacher), asked)
    return score(unit, teacher, short(teacher), asked)


def lacks_traces(teacher: str, questions: list[Problem]) -> bool:
    """Whether a teacher is recorded, and one of the questions without a trace."""
    recorded = parse(teacher).kind == "recorded"
    return recorded and not all(traces.traces(teacher, questions, 1).values())


def _unscored(unit: Unit, arm: str, families: Iterable[str]) -> pd.DataFrame:
    """Score rows of what could not be measured (nothing to train on, a teacher that answers no new
    questions): n = 0, NaN.
    """
    blank = dict.fromkeys(MEASURES, math.nan) | dict.fromkeys(("n", *VERDICTS, "judged"), 0)
    return _grouped(unit, pd.DataFrame([{"family": name, **blank} for name in families]), arm)


def _grouped(unit: Unit, table: pd.DataFrame, arm: str) -> pd.DataFrame:
    ood = {problems.source(source).family for source in unit.params.ood_sources}
    groups = [
        "OOD" if f in ood else "ID" if f.startswith("ID") else "robust" for f in table["family"]
    ]
    return table.assign(**unit.row, arm=arm, group=groups)
