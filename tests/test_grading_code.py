"""Programs, functions, methods and assertions, graded by running them."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from ded.errors import ParameterError
from ded.grading import code, grade, sandbox
from ded.grading.code import extract, grade_programs, same_output, same_value
from ded.grading.decision import CORRECT, Decision, Settings
from ded.grading.sandbox import Limits, Sandbox
from ded.options import Grading
from ded.problems import Problem
from ded.problems.datasets import SETS

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
        (
            DOUBLE,
            "def f(x): return x * 2\nif __name__ == '__main__':\n    f(int(input()))\n    exit()",
            "correct",
            "",
        ),
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
        (
            ASSERTED,
            "from dataclasses import dataclass\n@dataclass\nclass A: x: int\n"
            "def add(a, b): return (A(a + b).x,)\nif __name__ == '__main__': 1 / 0",
            "correct",
            "",
        ),
        (ASSERTED, "def add(a, b): return [a + b]", "wrong", "AssertionError"),
        (ASSERTED, "def add(a, b): raise ValueError", "wrong", "ValueError"),
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
            "correct",
            "",
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
@pytest.mark.parametrize(
    ("program", "n_runs", "reason"),
    [
        ("def f(x): return x + x", 1, ""),
        ("def f(x):\n    for _ in (1, 2): y = x * 2\n    return y", 1, ""),
        ("def f(x): return x * 2 if x else 1", 1, "test 1: returned 1"),
        ("def f(x): return x * 2 if x < 3 else 7", 1, "test 2: returned 7"),
        ("def f(x): return 2 * x if x > -1 else x / 0", 4, "test 3: ZeroDivisionError"),
        ("def f(x): return 2 * x if x > -1 else x ** 9 ** 9", 4, "test 3: over 0.5 s of CPU"),
        # what would differ the second time
        ("calls = []\ndef f(x): calls.append(x); return 2 * x * (len(calls) == 1)", 3, ""),
        ("def f(x, calls=[]): calls += [x]; return 2 * x if [x] == calls else 1", 3, ""),
        ("def f(x, *, calls=[]): calls += [x]; return 2 * x if [x] == calls else 1", 3, ""),
        (
            "def g(n):\n    def f(x): nonlocal n; n += 1; return 2 * x / n\n    return f\nf = g(0)",
            3,
            "",
        ),
        (
            "class F:\n    n = 0\n    def __call__(f, x): f.n += 1; return 2 * x / f.n\nf = F()",
            3,
            "",
        ),
        ("def f(x): return (lambda: globals().setdefault('y', 2 * x))()", 3, ""),
    ],
)
def test_tests_share_a_process_only_where_that_makes_no_difference(
    program, n_runs, reason, monkeypatch
):
    runs, run = [], Sandbox.run
    monkeypatch.setattr(Sandbox, "run", lambda *args, **how: runs.append(1) or run(*args, **how))
    (decision,) = grade_programs([(DOUBLE, program)], replace(QUIET, limits=Limits(cpu=0.5)))
    assert len(runs) == n_runs and decision.reason.startswith(reason)
    assert decision.verdict == ("wrong" if reason else "correct")


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
    assert [verdict for verdict, *_ in grade_programs(jobs, QUIET)] == [
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
    assert [each[:2] for each in verdicts] == [("correct", ""), ("error", "slept"), ("correct", "")]
    assert (
        sorted(tries[:3]) == ["a", "b", "c"]
        and sorted(tries[3:5]) == ["a", "b"]
        and tries[5:] == ["b"]
    )


@needs_isolation
def test_all_tests_together_have_a_budget():
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint(1)"
    many = problem(tests=[{"input": "", "output": "1"}] * 3)
    ((verdict, reason, _),) = grade_programs(
        [(many, busy)], Settings(limits=Limits(cpu=2, total_cpu=0.3), progress=False)
    )
    assert verdict == "wrong" and "together" in reason


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("```python\nA\n```\ntext\n```\nB\n```", "A"),
        ("```py\nA\n```\n```Python3\nB\n```", "B"),
        ("```\nA\n```\n```\nB\n", "B"),
        ("```python\nif x:\n    y\n```", "if x:\n    y"),
        ("print(1)", "print(1)"),
        ("```python\n\n```", None),
        ("````Python 3\nA\n```\nB\n````", "A\n```\nB"),
        ("~~~py\nA\n```\n~~~", "A\n```"),
        ("```{.python}\nA\n```", "A"),
        ("```python title='main.py'\r\nA\r\nB\r\n```\r\n", "A\nB"),
        ("1. First:\n\n   ```python\n   if x:\n       y\n   ```\n", "if x:\n    y"),
        ("```python\nA\nNo:\n```Python\nB\n```\nso", "B"),
        ("- ```python\n  A\n  ```", "A"),
        ("> ```python\n> if x:\n>     y\n>\n> ```\n> so", "if x:\n    y"),
        ("Use ```A``` here:\n```\nB\n```", "B"),
        ("```python\nA\n```\nIt prints\n```text\n3\n```\n```\n4\n```", "A"),
        ("```\nA\n```\n```bash\npython a.py\n```\n```output\n3\n```", "A"),
        ("```text\n3\n```", None),
        ("```cpp\nint main() {}\n```", None),
        ("```python\nA\n```\n```python\n>>> f(1)\n2\n```", "A"),
        ('```python\ns = """\n```\nx\n```\n"""\n```\ntext', 's = """\n```\nx\n```\n"""'),
        ('```python\ns = """open\n```\ntext', 's = """open'),
        ("```python\nA  # it's '''\n```\n```\nB\n```", "A  # it's '''"),
    ],
)
def test_extract(answer, program):
    assert extract(answer) == program


