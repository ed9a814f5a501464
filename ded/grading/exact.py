"""Answers compared as text: the whole of it up to white space, or the letter of a choice."""

from __future__ import annotations

from ded.grading import rules
from ded.grading.decision import CORRECT, DIFFERS, Decision, Grader, Pair, Settings
from ded.problems.record import Problem


def decide(pairs: list[Pair], settings: Settings) -> list[Decision]:
    """Equality of two texts up to white space."""
    return [
        CORRECT if answer.split() == problem.answer.split() else DIFFERS
        for problem, answer in pairs
    ]


def letter(text: str, problem: Problem) -> str | None:
    """The letter that a text chooses; ``meta["options"]`` may hold the options' texts."""
    return rules.choice(text, problem.meta.get("options"))


EXACT = Grader(extract=lambda text, problem: text, decide=decide)
CHOICE = Grader(extract=letter, decide=decide, absent="no choice")
