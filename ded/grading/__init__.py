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

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ded import generation, spent, store
from ded.errors import no_such
from ded.grading import choice, code, gym, math, packages, rules
from ded.grading.decision import VERDICTS, VERSION, Decision, Grader, Pair, Settings
from ded.grading.judge import decide_all
from ded.options import Grading
from ded.problems import texts
from ded.problems.record import Problem

GRADERS: dict[str, Grader] = {  # by the kind of a problem
    "exact": Grader(lambda text, problem: text, rules.same_text),
    "choice": Grader(choice.extract, rules.same_text, absent="no choice"),
    "math": Grader(math.extract, math.grade_answers, rule=lambda _: "math-verify"),
    "code": Grader(code.extract, code.grade_programs, "no program", judged=False, rule=code.rule),
    "gym": Grader(gym.extract, gym.decide),
}

PENDING = Decision("error", "not graded")
JUDGE = "judge"  # the rule of what a judge decided


@dataclass
class _Row:
    """A trajectory on its way: what follows its thinking, the final answer in it, and the decision
    once it is made.
    """

    problem: Problem
    text: str | None
    answer: str | None
    decision: Decision


@spent.on("grade")
def grade(
    trajectories: pd.DataFrame,
    problems: Iterable[Problem],
    options: Grading = Grading(),
    **settings: Any,
) -> pd.DataFrame:
    """Grade a table of trajectories.

    trajectories: at least the columns ``problem_id``, ``text`` and ``finish_reason`` ("stop" or
        "length").
    problems: those that the rows refer to; ``kind`` chooses the grader (one of `GRADERS`).
    options: the parameter `grading`. A judge is asked about *unparsed* rows only, and never about
        code.
    settings: further fields of `Settings`: workers, limits, progress.

    Returns a copy with the columns ``verdict`` (one of `VERDICTS`), ``answer`` (what was extracted,
    None if nothing was), ``reason`` ("" where the verdict says it all) and ``rule`` (which of the
    rules decided, or "judge"; "" where there was nothing to decide). Raises
    ValueError for a row whose problem is unknown, or an unknown kind; EngineError or ModelError
    where the model that is to judge cannot be asked.
    """
    how = Settings(options=options, **settings)
    packages.places(tuple(options.packages))  # a name that is wrong is told before anything runs
    by_id = {problem.id: problem for problem in problems}
    for name in sorted(set(trajectories["problem_id"]) - set(by_id)):
        raise ValueError(f"no problem {name!r} among the problems: give all that the rows refer to")
    for kind in sorted({problem.kind for problem in by_id.values()} - set(GRADERS)):
        raise ValueError(no_such("kind of problem", kind, GRADERS))
    columns = [trajectories[name].tolist() for name in ("problem_id", "text", "finish_reason")]
    rows = [_read(by_id[name], text, finish) for name, text, finish in zip(*columns, strict=True)]

    for kind, grader in GRADERS.items():
        pending = [row for row in rows if row.decision is PENDING and row.problem.kind == kind]
        pairs = [(row.problem, row.answer or "") for row in pending]
        for row, decision in zip(pending, _once(grader.decide, pairs, how), strict=True):
            row.decision = decision._replace(rule=decision.rule or grader.rule(row.problem))
    if options.judge:
        pending = [row for row in rows if row.decision.verdict == "unparsed" and row.text]
        pending = [row for row in pending if GRADERS[row.problem.kind].judged]
        pairs = [(row.problem, row.text or "") for row in pending]
        judged = _once(decide_all, pairs, options)
        for row, decision in zip(pending, judged, strict=True):
            rule = JUDGE if decision.verdict != "unparsed" else row.decision.rule
            reason = f"{row.decision.reason}; {decision.reason}"
            row.decision = Decision(decision.verdict, reason, rule)

    return trajectories.assign(
        verdict=[row.decision.verdict for row in rows],
        answer=[row.answer for row in rows],
        reason=[row.decision.reason for row in rows],
        rule=[row.decision.rule for row in rows],
    )


def stored(key: str, graded: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of this key, from the store or else from `graded()`; it is stored unless a verdict
    is *error*, which may be the machine's fault and is tried again.
    """
    if store.has(key):
        return store.read_table(key)
    table = graded()
    return table if (table["verdict"] == "error").any() else store.table(key, lambda: table)


def identity(options: Grading) -> list:
    """What, besides trajectories and problems, decides a verdict: for the keys of later stages."""
    changed = options.model_dump(exclude={"isolation", "judge_engine"})
    if options.judge:
        changed["judge"] = generation.identity(options.judge, options.judge_engine)
    return [VERSION, options.isolation, *([changed] if changed else [])]


def answer_part(text: Any) -> tuple[str | None, str]:
    """The answer of a completion and, where there is none, the reason: ``(answer, reason)``.

    The answer is what follows the thinking (`texts.split`), or the whole text where no think block
    is closed. A ``<think>`` that never closes leaves no answer: what follows it is still thinking.
    """
    if not isinstance(text, str):
        return None, "no text"
    thinking, answer, _ = texts.split(text)
    if answer is None:
        return None, "a think block never closes"
    if not answer:
        return None, "empty completion" if thinking is None else "no answer after the think block"
    return answer, ""


def _read(problem: Problem, completion: Any, finish_reason: str) -> _Row:
    """The row of a trajectory, decided where no grader is needed."""
    text, reason = answer_part(completion)
    grader = GRADERS[problem.kind]
    answer, decision = text, PENDING
    if finish_reason == "length":
        decision = Decision("truncated", "ran out of tokens")
    elif text is None:
        decision = Decision("unparsed", reason)
    elif problem.meta.get("prose"):
        decision = Decision("unparsed", "the reference is prose: a judge's to decide")
    elif (answer := grader.extract(text, problem)) is None:
        decision = Decision("unparsed", grader.absent)
    return _Row(problem, text, answer, decision)


def _once(decide: Callable[..., list[Decision]], pairs: list[Pair], *how: Any) -> list[Decision]:
    """decide(pairs, *how), where what is alike is decided once."""
    alike = {(problem.id, text): (problem, text) for problem, text in pairs}
    decisions = decide(list(alike.values()), *how) if alike else []
    by_pair = dict(zip(alike, decisions, strict=True))
    return [by_pair[problem.id, text] for problem, text in pairs]
