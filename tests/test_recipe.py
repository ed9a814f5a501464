"""Notebook 04's steps on models that know nothing and corpora worked out by hand; its verdicts'
rules.
"""

import json
import math
import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import cells
import numpy as np
import pandas as pd
import pytest
import rows

from ded import (
    evaluation,
    generation,
    grading,
    params,
    reading,
    stats,
    study,
    training,
)
from ded.params import schemas
from ded.problems import lab as tasks
from ded.study import recipe

BASE, OTHER, SOLVER, POOR = "lab:student_1", "lab:student_2", "lab:random", "lab:ancestor"
EQUAL = [*recipe.CURATED, *recipe.PARTS, *recipe.STYLES]  # as large as DED
LARGE = "large, another teacher"
pytestmark = pytest.mark.usefixtures("tiny")
SMALL = {
    "students": [BASE],
    "teachers": [SOLVER, POOR],
    "arms": [],
    "chosen": {},
    "n_replicates": 2,
    "n_select": 2,
    "n_questions": 60,
    "n_code_questions": 40,
    "smoke_questions": 20,
    "smoke_size": 12,
    "smoke_eval": 5,
    "corpus_size": 20,
    "large_size": 70,
    "keep_questions": {"pass_rate": 0.5},
    "pass_rate_samples": 2,
    "pass_rate_questions": 40,
    "n_trajectories": 3,
    "n_kept": 2,
    "eval_id": 6,
    "eval_code": 4,
    "eval_ood": 4,
    "ood_sources": ["lab:reverse", "lab:sort"],
    "shift_inputs": 4,
    "epochs": 1.0,
    "batch_size": 4,
}
seeds = iter(range(1, 1000))


def settings(**changes):
    """The lab's parameters in the small, with a seed of their own."""
    return schemas.Recipe.model_validate(
        params.load("lab", "04", SMALL | {"seed": next(seeds)} | changes)
    )


def unit(p, replicate=2):
    """The first scored unit, or one of the selection."""
    return study.Unit(p, BASE, replicate)


def corpora(p, teacher, top, other=""):
    """({arm: corpus} of notebook 04, by the rules that stand in it, the pool)."""
    pool = study.recipe.pool(unit(p), teacher, top, other)
    rules = cells.scope("04", "rules", params=p)["rules"]
    return {arm.name: arm.corpus for arm in study.recipe.make_arms(unit(p), pool, rules)}, pool


@pytest.fixture
def worked(monkeypatch):
    """Teachers of worked solutions: SOLVER's samples of a question are all in one style, POOR's in
    as many as there are, every third wrong.

    Students sample as they can, which is not at all. Verdicts on code come from the text: no
    sandbox is needed.
    """
    real = generation.sample

    def sample(model, asked, n=1, **more):
        if model not in (SOLVER, POOR):
            return real(model, asked, n, **more)

        def write(question, _, index):
            style = tasks.STYLES[index] if model == POOR else "left"
            text = tasks.solution(question, style, random.Random(question.id))
            wrong = model == POOR and int(question.id[-4:], 16) % 3 == 0
            return text.replace("</think> ", "</think> 9 ") if wrong else text

        return rows.trajectories(asked, n, write, model)

    def run(pairs, settings, patient=True):
        return [
            grading.Decision("correct" if program.startswith("def f") else "wrong")
            for _, program in pairs
        ]

    monkeypatch.setattr(generation, "sample", sample)
    monkeypatch.setattr("ded.grading.code.grade_programs", run)


@pytest.fixture
def rated(monkeypatch):
    """Pass rates of 0, 0.5 and 1 in turn: two thirds of the questions are hard at a threshold of
    0.5.
    """

    def rates(model, asked, samples, **more):
        return pd.DataFrame(
            [
                {
                    "problem_id": q.id,
                    "level": q.level,
                    "n": 2,
                    "correct": i % 3,
                    "pass_rate": i % 3 / 2,
                }
                for i, q in enumerate(asked)
            ]
        )

    monkeypatch.setattr(evaluation, "pass_rates", rates)


