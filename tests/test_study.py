"""The notebooks' steps, on models that know nothing and corpora worked out by hand: what is
compared is comparable.
"""

import json
import math
import pickle
import random
import re
from collections import Counter
from types import SimpleNamespace

import cells
import numpy as np
import pandas as pd
import pytest
import rows

from ded import analysis, evaluation, generation, problems, study, training
from ded import params as parameters
from ded.options import Engine, Grading, Trainer
from ded.problems import lab as tasks

BASE, TEACHER = "lab:student_1", "lab:random"
pytestmark = pytest.mark.usefixtures("tiny")
COMMON = {
    "students": [BASE, "lab:ancestor"],
    "n_replicates": 2,
    "split": "dev",
    "arms": [],
    "corpus_source": "lab:sum/7-9",
    "id_source": "lab:sum/7-9",
    "ood_sources": ["lab:reverse", "lab:sort"],
    "n_questions": 60,
    "eval_id": 6,
    "eval_ood": 4,
    "learning_rate": 1e-3,
    "batch_size": 8,
    "epochs": 1.0,
    "max_length": 192,
    "max_tokens": 120,
    "temperature": 1.0,
    "top_p": 1.0,
    "eval_temperature": 0.6,
    "verification": "answer",
    "drop_repeats": False,
    "samples": 1,
    "engine": Engine(),
    "trainer": Trainer(),
    "grading": Grading(),
}
LUCKY = "<think> so </think>"  # no work, whatever follows
TEACHERS = {"teachers": [TEACHER, BASE], "n_attempts": 2, "corpus_size": 20, "shift_inputs": 4} | {
    "lalp_window": 4
}
TRADEOFF = {
    "teacher": TEACHER,
    "sizes": [4, 8, 24],
    "fixed_level": 8,
    "keep_questions": {"pass_rate": 0.5},
    "pass_rate_samples": 2,
    "pass_rate_questions": 48,
}
DIVERSITY = {
    "teacher": TEACHER,
    "n_trajectories": 6,
    "n_kept": 3,
    "metric": "levenshtein",
    "most_branches": 5.0,
    "perturbations": ["shuffled", "zero"],
    "samples": 2,
}
seeds = iter(range(1, 1000))


def params(**changes):
    """Parameters with a seed of their own."""
    return SimpleNamespace(**COMMON | {"seed": next(seeds)} | changes)


def unit(p, replicate=0, base=BASE):
    return study.Unit(p, base, replicate)


def tradeoff_arms(p, replicate=0):
    """{name: arm} of notebook 02, by the rules that stand in it, and the unit's pool."""
    pool = study.tradeoff.pool(unit(p, replicate))
    make_arms = cells.scope("02", "arms", params=p)["make_arms"]
    return {arm.name: arm for arm in make_arms(unit(p, replicate), pool.table)}, pool


def diversity_arms(p):
    """{name: arm} of notebook 03, by the rules that stand in it, and the unit's pool."""
    rules = cells.scope("03", "rules", params=p)["rules"]
    pool = study.diversity.pool(unit(p), rules)
    make_arms = cells.scope("03", "arms", params=p)["make_arms"]
    return {arm.name: arm for arm in make_arms(unit(p), pool)}, pool


@pytest.fixture
def worked(monkeypatch):
    """A teacher that solves everything: its samples are worked solutions, one style after the
    other, every fifth one wrong.
    """
    real = generation.sample

    def sample(model, asked, n=1, **settings):
        if model != TEACHER:
            return real(model, asked, n, **settings)

        def write(question, number, index):
            rng = random.Random(f"{settings['seed']} {question.id} {index}")
            text = tasks.solution(question, tasks.STYLES[(number + index) % 6], rng)
            wrong = (number + index) % 5 == 4
            return text[:-1] + str((int(question.answer) + 1) % 7) if wrong else text

        return rows.trajectories(asked, n, write, model)

    monkeypatch.setattr(generation, "sample", sample)


@pytest.fixture
def rated(monkeypatch):
    """Pass rates of 0 and 1 in turn: half of the questions are hard."""

    def rates(model, asked, samples, **settings):
        return pd.DataFrame(
            [
                {
                    "problem_id": p.id,
                    "level": p.level,
                    "n": samples,
                    "correct": i % 2 * samples,
                    "pass_rate": float(i % 2),
                }
                for i, p in enumerate(asked)
            ]
        )

    monkeypatch.setattr(evaluation, "pass_rates", rates)


