"""The lab's `code` family: write a Python function from a list of operations; it is graded by
running it.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from typing import NamedTuple

from ded.problems.lab.letters import LETTERS
from ded.problems.record import Problem


class Operation(NamedTuple):
    """An operation with a number: its sign in Python, and what it computes."""

    sign: str
    apply: Callable[[int, int], int]


OPERATIONS = {
    "add": Operation("+", operator.add),
    "subtract": Operation("-", operator.sub),
    "times": Operation("*", operator.mul),
    "modulo": Operation("%", operator.mod),
    "divide": Operation("//", operator.floordiv),
}
ALONE = ("square", "negate")  # operations without a number
# the test inputs: signs, zero, and values that tell // from % and order from order
_ARGUMENTS = (-7, 0, 1, 2, 5, 9, 13, 46)


def make(level: int, rng: random.Random) -> tuple[str, Problem]:
    """(canonical text, a problem of `level` operations)."""
    steps = []
    for _ in range(level):
        name = rng.choice((*OPERATIONS, *ALONE))
        least = 2 if name in ("times", "modulo", "divide") else 1
        steps.append(name if name in ALONE else f"{name} {rng.randrange(least, 10)}")
    prompt = "python " + " , ".join(steps)
    tests = [{"args": [x], "expected": _run(steps, x)} for x in _ARGUMENTS]
    answer = solve(steps, "statements")[1]
    problem = Problem.made(
        "code", level, prompt, answer, "code", entry="f", tests=tests, steps=steps
    )
    return prompt, problem


def solve(steps: list[str], style: str) -> tuple[str, str]:
    """(think text, program) in one of two styles.

    `statements` (x = ... ; x = ...) or `named` (each step into a new name).
    """
    if style == "statements":
        body = [f"x = {_expression(step, 'x')}" for step in steps]
        return " ; ".join(steps), f"def f ( x ) : {' ; '.join(body)} ; return x"
    names = ["x", *LETTERS[: len(steps)]]
    body = [
        f"{new} = {_expression(step, old)}"
        for step, old, new in zip(steps, names[:-1], names[1:], strict=True)
    ]
    return " ; ".join(body), f"def f ( x ) : {' ; '.join(body)} ; return {names[-1]}"


def _expression(step: str, name: str) -> str:
    """The step as Python, of the variable `name`."""
    word, *number = step.split()
    if word == "square":
        return f"{name} * {name}"
    if word == "negate":
        return f"- {name}"
    return f"{name} {OPERATIONS[word].sign} {number[0]}"


def _run(steps: list[str], value: int) -> int:
    for step in steps:
        word, *number = step.split()
        if word == "square":
            value *= value
        elif word == "negate":
            value = -value
        else:
            value = OPERATIONS[word].apply(value, int(number[0]))
    return value
