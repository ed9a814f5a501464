"""Scores: what counts in which denominator, and that a second look costs nothing."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from ded import evaluation, generation, problems
from ded.generation import transformers
from ded.grading import VERDICTS
from ded.problems import lab as tasks

MODEL = "lab:student_1"
pytestmark = pytest.mark.usefixtures("tiny")


def asked(n, source="lab:sum/5"):
    return problems.load(source, n, "dev", "evaluation")


@pytest.fixture
def verdicts(monkeypatch):
    """Sets what the grader says: {problem id: [verdict of sample 0, 1, ...]}; nothing is sampled,
    texts open a think block at sample 0."""
    given, calls = {}, []

    def sample(model, questions, n, **settings):
        calls.append([problem.id for problem in questions])
        return pd.DataFrame(
            [
                {
                    "problem_id": problem.id,
                    "sample_index": i,
                    "text": ["\n<think> a </think> b", "b"][i > 0],
                    "n_tokens": 10 + i,
                    "finish_reason": "stop",
                }
                for problem in questions
                for i in range(n)
            ]
        )

    def grade(table, questions, **_):
        return table.assign(
            verdict=[
                given[problem][i]
                for problem, i in zip(table["problem_id"], table["sample_index"], strict=True)
            ],
            answer="7",
            rule="",
        )

    monkeypatch.setattr(generation, "sample", sample)
    monkeypatch.setattr("ded.grading.grade", grade)
    given["calls"] = calls
    return given


def test_truncated_and_unparsed_are_not_correct_and_errors_do_not_count(verdicts):
    suite = {"ID": asked(6), "reverse": asked(2, "lab:reverse")}
    verdicts |= dict(
        zip(
            [problem.id for problem in suite["ID"]],
            [["correct"], ["correct"], ["wrong"], ["unparsed"], ["truncated"], ["error"]],
            strict=True,
        )
    )
    verdicts |= {problem.id: ["error"] for problem in suite["reverse"]}
    table = evaluation.evaluate(MODEL, suite, samples=1, max_tokens=8).set_index("family")
    assert table.loc["ID", ["n", *VERDICTS]].tolist() == [6, 2, 1, 1, 1, 1]
    assert table.loc["ID", "accuracy"] == pytest.approx(2 / 5)
    assert math.isnan(table.loc["reverse", "accuracy"])
    assert (
        list(table.index) == ["ID", "reverse"] and len(verdicts["calls"]) == 1
    )  # one batch for all families


def test_pass_at_k_lengths_and_think_rate_over_samples(verdicts):
    suite = {"ID": asked(3)}
    verdicts |= dict(
        zip(
            [problem.id for problem in suite["ID"]],
            [["wrong", "correct"], ["correct", "correct"], ["wrong", "truncated"]],
            strict=True,
        )
    )
    row = evaluation.evaluate(MODEL, suite, samples=2, max_tokens=8).iloc[0]
    assert row["accuracy"] == pytest.approx(3 / 6) and row["pass_at_k"] == pytest.approx(2 / 3)
    assert row["n_tokens"] == 10.5 and row["think_rate"] == 0.5


def test_a_question_in_two_families_counts_in_both(verdicts):
    """A shuffled copy may come out in the order it had."""
    first = asked(3)
    suite = {
        "ID": first,
        "shuffled": [
            tasks.sums.problem_of(tuple(map(tuple, first[0].meta["terms"]))),
            *asked(2, "lab:sum/6"),
        ],
    }
    assert suite["shuffled"][0].id == first[0].id
    verdicts |= {problem.id: ["wrong"] for problem in (*first, *suite["shuffled"])} | {
        first[0].id: ["correct"]
    }
    table = evaluation.evaluate(MODEL, suite, max_tokens=8).set_index("family")
    assert table["n"].tolist() == [3, 3] and table["accuracy"].tolist() == pytest.approx(
        [1 / 3, 1 / 3]
    )
    assert len(verdicts["calls"][0]) == 5  # and is asked once


def test_pass_rates_are_over_judged_samples(verdicts):
    questions = [*asked(3), *asked(1, "lab:sum/6")]
    given = [
        ["correct", "wrong", "error"],
        ["correct", "correct", "truncated"],
        ["error"] * 3,
        ["unparsed"] * 3,
    ]
    verdicts |= dict(zip([problem.id for problem in questions], given, strict=True))
    table = evaluation.pass_rates(MODEL, questions, 3, max_tokens=8).set_index("problem_id")
    assert table.index.tolist() == [
        questions[i].id for i in (0, 1, 3)
    ]  # nothing is known of the third
    assert table["n"].tolist() == [2, 3, 3] and table["correct"].tolist() == [1, 2, 0]
    assert table["pass_rate"].tolist() == pytest.approx([1 / 2, 2 / 3, 0]) and table[
        "level"
    ].tolist() == [5, 5, 6]


def test_per_question_is_what_the_scores_are_made_of(verdicts):
    suite = {"ID": asked(3), "reverse": asked(1, "lab:reverse")}
    ids = [problem.id for problem in (*suite["ID"], *suite["reverse"])]
    verdicts |= dict(
        zip(
            ids,
            [
                ["correct", "wrong"],
                ["truncated", "unparsed"],
                ["correct", "error"],
                ["wrong", "correct"],
            ],
            strict=True,
        )
    )
    table = evaluation.per_question(MODEL, suite, samples=2, max_tokens=8)
    assert (
        table["question"].tolist() == [i for i in ids for _ in range(2)]
        and table["seed"].tolist() == [0, 1] * 4
    )
    assert table["family"].tolist() == ["ID"] * 6 + ["reverse"] * 2
    assert table["value"].tolist()[:5] == [1, 0, 0, 0, 1] and math.isnan(table["value"][5])
    scores = evaluation.evaluate(MODEL, suite, samples=2, max_tokens=8)
    assert table.groupby("family", sort=False)["value"].mean().tolist() == pytest.approx(
        scores["accuracy"].tolist()
    )


def test_verdicts_are_kept_and_failures_of_the_grader_are_tried_again(verdicts, monkeypatch):
    suite = {"ID": asked(2)}
    first, second = (problem.id for problem in suite["ID"])
    verdicts |= {first: ["error"], second: ["correct"]}
    assert evaluation.evaluate(MODEL, suite, max_tokens=8)["error"].tolist() == [1]
    verdicts[first] = ["wrong"]  # the machine has recovered
    assert evaluation.evaluate(MODEL, suite, max_tokens=8)["accuracy"].tolist() == [0.5]
    verdicts[first] = ["correct"]  # now it is stored
    assert evaluation.evaluate(MODEL, suite, max_tokens=8)["accuracy"].tolist() == [0.5]
    monkeypatch.setattr("ded.grading.VERSION", 10**6)  # a grader of other rules grades again
    assert evaluation.evaluate(MODEL, suite, max_tokens=8)["accuracy"].tolist() == [1.0]


def test_what_decides_a_verdict_is_in_the_key(verdicts):
    """The same question with other tests is another evaluation."""
    question = asked(1)[0]
    verdicts[question.id] = ["wrong"]
    assert evaluation.evaluate(MODEL, {"ID": [question]}, max_tokens=8)["accuracy"][0] == 0
    verdicts[question.id] = ["correct"]
    other = replace(question, meta=question.meta | {"tolerance": 0.1})
    assert evaluation.evaluate(MODEL, {"ID": [other]}, max_tokens=8)["accuracy"][0] == 1
    assert evaluation.evaluate(MODEL, {"ID": [question]}, max_tokens=8)["accuracy"][0] == 0


def test_a_second_look_samples_nothing(monkeypatch):
    suite, settings = (
        {"ID": asked(4), "sort": asked(3, "lab:sort")},
        {"max_tokens": 6, "temperature": 0.6, "seed": 0},
    )
    first = evaluation.evaluate(MODEL, suite, samples=2, **settings)
    assert first["n"].tolist() == [8, 6] and (first[list(VERDICTS)].sum(axis=1) == first["n"]).all()

    def never(*_):
        raise AssertionError("sampled again")

    monkeypatch.setattr(transformers, "draw_shard", never)
    pd.testing.assert_frame_equal(evaluation.evaluate(MODEL, suite, samples=2, **settings), first)
    with pytest.raises(AssertionError, match="sampled again"):
        evaluation.evaluate(MODEL, suite, samples=2, **settings | {"seed": 1})
    with pytest.raises(AssertionError, match="sampled again"):
        evaluation.evaluate("lab:ancestor", suite, samples=2, **settings)


def test_lab_answers_are_graded_for_what_they_are(monkeypatch):
    """The real grader on worked solutions, right and wrong, of an exact family."""
    questions = asked(4, "lab:reverse")
    texts = [
        f"<think> reverse </think> {questions[0].answer}",
        "<think> reverse </think> q",
        "<think> reverse",
        questions[3].answer,
    ]
    finish = ["stop", "stop", "stop", "length"]

    def sample(model, asked_for, n, **settings):
        return pd.DataFrame(
            [
                {
                    "problem_id": problem.id,
                    "sample_index": 0,
                    "text": text,
                    "n_tokens": 5,
                    "finish_reason": reason,
                }
                for problem, text, reason in zip(asked_for, texts, finish, strict=True)
            ]
        )

    monkeypatch.setattr(generation, "sample", sample)
    row = evaluation.evaluate(MODEL, {"reverse": questions}).iloc[0]
    assert row[list(VERDICTS)].tolist() == [1, 1, 1, 1, 0] and row["think_rate"] == 0.75
    assert row["completion_rate"] == 0.75 and row["untagged_rate"] == 0


@pytest.mark.parametrize(
    "answers, share",
    [
        (["4", "4", "5"], 1),
        (["4", "5", "6"], 1 / 3),  # a tie of three
        (["4", "5", "5.0"], 0),  # one wrong answer in two forms
        (["4", "1/2", "0.5", "4"], 1 / 2),
        (["4", None, None], 1),  # who says nothing has no vote
        ([None, None], 0),
        (["4", "5", "cut off", "cut off"], 1 / 2),
    ],
)
def test_the_majority_s_answer_by_hand(answers, share, monkeypatch):
    question = problems.Problem("q", "sum", 1, "2+2?", "4", "math")

    def sample(model, asked_for, n, **settings):
        texts = ["no idea" if each is None else rf"\boxed{{{each}}}" for each in answers]
        finish = ["length" if each == "cut off" else "stop" for each in answers]
        columns = {"problem_id": "q", "sample_index": range(n), "text": texts, "n_tokens": 3}
        return pd.DataFrame(columns | {"finish_reason": finish})

    monkeypatch.setattr(generation, "sample", sample)
    row = evaluation.evaluate(MODEL, {"ID": [question]}, samples=len(answers)).iloc[0]
    assert row["maj_at_k"] == pytest.approx(share) and row["judged"] == 0


def test_code_has_no_majority_and_one_sample_is_its_own(verdicts):
    ids, codes = asked(2), asked(2, "lab:code/4")
    verdicts |= {problem.id: ["correct"] for problem in codes}
    verdicts |= {ids[0].id: ["correct"], ids[1].id: ["wrong"]}
    table = evaluation.evaluate(MODEL, {"ID": ids, "code": codes}, max_tokens=8).set_index("family")
    assert table.loc["ID", "maj_at_k"] == table.loc["ID", "accuracy"] == 0.5
    assert math.isnan(table.loc["code", "maj_at_k"]) and table.loc["code", "pass_at_k"] == 1
