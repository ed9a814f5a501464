"""Answer-preserving variants of a question's text: does a student answer them as well?"""

from __future__ import annotations

import random
from dataclasses import replace

from ded.problems.prompts import question_of
from ded.problems.record import Problem

PERTURBATIONS = ("preamble", "polite", "quoted")
_PREAMBLES = (
    "It was raining when this was written down.",
    "My sister found this in an old notebook.",
    "This came up over lunch.",
)


def perturb(problem: Problem, name: str, seed: int = 0) -> Problem:
    """The variant `name`; ValueError for one that is not among `PERTURBATIONS`.

    preamble: an irrelevant sentence before the prompt; polite: a closing after it; quoted: the
    question as a quotation.
    """
    match name:
        case "preamble":
            opening = random.Random(f"{name} {seed} {problem.id}").choice(_PREAMBLES)
            prompt = f"{opening}\n\n{problem.prompt}"
        case "polite":
            prompt = f"{problem.prompt}\n\nThank you very much for your help."
        case "quoted":
            question = question_of(problem)
            lines = "\n".join(f"> {line}".rstrip() for line in question.splitlines())
            prompt = problem.prompt.replace(question, f"Here is the task:\n\n{lines}", 1)
        case _:
            names = ", ".join(PERTURBATIONS)
            raise ValueError(f"unknown perturbation {name!r}; known: {names}")
    return replace(problem, id=f"{problem.id}~{name}{seed or ''}", prompt=prompt)