FUNCTION, STDIN = problem(entry="f", tests=[]), problem(tests=[])


@pytest.mark.parametrize(
    ("task", "blocks", "program"),
    [
        (FUNCTION, ["def f(x): return 1", "def f(x): return 2", "print(f(1))"], "1"),
        (FUNCTION, ["f = lambda x: 1", "assert f(1) == 1"], "0"),
        (FUNCTION, ["async def f(x): 1", "def f_test(): f(2)\nf_test()"], "0"),
        (FUNCTION, ["x = 1", "# def f(x)\nprint(2)"], "1"),
        (FUNCTION, ["import math\ndef g(x): return 1", "def f(x): return g(x)"], "0 1"),
        (FUNCTION, ["def f(x): return g(x)", "@cache\ndef g(x): return 1", "f(2)"], "1 0"),
        (FUNCTION, ["def h(x): 1", "def g(x): h(x)", "def f(x): return g(x)"], "0 1 2"),
        (FUNCTION, ["def g(x): 1", "def g(x): 2", "def f(x): return g(x)"], "1 2"),
        (FUNCTION, ["mod = 7", "def f(x): return x % mod"], "0 1"),
        (FUNCTION, ["def f(n): return n", "n = f(5)\nprint(n)"], "0"),
        (STDIN, ["import sys\ninput = sys.stdin.readline", "print(input())"], "0 1"),
        (FUNCTION, ["M = 7", "def f(x): return x % M", "print(M)"], "0 1"),
        (FUNCTION, ["def g(x): 1\nprint(g(1))", "def f(x): return g(x)"], "1"),
        (FUNCTION, ["def g(x): 1", "def f(x): return x  # not g(x)"], "1"),
        (FUNCTION, ["def f(x): return math.pi", "import math\nprint(f(1))"], "0"),
        (problem(entry="Solution.f", tests=[]), ["def f(a): 1", "print(f(1))"], "0"),
        (problem(entry="Solution.f", tests=[]), ["class Solution:\n  1", "Solution().f(1)"], "0"),
        (STDIN, ["print(input())", "print('1 gives', 1)"], "0"),
        (STDIN, ["import sys\nprint(sys.stdin.read())", "print('input')  # stdin"], "0"),
        (STDIN, ["print(open(0).read())", "import sys, io\nsys.stdin = io.StringIO('')"], "0"),
        (STDIN, ["print(input())", "print(int(input()))"], "1"),
        (STDIN, ["def main(): print(input())", "if __name__ == '__main__':\n    main()"], "0 1"),
        (STDIN, ["import sys\ndef main(): sys.stdin.read()\nmain()", "main_2()"], "0"),
        (STDIN, ["print(1)", "print(2)"], "1"),
        (STDIN, ["def g(x): return 1", "print(g(input()))", "print(2)"], "0 1"),
    ],
)
def test_which_blocks_are_the_program(task, blocks, program):
    answer = "\n".join(f"Then\n```python\n{block}\n```\n" for block in blocks)
    wanted = "\n\n".join(blocks[int(i)] for i in program.split())
    assert extract(answer, task) == wanted


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
        ({"61"}, {"set": [{"bytes": "61"}]}, 0, False),
        ({(1, 2)}, {"set": [{"set": [1, 2]}]}, 0, False),
        ({10**5000}, {"set": [{"int": hex(10**5000)}]}, 0, True),
        ({}, {"set": []}, 0, False),
        (0.1 + 0.2, 0.3, 0, False),
        (0.1 + 0.2, 0.3, 1e-9, True),
        (1.0, float("nan"), 1e-9, False),
        (1.0, 10**400, 1e-9, False),
        (None, {"set": []}, 0, False),
        (None, {"complex": [0, 0]}, 0, False),
        ([1 / 3], [0.3333333], 1e-6, True),
        (0.5, [0.5], 1e-6, False),
        (2, 2.0, 1e-6, True),
        (2, 2.0000001, 1e-6, True),
        (10**16, 1e16 + 2, 1e-6, False),
        (50000000000000001, 5e16, 1e-6, False),
        (1000000, 1000001, 1e-6, False),
        (10**30, 10**30 + 1, 1e-6, False),
        ([10**5000], [{"int": hex(10**5000)}], 0, True),
        (1e30, 10**30, 1e-6, True),
        (1.0, {"int": "0x" + "f" * 10**6}, 1e-6, False),
        ("1", 1, 1e-6, False),
        (1, "1", 1e-6, False),
        ("0.5", "0.50", 1e-6, False),
        (None, 0, 1e-6, False),
        (0, None, 1e-6, False),
        (float("inf"), float("inf"), 1e-6, True),
        (float("nan"), float("nan"), 1e-6, False),
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
        ("1", "1.0", 0, False),
        ("1", "1.0", 1e-6, True),
        ("0.333333333333", "0.3333333", 1e-6, True),
        ("1000001", "1000000", 1e-6, False),
        ("50000000000000001", "5e16", 1e-6, False),
        ("1" * 40, "1" * 39 + "2", 1e-6, False),
        ("0.5", "1 2", 1e-6, False),
        ("1\n2", "1 2", 1e-6, False),
        ("0011", "11", 1e-6, False),
        ("1", "True", 1e-6, False),
        ("1", "\u0661", 1e-6, False),
        ("nan", "inf", 1e-6, False),
        ("1.5", "1e999999999999999999999", 1e-6, False),
        ("3\n", "3\r\n", 0, True),
        ("a\u2028b", "a\nb", 0, False),
        ("a\u2028b", "a b", 0, False),
        ("a\x0bb\x0cc\x1cd\x85e", "a\x0bb\x0cc\x1cd\x85e", 0, True),
        ("a b", "a\u3000b", 0, False),
    ],
)
def test_same_output(expected, printed, tolerance, equal):
    assert same_output(expected, printed, tolerance) is equal


