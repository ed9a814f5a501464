"""The lab's `code` family: write a Python function from a list of operations; it is graded by
running it.
"""

import random
from functools import partial
from itertools import pairwise
from typing import Any

from ded.problems.lab.letters import LETTERS
from ded.problems.record import Candidate, Problem

# operations with a number: their sign in Python
OPERATIONS = {"add": "+", "subtract": "-", "times": "*", "modulo": "%", "divide": "//"}
ALONE = {"square": "{0} * {0}", "negate": "- {0}"}  # operations without one
# the test inputs: signs, zero, and values that tell // from % and order from order
_ARGUMENTS = (-7, 0, 1, 2, 5, 9, 13, 46)


def make(level: int, rng: random.Random) -> Candidate:
    """A problem of `level` operations."""
    steps = []
    for _ in range(level):
        name = rng.choice((*OPERATIONS, *ALONE))
        least = 2 if name in ("times", "modulo", "divide") else 1
        steps.append(name if name in ALONE else f"{name} {rng.randrange(least, 10)}")
    prompt = "python " + " , ".join(steps)
    return prompt, partial(_problem, prompt, steps)


def _problem(prompt: str, steps: list[str]) -> Problem:
    _, answer = solve(steps, "statements")
    scope: dict[str, Any] = {}
    exec(answer, scope)  # our own text: a model's goes to the sandbox
    tests = [{"args": [x], "expected": scope["f"](x)} for x in _ARGUMENTS]
    facts = {"entry": "f", "tests": tests, "steps": steps}
    return Problem.made("code", len(steps), prompt, answer, "code", **facts)


def solve(steps: list[str], style: str) -> tuple[str, str]:
    """(think text, program) in one of two styles.

    `statements` (x = ... ; x = ...) or `named` (each step into a new name).
    """
    named = style == "named"
    names = ["x", *LETTERS[: len(steps)]] if named else ["x"] * (len(steps) + 1)
    renamed = zip(steps, pairwise(names), strict=True)
    body = [f"{new} = {_expression(step, old)}" for step, (old, new) in renamed]
    think = " ; ".join(body if named else steps)
    return think, f"def f ( x ) : {' ; '.join(body)} ; return {names[-1]}"


def slipped(steps: list[str], slip: float, rng: random.Random) -> list[str]:
    """The steps, each with this probability with another number than was asked for."""
    wrong = []
    for step in steps:
        word, *number = step.split()
        if number and rng.random() < slip:
            step = f"{word} {rng.choice([n for n in range(2, 10) if str(n) != number[0]])}"
        wrong.append(step)
    return wrong


def _expression(step: str, name: str) -> str:
    """The step as Python, of the variable `name`."""
    word, *number = step.split()
    if word in ALONE:
        return ALONE[word].format(name)
    return f"{name} {OPERATIONS[word]} {number[0]}"
