"""Scores of the lab's models on the dev split, and the check that a student base must pass.

It enters a study only when it has passed: the criteria stand in recipes.yml.
"""

import json
from typing import Any

import pandas as pd

from ded import evaluation, generation, params, problems, training
from ded.files import write_text
from ded.grading import grade
from ded.lab import catalogue as lab
from ded.problems import lab as tasks

SAMPLING: dict[str, Any] = {"max_tokens": 128, "temperature": 0.6, "top_p": 1.0, "seed": 0}
LEVELS, N = range(5, 10), 300
SCORES, README = lab.HERE / "scores.json", lab.HERE / "README.md"
MARK = "<!-- tables -->"  # what follows it in the page is written by `record`


def scores(name: str) -> dict[str, float]:
    """pass@1 of a lab model on dev problems, `N` a family and level.

    The keys are "sum 3", "sum 5" ... "sum 9", "code 3" ..., and each out-of-domain family.
    """
    drill = tasks.maker("sum", 3)  # few problems exist
    suite = {"sum 3": problems.draw(drill, 80, "dev", "lab")}
    for level in LEVELS:
        suite[f"sum {level}"] = problems.load(f"lab:sum/{level}", N, "dev", "lab")
    for level in tasks.LEVELS["code"]:
        suite[f"code {level}"] = problems.load(f"lab:code/{level}", N // 3, "dev", "lab")
    suite |= {family: problems.load(f"lab:{family}", N, "dev", "lab") for family in tasks.OOD}
    table = evaluation.evaluate(f"lab:{name}", suite, **SAMPLING)
    return {row.family: round(float(row.accuracy), 4) for row in table.itertuples()}


def _accuracy(model: str, suite: dict[str, list[problems.Problem]]) -> float:
    """The least pass@1 of a model on the families of a suite."""
    return float(evaluation.evaluate(model, suite, **SAMPLING)["accuracy"].min())


def _corpus(teacher: str, examples: int, settings: Any) -> pd.DataFrame:
    """The first verified trajectories of a teacher on training questions, sampled as needed."""
    asked = problems.load(settings.corpus_source, 4 * examples, "train", f"competence {teacher}")
    sampling = SAMPLING | {"temperature": settings.temperature}
    kept: list[dict] = []
    for start in range(0, len(asked), generation.SHARD):
        if len(kept) >= examples:
            break
        part = asked[start : start + generation.SHARD]
        graded = grade(generation.sample(f"lab:{teacher}", part, 1, **sampling), part)
        kept += graded[graded["verdict"] == "correct"].to_dict("records")
    return pd.DataFrame(kept[:examples])


def _gain(name: str, teacher: str, examples: int, hard: list[problems.Problem]) -> float:
    """Points that verified examples of a teacher add to the hard end, trained as in notebook 01."""
    settings: Any = params.checked("lab", "01_teacher_selection")
    corpus = _corpus(teacher, examples, settings)
    how = settings.model_dump(include={"learning_rate", "batch_size", "epochs", "max_length"})
    student = training.sft(f"lab:{name}", corpus, **how)
    return 100 * (_accuracy(student, {"hard": hard}) - _accuracy(f"lab:{name}", {"hard": hard}))


def check(name: str) -> dict[str, Any]:
    """The criteria of recipes.yml for a student base: {criterion: {value, passed}, ..., "passed"}.

    Teachers are tried in the order of the recipes until one gives the gain that is asked for.
    """
    rules = lab.recipes()["competence"]
    easy = scores(name)[f"{rules['easy']['family']} {rules['easy']['level']}"]

    questions = problems.load(rules["hard"]["source"], 600, "dev", "competence")
    hard = _accuracy(f"lab:{name}", {"hard": questions})
    low, high = rules["hard"]["between"]

    sources = rules["ood"]["sources"]
    ood_suite = {source: problems.load(source, 300, "dev", "lab") for source in sources}
    worst = _accuracy(f"lab:{name}", ood_suite)

    gains: dict[str, float] = {}
    points = rules["gain"]["points"]
    for teacher in lab.names("teacher"):
        gains[teacher] = _gain(name, teacher, rules["gain"]["examples"], questions)
        if gains[teacher] >= points:
            break
    gain, best = max((gain, teacher) for teacher, gain in gains.items())

    criteria: dict[str, dict[str, Any]] = {
        "easy": {"value": easy, "passed": easy >= rules["easy"]["at_least"]},
        "hard": {"value": round(hard, 4), "passed": low <= hard <= high},
        "ood": {"value": round(worst, 4), "passed": worst >= rules["ood"]["at_least"]},
        "gain": {"value": round(gain, 1), "passed": gain >= points, "teacher": best},
    }
    return criteria | {"passed": all(result["passed"] for result in criteria.values())}


def record(names: list[str]) -> dict[str, dict]:
    """Scores the named models, checks the students among them, writes scores.json and the page;
    returns the checks that failed, by name."""
    recorded = json.loads(SCORES.read_text(encoding="utf-8")) if SCORES.is_file() else {}
    failed = {}
    for name in names:
        recorded[name] = {"scores": scores(name)}
        if name in lab.names("student"):
            recorded[name]["check"] = check(name)
            if not recorded[name]["check"]["passed"]:
                failed[name] = recorded[name]["check"]
        ordered = {name: recorded[name] for name in lab.names() if name in recorded}
        write_text(SCORES, json.dumps(ordered, indent=1) + "\n")
    head = README.read_text(encoding="utf-8").partition(MARK)[0]
    write_text(README, f"{head}{MARK}\n\n{page()}")
    return failed


# ---- the tables of the lab's page --------------------------------------------------------------


def page() -> str:
    """Scores, recipe, lineage and checks of every model, from what was recorded, as Markdown."""
    recorded = json.loads(SCORES.read_text(encoding="utf-8"))
    families = list(next(iter(recorded.values()))["scores"])
    scored, trained, checked = [], [], []
    for name, entry in recorded.items():
        scored.append([name, *(f"{100 * entry['scores'][family]:.0f}" for family in families)])
        made = json.loads((lab.checkpoint(name) / "lab.json").read_text(encoding="utf-8"))
        recipe, millions, minutes = made["recipe"], made["tokens"] / 1e6, made["seconds"] / 60
        origin = [name, recipe["role"], recipe.get("parent", "-"), recipe["seed"]]
        length = [f"{millions:.1f}", made["steps"], f"{minutes:.0f}", made["loss"]]
        trained.append([*origin, *length])
        if check := entry.get("check"):
            values = [check[criterion]["value"] for criterion in ("easy", "hard", "ood")]
            gain = f"{check['gain']['value']} ({check['gain']['teacher']})"
            checked.append([name, *values, gain, "yes" if check["passed"] else "no"])
    lineage = "model | role | parent | seed | million tokens | steps | minutes | final loss"
    criteria = "base | easy end | hard end | worst OOD family | best gain, points | passed"
    tables = [(["model", *families], scored)]
    tables += [(lineage.split(" | "), trained), (criteria.split(" | "), checked)]
    return "\n".join(_markdown(headings, rows) for headings, rows in tables)


def _markdown(headings: list[str], rows: list[list]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)
