"""`ded grade`: anyone's rows, each with its verdict and the rule behind it, or one error and
nothing written."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from typer.testing import CliRunner

from ded import grading
from ded.cli import app
from ded.grading import sandbox
from ded.problems import Problem

PROGRAM = "```python\ndef add(a, b):\n    return a + b\n```"
needs_isolation = pytest.mark.skipif(bool(sandbox.why_not()), reason="no isolation")


def row(answer, gold="1/2", **more):
    return {"question": "How much?", "gold": gold, "answer": answer} | more


ROWS = [
    (row(r"<think>\boxed{1}</think> \boxed{0.5}"), "correct", "0.5"),
    (row(r"\boxed{0.6}", model="m", id=7), "wrong", "0.6"),
    (row("who knows"), "unparsed", None),
    (row(None), "unparsed", None),
    (row(r"\boxed{0.5}", finish_reason="length"), "truncated", None),
    (row("4", gold=4), "correct", "4"),
    (row("3.14", gold="3.1416", tolerance=0.01), "correct", "3.14"),
    (row("Answer: B", gold="B", options=["x", "y"]), "correct", "B"),
    (row("a b", gold="a  b", kind="exact"), "correct", "a b"),
    (row(r"\boxed{5}", gold="proof"), "unparsed", None),
]


def grade(tmp_path, rows, *options, out="out.jsonl"):
    """(exit code, what is printed, rows written or None)."""
    file, written = tmp_path / "rows.jsonl", tmp_path / out
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    arguments = ["grade", str(file), "--out", str(written), "--workers", "1", *options]
    result = CliRunner().invoke(app, arguments)
    lines = written.read_text().splitlines() if written.exists() else None
    return result, lines and [json.loads(line) for line in lines]


def test_each_row_gets_its_verdict_and_keeps_its_columns(tmp_path):
    result, rows = grade(tmp_path, [each for each, *_ in ROWS])
    assert result.exit_code == 0, result.output
    for (given, verdict, extracted), graded in zip(ROWS, rows, strict=True):
        assert (graded["verdict"], graded["extracted"]) == (verdict, extracted)
        assert given.items() <= graded.items()
        assert bool(graded["rule"]) == (verdict in ("correct", "wrong"))
    counts = {line.split()[0]: line.split()[1:] for line in result.output.splitlines()}
    assert counts["correct"] == ["wrong", "unparsed", "truncated", "error"]
    assert counts["math"] == ["3", "1", "3", "1", "0"] and counts["all"][0] == "5"


RULES = [
    ("5", "5", "same text"),
    ("0.5", "1/2", "numbers"),
    ("0.5", "3/5", "numbers"),
    ("5 \\text{ cm}", "5", "units"),
    ("5 \\text{ cm}", "5 inches", "units"),
    ("50\\%", "50", "percent"),
    ("(1, 0.5)", "(1, 1/2)", "list or interval, same text, numbers"),
    ("\\text{yes}", "Yes", "words"),
    ("11_2", "11_3", "base"),
    ("x=5", "x=5.0", "equations"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\3\\end{pmatrix}", "matrix"),
    ("\\sqrt{8}", "2\\sqrt{2}", "math-verify"),
]


@pytest.mark.parametrize("gold, answer, rule", RULES)
def test_the_rule_that_decided_is_named(gold, answer, rule):
    table = pd.DataFrame(
        {"problem_id": ["m"], "text": rf"\boxed{{{answer}}}", "finish_reason": "stop"}
    )
    graded = grading.grade(table, [Problem("m", "f", 1, "?", gold, "math")], progress=False)
    assert graded["rule"][0].startswith(rule), (graded["rule"][0], graded["verdict"][0])


@needs_isolation
@pytest.mark.sandbox
def test_programs_are_graded_by_whatever_tests_a_row_has(tmp_path):
    question = {"question": "add", "answer": PROGRAM}
    asserts = ["assert add(1, 2) == 3", "assert not add(0, 0)"]
    check = "def check(candidate):\n    assert candidate(1, 2) == "
    read = "```python\nprint(sum(map(int, input().split())))\n```"
    rows = [
        question | {"entry": "add", "tests": [{"args": [1, 2], "expected": 3}]},
        question | {"entry": "add", "tests": [{"args": [1, 2], "expected": 4}]},
        question | {"tests": asserts},
        question | {"tests": asserts[0].replace("3", "4")},
        question | {"entry": "add", "tests": f"{check}3\n"},
        question | {"entry": "add", "tests": f"{check}4\n", "kind": "code"},
        question | {"answer": read, "tests": [{"input": "1 2\n", "output": "3\n"}]},
    ]
    result, graded = grade(tmp_path, rows)
    assert result.exit_code == 0, result.output
    expected = ["correct", "wrong", "correct", "wrong", "correct", "wrong", "correct"]
    assert [each["verdict"] for each in graded] == expected
    assert {each["kind"] for each in graded} == {"code"}
    rules = ["function tests"] * 2 + ["assertions"] * 4 + ["stdin tests"]
    assert [each["rule"] for each in graded] == rules


BROKEN = [
    ({"gold": "4", "answer": "4"}, "no question"),
    ({"question": "?", "answer": "4"}, "no gold"),
    ({"question": "?", "gold": "4"}, "no answer"),
    (row("4", gold=" "), "no gold, or an empty one"),
    (row(["4"]), "answer = .*valid string"),
    (row("4", kind="maths"), "kind = 'maths'.*'math', 'choice', 'code' or 'exact'"),
    (row("4", gold="C", options=["x", "y"]), "a letter, A to B"),
    (row("4", tolerance=-1), "tolerance = -1"),
    (row("4", kind="code"), "tests must be"),
    (row("4", tests=[{"input": "1"}]), "tests must be"),
    (row("4", tests=[{"args": [1], "expected": 1}]), "with entry"),
    (row("4", tests="def check(candidate):\n    assert candidate(1)"), "entry must name"),
    ([1], "no object"),
]


@pytest.mark.parametrize("broken, words", BROKEN)
def test_a_malformed_row_is_named_and_nothing_is_written(tmp_path, broken, words):
    result, rows = grade(tmp_path, [row("4"), broken])
    assert result.exit_code and rows is None
    with pytest.raises(ValueError, match=f"rows.jsonl:2: .*{words}"):
        raise result.exception


def test_options_are_checked_before_any_work(tmp_path):
    for options, words in (
        ("isolation: docker", "'bubblewrap' or 'rlimits'"),
        ("percent: lax", "'strict' or 'same'"),
        ("judge: 'lab:nobody'", "no lab model 'nobody'"),
        ("judge: 'openai:x'", "no endpoint is named"),
        ("judge: 'openai:x', judge_engine: {base_ulr: x}", "nearest: base_url"),
    ):
        result, rows = grade(tmp_path, [row("4")], "--grading", f"{{{options}}}")
        assert result.exit_code and rows is None and words in str(result.exception)
    result, rows = grade(tmp_path, [row("4")], out="nowhere/out.jsonl")
    assert "no such folder" in str(result.exception)


def test_percent_and_tolerance_are_options(tmp_path):
    rows = [
        {"question": "What percent of 5 is 3?", "gold": "60", "answer": "Answer: 60%"},
        row("0.333", gold="1/3"),
    ]
    strict, loose = ([], ["--grading", "{percent: same}", "--tolerance", "0.001"])
    assert [each["verdict"] for each in grade(tmp_path, rows, *strict)[1]] == ["wrong"] * 2
    assert [each["verdict"] for each in grade(tmp_path, rows, *loose)[1]] == ["correct"] * 2


def ded(*arguments, **how):
    command = [sys.executable, "-m", "ded.cli", "grade", *map(str, arguments)]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=os.environ, **how)


def test_standard_input_and_output(tmp_path):
    process = ded("-", "--out", "-", "--workers", 1, stdin=subprocess.PIPE)
    out, counts = process.communicate(json.dumps(row("0.5")) + "\n")
    assert json.loads(out)["verdict"] == "correct"
    assert "unparsed" in counts and process.returncode == 0


@pytest.mark.slow
@needs_isolation
@pytest.mark.sandbox
def test_an_interrupt_leaves_no_half_file(tmp_path):
    sleeper = f"```python\nopen({str(tmp_path / 'begun')!r}, 'w')\nwhile True: pass\n```"
    rows = [
        row("0.5"),
        {"question": "?", "tests": [{"input": "", "output": ""}], "answer": sleeper},
    ]
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    out.write_text("of an earlier run\n")
    process = ded(file, "--out", out, "--grading", "{isolation: rlimits}", "--workers", 1)
    while not (tmp_path / "begun").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode not in (0, 2), printed
    assert out.read_text() == "of an earlier run\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["begun", "out.jsonl", "rows.jsonl"]
