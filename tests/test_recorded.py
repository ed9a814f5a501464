"""Recorded traces: how they are found, what they become, what is refused, and what stays
unmeasured."""

import json
import logging
import math
import re

import pandas as pd
import pytest

from ded import (
    analysis,
    curation,
    evaluation,
    figures,
    generation,
    grading,
    models,
    problems,
    reading,
    study,
    tables,
)
from ded.errors import EngineError, SourceError
from ded.models import ModelError, traces
from ded.params import check, defaults, find_notebook
from ded.params.schemas import TeacherSelection
from ded.problems import Problem, records, worked

MATH = [
    Problem(
        f"q{i}",
        "math",
        0,
        f"{question}\n\nReason step by step, and give the final answer in \\boxed{{}}.",
        "4",
        "math",
        {"template": "math"},
    )
    for i, question in enumerate(
        ("What is 2 + 2?", "What is\n 1 + 3 ?", "How many legs has a cat?")
    )
]
S1K = [  # the columns of s1K-1.1 that the ready maps read, and some that they do not
    {
        "question": "What is 2 + 2?",
        "solution": "4",
        "deepseek_thinking_trajectory": "Two and two.\n",
        "deepseek_attempt": "\\boxed{4}",
        "gemini_thinking_trajectory": "Easy.",
        "gemini_attempt": "It is \\boxed{4}",
        "gemini_grade": "Yes",
    },
    {
        "question": "What  is 1 + 3 ?",
        "solution": "4",
        "deepseek_thinking_trajectory": "Hm",
        "deepseek_attempt": "\\boxed{5}",
        "gemini_thinking_trajectory": "",
        "gemini_attempt": "",
        "gemini_grade": "No",
    },
]


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))


