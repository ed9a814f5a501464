"""Scores of the lab's models on the dev split, by which bases are stopped in training and
conditions are calibrated, and the page that shows them.
"""

from typing import Any

from ded import evaluation, problems
from ded.lab import catalogue as lab
from ded.problems import lab as tasks

LEVELS, N = range(5, 11), 300
SCORES, README = lab.HERE / "scores.json", lab.HERE / "README.md"
MARK = "<!-- tables -->"  # what follows it in the page is written by `record`


def sampling() -> dict[str, Any]:
    """How models are sampled here: at the one temperature of recipes.yml."""
    temperature = lab.recipes()["rules"]["temperature"]
    return {"max_tokens": 128, "temperature": temperature, "top_p": 1.0, "seed": 0}


def stop_score(model: str) -> float:
    """pass@1 of a base on the dev questions that stop its training."""
    rule = lab.recipes()["rules"]["stop"]
    questions = problems.load(rule["source"], rule["questions"], "dev", "stop")
    table = evaluation.evaluate(model, {"stop": questions}, **sampling())
    return round(float(table["accuracy"].iloc[0]), 4)


def scores(model: str) -> dict[str, float]:
    """pass@1 of a model on dev problems, `N` a family and level.

    The keys are "sum 5" ... "sum 10", "code 3" ..., and each out-of-domain family at its levels.
    """
    suite = {}
    for family in tasks.LEVELS:
        for level in LEVELS if family == "sum" else tasks.LEVELS[family]:
            n = N if family == "sum" else N // 3
            questions = problems.load(f"lab:{family}/{level}", n, "dev", "lab")
            suite[f"{family} {level}"] = questions
    table = evaluation.evaluate(model, suite, **sampling())
    return {row.family: round(float(row.accuracy), 4) for row in table.itertuples()}