# ---- units


def test_jobs_are_units_times_axes():
    p = params()
    calls = study.calls(study.units(p), teacher=["x", "y"], arm=[1, 2, 3])
    assert len(calls) == 2 * 2 * 2 * 3 and all(call["unit"].params is p for call in calls)
    keys = [(c["unit"].base, c["unit"].replicate, c["teacher"], c["arm"]) for c in calls]
    assert len(set(keys)) == 24 and keys[0] == (BASE, 0, "x", 1)
    assert [k[:2] for k in keys] == sorted(
        (k[:2] for k in keys), key=[(b, r) for b in p.students for r in (0, 1)].index
    )  # a unit's arms are neighbours
    assert study.calls(study.units(p)) == [{"unit": each} for each in study.units(p)]


def test_questions_are_a_units_own_and_never_those_of_training():
    p = params(eval_id=60, perturbations=tasks.PERTURBATIONS)
    suites = {(b, r): unit(p, r, b).suite() for b in p.students for r in range(2)}
    corpora = {(b, r): unit(p, r, b).questions() for b in p.students for r in range(2)}
    asked = {unit: {q.id for q in s["ID"]} for unit, s in suites.items()}
    trained = {unit: {q.id for q in c} for unit, c in corpora.items()}
    for found in (asked, trained):
        assert all(len(ids) == 60 for ids in found.values())
        assert len(set().union(*found.values())) > 230  # of 240: fresh for each unit
    canonical = {
        tuple(sorted((s, d) for s, d in q.meta["terms"] if d)) for c in corpora.values() for q in c
    }
    for s in suites.values():
        assert (
            list(s) == ["ID", *tasks.PERTURBATIONS, "reverse", "sort"]
            and [len(f) for f in s.values()] == [60] * 4 + [4] * 2
        )
        for family in ("ID", *tasks.PERTURBATIONS):
            assert (
                not {tuple(sorted((s, d) for s, d in q.meta["terms"] if d)) for q in s[family]}
                & canonical
            )
    assert {problems.split_of(f"{q.prompt}") for s in suites.values() for q in s["reverse"]} == {
        "dev"
    }
    test = unit(params(split="test", seed=p.seed, eval_id=60)).suite()
    assert not {q.id for q in test["ID"]} & asked[BASE, 0]


def test_sampling_settings_differ_by_replicate_and_purpose():
    p = params(seed=7)
    assert unit(p).sampling() == {
        "max_tokens": 120,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 7000,
        "engine": Engine(),
    }
    assert unit(p, 1).sampling(0.6) == {
        "max_tokens": 120,
        "temperature": 0.6,
        "top_p": 1.0,
        "seed": 7001,
        "engine": Engine(),
    }
    assert unit(p, 1).sampling(0.0)["temperature"] == 0.0  # greedy is a temperature too


def test_a_unit_draws_its_questions_once_and_any_copy_of_it_draws_the_same(monkeypatch):
    loaded, real = [], problems.load
    monkeypatch.setattr(problems, "load", lambda *a: loaded.append(a) or real(*a))
    p = params()
    first = unit(p)
    assert first.suite() == first.suite() and first.questions() == first.questions()
    assert len(loaded) == 4  # the training questions, ID, two OOD families
    again = pickle.loads(pickle.dumps(first))
    assert again == first and again.suite() == first.suite()
    assert len(loaded) == 7, "what was drawn does not travel to a job"
    assert unit(p, 1).suite() != first.suite()
    assert unit(params(seed=p.seed, eval_id=3)).suite()["ID"] == first.suite()["ID"][:3]


def test_the_manifest_gets_models_and_evaluation_questions():
    record = SimpleNamespace(models={}, found={})
    record.model, record.data = record.models.__setitem__, record.found.__setitem__
    p = params(**TEACHERS)
    study.describe(p, record)
    assert (
        list(record.models) == [BASE, "lab:ancestor", TEACHER]
        and len(set(record.models.values())) == 3
    )
    assert (
        list(record.found)
        == ["dev student_1 0", "dev student_1 1", "dev ancestor 0", "dev ancestor 1"]
        and len(set(record.found.values())) == 4
    )


# ---- 01