@pytest.fixture
def file(tmp_path):
    """Writes rows as a file in one of the formats; returns its spec."""

    def write(rows, name="traces.jsonl", columns=""):
        path = tmp_path / name
        if path.suffix == ".parquet":
            pd.DataFrame(rows).to_parquet(path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"recorded:{path}" + (f"#{columns}" if columns else "")

    return write


def drawn(spec, questions=MATH, n=1):
    return generation.sample(spec, questions, n, max_tokens=64)


# ---- what traces become


@pytest.mark.parametrize("name", ["s1k.jsonl", "s1k.parquet"])
def test_s1k_traces_are_found_by_their_question_and_put_together(file, name):
    table = drawn(file(S1K, name, "deepseek"))
    assert table["problem_id"].tolist() == [
        "q0",
        "q1",
    ]  # white space does not count; the third has no trace
    assert table["text"].tolist() == [
        "<think>\nTwo and two.\n</think>\n\\boxed{4}",
        "<think>\nHm\n</think>\n\\boxed{5}",
    ]
    assert curation.filter_format(table).kept["problem_id"].tolist() == ["q0", "q1"]
    assert grading.grade(table, MATH)["verdict"].tolist() == ["correct", "wrong"]
    assert set(table["engine"]) == {"recorded"} and set(table["finish_reason"]) == {"stop"}
    assert table[["entropy_sum", "missing_mass", "n_tokens"]].isna().all(axis=None)


def test_an_empty_trace_is_a_row_that_the_format_check_counts(file, caplog):
    caplog.set_level(logging.INFO, "ded")
    table = drawn(file(S1K, columns="gemini"))
    assert table["text"].tolist() == ["<think>\nEasy.\n</think>\nIt is \\boxed{4}", ""]
    assert curation.filter_format(table).dropped["reason"].tolist() == ["empty"]
    assert "1 of 3 questions have no trace, 1 trace(s) are empty" in caplog.text


def test_a_trace_without_a_think_block_is_kept_as_it_is_and_counted(file):
    table = drawn(file([{"prompt": "What is 2 + 2?", "response": "\\boxed{4}"}]))
    assert table["text"].tolist() == ["\\boxed{4}"] and grading.grade(table, MATH)[
        "verdict"
    ].tolist() == ["correct"]
    assert curation.filter_format(table).dropped["reason"].tolist() == ["no think block"]


def test_the_default_map_takes_the_first_column_that_a_row_has(file):
    rows = [
        {"problem": "What is 2 + 2?", "completion": "a", "finish_reason": "length", "n_tokens": 7},
        {"question": "How many legs has a cat?", "text": "b"},
    ]
    table = drawn(file(rows))
    assert table[["problem_id", "text", "finish_reason"]].values.tolist() == [
        ["q0", "a", "length"],
        ["q2", "b", "stop"],
    ]
    assert table["n_tokens"][0] == 7 and math.isnan(table["n_tokens"][1])


def test_a_trace_that_was_cut_off_while_thinking_is_not_closed(file):
    table = drawn(
        file(
            [
                {
                    "question": "What is 2 + 2?",
                    "thinking": "Two and",
                    "response": "",
                    "finish_reason": "length",
                }
            ]
        )
    )
    assert table["text"].tolist() == ["<think>\nTwo and"]


THOUGHT = "<think>\n{}\n</think>\n4"


@pytest.mark.parametrize("name", ["traces.jsonl", "traces.parquet"])
@pytest.mark.parametrize(
    ("row", "columns", "samples"),
    [
        (  # open-r1/OpenR1-Math-220k
            {
                "problem": "What is 2 + 2?",
                "solution": "By counting, $4$.",
                "answer": "4",
                "generations": [THOUGHT.format("a"), "<think>\nb"],
                "finish_reasons": ["stop", "length"],
                "is_reasoning_complete": [True, False],
                "correctness_math_verify": [True, False],
                "messages": [
                    {"role": "user", "content": "What is 2 + 2?"},
                    {"role": "assistant", "content": "not this"},
                ],
            },
            "",
            [(THOUGHT.format("a"), "stop"), ("<think>\nb", "length")],
        ),
        (
            {
                "problem": "What is 2 + 2?",
                "generations": [THOUGHT.format("a"), "<think>\nb"],
                "finish_reasons": None,
                "is_reasoning_complete": [True, False],
            },
            "",
            [(THOUGHT.format("a"), "stop"), ("<think>\nb", "length")],
        ),
        (  # open-thoughts/OpenThoughts-114k
            {
                "system": "Think.",
                "conversations": [
                    {"from": "user", "value": "What is 2 + 2?"},
                    {
                        "from": "assistant",
                        "value": "<|begin_of_thought|>\n\na\n\n<|end_of_thought|>\n\n"
                        "<|begin_of_solution|>\n\n4\n\n<|end_of_solution|>",
                    },
                ],
            },
            "",
            [(THOUGHT.format("a"), "stop")],
        ),
        (
            {
                "problem": "What is 2 + 2?",
                "deepseek_reasoning": "a",
                "deepseek_solution": "4",
                "ground_truth_solution": "5",
            },
            "openthoughts",
            [(THOUGHT.format("a"), "stop")],
        ),
        (  # open-thoughts/OpenThoughts3-1.2M
            {
                "difficulty": 7,
                "source": "x",
                "conversations": [
                    {"from": "human", "value": "What is 2 + 2?"},
                    {"from": "gpt", "value": THOUGHT.format("a")},
                ],
            },
            "",
            [(THOUGHT.format("a"), "stop")],
        ),
        (  # simplescaling/s1K
            {
                "question": "What is 2 + 2?",
                "solution": "5",
                "thinking_trajectories": ["a"],
                "attempt": "4",
            },
            "s1k",
            [(THOUGHT.format("a"), "stop")],
        ),
        (  # GAIR/LIMO
            {"question": "What is 2 + 2?", "solution": "Well, 4.", "answer": "4"},
            "limo",
            [("Well, 4.", "stop")],
        ),
        (  # LLaMA-Factory
            {"instruction": "What is", "input": "2 + 2?", "output": THOUGHT.format("a")},
            "",
            [(THOUGHT.format("a"), "stop")],
        ),
        (  # reasoning apart; several turns; parts of a content
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "What is 2 + 2?"},
                    {"role": "assistant", "content": "4", "reasoning_content": "a"},
                    {"role": "user", "content": "And 3 + 3?"},
                    {"role": "assistant", "content": "6", "reasoning_content": "b"},
                ]
            },
            "",
            [(THOUGHT.format("a"), "stop")],
        ),
        (
            {
                "prompt": [
                    {"role": "user", "content": [{"type": "text", "text": "What is 2 + 2?"}]}
                ],
                "completion": [{"role": "assistant", "content": "4<|im_end|>", "thinking": "a"}],
            },
            "",
            [(THOUGHT.format("a"), "stop")],
        ),
        (  # a solution that shows its thinking is a trajectory; a think block twice is there once
            {"problem": "What is 2 + 2?", "solution": THOUGHT.format("a"), "answer": "4"},
            "",
            [(THOUGHT.format("a"), "stop")],
        ),
        (
            {"question": "What is 2 + 2?", "reasoning": "<think>a</think>", "answer": "4"},
            "",
            [(THOUGHT.format("a"), "stop")],
        ),
        (
            {"query": "What is 2 + 2?", "thinking": "a", "response": THOUGHT.format("a")},
            "",
            [(THOUGHT.format("a"), "stop")],
        ),
    ],
)
def test_public_schemas_are_read(file, row, columns, samples, name):
    table = drawn(file([row], name, columns), n=3)
    assert list(zip(table["text"], table["finish_reason"], strict=True)) == samples
    assert set(table["problem_id"]) == {"q0"}


