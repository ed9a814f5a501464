"""Grading: trajectories in, the same table with a verdict, the answer and the reason out.

A verdict is one of `VERDICTS`:

- ``correct`` and ``wrong``: decided;
- ``unparsed``: no answer was found, or none that the rules can read;
- ``truncated``: the model ran out of tokens (finish_reason ``length``), whatever the text holds;
- ``error``: the *grader* could not decide (a time-out, no isolation to run code in). Never counted as wrong.

Grading is a stage of its own: it reads stored trajectories, draws nothing at random, and returns the same verdicts at
any number of workers, so it can be rerun after the fact. `VERSION` changes when verdicts may change and belongs into
store keys. The rules of equality and the limits of the sandbox are written down in ``docs/grading.md``.
"""

from __future__ import annotations

from functools import partial

from . import rules

VERSION = 2
VERDICTS = ("correct", "wrong", "unparsed", "truncated", "error")
KINDS = ("exact", "choice", "math", "code", "gym")


def answer_part(text) -> tuple[str | None, str]:
    """The answer of a completion and, where there is none, the reason: ``(answer, reason)``.

    The answer is the text after the last ``</think>``, or the whole text where no think block is closed. A ``<think>``
    that never closes leaves no answer: what follows it is still thinking.
    """
    if not isinstance(text, str):
        return None, "no text"
    head, closed, tail = text.rpartition("</think>")
    if "<think>" in tail:
        return None, "a think block never closes"
    tail = tail.strip()
    return (
        (tail, "")
        if tail
        else (None, "no answer after the think block" if closed else "empty completion")
    )


def exact(answer: str, gold: str) -> tuple[str, str]:
    """Equality of two texts up to white space: ``(verdict, reason)``."""
    return ("correct", "") if answer.split() == gold.split() else ("wrong", "differs")


def grade(
    trajectories,
    problems,
    *,
    workers: int = 1,
    isolation: str = "bubblewrap",
    limits=None,
    judge=None,
    progress: bool = True,
    seen=None,
):
    """Grade a table of trajectories.

    trajectories: DataFrame with at least ``problem_id``, ``text`` and ``finish_reason`` ("stop" or "length").
    problems: the `ded.problems.Problem` records that the rows refer to; ``kind`` chooses the rule (one of `KINDS`).
    workers: processes for math, sandboxes side by side for code; verdicts do not depend on it.
    isolation: "bubblewrap", or by name the weaker "rlimits" (see `ded.grading.sandbox`); code is not run, and its rows
        end as *error*, where the machine cannot isolate as asked.
    limits: a `ded.grading.sandbox.Limits` for code; None means its defaults, and a problem's own limits come first.
    judge: None (off), or a callable from prompt to reply as made by `ded.grading.judge.endpoint`; asked about
        *unparsed* rows only, and never about code.

    seen: None, or the file in which verdicts on programs are kept and looked up, so that each distinct program runs once.

    Returns a copy with the columns ``verdict`` (one of `VERDICTS`), ``answer`` (what was extracted, None if nothing
    was) and ``reason`` ("" where the verdict says it all). Raises ValueError for a row whose problem is unknown, or an
    unknown kind.
    """
    by_id = {problem.id: problem for problem in problems}
    missing = sorted(set(trajectories["problem_id"]) - set(by_id))
    if missing:
        raise ValueError(
            f"{len(missing)} problem ids are not among the problems, such as {missing[0]!r}"
        )
    unknown = sorted({problem.kind for problem in by_id.values()} - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kind of problem {unknown[0]!r}; known are {', '.join(KINDS)}")

    rows, pending = [], {}
    columns = (trajectories["problem_id"], trajectories["text"], trajectories["finish_reason"])
    for problem_id, text, finish in zip(*(column.tolist() for column in columns), strict=True):
        problem = by_id[problem_id]
        answer, reason = answer_part(text)
        if finish == "length":
            row = ("truncated", answer, "ran out of tokens")
        elif answer is None:
            row = ("unparsed", None, reason)
        elif problem.meta.get("prose"):
            row = ("unparsed", answer, "the reference is prose: a judge's to decide")
        elif problem.kind in ("exact", "choice"):
            answer = (
                answer
                if problem.kind == "exact"
                else rules.choice(answer, problem.meta.get("options"))
            )
            verdict, reason = exact(answer, problem.answer) if answer else ("unparsed", "no choice")
            row = (verdict, answer, reason)
        else:
            found = _extract(answer, problem)
            row = (
                None
                if found
                else (
                    "unparsed",
                    None,
                    "no program" if problem.kind == "code" else "no final answer",
                )
            )
            if found:  # each distinct answer to a problem is graded once
                pending.setdefault(problem.kind, {}).setdefault((problem_id, found), []).append(
                    len(rows)
                )
        rows.append(row)

    for kind, jobs in pending.items():
        pairs = [(by_id[problem_id], found) for problem_id, found in jobs]
        if kind == "code":
            from . import seen as programs
            from .code import grade_programs

            run = partial(
                grade_programs,
                workers=workers,
                isolation=isolation,
                limits=limits,
                progress=progress and not seen,
            )
            verdicts = (
                programs.grade(pairs, run, seen, VERSION, isolation, limits) if seen else run(pairs)
            )
        else:
            from .pool import grade_answers

            verdicts = grade_answers(pairs, workers=workers, progress=progress)
        for (verdict, reason), ((_, found), positions) in zip(verdicts, jobs.items(), strict=True):
            for position in positions:
                rows[position] = (verdict, found, reason)

    if judge:
        from .judge import decide_all

        texts = trajectories["text"].tolist()
        asked = {}
        for position, (verdict, _, _) in enumerate(rows):
            answer = answer_part(texts[position])[0]
            problem = by_id[columns[0].iloc[position]]
            if verdict == "unparsed" and answer and problem.kind != "code":
                asked.setdefault((problem.id, answer), []).append(position)
        decisions = decide_all(judge, [(by_id[name], answer) for name, answer in asked], workers)
        for (verdict, reason), positions in zip(decisions, asked.values(), strict=True):
            for position in positions:
                rows[position] = (verdict, rows[position][1], f"{rows[position][2]}; {reason}")

    graded = trajectories.copy()
    for position, name in enumerate(("verdict", "answer", "reason")):
        graded[name] = [row[position] for row in rows]
    return graded


def _extract(answer: str, problem) -> str | None:
    if problem.kind == "math":
        return rules.extract(answer, problem.meta.get("last_number", False))
    from . import code, gym

    return (gym if problem.kind == "gym" else code).extract(answer)


def counts(graded, by: list[str] | None = None):
    """How often each verdict occurs: a DataFrame, one column a verdict (all five), a row for each group of `by`."""
    import pandas as pd

    keys = (
        [graded[name] for name in by] if by else [pd.Series("all", index=graded.index, name="rows")]
    )
    table = pd.crosstab(keys, graded["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    return table.rename_axis(columns=None)
