"""Worked solutions by rule: the traces of `recorded:worked#<style>`, for questions of
reasoning-gym's chain_sum.

No model wrote them: each is made from the question's own terms, and is the same for the same style,
question and sample index. The styles differ as teachers differ, in order, terseness, redundancy,
checks and mistakes.
"""

from __future__ import annotations

import random
import re

from ded.problems.record import Problem

VERSION = 1
STYLES = {
    "terse": "a step a line, from the left",
    "tens": "each step by its tens and its ones",
    "checked": "a step a line, then the way back as a check",
    "wordy": "terms in random order, random words, sometimes a check: samples of a question differ",
    "bare": "the result and no work",
    "careless": "as terse, with a slip in a fifth of the traces",
}
_SUM = re.compile(r"-?\d+( [-+] \d+)*")
Step = tuple[int, int, int]  # what it starts from, the term, what it comes to
_WORDS = (
    "First, {}.",
    "So {}.",
    "Now {}.",
    "We get {}.",
    "{}.",
    "That gives {}.",
    "Next, {}.",
    "Then {}.",
)
_OPENINGS = (
    "Let me work this out.",
    "I will go step by step.",
    "Okay, a sum.",
    "Let me see.",
    "The terms are {}.",
    "I have to add up {}.",
)


def solve(problem: Problem, style: str, index: int = 0) -> str | None:
    """The trajectory, with its think block and <answer>; None for a question no rule here knows."""
    entry = problem.meta.get("entry", {}).get("metadata", {})
    expression = entry.get("expression", "")
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


def _lines(
    style: str, expression: str, steps: list[Step], total: int, rng: random.Random
) -> list[str]:
    """The work as a style shows it."""
    facts = [_fact(*step) for step in steps]
    back = ", ".join(_fact(after, -term, before) for before, term, after in reversed(steps))
    match style:
        case "tens":
            return [_by_tens(before, term) for before, term, _ in steps]
        case "checked":
            return [*facts, f"Check: {back}. Right."]
        case "bare":
            return [f"It is {total}."]
        case "wordy":
            opening = rng.choice(_OPENINGS).format(expression)
            sentences = [rng.choice(_WORDS).format(fact) for fact in facts]
            check = [f"Let me check: {back}."] if rng.random() < 0.3 else []
            return [opening, *sentences, *check]
        case _:
            return facts


def _fact(before: int, term: int, after: int) -> str:
    return f"{before} {'-' if term < 0 else '+'} {abs(term)} = {after}"


def _by_tens(before: int, term: int) -> str:
    """'34 + 7: 30 + 0 = 30, 4 + 7 = 11, 30 + 11 = 41'; tens and ones bear their number's sign."""
    tens_before, ones_before = _split(before)
    tens_term, ones_term = _split(term)
    tens, ones = tens_before + tens_term, ones_before + ones_term
    separate = f"{_fact(tens_before, tens_term, tens)}, {_fact(ones_before, ones_term, ones)}"
    question = _fact(before, term, before + term).partition(" =")[0]
    return f"{question}: {separate}, {_fact(tens, ones, before + term)}"


def _split(number: int) -> tuple[int, int]:
    """Tens and ones of a number, both with its sign."""
    sign = 1 if number >= 0 else -1
    return sign * (abs(number) // 10 * 10), sign * (abs(number) % 10)
