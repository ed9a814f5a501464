"""Problem sources: every schema read and graded, every malformed row named, splits kept apart,
overlaps found.
"""

import base64
import csv
import io
import json
import os
import pickle
import zlib
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from ded import params, problems
from ded.grading import grade
from ded.problems import Problem, SourceError
from ded.problems.contamination import contaminated
from ded.problems.prompts import question_of, worded
from ded.problems.source import Source


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def verdicts(problem, *answers):
    table = pd.DataFrame(
        [
            {"problem_id": problem.id, "text": f"<think>hm</think>{a}", "finish_reason": "stop"}
            for a in answers
        ]
    )
    return grade(table, [problem], progress=False)["verdict"].tolist()


# ---- rows of our own in the data sets' schemas


def packed(tests):
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def lcb(number, **changes):
    row = {
        "question_title": "T",
        "question_content": f"Print twice the number, variant {number}.",
        "platform": "atcoder",
        "question_id": f"q{number}",
        "contest_id": "c",
        "contest_date": f"2025-0{number}-01T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "metadata": "{}",
        "public_test_cases": json.dumps([{"input": "2\n", "output": "4\n", "testtype": "stdin"}]),
        "private_test_cases": packed([{"input": "5\n", "output": "10\n", "testtype": "stdin"}]),
    }
    return row | changes


METHOD = {
    "starter_code": "class Solution:\n    def add(self, xs: List[int], k: int) -> int:",
    "metadata": '{"func_name": "add"}',
    "difficulty": "hard",
    "public_test_cases": json.dumps(
        [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]
    ),
    "private_test_cases": packed([{"input": "[]\n1", "output": "1", "testtype": "functional"}]),
}
CODEFORCES = {
    "id": "1/A",
    "title": "Any divisor",
    "description": "Print a divisor of n.",
    "input_format": "n",
    "output_format": "a divisor",
    "interaction_format": None,
    "note": None,
    "examples": [{"input": "6", "output": "3"}],
    "time_limit": 1.0,
    "memory_limit": 256.0,
    "official_tests": [{"input": "6\n", "output": "1\n"}, {"input": "7\n", "output": "1\n"}],
    "official_tests_complete": True,
    "input_mode": "file",
    "executable": True,
    "rating": 900,
    "tags": [],
    "generated_checker": (
        "import sys\nn, _, d = [int(open(f).read()) for f in sys.argv[1:]]\nprint(int(n % d == 0))"
    ),
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def one():\n    return 1\n\ndef inc(x):\n    """x and one more"""\n',
    "entry_point": "inc",
    "canonical_solution": "",
    "test": "def check(candidate):\n    assert candidate(2) == 2 + one()",
}
MBPP = {
    "task_id": 1,
    "text": "Write a function to double.",
    "code": "def helper(): pass\ndef twice(x):\n    return 2 * x",
    "test_setup_code": "",
    "test_list": ["assert set(twice(x) for x in (1, 2)) == set([2, 4])"],
    "challenge_test_list": [],
}
GPQA = {
    "Question": "Which colour is the sky?",
    "Correct Answer": "blue",
    "Incorrect Answer 1": "red",
    "Incorrect Answer 2": "green",
    "Incorrect Answer 3": "none of these",
}

CASES = [  # name, row, split, what the problem is, a right answer, a wrong one
    (
        "aime_2024",
        {"ID": "2024-I-1", "Problem": "Half of 408?", "Solution": "", "Answer": 204},
        "test",
        ("math", "204", 0),
        r"\boxed{204}",
        r"\boxed{408}",
    ),
    (
        "aime_2025",
        {"problem_idx": 1, "problem": "Six times seven plus 28?", "answer": "070"},
        "test",
        ("math", "70", 0),
        r"\boxed{070}",
        r"\boxed{71}",
    ),
    (
        "math_500",
        {
            "problem": "Half?",
            "solution": "",
            "answer": "\\frac{1}{2}",
            "subject": "Algebra",
            "level": 3,
            "unique_id": "t/1.json",
        },
        "test",
        ("math", "\\frac{1}{2}", 3),
        r"\boxed{0.5}",
        r"\boxed{2}",
    ),
    (
        "gsm8k",
        {"question": "How many?", "answer": "1000 + 234 = <<1000+234=1234>>1234\n#### 1,234"},
        "test",
        ("math", "1234", 0),
        "so 1,234.",
        "so 1,235.",
    ),
    (
        "s1k",
        {"question": "Roots?", "solution": "Factor it.\n\nSo $\\boxed{1, 2}$.", "cot_type": "math"},
        "train",
        ("math", "1, 2", 0),
        r"\boxed{2, 1}",
        r"\boxed{1, 3}",
    ),
    (
        "codeforces",
        CODEFORCES,
        "train",
        ("code", "", 900),
        "```python\nopen('output.txt', 'w').write(open('input.txt').read())\n```",
        "```python\nopen('output.txt', 'w').write('2')\n```",
    ),
    (
        "livecodebench",
        lcb(1),
        "test",
        ("code", "", 1),
        "```python\nprint(2 * int(input()))\n```",
        "```python\nprint(int(input()) + 2)\n```",
    ),
    (
        "livecodebench",
        lcb(2, **METHOD),
        "test",
        ("code", "", 3),
        "```python\nclass Solution:\n    def add(self, xs: List[int], k): return sum(xs) + k\n```",
        "```python\nclass Solution:\n    def add(self, xs, k): return 6\n```",
    ),
    (
        "humaneval",
        HUMANEVAL,
        "test",
        ("code", "", 0),
        "```python\ndef inc(x):\n    return x + one()\n```",
        "```python\ndef inc(x):\n    return x\n```",
    ),
    (
        "mbpp",
        MBPP,
        "test",
        ("code", "", 0),
        "```python\ndef twice(x): return x + x\n```",
        "```python\ndef twice(x): return 4\n```",
    ),
]


