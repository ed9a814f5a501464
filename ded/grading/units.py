"""Units of measure beside a number: what they are called, and when two of them agree."""

import re
from functools import cache, partial
from typing import NamedTuple

from ded.files import beside

# words in LaTeX
WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox|hbox|operatorname)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_FRACTION = re.compile(rf"\\frac ?\{{({WRAPPER.pattern})\}} ?\{{({WRAPPER.pattern})\}}")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_PERCENT = re.compile(
    r"\s*(?:\\?%|\\?(?:text\{)?\s*\b(?:per ?cent(?:age)?(?: points?)?|pct)\b\s*\}?)\s*"
)
_CURRENCY = re.compile(r"(-?)\s*(\\?\$|[€£])\s*(?=[\d.\\-])")
_OVER = ("/", "per", "each", "every", "a", "an")
_BEFORE, _AFTER = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}, {"squared": 2, "cubed": 3}
_NOTHING = ("of", "the", "in", "about", "approximately", "approx", "exactly", "total", "only")
_NO_WORDS = (
    "and|or|base|pi|theta|alpha|beta|sqrt|sin|cos|tan|log|ln|exp|if|where|factorial"
    "|times|plus|minus|over|hal(?:f|ves)|thirds?|(?:four|fif|six|seven|eigh|nin|ten|hundred)ths?"
)


class Unit(NamedTuple):
    """powers: {("m", 1), ("s", -1)} for m/s; "unit" is for any. things: what is counted ("apples"),
    which may be left out; what stands after "per" may not.
    """

    powers: frozenset[tuple[str, int]] = frozenset()
    things: frozenset[str] = frozenset()


class Quantity(NamedTuple):
    """A value without its unit (None where none stands there) and percent sign."""

    value: str
    unit: Unit | None
    percent: bool


DEGREE = Unit(frozenset({("degree", 1)}))


@cache
def names_in(file: str) -> dict[str, str]:
    """Every name in a file of lists of names beside this module, and the heading of its list, which
    is a name too.
    """
    lists = beside(__file__, file)
    return {name: heading for heading, names in lists.items() for name in (heading, *names)}


_names = partial(names_in, "units.yml")  # every name of a unit, and the one that it has here


@cache
def _after_value() -> re.Pattern:
    """A value and what follows it: words, or names of units, or both, joined by / and the like."""
    names = sorted({*_names(), *_BEFORE}, key=len, reverse=True)
    power = r"(?:\s*\^\s*\{?-?\d\}?|\d(?!\d))?"
    wrapped = WRAPPER.pattern + power
    name = rf"(?<![A-Za-z\\])(?:{'|'.join(map(re.escape, names))})s?(?![A-Za-z]){power}"
    word = rf"(?!(?:{_NO_WORDS})\b)[A-Za-z]"
    first = rf"{wrapped}|{name}|(?<=\s)(?!squared|cubed){word}{{3,}}"
    first += rf"|/\s*(?:{wrapped}|{name}|{word}{{2,}})"
    further = rf"{wrapped}|{name}|(?<=[\s/]){word}{{2,}}{power}|(?<=\s)a(?=\s)"
    between = r"\s*(?:/|\\cdot(?![a-z])|\\times(?![a-z])|[-*,.()])?\s*"
    return re.compile(
        rf"(?P<value>.*?[\d)}}\]a-zI])\s*(?P<unit>(?:{first})(?>{between}(?:{further}))*+)"
    )


def quantity(text: str, letters: bool = False) -> Quantity:
    """A number, and what stands beside it as text, currency sign, degree or percent sign.

    letters: whether the m of 5m, which may be a variable, is a unit.
    """
    percent = bool(_PERCENT.search(text))
    text, before, after = _PERCENT.sub("", text), "", ""
    if match := _CURRENCY.match(text):
        before, text = match[2], match[1] + text[match.end() :]
    if r"\degree" in text and not _TRIGONOMETRY.search(text):
        before, text = "degree", text.replace(r"\degree", "").strip()
    text = _FRACTION.sub(r"\1/\3", text)
    match = _after_value().fullmatch(text)
    if match and _is_unit(match, letters or bool(before)):
        text, after = match["value"].strip(), WRAPPER.sub(r" \1 ", match["unit"])
    repeated = unit_of(before).powers <= unit_of(after).powers  # of $5 dollars
    unit = unit_of(after if repeated else f"{before} {after}") if before or after else None
    return Quantity(text, unit, percent)


def _is_unit(match: re.Match, letters: bool) -> bool:
    """Whether what follows a value is a unit rather than a factor or a sentence."""
    value, unit = match["value"], match["unit"]
    if re.search(r"=|\b(?:and|or|base)\b", unit):
        return False
    if WRAPPER.match(unit):
        return True
    numeric = not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", value))
    glued = not match[0][len(value) :].startswith(" ")
    variable = len(unit) == 1 and unit.isalpha() and (glued or unit.isupper())
    return numeric and (letters or not variable)


def unit_of(text: str) -> Unit:
    """The unit that a text names: cm to the power 2 for "square centimeters", "cm^2" and "cm²"."""
    powers: dict[str, int] = {}
    things, last, sign, following, opened = set(), "", 1, 1, False
    for word in re.findall(r"\\?[A-Za-z]+|\\?\$|[€£¢/]|-?\d+", text):
        name = _name(word)
        if word.lower() in _OVER:
            sign, opened = -1, True
        elif last and (word in _AFTER or word.lstrip("-").isdigit()):
            powers[last] *= _AFTER.get(word) or int(word)
        elif word.lower() in _BEFORE:
            following = _BEFORE[word.lower()]
        elif name in _names() or opened:
            powers[name], last = powers.get(name, 0) + sign * following, name
            following, opened = 1, False
        elif name not in _NOTHING and not word.startswith("\\"):
            things.add(name)
    return Unit(frozenset(powers.items()), frozenset(things))


def _name(word: str) -> str:
    """The one name of a unit, or of things in the singular."""
    for form in (word, word.lower() if len(word) > 1 else word):
        for name in (form, form.removesuffix("s")):
            if name in _names():
                return _names()[name]
    return word.lower().removesuffix("s")


def agree(first: Unit | None, second: Unit | None) -> bool:
    """Whether two units can be the same: as a whole, without conversion.

    Either may be left out, and things that are no units ("red apples") may be there or not.
    """
    if first is None or second is None or Unit() in (first, second):
        return True
    for unit, other in ((first, second), (second, first)):
        if {name for name, _ in unit.powers} == {"unit"}:
            return dict(unit.powers)["unit"] == (sum(dict(other.powers).values()) or 1)
    if first.powers or second.powers:
        return first.powers == second.powers
    return not first.things or not second.things or bool(first.things & second.things)