def test_a_reference_solution_is_no_trajectory(file):
    with pytest.raises(ModelError, match="it has question, solution, deepseek_thinking_trajectory"):
        models.check(file(S1K))


def test_control_tokens_of_a_recorded_text_do_not_reach_the_grader(file):
    table = drawn(
        file([{"question": MATH[0].prompt, "response": "<think>\na\n</think>\n4<|im_end|>"}])
    )
    assert grading.grade(table, MATH)["verdict"].tolist() == ["correct"]


def test_a_folder_of_shards_is_read_as_one(tmp_path, monkeypatch):
    folder = tmp_path / "org" / "set"
    parts = {
        "data/train-00000-of-2": "ab",
        "data/train-00001-of-2": "c",
        "data/test-0": "d",
        "all/x": "e",
    }
    for name, samples in parts.items():
        file = folder / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"question": "What is 2 + 2?", "text": text} for text in samples]
        pd.DataFrame(rows).to_parquet(file)
    (folder / "info.json").write_text("{}")
    assert drawn(f"recorded:{folder}", n=9)["text"].tolist() == ["a", "b", "c"]
    monkeypatch.setenv("DED_DATA", str(tmp_path))
    before = models.fingerprint("recorded:org/set")
    assert drawn("recorded:org/set", n=9)["text"].tolist() == ["a", "b", "c"]
    (folder / "data" / "train-00001-of-2.parquet").unlink()
    assert models.fingerprint("recorded:org/set") != before
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"a folder without files that end in \.jsonl"):
        models.check(f"recorded:{tmp_path / 'empty'}")


def test_traces_are_found_by_the_whole_prompt_too(file):
    assert drawn(file([{"prompt": MATH[0].prompt, "text": "x"}]))["problem_id"].tolist() == ["q0"]


def test_several_traces_of_a_question_are_its_samples(file):
    spec = file(
        [{"question": "What is 2 + 2?", "text": text} for text in "abc"]
        + [{"question": "How many legs has a cat?", "text": "d"}]
    )
    rows = [["q0", 0, "a"], ["q0", 1, "b"], ["q2", 0, "d"]]
    assert drawn(spec, n=2)[["problem_id", "sample_index", "text"]].values.tolist() == rows
    assert drawn(spec, n=5)[["problem_id", "sample_index", "text"]].values.tolist() == [
        *rows[:2],
        ["q0", 2, "c"],
        rows[2],
    ]


def test_lookups_are_stored_and_a_changed_file_is_another_teacher(file, monkeypatch):
    spec = file(S1K, columns="deepseek")
    before, first = models.fingerprint(spec), drawn(spec)
    assert models.fingerprint(file(S1K, columns="gemini")) != before
    with monkeypatch.context() as patch:
        patch.setattr(traces, "read", lambda model: pytest.fail("read again"))
        pd.testing.assert_frame_equal(drawn(spec), first)
    file([S1K[1], S1K[0] | {"deepseek_attempt": "new"}])
    assert models.fingerprint(spec) != before
    assert drawn(spec)["text"][0].endswith("new")


