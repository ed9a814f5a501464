"""Which teacher: the smoke test (01, 04), the choice by it (04, first half), and what might have
told its outcome without training.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ded import analysis, jobs, models, problems, stats, store
from ded.analysis import Timed
from ded.models.spec import bare
from ded.params.schemas import DEFAULT, Recipe, TeacherSelection
from ded.problems import content_hash
from ded.study import pipeline
from ded.study.unit import Unit, short
from ded.wording import interval

# ---- scores of a teacher that might tell what a smoke test would (01, 04) -----------------------


@dataclass(frozen=True)
class Predictor:
    """A score of a candidate teacher: its name for readers, +1 where more of it should be better,
    -1 where less.
    """

    label: str
    sign: int
    trained: bool = False  # whether it needs the trained student
    scale: int = 1  # from its value to the label's unit


PREDICTORS = {
    "own": Predictor("own pass@1 (%)", 1, scale=100),
    "loss": Predictor("student's loss on the corpus (nats a token)", -1),
    "rsr": Predictor("RSR (mean rank over nats)", -1),
    "grace": Predictor("GRACE (student's gradients)", -1),
    "lalp": Predictor("LALP (nats a token)", 1),
    "entropy": Predictor("token entropy (nats a token)", -1),
    "length": Predictor("mean length (tokens)", -1),
    "shift": Predictor("latent shift (needs the training)", -1, trained=True),
    "smoke": Predictor(
        "smoke test's gain (points; needs the training)", 1, trained=True, scale=100
    ),
}
COLUMNS = [name + suffix for name in PREDICTORS for suffix in ("", "_seconds", "_gib")]
SMOKE = ["base", "replicate", "teacher", "examples", "student", "gain", *COLUMNS]  # `candidate`


def untrained(unit: Unit, corpus: pd.DataFrame) -> dict[str, Timed]:
    """Those of `PREDICTORS` that need no training and no answers of the teacher beyond its corpus,
    which is not empty.
    """
    measured = analysis.corpus_scores(unit.base, corpus, unit.params.lalp_window, unit.dtype)
    # these two cost nothing: sampling has measured them
    measured["entropy"] = Timed(analysis.token_entropy(corpus), 0.0)
    measured["length"] = Timed(float(corpus["n_tokens"].mean()), 0.0)
    return measured


def _measured(unit: Unit, corpus: pd.DataFrame, student: str) -> dict[str, Timed]:
    """`PREDICTORS` but for `own` and `smoke`, of a corpus and the student trained on it."""
    measured = untrained(unit, corpus)
    shift = analysis.latent_shift(unit.base, student, _inputs(unit), dtype=unit.dtype)
    measured["shift"] = Timed(shift.value, shift.seconds + _training_seconds(student))
    return measured


def _inputs(unit: Unit) -> list[problems.Problem]:
    return unit.suite()["ID"][: unit.params.shift_inputs]


def plane(unit: Unit, students: dict[str, str]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, before, after) of each of a unit's students: hidden states on the axes of one PCA."""
    if not students:
        return []
    specs = [unit.base, *students.values()]
    before, *after = analysis.latent_plane(specs, _inputs(unit), dtype=unit.dtype)
    return [(name, before, states) for name, states in zip(students, after, strict=True)]


def _training_seconds(student: str) -> float:
    log = Path(models.locate(student), "training.json").read_text(encoding="utf-8")
    return json.loads(log)["seconds"]


def _columns(measured: dict[str, Timed]) -> dict[str, float]:
    """A row's `COLUMNS`, NaN for what was not measured."""
    row = dict.fromkeys(COLUMNS, math.nan)
    for name, score in measured.items():
        row |= {name: score.value, f"{name}_seconds": score.seconds, f"{name}_gib": score.gib}
    return row


# ---- notebook 01 -------------------------------------------------------------------------------


def arms(params: TeacherSelection) -> dict[str, int]:
    """{arm of notebook 01: examples that it trains on at most}: an arm a teacher."""
    return {short(teacher): params.corpus_size for teacher in params.teachers}