# ---- units and the choice


def test_the_units_of_the_selection_are_not_those_of_the_result():
    p = settings()
    chosen, scored = study.units(p, select=True), study.units(p)
    assert [u.replicate for u in chosen] == [0, 1] and [u.replicate for u in scored] == [2, 3]
    asked = {r: {q.id for f in unit(p, r).suite().values() for q in f} for r in range(4)}
    assert not asked[0] & asked[2] and list(unit(p, 0).suite()) == [
        "ID",
        "ID code",
        "reverse",
        "sort",
    ]
    trained = {r: {q.id for q in unit(p, r).questions()} for r in range(4)}
    assert len(trained[0] | trained[2]) > 110 and len(unit(p).questions(p.code_source)) == 40


def smoke(**columns):
    """Three teachers, two replicates, two bases; a column is {base: ((a, a), (b, b), (c, c))}."""
    rows = []
    for base in ("student_1", "student_2"):
        for i, teacher in enumerate(("lab:left", "lab:pairs", "lab:third")):
            for r in range(2):
                rows.append(
                    {
                        "base": base,
                        "replicate": r,
                        "teacher": teacher,
                        **{name: values[base][i][r] for name, values in columns.items()},
                    }
                )
    return pd.DataFrame(rows)


def test_the_teacher_is_the_one_whose_student_is_best_and_the_top_one_scores_highest_itself():
    table = smoke(
        student={
            "student_1": ((0.5, 0.6), (0.4, 0.8), (0.1, 0.1)),
            "student_2": ((0.5, 0.5), (0.9, math.nan), (math.nan, 1)),
        },
        own={
            "student_1": ((0.9, 0.9), (1.0, 0.7), (0.5, 0.5)),
            "student_2": ((1, 1), (1, 1), (0.5, 0.5)),
        },
    )
    p = settings(students=[BASE, OTHER])
    choice = study.teachers.choose(p, table)
    assert choice["base"].tolist() == ["student_1", "student_2", "student_2"], "a row a top"
    assert choice["teacher"].tolist() == ["lab:pairs", "lab:left", "lab:left"], (
        "the better mean; one that lacks a replicate is out"
    )
    assert choice["top"].tolist() == ["lab:left", "lab:left", "lab:pairs"], "all that tie"
    assert choice["other"].tolist() == ["lab:third", "", ""], "neither chosen nor top, and measured"
    unscored = table.assign(own=table["own"].where(table["teacher"] != "lab:third"))
    assert set(study.teachers.choose(p, unscored)["top"]) == {""}, "the third may be higher"
    assert "of 2 of 3 candidates, not of third: none is" in reading.own_scores(unscored)
    assert reading.own_scores(table).endswith("3 of 3 candidates.")
    tied = table.assign(student=0.5)
    drawn = {
        study.teachers.choose(settings(students=[BASE]), tied)["teacher"].item() for _ in range(40)
    }
    assert drawn == {"lab:left", "lab:pairs", "lab:third"}, "not always the first"
    nothing = study.teachers.choose(p, table.assign(student=math.nan))
    assert set(nothing["teacher"]) == {""} and nothing["top"].iloc[0] == "lab:left"


def test_teachers_that_are_given_need_no_smoke_test():
    three = [SOLVER, POOR, "lab:left"]
    given = {"default": {"teacher": POOR, "top": [SOLVER, POOR]}}
    given[OTHER] = {"teacher": SOLVER, "top": SOLVER, "other": POOR}
    p = settings(students=[BASE, OTHER], teachers=three, chosen=given)
    assert study.units(p, select=True) == []
    assert [u.replicate for u in study.units(p)] == [2, 3] * 2, "the questions stay the same"
    choice = study.teachers.choose(p, pd.DataFrame())
    rows = choice[["base", "teacher", "top", "other"]].to_numpy().tolist()
    assert rows == [
        ["student_1", POOR, SOLVER, "lab:left"],
        ["student_1", POOR, POOR, "lab:left"],
        ["student_2", SOLVER, SOLVER, POOR],
    ]
    for wrong, why in (
        ({"lab:student_9": given["default"]}, "'lab:student_9' is none of students"),
        ({"default": {"teacher": "lab:lefd", "top": POOR}}, "none of teachers.*lab:left"),
        ({BASE: given["default"]}, "names no teachers of 'lab:student_2'"),
        ({"default": {"teacher": POOR}}, "chosen.default.top is missing"),
        ({"default": {**given["default"], "topp": POOR}}, "topp: unknown parameter.*top"),
    ):
        with pytest.raises(params.ParameterError, match=why):
            settings(students=[BASE, OTHER], teachers=three, chosen=wrong)


