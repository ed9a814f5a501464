"""The prompts that questions are asked with, and the question inside a prompt."""

from __future__ import annotations

from ded.problems.record import Problem

_CODE = "Reason first, then give the whole code in one ```python block."
TEMPLATES = {  # one a kind of question; a problem's meta["template"] names its own
    "math": "{question}\n\nReason step by step, and give the final answer in \\boxed{}.",
    "choice": "{question}\n\nReason step by step, and give the letter of the right option in \\boxed{}.",
    "gym": "{question}\n\nReason step by step, and give the final answer alone between <answer> and </answer>.",
    "stdin": "{question}\n\nSolve this in Python 3: read standard input, write standard output. "
    + _CODE,
    "files": "{question}\n\nSolve this in Python 3: read input.txt, write output.txt. " + _CODE,
    "function": "{question}\n\nSolve this in Python 3, with the names asked for. " + _CODE,
}


def render(template: str, question: str) -> str:
    """The prompt that asks `question` with one of `TEMPLATES`."""
    return TEMPLATES[template].replace("{question}", question, 1)


def question_of(problem: Problem) -> str:
    """The question inside a problem's prompt, without its template."""
    head, _, tail = TEMPLATES.get(problem.meta.get("template"), "{question}").partition(
        "{question}"
    )
    return problem.prompt.removeprefix(head).removesuffix(tail)