@jobs.looked_up
def smoke_test(
    unit: Unit[TeacherSelection], teacher: str, corpus: pd.DataFrame
) -> pipeline.Outcome:
    """Distils the student briefly on one teacher's corpus and scores it (paper: "smoke test").

    The row: base, replicate, arm, teacher (its spec), corpus_size, and what might have predicted
    the scores: `PREDICTORS` with their seconds, but for `own` and `smoke`; NaN for a teacher whose
    corpus is empty.
    """
    outcome = pipeline.run_arm(unit, pipeline.Arm(short(teacher), corpus))
    row = unit.row | {"arm": short(teacher), "teacher": teacher, "corpus_size": len(corpus)}
    measured = _measured(unit, corpus, outcome.student) if outcome.student else {}
    return replace(outcome, row=row | _columns(measured))


def with_scores(
    rows: pd.DataFrame, own: pd.DataFrame, student: pd.DataFrame, before: pd.DataFrame
) -> pd.DataFrame:
    """Rows of `smoke_test` with own, student (pass@1 on ID), gain over the base, and smoke, which
    is that gain: as rows of `candidate`. From score rows.
    """
    unit = ["base", "replicate"]
    tables = {"own": own, "student": student, "before": before}
    for name, scores in tables.items():
        key = unit if name == "before" else [*unit, "arm"]
        accuracy = scores[scores["family"] == "ID"].set_index(key)["accuracy"].rename(name)
        rows = rows.drop(columns=name, errors="ignore").join(accuracy, on=key)
    gain = rows["student"] - rows["before"]
    return rows.drop(columns="before").assign(gain=gain, smoke=gain)


def claims(own: pd.DataFrame, student: pd.DataFrame, delta: float) -> list[stats.Claim]:
    """The claims of notebook 01, judged: from ID score rows of the teachers and their students."""
    tables = {"own": own, "student": student, "value": "accuracy"}
    highest, _ = stats.top_against_rest(**tables)
    regret, _ = stats.regret(**tables)
    transfer = stats.transfer_regret(student, "accuracy")
    interaction = stats.interaction(student, "accuracy")
    asked = [
        stats.claim(
            "the teacher that scores highest does not make the best student",
            "ID pass@1, the best other teacher's student minus the highest scorer's (cross-fitted)",
            *highest,
        ),
        stats.claim(
            "choosing the teacher by its own score costs the student",
            "ID pass@1, the smoke test's choice minus the highest scorer (regret, cross-fitted)",
            regret,
        ),
        stats.claim(
            "the best teacher depends on the student",
            "ID pass@1, a base's best teacher minus another base's (cross-fitted); and an F-test",
            stats.Part("cost of another student's teacher", transfer),
            stats.Part("interaction of teacher and student", test_p_value=interaction["p"]),
        ),
    ]
    return [stats.judge([claim], delta=delta)[0] for claim in asked]  # each is a family of its own


def without_each(own: pd.DataFrame, student: pd.DataFrame, delta: float) -> pd.DataFrame:
    """`claims` with each teacher left out in turn (see `stats.without_each`); descriptive."""
    teachers = own["arm"].unique() if own["arm"].nunique() > 2 else []

    def claims_without(teacher: str) -> list[stats.Claim]:
        return claims(own[own["arm"] != teacher], student[student["arm"] != teacher], delta)

    return stats.without_each(teachers, claims_without)


# ---- notebook 04: smoke tests on units of their own, and the teacher each student base gets ----


@jobs.looked_up
def candidate(unit: Unit[Recipe], teacher: str) -> dict[str, Any]:
    """The smoke test of one candidate on one unit of the selection, as a row.

    base, replicate, teacher, examples, student (pass@1 on ID math), gain over the base, and each of
    `PREDICTORS` with its seconds (<name>_seconds). NaN for what cannot be measured, all but `own`
    for an empty corpus.

    The corpus: the first params.smoke_size trajectories that pass the filters, one attempt a
    question of the pool's first ones.
    """
    params = unit.params
    questions = unit.questions()[: params.smoke_questions]
    trajectories = pipeline.graded(unit, teacher, 1, questions)
    kept = pipeline.filtered(unit, trajectories, questions).kept
    corpus = pipeline.without_ids(kept.head(params.smoke_size))
    row = unit.row | {"teacher": teacher, "examples": len(corpus)}
    row |= dict.fromkeys(["student", "gain"], math.nan)
    measured = {"own": _score(unit, teacher)}
    if not corpus.empty:
        student = pipeline.distil(unit, corpus, pipeline.steps_of(unit, params.smoke_size))
        scored = _score(unit, student)
        gain = scored.value - _accuracy(unit, unit.base)
        row |= {"student": scored.value, "gain": gain}
        measured |= _measured(unit, corpus, student)
        # what needs the student costs its training too
        measured["smoke"] = Timed(gain, scored.seconds + _training_seconds(student))
    return row | _columns(measured)


