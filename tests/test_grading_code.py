"""Programs, functions, methods and assertions, graded by running them."""

import pandas as pd
import pytest

from ded.grading import code, grade, sandbox
from ded.grading.code import extract, grade_programs, same_output, same_value
from ded.grading.decision import CORRECT, Decision, Settings
from ded.grading.sandbox import Limits
from ded.problems import Problem

needs_isolation = pytest.mark.skipif(
    bool(sandbox.why_not()), reason=sandbox.why_not() or "isolated"
)

QUIET = Settings(progress=False)


def problem(**meta):
    return Problem("p", "code", 1, "", "", kind="code", meta=meta)


SUM = problem(tests=[{"input": "1 2\n", "output": "3\n"}, {"input": "5 6", "output": "11"}])
DOUBLE = problem(entry="f", tests=[{"args": [x], "expected": 2 * x} for x in (0, 3, -4)])
METHOD = problem(
    entry="Solution.run",
    preamble="from typing import *",
    tests=[{"args": [[3, 1, 2]], "expected": [1, 2, 3]}],
)
ASSERTED = problem(
    entry="add",
    assertions="def check(candidate):\n"
    "    assert candidate(1, 2) == (3,)\n"
    "    assert candidate([1], [2]) == ([1, 2],)\n"
    "    assert all(add(i, i)[0] == 2 * i for i in range(5))\n"
    "check(add)\n",
)
ADD = "a, b = map(int, input().split())\nprint(a + b)"


@needs_isolation
def test_verdicts():
    cases = [
        (SUM, ADD, "correct", ""),
        (SUM, "print(3)", "wrong", "test 2: printed '3'"),
        (SUM, "import sys\nsys.exit(0)", "wrong", "test 1: printed ''"),
        (SUM, ADD + "\nraise ValueError('late')", "wrong", "test 1: ValueError: late"),
        (
            SUM,
            "import atexit\natexit.register(lambda: print(sum(map(int, input().split()))))",
            "correct",
            "",
        ),
        (
            SUM,
            "import threading\n"
            "threading.Thread(target=lambda: print(sum(map(int, input().split())))).start()",
            "correct",
            "",
        ),
        (
            SUM,
            "if __name__ == '__main__': print(sum(map(int, open(0).read().split())))",
            "correct",
            "",
        ),
        (SUM, "print(", "wrong", "test 1: SyntaxError"),
        (DOUBLE, "def f ( x ) : return x * 2", "correct", ""),
        (DOUBLE, "def f(x): return float(2 * x)", "correct", ""),
        (DOUBLE, "def f(x): return x", "wrong", "test 2: returned 3"),
        (DOUBLE, "def g(x): return 2 * x", "wrong", "test 1: KeyError"),
        (DOUBLE, "def f(x): return object()", "wrong", "test 1: NotPlain"),
        (
            DOUBLE,
            "n = 0\ndef f(x):\n    global n\n    n += 1\n    return 2 * x if n == 1 else 7",
            "correct",
            "",
        ),
        (
            METHOD,
            "class Solution:\n    def run(self, x: List[int]): return tuple(sorted(x))",
            "correct",
            "",
        ),
        (ASSERTED, "def add(a, b): return (a + b,)", "correct", ""),
        (ASSERTED, "def add(a, b): return [a + b]", "wrong", "AssertionError"),
        (ASSERTED, "def add(a, b): raise ValueError", "wrong", "RuntimeError"),
        (
            problem(entry="f", assertions="assert ("),
            "def f(): pass",
            "error",
            "the assertions themselves fail",
        ),
        (
            problem(entry="f", assertions="assert f(1j) == 1 and f(2j) == 2"),
            "def f(z): return abs(z)",
            "correct",
            "",
        ),
        (
            problem(entry="f", assertions="assert f(2) == 2j"),
            "def f(x): return x * 1j",
            "correct",
            "",
        ),
        (
            problem(entry="f", assertions="assert f(2) == 2j"),
            "def f(x): return x",
            "wrong",
            "AssertionError",
        ),
        (
            problem(entry="f", assertions="assert f(len) == 1"),
            "def f(x): return 1",
            "error",
            "the assertions themselves",
        ),
        (
            problem(entry="f", assertions="assert f(x=1) == 1"),
            "def f(x): return x",
            "error",
            "the assertions themselves",
        ),
        (
            problem(tests=[{"input": "4", "output": "8"}], input_mode="file"),
            "open('output.txt', 'w').write(str(2 * int(open('input.txt').read())))",
            "correct",
            "",
        ),
        (
            problem(tests=[{"input": "4", "output": "8"}], input_mode="file"),
            "print(8)",
            "wrong",
            "test 1: printed ''",
        ),
        (
            problem(tests=[{"input": "", "output": "0.5"}], tolerance=1e-6),
            "print('0.50000001')",
            "correct",
            "",
        ),
        (problem(tests=[{"input": "", "output": "0.5"}]), "print('0.50000001')", "wrong", "test 1"),
        (problem(tests=[]), "print()", "error", "the problem has no tests"),
    ]
    jobs = [case[:2] for case in cases]
    verdicts = {
        workers: grade_programs(jobs, Settings(workers, progress=False)) for workers in (1, 3)
    }
    assert verdicts[1] == verdicts[3]
    for (_, program, verdict, reason), decision in zip(cases, verdicts[1], strict=True):
        assert decision.verdict == verdict, (program, decision)
        assert decision.reason.startswith(reason), (program, decision)