def test_each_teacher_is_left_out_in_turn():
    three = ["lab:left", "lab:pairs", SOLVER]
    p = settings(students=[BASE, OTHER], teachers=three)
    table = smoke(
        student={
            "student_1": ((0.5, 0.5), (0.6, 0.6), (0.1, 0.1)),
            "student_2": ((0.5, 0.5), (0.6, 0.6), (0.9, 0.9)),
        },
        own=dict.fromkeys(("student_1", "student_2"), ((1, 1), (0.9, 0.9), (0.5, 0.5))),
    ).replace("lab:third", SOLVER)
    choice = study.teachers.choose(p, table)
    assert choice["teacher"].tolist() == ["lab:pairs", SOLVER]
    assert choice["other"].tolist() == [SOLVER, "lab:pairs"]
    choice["other"] = ""
    asked = []

    def judged_in(bases):
        asked.append(bases)
        return [stats.claim("a", "b", None), stats.claim("c", "d", None)]

    result = study.teachers.without_each_choice(p, table, choice, judged_in)
    assert asked == [["student_2"], ["student_1"]], "top everywhere, 'left' leaves none"
    assert result["without"].tolist() == ["left", "pairs", "pairs", "random", "random"]
    assert result["bases"].tolist() == [0, 1, 1, 1, 1]
    assert result["smoke_test"].tolist()[:2] == ["pairs 1, random 1", "left 1, random 1"]
    assert result["own_score"].tolist()[0] == "pairs 2"
    assert result["claim"].isna().tolist() == [True, False, False, False, False]
    given = study.teachers.without_each_choice(p, table.head(0), choice, judged_in)
    assert set(given["smoke_test"]) == {""}
    choice["other"] = [SOLVER, ""]  # whose corpus is one of the large ones
    result = study.teachers.without_each_choice(p, table, choice, judged_in)
    assert result.drop_duplicates("without")["bases"].tolist() == [0, 1, 0]


def test_jobs_carry_the_teachers_of_their_base():
    p = settings(students=[BASE, OTHER])
    choice = pd.DataFrame(
        {
            "base": ["student_2", "student_1", "student_1"],
            "teacher": [POOR, SOLVER, SOLVER],
            "top": ["", POOR, SOLVER],
            "other": "",
        }
    )
    calls = study.recipe.calls(study.units(p), choice)
    teachers = {(c["unit"].base, c["teacher"], c["top"], c["other"]) for c in calls}
    assert len(calls) == 6 and teachers == {
        (BASE, SOLVER, POOR, ""),
        (BASE, SOLVER, SOLVER, ""),
        (OTHER, POOR, "", ""),
    }
    assert {c["unit"].replicate for c in calls} == {2, 3}


