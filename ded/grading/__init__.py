"""Grading: trajectories in, the same table with a verdict, the answer and the reason out.

A verdict is one of `VERDICTS`:

- ``correct`` and ``wrong``: decided;
- ``unparsed``: no answer was found, or none that the rules can read;
- ``truncated``: the model ran out of tokens (finish_reason ``length``), whatever the text holds;
- ``error``: the *grader* could not decide (a time-out, no isolation to run code in). Never counted
  as wrong.

Grading is a stage of its own: it reads stored trajectories, draws nothing at random, and returns
the same verdicts at any number of workers, so it can be rerun after the fact. `VERSION` changes
when verdicts may change and belongs into store keys. The rules of equality and the limits of the
sandbox are written down in ``docs/grading.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ded.grading import code, exact, gym, math
from ded.grading.decision import VERDICTS, VERSION, Decision, Grader, Settings
from ded.grading.judge import Judge, decide_all
from ded.problems.record import Problem

if TYPE_CHECKING:
    import pandas as pd

GRADERS: dict[str, Grader] = {  # by the kind of a problem
    "exact": exact.EXACT,
    "choice": exact.CHOICE,
    "math": math.MATH,
    "code": code.CODE,
    "gym": gym.GYM,
}

PENDING = Decision("error", "not graded")


@dataclass
class _Row:
    """A trajectory on its way: what follows its thinking, the final answer in it, and the decision
    once it is made.
    """

    problem: Problem
    text: str | None
    answer: str | None = None
    decision: Decision = PENDING


def grade(
    trajectories: pd.DataFrame,
    problems: Iterable[Problem],
    *,
    judge: Judge | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Grade a table of trajectories.

    trajectories: at least the columns ``problem_id``, ``text`` and ``finish_reason`` ("stop" or
        "length").
    problems: those that the rows refer to; ``kind`` chooses the grader (one of `GRADERS`).
    judge: None (off), or a callable from prompt to reply such as `ded.grading.judge.RemoteJudge`;
        asked about *unparsed* rows only, and never about code.
    settings: fields of `Settings`: workers, isolation, limits, progress, seen.

    Returns a copy with the columns ``verdict`` (one of `VERDICTS`), ``answer`` (what was extracted,
    None if nothing was) and ``reason`` ("" where the verdict says it all). Raises ValueError for a
    row whose problem is unknown, or an unknown kind.
    """
    how = Settings(**settings)
    by_id = {problem.id: problem for problem in problems}
    _check(set(trajectories["problem_id"]), by_id)
    columns = [trajectories[name].tolist() for name in ("problem_id", "text", "finish_reason")]
    rows = [_read(by_id[name], text, finish) for name, text, finish in zip(*columns, strict=True)]

    for kind, grader in GRADERS.items():
        pending = [row for row in rows if row.decision is PENDING and row.problem.kind == kind]
        for row, decision in _decided(pending, "answer", grader.decide, how):
            row.decision = decision
    if judge:
        asked = [row for row in rows if row.decision.verdict == "unparsed" and row.text]
        asked = [row for row in asked if GRADERS[row.problem.kind].judged]
        for row, decision in _decided(asked, "text", decide_all, judge, how.workers):
            reason = f"{row.decision.reason}; {decision.reason}"
            row.decision = Decision(decision.verdict, reason)

    graded = trajectories.copy()
    graded["verdict"] = [row.decision.verdict for row in rows]
    graded["answer"] = [row.answer for row in rows]
    graded["reason"] = [row.decision.reason for row in rows]
    return graded


def answer_part(text: Any) -> tuple[str | None, str]:
    """The answer of a completion and, where there is none, the reason: ``(answer, reason)``.

    The answer is the text after the last ``</think>``, or the whole text where no think block is
    closed. A ``<think>`` that never closes leaves no answer: what follows it is still thinking.
    """
    if not isinstance(text, str):
        return None, "no text"
    _, closed, tail = text.rpartition("</think>")
    if "<think>" in tail:
        return None, "a think block never closes"
    if not tail.strip():
        return None, "no answer after the think block" if closed else "empty completion"
    return tail.strip(), ""


def _check(asked: set[str], by_id: dict[str, Problem]) -> None:
    missing = sorted(asked - set(by_id))
    if missing:
        raise ValueError(
            f"{len(missing)} problem ids are not among the problems, such as {missing[0]!r}"
        )
    unknown = sorted({problem.kind for problem in by_id.values()} - set(GRADERS))
    if unknown:
        kinds = ", ".join(GRADERS)
        raise ValueError(f"unknown kind of problem {unknown[0]!r}; known are {kinds}")


def _read(problem: Problem, completion: Any, finish_reason: str) -> _Row:
    """The row of a trajectory, decided where no grader is needed."""
    text, reason = answer_part(completion)
    if finish_reason == "length":
        return _Row(problem, text, text, Decision("truncated", "ran out of tokens"))
    if text is None:
        return _Row(problem, None, None, Decision("unparsed", reason))
    if problem.meta.get("prose"):
        prose = Decision("unparsed", "the reference is prose: a judge's to decide")
        return _Row(problem, text, text, prose)
    grader = GRADERS[problem.kind]
    answer = grader.extract(text, problem)
    if answer is None:
        return _Row(problem, text, None, Decision("unparsed", grader.absent))
    return _Row(problem, text, answer)


def _decided(
    rows: list[_Row],
    column: Literal["answer", "text"],
    decide: Callable[..., list[Decision]],
    *how: Any,
) -> Iterator[tuple[_Row, Decision]]:
    """Each row and its decision by decide(pairs, *how); what is alike is decided once."""
    alike: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        alike.setdefault((row.problem.id, getattr(row, column)), []).append(row)
    pairs = [(group[0].problem, text) for (_, text), group in alike.items()]
    decisions = decide(pairs, *how) if pairs else []
    for group, decision in zip(alike.values(), decisions, strict=True):
        for row in group:
            yield row, decision