SORTS = "def f(a):\n    a.sort()\n    return a"
STACK = (
    "class Stack:\n"
    "    def __init__(self, *items): self.items = list(items)\n"
    "    def push(self, item): self.items.append(item)\n"
    "    @property\n"
    "    def top(self): return self.items[-1]\n"
)
RAISES = "class Bad(ValueError): pass\ndef f(x): raise Bad('no', x)"


@needs_isolation
def test_assertions_see_what_the_program_does():
    cases = [
        # in place: the arguments are those of the caller
        ("a = [3, 1, 2]\nf(a)\nassert a == [3, 1, 2]", SORTS, "wrong"),
        ("a = [3, 1, 2]\nf(a)\nassert a == [1, 2, 3]", SORTS, "correct"),
        ("a = [3, 1, 2]\nassert f(a=a) is a and a == [1, 2, 3]", SORTS, "correct"),
        ("a = [3, 1, 2]\nassert f(a) is not a", SORTS, "wrong"),
        ("x = [3]\na = [x, [1]]\nf(a)\nassert a[1] is x and x == [3]", SORTS, "correct"),
        ("d = {'a': {1}}\nf(d)\nassert d == {'a': {1, 2}}", "def f(d): d['a'].add(2)", "correct"),
        ("s = {1}\nassert f(s) == (None, {1, 2}), s", "def f(s): return s.add(2), s", "correct"),
        ("a = []\na.append(a)\nassert f(a)", "def f(a): return a[0] is a", "correct"),
        # how it is called
        (
            "assert f(1, b=2) == 3 and f(*[1], **{'b': 1}) == 2",
            "def f(a, b): return a + b",
            "correct",
        ),
        ("assert f(1) == 3", "def f(a, b=2): return a + b", "correct"),
        ("assert f(operation=1, self=2) == 3", "def f(operation, self): return 3", "correct"),
        ("assert f(1, c=2) == 3", "def f(a, b=2): return a + b", "wrong"),
        (
            "for x, y in [(1, 1), (2, 4)]:\n    assert candidate(x) == y",
            "f = lambda x: x * x",
            "correct",
        ),
        (
            "assert g(f(1)) == 1 and LIMIT == 3",
            "LIMIT = 3\nf = str\ndef g(x): return int(x)",
            "correct",
        ),
        (
            "assert abs(f(1) - 1 / 3) < 1e-6\nassert math.isclose(f(1), 1 / 3)",
            "def f(x): return x / 3",
            "correct",
        ),
        ("assert f(float('inf')) != f(float('nan'))", "def f(x): return x", "correct"),
        ("assert f(10 ** 5000) == 10 ** 5000 + 1", "def f(x): return x + 1", "correct"),
        (
            "assert f(b'a') == (b'a', 1j, frozenset({1}))",
            "def f(x): return x, 1j, frozenset({1})",
            "correct",
        ),
        # what the program keeps
        ("assert list(f(3)) == [0, 1, 2]", "def f(n): yield from range(n)", "correct"),
        (
            "g = f()\nassert [next(g), next(g)] == [0, 1]",
            "def f():\n    n = 0\n    while True: yield n; n += 1",
            "correct",
        ),
        ("assert f(1)(2) == 3", "def f(x): return lambda y: x + y", "correct"),
        ("s = Stack(1)\ns.push(2)\nassert s.top == 2 and s.items == [1, 2]", STACK, "correct"),
        (
            "s = Stack(1)\ns.items = [5]\nassert s.top == 5 and Stack().items == []",
            STACK,
            "correct",
        ),
        # exceptions
        (
            "try:\n    f(1)\n    assert 0\nexcept ValueError as e:\n    assert e.args == ('no', 1)",
            RAISES,
            "correct",
        ),
        ("try:\n    f(1)\nexcept KeyError:\n    pass", RAISES, "wrong"),
        ("for x in map(f, [1, 2]):\n    assert x == 1", "def f(x): raise StopIteration", "wrong"),
        ("f(1)", "def f(x): raise SystemExit(0)", "wrong"),
        ("f(1)", "import os\ndef f(x): os._exit(0)", "wrong"),
        (
            "try:\n    f(1)\nexcept BaseException:\n    pass",
            "import os\ndef f(x): os._exit(0)",
            "wrong",
        ),
        # whose failure it is
        ("assert f(1) == 1", "def g(x): return x", "wrong"),
        ("assert f(1) == 1", "def f(x): return y", "wrong"),
        ("assert f(1) == 1 and helper(1)", "def f(x): return x", "error"),
        ("import nowhere", "def f(x): return x", "error"),
        ("assert f(lambda: 1) == 1", "def f(g): return g()", "error"),
        ("assert f(1) == 2, f(1)", "def f(x): return 'a\\nNameError: b'", "wrong"),
        ("assert eval(f(1)) == 2", "def f(x): return '1 +'", "wrong"),
        ("assert eval(f(1)) == 2", "def f(x): return 'nothing'", "wrong"),
        ("f(1)", "def f(x): raise SyntaxError('mine')", "wrong"),
        ("f(1)\nassert f(1) == 1", "def f(x): del globals()['f']", "wrong"),
        ("assert f(1", "def f(x): return x", "error"),
    ]
    entries = ["Stack" if program == STACK else "f" for _, program, _ in cases]
    jobs = [
        (problem(entry=entry, assertions=text), program)
        for entry, (text, program, _) in zip(entries, cases, strict=True)
    ]
    for case, decision in zip(cases, grade_programs(jobs, QUIET), strict=True):
        assert decision.verdict == case[2], (case, decision)