def test_the_smoke_test_from_corpus_to_scores(worked):
    p = params(**TEACHERS)
    made = study.teacher_corpus(unit(p), TEACHER)
    corpus, funnel = made.examples, made.funnel
    assert len(corpus) == 20 == corpus["problem_id"].nunique() and set(corpus["verdict"]) == {
        "correct"
    }
    assert funnel["step"].tolist() == [
        "sampled",
        "length",
        "format",
        "answer",
        "one a question",
        "corpus size",
    ]
    assert (
        funnel["kept"].tolist() == sorted(funnel["kept"], reverse=True)
        and funnel["kept"].iloc[-1] == 20
    )
    assert set(funnel["teacher"]) == {"random"} and set(funnel["base"]) == {"student_1"}

    smoke = study.teachers.smoke_test(unit(p), TEACHER, corpus)
    scores = smoke.scores.set_index("family")
    assert scores["group"].to_dict() == {"ID": "ID", "reverse": "OOD", "sort": "OOD"} and scores[
        "n"
    ].tolist() == [6, 4, 4]
    assert set(scores["arm"]) == {"random"} and set(scores["base"]) == {"student_1"}
    row = smoke.row
    assert row["corpus_size"] == 20 and row["length"] == pytest.approx(corpus["n_tokens"].mean())
    assert row["entropy"] == pytest.approx(corpus["entropy_sum"].sum() / corpus["n_tokens"].sum())
    assert row["shift"] > 0 and row["loss"] > 1 and row["rsr"] > 1 and row["grace"] > 0
    assert row["lalp"] < -1 and row["shift_seconds"] > 0 and row["loss_seconds"] > 0
    ((name, old, new),) = study.teachers.plane(unit(p), {"random": smoke.student})
    shift = float(np.linalg.norm(old.mean(0) - new.mean(0)))
    assert name == "random" and shift == pytest.approx(row["shift"], rel=1e-4), "one student"
    own = study.own_score(unit(p), BASE)
    assert own["family"].tolist() == ["ID"] and own["arm"].tolist() == ["student_1"]
    before = study.before(unit(p)).set_index("family")
    assert (
        set(before["arm"]) == {"before"} and before.loc["ID", "accuracy"] == own["accuracy"].item()
    )


def test_verification_by_steps_drops_lucky_chains(worked, monkeypatch):
    p, sample = params(**TEACHERS), generation.sample

    def lucky(*asked, **settings):
        table = sample(*asked, **settings)
        guesses = table["text"].str.replace("<think> .* </think>", LUCKY, regex=True)
        return table.assign(text=table["text"].where(table.index % 3 > 0, guesses))

    monkeypatch.setattr(generation, "sample", lucky)
    by_answer = study.curate(unit(p), TEACHER, 1).kept
    strict = SimpleNamespace(**vars(p) | {"verification": "steps"})
    by_steps = study.curate(unit(strict), TEACHER, 1).kept
    valid = [LUCKY not in text for text in by_answer["text"]]
    assert 0 < sum(valid) < len(valid)
    assert by_steps["text"].tolist() == by_answer["text"][valid].tolist()


# ---- 02


def test_the_arms_of_the_tradeoff(worked, rated):
    p = params(**TRADEOFF)
    arms, pool = tradeoff_arms(p)
    assert list(arms) == list(study.tradeoff.arms(p))
    ids = {name: arm.corpus["problem_id"].tolist() for name, arm in arms.items()}
    assert ids["random 24"][:8] == ids["random 8"] and ids["random 8"][:4] == ids["random 4"]
    assert ids["random-steps 24"] == ids["random 24"]
    assert all(len(set(i)) == len(i) for i in ids.values())
    assert all(
        arm.facts == {"size": int(name.split()[-1]), "selection": name.split()[0]}
        for name, arm in arms.items()
    )

    # half of the 48 rated questions are never passed; the other half is halved
    questions = unit(p).questions()
    never = {q.id for q in questions[:48:2]}
    always = {q.id for q in questions[1:48:2]}
    parts = {name: set(rows["problem_id"]) for name, rows in pool.table.groupby("part")}
    assert parts["hard"] <= never and parts["middle"] | parts["easy"] <= always
    assert not parts["middle"] & parts["easy"]
    for name, part in (("hard 4", "hard"), ("middle 4", "middle"), ("easy 4", "easy")):
        assert len(ids[name]) == 4 and set(ids[name]) <= parts[part]

    # equal tokens, one difficulty, equal steps
    tokens = {name: int(arm.corpus["n_tokens"].sum()) for name, arm in arms.items()}
    assert 0 < tokens["hard-tokens 4"] <= tokens["random 4"]
    assert ids["hard-tokens 4"] == ids["hard 4"][: len(ids["hard-tokens 4"])]
    level = {q.id: q.level for q in questions}
    assert {level[i] for i in ids["fixed-random 4"] + ids["fixed-hard 4"]} == {8}
    assert set(ids["fixed-hard 4"]) <= never
    steps = {name: arm.max_steps for name, arm in arms.items() if arm.max_steps}
    assert steps == {"random-steps 24": study.steps_of(unit(p), 4)}
    other, _ = tradeoff_arms(p, replicate=1)
    assert ids["random 24"] != other["random 24"].corpus["problem_id"].tolist()