def test_a_candidate_is_scored_trained_on_and_measured(worked):
    p = settings()
    row = study.teachers.candidate(unit(p, 0), SOLVER)
    assert (
        row["examples"] == 12
        and row["own"] == 1.0
        and row["teacher"] == SOLVER
        and row["base"] == "student_1"
    )
    before = study.before(unit(p, 0)).set_index("family").loc["ID", "accuracy"]
    assert row["gain"] == row["smoke"] == row["student"] - before
    assert (
        row["loss"] > 1
        and row["lalp"] < 0
        and row["shift"] > 0
        and row["entropy"] == pytest.approx(0.5, rel=0.1)
    )
    assert row["smoke_seconds"] > 0 and row["shift_seconds"] > 0 and row["own_seconds"] > 0
    assert study.teachers.candidate(unit(p, 0), SOLVER) == row, "costs are those of the first time"
    empty = study.teachers.candidate(unit(p, 0), BASE)  # an untrained model: no trajectory passes
    assert (
        empty["examples"] == 0
        and empty["own"] == 0
        and all(math.isnan(empty[k]) for k in ("student", "gain", "loss", "shift", "smoke"))
    )


# ---- corpora


def test_arms_of_equal_size_differ_in_one_thing_each(worked, rated):
    p = settings()
    made, pool = corpora(p, POOR, SOLVER, SOLVER)
    assert set(study.recipe.arms(p)) == set(made) and list(made)[: len(EQUAL) + 1] == [
        "DED",
        *EQUAL,
    ]
    assert {arm: len(c) for arm, c in made.items() if "large" not in arm} == dict.fromkeys(
        ["DED", *EQUAL], 20
    )
    halves = {arm: Counter(c["part"]) for arm, c in made.items()}
    assert halves["math only"] == {"math": 20} and halves["code only"] == {"code": 20}
    assert all(
        h == {"math": 10, "code": 10}
        for arm, h in halves.items()
        if arm not in recipe.PARTS and "large" not in arm
    )

    questions = {
        name: unit(p).questions(s)
        for name, s in (("math", p.corpus_source), ("code", p.code_source))
    }
    hard = {q.id for part in questions.values() for i, q in enumerate(part[:40]) if i % 3 < 2}
    ids = {arm: set(c["problem_id"]) for arm, c in made.items()}
    for arm in ("DED", "breadth", "top teacher", "math only", "code only"):
        assert ids[arm] <= hard, arm
    assert not ids["no compression"] <= hard and not ids["random"] <= hard
    math_of = {arm: c[c["part"] == "math"] for arm, c in made.items()}
    assert (
        math_of["DED"].groupby("problem_id").size().eq(2).all()
        and math_of["DED"]["text"].nunique() == 10
    )
    for arm in ("breadth", "random", "s1 style", "LIMO style", *recipe.LARGE):
        assert made[arm]["problem_id"].is_unique, arm
    assert set(math_of["top teacher"]["model"]) == {SOLVER} and set(math_of["DED"]["model"]) == {
        POOR
    }
    assert math_of["top teacher"]["problem_id"].is_unique, (
        "a teacher that says the same each time gives one trajectory a question"
    )
    rates = math_of["LIMO style"]["pass_rate"]
    assert rates.is_monotonic_increasing and rates.iloc[0] == 0, "the lowest pass rates first"
    assert made["s1 style"]["pass_rate"].max() < 1
    assert math_of["s1 style"]["level"].value_counts().max() <= 3, "spread over the four levels"
    same, unfiltered, top, another = recipe.SAME, *recipe.OTHERS
    assert len(made[unfiltered]) == len(made[top]) == 70 >= len(made[same]) > 0.75 * 70
    assert halves[top] == {"math": 35, "code": 35} and ids["random"] <= ids[same]
    assert made[another]["text"].tolist() == made[top]["text"].tolist()
    for arm, teacher in ((same, POOR), (unfiltered, SOLVER), (top, SOLVER)):
        assert set(made[arm]["model"]) == {teacher}
        assert made[arm + recipe.EQUAL_STEPS]["text"].tolist() == made[arm]["text"].tolist()
    wrong, _ = corpora(p, SOLVER, POOR)
    assert wrong[unfiltered]["verdict"].eq("wrong").any(), "unfiltered"
    assert wrong[top]["verdict"].eq("correct").all() and wrong[another].empty
    assert (
        set(pool.funnel["pool"]) == {"math", "math questions", "code", "code questions"}
        and pool.tokens > 0
    )


