"""lm-evaluation-harness on local task files: its numbers in our table, one line where it fails."""

import json
import math
import re

import pytest

from ded import benchmarks, general, problems
from ded.errors import BenchmarkError
from ded.grading import VERDICTS

COMMON = """
task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{prompt}}}}"
metadata: {{version: 2.5}}
"""
CHOICE = (
    COMMON
    + """
output_type: multiple_choice
doc_to_choice: "{{{{[answer, wrong]}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
)
GENERATE = (
    COMMON
    + """
output_type: generate_until
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["<never>"], max_gen_toks: 40, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
)
UNSAFE = GENERATE + "unsafe_code: true\n"
MISSING = GENERATE.replace("{data}", "/nowhere.jsonl")
GROUP = """
group: toy
task: [toy_generate, toy_choice]
aggregate_metric_list: [{metric: acc, weight_by_size: true, filter_list: none}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    questions = problems.load("lab:reverse", 10, "test", "general")
    rows = [
        {"prompt": q.prompt, "answer": q.answer, "wrong": " ".join(q.answer.split()[::-1])}
        for q in questions
    ]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, text in {
        "toy_generate": GENERATE,
        "toy_stops": GENERATE.replace("<never>", "\\n\\n"),
        "toy_choice": CHOICE,
        "toy_unsafe": UNSAFE,
        "toy_missing": MISSING,
    }.items():
        (folder / f"{name}.yaml").write_text(text.format(task=name, data=folder / "data.jsonl"))
    (folder / "toy.yaml").write_text(GROUP)
    return str(folder)


@pytest.mark.slow
def test_max_tokens_cuts_answers_off(folder):
    assert (
        general.run(
            "lab:student_1", ["toy_generate"], include_path=folder, chat=True, max_tokens=3, limit=4
        )["value"][0]
        == 0
    )


def test_a_group_and_its_tasks(folder, tmp_path):
    scores = general.run(
        "lab:student_1", ["toy"], include_path=folder, chat=True, limit=8
    ).set_index("benchmark")
    assert {*scores.index} == {"lm_eval:toy", "lm_eval:toy_generate", "lm_eval:toy_choice"}
    whole = scores.loc["lm_eval:toy"]
    generate, choice = scores.loc["lm_eval:toy_generate"], scores.loc["lm_eval:toy_choice"]
    assert (generate["metric"], generate["value"], generate["n"]) == (
        "exact_match",
        1.0,
        8,
    )  # the lab's student reverses: read after </think>
    error = math.sqrt(
        choice["value"] * (1 - choice["value"]) / 7
    )  # the harness's: a sample standard deviation
    assert (
        choice["high"] - choice["value"]
        == pytest.approx(1.96 * error)
        == pytest.approx(choice["value"] - choice["low"])
    )
    assert whole["value"] == pytest.approx(choice["value"]) and whole["metric"] == "acc"
    assert choice["n"] == whole["n"] == 8  # a group's metric counts the members that have it
    assert scores[list(VERDICTS)].isna().all(axis=None)
    settings = generate["settings"]
    assert (settings["task_version"], settings["fewshot"], settings["chat"], settings["limit"]) == (
        2.5,
        0,
        True,
        8,
    ) and settings["lm_eval"]
    scores = scores.reset_index()
    benchmarks.save(tmp_path, "lab:student_1", scores)
    read, samples = benchmarks.read(tmp_path, "lab:student_1")
    assert sorted(read["value"]) == sorted(scores["value"]) and samples.empty
    assert benchmarks.beside(scores)["ours"].max() == 100


@pytest.mark.parametrize(
    ("text", "value", "truncated"),
    [
        ("<think> maybe it is {gold} , let me", 0, 4),
        ("<think> first .\n\n then </think> {gold}\n\nNext", 1, None),
        ("{gold}\n\nNext", 1, None),
        ("<think> a </think> <think> {gold}", 0, 4),
        ("", 0, 4),
    ],
)
def test_an_answer_begins_after_the_thinking_or_is_empty(
    folder, monkeypatch, text, value, truncated
):
    from lm_eval.models.huggingface import HFLM

    questions = problems.load("lab:reverse", 10, "test", "general")
    golds = {question.prompt: question.answer for question in questions}

    def generate(self, requests):
        assert all(request.args[1]["until"] == [] for request in requests)
        return [text.format(gold=golds[request.doc["prompt"]]) for request in requests]

    monkeypatch.setattr(HFLM, "generate_until", generate)
    row = general.run("lab:student_1", ["toy_stops"], include_path=folder, chat=True, limit=4).loc[
        0
    ]
    assert row["value"] == value
    assert row["truncated"] == truncated or (truncated is None and math.isnan(row["truncated"]))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("toy_generat", "'toy_generat' is not known; nearest: toy_generate"),
        ("toy_unsafe", "generated code without a sandbox"),
        ("toy_missing", "toy_missing: .*nowhere.jsonl"),
    ],
)
def test_what_the_harness_cannot_do_is_one_line(folder, task, message):
    with pytest.raises(BenchmarkError) as caught:
        general.run("lab:student_1", [task], include_path=folder)
    assert re.search(message, str(caught.value)) and "\n" not in str(caught.value)
