"""Notebook 05's arms: the corpora differ in what they are named for and in nothing else; what
cannot be trained is not measured.
"""

import cells as notebooks
import pandas as pd
import pytest
from test_study import BASE, TEACHER, params, rated, unit, worked  # noqa: F401

from ded import curation, figures, plan, stats, study, tables, training
from ded import params as parameters
from ded.grading import grade

pytestmark = pytest.mark.usefixtures("tiny")
VALLEY = {
    "arms": [],
    "teacher": TEACHER,
    "sizes": [4, 16],
    "selection_sizes": [8],
    "n_attempts": 3,
    "difficulty": "level",
    "pass_rate_samples": 2,
    "samples": 1,
}
ARMS = ["random 4", "random 16", "easy 8", "hard 8", "correct 8", "incorrect 8"]


def selections(p, base=BASE, replicate=0):
    """{selection: its table} of notebook 05, by the rule that stands in it."""
    select = notebooks.scope("05", "select", params=p)["select"]
    return select(study.valley.pool(unit(p, replicate, base)))


def arms(p, base=BASE, replicate=0):
    """{name: arm} of notebook 05, by the rules that stand in it."""
    make_arms = notebooks.scope("05", "arms", params=p)["make_arms"]
    return {arm.name: arm for arm in make_arms(selections(p, base, replicate))}


@pytest.mark.usefixtures("worked")
def test_right_and_wrong_answers_to_the_same_questions():
    p = params(**VALLEY)
    pools = selections(p)
    right, wrong = pools["correct"], pools["incorrect"]
    assert (
        right["problem_id"].tolist() == wrong["problem_id"].tolist()
        and right["problem_id"].is_unique
        and len(right) > 20
    )
    questions = unit(p).questions()
    assert set(
        grade(right.drop(columns=["verdict", "answer", "reason"], errors="ignore"), questions)[
            "verdict"
        ]
    ) == {"correct"}
    assert set(
        grade(wrong.drop(columns=["verdict", "answer", "reason"], errors="ignore"), questions)[
            "verdict"
        ]
    ) == {"wrong"}
    assert all(
        curation.split_think(text) for text in wrong["text"]
    )  # as well-formed as the right ones
    assert set(right["problem_id"]) < set(
        pools["random"]["problem_id"]
    )  # some questions were never answered wrongly


@pytest.mark.usefixtures("worked")
def test_what_is_cut_off_or_malformed_is_no_wrong_answer(monkeypatch):
    p = params(**VALLEY)
    real = selections(p)["incorrect"]
    lost = set(real["problem_id"][:5])

    def curate(*arguments):
        curated = study.curate(*arguments)
        step = curated.dropped["step"].where(~curated.dropped["problem_id"].isin(lost), "format")
        return curated._replace(dropped=curated.dropped.assign(step=step))

    monkeypatch.setattr(study.pipeline, "curate", curate)
    again = selections(p)["incorrect"]
    assert set(again["problem_id"]) == set(real["problem_id"]) - lost


@pytest.mark.usefixtures("worked")
def test_easy_and_hard_are_parts_of_the_same_pool():
    p = params(**VALLEY)
    pools = selections(p)
    level = {q.id: q.level for q in unit(p).questions()}
    easy, hard = (pools[name]["problem_id"].map(level) for name in ("easy", "hard"))
    assert easy.max() < hard.min()
    assert sorted([*pools["easy"]["problem_id"], *pools["hard"]["problem_id"]]) == sorted(
        pools["random"]["problem_id"]
    )
    assert (
        abs(len(easy) - len(hard)) <= len(pools["random"]) / 2
    )  # three levels: a third against two


@pytest.mark.usefixtures("worked", "rated")
def test_difficulty_by_the_pass_rate_of_the_student():
    p = params(**VALLEY | {"difficulty": "pass_rate"})
    pools = selections(p)
    passed = {q.id for i, q in enumerate(unit(p).questions()) if i % 2}
    assert set(pools["easy"]["problem_id"]) == passed & set(pools["random"]["problem_id"])
    assert not set(pools["hard"]["problem_id"]) & passed and len(pools["hard"])


