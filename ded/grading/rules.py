"""When two final answers are equal.

Decided here, exactly and without evaluating anything, as far as structure, plain numbers, units,
percent, bases, names and lists go; what remains are expressions and sets of numbers, which go to
`ded.grading.symbolic`. The rules are written down in docs/grading.md; Hendrycks et al. 2021 is the
source of the form of the golds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from ded.grading import structure, units
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
    comparison = _Comparison(leaf, tolerance, percent_is_unit)
    try:
        equal = comparison.equal(normalise(gold), normalise(answer))
        decision = CORRECT if equal else DIFFERS
    except Unreadable as reason:
        decision = Decision("unparsed", str(reason))
    return decision._replace(rule=", ".join(dict.fromkeys(comparison.trail)))


@dataclass(frozen=True)
class _Comparison:
    """In this order: the same text, numbers, sets, figures, named values, equations, words,
    matrices, lists, then single values.
    """

    leaf: Leaf
    tolerance: float
    percent_is_unit: bool
    trail: list[str] = field(default_factory=list)  # the rules that decided, in order

    def by(self, rule: str, equal: bool = True) -> bool:
        """The verdict of a rule, which is noted."""
        self.trail.append(rule)
        return equal

    def equal(self, gold: str, answer: str) -> bool:
        if r"\approx" in gold + answer:
            gold, answer = _version(gold, False), _version(answer, "." in gold)
        if _without_spaces(gold) == _without_spaces(answer):
            return self.by("same text")
        if (decided := self.numbers(gold, answer)) is not None:
            return decided
        if structure.EMPTY.fullmatch(_plain(gold)):
            return self.by("empty set", bool(structure.EMPTY.fullmatch(_plain(answer))))
        if structure.is_set(gold) or structure.is_set(answer):
            return self.by("set of numbers") and self.leaf(gold, answer, self.tolerance)
        if (figures := structure.figure(gold)) and (others := structure.figure(answer)):
            kinds, names = {figures[0], others[0]} - {""}, figures[1] & others[1]
            return self.by("figures", len(kinds) < 2 and bool(names))
        if (decided := self.assignments(gold, answer)) is not None:
            return decided
        equations = structure.sides(gold), structure.sides(answer)
        if max(map(len, equations)) > 1 and not structure.is_list(gold, answer):
            return self.by("equations") and self.equations(*equations)
        return self.without_equals(gold, answer)

    def numbers(self, gold: str, answer: str) -> bool | None:
        """Plain numbers, compared exactly or within the tolerance; None if one is none."""
        true, given = number(gold), number(answer)
        if true is None or given is None:
            return None
        margin = Fraction(self.tolerance) * max(Fraction(1), abs(true))
        return self.by("numbers", abs(true - given) <= margin)

    def without_equals(self, gold: str, answer: str) -> bool:
        """Words, matrices, lists, else values."""
        if _is_words(gold):
            return self.by("words", words_of(gold) == words_of(answer))
        true, given = structure.matrix(gold), structure.matrix(answer)
        if true and given:
            same_length = self.by("matrix", len(true) == len(given))
            return same_length and all(map(self.all_equal, true, given))
        if true or given:
            return self.values(gold, answer)
        collections = structure.Collection(gold), structure.Collection(answer)
        if any(each.brackets or len(each.items) > 1 for each in collections):
            return self.by("list or interval") and self.collections(*collections)
        return self.values(gold, answer)

    def all_equal(self, golds: list[str], answers: list[str]) -> bool:
        return len(golds) == len(answers) and all(map(self.equal, golds, answers))

    def assignments(self, gold: str, answer: str) -> bool | None:
        """Values by their names; by their order where only one side has names. None where neither
        has.
        """
        golds, answers = structure.assignments(gold), structure.assignments(answer)
        named = golds or answers
        if not named:
            return None
        self.by("named values")
        names, other = list(named[0]), structure.Collection(answer if golds else gold)
        if golds and answers:
            same_names = golds[0].keys() == answers[0].keys()
            return same_names and self.equal(_tuples(golds, names), _tuples(answers, names))
        if len(named) == 1 and not other.ordered:  # a bare list, in order if the gold has names
            ordered = bool(golds) and len({name[0] for name in names}) > 1
            lists = [", ".join(items) for items in (named[0].values(), other.items)]
            pair = [f"({each})" for each in lists] if ordered else lists
            return self.without_equals(*(pair if golds else pair[::-1]))
        if structure.is_list(gold if golds else answer) and all(len(name) == 1 for name in names):
            names.sort()  # of x=1, y=2 the alphabet is the order, of (x,y)=(1,2) their own
        tuples = _tuples(named, names)
        return self.equal(tuples, answer) if golds else self.equal(gold, tuples)

    def equations(self, golds: list[str], answers: list[str]) -> bool:
        """x=5 against 5, f(x)=x^2 against f(x)=x^2; equations without such labels as wholes."""
        label, value = _labelled(golds)
        other_label, other_value = _labelled(answers)
        numbers = [side for side in answers if _is_number(side)]
        if any(not self.equal(side, numbers[-1]) for side in numbers[:-1]):
            return False  # 13 = 12
        if len(golds) == 1 or (label and (label == other_label or len(answers) == 1)):
            return self.equal(value, other_value)
        if len(answers) == 1:
            return False  # x+y=5 says more than 5
        return self.values(" = ".join(golds), " = ".join(answers))

    def collections(self, gold: structure.Collection, answer: structure.Collection) -> bool:
        """Tuples and intervals element by element with their brackets; sets and bare lists in any
        order. A pair may be an interval: its brackets say something.
        """
        if gold.ordered or answer.ordered:
            both = gold.brackets and answer.brackets
            if (gold.brackets != answer.brackets) if both else len(gold.items) == 2:
                return False
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
        (gold, base), (answer, other_base) = _base(gold), _base(answer)
        if base or other_base:
            return self.by("base", base == other_base and gold == answer)
        first, second = units.quantity(gold, letters=True), units.quantity(answer, letters=True)
        if (first.unit is None) != (second.unit is None):
            first, second = units.quantity(gold), units.quantity(answer)
        if first.percent != second.percent and not self.percent_is_unit:
            return self.by("percent", False)
        if not units.agree(first.unit, second.unit):
            return self.by("units", False)
        gold, answer = first.value, second.value
        if r"\pi" in gold + answer and {first.unit, second.unit} == {units.DEGREE, None}:
            in_radians = {units.DEGREE: r"({}) \pi / 180", None: "{}"}
            gold, answer = (in_radians[each.unit].format(each.value) for each in (first, second))
        if _without_spaces(gold) == _without_spaces(answer):
            return self.by("units")
        if ":" in gold + answer:  # as written
            return self.by("times and ratios", False)
        if (decided := self.numbers(gold, answer)) is not None:
            return decided
        if _is_words(answer):
            if self.by("words", words_of(gold) == words_of(answer)):
                return True
            raise Unreadable(f"words, not mathematics: {answer[:60]!r}")
        return self.leaf(gold, answer, self.tolerance)


def _version(text: str, rounded: bool) -> str:
    """The exact value of "x \\approx y", or the rounded one if asked for or x is but a letter."""
    versions = structure.split(text, r"\\approx(?![a-z])") or [text]
    return versions[-1 if rounded or structure.is_label(versions[0]) else 0]


def _labelled(sides: list[str]) -> tuple[str, str]:
    """(what an equation gives the value of, or "", its last side that is no such label)."""
    labels = [side for side in sides if structure.is_label(side)]
    values = [side for side in sides if side not in labels]
    return (labels or [""])[0].replace(" ", ""), (values or sides or [""])[-1]


def _tuples(solutions: list[dict[str, str]], names: list[str]) -> str:
    return ", ".join(f"({', '.join(each[name] for name in names)})" for each in solutions)


def _is_number(side: str) -> bool:
    """Whether an expression is without letters, but those of commands."""
    return not re.search(r"[A-Za-z_:]", re.sub(r"\\[A-Za-z]+", "", side))


# --- words ----------------------------------------------------------------------------------------
def same_text(pairs: list[Pair], settings: Settings) -> list[Decision]:
    """Equality of two texts up to white space."""
    same = (answer.split() == problem.answer.split() for problem, answer in pairs)
    return [CORRECT if is_same else DIFFERS for is_same in same]


def _plain(text: str) -> str:
    """Without the commands around words."""
    return units.WRAPPER.sub(r"\1", text).strip()


def words_of(text: str) -> str:
    """Words without typography, capital letters and articles; ABC are letters, not a word."""
    text = re.sub(r"[\s\\$*_.,;:!?'\"{}()]+", " ", _plain(text)).strip()
    if re.fullmatch("[A-Z]{2,3}", text) and text not in ("YES", "NO"):
        return text
    return re.sub(r"\b(?:the|a|an) ", "", text.casefold())


def _is_words(text: str) -> bool:
    """Whether this is words rather than mathematics: \\text{...} around letters, or bare words."""
    bare = units.WRAPPER.sub("", text).strip(" ().")
    if not bare:
        return bool(units.WRAPPER.search(text))
    words = re.fullmatch(r"[A-Za-z][a-z']+(?:[ -][A-Za-z0-9,']+)*", bare)
    return (len(bare) > 2 and bool(words)) or bare.casefold() == "no"


def _without_spaces(text: str) -> str:
    """Without spaces, but those between digits: 2 3 is not 23."""
    return re.sub(r"(?<!\d) +| +(?!\d)", "", text)


# --- bases ----------------------------------------------------------------------------------------
_NUMERALS = "zero one two three four five six seven eight nine ten eleven twelve"
_DIGITS = r"(-?\(?-?(?:[0-9][0-9A-Za-z.]*|[A-F][0-9A-F]+|[a-f][0-9a-f]+)\)?)"
_BASE = r"\(?(?:base )?(\d+|[a-z]{3,})\)?"
_WITH_BASE = re.compile(rf"{_DIGITS} ?(?:_ ?\{{? ?{_BASE} ?\}}?|(?:in )?\(?base {_BASE})")


def _base(text: str) -> tuple[str, str]:
    """(digits, base) of a number with its base, as a subscript or in words; base "" without one,
    and for base ten.
    """
    match = _WITH_BASE.fullmatch(re.sub(r"\s+", " ", _plain(text)))
    if not match:
        return text, ""
    base = match[2] or match[3]
    numerals = _NUMERALS.split()
    base = str(numerals.index(base)) if base in numerals else base
    digits = match[1].strip("()").upper()
    return (digits.lstrip("0") or "0", base) if base != "10" else (digits, "")
