"""Final answers: where they stand in a text, and one form for what differs in typography only
(docs/grading.md).

Plain text work: nothing is evaluated. Hendrycks et al. 2021 is the source of the form of the golds.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

from ded.files import read_yaml

LONGEST = 2000  # characters of a final answer; no task asks for more, and parsers fear it
_MOST_MATCHES = 49  # looked at from the end: bounds against texts full of boxes that never close


# --- extraction -----------------------------------------------------------------------------------
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_PHRASE = re.compile(
    r"(?:\banswer\b[^\n.:=]{0,60}?(?:\bis\b(?:\s*:)?|:|=)|^\s*#{4})[ \t*_]*(.*)", re.I | re.M
)
_NUMBER = re.compile(r"(?<![\w.])-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?%?")
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$((?:\\\$|[^$])+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def extract(text: str, last_number: bool = False) -> str | None:
    """The final answer in a text, None if there is none.

    In this order: the last box; what follows the last final-answer phrase ("the answer is",
    "Answer:", "####"); a text that is nothing but one formula or number; and, where the task allows
    `last_number`, the last number in the text.
    """
    answer = last_box(text) or _after_phrase(text) or _whole(text)
    return answer or (_last_number(text) if last_number else None)


def last_box(text: str) -> str | None:
    """The content of the last `\\boxed{...}` whose braces close."""
    for box in _last_matches(_BOX, text):
        depth = 1
        for position in range(box.end(), min(len(text), box.end() + 2 * LONGEST)):
            if text[position - 1] != "\\":
                depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[box.end() : position].strip() or None
    return None


def _last_matches(pattern: re.Pattern, text: str) -> list[re.Match]:
    return list(pattern.finditer(text))[: -_MOST_MATCHES - 1 : -1]


def _after_phrase(text: str) -> str | None:
    """What follows the last final-answer phrase: a formula, else the rest of the sentence."""
    for phrase in _last_matches(_PHRASE, text):
        rest = text[phrase.start(1) : phrase.start(1) + 2 * LONGEST].strip(" \n*_")
        formula = _FORMULA.search(rest)
        if formula and re.fullmatch(r"[\s*_:,a-zA-Z]{0,20}", rest[: formula.start()]):
            rest = _inside(formula)
        else:
            line = rest.partition("\n")[0]
            rest = re.split(r"(?<!\d)\.\s|\.$|\. (?=[A-Z])", line)[0]
        if rest.strip(" *_$."):
            return rest.strip(" \n*_")
    return None


def _whole(text: str) -> str | None:
    """A text that is nothing but one formula (without its delimiters) or one number."""
    text = text.strip(" \n*_.")
    if len(text) > LONGEST:
        return None
    if formula := _FORMULA.fullmatch(text):
        return _inside(formula).strip()
    is_number = "\n" not in text and number(normalise(text)) is not None
    return text if is_number else None


def _last_number(text: str) -> str | None:
    numbers = [match for match in _NUMBER.findall(text) if re.search(r"\d", match)]
    return numbers[-1] if numbers else None


def _inside(formula: re.Match) -> str:
    """What stands between the delimiters of a match of _FORMULA."""
    return next(filter(None, formula.groups()))


# --- normal form ----------------------------------------------------------------------------------
_ONE_LARGE_NUMBER = re.compile(r"[^\d(\[{]*\d{1,3}(?:[ ,]\d{3})+(?![\d,])[^(\[{]*")


@cache
def _typography() -> list[tuple[re.Pattern, str]]:
    patterns = read_yaml(Path(__file__).with_name("typography.yml"))["patterns"]
    return [(re.compile(pattern), replacement) for pattern, replacement in patterns]


def normalise(text: str) -> str:
    """One form for what differs in typography only: delimiters, \\dfrac, Unicode, spacing,
    thousands separators.
    """
    text = text.strip(" \n*")
    for _ in range(3):  # nested delimiters
        if formula := _FORMULA.fullmatch(text):
            text = _inside(formula).strip()
        elif box := _BOX.match(text) and last_box(text):
            text = box
    for pattern, replacement in _typography():
        text = pattern.sub(replacement, text)
    text = text.strip()
    if not text.endswith("\\."):
        text = text.rstrip(".,;:").strip()
    if _ONE_LARGE_NUMBER.fullmatch(text):  # 1,234 outside brackets is one number
        text = re.sub(r"(?<=\d)[ ,](?=\d{3}(?!\d))", "", text)
    return text


# --- plain numbers --------------------------------------------------------------------------------
def _repeating(whole: str, once: str, period: str) -> Fraction:
    """The value of whole.once(period)(period)..., such as 0.2333... for ("0", "2", "3")."""
    repeated = Fraction(int(period), 10 ** len(period) - 1)
    return (int(f"{whole or 0}{once}") + repeated) / 10 ** len(once)


def _mixed(whole: str, *parts: str | None) -> Fraction:
    """The value of a fraction, with a whole number before it or without; of `parts`, two are its
    top and bottom.
    """
    top, bottom = (int(part) for part in parts if part)
    return int(whole or 0) + Fraction(top, bottom)


def _power_of_ten(*parts: str | None) -> Fraction:
    factor, exponent = (part for part in parts if part)
    return Fraction(factor) * Fraction(10) ** int(exponent)


_DECIMAL = r"(\d+\.?\d*|\.\d+)"
_FRACTION = r"\\frac(?:\{(\d+)\}\{(\d+)\}|(\d)(\d)|(\d)\{(\d+)\}|\{(\d+)\}(\d))"
_TIMES_TEN = r"(?:\\times|\\cdot|\*|x)10\^\{?(-?\d{1,3})\}?"
_PLAIN_NUMBERS: list[tuple[re.Pattern, Callable[..., Fraction]]] = [
    (re.compile(_DECIMAL), Fraction),
    (re.compile(r"(\d*)\.(\d*)\\overline\{?(\d+)\}?"), _repeating),
    (re.compile(rf"(\d*) ?(?:{_FRACTION}|(?<=\d )(\d+)/(\d+))"), _mixed),
    (re.compile(f"{_DECIMAL}/{_DECIMAL}"), lambda top, bottom: Fraction(top) / Fraction(bottom)),
    (re.compile(rf"{_DECIMAL}{_TIMES_TEN}|{_DECIMAL}[eE]([+-]?\d{{1,3}})"), _power_of_ten),
]


def number(text: str) -> Fraction | None:
    """The exact value of a plain number, None for all else.

    Integers, decimals (also 0.\\overline{3}), fractions, mixed numbers and powers of ten, with or
    without a sign.
    """
    # "2 1/3" is a mixed number: its space says something
    text = text.strip() if re.search(r"\d \d", text) else text.replace(" ", "")
    sign = -1 if text.startswith("-") else 1
    if text[:1] in "+-" and text[1:2] not in "+-":
        text = text.lstrip("+-")
    if len(text) > 400:
        return None
    for pattern, value in _PLAIN_NUMBERS:
        if match := pattern.fullmatch(text):
            try:
                return sign * value(*match.groups())
            except (ZeroDivisionError, ValueError):
                return None
    return None
