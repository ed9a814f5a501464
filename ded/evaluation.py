"""Scores a model: pass@1 averaged over k samples, by family, with the counts of every verdict beside it (paper: evaluation).

A suite is a dict: family name -> list of problems. The notebooks' suites have an in-domain family (ID), out-of-domain families
(OOD) and, where asked, perturbed copies of the in-domain one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ded import generation, grading, problems, store
from ded.grading import VERDICTS
from ded.options import Engine
from ded.problems import Problem

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2


def evaluate(
    model: str, suite: dict[str, list[Problem]], *, samples: int = 1, **sampling
) -> pd.DataFrame:
    """One row a family: family, n (trajectories), the count of each verdict, accuracy, pass_at_k, n_tokens (mean), think_rate.

    accuracy (pass@1 averaged over the samples) = correct / (n - error): truncated and unparsed answers count as not correct,
    the grader's own failures do not count at all. pass_at_k, with k = samples: the share of questions with a correct sample.
    think_rate: the share of texts that open a think block. `sampling` goes to `generation.sample` (max_tokens, temperature,
    top_p, seed, engine).
    """
    import pandas as pd

    rows = []
    for family, part in per_question(model, suite, samples=samples, **sampling).groupby(
        "family", sort=False
    ):
        counts = {v: int((part["verdict"] == v).sum()) for v in VERDICTS}
        judged = len(part) - counts["error"]
        rows.append(
            {
                "family": family,
                "n": len(part),
                **counts,
                "accuracy": counts["correct"] / judged if judged else float("nan"),
                "pass_at_k": float(
                    (part["verdict"] == "correct").groupby(part["question"]).any().mean()
                ),
                "n_tokens": float(part["n_tokens"].mean()),
                "think_rate": float(part["think"].mean()),
            }
        )
    return pd.DataFrame(rows)


def per_question(
    model: str,
    suite: dict[str, list[Problem]],
    *,
    samples: int = 1,
    workers: int = 1,
    isolation: str = "bubblewrap",
    **sampling,
) -> pd.DataFrame:
    """One row a (family, question, seed), what `stats.crossed_bootstrap` takes: family, question (problem id), seed (sample index),
    value (1 correct, 0 not, nan where the grader failed), verdict, n_tokens, think (whether the text opens a think block).

    Arguments as in `evaluate`; workers and isolation are the grader's. Stored as a whole, unless the grader failed somewhere: that may
    be the machine's fault, and is tried again.
    """
    import pandas as pd

    # one batch for all: short families share the model's calls; a shuffled copy may be the question itself, so each counts once
    asked = list({p.id: p for family in suite.values() for p in family}.values())
    table = _graded(model, asked, samples, workers, isolation, sampling)
    parts = [
        pd.DataFrame({"family": family, "question": [p.id for p in members]}).merge(
            table, on="question"
        )
        for family, members in suite.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _graded(
    model: str, asked: list[Problem], samples: int, workers: int, isolation: str, sampling: dict
) -> pd.DataFrame:
    settings = {k: v for k, v in sampling.items() if k != "engine"}
    key = store.key(
        "evaluation",
        VERSION,
        generation=generation.VERSION,
        grading=[grading.VERSION, isolation],
        problems=problems.fingerprint(asked),
        samples=samples,
        **generation.identity(model, sampling.get("engine", Engine())),
        **settings,
    )
    if store.has(key):
        return store.read_table(key)
    drawn = generation.sample(model, asked, samples, **sampling)
    graded = grading.grade(
        drawn, asked, workers=workers, isolation=isolation, seen=store.root() / "programs.sqlite"
    )
    graded = graded.rename(columns={"problem_id": "question", "sample_index": "seed"})
    value = (graded["verdict"] == "correct").astype(float).where(graded["verdict"] != "error")
    graded = graded.assign(value=value, think=graded["text"].str.startswith("<think>"))
    table = graded[["question", "seed", "value", "verdict", "n_tokens", "think"]]
    return table if (table["verdict"] == "error").any() else store.table(key, lambda: table)


def pass_rates(model: str, questions: list[Problem], samples: int, **sampling) -> pd.DataFrame:
    """Per problem: problem_id, level, n (judged samples), correct, pass_rate = correct / n (paper: "student pass rate")."""
    table = per_question(model, {"all": questions}, samples=samples, **sampling).rename(
        columns={"question": "problem_id"}
    )
    table = table[table["verdict"] != "error"]
    table = (
        table.groupby("problem_id", sort=False)["value"]
        .agg(n="size", correct="sum")
        .astype({"correct": int})
        .reset_index()
    )
    levels = {p.id: p.level for p in questions}
    return table.assign(
        pass_rate=table["correct"] / table["n"], level=table["problem_id"].map(levels)
    )
