"""The prompts that questions are asked with, the question inside a prompt, and its variants: does a
student answer them as well?
"""

import random
from dataclasses import replace

from ded.files import beside
from ded.problems.record import Problem

_WORDS = beside(__file__, "prompts.yml")
TEMPLATES: dict[str, str] = _WORDS["templates"]
PERTURBATIONS = ("preamble", "polite", "quoted")


def worded(kind: str, question: str, meta: dict) -> tuple[str, dict]:
    """(the prompt that asks a question in the template of its kind, the meta that names that).

    A choice has its options below it; for code the template says how the program is tested; a kind
    without a template is asked as it stands.
    """
    template = kind
    if kind == "choice":
        listing = (f"\n{chr(65 + i)}) {option}" for i, option in enumerate(meta["options"]))
        question = f"{question}\n{''.join(listing)}"
    elif kind == "code":
        template = "files" if meta.get("input_mode") == "file" else "stdin"
        template = "function" if meta.keys() & {"entry", "assertions"} else template
    if template not in TEMPLATES:
        return question, meta
    return f"{question}\n\n{TEMPLATES[template]}", meta | {"template": template}


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
