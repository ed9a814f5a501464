"""The prompts that questions are asked with, and the question inside a prompt."""

from __future__ import annotations

from ded.problems.record import Problem

_CODE = "Reason first, then give the whole code in one ```python block."
# one a kind of question: what follows it in the prompt; a problem's meta["template"] names its own
TEMPLATES = {
    "math": "Reason step by step, and give the final answer in \\boxed{}.",
    "choice": "Reason step by step, and give the letter of the right option in \\boxed{}.",
    "gym": ("Reason step by step, and give the final answer alone between <answer> and </answer>."),
    "stdin": f"Solve this in Python 3: read standard input, write standard output. {_CODE}",
    "files": f"Solve this in Python 3: read input.txt, write output.txt. {_CODE}",
    "function": f"Solve this in Python 3, with the names asked for. {_CODE}",
}


def render(template: str, question: str) -> str:
    """The prompt that asks `question` with one of `TEMPLATES`."""
    return f"{question}\n\n{TEMPLATES[template]}"


def listing(options: list[str]) -> str:
    """Options as lettered lines below a question."""
    return "\n" + "".join(f"\n{chr(65 + i)}) {option}" for i, option in enumerate(options))


def question_of(problem: Problem) -> str:
    """The question inside a problem's prompt, without its template."""
    template = problem.meta.get("template")
    if template not in TEMPLATES:
        return problem.prompt
    return problem.prompt.removesuffix(f"\n\n{TEMPLATES[template]}")
