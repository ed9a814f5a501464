"""Worked solutions by rule: the traces of `recorded:worked#<style>`, for questions of
reasoning-gym's chain_sum.

No model wrote them: each is made from the question's own terms, and is the same for the same style,
question and sample index. The styles differ as teachers differ, in order, terseness, redundancy,
checks and mistakes.
"""

import math
import random
import re

from ded.files import beside
from ded.problems.record import Problem

VERSION = 1
_WORDS = beside(__file__, "worked.yml")
STYLES: dict[str, str] = _WORDS["styles"]
_SUM = re.compile(r"-?\d+( [-+] \d+)*")
Step = tuple[int, int, int]  # what it starts from, the term, what it comes to


def solve(problem: Problem, style: str, index: int = 0) -> str | None:
    """The trajectory, with its think block and <answer>; None for a question no rule here knows."""
    expression = problem.meta.get("entry", {}).get("metadata", {}).get("expression", "")
    if problem.meta.get("task") != "chain_sum" or not _SUM.fullmatch(expression):
        return None
    terms = [int(sign + digits) for sign, digits in re.findall(r"([-+]?)\s*(\d+)", expression)]
    rng = random.Random(f"{style} {problem.id} {index}")
    if style == "wordy":
        terms = rng.sample(terms, len(terms))
    slip = 0  # the step that goes wrong, none for 0
    if style == "careless" and len(terms) > 1 and rng.random() < 0.2:
        slip = rng.randrange(1, len(terms))
    total, steps = terms[0], []
    for i, term in enumerate(terms[1:], 1):
        after = total + term + (rng.choice((-10, -1, 1, 10)) if i == slip else 0)
        steps.append((total, term, after))
        total = after
    lines = "\n".join(_lines(style, expression, steps, total, rng))
    return f"<think>\n{lines}\n</think>\n<answer>{total}</answer>"


def _lines(style: str, asked: str, steps: list[Step], total: int, rng: random.Random) -> list[str]:
    """The work on the sum that is asked for, as a style shows it."""
    facts = [_fact(*step) for step in steps]
    back = ", ".join(_fact(after, -term, before) for before, term, after in reversed(steps))
    if style == "tens":
        return [_by_tens(before, term) for before, term, _ in steps]
    if style == "checked":
        return [*facts, f"Check: {back}. Right."]
    if style == "bare":
        return [f"It is {total}."]
    if style == "wordy":
        opening = rng.choice(_WORDS["openings"]).format(asked)
        sentences = [rng.choice(_WORDS["sentences"]).format(fact) for fact in facts]
        check = [f"Let me check: {back}."] if rng.random() < 0.3 else []
        return [opening, *sentences, *check]
    return facts


def _fact(before: int, term: int, after: int) -> str:
    return f"{before} {'-' if term < 0 else '+'} {abs(term)} = {after}"


def _by_tens(before: int, term: int) -> str:
    """'34 + 7: 30 + 0 = 30, 4 + 7 = 11, 30 + 11 = 41'; tens and ones bear their number's sign."""
    ones_before, ones_term = int(math.fmod(before, 10)), int(math.fmod(term, 10))
    tens_before, tens_term = before - ones_before, term - ones_term
    tens, ones = tens_before + tens_term, ones_before + ones_term
    separate = f"{_fact(tens_before, tens_term, tens)}, {_fact(ones_before, ones_term, ones)}"
    question = _fact(before, term, before + term).partition(" =")[0]
    return f"{question}: {separate}, {_fact(tens, ones, before + term)}"