@pytest.mark.usefixtures("worked")
def test_an_arm_is_trained_on_its_size(monkeypatch):
    trained = []
    monkeypatch.setattr(
        training,
        "sft",
        lambda base, corpus, **settings: trained.append(corpus["problem_id"].tolist()) or base,
    )
    p = params(**VALLEY)
    made = arms(p)
    assert list(made) == list(study.valley.arms(p)) == ARMS
    rows = [study.run_arm(unit(p), arm).row for arm in made.values()]
    assert [row["examples"] for row in rows] == [len(ids) for ids in trained] == [4, 16, 8, 8, 8, 8]
    assert (
        trained[1][:4] == trained[0] and trained[4] == trained[5]
    )  # sizes are nested; right and wrong share their questions
    assert rows[1] == rows[1] | {
        "base": "student_1",
        "arm": "random 16",
        "selection": "random",
        "size": 16,
        "steps": 2,
        "note": "",
    }


def unmeasured(p, names):
    units = study.units(p)
    runs = [
        study.run_arm(each, arms(p, each.base, each.replicate)[name])
        for each in units
        for name in names
    ]
    before = pd.concat(map(study.before, units))
    scores = pd.concat([before, *(run.scores for run in runs)])
    return scores, pd.DataFrame([run.row for run in runs])


@pytest.mark.usefixtures("worked")
def test_questions_of_one_level_have_no_easy_half(monkeypatch):
    monkeypatch.setattr(training, "sft", lambda base, corpus, **settings: base)
    p = params(**VALLEY | {"corpus_source": "lab:sum/8"})
    scores, rows = unmeasured(p, ["random 4", "easy 8"])
    assert rows["note"].tolist() == ["", "not measured: 0 of 8 examples"] * 4
    cells = scores[scores["family"] == "ID"]
    (one,) = stats.judge([stats.claim("c", "s", stats.paired(cells, "easy 8", "random 4"))])
    assert one.verdict == "not judged" and "easy 8" in one.note
    assert figures.size_curve({"ID": figures.cells(scores)}, rows) and figures.arm_scores(
        {"ID": cells}
    )


def test_a_teacher_without_a_right_answer_ends_in_what_was_not_measured():
    p = params(**VALLEY | {"students": [BASE], "n_questions": 20})  # its tiny model knows nothing
    scores, rows = unmeasured(p, ARMS)
    assert (
        set(rows["note"]) == {f"not measured: 0 of {n} examples" for n in (4, 8, 16)}
        and (rows["steps"] == 0).all()
    )
    cells = scores[scores["family"] == "ID"]
    assert (
        cells[cells["arm"] != "before"]["accuracy"].isna().all()
        and cells[cells["arm"] == "before"]["accuracy"].notna().all()
    )
    climb = stats.judge([stats.claim("c", "s", stats.paired(cells, "random 16", "before"))])
    assert climb[0].verdict == "not judged"
    assert figures.size_curve({"ID": figures.cells(scores)}, rows)
    assert figures.forest(figures.claim_rows(climb), 0.03)
    shown = tables.arm_table({"ID": cells, "OOD": stats.macro(scores, "OOD")})
    assert list(shown["arm"]) == ["before"], "what was not measured has no row"
    assert not any(map(len, selections(p).values())) and study.valley.pool(unit(p)).tokens > 0


@pytest.mark.parametrize("difficulty, rated_prompts", [("level", []), ("pass_rate", [3 * 60 * 2])])
def test_the_work_of_notebook_05_is_counted(difficulty, rated_prompts):
    changes = {"students": [BASE], "n_replicates": 3, "epochs": 2.0, "difficulty": difficulty}
    sizes = {"n_questions": 60, "eval_id": 6, "eval_ood": 4, "samples": 2}
    settings = parameters.checked(
        "lab", "05", VALLEY | changes | sizes | {"ood_sources": ["lab:reverse", "lab:sort/5"]}
    )
    work = {}
    for item in plan.workload("05_valley", settings):
        work.setdefault(item.kind, []).append(item)
    assert [(w.examples, w.loads) for w in work["students trained"]] == [
        ((4 + 16 + 4 * 8) * 2 * 3, 6 * 3)
    ]
    assert [w.prompts for w in work["students scored"]] == [7 * 3 * (6 + 2 * 4) * 2]
    assert [w.prompts for w in work.get("pass rates", [])] == rated_prompts
    assert [w.prompts for w in work["teachers' trajectories"]] == [3 * 60 * 3]