@needs_isolation
def test_a_checker_decides_where_several_outputs_are_right():
    checker = (
        "import sys\nn = int(open(sys.argv[1]).read())\n"
        "a, b = map(int, open(sys.argv[3]).read().split())\n"
        "print(int(a + b == n))"
    )
    pair = problem(tests=[{"input": "7", "output": "3 4"}], checker=checker)
    broken = problem(tests=[{"input": "7", "output": "3 4"}], checker="raise ValueError")
    jobs = [
        (pair, "print(1, int(input()) - 1)"),
        (pair, "print(1, 1)"),
        (pair, "print('x')"),
        (broken, "print(3, 4)"),
    ]
    assert [verdict for verdict, _ in grade_programs(jobs, QUIET)] == [
        "correct",
        "wrong",
        "wrong",
        "error",
    ]


@needs_isolation
def test_each_distinct_program_runs_once(monkeypatch):
    ran = []
    monkeypatch.setattr(
        code, "grade_program", lambda problem, program, box: ran.append(program) or CORRECT
    )
    fence = "<think> ``` </think> Here:\n```python\n{}\n```\nDone."
    texts = [
        fence.format(ADD),
        fence.format(ADD),
        ADD,
        fence.format("print(3)"),
        "<think> x </think>",
    ]
    graded = grade(
        pd.DataFrame({"problem_id": "p", "text": texts, "finish_reason": "stop"}),
        [SUM],
        progress=False,
    )
    assert sorted(ran) == sorted([ADD, "print(3)"])
    assert graded["verdict"].tolist() == ["correct"] * 4 + ["unparsed"]
    assert graded["answer"].tolist()[:4] == [ADD, ADD, ADD, "print(3)"]


def test_without_isolation_code_is_not_run(monkeypatch):
    monkeypatch.setattr(code, "why_not", lambda isolation: "no bwrap found")
    monkeypatch.setattr(code, "grade_program", lambda *_: pytest.fail("ran"))
    frame = pd.DataFrame({"problem_id": ["p", "q"], "text": [ADD, "4"], "finish_reason": "stop"})
    graded = grade(frame, [SUM, Problem("q", "f", 1, "", "4")])
    assert graded["verdict"].tolist() == ["error", "correct"]
    assert graded["reason"][0] == "not run: no bwrap found"


@needs_isolation
def test_errors_of_the_machine_are_retried_once_and_alone(monkeypatch):
    tries = []

    def flaky(problem, program, box):
        tries.append(program)
        return (
            CORRECT
            if (tries.count(program) > 1 and program == "a") or program == "c"
            else Decision("again", "slept")
        )

    monkeypatch.setattr(code, "grade_program", flaky)
    verdicts = grade_programs([(SUM, program) for program in "abc"], Settings(3, progress=False))
    assert verdicts == [("correct", ""), ("error", "slept"), ("correct", "")]
    assert sorted(tries[:3]) == ["a", "b", "c"] and tries[3:] == ["a", "b"]


@needs_isolation
def test_all_tests_together_have_a_budget():
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint(1)"
    many = problem(tests=[{"input": "", "output": "1"}] * 3)
    ((verdict, reason),) = grade_programs(
        [(many, busy)], Settings(limits=Limits(cpu=2, total_cpu=0.3), progress=False)
    )
    assert verdict == "error" and "together" in reason


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("```python\nA\n```\ntext\n```\nB\n```", "A"),
        ("```py\nA\n```\n```Python3\nB\n```", "B"),
        ("```\nA\n```\n```\nB\n", "B"),
        ("```python\nif x:\n    y\n```", "if x:\n    y"),
        ("print(1)", "print(1)"),
        ("```python\n\n```", None),
    ],
)
def test_extract(answer, program):
    assert extract(answer) == program


@pytest.mark.parametrize(
    ("expected", "value", "tolerance", "equal"),
    [
        ([1, 2], {"tuple": [1, 2]}, 0, True),
        ((1, (2,)), [1, [2]], 0, True),
        ([1, 2], [1, 2, 3], 0, False),
        ([1, 2], 12, 0, False),
        (1, True, 0, True),
        ("1", 1, 0, False),
        (None, None, 0, True),
        (None, [], 0, False),
        ({1: [2]}, {"dict": [[1, [2]]]}, 0, True),
        ({1: [2]}, {"dict": [["1", [2]]]}, 0, False),
        ({(1, 2)}, {"set": [{"tuple": [1, 2]}]}, 0, True),
        ({1}, {"set": [1, 2]}, 0, False),
        ({}, {"set": []}, 0, False),
        (0.1 + 0.2, 0.3, 0, False),
        (0.1 + 0.2, 0.3, 1e-9, True),
        (1.0, float("nan"), 1e-9, False),
        (1.0, 10**400, 1e-9, False),
    ],
)
def test_same(expected, value, tolerance, equal):
    assert same_value(expected, value, tolerance) is equal


@pytest.mark.parametrize(
    ("expected", "printed", "tolerance", "equal"),
    [
        ("1 2\n3\n", "1  2 \r\n\n3", 0, True),
        ("1 2", "1\n2", 0, False),
        ("YES", "yes", 0, False),
        ("0.333", "0.3333", 1e-3, True),
        ("0.333", "0.3333", 0, False),
        ("1e9", "nan", 1, False),
        ("", "", 0, True),
        ("", "0", 0, False),
    ],
)
def test_same_output(expected, printed, tolerance, equal):
    assert same_output(expected, printed, tolerance) is equal