def _accuracy(unit: Unit, model: str) -> float:
    """pass@1 on ID math."""
    return pipeline.own_score(unit, model)["accuracy"].item()


def _score(unit: Unit, model: str) -> Timed:
    """pass@1 on ID math, and what computing it cost the first time."""
    asked = problems.fingerprint(unit.suite()["ID"])
    draw = {"replicate": unit.replicate, "seed": unit.params.seed}
    key = store.key("cost", 2, model=models.fingerprint(model), questions=asked, **draw)
    seconds = analysis.timed(key, lambda: _accuracy(unit, model)).seconds
    return Timed(_accuracy(unit, model), seconds)


def choose(params: Recipe, smoke: pd.DataFrame) -> pd.DataFrame:
    """The teachers of each base, a row for each that ties at the top: base, teacher (whose student
    is best on ID math over the units of the selection), top (that scores highest itself; nobody
    where not all were scored), other (one more); teacher_score, top_score: means over these units;
    teacher_ties: how many share it.

    params.chosen names them, or the scores do. A tie of teachers, and the other one, are drawn by
    the seed, which knows no outcome; each of several tops has a row (`recipe.expected`), for who
    scores highest is nobody's choice. "": nothing was measured, or there is no other.
    """
    rows = []
    for spec in params.students:
        base = short(spec)
        row: dict[str, Any] = {"base": base}
        if given := params.chosen.get(bare(spec)) or params.chosen.get(DEFAULT):
            row |= {"teacher": given.teacher}
            tops, other, scored = given.top, given.other, params.teachers
        else:
            cells = smoke[smoke["base"] == base].pivot(index="replicate", columns="teacher")
            students, own = (cells[column].mean(skipna=False) for column in ("student", "own"))
            best = list(students.index[students == students.max()])
            highest = own.max(skipna=False)  # whoever was not scored might be higher
            tops = list(own.index[own == highest])
            scored, other = list(students.dropna().index), ""
            row |= {"teacher": _drawn(params, base, best), "teacher_score": students.max()}
            row |= {"teacher_ties": len(best), "top_score": highest}
        others = [teacher for teacher in scored if teacher not in (row["teacher"], *tops)]
        row["other"] = other or _drawn(params, f"{base} other", others)
        rows += [row | {"top": top} for top in tops or [""]]
    return pd.DataFrame(rows, columns=CHOICE)


CHOICE = ["base", "teacher", "top", "other", "teacher_score", "teacher_ties", "top_score"]


def _drawn(params: Recipe, what: str, specs: Sequence[str]) -> str:
    lots = {content_hash(f"{params.seed} {what} {spec}"): spec for spec in specs}
    return lots[min(lots)] if lots else ""


def without_each_choice(
    params: Recipe,
    smoke: pd.DataFrame,
    choice: pd.DataFrame,
    judged_in: Callable[[list[str]], Iterable[stats.Claim]],
) -> pd.DataFrame:
    """Leave-one-teacher-out: a row a teacher and claim, judged by judged_in over the bases for
    which the teacher is none of chosen, top and other: without, bases (how many), smoke_test and
    own_score (whom these would have chosen without it, with numbers of bases), claim, ... (see
    `stats.without_each`). The claims are left out where no base is left.
    """
    used = choice.melt("base", ["teacher", "top", "other"]).groupby("value")["base"].agg(set)
    facts, left = [], {}
    for teacher in params.teachers:
        left[teacher] = sorted(set(choice["base"]) - used.get(teacher, set()))
        others = choice.head(0)
        if len(smoke):
            others = choose(params, smoke[smoke["teacher"] != teacher])
        counts = _counted(others.drop_duplicates("base")["teacher"]), _counted(others["top"])
        facts.append([teacher, len(left[teacher]), *counts])
    rows = [teacher for teacher, bases in left.items() if bases]
    claims = stats.without_each(rows, lambda teacher: judged_in(left[teacher]))
    columns = ["without", "bases", "smoke_test", "own_score"]
    table = pd.DataFrame(facts, columns=columns).merge(claims, how="left", on="without")
    return table.assign(without=table["without"].map(short))


