"""One record for every question, whatever its source, and the split it belongs to.

A `Problem` knows its text, its reference answer and how it is to be graded; it knows no model. The split of a problem is a
property of its content (a hash), so a question can never be in two splits, whoever generates it and whenever.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Problem:
    """One question.

    id: unique and derived from the content; family and level: what sub-group it belongs to; prompt: the text shown to the
    model; answer: the reference answer; kind: how it is graded ("exact", "code", "math", "choice", "gym");
    meta: what the grader or an analysis needs besides (the terms of a sum, the tests of a program, "group": a sub-group, "template":
    the prompt's, "hide": never to be shown in reports).
    """

    id: str
    family: str
    level: int
    prompt: str
    answer: str
    kind: str = "exact"
    meta: dict = field(default_factory=dict)


def content_hash(text: str) -> int:
    """A 64-bit hash of `text`, the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(canonical: str) -> str:
    """The split ("train", "dev" or "test") of the problem with this canonical text: 80, 10 and 10 per cent by hash."""
    bucket = content_hash(canonical) % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def draw(
    make: Callable[[random.Random], tuple[str, Problem]], n: int, split: str, seed: str
) -> list[Problem]:
    """n distinct problems of one split, a pure function of (make, n, split, seed).

    make(rng) returns (canonical text, Problem). Problems of other splits and repeats are rejected. A longer draw with the same
    seed starts with the shorter one. Raises ValueError when the source runs dry.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    rng, seen, problems, rejected = random.Random(seed), set(), [], 0
    while len(problems) < n:
        canonical, problem = make(rng)
        if problem.id in seen or split_of(canonical) != split:
            rejected += 1
            if rejected > 1000 + 200 * n:
                raise ValueError(
                    f"found only {len(problems)} of {n} distinct problems in split {split!r}"
                )
            continue
        seen.add(problem.id)
        problems.append(problem)
    return problems


class SourceError(ValueError):
    """A problem source that cannot be read; the message says why and how to mend it."""


# --- sources: the grammar is in docs/sources.md, the readers in ded.sources ---------------------------------------------
PERTURBATIONS = ("preamble", "polite", "quoted")  # of text; the lab's sums have their own
_PREAMBLES = (
    "It was raining when this was written down.",
    "My sister found this in an old notebook.",
    "This came up over lunch.",
)


def levels_of(source: str) -> tuple[str, list[int]]:
    """(family, levels) that a lab source names, all levels of the family without any; SourceError where there are none such."""
    from ded.lab import tasks
    from ded.sources import parse

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
    from ded.sources import files, gym, parse, public

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
    from ded.sources import files, gym, parse, public

    spec = parse(source)
    if spec.kind == "lab":
        from ded.lab import tasks

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
    from ded.sources import parse

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
    from ded.lab import tasks

    if "terms" not in problem.meta:
        raise SourceError(f"problem {problem.id!r}: steps can be checked for lab:sum alone")
    return tasks.trace(problem, think)


def perturbations(source: str) -> tuple[str, ...]:
    """The names of the answer-preserving variants that `perturb` makes of a source's problems."""
    from ded.lab import tasks

    return tasks.PERTURBATIONS if checks_steps(source) else PERTURBATIONS


def perturb(problem: Problem, name: str, seed: int = 0) -> Problem:
    """An answer-preserving variant: of a lab sum as `ded.lab.tasks.perturb`; else an irrelevant `preamble` before the text, a
    `polite` closing after it, or the question `quoted`."""
    from ded.lab import tasks
    from ded.sources import question_of

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


def fingerprint(problems: list[Problem]) -> str:
    """A hash of the content of `problems`, in order: what a stage's key holds for them."""
    text = json.dumps([vars(p) for p in problems], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
