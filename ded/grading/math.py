"""Math: what text and whole numbers can decide is decided here; other expressions go to worker
processes, where `ded.grading.symbolic` compares them.
"""

import re

from ded.files import beside
from ded.grading import choice, rules
from ded.grading.decision import Decision, Pair, Settings
from ded.grading.pool import decide_all
from ded.problems import answers, extraction
from ded.problems.record import Problem

# a question for a percentage, in English or Chinese
_ASKS_PERCENT = re.compile(
    r"\b(?:what|which|how (?:many|much)|find|calculate|compute|as|in)(?:'s| is| was)?"
    r"(?: an?| the| its| their)?(?: [a-z]+){0,2} per ?cent(?:age)?\b|百分[比数率]|百分之几",
    re.I,
)
# characters of an answer that is looked at here, where no limit of time or memory holds
SHORT = 200


class _NeedsWorker(Exception):
    """Raised where an expression would have to be evaluated."""


def extract(text: str, problem: Problem) -> str | None:
    """The final answer in a text; the last number counts only where ``meta["last_number"]`` says
    so.
    """
    return extraction.extract(text, problem.meta.get("last_number", False))


def grade_answers(pairs: list[Pair], settings: Settings) -> list[Decision]:
    """Decisions on (problem, answer) pairs, in order.

    A problem's ``meta`` may hold ``tolerance``: numbers may differ by it, absolute or relative. A
    comparison that hits its limits of CPU time or memory ends as *error*.
    """
    arguments = []
    for problem, answer in pairs:
        # whether 60 % is 60 here
        is_unit = settings.options.percent == "same" and bool(_ASKS_PERCENT.search(problem.prompt))
        compared = choice.unlabelled(problem.answer, answer)
        arguments.append((*compared, problem.meta.get("tolerance", 0.0), is_unit))
    decisions = [_as_text(*each) for each in arguments]
    undecided = [each for each, made in zip(arguments, decisions, strict=True) if made is None]
    others = iter(decide_all(decide, warm_up, undecided, settings))
    return [decision or next(others) for decision in decisions]


def _as_text(gold: str, answer: str, tolerance: float, percent_is_unit: bool) -> Decision | None:
    """The decision where no expression has to be evaluated, else None."""

    def leaf(*_: object) -> bool:
        raise _NeedsWorker

    if len(answer) > answers.LONGEST:
        return Decision("unparsed", f"a final answer of {len(answer)} characters")
    if len(answer) > SHORT:
        return None
    try:
        return rules.decide(gold, answer, leaf, tolerance, percent_is_unit)
    except (_NeedsWorker, RecursionError):
        return None


# --- in the worker --------------------------------------------------------------------------------
def decide(gold: str, answer: str, tolerance: float, percent_is_unit: bool = False) -> Decision:
    """The decision on an answer by all rules, expressions included."""
    from ded.grading.symbolic import equal

    try:
        decision = rules.decide(gold, answer, equal, tolerance, percent_is_unit)
        return decision._replace(rule="")  # whatever is decided here is math-verify's
    except RecursionError:
        return Decision("unparsed", "brackets nested too deeply")


def warm_up() -> None:
    """Load what is loaded on first use, so that children inherit it."""
    for gold, answer in beside(__file__, "warm_up.yml")["pairs"]:
        decide(gold, answer, 0.0)