@pytest.mark.parametrize(
    "name, row, split, made, right, wrong", CASES, ids=[f"{c[0]}-{c[3][2]}" for c in CASES]
)
def test_a_public_row_becomes_a_problem_that_is_graded(
    tmp_path, name, row, split, made, right, wrong
):
    (problem,) = problems.load(
        f"data:{name}@{write(tmp_path / 'rows.jsonl', [row])}", 0, split, "s"
    )
    assert (problem.kind, problem.answer, problem.level) == made
    question = (
        row.get("question")
        or row.get("Problem")
        or row.get("problem")
        or row.get("question_content")
        or row.get("description")
        or row.get("text")
        or row["prompt"]
    )
    assert question in question_of(problem) and len(question_of(problem)) < len(problem.prompt)
    json.dumps(problem.meta)  # goes into store keys
    assert verdicts(problem, right, wrong) == ["correct", "wrong"]
    for other in {"train", "dev", "test"} - {split}:
        with pytest.raises(SourceError, match=f"no {other} split.*(benchmark|training seed)"):
            problems.load(f"data:{name}@{tmp_path / 'rows.jsonl'}", 0, other, "s")


def test_codeforces_asks_for_files_and_says_its_formats(tmp_path):
    other = CODEFORCES | {"id": "1/B", "input_mode": "stdio"}
    source = f"data:codeforces@{write(tmp_path / 'a.jsonl', [CODEFORCES, other])}"
    files, stdio = sorted(problems.load(source, 0, "train", "s"), key=lambda problem: problem.id)
    assert (
        "read input.txt, write output.txt" in files.prompt and "read standard input" in stdio.prompt
    )
    assert (
        all(
            text in files.prompt
            for text in ("# Any divisor", "## Input format\n\nn", "## Example", "Time limit: 1 s")
        )
        and "Interaction" not in files.prompt
    )


def test_options_of_a_choice_are_shuffled_by_the_seed_and_items_are_hidden(tmp_path):
    source = f"data:gpqa_diamond@{write(tmp_path / 'a.jsonl', [GPQA])}"
    drawn = [problems.load(source, 1, "test", str(seed))[0] for seed in range(12)]
    assert (
        {problem.answer for problem in drawn} > {"A", "B"}
        and len({problem.id for problem in drawn}) == 1
        and all(problem.meta["hide"] for problem in drawn)
    )
    for problem in drawn:
        assert (
            problem.meta["options"]["ABCD".index(problem.answer)] == "blue"
            and f"\n{problem.answer}) blue\n" in problem.prompt
        )
        assert verdicts(
            problem,
            f"\\boxed{{{problem.answer}}}",
            f"The answer is ({'B' if problem.answer == 'A' else 'A'}).",
        ) == ["correct", "wrong"]
    assert problems.load(source, 1, "test", "3") == [drawn[3]]


