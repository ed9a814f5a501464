"""Which teacher: the smoke test (01, 04), the choice by it (04, first half), and what might have
told its outcome without training.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ded import analysis, models, problems, stats, store
from ded.params.schemas import Recipe, TeacherSelection
from ded.problems import content_hash
from ded.study import pipeline
from ded.study.unit import Unit, short

# ---- notebook 01 -------------------------------------------------------------------------------

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
    outcome = pipeline.run_arm(unit, pipeline.Arm(short(teacher), corpus))
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


# ---- notebook 04: smoke tests on units of their own, and the teacher each student base gets ----


@dataclass(frozen=True)
class Predictor:
    """A score of a candidate teacher: its name for readers, +1 where more of it should be better,
    -1 where less.
    """

    label: str
    sign: int
    trained: bool = False  # whether it needs the trained student


PREDICTORS = {
    "own": Predictor("own pass@1", 1),
    "loss": Predictor("student's loss on the corpus (nats a token)", -1),
    "lalp": Predictor("LALP (nats a token)", 1),
    "entropy": Predictor("token entropy (nats a token)", -1),
    "length": Predictor("mean length (tokens)", -1),
    "shift": Predictor("latent shift (needs the training)", -1, trained=True),
    "smoke": Predictor("smoke test's gain (needs the training)", 1, trained=True),
}


@dataclass(frozen=True)
class Timed:
    """A measured value and the seconds that it took."""

    value: float
    seconds: float


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
    columns = [name + suffix for name in PREDICTORS for suffix in ("", "_seconds")]
    row = unit.row | {"teacher": teacher, "examples": len(corpus)}
    row |= dict.fromkeys(["student", "gain", *columns], math.nan)
    measured = {"own": _score(unit, teacher)}
    if not corpus.empty:
        student = pipeline.distil(unit, corpus, pipeline.steps_of(unit, params.smoke_size))
        scored = _score(unit, student)
        gain = scored.value - _accuracy(unit, unit.base)
        log = Path(models.locate(student), "training.json").read_text(encoding="utf-8")
        trained = json.loads(log)["seconds"]  # what needs the student costs its training too
        inputs = unit.suite()["ID"][: params.shift_inputs]
        shift = analysis.latent_shift(unit.base, student, inputs)
        row |= {"student": scored.value, "gain": gain}
        measured |= {
            "loss": Timed(**analysis.likelihood(unit.base, corpus)),
            "lalp": Timed(**analysis.likelihood(unit.base, corpus, params.lalp_window)),
            # these two cost nothing: sampling has measured them
            "entropy": Timed(analysis.token_entropy(corpus), 0.0),
            "length": Timed(float(corpus["n_tokens"].mean()), 0.0),
            "shift": Timed(shift["shift"], trained + shift["seconds"]),
            "smoke": Timed(gain, trained + scored.seconds),
        }
    for name, timed in measured.items():
        row |= {name: timed.value, f"{name}_seconds": timed.seconds}
    return row


def _accuracy(unit: Unit, model: str) -> float:
    """pass@1 on ID math."""
    return pipeline.own_score(unit, model)["accuracy"].item()


def _score(unit: Unit, model: str) -> Timed:
    """pass@1 on ID math, and what computing it cost the first time."""
    asked = problems.fingerprint(unit.suite()["ID"])
    draw = {"replicate": unit.replicate, "seed": unit.params.seed}
    key = store.key("cost", 1, model=models.fingerprint(model), questions=asked, **draw)
    seconds = store.json(key, lambda: analysis.timed(lambda: _accuracy(unit, model))["seconds"])
    return Timed(_accuracy(unit, model), seconds)


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
            lots = {content_hash(f"{params.seed} {base} {spec}"): spec for spec in best}
            drawn = lots[min(lots)] if lots else ""
            row |= {name: drawn, f"{name}_score": means.max(), f"{name}_ties": len(best)}
        rows.append(row)
    return pd.DataFrame(rows)


# ---- notebook 04, aside: what trusting a score that needs no training would cost ----------------


def points(smoke: pd.DataFrame) -> pd.DataFrame:
    """The table of `figures.cheap_scores`: predictor, teacher, base, value, gain, seconds.

    Scores come from the first, third, ... replicate of the selection and gains from the others;
    from the same one where there is only one, and then the smoke test, which is that gain, is left
    out.
    """
    ranks = smoke["replicate"].rank(method="dense").astype(int) - 1
    several = bool(ranks.max())
    scored, gained = (smoke[ranks % 2 == 0], smoke[ranks % 2 == 1]) if several else (smoke, smoke)
    cells = scored.groupby(["base", "teacher"], sort=False)
    gain = gained.groupby(["base", "teacher"], sort=False)["gain"].mean()
    tables = {}
    for name, predictor in PREDICTORS.items():
        if several or name != "smoke":
            value, seconds = cells[name].mean(skipna=False), cells[f"{name}_seconds"].mean()
            measured = {"value": value, "gain": gain, "seconds": seconds}
            tables[predictor.label] = pd.DataFrame(measured)
    table = pd.concat(tables, names=["predictor"]).reset_index()
    table["teacher"] = table["teacher"].map(short)
    return table[["predictor", "teacher", "base", "value", "gain", "seconds"]]


def with_regret(smoke: pd.DataFrame, ranks: pd.DataFrame) -> pd.DataFrame:
    """`figures.cheap_score_ranks` with what choosing by each score loses in ID pass@1 against the
    smoke test.

    Columns regret, regret_low, regret_high: cross-fitted, see `stats.regret`.
    """
    cells = smoke.rename(columns={"teacher": "arm"})
    rows, gains = [], cells.assign(value=cells["gain"])
    for name, predictor in PREDICTORS.items():
        if name != "smoke":
            loss, _ = stats.regret(cells.assign(value=predictor.sign * cells[name]), gains)
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
    holds_zero = "" if best["low"] * best["high"] > 0 else ", an interval that holds 0"
    interval = f"[{100 * best['regret_low']:.1f}, {100 * best['regret_high']:.1f}]"
    if not best["regret_high"] > best["regret_low"]:
        verdict = "with nothing that measures the error"
    elif best["regret_low"] > 0:
        verdict = "so the smoke test is worth its cost"
    else:
        verdict = "which these replicates cannot tell from none"
    return (
        f"Of {len(table)} scores that need no training, '{best['predictor']}' ranks the teachers "
        f"best (so it is flattered): Spearman's rho with the gain {best['estimate']:+.2f} "
        f"[{best['low']:+.2f}, {best['high']:+.2f}]{holds_zero}. Choosing by it instead of by the "
        f"smoke test costs {100 * best['regret']:+.1f} {interval} points of ID pass@1, {verdict}."
    )