def test_hub_data_sets_are_read_with_their_split_and_identified_by_their_commit(monkeypatch):
    import datasets

    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_list(S1K)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    spec = "recorded:simplescaling/s1K-1.1@abc#deepseek"
    models.check(spec)
    assert asked == [(("simplescaling/s1K-1.1", None), {"split": "train", "revision": "abc"})]
    assert models.fingerprint(spec).startswith("simplescaling/s1K-1.1@abc ")
    assert drawn(spec)["problem_id"].tolist() == ["q0", "q1"]


def test_traces_are_read_from_their_files_once(file, monkeypatch):
    """Files of real teachers hold hundreds of megabytes: once read they come from the store."""
    spec = file(S1K, columns="deepseek")
    before = traces.read(spec)
    for other in ("a.jsonl", "b.jsonl"):  # no more stay in memory
        traces.read(file([{"question": "?", "text": "!"}], other))
    monkeypatch.setattr(records.Records, "rows", lambda place: pytest.fail("read again"))
    assert str(traces.read(spec)) == str(before), "NaN is no equal of itself"


# ---- what is refused


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (
            ['{"question": "a", "text": "b"}', '{"question": "a", "te'],
            r"traces.jsonl:2: not whole JSON",
        ),
        (
            ['{"question": "a", "answer": "b"}'],
            r"traces.jsonl:1: no column 'text' or 'response'.* for the text; it has question, "
            "answer: name another map",
        ),
        (
            ['{"text": "b"}'],
            r"traces.jsonl:1: no column 'question' or 'prompt'.* for the question; it has text",
        ),
        (['{"question": "a", "text": {"b": 1}}'], r"traces.jsonl:1: text is \{'b': 1\}, not text"),
        (['{"question": "a", "text": ["b", 5]}'], r"traces.jsonl:1: text is 5, not text"),
        (['{"question": "a", "text": "b\\ud800"}'], r"traces.jsonl:1: not whole JSON"),
        (["[" * 100_000], r"traces.jsonl:1: not whole JSON"),
        (
            ['{"problem": "a", "generations": ["b", "c"], "finish_reasons": ["stop"]}'],
            "traces.jsonl:1: finish_reasons has 1 values for 2 traces",
        ),
        (
            ['{"messages": [{"role": "user", "content": "a"}]}'],
            r"traces.jsonl:1: messages has no turn of the assistant's, but \['user'\]",
        ),
        (['{"messages": [{"role": "user", "content": 5}, 5]}'], "messages is no conversation"),
        (
            ['{"Frage": "a", "Spur": "b"}'],
            r"for the question; it has Frage, Spur: .*as mine: \{question: <column>",
        ),
        (  # a reference that speaks of a tag
            ['{"question": "a", "solution": "It ends with `</think>`."}'],
            "traces.jsonl:1: no column .* for the text; it has question, solution",
        ),
        (
            ['{"question": "a", "text": "b", "n_tokens": "9"}'],
            r"traces.jsonl:1: n_tokens is '9', not a number",
        ),
        (["[1]"], r"traces.jsonl:1: .*no object"),
        ([], r"it holds no traces"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_their_place(tmp_path, rows, why):
    (tmp_path / "traces.jsonl").write_text("\n".join(rows))
    with pytest.raises(ModelError, match=why):
        models.check(f"recorded:{tmp_path}/traces.jsonl")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("recorded:/nowhere/traces.jsonl", "there is no file /nowhere/traces.jsonl"),
        ("recorded:traces", "neither a file ending in .* nor a hub data set <org>/<name>"),
        ("recorded:simplescaling/s1K-1.1#deepsek", "no column map 'deepsek'; .*nearest: deepseek"),
    ],
)
def test_specs_that_name_no_traces_are_refused(spec, why):
    with pytest.raises(ModelError, match=why):
        models.check(spec)


def test_a_damaged_parquet_file_is_refused(tmp_path):
    (tmp_path / "traces.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModelError, match=r"traces.parquet: cannot be read"):
        models.check(f"recorded:{tmp_path}/traces.parquet")


def test_a_column_map_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "home", lambda: tmp_path)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "recorded.yml").write_text("default: {question: q, txt: t}\n")
    with pytest.raises(ModelError, match=r"recorded.yml: map 'default' cannot be read .*txt"):
        models.check("recorded:a/b")


