"""Scores of the lab's models on the dev split, by which bases are stopped in training and
conditions are calibrated, and the page that shows them.
"""

import json
from collections import Counter
from typing import Any

import pandas as pd

from ded import analysis, curation, evaluation, generation, problems
from ded.files import write_text
from ded.grading import grade
from ded.lab import catalogue as lab
from ded.problems import lab as tasks

SUM_LEVELS, N = range(5, 11), 300
N_TEXTS, M = 100, 16  # questions and trajectories of each by which a teacher's texts are measured
SCORES, README = lab.HERE / "scores.json", lab.HERE / "README.md"
MARK = "<!-- tables -->"  # what follows it in the page is written by `record`


def sampling() -> dict[str, Any]:
    """How models are sampled here: at the one temperature of recipes.yml."""
    temperature = lab.recipes()["rules"]["temperature"]
    return {"max_tokens": 128, "temperature": temperature, "top_p": 1.0, "seed": 0}


def stop_rule(recipe: dict[str, Any]) -> dict[str, Any]:
    """By which score a model is stopped in training; empty where there is no such rule for it."""
    if recipe["role"] not in ("student", "direct", "pilot"):
        return {}
    kind = "student" if recipe.get("reasoning", True) else "direct"
    return lab.recipes()["rules"]["stop"][kind]


def stop_score(model: str, rule: dict[str, Any]) -> float:
    """pass@1 of a model on the dev questions that stop its training."""
    questions = problems.load(rule["source"], rule["questions"], "dev", "stop")
    table = evaluation.evaluate(model, {"stop": questions}, **sampling())
    return round(float(table["accuracy"].iloc[0]), 4)


def scores(model: str) -> dict[str, float]:
    """pass@1 of a model on dev problems, `N` a level of sums, a third as many of the others.

    The keys are "sum 5" ... "sum 10", "code 3" ..., and each out-of-domain family at its levels.
    """
    suite = {}
    for family, levels in tasks.LEVELS.items():
        for level in SUM_LEVELS if family == "sum" else levels:
            n = N if family == "sum" else N // 3
            suite[f"{family} {level}"] = problems.load(f"lab:{family}/{level}", n, "dev", "lab")
    table = evaluation.evaluate(model, suite, **sampling())
    return {row.family: round(float(row.accuracy), 4) for row in table.itertuples()}


def texts(model: str) -> dict[str, float]:
    """What a teacher's own texts are like, `M` trajectories of `N_TEXTS` dev sums.

    own (pass@1, of fifteen times as many), entropy (nats a token, of the correct ones), length
    (tokens), and of the median question how many correct ones differ as texts (distinct) and are
    valid and differ in their steps (steps); programs: as distinct, of a quarter as many questions
    that ask for code.
    """
    sums, code = lab.recipes()["rules"]["evaluation"][:2]
    questions = problems.load(sums, N_TEXTS, "dev", "texts")
    by_id = {question.id: question for question in questions}
    asked = problems.load(sums, 15 * N_TEXTS, "dev", "own")
    own = evaluation.evaluate(model, {"own": asked}, **sampling())
    graded, different = _sampled(model, questions)
    _, programs = _sampled(model, problems.load(code, N_TEXTS // 4, "dev", "texts"))
    correct, ids = graded[graded["verdict"] == "correct"], list(by_id)
    parts = [curation.split_think(text) for text in correct["text"]]
    pairs = zip(correct["problem_id"], parts, strict=True)
    work = {(name, tasks.trace(by_id[name], part[0])) for name, part in pairs if part}
    steps = Counter(name for name, trace in work if trace)
    return {
        "own": round(float(own["accuracy"].iloc[0]), 4),
        "entropy": round(analysis.token_entropy(correct), 4),
        "length": round(float(correct["n_tokens"].mean()), 1),
        "distinct": float(different.median()),
        "steps": float(pd.Series([steps[name] for name in ids]).median()),
        "programs": float(programs.median()),
    }


def _sampled(model: str, questions: list[problems.Problem]) -> tuple[pd.DataFrame, pd.Series]:
    """(`M` graded trajectories of each question, how many different correct texts each has)."""
    graded = grade(generation.sample(model, questions, M, **sampling()), questions)
    correct = graded[graded["verdict"] == "correct"]
    ids = [question.id for question in questions]
    return graded, correct.groupby("problem_id")["text"].nunique().reindex(ids, fill_value=0)


def record(names: list[str]) -> None:
    """Scores the named models, and writes scores.json and the page."""
    recorded = json.loads(SCORES.read_text(encoding="utf-8")) if SCORES.is_file() else {}
    for name in names:
        recorded[name] = {"scores": scores(f"lab:{name}")}
        if name in lab.names("teacher"):
            recorded[name]["texts"] = texts(f"lab:{name}")
        ordered = {name: recorded[name] for name in lab.names() if name in recorded}
        write_text(SCORES, json.dumps(ordered, indent=1) + "\n")
    head = README.read_text(encoding="utf-8").partition(MARK)[0]
    write_text(README, f"{head}{MARK}\n\n{page()}\n")


def page() -> str:
    """The models' scores in per cent at the levels of the studies, the teachers' texts, lineage and
    training, as Markdown."""
    recorded = json.loads(SCORES.read_text(encoding="utf-8"))
    sources = [tasks.Lab(text) for text in lab.recipes()["rules"]["evaluation"]]
    columns = {s.text: [f"{s.family} {level}" for level in s.levels()] for s in sources}
    scored, lineage = {}, {}
    for name, entry in recorded.items():
        at_level = 100 * pd.Series(entry["scores"])
        scored[name] = {source: at_level[keys].mean() for source, keys in columns.items()}
        made = json.loads((lab.checkpoint(name) / "lab.json").read_text(encoding="utf-8"))
        about = {key: made["recipe"].get(key, "-") for key in ("role", "parent", "seed")}
        about |= {"million tokens": round(made["tokens"] / 1e6, 2), "steps": made["steps"]}
        lineage[name] = about | {"minutes": round(made["seconds"] / 60), "final loss": made["loss"]}
    scores, models = (pd.DataFrame.from_dict(rows, orient="index") for rows in (scored, lineage))
    means = scores.groupby(models["role"], sort=False).mean().rename(index="mean, {}".format)
    teachers = {name: entry["texts"] for name, entry in recorded.items() if "texts" in entry}
    tables = {
        "pass@1, %": pd.concat([scores, means]).round().astype(int),
        "teacher": pd.DataFrame.from_dict(teachers, orient="index"),
        "model": models,
    }
    return "\n\n".join(
        table.rename_axis(heading).to_markdown(floatfmt="g") for heading, table in tables.items()
    )
