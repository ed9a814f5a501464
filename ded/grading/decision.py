"""What every grader takes and gives: (problem, answer) pairs in, one `Decision` on each out."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from ded import progress
from ded.grading.sandbox import Limits
from ded.options import Grading
from ded.problems.record import Problem

VERSION = 3
VERDICTS = ("correct", "wrong", "unparsed", "truncated", "error")


class Decision(NamedTuple):
    """One of `VERDICTS`, the reason where the verdict does not say it all, and the rule that made
    it, "" where it does not know.
    """

    verdict: str
    reason: str = ""
    rule: str = ""


CORRECT = Decision("correct")
DIFFERS = Decision("wrong", "differs")
Pair = tuple[Problem, str]  # and the final answer to it


@dataclass(frozen=True)
class Settings:
    """How to grade.

    workers: processes for math, sandboxes side by side for code; verdicts do not depend on it.
    options: the parameter `grading`; code is not run, and its rows end as *error*, where the
        machine cannot isolate as it asks.
    limits: of code, None for the defaults; a problem's own limits come first.
    progress: whether to show progress bars.
    """

    workers: int = 1
    options: Grading = Grading()
    limits: Limits | None = None
    progress: bool = True


@dataclass(frozen=True)
class Grader:
    """How one kind of problem is graded.

    extract: (what follows the thinking, problem) -> the final answer in it, None without one.
    decide: decisions on (problem, final answer) pairs, in order.
    absent: the reason of *unparsed* where there is no final answer. judged: whether a judge may be
    asked. rule: what decides on a problem's answers where the decision does not say.
    """

    extract: Callable[[str, Problem], str | None]
    decide: Callable[[list[Pair], Settings], list[Decision]]
    absent: str = "no final answer"
    judged: bool = True
    rule: Callable[[Problem], str] = lambda problem: problem.kind


def mapped(executor: Executor, function: Callable, jobs: list, title: str, show: bool) -> list:
    """[function(job) for job in jobs], side by side and with a progress bar; after a failure or an
    interrupt no further job is begun.
    """
    results: Any = executor.map(function, jobs)  # a generator
    with closing(results):  # which cancels what waits
        shown = {"desc": f"grading {title}", "unit": "answer", "disable": not show}
        return list(progress.bar(results, total=len(jobs), delay=2, **shown))
