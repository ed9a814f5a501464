"""Notebook 05: corpora of rising size for a student that answers without thinking, and what they should hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ded import evaluation, training
from ded.study.common import (
    corpus_questions,
    curate,
    distil,
    remembered,
    sampling,
    score,
    short,
    suite,
    unscored,
)

if TYPE_CHECKING:
    import pandas as pd

SELECTIONS = ("easy", "hard", "correct", "incorrect")


def valley_arms(p: Any) -> list[str]:
    """The names of notebook 05's arms, "<selection> <size>", in order."""
    return [f"random {s}" for s in p.sizes] + [
        f"{sel} {s}" for sel in SELECTIONS for s in p.selection_sizes
    ]


def valley_pool(p: Any, base: str, replicate: int) -> dict[str, Any]:
    """What the arms of notebook 05 select from: {funnel, pools (a row a selection: selection, examples, level, tokens: means), tokens}."""
    import pandas as pd

    kept, funnel, dropped = curate(p, base, replicate, p.teacher, p.n_attempts)
    unit = {"base": short(base), "replicate": replicate}
    level, rows = {q.id: float(q.level) for q in corpus_questions(p, base, replicate)}, []
    for name, pool in valley_corpora(p, base, replicate).items():
        means = {
            "level": pool["problem_id"].map(level).astype(float).mean(),
            "tokens": pool["n_tokens"].mean(),
        }
        rows.append({**unit, "selection": name, "examples": len(pool), **means})
    sampled = int(kept["n_tokens"].sum() + dropped["n_tokens"].sum())
    return {
        "funnel": funnel.assign(teacher=short(p.teacher), **unit),
        "pools": pd.DataFrame(rows),
        "tokens": sampled,
    }


@remembered
def valley_corpora(p: Any, base: str, replicate: int) -> dict[str, pd.DataFrame]:
    """{selection: its pool}, a trajectory a question, in an order that makes each size contain the smaller ones.

    random: the first correct trajectory of every question. easy and hard: the same below and above the cut of `p.difficulty` that
    halves them most evenly; both are empty where all questions are equally difficult. correct and incorrect: the questions that the
    teacher answered both rightly and wrongly, the first of either kind, so that the two differ in the answer and not in the
    question. An incorrect trajectory has passed the filters of length and format, and is wrong.
    """
    kept, _, dropped = curate(p, base, replicate, p.teacher, p.n_attempts)
    shuffled = kept.drop_duplicates("problem_id").sample(
        frac=1.0, random_state=p.seed * 1000 + replicate, ignore_index=True
    )
    wrong = (
        dropped[(dropped["step"] == "answer") & (dropped["reason"] == "wrong")]
        .drop_duplicates("problem_id")
        .set_index("problem_id", drop=False)
    )
    correct = shuffled[shuffled["problem_id"].isin(wrong.index)]
    difficulty = (
        shuffled["problem_id"].map(_difficulty(p, base, replicate)).astype(float)
    )  # of an empty column, too
    shares = {
        cut: abs((difficulty <= cut).mean() - 0.5)
        for cut in sorted(difficulty.dropna().unique())[:-1]
    }
    cut = (
        min(shares, key=shares.__getitem__) if shares else float("nan")
    )  # nothing is above or below nan
    return {
        "random": shuffled,
        "easy": shuffled[difficulty <= cut],
        "hard": shuffled[difficulty > cut],
        "correct": correct,
        "incorrect": wrong.loc[correct["problem_id"]]
        .drop(columns=["step", "reason"])
        .reset_index(drop=True),
    }


def _difficulty(p: Any, base: str, replicate: int) -> dict[str, float]:
    """Of each training question: its level, or one minus the pass rate of the student before."""
    questions = corpus_questions(p, base, replicate)
    if p.difficulty == "level":
        return {q.id: float(q.level) for q in questions}
    rates = evaluation.pass_rates(
        base, questions, p.pass_rate_samples, **sampling(p, replicate, p.eval_temperature)
    )
    return dict(zip(rates["problem_id"], 1 - rates["pass_rate"]))


def valley_arm(p: Any, base: str, replicate: int, arm: str) -> dict[str, Any]:
    """Distils and scores one arm of notebook 05: {scores, row: {base, replicate, arm, size, selection, examples, tokens, steps, note}}.

    Where the pool holds fewer examples than the arm needs, nothing is trained: its scores are nan (not measured), and the note
    says what is lacking.
    """
    selection, _, size = arm.rpartition(" ")
    pool = valley_corpora(p, base, replicate)[selection]
    corpus, families = pool.head(int(size)), suite(p, base, replicate)
    if len(corpus) < int(size):
        note, scores = (
            f"not measured: {len(corpus)} of {size} examples",
            unscored(p, base, replicate, arm, families),
        )
    else:
        note, scores = (
            "",
            score(p, distil(p, base, replicate, corpus), base, replicate, arm, families),
        )
    row = {
        "base": short(base),
        "replicate": replicate,
        "arm": arm,
        "size": int(size),
        "selection": selection,
        "examples": len(corpus),
        "tokens": int(corpus["n_tokens"].sum()),
        "steps": 0 if note else training.optimizer_steps(len(corpus), p.epochs, p.batch_size),
        "note": note,
    }
    return {"scores": scores, "row": row}


def completion(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with completion_rate: the share of answers that ended by themselves, nan where nothing was measured."""
    return scores.assign(
        completion_rate=1 - scores["truncated"] / scores["n"].where(scores["n"] > 0)
    )


def valley_curve(cells: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The table of `figures.valley`, of one family's scores with completion_rate: arm (the selection), size, measure, estimate, low, high."""
    import pandas as pd

    from ded import stats

    place = rows.drop_duplicates("arm").set_index("arm")[["selection", "size"]].T.to_dict("list")
    found = []
    for arm, (selection, size) in {"before": ("before", 0), **place}.items():
        for measure in ("accuracy", "completion_rate", "think_rate"):
            found.append(
                {
                    "arm": selection,
                    "size": size,
                    "measure": measure,
                    **stats.numbers(stats.arm_interval(cells, arm, measure)),
                }
            )
    return pd.DataFrame(found)