def test_the_arms_are_cut_to_the_smallest_and_what_is_too_small_is_not_measured(worked, rated):
    p = settings(
        pass_rate_questions=24
    )  # 16 hard ones a part: code, in which nothing differs, gives 16 where 20 are wanted
    made, _ = corpora(p, SOLVER, "")
    of_equal = {arm: len(made[arm]) for arm in EQUAL}
    assert of_equal.pop("top teacher") == 0 and set(of_equal.values()) == {16}
    assert len(made[recipe.SAME]) == 70 and made[recipe.OTHERS[1]].empty
    assert Counter(made["DED"]["part"]) == {"math": 8, "code": 8}, (
        "what is cut is cut from both parts"
    )
    nothing, _ = corpora(p, "", SOLVER)
    assert set(nothing) == set(made) and all(c.empty for c in nothing.values())


def test_without_code_the_corpus_is_math(worked, rated):
    p = settings(code_source="", code_id_source="", pass_rate_questions=60, large_size=60)
    made, _ = corpora(p, POOR, SOLVER)
    assert set(made) == set(study.recipe.arms(p)) and "code only" not in made
    assert (
        "math only" not in made and len(made["DED"]) == 20 and set(made["DED"]["part"]) == {"math"}
    )
    assert list(unit(p).suite()) == ["ID", "reverse", "sort"]
    assert settings(code_source="", large_size=60).code_id_source == "", "one key is enough"
    with pytest.raises(params.ParameterError, match=r"code_id_source = '' is asked of students"):
        settings(code_id_source="")


def test_arms_of_equal_size_train_equally_long_and_an_empty_one_is_not_measured(
    worked, rated, monkeypatch
):
    trained = []
    monkeypatch.setattr(
        training,
        "sft",
        lambda base, corpus, **more: trained.append((len(corpus), more["max_steps"])) or base,
    )
    p = settings()
    pool = study.recipe.pool(unit(p), POOR, "", SOLVER)
    rules = cells.scope("04", "rules", params=p)["rules"]
    arms = {arm.name: arm for arm in study.recipe.make_arms(unit(p), pool, rules)}
    runs = {
        name: study.run_arm(unit(p), arms[name])
        for name in ("DED", "random", LARGE, LARGE + recipe.EQUAL_STEPS, "top teacher")
    }
    assert trained == [(20, 5), (20, 5), (70, 18), (70, 5)]
    assert (
        runs["DED"].row
        == runs["DED"].row | {"arm": "DED", "replicate": 2, "examples": 20, "code": 10, "steps": 5}
        and runs["DED"].student == BASE
    )
    groups = runs["DED"].scores.set_index("family")["group"].to_dict()
    assert groups == {"ID": "ID", "ID code": "ID", "reverse": "OOD", "sort": "OOD"}
    none = runs["top teacher"]
    assert none.student == "" and none.row["examples"] == none.row["steps"] == 0
    assert none.scores["accuracy"].isna().all() and none.scores["family"].tolist() == list(groups)


def test_teachers_that_tie_are_averaged_before_any_statistic():
    row = {"base": "x", "replicate": 2, "family": "ID", "group": "ID"}
    scores = pd.DataFrame(
        [
            {**row, "arm": arm, "n": 4, "accuracy": value}
            for arm, value in (
                ("before", 0.2),
                ("DED", 0.5),
                ("DED", 0.5),
                ("top", 0.4),
                ("top", 1),
            )
        ]
    )
    mean = recipe.expected(scores)
    assert mean["arm"].tolist() == ["before", "DED", "top"] and list(mean) == list(scores)
    assert mean["accuracy"].tolist() == pytest.approx([0.2, 0.5, 0.7])
    assert recipe.expected(scores.head(2)).equals(scores.head(2))
    lacking = scores.assign(accuracy=[0.2, 0.5, 0.5, 0.4, math.nan])
    assert math.isnan(recipe.expected(lacking)["accuracy"].iloc[2]), "one that is missing counts"