def test_an_arm_whose_pool_is_too_small_is_not_measured_and_says_why(worked, rated):
    p = params(**TRADEOFF | {"sizes": [4, 99]})
    arms, _ = tradeoff_arms(p)
    outcome = study.run_arm(unit(p), arms["random 99"])
    assert outcome.scores["accuracy"].isna().all() and (outcome.scores["n"] == 0).all()
    assert outcome.scores["family"].tolist() == ["ID", "reverse", "sort"] and not outcome.student
    assert (
        re.fullmatch(r"not measured: \d+ of 99 examples", outcome.row["note"])
        and outcome.row["examples"] == 0
    )
    assert arms["random 4"].note == "" and len(arms["random 4"].corpus) == 4


def test_what_the_bases_have_mastered_is_apart_and_decided_before():
    cells = pd.DataFrame(
        {"arm": arm, "base": base, "family": family, "group": group, "accuracy": accuracy}
        for arm, drop in (("before", 0.0), ("random 8", 0.5))
        for base, room in (("a", 0.4), ("b", 0.95))
        for family, group, accuracy in (
            ("ID", "ID", 0.97),
            ("sort", "OOD", room - drop),
            ("shift", "OOD", 0.96 - drop),
        )
    )
    groups = study.tradeoff.mastered_apart(cells).groupby("family")["group"].unique()
    assert groups.map(list).to_dict() == {"ID": ["ID"], "sort": ["OOD"], "shift": ["mastered"]}
    without_room = cells[cells["family"] != "sort"]
    assert study.tradeoff.mastered_apart(without_room) is without_room


def test_of_the_lab_s_families_two_are_mastered():
    levels = json.loads((study.conditions.home() / "ded/lab/scores.json").read_text())
    sources = parameters.load("lab", "02")["ood_sources"]
    cells = pd.DataFrame(
        {"arm": "before", "base": base, "family": family, "group": "OOD", "accuracy": score}
        for base in parameters.load("lab-full", "02")["students"]
        for family in (source.removeprefix("lab:").replace("/", " ") for source in sources)
        for score in [levels[base.removeprefix("lab:")]["scores"][family]]
    )
    apart = study.tradeoff.mastered_apart(cells)
    assert set(apart.loc[apart["group"] == "mastered", "family"]) == {"maximum 7", "shift 7"}
    means = cells.groupby("family")["accuracy"].mean()
    assert not means.between(0.85, 0.95).any(), "nothing lies near the line"


def test_a_teacher_that_solves_nothing_leaves_an_arm_not_measured(worked, monkeypatch):
    p = params(**TEACHERS)
    monkeypatch.setattr(
        study.pipeline,
        "graded",
        lambda *args, real=study.graded: real(*args).assign(verdict="wrong"),
    )
    corpus = study.teacher_corpus(unit(p), TEACHER).examples
    smoke = study.teachers.smoke_test(unit(p), TEACHER, corpus)
    assert smoke.student == "" and smoke.row["corpus_size"] == 0 and math.isnan(smoke.row["length"])
    assert smoke.scores["accuracy"].isna().all() and smoke.scores["family"].tolist() == [
        "ID",
        "reverse",
        "sort",
    ]


def test_a_tradeoff_arm_reports_what_it_trained_on(worked, rated, monkeypatch):
    trained = []
    monkeypatch.setattr(
        training,
        "sft",
        lambda base, corpus, **settings: (
            trained.append((len(corpus), settings["max_steps"])) or base
        ),
    )
    p = params(**TRADEOFF)
    arms, pool = tradeoff_arms(p)
    row = study.run_arm(unit(p), arms["random 24"]).row
    assert row == row | {
        "base": "student_1",
        "arm": "random 24",
        "size": 24,
        "selection": "random",
        "examples": 24,
        "steps": 3,
    }
    assert study.run_arm(unit(p), arms["random-steps 24"]).row["steps"] == 1
    assert trained == [(24, 0), (24, 1)]
    assert set(pool.funnel["pool"]) == {"trajectories", "questions"} and len(pool.rates) == 48
    compressed = pool.funnel[pool.funnel["pool"] == "questions"]
    assert compressed["kept"].iloc[-1] == 24