def test_traces_of_none_of_the_questions_are_an_error(file):
    spec = file([{"question": "Who?", "text": "Me."}])
    for _ in range(2):  # and again, from what the first call stored
        with pytest.raises(
            EngineError, match=r"no trajectory for any of 3 questions.*What is 2 \+ 2\?"
        ):
            drawn(spec)


# ---- through the study


def test_lengths_and_distances_are_those_of_the_student_s_tokenizer(tiny):
    table = pd.DataFrame(
        {
            "text": ["<think> 1 +2 </think> 3", "", "9 9"],
            "token_ids": [[], [], [7, 8]],
            "n_tokens": [math.nan, math.nan, 5],
            "finish_reason": ["stop", "stop", "length"],
        }
    )
    found = generation.counted(table, "lab:student_1")
    ids = models.load_tokenizer("lab:student_1")(table["text"][0], add_special_tokens=False)[
        "input_ids"
    ]
    assert found["token_ids"].tolist() == [ids, [], [7, 8]] and found["n_tokens"].tolist() == [
        len(ids) + 1,
        1,
        5,
    ]
    whole = table.iloc[2:]
    assert (
        generation.counted(whole, "lab:student_1") is whole
    )  # nothing to count: no tokenizer is loaded


@pytest.fixture
def notebook(tiny, tmp_path):
    """Notebook 01's parameters at a tiny size, its second teacher recorded: right answers to 7
    of 8 questions, in two lengths."""
    wanted = {
        "students": ["lab:student_1"],
        "arms": [],
        "teachers": ["lab:ancestor", f"recorded:{tmp_path}/traces.jsonl"],
        "n_replicates": 2,
        "n_questions": 8,
        "n_attempts": 2,
        "eval_id": 4,
        "eval_ood": 2,
        "ood_sources": ["lab:reverse"],
        "corpus_size": 8,
        "max_tokens": 24,
        "epochs": 1.0,
        "shift_inputs": 4,
        "n_jobs": 1,
    }
    p = check(TeacherSelection, defaults(find_notebook("01")) | wanted)
    with open(tmp_path / "traces.jsonl", "w") as out:
        for replicate in range(p.n_replicates):
            for i, q in enumerate(study.Unit(p, "lab:student_1", replicate).questions()[:7]):
                think = "1 ; " * (20 if i == 0 else 1 + i)
                out.write(
                    json.dumps({"question": q.prompt, "thinking": think, "response": q.answer})
                    + "\n"
                )
    return p


def test_a_recorded_teacher_s_corpus_is_counted_by_the_student_s_tokenizer(notebook):
    unit, teacher = study.units(notebook)[0], notebook.teachers[1]
    made = study.teacher_corpus(unit, teacher)
    corpus, steps = (
        study.curate(unit, teacher, 2).kept,
        made.funnel.set_index("step")[["kept", "dropped"]],
    )
    assert steps.loc["recorded"].tolist() == [7, 9]  # of 8 questions x 2 attempts
    assert steps.loc["sampled"].tolist() == [7, 0]
    assert steps.loc["length"].tolist() == [6, 1]  # over max_tokens for the student
    assert (
        len(corpus) == len(made.examples) == 6
        and corpus["n_tokens"].min() > 5
        and all(
            len(ids) + 1 == n
            for ids, n in zip(corpus["token_ids"], corpus["n_tokens"], strict=True)
        )
    )


