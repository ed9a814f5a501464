"""Units of measure beside a number: what they are called, and when two of them agree."""

from __future__ import annotations

import re
from dataclasses import dataclass

WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox|hbox|operatorname)\s*\{([^{}]*)\}"
)  # words in LaTeX
_ALIASES = {
    "m": "meter metre",
    "cm": "centimeter centimetre",
    "mm": "millimeter millimetre",
    "km": "kilometer kilometre",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard",
    "mi": "mile",
    "g": "gram gm",
    "kg": "kilogram",
    "oz": "ounce",
    "lb": "pound lbs",
    "l": "liter litre",
    "ml": "milliliter millilitre",
    "s": "second sec",
    "min": "minute",
    "h": "hour hr",
    "day": "",
    "week": "",
    "month": "",
    "year": "yr",
    "degree": "deg",
    "radian": "rad",
    "dollar": "usd buck",
    "cent": "",
    "euro": "eur",
}
_UNIT_OF = {name: unit for unit, names in _ALIASES.items() for name in (unit, *names.split())}
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
_CURRENCIES = {"€": "euro", "£": "pound"}


@dataclass(frozen=True)
class Unit:
    """words: ("cm",), or ("mi", "h") for miles per hour; none for "units". power: "2" for areas, "" without one."""

    words: tuple[str, ...] = ()
    power: str = ""


DEGREE = Unit(("degree",))


@dataclass(frozen=True)
class Quantity:
    """A value without its unit (None where none stands there) and percent sign."""

    value: str
    unit: Unit | None
    percent: bool


def unit_of(text: str) -> Unit:
    """The unit that a text names: Unit(("cm",), "2") for "square centimeters", "cm^2" and "cm²"."""
    words, power = [], ""
    for word in re.findall(r"[a-z]+|\d", text.lower().replace("per", " ").replace("mph", "mi h")):
        singular = word if word in _UNIT_OF else word.removesuffix("s")
        if word in _POWERS or word.isdigit():
            power = _POWERS.get(word, word)
        elif singular not in ("of", "the", "a", "an", "unit"):
            words.append(_UNIT_OF.get(singular, singular))
    return Unit(tuple(words), power)


_NAMES = "|".join(sorted(_UNIT_OF, key=len, reverse=True))
_WORDS = r"(?<=\s)(?!and\b|or\b|base\b)[A-Za-z]{3,}(?:\s[A-Za-z]{2,})*"
_EXPONENT = r"(?:\s*\^\s*\{?\d\}?)?"
_AFTER_VALUE = [
    re.compile(rf"(?P<value>.*[\d)}}\]a-zI])\s*(?P<unit>{WRAPPER.pattern}{_EXPONENT})"),
    re.compile(rf"(?P<value>.*[\d)}}\]])\s*(?P<unit>(?:{_NAMES})s?{_EXPONENT}|{_WORDS})"),
]
_PERCENT = re.compile(r"\s*(?:\\?%|\\?(?:text\{)?\s*\b(?:per ?cent|pct)\b\s*\}?)\s*")
_CURRENCY = re.compile(r"(-?)\s*(?:\\?\$|([€£]))\s*(?=[\d.\\-])")


def quantity(text: str) -> Quantity:
    """What stands before or after a number as text, currency sign, degree or percent sign, taken off."""
    percent = bool(re.search(r"\\?%|\bper ?cent\b|\bpct\b", text))
    text, unit = _PERCENT.sub("", text), None
    if match := _CURRENCY.match(text):
        unit = Unit((_CURRENCIES.get(match[2], "dollar"),))
        text = match[1] + text[match.end() :]
    if r"\degree" in text and not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        text, unit = text.replace(r"\degree", "").strip(), DEGREE
    match = next(filter(None, (pattern.fullmatch(text) for pattern in _AFTER_VALUE)), None)
    if match and not re.search(r"=|\b(?:and|or)\b", match["unit"]):
        after = unit_of(WRAPPER.sub(r"\1", match["unit"]))
        if unit is None or not set(after.words) <= set(unit.words):
            unit = after
        text = match["value"].strip()
    return Quantity(text, unit, percent)


def agree(first: Unit | None, second: Unit | None) -> bool:
    """Whether two units can be the same: either may be left out, and words that are no units ("red apples") may differ."""
    if first is None or second is None:
        return True
    if first.power != second.power:
        return False
    ours, theirs = set(first.words), set(second.words)
    if not ours or not theirs:
        return True
    one_holds_the_other = ours <= theirs or theirs <= ours
    further_unit = any(word in _ALIASES for word in ours ^ theirs)
    return bool(ours & theirs) and not (one_holds_the_other and further_unit)