@pytest.mark.parametrize(
    "solution, answer, prose",
    [
        ("128", "128", False),
        (r"2\sqrt{3} + \text{ some constant here }", None, False),
        ("(0, 3)", None, False),
        (r"We find\n$\boxed{\frac12}$", r"\frac12", False),
        ("The lens bends light towards the axis, as in a telescope.", None, True),
        ("x" * 200, None, True),
        ("proof", None, True),
    ],
)
def test_s1k_prose_is_left_to_a_judge(tmp_path, caplog, solution, answer, prose):
    caplog.set_level("INFO", "ded")
    row = {"question": "Q?", "solution": solution, "cot_type": "science"}
    file = write(tmp_path / "a.jsonl", [row])
    (problem,) = problems.load(f"data:s1k@{file}", 1, "train", "s")
    assert (
        problem.answer == (answer or solution)
        and problem.meta.get("prose", False) == prose
        and problem.meta["group"] == "science"
    )
    assert verdicts(problem, f"\\boxed{{{problem.answer}}}") == (
        ["unparsed"] if prose else ["correct"]
    )
    assert ("1 of 1 ground truths are prose" in caplog.text) == prose


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "cargo, message",
    [(Evil(), "mkdir"), ([{"input": "", "output": ""}], "a pickled list, not a text")],
)
def test_private_tests_may_be_a_text_and_nothing_else(tmp_path, monkeypatch, cargo, message):
    monkeypatch.chdir(tmp_path)
    text = base64.b64encode(zlib.compress(pickle.dumps(cargo))).decode()
    with pytest.raises(SourceError, match=f"a.jsonl:1: .*{message}"):
        problems.load(
            f"data:livecodebench@{write(tmp_path / 'a.jsonl', [lcb(1, private_test_cases=text)])}",
            1,
            "test",
            "s",
        )
    assert not (tmp_path / "evil").exists()


def test_livecodebench_by_window_difficulty_and_file(tmp_path):
    write(tmp_path / "test5.jsonl", [lcb(1), lcb(2), lcb(3, **METHOD)])
    write(tmp_path / "test6.jsonl", [lcb(4), lcb(5)])

    def ids(options):
        return {
            problem.id[-2:]
            for problem in problems.load(
                f"data:livecodebench@{tmp_path}?{{files: [test5.jsonl, test6.jsonl]{options}}}",
                0,
                "test",
                "s",
            )
        }

    assert ids("") == {"q1", "q2", "q3", "q4", "q5"}
    assert ids(", from: 2025-02-01, to: '2025-04-01'") == {"q2", "q3", "q4"}  # both ends count
    assert ids(", difficulty: hard") == {"q3"} and ids(
        ", difficulty: [easy, hard], from: 2025-03-01"
    ) == {"q3", "q4", "q5"}
    with pytest.raises(SourceError, match="holds no questions"):
        ids(", from: 2026-01-01")


# ---- which questions, and how many


def test_a_finite_set_gives_the_subset_that_its_seed_fixes(tmp_path):
    rows = [{"question": f"How many are {i} apples?", "answer": f"#### {i}"} for i in range(30)]
    source, turned = (
        f"data:gsm8k@{write(tmp_path / f'{name}.jsonl', ordered)}"
        for name, ordered in (("a", rows), ("b", rows[::-1]))
    )
    ten = problems.load(source, 10, "test", "x")
    assert len({problem.id for problem in ten}) == 10 and problems.load(source, 20, "test", "x")[
        :10
    ] == ten == problems.load(turned, 10, "test", "x")
    assert problems.load(source, 10, "test", "y") != ten
    assert sorted(problems.load(source, 0, "test", "x"), key=lambda problem: problem.id) == sorted(
        problems.load(source, 30, "test", "y"), key=lambda problem: problem.id
    )
    with pytest.raises(SourceError, match="holds 30 questions of split 'test', and 31"):
        problems.load(source, 31, "test", "x")
    write(tmp_path / "a.jsonl", rows[:3])  # a changed file is read again
    assert len(problems.load(source, 0, "test", "x")) == 3


def test_the_hub_is_asked_for_the_registered_set_and_its_failure_told(monkeypatch):
    import datasets

    from ded.problems import public

    asked, rows = (
        [],
        [
            {"ID": f"I-{i}", "Problem": f"{i} + 1?", "Solution": "", "Answer": i + 1}
            for i in range(5)
        ],
    )
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda *args, **named: asked.append((args, named)) or datasets.Dataset.from_list(rows),
    )
    public.from_hub.cache_clear()
    public.index.cache_clear()
    (problem,) = problems.load("data:aime_2024", 1, "test", "s")
    assert (
        problem.id[:-1] == "aime_2024:I-"
        and int(problem.answer) == int(problem.id[-1]) + 1
        and asked == [(("Maxwell-Jia/AIME_2024", None), {"split": "train"})]
    )

    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(
        SourceError,
        match=r"Idavidrein/gpqa .*ConnectionError: no route.*hf auth login.*"
        r"Idavidrein/gpqa.jsonl, into the folder that DED_DATA names",
    ):
        problems.load("data:gpqa_diamond", 1, "test", "s")
    public.from_hub.cache_clear()
    public.index.cache_clear()


# ---- files


ROWS = [
    {
        "question": f"What is {i}, plus one?",
        "answer": str(i + 1),
        "level": i,
        "id": f"n{i}",
        "split": "dev",
    }
    for i in range(4)
]


