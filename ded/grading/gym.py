"""Answers to reasoning-gym tasks, scored by the library's own scorer in a worker process.

Some of those scorers evaluate the answer as Python, so for them an answer that could do more than
compute is not handed over: it ends as *unparsed*.
"""

import inspect
import re
import sys
import unicodedata
from types import ModuleType

from ded.grading.decision import CORRECT, Decision, Pair, Settings
from ded.grading.pool import decide_all
from ded.problems.answers import LONGEST, last_box
from ded.problems.record import Problem

_LEAD = re.compile(
    r"^[\s*_#>]*(?:the\s+|my\s+)?(?:final\s+|correct\s+)?answer(?:\s+is)?\s*[:=]?[\s*_]+"
    r"|^[\s*_#>]*answer[:=]",
    re.I,
)
_EVALUATES = re.compile(r"(?<![\w.])(?:eval|exec)\(|parse_expr\(")
_FUNCTION = re.compile(r"a?(?:sin|cos|tan)|(?:sin|cos|tan)h|sec|csc|cot|exp|log|ln|sqrt|Abs")
_DOES_MORE = re.compile(r"__|[)\]}]\s*\(|\.\s*[^\W\d]|\b(?:lambda|import|for)\b|[@\\]")


def extract(answer: str, problem: Problem | None = None) -> str | None:
    """The final answer of a completion.

    The last <answer> block, else the last box, else the last line that is not empty, without an
    opening such as "Answer:" or "The answer is".
    """
    if blocks := re.findall(r"<answer>(.*?)</answer>", answer, re.DOTALL):
        return blocks[-1].strip() or None
    if box := last_box(answer):
        return box
    line = answer.strip().rpartition("\n")[2].strip()
    return _LEAD.sub("", line).strip("* ") or line or None


def harmless(answer: str) -> bool:
    """Whether Python's or SymPy's evaluation of `answer` can do no more than compute: it calls
    known functions only, reaches no attribute, and gives no function a string (SymPy evaluates
    those too).
    """
    answer = unicodedata.normalize("NFKC", answer)  # as Python reads names
    calls = {name for name in re.findall(r"([^\W\d]\w*)\s*\(", answer) if len(name) > 1}
    string_to_function = re.search(r"['\"]", answer) and "(" in answer
    computes = all(map(_FUNCTION.fullmatch, calls))
    return computes and not string_to_function and not _DOES_MORE.search(answer)


def library() -> ModuleType:
    """reasoning-gym, which takes seconds to import."""
    import reasoning_gym

    return reasoning_gym


def score(task: str, entry: dict, answer: str) -> Decision:
    """The decision on one answer to one entry of a task; a scorer that raises is the caller's
    *error*.
    """
    scorer = library().get_score_answer_fn(task)
    evaluates = _EVALUATES.search(inspect.getsource(sys.modules[type(scorer.__self__).__module__]))
    if len(answer) > (LONGEST if evaluates else 10 * LONGEST):  # a list of moves can be long
        return Decision("unparsed", f"a final answer of {len(answer)} characters")
    if evaluates and not harmless(answer):
        return Decision("unparsed", "the task's scorer would run this answer as code")
    value = scorer(answer=answer, entry=entry)
    return CORRECT if value >= 1.0 else Decision("wrong", f"scored {value:.2g}")


def decide(pairs: list[Pair], settings: Settings) -> list[Decision]:
    """Decisions on (problem, answer) pairs, by the scorer of each problem's task."""
    arguments = [(problem.meta["task"], problem.meta["entry"], text) for problem, text in pairs]
    return decide_all(score, library, arguments, settings)
