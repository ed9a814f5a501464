"""Notebook 02: the corpora of the trade-off between in-domain and out-of-domain, and their students."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ded import curation, evaluation, training
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


def _rated(p: Any, base: str, replicate: int) -> pd.DataFrame:
    """Pass rates of the base on the first p.pass_rate_questions of the pool."""
    questions = corpus_questions(p, base, replicate)[: p.pass_rate_questions]
    return evaluation.pass_rates(
        base, questions, p.pass_rate_samples, **sampling(p, replicate, p.eval_temperature)
    )


def tradeoff_pool(p: Any, base: str, replicate: int) -> dict[str, Any]:
    """What the arms of notebook 02 select from: {funnel (with question compression as a pool of its own), rates, tokens}."""
    import pandas as pd

    kept, funnel, dropped = curate(p, base, replicate, p.teacher, 1)
    rates = _rated(p, base, replicate)
    compressed = curation.compress_questions(rates, p.pass_rate_threshold, "hard").funnel
    unit = {"base": short(base), "replicate": replicate}
    rows = [funnel.assign(pool="trajectories", **unit), compressed.assign(pool="questions", **unit)]
    sampled = int(kept["n_tokens"].sum() + dropped["n_tokens"].sum())
    return {"funnel": pd.concat(rows), "rates": rates.assign(**unit), "tokens": sampled}


@remembered
def tradeoff_corpora(p: Any, base: str, replicate: int) -> dict[str, dict]:
    """The arms of notebook 02: {arm: {corpus, max_steps, size, selection, note}}.

    random: nested random corpora of each size. At each size in p.selection_sizes also: hard (question compression: student pass
    rate up to the threshold), easy (its opposite), hard-tokens (hard, cut to the tokens of random), random-steps (trained for
    as many steps as the largest corpus), and at the one level p.fixed_level: fixed-random and fixed-hard. The selections are
    made among the rated questions. Where a pool is too small for an arm its corpus is empty, so that it is not
    measured, and the note says so.
    """
    kept, _, _ = curate(p, base, replicate, p.teacher, 1)
    kept = kept.sample(
        frac=1.0, random_state=p.seed * 1000 + replicate, ignore_index=True
    )  # nested: each size starts the next
    level = {q.id: q.level for q in corpus_questions(p, base, replicate)}
    rates = _rated(p, base, replicate)
    hard, easy = (
        kept[
            kept["problem_id"].isin(
                curation.compress_questions(rates, p.pass_rate_threshold, keep).kept["problem_id"]
            )
        ]
        for keep in ("hard", "easy")
    )
    fixed = kept[
        (kept["problem_id"].map(level) == p.fixed_level)
        & kept["problem_id"].isin(rates["problem_id"])
    ]
    steps = training.optimizer_steps(max(p.sizes), p.epochs, p.batch_size)
    arms = {}

    def add(selection: str, size: int, pool: pd.DataFrame, max_steps: int = 0) -> None:
        note = f"not measured: {len(pool)} of {size} examples" if len(pool) < size else ""
        arms[f"{selection} {size}"] = {
            "corpus": pool.head(0 if note else size),
            "max_steps": max_steps,
            "size": size,
            "selection": selection,
            "note": note,
        }

    for size in p.sizes:
        add("random", size, kept)
    for size in p.selection_sizes:
        add("hard", size, hard)
        add("easy", size, easy)
        budget = int(kept.head(size)["n_tokens"].sum())
        fits = min(size, int((hard["n_tokens"].cumsum() <= budget).sum()))
        note = "" if fits else f"not measured: no example of hard within {budget} tokens"
        arms[f"hard-tokens {size}"] = {
            "corpus": hard.head(fits),
            "max_steps": 0,
            "size": size,
            "selection": "hard-tokens",
            "note": note,
        }
        add("random-steps", size, kept, max_steps=steps)
        add("fixed-random", size, fixed)
        add("fixed-hard", size, fixed[fixed["problem_id"].isin(hard["problem_id"])])
    return arms


def tradeoff_arm(p: Any, base: str, replicate: int, arm: str) -> dict[str, Any]:
    """Distils and scores one arm of notebook 02: {scores, row: {base, replicate, arm, size, selection, examples, tokens, steps, note}}."""
    made, families = tradeoff_corpora(p, base, replicate)[arm], suite(p, base, replicate)
    if made["corpus"].empty:
        steps, scores = 0, unscored(p, base, replicate, arm, families)
    else:
        student = distil(p, base, replicate, made["corpus"], made["max_steps"])
        steps = made["max_steps"] or training.optimizer_steps(
            len(made["corpus"]), p.epochs, p.batch_size
        )
        scores = score(p, student, base, replicate, arm, families)
    return {
        "scores": scores,
        "row": {
            "base": short(base),
            "replicate": replicate,
            "arm": arm,
            "size": made["size"],
            "selection": made["selection"],
            "examples": len(made["corpus"]),
            "tokens": int(made["corpus"]["n_tokens"].sum()),
            "steps": steps,
            "note": made["note"],
        },
    }


def tradeoff_arms(p: Any) -> list[str]:
    """The names of notebook 02's arms, in order."""
    selections = ("hard", "easy", "hard-tokens", "random-steps", "fixed-random", "fixed-hard")
    return [f"random {s}" for s in p.sizes] + [
        f"{sel} {s}" for s in p.selection_sizes for sel in selections
    ]
