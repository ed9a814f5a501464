"""Multiple choice: which option a completion chooses (docs/grading.md)."""

import re
import string

from ded.grading.rules import words_of
from ded.grading.units import WRAPPER
from ded.problems.answers import half_width, normalise
from ded.problems.extraction import pattern, statements
from ded.problems.record import Problem


def extract(text: str, problem: Problem) -> str | None:
    """The letter (A to Z) of the option that a text chooses, None if it chooses none, or several.

    The last statement about options counts, which names one by its letter or, where
    ``meta["options"]`` holds the options' texts, by its text; without one, the first or last line.
    """
    options = [words_of(normalise(str(option))) for option in problem.meta.get("options") or []]
    text = half_width(text)
    for statement in statements(text, "choice"):
        choice = "" if statement.text is None else _option(statement.text, options)
        if choice is not None:
            return choice or None
    lines = text.strip().split("\n")
    choices = {_option(line, options) for line in (lines[0], lines[-1])} - {None}
    return choices.pop() or None if len(choices) == 1 else None


def _option(text: str, options: list[str]) -> str | None:
    """The letter of the option that is named; "" if several are, or expressly none; None if the
    text is not about options.
    """
    while (bare := WRAPPER.sub(r"\1", text)) != text:
        text = bare
    text = re.sub(r"\\boxed|\\[ ,;]", " ", text).strip(" \n*_$.{}#<>'\"\\")
    words = words_of(normalise(text))
    letters = string.ascii_uppercase[: len(options) or None]
    if len(words) > 1 and options.count(words) == 1:
        return letters[options.index(words)]
    text = pattern("before_option").sub("", text, count=1)
    if pattern("several").match(text):
        return ""
    if match := pattern("chosen").match(text):
        letter = next(filter(None, match.groups())).upper()
        return letter if letter in letters else None
    return "" if pattern("abstains").search(text) else None


def unlabelled(gold: str, answer: str) -> tuple[str, str]:
    """Gold and answer without the letters of options before them: of "(C) 12", the letter is
    compared with a letter, the value with a value.
    """
    if not re.search(r"[A-J]\s*[).:]", gold + answer):
        return gold, answer
    (letter, value), (other, given) = _label(gold), _label(answer)
    if letter and other and (letter != other or not (value and given)):
        return letter, other
    return (value, given) if value and given else (gold, answer)


def _label(text: str) -> tuple[str, str]:
    """(the letter of an option, the value after it) of a text; "" for what it does not have."""
    plain = WRAPPER.sub(r"\1", normalise(text)).strip() if len(text) <= 200 else ""
    label = pattern("labelled").fullmatch(plain)
    return (label[1] or label[2] or label[4], label[3] or "") if label else ("", text)