def test_the_highest_scorer_is_scored_on_the_units_questions(worked):
    p = settings()
    own = recipe.top_itself(unit(p), POOR, SOLVER, "")
    assert own["family"].tolist() == list(unit(p).suite()) and set(own["arm"]) == {recipe.TOP}
    assert own["n"].tolist() == [6, 4, 4, 4] and own["accuracy"].tolist()[:2] == [1, 1]
    none = recipe.top_itself(unit(p), POOR, "", "")
    assert none["accuracy"].isna().all() and len(none) == len(own)


def test_too_few_questions_for_a_large_corpus_are_an_error():
    with pytest.raises(params.ParameterError, match="each of 100 training questions makes no 101"):
        settings(large_size=101)
    with pytest.raises(params.ParameterError, match="each of 60 training questions"):
        settings(large_size=61, code_source="")


def test_what_must_not_be_shown_is_not_in_the_recorded_corpus(worked, rated, monkeypatch):
    p = settings()
    made, pool = corpora(p, POOR, SOLVER)
    hidden = set(made["DED"]["problem_id"][:3])
    questions = unit(p).questions() + unit(p).questions(p.code_source)
    monkeypatch.setattr(
        study.Unit,
        "questions",
        lambda self, source="", real=study.Unit.questions: [
            replace(q, meta=q.meta | {"hide": q.id in hidden}) for q in real(self, source)
        ],
    )
    again = study.recipe.pool(unit(p), POOR, SOLVER, "")
    assert pool.hidden == set() and again.hidden == hidden <= {q.id for q in questions}
    ded = study.recipe.shown(unit(p), again, study.Arm("DED", made["DED"]), POOR)
    assert 0 < len(ded) < 20 and not hidden & set(ded["problem_id"])
    assert {"problem_id", "prompt", "text", "teacher", "n_tokens", "pass_rate"} <= set(ded) and set(
        ded["teacher"]
    ) == {POOR}


# ---- cheap scores


def cheap(n_select, bases=("x", "y")):
    """Five teachers; `loss` ranks the gains backwards, `own` says nothing, and in replicate 0 the
    smoke test is the gain.
    """
    rows = []
    for base in bases:
        for r in range(n_select):
            for i in range(5):
                gain = 0.1 * i + 0.01 * ((i + r) % 2)
                values = {
                    "own": 0.9,
                    "loss": 2 - 0.3 * i,
                    "rsr": 1.0,
                    "grace": 1.0,
                    "lalp": -1 + 0.1 * i,
                    "entropy": 0.1,
                    "length": 40.0 + i,
                    "shift": 1.0 - 0.1 * i,
                    "smoke": gain,
                }
                rows.append(
                    {
                        "base": base,
                        "replicate": r,
                        "teacher": f"lab:{i}",
                        "gain": gain,
                        **values,
                        **{f"{k}_seconds": 0.5 for k in values},
                    }
                )
    return pd.DataFrame(rows)


def test_scores_and_gains_come_from_different_replicates():
    table = cheap(2)
    points = study.teachers.points(table)
    smoke = study.teachers.PREDICTORS["smoke"].label
    teacher = points[(points["base"] == "x") & (points["teacher"] == "1")]
    turns = teacher[teacher["predictor"] == smoke].set_index("turn")
    assert turns["value"].tolist() == pytest.approx([11, 10])  # points, of replicates 0 and 1
    assert turns["gain"].tolist() == pytest.approx([0.1, 0.11])  # of replicates 1 and 0
    assert len(points) == 9 * 5 * 2 * 2 and set(points["teacher"]) == set("01234")
    single = study.teachers.points(cheap(1))
    assert set(single["turn"]) == {0}
    assert set(single["predictor"]) == set(points["predictor"]) - {smoke}