def as_csv(path, rows):
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8-sig")


def test_all_formats_say_the_same(tmp_path):
    write(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.json").write_text(json.dumps(ROWS))
    pd.DataFrame(ROWS).to_parquet(tmp_path / "a.parquet")
    as_csv(tmp_path / "a.csv", ROWS)
    made = [
        problems.load(f"file:{tmp_path / name}", 0, "dev", "s")
        for name in ("a.jsonl", "b/a.json", "a.parquet", "a.csv")
    ]
    assert made[0] == made[1] == made[2] == made[3] and len(made[0]) == 4
    assert {
        (problem.family, problem.kind, problem.meta["template"], problem.level + 1)
        for problem in made[0]
    } == {("a", "math", "math", int(problem.answer)) for problem in made[0]}


def test_the_users_own_problems(tmp_path):
    rows = [
        {
            "prompt": "Say yes.",
            "answer": "yes",
            "kind": "exact",
            "family": "manners",
            "split": "test",
        },
        {
            "question": "Which?",
            "answer": "B",
            "kind": "choice",
            "meta": {"options": ["one", "two"]},
            "split": "test",
        },
        {
            "question": "Double it.",
            "kind": "code",
            "meta": {"tests": [{"input": "1", "output": "2"}]},
            "split": "test",
        },
        {"prompt": "As I say it: 1+1", "answer": 2, "split": "test", "more": "ignored"},
    ]
    by_kind = {
        problem.kind: problem
        for problem in problems.load(f"file:{write(tmp_path / 'mine.jsonl', rows)}", 0, "test", "s")
    }
    assert (
        by_kind["exact"].prompt == "Say yes."
        and by_kind["exact"].family == "manners"
        and by_kind["code"].family == "mine"
    )
    assert by_kind["math"].prompt == "As I say it: 1+1" and by_kind["math"].answer == "2"
    assert (
        by_kind["choice"].prompt.startswith("Which?\n\nA) one\nB) two\n")
        and "standard input" in by_kind["code"].prompt
    )
    assert (
        verdicts(by_kind["choice"], "(B)", "A")
        == verdicts(by_kind["code"], "```python\nprint(2)\n```", "```python\nprint(3)\n```")
        == ["correct", "wrong"]
    )
    write(
        tmp_path / "many.jsonl", [{"question": f"q{i}", "answer": "1"} for i in range(200)]
    )  # no split: by content
    parts = [
        problems.load(f"file:{tmp_path / 'many.jsonl'}", 0, split, "s") for split in problems.SPLITS
    ]
    assert (
        sum(map(len, parts)) == 200
        and len(parts[0]) > 130
        and min(map(len, parts)) > 5
        and problems.source(f"file:{tmp_path / 'many.jsonl'}").family == "many"
    )


@pytest.mark.parametrize(
    "meta, how",
    [
        ({"tests": [{"input": "1", "output": "2"}]}, "read standard input"),
        ({"tests": [{"input": "1", "output": "2"}], "input_mode": "file"}, "read input.txt"),
        ({"tests": [{"args": [1], "expected": 2}], "entry": "f"}, "with the names asked for"),
        ({"assertions": "assert f(1) == 2"}, "with the names asked for"),
    ],
)
def test_a_program_of_the_users_is_asked_for_as_it_is_tested(tmp_path, meta, how):
    row = {"question": "Double it.", "kind": "code", "meta": meta, "split": "test"}
    file = write(tmp_path / "mine.jsonl", [row])
    (problem,) = problems.load(f"file:{file}", 0, "test", "s")
    assert how in problem.prompt


def test_empty_cells_of_a_csv_are_left_at_their_defaults(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer,kind,level,split,meta\nq,1,,,test,\n")
    (problem,) = problems.load(f"file:{tmp_path / 'a.csv'}", 0, "test", "s")
    assert (problem.kind, problem.level, problem.answer) == ("math", 0, "1")


def test_options_may_be_numbers(tmp_path):
    row = {"question": "2+3?", "kind": "choice", "answer": "B", "meta": {"options": [4, 5]}}
    file = write(tmp_path / "a.jsonl", [row | {"split": "test"}])
    (problem,) = problems.load(f"file:{file}", 0, "test", "s")
    assert verdicts(problem, "The answer is B.", "A") == ["correct", "wrong"]


GOOD = '{"question": "q", "answer": "1", "id": "a"}\n'


@pytest.mark.parametrize(
    "text, message",
    [
        (GOOD + '{"question": "w", "ans', r"f.jsonl:2: not whole JSON"),
        (GOOD + "[1]", r"f.jsonl:2: '\[1\]' is no object"),
        ("\n", "f.jsonl: holds no questions"),
        (GOOD + '{"question": "w", "anwser": "1"}', "f.jsonl:2: no answer.*anwser"),
        ('{"query": "w", "answer": "1"}', "f.jsonl:1: no prompt.*query"),
        ('{"question": "  ", "answer": "1"}', "f.jsonl:1: no prompt"),
        (GOOD * 2, "f.jsonl:2: the question 'a' stands already at .*f.jsonl:1"),
        (
            '{"question": "w", "answer": "1"}\n' * 2,
            "f.jsonl:2: the question .* stands already at .*f.jsonl:1",
        ),
        ('{"question": ["w"], "answer": "1"}', "f.jsonl:1: question = "),
        (GOOD.replace('"id"', '"level": -1, "id"'), "f.jsonl:1: level = -1"),
        (GOOD.replace('"id"', '"kind": "maths", "id"'), "f.jsonl:1: kind = 'maths'.*'math'"),
        (GOOD.replace('"id"', '"split": "eval", "id"'), "split = 'eval'.*'test'"),
        (GOOD.replace('"id"', '"kind": "code", "id"'), "f.jsonl:1: code needs meta.tests"),
        *(
            (GOOD.replace('"id"', f'"kind": "code", "meta": {meta}, "id"'), "f.jsonl:1: code needs")
            for meta in (
                '{"tests": [{"args": [1], "expected": 2}]}',  # of what?
                '{"tests": [{"args": [1]}], "entry": "f"}',
                '{"tests": [{"input": "1"}]}',
                '{"tests": [{"input": "1", "output": 2}]}',
                '{"tests": []}',
                '{"assertions": ["assert f(1)"]}',
            )
        ),
        (
            GOOD.replace('"id"', '"kind": "choice", "meta": {"options": ["x", "y"]}, "id"'),
            "f.jsonl:1: a choice needs",
        ),
        (GOOD.replace('"id"', '"meta": "{half", "id"'), "f.jsonl:1: meta = "),
        (GOOD + "[" * 100_000, "f.jsonl:2: not whole JSON"),
        (GOOD + '{"question": "\\ud800", "answer": "1"}', "f.jsonl:2: not whole JSON.*surrogate"),
        (GOOD.replace('"id"', '"kind": "choice", "meta": {"options": 2}, "id"'), "a choice needs"),
        (b"\xff\xfe\x00", "f.jsonl: cannot be read.*UTF-8"),
    ],
)
def test_a_malformed_row_is_named_with_its_file_and_line(tmp_path, text, message):
    (tmp_path / "f.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=message):
        problems.load(f"file:{tmp_path / 'f.jsonl'}", 0, "train", "s")


@pytest.mark.parametrize(
    "answer",
    [
        *("proof", "notfound", "Not found.", "N/A", "", " ", "see solution", None, float("nan")),
        *("nan", "None", r"\text{proof}", "-", "?"),
    ],
)
def test_references_that_are_no_answers_are_left_out_with_a_warning(tmp_path, caplog, answer):
    rows = [{"problem": f"q{i}", "answer": answer, "split": "test"} for i in range(2)]
    rows += [{"problem": "good", "answer": 0, "split": "test"}]
    file = write(tmp_path / "numina.jsonl", rows)
    (problem,) = problems.load(f"file:{file}", 0, "test", "s")
    assert problem.answer == "0" and problem.prompt.startswith("good")
    assert "2 row(s) are left out" in caplog.text and "numina.jsonl:1" in caplog.text


@pytest.mark.parametrize("answer", ["0", r"\infty", "no solution", r"\varnothing", "-1", "A", "()"])
def test_other_references_are_answers(tmp_path, answer):
    row = {"question": "q", "answer": answer, "split": "test"}
    file = write(tmp_path / "a.jsonl", [row])
    assert [problem.answer for problem in problems.load(f"file:{file}", 0, "test", "s")] == [answer]


@pytest.mark.parametrize(
    "name, row, message",
    [
        ("gsm8k", {"question": "q"}, r"a.jsonl:2: no column 'answer'; it has question"),
        ("gsm8k", {"question": "q", "answer": "5"}, "a.jsonl:2: .*no '####'"),
        (
            "gsm8k",
            {"question": "fine?", "answer": "#### 5"},
            "a.jsonl:2: .* stands already at .*a.jsonl:1",
        ),
        ("gsm8k", {"question": "", "answer": "#### 5"}, "a.jsonl:2: .*empty"),
    ],
)
def test_a_public_row_out_of_its_schema_is_named(tmp_path, name, row, message):
    path = write(tmp_path / "a.jsonl", [{"question": "fine?", "answer": "#### 5"}, row])
    with pytest.raises(SourceError, match=message):
        problems.load(f"data:{name}@{path}", 0, "test", "s")


def test_torn_tables_are_named(tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-40])
    (tmp_path / "a.csv").write_text("question,answer\nhow many, really,5\n")
    for name, message in (
        ("a.parquet", "a.parquet: cannot be read"),
        ("a.csv", "a.csv:2: not as many cells"),
    ):
        with pytest.raises(SourceError, match=message):
            problems.load(f"file:{tmp_path / name}", 0, "train", "s")


# ---- the grammar


@pytest.mark.parametrize(
    "source, message",
    [
        ("data:aime_2023", "the data sets are aime_2024.*nearest: aime_202"),
        ("data:@x.jsonl", "written as data:<name>"),
        ("data:gsm8k?{from: 2025-01-01}", "takes no options"),
        ("data:livecodebench?{form: 2025-01-01}", "form.*options: from, to"),
        ("data:livecodebench?{from: may}", "from = 'may'"),
        ("data:livecodebench?{difficulty: brutal}", "'easy', 'medium' or 'hard'"),
        ("data:livecodebench?{files: test7.jsonl}", "test6.jsonl"),
        ("data:gsm8k@no/such.jsonl", "no/such.jsonl: no such file"),
        ("file:x.txt", "x.txt: .*ends in .jsonl"),
        ("file:", "written as"),
        ("reasoning_gym:chain_sums", "no such task; nearest: chain_sum"),
        ("reasoning_gym:chain_sum?{min_term: 2}", "no setting 'min_term'.*nearest: min_terms"),
        ("reasoning_gym:chain_sum?{min_terms: 9, max_terms: 2}", "settings .* are refused"),
        ("reasoning_gym:chain_sum?{min_terms: two}", "settings .* are refused"),
        ("reasoning_gym:chain_sum?{min_terms", "no such task"),
        ("reasoning_gym:chain_sum?{a: [}", "no YAML mapping"),
        ("reasoning_gym:chain_sum?{seed: 1}", "no setting 'seed'"),
        ("reasoning_gym:word_ladder", "cannot be used here"),
        ("reasoning_gym:arc_agi", "cannot be used here"),
        ("lab:sum?{levels: 7}", "written as lab:"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_before_any_work(source, message):
    with pytest.raises(SourceError, match=message):
        problems.source(source).check()
    with pytest.raises(SourceError, match=message):
        problems.load(source, 1, "test", "s")


def test_sources_are_parameters():
    change = {
        "id_source": "data:livecodebench?{from: 2025-02-01, difficulty: [hard]}",
        "ood_sources": ["reasoning_gym:chain_sum?{max_terms: 3}", "data:gsm8k"],
    }
    assert params.load("lab", "01", change)["id_source"] == change["id_source"]
    with pytest.raises(params.ParameterError, match=r"ood_sources.*gsm8.*nearest: gsm8k"):
        params.load("lab", "01", {"ood_sources": ["data:gsm8"]})
    with pytest.raises(
        params.ParameterError,
        match="verification = 'steps' needs questions whose steps can be checked",
    ):
        params.load(
            "lab", "01", {"verification": "steps", "corpus_source": "reasoning_gym:chain_sum"}
        )
    assert params.load("lab", "01", {"verification": "steps"})["verification"] == "steps"


def test_a_new_kind_of_source_is_a_class_and_a_line(monkeypatch):
    class Squares(Source):
        form = "squares:<largest>"
        procedural = True

        def check(self):
            if not self.name.isdigit():
                raise self.error(f"written as {self.form}")

        def load(self, n, split, seed):
            self.check()

            def make(rng):
                base = rng.randrange(int(self.name))
                prompt = f"square {base}"
                return prompt, lambda: Problem.made("squares", 0, prompt, str(base**2))

            return problems.draw(make, n, split, seed)

    with pytest.raises(SourceError, match=r"one of lab:.*file:"):
        problems.source("squares:900").check()
    monkeypatch.setitem(problems.SOURCES, "squares", Squares)
    drawn = problems.load("squares:900", 5, "dev", "s")
    assert len(drawn) == 5 and problems.load("squares:900", 3, "dev", "s") == drawn[:3]
    assert (
        problems.source("squares:900").family == "900" and problems.source("squares:900").procedural
    )
    with pytest.raises(SourceError, match="'squares:many': written as squares:<largest>"):
        problems.source("squares:many").check()
    named = params.load("lab", "01", {"ood_sources": ["squares:900"]})
    assert named["ood_sources"] == ["squares:900"]


def test_names_for_tables():
    named = {
        "lab:sum/7-9": "sum",
        "data:math_500@/a/b.jsonl": "math_500",
        "reasoning_gym:gcd?{min_numbers: 3}": "gcd",
        "file:a/own.csv": "own",
    }
    assert {source: problems.source(source).family for source in named} == named


# ---- reasoning-gym


def test_reasoning_gym_draws_are_fixed_apart_and_graded():
    source = "reasoning_gym:chain_sum?{min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 2}"
    long = problems.load(source, 40, "train", "s")
    assert (
        problems.load(source, 15, "train", "s")
        == long[:15]
        != problems.load(source, 15, "train", "t")
    )
    assert not {problem.id for problem in long} & {
        problem.id for problem in problems.load(source, 40, "test", "s")
    }
    problem = long[0]
    wrong = str(int(problem.answer) + 1)
    right = (
        f"<answer>{problem.answer}</answer> of course",
        f"It is \\boxed{{{problem.answer}}}.",
        f"Well.\nAnswer: {problem.answer}",
        f"**The answer is {problem.answer}**",
        problem.answer,
    )
    assert verdicts(problem, *right) == ["correct"] * 5
    assert (
        verdicts(
            problem,
            f"<answer>{wrong}</answer>",
            f"\\boxed{{{problem.answer}}}\n<answer>{wrong}</answer>",
            wrong,
            "Answer:",
        )
        == ["wrong"] * 4
    )
    assert verdicts(
        replace(problem, meta=problem.meta | {"entry": {"question": "?"}}), problem.answer
    ) == ["error"]  # the scorer raises
    with pytest.raises(SourceError, match=r"found only .* of 500"):
        problems.load("reasoning_gym:coin_flip?{min_trials: 3, max_trials: 3}", 500, "test", "s")


def test_answers_that_a_scorer_would_run_are_not_run(tmp_path, monkeypatch):
    (problem,) = problems.load("reasoning_gym:countdown", 1, "train", "s")
    mark = tmp_path / "ran"
    bad = (
        f"open({str(mark)!r}, 'w')",
        f"\uff4f\uff50\uff45\uff4e({str(mark)!r}, 'w')",
        "sqrt('exec(1)')",
        "(1).real",
        "[print][0](1)",
        "exec(chr(49))",
        "9" * 3000,
    )
    assert verdicts(
        problem,
        problem.answer,
        f"Answer: {problem.answer}",
        *(f"<answer>{answer}</answer>" for answer in bad),
    ) == ["correct"] * 2 + ["unparsed"] * len(bad)
    assert not mark.exists()


# ---- variants and steps


def test_perturbations_keep_the_question_and_the_answer():
    problem = Problem(
        "m:1",
        "m",
        0,
        "What is\n1 + 1?\n\nReason step by step, and give the final answer in \\boxed{}.",
        "2",
        "math",
        {"template": "math"},
    )
    made = [
        problems.perturb(problem, name) for name in problems.source("data:math_500").perturbations
    ]
    assert len({q.prompt for q in (problem, *made)}) == len(
        {q.id for q in (problem, *made)}
    ) == 4 and {(q.answer, q.kind) for q in made} == {("2", "math")}
    assert (
        all("1 + 1?" in q.prompt and "\\boxed{}" in q.prompt for q in made)
        and "> What is\n> 1 + 1?\n\nReason" in made[2].prompt
    )
    assert made == [problems.perturb(problem, name) for name in problems.PERTURBATIONS] and made[
        0
    ] != problems.perturb(problem, "preamble", seed=5)
    with pytest.raises(ValueError, match="unknown perturbation 'zero'"):
        problems.perturb(problem, "zero")
    (lab,) = problems.load("lab:sum/7", 1, "dev", "s")
    assert (
        problems.source("lab:sum/7").perturbations[1] == "zero"
        and len(problems.perturb(lab, "zero").meta["terms"]) == 8
    )


def test_steps_are_checked_for_sums_alone():
    (lab,) = problems.load("lab:sum/5", 1, "dev", "s")
    assert (
        problems.source("lab:sum/5").steps
        and not problems.source("lab:sort").steps
        and not problems.source("data:gsm8k").steps
    )
    assert problems.trace(lab, "no work at all") is None


# ---- contamination

LONG = (
    "A train leaves the old station at noon and travels north at sixty miles an hour "
    "while another one waits for three full hours before it follows"
)


def asked(name, question, kind="math"):
    prompt, meta = worded(kind, question, {})
    return Problem(name, "t", 0, prompt, "1", kind, meta)


def test_overlaps_are_found_by_the_questions_alone():
    evaluation = [
        asked("e1", LONG + ". When do they meet?"),
        asked("e2", "Compute $3+4$."),
        asked(
            "e3",
            "Find the sum of all positive divisors of the number 496, one of the perfect ones.",
        ),
    ]
    train = [
        asked("copy", "Hard one: " + LONG.upper() + ", when do they meet???"),
        asked(
            "half", " ".join(LONG.split()[:19]) + " until it stops for good at the end of the line"
        ),
        asked("short", "Compute   $3 + 4$!"),
        asked("other sign", "Compute $3-4$."),
        asked("unlike", "Prove that there are infinitely many primes of this kind.", "code"),
    ]
    table, kept = contaminated(train, evaluation, 13, 0.5)
    assert [problem.id for problem in kept] == [
        "half",
        "other sign",
        "unlike",
    ]  # prompts share "Reason step by step, and ...", questions do not
    assert set(zip(table.train_id, table.eval_id, strict=True)) == {
        ("copy", "e1"),
        ("short", "e2"),
    } and table.share.tolist() == [1.0, 1.0]
    looser, kept = contaminated(train, evaluation, 13, 0.3)
    assert (
        "half" not in [problem.id for problem in kept]
        and 0.3 <= looser.set_index("train_id").share["half"] < 0.5
    )
    assert contaminated(train, [], 13, 0.5)[1] == train and contaminated([], evaluation)[0].empty


def test_a_corpus_that_meets_a_benchmark_loses_the_overlaps(tmp_path, monkeypatch):
    from ded import study

    write(
        tmp_path / "e.jsonl", [{"question": LONG + "?", "answer": "1", "id": "e", "split": "test"}]
    )
    write(
        tmp_path / "t.jsonl",
        [
            {"question": q, "answer": "1", "id": i, "split": "train"}
            for i, q in (("copy", "So. " + LONG), ("own", "Unrelated?"))
        ],
    )
    p = SimpleNamespace(
        corpus_source=f"file:{tmp_path / 't.jsonl'}",
        id_source=f"file:{tmp_path / 'e.jsonl'}",
        ood_sources=["lab:sort"],
        n_questions=2,
        eval_id=1,
        eval_ood=3,
        split="test",
        seed=1,
        contamination_ngram=13,
        contamination_threshold=0.5,
        max_tokens=9,
        verification="answer",
        drop_repeats=False,
    )
    assert [q.id for q in study.Unit(p, "b", 0).questions()] == ["own"]
    row = {
        "problem_id": "own",
        "text": "<think>a</think>1",
        "n_tokens": 3,
        "finish_reason": "stop",
        "verdict": "correct",
    }
    monkeypatch.setattr(study.pipeline, "graded", lambda *_: pd.DataFrame([row] * 4))
    funnel = study.curate(study.Unit(p, "b", 0), "teacher", 4).funnel
    assert (
        funnel.iloc[0].to_dict()
        == {"step": "contamination", "kept": 4, "dropped": 4, "reason": "copy in e (1.00)"}
        and funnel.step[1] == "sampled"
    )
    lab = SimpleNamespace(
        **vars(p) | {"corpus_source": "lab:sum", "id_source": "lab:sum", "n_questions": 40}
    )
    assert study.Unit(lab, "b", 0).overlaps() is None  # made from seeds, split by content
    mixed = SimpleNamespace(**vars(lab) | {"ood_sources": [p.id_source], "eval_ood": 1})
    unit = study.Unit(mixed, "b", 0)
    overlaps, kept = unit.overlaps(), unit.questions()
    assert overlaps.empty and len(kept) == 40
    with pytest.raises(SourceError, match="second family 'sort'"):
        twice = SimpleNamespace(**vars(p) | {"ood_sources": ["lab:sort", "lab:sort/5"]})
        study.Unit(twice, "b", 0).suite()


def test_local_copies_of_hub_data_sets_come_before_the_hub(tmp_path, monkeypatch):
    from ded import models

    (tmp_path / "HuggingFaceH4").mkdir()
    row = {
        "problem": "Compute 2 + 2.",
        "answer": "4",
        "subject": "Algebra",
        "level": 2,
        "unique_id": "t/1",
    }
    (tmp_path / "HuggingFaceH4" / "MATH-500.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setenv("DED_DATA", str(tmp_path))
    assert [p.answer for p in problems.load("data:math_500", 1, "test", "s")] == ["4"]
    (tmp_path / "simplescaling").mkdir()
    trace = {
        "question": "Compute 2 + 2.",
        "deepseek_thinking_trajectory": "four",
        "deepseek_attempt": "\\boxed{4}",
    }
    copy = tmp_path / "simplescaling" / "s1K-1.1.jsonl"  # what follows the last dot is no suffix
    copy.write_text(json.dumps(trace) + "\n")
    models.check("recorded:simplescaling/s1K-1.1#deepseek")
    before = models.fingerprint("recorded:simplescaling/s1K-1.1#deepseek")
    copy.write_text(json.dumps(trace | {"deepseek_attempt": "\\boxed{5}"}) + "\n")
    assert models.fingerprint("recorded:simplescaling/s1K-1.1#deepseek") != before, (
        "a copy is known by its content"
    )