# ---- 03


def test_diversity_rules_keep_the_same_questions_and_equally_many_rows(worked):
    p = params(**DIVERSITY)
    arms, pool = diversity_arms(p)
    facts, kept = pool.facts, study.curate(unit(p), TEACHER, 6).kept
    assert (
        facts["sampled"] == 360
        and 0.7 < facts["correct"] < 0.9
        and facts["lucky"] == 0
        and len(facts["distinct"]) == 60
    )
    assert set(kept["verdict"]) == {"correct"} and facts["tokens"] > kept["n_tokens"].sum()

    assert list(arms) == list(study.diversity.RULES) == list(study.diversity.arms(p))
    chosen = {rule: Counter(arm.corpus["problem_id"]) for rule, arm in arms.items()}
    for rule in study.diversity.RULES:
        assert chosen[rule] == chosen["random"] and set(chosen[rule].values()) == {3}
    least = pool.distances.pivot(index="problem_id", columns="arm")
    tokens, steps = least["token_edits"], least["step_edits"]
    assert (tokens["farthest"] >= tokens["random"]).all()
    assert (tokens["farthest"] > tokens["nearest"]).any() and (tokens["single"] == 0).all()
    assert (steps["farthest by steps"] >= steps["farthest"]).all()
    assert len(least) == len(chosen["random"])


def test_rules_by_scores_are_run_where_they_are_named(worked):
    named = ["random", *study.diversity.FURTHER]
    p = params(**DIVERSITY | {"arms": named, "n_questions": 12})
    assert list(study.diversity.arms(p))[-4:] == named[1:]
    arms, _ = diversity_arms(p)
    corpora = {name: arms[name].corpus for name in named}
    assert all(list(corpus) == list(corpora["random"]) for corpus in corpora.values())
    sizes = {name: Counter(corpus["problem_id"]) for name, corpus in corpora.items()}
    assert all(size == sizes["random"] for size in sizes.values()), "no word here opens a branch"
    scored = {name: analysis.trajectory_scores(BASE, corpora[name]) for name in named}
    assert scored["RSR"]["rsr"].mean() < min(scored[name]["rsr"].mean() for name in named[2:])
    local = {name: analysis.trajectory_lalp(BASE, corpora[name], 7) for name in named}
    assert local["LALP"]["lalp"].mean() > max(local[name]["lalp"].mean() for name in named[3:])
    tokens = {name: corpus["n_tokens"].sum() for name, corpus in corpora.items()}
    assert tokens["shortest"] == min(tokens.values())


def test_a_diversity_arm_trains_as_long_as_any_other(worked, monkeypatch):
    steps, asked = [], []
    monkeypatch.setattr(
        training,
        "sft",
        lambda base, corpus, **settings: steps.append(settings["max_steps"]) or base,
    )
    real = evaluation.evaluate
    monkeypatch.setattr(
        evaluation,
        "evaluate",
        lambda model, suite, **s: (
            asked.append((list(suite), s["samples"])) or real(model, suite, **s)
        ),
    )
    p = params(**DIVERSITY)
    arms, _ = diversity_arms(p)
    runs = [study.run_arm(unit(p), arms[rule]) for rule in ("random", "farthest by steps")]
    assert len(set(steps)) == 1 and steps[0] == runs[0].row["steps"] == round(
        runs[0].row["examples"] / 8
    )
    assert runs[0].row["lucky"] == 0 and runs[0].row["questions"] * 3 == runs[0].row["examples"]
    assert asked[0] == (["ID", "shuffled", "zero", "reverse", "sort"], 2)
    groups = runs[0].scores.set_index("family")["group"].to_dict()
    assert groups == {
        "ID": "ID",
        **dict.fromkeys(["shuffled", "zero"], "robust"),
        "reverse": "OOD",
        "sort": "OOD",
    }
    assert (runs[0].scores["n"] == [12] * 3 + [8] * 2).all()
    before = study.before(unit(p))  # the stub "trained" nothing: the scores are those of before
    assert before["accuracy"].tolist() == runs[0].scores["accuracy"].tolist()
