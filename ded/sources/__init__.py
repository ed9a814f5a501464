"""Where questions come from: the grammar of all sources (docs/sources.md) and the prompts that they are asked with.

`ded.problems` is the door: nothing else imports from here.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from ded.problems import Problem, SourceError

FORMS = {
    "lab": "lab:<family>[/<from>-<to>]",
    "reasoning_gym": "reasoning_gym:<task>[?{setting: value}]",
    "data": "data:<name>[@<local file>][?{option: value}]",
    "file": "file:<path>",
}
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


class Spec(NamedTuple):
    """A parsed source; file is "" and options is {} where none are given."""

    kind: str
    name: str
    file: str
    options: dict[str, Any]


def parse(source: str) -> Spec:
    """The parts of a source; SourceError for an unknown kind, an empty name, or options that are no mapping."""
    kind, _, rest = source.partition(":")
    form = FORMS.get(kind) or "one of " + ", ".join(FORMS.values())
    name, options = re.fullmatch(r"(.*?)(?:\?(\{.*\}))?", rest, re.DOTALL).groups()
    if kind == "file" and rest:
        return Spec(kind, "", rest, {})
    try:
        options = yaml.safe_load(options) if options else {}
    except yaml.YAMLError:
        raise SourceError(
            f"problem source {source!r}: its options are no YAML mapping; it is written as {form}"
        ) from None
    name, _, file = name.partition("@") if kind == "data" else (name, "", "")
    if (
        kind not in FORMS
        or not name
        or not all(isinstance(key, str) for key in options)
        or (kind == "lab" and options)
    ):
        raise SourceError(f"problem source {source!r}: written as {form}")
    return Spec(kind, name, file, options)


def render(template: str, question: str) -> str:
    """The prompt that asks `question` with one of `TEMPLATES`."""
    return TEMPLATES[template].replace("{question}", question, 1)


def question_of(problem: Problem) -> str:
    """The question inside a problem's prompt, without its template."""
    head, _, tail = TEMPLATES.get(problem.meta.get("template"), "{question}").partition(
        "{question}"
    )
    return problem.prompt.removeprefix(head).removesuffix(tail)