@needs_isolation
def test_the_candidate_of_assertions_may_be_a_method():
    method = "class Solution:\n    def f(self, n): return n + 1"
    for entry in ("Solution.f", "Solution().f"):
        for function in ("candidate", "Solution().f"):
            text = f"def check(f):\n    assert f(n=1) == 2\ncheck({function})"
            pair = problem(entry=entry, assertions=text), method
            assert grade_programs([pair], QUIET) == [CORRECT]
    module = problem(entry="queue", assertions="assert queue(1) == 1 and math.pi > 3")
    assert grade_programs([(module, "def queue(x): return x")], QUIET) == [CORRECT]
    nameless = problem(assertions="assert f(1) == g(1) == 2")
    blocks = (
        "```python\ndef g(n): return 2\ndef f(n): return g(n)\n```\n```python\nprint(f(1))\n```"
    )
    assert grade_programs([(nameless, extract(blocks, nameless))], QUIET) == [CORRECT]
    ((verdict, reason, _),) = grade_programs([(nameless, "def g(n): return 2")], QUIET)
    assert (verdict, reason) == ("wrong", "NameError: the program has no 'f'")


@needs_isolation
def test_draws_of_the_assertions_are_the_same_each_time():
    drawn = (
        "import random\nfor _ in range(300):\n    x = random.random()\n    assert f(x) == x + 1\n"
    )
    last = "assert f(random.random()) < {}"
    above = problem(entry="f", assertions=drawn + last.format(1.5))
    below = problem(entry="f", assertions=drawn + last.format(1.5).replace("<", ">="))
    jobs = [(each, "def f(x): return x + 1") for each in (above, above, below, below)]
    verdicts = [verdict for verdict, *_ in grade_programs(jobs, QUIET)]
    assert sorted(map(set, (verdicts[:2], verdicts[2:])), key=str) == [{"correct"}, {"wrong"}]


