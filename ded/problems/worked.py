"""Worked solutions by rule: the traces of `recorded:worked#<style>`, for questions of reasoning-gym's chain_sum.

No model wrote them: each is made from the question's own terms, and is the same for the same style, question and sample index. The
styles differ as teachers differ, in order, terseness, redundancy, checks and mistakes.
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
    "wordy": "terms in random order, random words around each step, sometimes a check: samples of a question differ",
    "bare": "the result and no work",
    "careless": "as terse, with a slip in a fifth of the traces",
}
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
    """The trajectory, with its think block and <answer>; None for a question that no rule here knows."""
    entry = problem.meta.get("entry", {}).get("metadata", {})
    if problem.meta.get("task") != "chain_sum" or not re.fullmatch(
        r"-?\d+( [-+] \d+)*", entry.get("expression", "")
    ):
        return None
    terms = [
        int(sign + digits) for sign, digits in re.findall(r"([-+]?)\s*(\d+)", entry["expression"])
    ]
    rng = random.Random(f"{style} {problem.id} {index}")
    if style == "wordy":
        terms = rng.sample(terms, len(terms))
    slip = (
        rng.randrange(1, len(terms))
        if style == "careless" and len(terms) > 1 and rng.random() < 0.2
        else 0
    )
    total, steps, back = terms[0], [], []
    for i, term in enumerate(terms[1:], 1):
        after = total + term + (rng.choice((-10, -1, 1, 10)) if i == slip else 0)
        steps.append((total, term, after))
        back.insert(0, (after, -term, total))
        total = after
    shown = [_fact(*step) for step in steps]
    if style == "tens":
        shown = [_by_tens(*step) for step in steps]
    elif style == "checked":
        shown += ["Check: " + ", ".join(_fact(*step) for step in back) + ". Right."]
    elif style == "bare":
        shown = [f"It is {total}."]
    elif style == "wordy":
        shown = [rng.choice(_OPENINGS).format(entry["expression"])] + [
            rng.choice(_WORDS).format(fact) for fact in shown
        ]
        shown += ["Let me check: " + ", ".join(_fact(*step) for step in back) + "."] * (
            rng.random() < 0.3
        )
    return "<think>\n{}\n</think>\n<answer>{}</answer>".format("\n".join(shown), total)


def _fact(a: int, b: int, c: int) -> str:
    return f"{a} {'-' if b < 0 else '+'} {abs(b)} = {c}"


def _by_tens(a: int, b: int, c: int) -> str:
    """'34 + 7: 30 + 0 = 30, 4 + 7 = 11, 30 + 11 = 41'; tens and ones bear the sign of their number."""
    tens, ones = (
        [(n // 10 * 10 if n >= 0 else -(-n // 10 * 10)) for n in (a, b)],
        [n % 10 if n >= 0 else -(-n % 10) for n in (a, b)],
    )
    return f"{_fact(a, b, c).partition(' =')[0]}: " + ", ".join(
        (_fact(*tens, sum(tens)), _fact(*ones, sum(ones)), _fact(sum(tens), sum(ones), c))
    )
