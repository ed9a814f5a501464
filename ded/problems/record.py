"""One record for every question, whatever its source, and the split it belongs to.

A `Problem` knows its text, its reference answer and how it is to be graded; it knows no model. The
split of a problem is a property of its content (a hash), so a question can never be in two splits,
whoever generates it and whenever.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ded.errors import SourceError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Problem:
    """One question.

    id: unique and derived from the content; family and level: what sub-group it belongs to; prompt:
    the text shown to the model; answer: the reference answer; kind: how it is graded ("exact",
    "code", "math", "choice", "gym"); meta: what the grader or an analysis needs besides (the terms
    of a sum, the tests of a program, "group": a sub-group, "template": the prompt's, "hide": never
    to be shown in reports); to be changed in a copy only, as the rest.
    """

    id: str
    family: str
    level: int
    prompt: str
    answer: str
    kind: str = "exact"
    meta: dict = field(default_factory=dict, hash=False)

    @classmethod
    def made(
        cls, family: str, level: int, prompt: str, answer: str, kind: str = "exact", **meta: object
    ) -> Problem:
        """A problem with an id made of its family and a hash of its prompt."""
        name = f"{family}:{content_hash(prompt):016x}"
        return cls(name, family, level, prompt, answer, kind, meta)


# the canonical text of a problem, and what builds it, for most are of another split
Candidate = tuple[str, Callable[[], Problem]]


def content_hash(text: str) -> int:
    """A 64-bit hash of `text`, the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(canonical: str) -> str:
    """The split of the problem with this canonical text: train, dev and test are 80, 10, 10 %."""
    bucket = content_hash(canonical) % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def draw(
    make: Callable[[random.Random], Candidate], n: int, split: str, seed: str
) -> list[Problem]:
    """n distinct problems of one split, a pure function of (make, n, split, seed).

    make(rng) returns the next candidate. Those of other splits and repeats are rejected. A longer
    draw with the same seed starts with the shorter one. SourceError when the source runs dry.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    rng, rejected = random.Random(seed), 0
    drawn: dict[str, Problem] = {}
    while len(drawn) < n:
        canonical, build = make(rng)
        if split_of(canonical) == split and (problem := build()).id not in drawn:
            drawn[problem.id] = problem
            continue
        rejected += 1
        if rejected > 1000 + 200 * n:
            fewer = f"found only {len(drawn)} of {n} distinct problems in split {split!r}"
            raise SourceError(f"{fewer} of {build().family!r}: ask for fewer")
    return list(drawn.values())


def chance(questions: Sequence[Problem]) -> float:
    """What guessing scores: one in as many as there are different answers among the questions.

    0 for programs and open answers: where more than half of the answers differ, there is no set of
    them to guess from.
    """
    answers = [question.answer for question in questions if question.kind != "code"]
    different = len(set(answers))
    return 1 / different if 0 < 2 * different <= len(answers) else 0.0


def fingerprint(problems: list[Problem]) -> str:
    """A hash of the content of `problems`, in order: what a stage's key holds for them."""
    return _fingerprint(tuple(problems))


@lru_cache(maxsize=64)  # each model is asked the same questions
def _fingerprint(problems: tuple[Problem, ...]) -> str:
    text = json.dumps([vars(problem) for problem in problems], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