def lcb(tests, **row):
    """A row of LiveCodeBench as a problem."""
    row = {"difficulty": "easy", "contest_date": "2025-01-01T00:00:00", "starter_code": ""} | row
    row |= {"question_content": "?", "private_test_cases": "[]"}
    row["metadata"] = json.dumps({"func_name": "f"})
    tests = [dict(zip(("input", "output"), test, strict=True)) for test in tests]
    question = SETS["livecodebench"].read(row | {"public_test_cases": json.dumps(tests)})
    return problem(**question.meta)


SOLUTION = "class Solution:\n    def f(self, a{}): return {}"


@needs_isolation
def test_livecodebench_has_its_own_environment():
    cases = [
        ("3 5 7", "5", "print(pow(*map(int, input().split())))", "correct"),
        ("10 20", "1" + "0" * 20, "print(pow(*map(int, input().split())))", "correct"),
        ("2", "1", "print(int(input()) / 2)", "correct"),
        ("3", "0.333333333333", "print('%.7f' % (1 / int(input())))", "correct"),
        ("5000", "5000", "def g(n): return n and 1 + g(n - 1)\nprint(g(int(input())))", "correct"),
        ("5000", "1" + "0" * 5000, "print(10 ** int(input()))", "correct"),
        ("1" * 5000, "1", "print(int(input()) % 10)", "correct"),
        ("", "[1]", "'Solve'\nfrom __future__ import annotations\nprint(deepcopy([1]))", "correct"),
        ("", "1 2", "print(*sorted({1, 2}), sep=' ' if __name__ == '__main__' else '')", "correct"),
        ("", "3", "print(accumulate and bisect_left([1, 2, 3], 4)); heapq.heapify([])", "correct"),
        ("[1]", "[1]", SOLUTION.format("", "deepcopy(a)"), "correct"),
        ("3\n5\n7", "5", SOLUTION.format(", b, c", "pow(a, b, c)"), "correct"),
        ('["a\u2028b"]', '"a\u2028b"', SOLUTION.format("", "a[0]"), "correct"),
        ("1", "[0.3333333333]", SOLUTION.format("", "(1 / 3,)"), "correct"),
        ("1", "[0.3333333333]", SOLUTION.format("", "[0.333]"), "wrong"),
        ("1", "[5]", SOLUTION.format("", "set([5])"), "wrong"),
        ("1", "[5]", "def f(a): return [5 * a]", "correct"),
        ("1", "[5]", "class Solution:\n    pass\ndef f(a): return [5]", "wrong"),
    ]
    jobs = [
        (lcb([case[:2]], starter_code="" if "print" in case[2] else "class Solution"), case[2])
        for case in cases
    ]
    for case, decision in zip(cases, grade_programs(jobs, QUIET), strict=True):
        assert decision.verdict == case[3], (case, decision)


