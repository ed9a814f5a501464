"""Questions: one record (`Problem`), and every source of them behind one door (docs/sources.md)."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

from ded.errors import SourceError
from ded.problems import files, gym, public
from ded.problems import lab as tasks
from ded.problems.prompts import question_of
from ded.problems.record import SPLITS, Problem, content_hash, draw, fingerprint, split_of
from ded.problems.spec import parse

__all__ = ["SPLITS", "Problem", "SourceError", "content_hash", "draw", "fingerprint", "split_of"]

# --- sources: the grammar is in docs/sources.md, the readers in ded.problems ---------------------------------------------
PERTURBATIONS = ("preamble", "polite", "quoted")  # of text; the lab's sums have their own
_PREAMBLES = (
    "It was raining when this was written down.",
    "My sister found this in an old notebook.",
    "This came up over lunch.",
)


def levels_of(source: str) -> tuple[str, list[int]]:
    """(family, levels) that a lab source names, all levels of the family without any; SourceError where there are none such."""
    family, slash, levels = parse(source).name.partition("/")
    known = tasks.LEVELS.get(family)
    if known is None:
        raise SourceError(f"problem source {source!r}: families are {', '.join(tasks.LEVELS)}")
    found = re.fullmatch(r"(\d+)-(\d+)|(\d+)", levels if slash else f"{known[0]}-{known[-1]}")
    low, high, only = found.groups() if found else (1, 0, None)
    chosen = list(range(int(only or low), int(only or high) + 1))
    if not chosen or set(chosen) - set(known):
        raise SourceError(
            f"problem source {source!r}: levels of {family} lie between {known[0]} and {known[-1]}"
        )
    return family, chosen


def check(source: str) -> None:
    """SourceError where a source cannot be read, as far as can be told without the network."""
    spec = parse(source)
    {
        "lab": lambda: levels_of(source),
        "reasoning_gym": lambda: gym.check(spec),
        "data": lambda: public.check(spec),
        "file": lambda: files.find(spec.file),
    }[spec.kind]()


def load(source: str, n: int, split: str, seed: str) -> list[Problem]:
    """n distinct problems of a source and a split, drawn by `seed`; a longer draw starts with the shorter one.

    Lab families are spread evenly over their levels. Finite sources (data:, file:) give all their problems for n = 0.
    Raises SourceError for a source that cannot be read, lacks the split, or holds fewer than n problems.
    """
    spec = parse(source)
    if spec.kind == "lab":
        from ded.problems import lab as tasks

        return tasks.problems(*levels_of(source), n, split, seed)
    if spec.kind == "reasoning_gym":
        return gym.load(spec, n, split, seed)

    def pick(ids: list[str]) -> list[str]:
        if n > len(ids):
            raise SourceError(
                f"problem source {source!r} holds {len(ids)} questions of split {split!r}, and {n} are asked for; ask for at most {len(ids)}"
            )
        return sorted(ids, key=lambda name: content_hash(f"{seed} {name}"))[: n or None]

    if spec.kind == "data":
        return public.load(source, split, pick, seed)
    found = {problem.id: problem for problem in files.load(spec.file, split)}
    return [found[name] for name in pick(list(found))]


def family_of(source: str) -> str:
    """The name of a source in tables and figures: its family, task, data set, or file."""
    spec = parse(source)
    return Path(spec.file).stem if spec.kind == "file" else spec.name.partition("/")[0]


def procedural(source: str) -> bool:
    """Whether a source makes its questions from a seed: its splits are then apart by content."""
    return source.startswith(("lab:", "reasoning_gym:"))


def checks_steps(source: str) -> bool:
    """Whether `trace` can check the worked solutions of a source's problems."""
    return source.startswith("lab:") and family_of(source) == "sum"


def trace(problem: Problem, think: str) -> tuple | None:
    """The states that a worked solution passes through, None where a step is invalid; SourceError where steps cannot be checked."""
    if "terms" not in problem.meta:
        raise SourceError(f"problem {problem.id!r}: steps can be checked for lab:sum alone")
    return tasks.trace(problem, think)


def perturbations(source: str) -> tuple[str, ...]:
    """The names of the answer-preserving variants that `perturb` makes of a source's problems."""
    return tasks.PERTURBATIONS if checks_steps(source) else PERTURBATIONS


def perturb(problem: Problem, name: str, seed: int = 0) -> Problem:
    """An answer-preserving variant: of a lab sum as `ded.lab.tasks.perturb`; else an irrelevant `preamble` before the text, a
    `polite` closing after it, or the question `quoted`."""
    if "terms" in problem.meta:
        return tasks.perturb(problem, name, seed)
    if name not in PERTURBATIONS:
        raise ValueError(f"unknown perturbation {name!r}; known: {', '.join(PERTURBATIONS)}")
    question, opening = (
        question_of(problem),
        random.Random(f"{name} {seed} {problem.id}").choice(_PREAMBLES),
    )
    quoted = "Here is the task:\n\n" + "\n".join(
        f"> {line}".rstrip() for line in question.splitlines()
    )
    prompt = {
        "preamble": f"{opening}\n\n{problem.prompt}",
        "polite": f"{problem.prompt}\n\nThank you very much for your help.",
        "quoted": problem.prompt.replace(question, quoted, 1),
    }[name]
    return replace(problem, id=f"{problem.id}~{name}{seed or ''}", prompt=prompt)