def test_what_a_recorded_teacher_does_not_show_is_not_measured_and_not_judged(notebook):
    p, (live, dead) = notebook, notebook.teachers
    units = study.units(p)
    calls = [(unit, teacher) for teacher in p.teachers for unit in units]
    own = pd.concat([study.own_score(*call) for call in calls])
    assert (
        own[own["arm"] == study.short(dead)]["accuracy"].isna().all()
        and own[own["arm"] == study.short(live)]["accuracy"].notna().all()
    )
    assert set(own.columns) == set(study.before(units[0]).columns) and tables.tokens(own) > 0
    corpus = study.teacher_corpus(units[0], dead).examples
    assert math.isnan(analysis.token_entropy(corpus))
    student = own.assign(accuracy=[0.1, 0.2, 0.3, 0.5])
    highest, regret, depends = study.teachers.claims(own, student, 0.03)
    assert {claim.verdict for claim in (highest, regret, depends)} == {"not judged"}
    assert all(study.short(dead) in claim.note for claim in (highest, regret))
    assert study.teachers.without_each(own, student, 0.03).empty, (
        "two teachers leave nothing to ask"
    )
    rows = own[["base", "replicate", "arm"]].assign(teacher="recorded:" + own["arm"])
    rows = rows.assign(**dict.fromkeys(study.teachers.COLUMNS, 1.0))
    rows.loc[rows["arm"] == study.short(dead), "entropy"] = math.nan
    before = student.assign(arm="before").drop_duplicates(["base", "replicate"])
    smoke = study.teachers.with_scores(rows, own, student, before)
    assert smoke["own"].isna().sum() == 2 and smoke["gain"].max() > 0
    for figure in (
        figures.teacher_vs_student(own, student, before),
        figures.predictors(study.teachers.points(smoke)),
    ):
        figure.canvas.draw()
    for known, n_missing in ((own, 1), (own.assign(accuracy=math.nan), 2)):
        drawn = figures.teacher_vs_student(known, student, before)
        assert (len(drawn.axes[0].get_xticks()) == 0) == (n_missing == 2)
        at_edge = [line for line in drawn.axes[0].lines if list(line.get_xdata()) == [0.015]]
        assert at_edge, "students of teachers without a score of their own are shown too"


