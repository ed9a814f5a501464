"""Math: what text and whole numbers can decide is decided here; other expressions go to worker
processes.
"""

from __future__ import annotations

from typing import Any

from ded.grading import expressions, rules
from ded.grading.decision import Decision, Grader, Pair, Settings
from ded.grading.pool import CPU_SECONDS, Task, decide_all
from ded.problems import answers
from ded.problems.record import Problem

SHORT = (
    200  # characters of an answer that is looked at here, where no limit of time or memory holds
)


class _NeedsWorker(Exception):
    """Raised where an expression would have to be evaluated."""


def extract(text: str, problem: Problem) -> str | None:
    """The final answer in a text; the last number counts only where ``meta["last_number"]`` says
    so.
    """
    return answers.extract(text, problem.meta.get("last_number", False))


def grade_answers(
    pairs: list[Pair], settings: Settings, cpu_seconds: float = CPU_SECONDS
) -> list[Decision]:
    """Decisions on (problem, answer) pairs, in order.

    A problem's ``meta`` may hold ``tolerance``: numbers may differ by it, absolute or relative. A
    comparison that hits its limits of CPU time or memory ends as *error*.
    """
    decisions = [_as_text(*pair) for pair in pairs]
    undecided = [pair for pair, decision in zip(pairs, decisions, strict=True) if decision is None]
    task = Task(expressions.decide, expressions.warm_up, cpu_seconds)
    others = iter(decide_all(task, [_arguments(*pair) for pair in undecided], settings))
    return [decision or next(others) for decision in decisions]


def _arguments(problem: Problem, answer: str) -> dict[str, Any]:
    tolerance = problem.meta.get("tolerance", 0.0)
    return {"gold": problem.answer, "answer": answer, "tolerance": tolerance}


def _as_text(problem: Problem, answer: str) -> Decision | None:
    """The decision where no expression has to be evaluated, else None."""

    def leaf(*_: object) -> bool:
        raise _NeedsWorker

    if len(answer) > answers.LONGEST:
        return Decision("unparsed", f"a final answer of {len(answer)} characters")
    if len(answer) > SHORT:
        return None
    try:
        return rules.decide(leaf=leaf, **_arguments(problem, answer))
    except (_NeedsWorker, RecursionError):
        return None


MATH = Grader(extract, grade_answers)
