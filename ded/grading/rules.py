"""When two final answers are equal.

Decided here, exactly and without evaluating anything, as far as structure, plain numbers, units,
percent, bases, intervals and lists go; what remains are single expressions, which go to math-verify
(`ded.grading.math`). The rules are written down in docs/grading.md; Hendrycks et al. 2021 is the
source of the form of the golds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ded.grading import units
from ded.grading.decision import CORRECT, DIFFERS, Decision, Pair, Settings
from ded.problems.answers import normalise, number

# (gold, answer, tolerance) -> whether expressions are equal
Leaf = Callable[[str, str, float], bool]


class Unreadable(ValueError):
    """The rules cannot read this answer."""


def decide(
    gold: str, answer: str, leaf: Leaf, tolerance: float = 0.0, percent_is_unit: bool = False
) -> Decision:
    """*correct* where `answer` is equal to `gold` by the rules of docs/grading.md, *wrong* where it
    is not, *unparsed* if the answer cannot be read.

    leaf: decides on two expressions that are neither plain numbers nor equal texts. tolerance: by
    how much numbers may differ, absolute or relative to the gold. percent_is_unit: whether a
    percent sign may be left out, as units may.
    """
    try:
        equal = _Comparison(leaf, tolerance, percent_is_unit).equal(
            normalise(gold), normalise(answer)
        )
    except Unreadable as reason:
        return Decision("unparsed", str(reason))
    return CORRECT if equal else DIFFERS


@dataclass(frozen=True)
class _Comparison:
    """In this order: the same text, words, matrices, equations, lists, then single values."""

    leaf: Leaf
    tolerance: float
    percent_is_unit: bool

    def equal(self, gold: str, answer: str) -> bool:
        if _without_spaces(gold) == _without_spaces(answer):
            return True
        if _is_words(gold):
            return words_of(gold) == words_of(answer)
        if _matrix(gold) or _matrix(answer):
            return self.matrices(_matrix(gold) or [], _matrix(answer) or [])
        gold, answer = _as_interval(gold), _as_interval(answer)
        if sides := _right_sides(gold, answer):
            return self.equal(*sides)
        collections = _Collection(gold), _Collection(answer)
        if any(each.brackets or len(each.items) > 1 for each in collections):
            return self.collections(*collections)
        return self.values(gold, answer)

    def all_equal(self, golds: list[str], answers: list[str]) -> bool:
        return len(golds) == len(answers) and all(map(self.equal, golds, answers))

    def matrices(self, gold: list[list[str]], answer: list[list[str]]) -> bool:
        same_shape = [len(row) for row in gold] == [len(row) for row in answer]
        return same_shape and all(map(self.all_equal, gold, answer))

    def collections(self, gold: _Collection, answer: _Collection) -> bool:
        """Tuples and intervals element by element with their brackets; sets and bare lists in any
        order.
        """
        if gold.ordered or answer.ordered:
            if gold.brackets and answer.brackets and gold.brackets != answer.brackets:
                return False  # an interval is not a point, nor a set
            return self.all_equal(gold.items, answer.items)
        if len(gold.items) == len(answer.items) == 1:
            inner = gold.without_brackets, answer.without_brackets
            if inner == (gold.text, answer.text):
                raise Unreadable("brackets")
            return self.equal(*inner)
        unmatched = list(answer.items)
        for item in gold.items:
            match = next((other for other in unmatched if self.equal(item, other)), None)
            if match is None:
                return False
            unmatched.remove(match)
        return not unmatched

    def values(self, gold: str, answer: str) -> bool:
        """Units and percent signs, bases, then numbers, words and, for all else, `leaf`."""
        first, second = units.quantity(gold), units.quantity(answer)
        if first.percent != second.percent and not self.percent_is_unit:
            return False
        if not units.agree(first.unit, second.unit):
            return False
        gold, answer = first.value, second.value
        if r"\pi" in gold + answer:  # degrees against radians
            if first.unit == units.DEGREE and second.unit is None:
                gold = rf"({gold}) \pi / 180"
            if second.unit == units.DEGREE and first.unit is None:
                answer = rf"({answer}) \pi / 180"
        (gold, base), (answer, other_base) = _base(gold), _base(answer)
        if base or other_base:
            return base == other_base and gold.upper() == answer.upper()
        if _without_spaces(gold) == _without_spaces(answer):
            return True
        if ":" in gold + answer:  # times and ratios: as written
            return False
        true, given = number(gold), number(answer)
        if true is not None and given is not None:
            return abs(true - given) <= Fraction(self.tolerance) * max(Fraction(1), abs(true))
        if _is_words(answer):
            if words_of(gold) == words_of(answer):
                return True
            raise Unreadable(f"words, not mathematics: {answer[:60]!r}")
        return self.leaf(gold, answer, self.tolerance)


# --- words ----------------------------------------------------------------------------------------
def same_text(pairs: list[Pair], settings: Settings) -> list[Decision]:
    """Equality of two texts up to white space."""
    same = (answer.split() == problem.answer.split() for problem, answer in pairs)
    return [CORRECT if is_same else DIFFERS for is_same in same]


def words_of(text: str) -> str:
    """Words without typography, capital letters and articles."""
    text = units.WRAPPER.sub(r"\1", text)
    text = re.sub(r"[\s\\$*_.,;:!?'\"{}()]+", " ", text).casefold().strip()
    return re.sub(r"\b(?:the|a|an) ", "", text)


def _is_words(text: str) -> bool:
    """Whether this is words rather than mathematics: \\text{...} around letters, or bare words."""
    bare = units.WRAPPER.sub("", text).strip(" ().")
    if not bare:
        return bool(units.WRAPPER.search(text))
    return bool(re.fullmatch(r"[A-Za-z][a-z']+(?:[ -][A-Za-z0-9,']+)*", bare))


def _without_spaces(text: str) -> str:
    """Without spaces, but those between digits: 2 3 is not 23."""
    return re.sub(r"(?<!\d) +| +(?!\d)", "", text)


# --- structure ------------------------------------------------------------------------------------
_OPEN, _CLOSE = "([{", ")]}"
_LIST = r",|;|\\text\s*\{\s*,?\s*(?:and|or)\s*\}|\b(?:and|or)\b|\\(?:cup|lor|vee)(?![a-z])"
_MATRIX = r"\\begin\{([pb]?matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\1\}"
_RELATION = re.compile(r"\\le(?![a-z])|\\ge(?![a-z])|<|>")
_ALL_REALS = re.compile(r"\\mathbb ?\{?R\}?|ℝ|(?:\\text\{)?all real numbers\}?")
_LETTER = re.compile(r"[a-zA-Z]|\\theta|\\alpha")
# x, \theta, a_{1}, f(x)
_VARIABLE = re.compile(r"\\?[A-Za-z]\w{0,7}(?:_\{?\w+\}?)?(?:\([^()]*\))?")


def _depths(text: str) -> list[int]:
    """For each character, how many brackets are open around it."""
    depths, depth = [], 0
    for character in text:
        depth -= character in _CLOSE
        depths.append(depth)
        depth += character in _OPEN
    return depths


def _split(text: str, separator: str) -> list[str]:
    """`text` cut where the pattern `separator` matches outside all brackets; empty parts are
    dropped.
    """
    depths, parts, start = [*_depths(text), 0], [], 0
    for match in re.finditer(separator, text):
        if depths[match.start()] == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def _brackets(text: str) -> tuple[str, str]:
    """(the pair of brackets around a whole text, such as "[)", what is inside), or ("", text)."""
    bare = text.replace("\\{", "{").replace("\\}", "}")
    depths = _depths(bare)
    framed = len(bare) > 1 and bare[0] in _OPEN and bare[-1] in _CLOSE
    if not framed or 0 in depths[1:-1] or depths[-1]:
        return "", text
    return bare[0] + bare[-1], bare[1:-1].strip()


class _Collection:
    """A text read as a list.

    brackets, inside: as in `_brackets`. ordered: whether this is a tuple or an interval. items: its
    elements, or those of a bare or braced list, every plus-minus as two of them.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.brackets, self.inside = _brackets(text)
        elements = _split(self.inside, ",|;")
        self.ordered = self.brackets[:1] in ("(", "[") and len(elements) > 1
        if not self.ordered:
            listed = self.inside if self.brackets[:1] == "{" else text
            elements = [form for item in _split(listed, _LIST) for form in _both_signs(item)]
        self.items = elements
        self.without_brackets = text if self.brackets[:1] == "[" else self.inside