def _counted(specs: pd.Series) -> str:
    return ", ".join(f"{short(spec)} {n}" for spec, n in specs.value_counts().items() if spec)


# ---- what trusting a score that needs no training would cost (01, 04) ---------------------------


def points(smoke: pd.DataFrame) -> pd.DataFrame:
    """The table of `figures.predictors`, of rows of `candidate` or `with_scores`: predictor (its
    label), teacher, base, turn, value, gain, seconds.

    With several replicates there are two turns: values of the even ones against gains of the odd
    ones, and the other way round, so that no evaluation meets itself. With one there is one turn,
    and the smoke test, which is that gain, is left out.
    """
    ranks = smoke["replicate"].rank(method="dense").astype(int) - 1
    halves = smoke[ranks % 2 == 0], smoke[ranks % 2 == 1]
    several = bool(ranks.max())
    turns = [halves, halves[::-1]] if several else [(smoke, smoke)]
    tables = []
    for turn, (scored, gained) in enumerate(turns):
        cells = scored.groupby(["base", "teacher"], sort=False)
        gain = gained.groupby(["base", "teacher"], sort=False)["gain"].mean()
        for name, predictor in PREDICTORS.items():
            if several or name != "smoke":
                value = predictor.scale * cells[name].mean(skipna=False)
                seconds = cells[f"{name}_seconds"].mean()
                table = pd.DataFrame({"value": value, "gain": gain, "seconds": seconds})
                tables.append(table.reset_index().assign(predictor=predictor.label, turn=turn))
    table = pd.concat(tables, ignore_index=True)
    table["teacher"] = table["teacher"].map(short)
    return table[["predictor", "teacher", "base", "turn", "value", "gain", "seconds"]]


def with_regret(smoke: pd.DataFrame, ranks: pd.DataFrame) -> pd.DataFrame:
    """`figures.rank_correlations` with what choosing by each score loses in ID pass@1 against the
    smoke test.

    Columns regret, regret_low, regret_high: cross-fitted, see `stats.regret`.
    """
    cells = smoke.assign(arm=smoke["teacher"])
    rows, gains = [], cells.assign(value=cells["gain"])
    for name, predictor in PREDICTORS.items():
        if name != "smoke":
            own = cells.assign(value=predictor.sign * cells[name])
            loss, _ = stats.regret(own, gains, by_base=True)
            rows.append([predictor.label, loss.estimate, loss.low, loss.high])
    regrets = pd.DataFrame(rows, columns=["predictor", "regret", "regret_low", "regret_high"])
    return ranks.merge(regrets, how="left", on="predictor")


def advice(table: pd.DataFrame) -> str:
    """What `with_regret` says in words of the scores that need no training: the one that ranks
    best, and its cost.
    """
    signs = {score.label: score.sign for score in PREDICTORS.values() if not score.trained}
    table = table[table["predictor"].isin(signs) & table["estimate"].notna()]
    if table.empty:
        return "Nothing was measured that could advise on a teacher."
    agreement = table["estimate"] * table["predictor"].map(signs)
    best = table.assign(agrees=agreement).sort_values("agrees").iloc[-1]
    # infinite ends, of one base, are no interval
    holds_zero = ", an interval that holds 0" if -math.inf < best["low"] * best["high"] <= 0 else ""
    rho = interval(best["estimate"], best["low"], best["high"], sign=True, unit="number")
    ranks = (
        f"Of {len(table)} scores that need no training, '{best['predictor']}' ranks the teachers "
        f"best (so it is flattered): Spearman's rho with the gain {rho}{holds_zero}."
    )
    if math.isnan(best["regret"]):
        return f"{ranks} What choosing by it costs was not measured."
    if not best["regret_high"] > best["regret_low"]:
        verdict = "with nothing that measures the error"
    elif best["regret_low"] > 0:
        verdict = "so the smoke test is worth its cost"
    else:
        verdict = "which this run cannot tell from none"
    costs = interval(best["regret"], best["regret_low"], best["regret_high"], sign=True)
    choosing = "Choosing by it instead of by the smoke test costs"
    return f"{ranks} {choosing} {costs} points of ID pass@1, {verdict}."