def test_recorded_teachers_are_held_against_their_consensus_and_not_against_a_score(
    notebook, tmp_path
):
    unit = study.units(notebook)[0]
    questions = unit.questions()
    answers = {  # of the 8 questions; x and y are wrong
        "ann": [*"rrrrrr", *"xx"],
        "bob": [*"rrrrxx", *"xr"],
        "cyd": [*"rrrryx", *"x"],  # has no trace of the last one
    }
    for name, given in answers.items():
        rows = [
            {"question": q.prompt, "thinking": "1", "response": {"r": q.answer}.get(a, f"{a} 1")}
            for q, a in zip(questions, given, strict=False)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    teachers = [f"recorded:{tmp_path}/{name}.jsonl" for name in answers]
    alone = study.Unit(notebook.model_copy(update={"teachers": teachers}), unit.base, 0)
    table = study.recorded.agreement(alone).set_index("teacher")
    # the consensus: four right, the fifth has none, x, x, and none again, for two answers lead
    assert table["questions"].tolist() == [8, 8, 7]
    assert table["agreement"].tolist() == pytest.approx([5 / 6, 1, 1])
    assert table["correct"].tolist() == pytest.approx([6 / 8, 5 / 8, 4 / 7])
    text = reading.training_questions([alone], table.reset_index())
    assert "left out, for they stand in the evaluation too: none." in text
    assert "was not recorded" in text and "consensus of the 3: ann.jsonl 83" in text
    assert study.recorded.agreement(unit).empty, "one recorded teacher has no consensus"


def test_training_questions_of_traces_that_stand_in_the_evaluation_are_counted(data, tiny):
    (data / "math.jsonl").write_text(
        json.dumps({"question": "What is 1 + 1?", "answer": "2", "split": "dev"})
    )
    changes = {"corpus_source": SOURCE, "n_questions": 3, "eval_id": 1, "split": "dev"}
    changes |= {"id_source": f"file:{data}/math.jsonl", "ood_sources": ["lab:reverse"]}
    changes |= {"students": ["lab:student_1"], "arms": []}
    p = check(TeacherSelection, defaults(find_notebook("01")) | changes)
    unit = study.units(p)[0]
    assert len(unit.questions()) == 2 and study.recorded.overlaps([unit]) == {"math": 1}
    lines = reading.training_questions([unit], pd.DataFrame()).splitlines()
    assert lines[0].startswith("org/traces/anna: 3 of 4 questions (75%) have a reference answer")
    assert lines[1].startswith("Of 3 training questions a unit left out")
    assert lines[1].endswith("evaluation too: math 1.0.")
    with pytest.warns(UserWarning, match=r"tokens .* are <unk>.*% in traces of ben$"):
        study.check(p.model_copy(update={"teachers": ["recorded:org/traces/ben"]}))


def test_a_recorded_model_is_scored_on_the_questions_that_it_has(file):
    scores = evaluation.evaluate(file(S1K, columns="deepseek"), {"ID": MATH}, max_tokens=64)
    assert scores[["n", "correct", "wrong"]].values.tolist() == [[2, 1, 1]] and math.isnan(
        scores["n_tokens"][0]
    )


SUMS = "reasoning_gym:chain_sum?{min_terms: 2, max_terms: 3, min_digits: 1, max_digits: 2}"


@pytest.mark.slow
@pytest.mark.parametrize("style", worked.STYLES)
def test_worked_solutions_are_right_as_often_as_their_style_says_and_well_formed(style):
    asked = problems.load(SUMS, 200, "dev", "worked")
    table = grading.grade(
        generation.sample(f"recorded:worked#{style}", asked, 1, max_tokens=100),
        asked,
        progress=False,
    )
    right = (table["verdict"] == "correct").mean()
    assert right == 1 if style != "careless" else 0.7 < right < 0.9
    assert not len(curation.filter_format(table).dropped) and set(table["verdict"]) <= {
        "correct",
        "wrong",
    }
    facts = [
        re.fullmatch(r"(-?\d+) ([-+]) (\d+) = (-?\d+)", f)
        for text in table["text"]
        for f in re.findall(r"-?\d+ [-+] \d+ = -?\d+", text)
    ]
    wrong = sum(
        int(a) + int(sign + b) != int(c) for a, sign, b, c in (fact.groups() for fact in facts)
    )
    assert wrong == (table["verdict"] == "wrong").sum(), "every step is true but for the slips"


def test_samples_of_the_wordy_style_differ_and_other_questions_have_no_worked_solution():
    asked = [
        *problems.load(SUMS, 3, "dev", "worked"),
        *problems.load("lab:reverse", 1, "dev", "worked"),
    ]
    table = generation.sample("recorded:worked#wordy", asked, 6, max_tokens=100)
    assert table.groupby("problem_id")["text"].nunique().tolist() == [6] * 3
    again = generation.sample("recorded:worked#wordy", asked[:2], 2, max_tokens=100)
    assert again["text"].tolist() == table["text"][[0, 1, 6, 7]].tolist(), (
        "a solution depends on its question and index alone"
    )
    with pytest.raises(
        models.ModelError, match=r"styles of worked solutions are terse.*nearest: terse"
    ):
        models.check("recorded:worked#ters")


def test_solutions_made_by_rule_answer_new_questions_so_their_own_score_is_measured():
    changes = {
        "id_source": SUMS,
        "corpus_source": SUMS,
        "eval_id": 100,
        "n_questions": 4,
        "students": ["lab:student_1"],
        "arms": [],
    }
    p = check(TeacherSelection, defaults(find_notebook("01")) | changes)
    own = study.own_score(study.units(p)[0], "recorded:worked#careless")
    assert (
        own["arm"].tolist() == ["careless"]
        and own["n"].tolist() == [100]
        and 0.65 < own["accuracy"].item() < 0.95
    )
    corpus = study.teacher_corpus(study.units(p)[0], "recorded:worked#terse").examples
    assert len(corpus) == 4 and math.isnan(analysis.token_entropy(corpus)), (
        "no model wrote them: no entropy"
    )


# ---- a folder a teacher, several files each, and the answers elsewhere: Umean/RSR_data's schema


def conversation(question: str, reply: str) -> dict:
    turns = ("system", "Reason first."), ("user", question), ("assistant", reply)
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def solved(answer: str, think: str = "So.") -> str:
    return f"<think>\n{think}\n</think>\n\\boxed{{{answer}}}"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of local copies with org/traces (two teachers, three files of four questions each),
    and org/golds, which has answers to three of these questions."""
    for teacher in ("anna", "ben"):
        for k in (1, 2, 3):
            rows = [conversation(f"What is  {i} + {i}?", solved(f"{2 * i}")) for i in range(4)]
            file = tmp_path / "org" / "traces" / teacher / f"short_gen{k}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows))
    golds = [("What is 1 + 1?", "2"), ("What is 2 + 2?", "4"), ("What is 0 + 0?", "proof")]
    golds += [("What is 3 + 3?", "6"), ("Who?", "7")]
    lines = [json.dumps({"problem": q, "answer": a, "solution": "Add."}) for q, a in golds]
    (tmp_path / "org" / "golds.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("DED_DATA", str(tmp_path))
    return tmp_path / "org"


SOURCE = "recorded:org/traces/anna?{golds: org/golds}"


def test_questions_of_traces_get_their_answers_by_their_text(data):
    source = problems.source(SOURCE)
    asked = source.load(3, "train", "x")
    answers = {question.prompt.partition("\n")[0]: question.answer for question in asked}
    assert answers == {f"What is  {i} + {i}?": f"{2 * i}" for i in (1, 2, 3)}
    assert {question.kind for question in asked} == {"math"}
    assert "3 of 4 questions (75%) have a reference answer (org/golds, joined" in source.note()
    table = drawn_of("recorded:org/traces/ben", asked, 4)
    assert table["sample_index"].tolist() == [0, 1, 2] * 3, "a file is a sample"
    assert set(grading.grade(table, asked)["verdict"]) == {"correct"}
    assert study.short("recorded:org/traces/ben") == "ben"


def drawn_of(model, asked, n):
    return generation.sample(model, asked, n, max_tokens=64)


def test_answers_that_the_traces_hold_themselves_need_no_join(tmp_path):
    rows = [
        {"question": "1 + 1 =", "answer": 2, "text": solved("2")},
        {"question": "?", "text": "a"},
    ]
    (tmp_path / "own.json").write_text(json.dumps(rows))
    source = problems.source(f"recorded:{tmp_path}/own.json")
    (question,) = source.load(1, "train", "x")
    assert question.prompt.startswith("1 + 1 =\n") and question.answer == "2"
    assert "1 of 2 questions (50%)" in source.note() and "its own" in source.note()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("recorded:org/traces/carl", "has no folder 'carl', but anna, ben"),
        ("recorded:org/traces/anna?{gold: a/b}", "written as recorded:"),
        ("recorded:nowhere", "neither a file .* nor a hub data set"),
    ],
)
def test_sources_of_traces_that_are_none_are_refused(data, text, why):
    with pytest.raises(SourceError, match=why):
        problems.source(text)


def test_too_few_answers_and_other_splits_are_refused(data):
    with pytest.raises(SourceError, match=r"3 of 4 questions .*; 4 are asked for"):
        problems.load(SOURCE, 4, "train", "x")
    with pytest.raises(SourceError, match="has no dev split"):
        problems.load(SOURCE, 1, "dev", "x")
    with pytest.raises(ModelError, match="has no folder 'carl', but anna, ben"):
        models.check("recorded:org/traces/carl")


def test_a_file_cut_short_or_a_row_without_an_answer_is_an_error_with_its_place(data):
    file = data / "traces" / "ben" / "short_gen2.json"
    text = file.read_text()
    file.write_text(text[:-40])
    with pytest.raises(ModelError, match=r"short_gen2.json: not whole JSON"):
        models.check("recorded:org/traces/ben")
    rows = json.loads(text)
    rows[2]["messages"].pop()
    file.write_text(json.dumps(rows))
    with pytest.raises(
        ModelError, match=r"short_gen2.json: row 3: messages has no turn of the assis"
    ):
        models.check("recorded:org/traces/ben")


def test_a_folder_of_a_hub_data_set_is_downloaded_alone_and_read(data, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot(name, **settings):
        asked.append((name, settings))
        return str(data / "traces")

    files = ["README.md", "anna/short_gen1.json", "anna/short_gen2.json", "ben/short_gen1.json"]
    monkeypatch.delenv("DED_DATA")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *args, **kwargs: files)
    source = problems.source(f"recorded:some/set/anna@abc?{{golds: {data}/golds.jsonl}}")
    assert source.hub_id == "some/set" and not source.look(10**9, "train") and not asked
    questions = source.load(2, "train", "x")
    wanted = {"repo_type": "dataset", "allow_patterns": "anna/*", "revision": "abc"}
    assert asked == [("some/set", wanted)]
    assert len(drawn_of("recorded:some/set/anna@abc", questions, 3)) == 6 and len(asked) == 1
    assert models.fingerprint("recorded:some/set/anna@abc").startswith("some/set/anna@abc ")
    with pytest.raises(ModelError, match=r"some/set has no folder 'anne', but anna, ben; nearest"):
        models.check("recorded:some/set/anne")