def _both_signs(item: str) -> list[str]:
    """An item as it is; one with a plus-minus as the two that it stands for."""
    if r"\pm" not in item and r"\mp" not in item:
        return [item]
    plus = item.replace(r"\pm", "+").replace(r"\mp", "-").strip()
    minus = item.replace(r"\pm", "-").replace(r"\mp", "+").strip()
    return [plus.removeprefix("+").strip(), minus]


def _matrix(text: str) -> list[list[str]] | None:
    """The cells of a matrix, row by row."""
    match = re.fullmatch(_MATRIX, text.strip("[]() "), re.S)
    rows = re.split(r"\\\\|\\cr", match[2]) if match else []
    return [[cell.strip() for cell in row.split("&")] for row in rows if row.strip()] or None


def _as_interval(text: str) -> str:
    """An inequality in one letter as an interval ("x <= 3" is "(-\\infty,3]", "0 < x < 1" is
    "(0,1)"), as are all reals; other text without an opening "x \\in".
    """
    text = re.sub(r"^\S{1,6} ?\\in(?![a-z])", "", text).strip()
    if _ALL_REALS.fullmatch(text):
        return "(-\\infty,\\infty)"
    parts = [part.strip() for part in _RELATION.split(text)]
    signs = [sign.replace("\\le", "<=").replace("\\ge", ">=") for sign in _RELATION.findall(text)]
    if len(parts) not in (2, 3) or not all(parts) or len({sign[0] for sign in signs}) > 1:
        return text
    if signs[0][0] == ">":
        parts, signs = parts[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    if len(parts) == 2 and _LETTER.fullmatch(parts[0]):
        parts, signs = ["-\\infty", *parts], ["<", *signs]
    elif len(parts) == 2:
        parts, signs = [*parts, "\\infty"], [*signs, "<"]
    if not _LETTER.fullmatch(parts[1]):
        return text
    opening = "[" if signs[0] == "<=" else "("
    closing = "]" if signs[1] == "<=" else ")"
    return f"{opening}{parts[0]},{parts[2]}{closing}"


def _right_sides(gold: str, answer: str) -> tuple[str, str] | None:
    """What is to be compared of equations: the right sides, where only one is an equation or the
    left sides are the same; None where equations are compared whole, or there are none.
    """
    golds, answers = (_split(text, r"(?<![<>!:\\])=") for text in (gold, answer))
    if any(len(_split(text, _LIST)) > 1 for text in (gold, answer)):
        return None
    if len(golds) < 2:
        return (gold, answers[-1]) if len(answers) > 1 else None
    if len(answers) < 2:
        return (golds[-1], answer) if _VARIABLE.fullmatch(golds[0]) else None
    same_left = len(golds) == 2 and golds[0].replace(" ", "") == answers[0].replace(" ", "")
    return (golds[-1], answers[-1]) if same_left else None


# --- values ---------------------------------------------------------------------------------------
_NUMERALS = "zero one two three four five six seven eight nine ten eleven twelve"
_WITH_BASE = re.compile(r"(-?[0-9][0-9A-Za-z]*) ?_ ?\{?(\d+|\\?[a-z]*\{?\s*[a-z]+\}?)\}?")


def _base(text: str) -> tuple[str, str]:
    """(digits, base) of a number with a base subscript; base "" without one, and for base ten."""
    match = _WITH_BASE.fullmatch(text)
    if not match:
        return text, ""
    base = units.WRAPPER.sub(r"\1", match[2]).strip(" {}")
    numerals = _NUMERALS.split()
    base = str(numerals.index(base)) if base in numerals else base
    return match[1], "" if base == "10" else base
