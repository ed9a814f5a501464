"""The prompts that questions are asked with, the question inside a prompt, and its variants: does a
student answer them as well?
"""

import random
from dataclasses import replace
from pathlib import Path

from ded.files import read_yaml
from ded.problems.record import Problem

_WORDS = read_yaml(Path(__file__).with_name("prompts.yml"))
TEMPLATES: dict[str, str] = _WORDS["templates"]
PERTURBATIONS = ("preamble", "polite", "quoted")


def render(template: str, question: str) -> str:
    """The prompt that asks `question` with one of `TEMPLATES`."""
    return f"{question}\n\n{TEMPLATES[template]}"


def listing(options: list[str]) -> str:
    """Options as lettered lines below a question."""
    return "\n" + "".join(f"\n{chr(65 + i)}) {option}" for i, option in enumerate(options))


def question_of(problem: Problem) -> str:
    """The question inside a problem's prompt, without its template."""
    template = TEMPLATES.get(problem.meta.get("template", ""), "")
    return problem.prompt.removesuffix(f"\n\n{template}") if template else problem.prompt


def perturb(problem: Problem, name: str, seed: int = 0) -> Problem:
    """An answer-preserving variant; ValueError for one that is not among `PERTURBATIONS`.

    preamble: an irrelevant sentence before the prompt; polite: a closing after it; quoted: the
    question as a quotation.
    """
    prompt, question = problem.prompt, question_of(problem)
    if name == "preamble":
        opening = random.Random(f"{name} {seed} {problem.id}").choice(_WORDS["openings"])
        prompt = f"{opening}\n\n{prompt}"
    elif name == "polite":
        prompt = f"{prompt}\n\nThank you very much for your help."
    elif name == "quoted":
        lines = "\n".join(f"> {line}".rstrip() for line in question.splitlines())
        prompt = prompt.replace(question, f"Here is the task:\n\n{lines}", 1)
    else:
        raise ValueError(f"unknown perturbation {name!r}; known: {', '.join(PERTURBATIONS)}")
    return replace(problem, id=f"{problem.id}~{name}{seed or ''}", prompt=prompt)
