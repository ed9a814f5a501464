"""Scores a model: pass@1 averaged over k samples, by family, with the counts of every verdict beside it (paper: evaluation).

A suite is a dict: family name -> list of problems. The notebooks' suites have an in-domain family (ID), out-of-domain families
(OOD) and, where asked, perturbed copies of the in-domain one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ded import generation, models, store
from ded.problems import Problem

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
VERDICTS = ("correct", "wrong", "unparsed", "truncated", "error")


def evaluate(model: str, suite: dict[str, list[Problem]], *, samples: int = 1, **sampling) -> pd.DataFrame:
    """One row a family: family, n (trajectories), the count of each verdict, accuracy, pass_at_k, n_tokens (mean), think_rate.

    accuracy (pass@1 averaged over the samples) = correct / (n - error): truncated and unparsed answers count as not correct,
    the grader's own failures do not count at all. pass_at_k, with k = samples: the share of questions with a correct sample.
    think_rate: the share of texts that open a think block. `sampling` goes to `generation.sample` (max_tokens, temperature,
    top_p, seed). Stored as a whole.
    """
    prompts = {family: [[p.id, p.prompt, p.answer, p.kind] for p in problems] for family, problems in suite.items()}
    key = store.key("evaluation", VERSION, generation=generation.VERSION, model=models.fingerprint(model), suite=prompts, samples=samples, **sampling)
    return store.table(key, lambda: _evaluate(model, suite, samples, sampling))


def _evaluate(model: str, suite: dict[str, list[Problem]], samples: int, sampling: dict) -> pd.DataFrame:
    import pandas as pd

    from ded.grading import grade

    # one batch for all: short families share the model's calls; a shuffled copy may be the question itself, so each counts once
    problems = list({p.id: p for family in suite.values() for p in family}.values())
    graded = grade(generation.sample(model, problems, samples, **sampling), problems)
    rows = []
    for family, members in suite.items():
        part = pd.DataFrame({"problem_id": [p.id for p in members]}).merge(graded, on="problem_id")
        counts = {v: int((part["verdict"] == v).sum()) for v in VERDICTS}
        judged = len(part) - counts["error"]
        rows.append({
            "family": family, "n": len(part), **counts, "accuracy": counts["correct"] / judged if judged else float("nan"),
            "pass_at_k": float((part["verdict"] == "correct").groupby(part["problem_id"]).any().mean()),
            "n_tokens": float(part["n_tokens"].mean()), "think_rate": float(part["text"].str.startswith("<think>").mean()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def pass_rates(model: str, problems: list[Problem], samples: int, **sampling) -> pd.DataFrame:
    """Per problem: problem_id, level, n (judged samples), correct, pass_rate = correct / n (paper: "student pass rate")."""
    from ded.grading import grade

    graded = grade(generation.sample(model, problems, samples, **sampling), problems)
    graded = graded[graded["verdict"] != "error"]
    table = graded.groupby("problem_id", sort=False)["verdict"].agg(n="size", correct=lambda v: int((v == "correct").sum())).reset_index()
    levels = {p.id: p.level for p in problems}
    return table.assign(pass_rate=table["correct"] / table["n"], level=table["problem_id"].map(levels))