@needs_isolation
def test_a_program_of_the_user_has_plain_python():
    cases = [
        ("print(3)\nexit()", "correct"),
        ("print(3)\nquit(0)\nprint(4)", "correct"),
        ("print(3)\nimport sys\nsys.exit()", "correct"),
        ("print(3)\nexit('done')", "wrong"),
        ("print(3)\nexit(2)", "wrong"),
        ("print(3)\nassert all(map(callable, (help, copyright, credits, license)))", "correct"),
        ("from __future__ import annotations\nprint(3)", "correct"),
        ("print(3)\ndeepcopy", "wrong"),
        ("import random\nprint(3 if random.random() == 0.8444218515250481 else 4)", "correct"),
    ]
    three = problem(tests=[{"input": "", "output": "3"}])
    jobs = [(three, program) for program, _ in cases]
    for case, decision in zip(cases, grade_programs(jobs, QUIET), strict=True):
        assert decision.verdict == case[1], (case, decision)
    early = [(DOUBLE, "def f(x): exit(0)"), (DOUBLE, "def f(x): return 2 * x\nexit()")]
    assert [verdict for verdict, *_ in grade_programs(early, QUIET)] == ["wrong", "wrong"]


@needs_isolation
@pytest.mark.parametrize("isolation", sandbox.ISOLATIONS)
def test_packages_are_those_of_the_list(isolation):
    numpy = "import numpy as np\nprint(np.__name__, (np.ones((200, 200)) @ np.ones(200)).sum())"
    jobs = [
        (problem(tests=[{"input": "", "output": "numpy 40000.0"}]), numpy),
        (problem(tests=[{"input": "", "output": ""}]), "import pandas"),
        (DOUBLE, "import numpy as np\ndef f(x): return np.int64(2 * x)"),
        (
            problem(entry="f", assertions="assert f(3) == 3 and f(1) == 1.0"),
            "import numpy as np\ndef f(x): return np.float32(x) if x < 2 else np.int8(x)",
        ),
    ]
    settings = Settings(options=Grading(isolation=isolation, packages=["numpy"]), progress=False)
    verdicts = [verdict for verdict, *_ in grade_programs(jobs, settings)]
    assert verdicts == ["correct", "wrong", "correct", "correct"]
    without = Settings(options=Grading(isolation=isolation), progress=False)
    assert {verdict for verdict, *_ in grade_programs(jobs, without)} == {"wrong"}


@needs_isolation
def test_packages_leave_the_limits_as_they_are():
    with sandbox.Sandbox(packages=("numpy",)) as box:
        memory = box.run("import numpy\nnumpy.ones(10**9)")
        assert memory.outcome == "memory" or b"MemoryError" in memory.stderr
        assert box.run("import numpy\nwhile True: numpy.ones(9)", limits=Limits(1)).outcome == "cpu"
        writes = box.run("import numpy\nopen(numpy.__file__, 'a')")
        assert b"Read-only" in writes.stderr or b"Permission" in writes.stderr


def test_a_package_that_is_not_installed_is_told_before_anything_runs(monkeypatch):
    monkeypatch.setattr(code, "grade_programs", lambda *_: pytest.fail("ran"))
    frame = pd.DataFrame({"problem_id": ["p"], "text": [ADD], "finish_reason": "stop"})
    with pytest.raises(ParameterError, match=r"grading\.packages: no package 'nunpy'.*numpy"):
        grade(frame, [SUM], Grading(packages=["nunpy"]))
