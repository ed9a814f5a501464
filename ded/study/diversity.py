"""Notebook 03: selection rules among M verified trajectories a question, and their students."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ded import curation, problems, training
from ded.study.common import (
    before,
    corpus_questions,
    curate,
    distil,
    remembered,
    score,
    short,
    step_valid,
    suite,
    trajectories,
    unscored,
)

if TYPE_CHECKING:
    import pandas as pd

RULES = ("farthest", "random", "nearest", "single", "farthest-normalised", "farthest-tokens")


@remembered
def diversity_pool(p: Any, base: str, replicate: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """(verified trajectories, facts about the unit's M samples a question).

    facts: sampled, correct (share), lucky (share of the correct ones with an invalid step), distinct (a list: the number of
    genuinely different, step-valid trajectories of each question; spoken fillers and checks do not count as different). Where
    steps cannot be checked, lucky is not measured (nan) and trajectories that differ as texts count as different.
    """
    graded = trajectories(p, base, replicate, p.teacher, p.n_trajectories)
    by_id = {q.id: q for q in corpus_questions(p, base, replicate)}
    correct = graded[graded["verdict"] == "correct"]
    parts = [curation.split_think(t) for t in correct["text"]]
    checked = problems.checks_steps(p.corpus_source)
    traces = [
        (problems.trace(by_id[i], part[0]) if checked else part[0]) if part else None
        for i, part in zip(correct["problem_id"], parts)
    ]
    distinct: dict[str, set] = {i: set() for i in by_id}
    for i, t in zip(correct["problem_id"], traces):
        if t:
            distinct[i].add(t)
    facts = {
        "base": short(base),
        "replicate": replicate,
        "sampled": len(graded),
        "correct": len(correct) / len(graded),
        "lucky": sum(t is None for t in traces) / max(1, len(traces)) if checked else math.nan,
        "distinct": [len(d) for d in distinct.values()],
        "tokens": int(graded["n_tokens"].sum()),
    }
    return curate(p, base, replicate, p.teacher, p.n_trajectories).kept, facts


@remembered
def diversity_corpora(
    p: Any, base: str, replicate: int
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """{rule: (corpus, statistics of each question)} for `RULES`, over the same questions and, tokens aside, of equal size."""
    kept, _ = diversity_pool(p, base, replicate)
    found = {}
    for rule in RULES[:5]:
        name, _, normalised = rule.partition("-")
        metric = "normalised" if normalised else p.metric
        found[rule] = curation.select_trajectories(
            kept, p.n_kept, rule=name, metric=metric, seed=p.seed * 1000 + replicate
        )
    corpus, statistics = found["farthest"]
    budget = int(found["random"][0]["n_tokens"].sum())
    found["farthest-tokens"] = (
        curation.equal_tokens(corpus, budget, seed=p.seed * 1000 + replicate) if budget else corpus,
        statistics,
    )
    return found


def diversity_before(p: Any, base: str, replicate: int) -> pd.DataFrame:
    """Scores of the base before distillation on notebook 03's suite, perturbations included."""
    return before(p, base, replicate, problems.perturbations(p.id_source), p.samples)


def diversity_arm(p: Any, base: str, replicate: int, arm: str) -> dict[str, Any]:
    """Distils and scores one rule of notebook 03: {scores (ID, perturbed and OOD rows), statistics, row}.

    All rules train for equally many optimizer steps, whatever their corpus holds; one whose corpus is empty is not measured.
    """
    corpora = diversity_corpora(p, base, replicate)
    corpus, statistics = corpora[arm]
    steps = training.optimizer_steps(len(corpora["random"][0]), p.epochs, p.batch_size)
    families = suite(p, base, replicate, problems.perturbations(p.id_source))
    if corpus.empty:
        steps, scores = 0, unscored(p, base, replicate, arm, families)
    else:
        scores = score(
            p, distil(p, base, replicate, corpus, steps), base, replicate, arm, families, p.samples
        )
    by_id = {q.id: q for q in corpus_questions(p, base, replicate)}
    lucky = math.nan
    if problems.checks_steps(p.corpus_source):
        valid = [
            step_valid(by_id[i], curation.split_think(text)[0])
            for i, text in zip(corpus["problem_id"], corpus["text"])
        ]
        lucky = 1 - sum(valid) / len(valid) if valid else math.nan
    return {
        "scores": scores,
        "statistics": statistics.assign(base=short(base), replicate=replicate, arm=arm),
        "row": {
            "base": short(base),
            "replicate": replicate,
            "arm": arm,
            "questions": corpus["problem_id"].nunique(),
            "examples": len(corpus),
            "tokens": int(corpus["n_tokens"].sum()),
            "steps": steps,
            "lucky": lucky,
        },
    }
