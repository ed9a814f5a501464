"""Answers to reasoning-gym tasks, scored by the library's own scorer (in a worker process, see `ded.grading.pool`).

Some of those scorers evaluate the answer as Python, so for them an answer that could do more than compute is not handed
over: it ends as *unparsed*.
"""

from __future__ import annotations

import inspect
import re
import sys
import unicodedata

from ded.problems.answers import LONGEST, last_box

_LEAD = re.compile(
    r"^[\s*_#>]*(?:the\s+|my\s+)?(?:final\s+|correct\s+)?answer(?:\s+is)?\s*[:=]?[\s*_]+|^[\s*_#>]*answer[:=]",
    re.I,
)
_EVALUATES = re.compile(r"(?<![\w.])(?:eval|exec)\(|parse_expr\(")
_FUNCTIONS = set(
    "sin cos tan sec csc cot asin acos atan sinh cosh tanh exp log ln sqrt Abs".split()
)


def extract(answer: str) -> str | None:
    """The final answer of a completion: the last <answer> block, else the last box, else the last line that is not empty,
    without an opening such as "Answer:" or "The answer is"."""
    if blocks := re.findall(r"<answer>(.*?)</answer>", answer, re.DOTALL):
        return blocks[-1].strip() or None
    if box := last_box(answer):
        return box
    line = answer.strip().rpartition("\n")[2].strip()
    return _LEAD.sub("", line).strip("* ") or line or None


def harmless(answer: str) -> bool:
    """Whether Python's or SymPy's evaluation of `answer` can do no more than compute: it calls known functions only, reaches
    no attribute, and gives no function a string (SymPy evaluates those too)."""
    answer = unicodedata.normalize("NFKC", answer)  # as Python reads names
    calls = {name for name in re.findall(r"([^\W\d]\w*)\s*\(", answer) if len(name) > 1}
    worse = r"__|[)\]}]\s*\(|\.\s*[^\W\d]|\b(?:lambda|import|for)\b|[@\\]"
    return (
        calls <= _FUNCTIONS
        and not (re.search(r"['\"]", answer) and "(" in answer)
        and not re.search(worse, answer)
    )


def score(task: str, entry: dict, answer: str) -> tuple[str, str]:
    """(verdict, reason) of one answer to one entry of a task; a scorer that raises is the caller's *error*."""
    import reasoning_gym

    scorer = reasoning_gym.get_score_answer_fn(task)
    evaluates = _EVALUATES.search(inspect.getsource(sys.modules[type(scorer.__self__).__module__]))
    if len(answer) > (LONGEST if evaluates else 10 * LONGEST):  # a list of moves can be long
        return "unparsed", f"a final answer of {len(answer)} characters"
    if evaluates and not harmless(answer):
        return "unparsed", "the task's scorer would run this answer as code"
    value = scorer(answer=answer, entry=entry)
    return ("correct", "") if value >= 1.0 else ("wrong", f"scored {value:.2g}")
