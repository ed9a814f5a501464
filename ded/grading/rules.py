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
from ded.grading.structure import (
    APPROXIMATELY,
    EMPTY,
    LIST,
    Collection,
    assignments,
    figure,
    is_label,
    is_set,
    matrix,
    sides,
    split,
)
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
        if EMPTY.fullmatch(_plain(gold)):
            return bool(EMPTY.fullmatch(_plain(answer)))
        if r"\approx" in gold + answer:
            return self.approximations(_versions(gold), _versions(answer))
        if is_set(gold) or is_set(answer):
            return self.leaf(gold, answer, self.tolerance)
        if (figures := figure(gold)) and (others := figure(answer)):
            kinds, names = {figures[0], others[0]} - {""}, figures[1] & others[1]
            return len(kinds) < 2 and bool(names)
        if (decided := self.assignments(gold, answer)) is not None:
            return decided
        if len(split(gold, LIST)) == len(split(answer, LIST)) == 1:
            golds, answers = sides(gold), sides(answer)
            if len(golds) > 1 or len(answers) > 1:
                return self.equations(golds, answers)
        return self.without_equals(gold, answer)

    def without_equals(self, gold: str, answer: str) -> bool:
        """Words, matrices, lists, else values."""
        if _is_words(gold):
            return words_of(gold) == words_of(answer)
        if (true := matrix(gold)) and (given := matrix(answer)):
            return self.matrices(*true, *given)
        if true or matrix(answer):
            return self.values(gold, answer)
        collections = Collection(gold), Collection(answer)
        if any(each.brackets or len(each.items) > 1 for each in collections):
            return self.collections(*collections)
        return self.values(gold, answer)

    def all_equal(self, golds: list[str], answers: list[str]) -> bool:
        return len(golds) == len(answers) and all(map(self.equal, golds, answers))

    def any_order(self, golds: list, answers: list, same: Callable) -> bool:
        unmatched = list(answers)
        for item in golds:
            match = next((other for other in unmatched if same(item, other)), None)
            if match is None:
                return False
            unmatched.remove(match)
        return not unmatched

    def approximations(self, golds: list[str], answers: list[str]) -> bool:
        """An exact value before its approximation, which counts where the gold is a decimal."""
        return any(
            self.equal(gold, answers[-1] if re.search(r"\d\.\d", gold) else answers[0])
            for gold in golds
        )

    def assignments(self, gold: str, answer: str) -> bool | None:
        """Values by their names; by their order where only one side has names. None where neither
        has.
        """
        golds, answers = assignments(gold), assignments(answer)
        if golds and answers:
            return self.any_order(golds, answers, self.same_values)
        named = golds or answers
        if not named:
            return None
        other = Collection(answer if golds else gold)
        if len(named) == 1 and not other.ordered:  # a bare list: names of the gold order it
            in_order = golds and len({name[0] for name in named[0]}) > 1
            values = list(named[0].values())
            pair = (values, other.items) if golds else (other.items, values)
            return self.all_equal(*pair) if in_order else self.any_order(*pair, self.equal)
        tuples = ", ".join(f"({', '.join(_by_name(each))})" for each in named)
        return self.equal(tuples, answer) if golds else self.equal(gold, tuples)

    def same_values(self, gold: dict[str, str], answer: dict[str, str]) -> bool:
        return gold.keys() == answer.keys() and all(
            self.equal(gold[name], answer[name]) for name in gold
        )

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

    def matrices(self, factor: str, gold: list, other: str, answer: list) -> bool:
        """Cell by cell, times the factors before the matrices where these differ."""
        if [len(row) for row in gold] != [len(row) for row in answer]:
            return False
        if _without_spaces(factor) != _without_spaces(other):
            gold, answer = _multiplied(factor, gold), _multiplied(other, answer)
        return all(map(self.all_equal, gold, answer))

    def collections(self, gold: Collection, answer: Collection) -> bool:
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
        return self.any_order(gold.items, answer.items, self.equal)

    def values(self, gold: str, answer: str) -> bool:
        """Units and percent signs, bases, then numbers, words and, for all else, `leaf`."""
        (gold, base), (answer, other_base) = _base(gold), _base(answer)
        if base or other_base:
            return base == other_base and gold == answer
        first, second = units.quantity(gold, letters=True), units.quantity(answer, letters=True)
        if (first.unit is None) != (second.unit is None):
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


def _versions(text: str) -> list[str]:
    """An exact value and its approximations, without the letter that stands for it."""
    versions = split(text, APPROXIMATELY)
    return versions[1:] if is_label(versions[0]) and versions[1:] else versions


def _labelled(sides: list[str]) -> tuple[str, str]:
    """(what an equation gives the value of, or "", its last side that is no such label)."""
    labels = [side.replace(" ", "") for side in sides if is_label(side)]
    values = [side for side in sides if not is_label(side)]
    return (labels or [""])[0], (values or sides)[-1]


def _by_name(solution: dict[str, str]) -> list[str]:
    """Values in the order of the alphabet where their names are single letters, else as written."""
    letters = all(len(name) == 1 for name in solution)
    return [solution[name] for name in (sorted(solution) if letters else solution)]


def _is_number(side: str) -> bool:
    """Whether an expression is without letters, but those of commands."""
    return not re.search(r"[A-Za-z]|:", re.sub(r"\\[A-Za-z]+", "", side))


def _multiplied(factor: str, cells: list[list[str]]) -> list[list[str]]:
    return [[f"{factor}({cell})" for cell in row] for row in cells] if factor else cells


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
    words = re.fullmatch(r"[A-Za-z][a-z'](?:[a-z']|[ -][A-Za-z0-9,']+)+", bare)
    return bool(words) or bare.casefold() == "no"


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
