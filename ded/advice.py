"""Advice on a teacher before any training: how candidates rank by scores of their corpora, what
trusting a score has cost where that was measured, and when to run the smoke test after all.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ded import folders, home, jobs, results, study
from ded.errors import ParameterError
from ded.params.schemas import TeacherSelection
from ded.study.teachers import PREDICTORS, untrained
from ded.study.unit import Unit, short
from ded.wording import interval, line

NOTEBOOK = "01_teacher_selection"
RUNS = ("reference", "recorded")  # that tell of costs where none is named
COSTS = ["score", "run", "students", "regret", "regret_low", "regret_high"]


@dataclass(frozen=True)
class Advice:
    """What there is to know before a smoke test.

    scores: teacher, examples, score (of `PREDICTORS`), value, seconds, gib; a row a teacher and
    score. costs: score, run, students (their specs), regret, regret_low, regret_high (shares of ID
    pass@1). best: the score to go by, "" where none was measured. order: the teachers by it, the
    best first. reasons: why the smoke test is to be run after all; none where the score may be
    trusted.
    """

    scores: pd.DataFrame
    costs: pd.DataFrame
    best: str
    order: list[str]
    reasons: list[str]


def advise(params: TeacherSelection, runs: Sequence[str]) -> Advice:
    """Scores the candidates of a study's first unit as notebook 01 does (nothing is trained), and
    judges by what `runs`, folders of outputs/ (none: `RUNS`), say of each score's cost.

    The rule, written before it was ever applied: go by the score whose cost is surely lowest, that
    is the one with the lowest upper bound, in the worst of the runs that measured it; an interval
    without any width measured no error, and counts for nothing. Run the smoke test after all where
    this bound is above `delta`, or was never measured; or where a candidate has no score. That
    teachers score alike is part of what a score was measured to cost. ModelError and others as the
    notebook's, before anything is computed; ParameterError for a run without a
    finished notebook 01, and for a single teacher.
    """
    if len(params.teachers) < 2:
        raise ParameterError("one teacher is no choice: name two or more")
    for run in runs:
        folder = home() / "outputs" / run
        if not folders.finished(folder / NOTEBOOK):
            raise ParameterError(results.not_there(folder, NOTEBOOK))
    if len(study.recorded_teachers(params)) == len(params.teachers):  # nothing is sampled
        engine = params.engine.model_copy(update={"name": "transformers"})
        params = params.model_copy(update={"engine": engine})
    study.check(params)
    calls = study.calls(study.units(params)[:1], teacher=params.teachers)
    corpora = jobs.run(study.teacher_corpus, calls, params.n_jobs, "corpora")
    scored = [call | {"corpus": made.examples} for call, made in zip(calls, corpora, strict=True)]
    scores = pd.concat(jobs.run(of_teacher, scored, params.n_jobs, "scores"))
    return judged(scores, costs(runs or RUNS), params.delta)


def of_teacher(unit: Unit[TeacherSelection], teacher: str, corpus: pd.DataFrame) -> pd.DataFrame:
    """`Advice.scores` of one teacher."""
    whole = untrained(unit, corpus) if len(corpus) else {}
    rows: list[dict[str, Any]] = [
        {"score": name} | score._asdict() for name, score in whole.items()
    ]
    table = pd.DataFrame(rows or [{"score": "", "value": math.nan}])
    return table.assign(teacher=short(teacher), examples=len(corpus))


def costs(runs: Iterable[str]) -> pd.DataFrame:
    """`Advice.costs`: what choosing by each score lost against the smoke test (cross-fitted regret,
    see `stats.regret`) in the complete runs of notebook 01 that measured it."""
    names = {PREDICTORS[name].label: name for name in PREDICTORS if not PREDICTORS[name].trained}
    tables = [pd.DataFrame(columns=COSTS)]
    for run in runs:
        folder = home() / "outputs" / run / NOTEBOOK
        of_run, file = folders.finished(folder), folder / "rank_correlations.csv"
        if of_run and file.is_file():
            table = pd.read_csv(file)
            facts = {"run": run, "students": ", ".join(of_run["students"])}
            table = table.assign(score=table["predictor"].map(names), **facts)
            tables.append(table.reindex(columns=COSTS).dropna())
    return pd.concat(tables, ignore_index=True)


def judged(scores: pd.DataFrame, costs: pd.DataFrame, delta: float) -> Advice:
    """The advice by the rule of `advise`."""
    measured = scores.dropna(subset="value")
    unscored = sorted({*scores["teacher"]} - {*measured["teacher"]})
    reasons = [f"{teacher} has no example to score" for teacher in unscored]
    of_all = measured.groupby("score")["teacher"].nunique() == measured["teacher"].nunique()
    bounded = costs[costs["regret_high"] > costs["regret_low"]]  # else nothing measured the error
    bounds = bounded.groupby("score")["regret_high"].max()
    bounds = bounds[[name for name in bounds.index if of_all.get(name, False)]]
    if bounds.empty:
        reason = "no run here has measured what trusting one of these scores costs"
        return Advice(scores, costs, "", [], [*reasons, reason])
    best = str(bounds.idxmin())
    if bounds[best] > delta:
        reasons.append(f"the cost may be above {line(delta)} points")
    by_best = measured[measured["score"] == best].set_index("teacher")
    order = (by_best["value"] * PREDICTORS[best].sign).sort_values(ascending=False).index.tolist()
    return Advice(scores, costs, best, order, reasons)


# ---- in words ----------------------------------------------------------------------------------


def of_teachers(advice: Advice) -> pd.DataFrame:
    """A row a teacher, the best first: examples, and each score with its rank."""
    values = advice.scores.pivot(index=["teacher", "examples"], columns="score", values="value")
    values = (
        values.filter(PREDICTORS)
        .reset_index("examples")
        .reindex([*advice.order, *values.index.unique("teacher").difference(advice.order)])
    )
    for name in values.columns.drop("examples"):
        ranks = (-PREDICTORS[name].sign * values[name]).rank(method="min").map(" ({:.0f})".format)
        values[name] = (values[name].map("{:.3g}".format) + ranks).replace("nan (nan)", "–")
    return values.reset_index()


def of_scores(advice: Advice) -> pd.DataFrame:
    """A row a score: what it is, and by each run what choosing by it has cost in points."""
    table = advice.costs.assign(cost=[_cost(row) for row in advice.costs.itertuples()])
    table = table.pivot(index="score", columns="run", values="cost").add_prefix("cost, ")
    table = table.reindex(advice.scores["score"].drop_duplicates()).drop(index="", errors="ignore")
    table.insert(0, "what", [PREDICTORS[str(name)].label for name in table.index])
    return table.fillna("–").reset_index()


def _cost(row: Any) -> str:
    return interval(row.regret, row.regret_low, row.regret_high, sign=True)


def sentences(advice: Advice) -> str:
    """The advice: the score to go by, what it has cost, the order it gives, and whether to run the
    smoke test."""
    texts = []
    if advice.best:
        label = PREDICTORS[advice.best].label
        texts.append(f"Of the scores that need no training, '{label}' has the lowest sure cost.")
    for row in advice.costs[advice.costs["score"] == advice.best].itertuples():
        texts.append(
            f"Choosing by it instead of by the smoke test cost {_cost(row)} points of ID pass@1 in "
            f"{row.run}, of {row.students} (of others a hint, no measurement; it was picked by "
            "this very number, and so is flattered)."
        )
    if advice.order:
        texts.append(f"It ranks {' > '.join(advice.order)}.")
    if advice.reasons:
        return " ".join([*texts, f"Run the smoke test: {'; '.join(advice.reasons)}."])
    return " ".join([*texts, f"Take {advice.order[0]}; the smoke test may be left out."])
