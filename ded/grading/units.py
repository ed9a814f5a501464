"""Units of measure beside a number: what they are called, and when two of them agree."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ded.files import read_yaml

# words in LaTeX
WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox|hbox|operatorname)\s*\{([^{}]*)\}"
)
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
_CURRENCIES = {"€": "euro", "£": "pound", None: "dollar"}
_PERCENT = re.compile(r"\s*(?:\\?%|\\?(?:text\{)?\s*\b(?:per ?cent|pct)\b\s*\}?)\s*")
_CURRENCY = re.compile(r"(-?)\s*(?:\\?\$|([€£]))\s*(?=[\d.\\-])")


class Unit(NamedTuple):
    """words: ("cm",), or ("mi", "h") for miles per hour; none for "units". power: "2" for areas."""

    words: tuple[str, ...] = ()
    power: str = ""


class Quantity(NamedTuple):
    """A value without its unit (None where none stands there) and percent sign."""

    value: str
    unit: Unit | None
    percent: bool


DEGREE = Unit(("degree",))


@cache
def _names() -> dict[str, str]:
    """Every name of a unit, and the one that it has here."""
    units = read_yaml(Path(__file__).with_name("units.yml"))
    return {name: unit for unit, others in units.items() for name in (unit, *others)}


@cache
def _after_value() -> re.Pattern:
    """A value and, in "wrapped" or "bare", the unit after it."""
    names = "|".join(sorted(_names(), key=len, reverse=True))
    words = r"(?<=\s)(?!and\b|or\b|base\b)[A-Za-z]{3,}(?:\s[A-Za-z]{2,})*"
    power = r"(?:\s*\^\s*\{?\d\}?)?"
    return re.compile(
        rf"(?P<before>.*[\d)}}\]a-zI])\s*(?P<wrapped>{WRAPPER.pattern}{power})"
        rf"|(?P<value>.*[\d)}}\]])\s*(?P<bare>(?:{names})s?{power}|{words})"
    )


def quantity(text: str) -> Quantity:
    """A number, and what stands beside it as text, currency sign, degree or percent sign."""
    percent = bool(re.search(r"\\?%|\bper ?cent\b|\bpct\b", text))
    text, unit = _PERCENT.sub("", text), None
    if match := _CURRENCY.match(text):
        unit, text = Unit((_CURRENCIES[match[2]],)), match[1] + text[match.end() :]
    if r"\degree" in text and not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        unit, text = DEGREE, text.replace(r"\degree", "").strip()
    match = _after_value().fullmatch(text)
    name = (match["wrapped"] or match["bare"]) if match else ""
    if match and not re.search(r"=|\b(?:and|or)\b", name):
        after = unit_of(WRAPPER.sub(r"\1", name))
        if unit is None or not set(after.words) <= set(unit.words):
            unit = after
        text = (match["before"] or match["value"]).strip()
    return Quantity(text, unit, percent)


def unit_of(text: str) -> Unit:
    """The unit that a text names: Unit(("cm",), "2") for "square centimeters", "cm^2" and "cm²"."""
    words, power = [], ""
    for word in re.findall(r"[a-z]+|\d", text.lower().replace("per", " ").replace("mph", "mi h")):
        singular = word if word in _names() else word.removesuffix("s")
        if word in _POWERS or word.isdigit():
            power = _POWERS.get(word, word)
        elif singular not in ("of", "the", "a", "an", "unit"):
            words.append(_names().get(singular, singular))
    return Unit(tuple(words), power)


def agree(first: Unit | None, second: Unit | None) -> bool:
    """Whether two units can be the same.

    Either may be left out, and words that are no units ("red apples") may be there or not.
    """
    if first is None or second is None:
        return True
    if first.power != second.power:
        return False
    ours, theirs = set(first.words), set(second.words)
    if not ours or not theirs:
        return True
    nested = ours <= theirs or theirs <= ours
    more_units = any(word in _names().values() for word in ours ^ theirs)
    return bool(ours & theirs) and not (nested and more_units)
