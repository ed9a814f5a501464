"""Scores of the lab's models on the dev split, and the check that a student base must pass before it enters a study."""

from __future__ import annotations

import json
from pathlib import Path

from ded import evaluation, generation, problems, training
from ded.lab import catalogue as lab
from ded.problems import lab as tasks

SAMPLING = {"max_tokens": 128, "temperature": 0.6, "top_p": 1.0, "seed": 0}
LEVELS = range(5, 10)


def scores(name: str, n: int = 300) -> dict[str, float]:
    """pass@1 of a lab model on dev problems (n a family and level): "sum 3", "sum 5" ... "sum 9", "code 3" ..., each OOD family."""
    suite = {
        "sum 3": problems.draw(tasks.maker("sum", 3), 80, "dev", "lab")
    }  # a drill: few problems exist
    suite |= {f"sum {lv}": problems.load(f"lab:sum/{lv}", n, "dev", "lab") for lv in LEVELS}
    suite |= {
        f"code {lv}": problems.load(f"lab:code/{lv}", n // 3, "dev", "lab")
        for lv in tasks.LEVELS["code"]
    }
    suite |= {family: problems.load(f"lab:{family}", n, "dev", "lab") for family in tasks.OOD}
    table = evaluation.evaluate(f"lab:{name}", suite, **SAMPLING)
    return {row.family: round(float(row.accuracy), 4) for row in table.itertuples()}


def _gain(name: str, teacher: str, examples: int, hard: list[problems.Problem]) -> float:
    """Points that `examples` verified examples of a teacher add to the hard end, with the SFT settings of notebook 01."""
    from ded import params
    from ded.grading import grade

    p = params.load("lab", "01_teacher_selection")
    questions = problems.load(p["corpus_source"], 4 * examples, "train", f"competence {teacher}")
    kept, drawn = [], 0
    while len(kept) < examples and drawn < len(questions):  # only as many as it takes
        part = questions[drawn : drawn + generation.SHARD]
        graded = grade(
            generation.sample(
                f"lab:{teacher}", part, 1, **SAMPLING | {"temperature": p["temperature"]}
            ),
            part,
        )
        kept += graded[graded["verdict"] == "correct"].to_dict("records")
        drawn += len(part)
    import pandas as pd

    settings = {k: p[k] for k in ("learning_rate", "batch_size", "epochs", "max_length")}
    student = training.sft(f"lab:{name}", pd.DataFrame(kept[:examples]), **settings)
    after = evaluation.evaluate(student, {"hard": hard}, **SAMPLING)["accuracy"][0]
    return 100 * (
        after - evaluation.evaluate(f"lab:{name}", {"hard": hard}, **SAMPLING)["accuracy"][0]
    )


def check(name: str) -> dict:
    """The criteria of recipes.yml for one student base: {criterion: {value, passed}, ..., "passed"}.

    Teachers are tried in the order of the recipes until one gives the gain that is asked for.
    """
    rules, found = lab.recipes()["competence"], {}
    value = scores(name)
    easy = value[f"{rules['easy']['family']} {rules['easy']['level']}"]
    found["easy"] = {"value": easy, "passed": easy >= rules["easy"]["at_least"]}
    hard = problems.load(rules["hard"]["source"], 600, "dev", "competence")
    before = float(evaluation.evaluate(f"lab:{name}", {"hard": hard}, **SAMPLING)["accuracy"][0])
    low, high = rules["hard"]["between"]
    found["hard"] = {"value": round(before, 4), "passed": low <= before <= high}
    ood = {source: problems.load(source, 300, "dev", "lab") for source in rules["ood"]["sources"]}
    worst = float(evaluation.evaluate(f"lab:{name}", ood, **SAMPLING)["accuracy"].min())
    found["ood"] = {"value": round(worst, 4), "passed": worst >= rules["ood"]["at_least"]}
    best, by = float("-inf"), ""
    for teacher in lab.names("teacher"):
        points = _gain(name, teacher, rules["gain"]["examples"], hard)
        best, by = max((best, by), (points, teacher))
        if best >= rules["gain"]["points"]:
            break
    found["gain"] = {
        "value": round(best, 1),
        "passed": best >= rules["gain"]["points"],
        "teacher": by,
    }
    for criterion in found.values():
        criterion["passed"] = bool(criterion["passed"])  # numpy's is no JSON
    return found | {"passed": all(c["passed"] for c in found.values())}


def page() -> str:
    """The lab's page (ded/lab/README.md): recipe, lineage, scores and checks of every model, from what was recorded."""
    recorded = json.loads((lab.HERE / "scores.json").read_text(encoding="utf-8"))
    lines = []
    columns = list(next(iter(recorded.values()))["scores"])
    lines += ["| model | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name, entry in recorded.items():
        lines.append(
            f"| {name} | " + " | ".join(f"{100 * entry['scores'][c]:.0f}" for c in columns) + " |"
        )
    lines += [
        "",
        "| model | role | parent | seed | million tokens | steps | minutes | final loss |",
        "| --- |" + " --- |" * 7,
    ]
    for name in recorded:
        made = json.loads((lab.checkpoint(name) / "lab.json").read_text(encoding="utf-8"))
        r = made["recipe"]
        cells = (
            r["role"],
            r.get("parent", "-"),
            r["seed"],
            f"{made['tokens'] / 1e6:.1f}",
            made["steps"],
            f"{made['seconds'] / 60:.0f}",
            made["loss"],
        )
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "| base | easy end | hard end | worst OOD family | best gain, points | passed |",
        "| --- |" + " --- |" * 5,
    ]
    for name, entry in recorded.items():
        if c := entry.get("check"):
            cells = (
                *(c[k]["value"] for k in ("easy", "hard", "ood")),
                f"{c['gain']['value']} ({c['gain']['teacher']})",
                "yes" if c["passed"] else "no",
            )
            lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def record(names: list[str], file: Path | None = None) -> dict:
    """Scores the named models, checks the students among them, and writes scores.json and the tables of the page."""
    file = file or lab.HERE / "scores.json"
    recorded = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in names:
        recorded[name] = {"scores": scores(name)} | (
            {"check": check(name)} if name in lab.names("student") else {}
        )
        file.write_text(
            json.dumps({n: recorded[n] for n in lab.names() if n in recorded}, indent=1) + "\n",
            encoding="utf-8",
        )
    readme = lab.HERE / "README.md"
    head = (
        readme.read_text(encoding="utf-8").partition("<!-- tables -->")[0]
        if readme.is_file()
        else ""
    )
    readme.write_text(head + "<!-- tables -->\n\n" + page(), encoding="utf-8")
    return recorded