def test_the_advice_names_the_best_cheap_score_with_its_cost():
    from ded import figures

    table = cheap(2)
    found = study.teachers.with_regret(
        table, figures.rank_correlations(study.teachers.points(table))
    ).set_index("predictor")
    loss, own = (
        found.loc["student's loss on the corpus (nats a token)"],
        found.loc["own pass@1 (%)"],
    )
    assert (
        loss["estimate"] == pytest.approx(-1)
        and loss["regret"] == pytest.approx(0)
        and own["regret"] == pytest.approx(0.2, abs=0.02)
    )
    said = study.teachers.advice(found.reset_index())
    assert "'student's loss" in said or "'LALP" in said
    assert "latent shift" not in said and "smoke test's gain" not in said, "they need the training"
    wrong = table.assign(
        loss=-table["loss"], lalp=table["own"]
    )  # the loss that ranks perfectly, but the wrong way round
    said = study.teachers.advice(
        study.teachers.with_regret(wrong, figures.rank_correlations(study.teachers.points(wrong)))
    )
    assert "student's loss" not in said
    one = study.teachers.points(table[table["base"] == table["base"].iloc[0]])
    of_one = figures.rank_correlations(one)
    assert not np.isfinite(of_one["low"]).any(), "one base has no interval"
    text = study.teachers.advice(of_one.assign(regret=np.nan))
    assert "[" not in text and "holds 0" not in text
    nothing = table.assign(**dict.fromkeys(("gain", "smoke"), np.nan))
    assert "Nothing" in study.teachers.advice(
        study.teachers.with_regret(
            nothing, figures.rank_correlations(study.teachers.points(nothing))
        )
    )


# ---- programs that run once


def test_what_was_graded_is_looked_up_but_for_failures_of_the_grader(worked, monkeypatch):
    asked, verdicts = [], ["wrong", "correct", "error", "correct"]

    def ran(pairs, settings):
        asked.append(len(pairs))
        return [grading.Decision(verdicts[len(asked) - 1], "why") for _ in pairs]

    monkeypatch.setitem(grading.GRADERS, "code", replace(grading.GRADERS["code"], decide=ran))
    p = settings()
    questions = unit(p).questions(p.code_source)
    first, again = (study.graded(unit(p), SOLVER, 1, questions) for _ in range(2))
    assert asked == [len(questions)] and set(first["verdict"]) == {"wrong"}
    pd.testing.assert_frame_equal(first, again)
    few = [set(study.graded(unit(p), SOLVER, 1, questions[:7])["verdict"]) for _ in range(2)]
    assert few == [{"correct"}] * 2 and asked == [len(questions), 7]
    p = p.model_copy(update={"grading": p.grading.model_copy(update={"isolation": "rlimits"})})
    for verdict in ("error", "correct", "correct"):
        assert set(study.graded(unit(p), SOLVER, 1, questions[:7])["verdict"]) == {verdict}
    assert asked[2:] == [7, 7]


def test_the_lab_presets_are_as_the_paper_scaled():
    for preset in params.presets():
        p = params.load(preset, "04")
        assert (
            p["large_size"] == 4 * p["corpus_size"]
            and p["n_select"] >= 2
            and json.dumps(p["fixed_on"])
        )


def test_ded_is_judged_only_with_the_diversity_that_it_is_about():
    def why(distinct, questions):
        corpus = pd.DataFrame({"problem_id": questions})
        return recipe.too_alike([SimpleNamespace(distinct=distinct)], [corpus], 4)

    fours = [name for name in "abcde" for _ in range(4)]
    assert why([8, 9, 3], fours) == ""
    assert "median question has 7 trajectories that differ, fewer than 8" in why([7, 7, 16], fours)
    assert "2.5 trajectories a question are kept, fewer than 3" in why([9, 9], list("aaabb"))
    assert why([0], []) == ""  # not measured: another reason is given
    claims = [stats.claim("a", "b", None)]
    assert stats.withheld(claims, "") == claims
    (withheld,) = stats.withheld(claims, "for a reason")
    assert (withheld.verdict, withheld.note) == ("not judged", "for a reason")
    (withheld,) = stats.withheld(stats.judge(claims), "for a reason")
    assert withheld.note == "for a reason; not measured"
