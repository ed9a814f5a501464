"""Final answers: where they stand in a text, and when two of them are equal.

Extraction is plain text work. Equality is decided here as far as structure, plain numbers, units, percent, bases,
intervals and lists go, exactly and without evaluating anything; what remains are single expressions, which go to
math-verify (in a worker process, see `ded.grading.pool`). The rules are written down in docs/grading.md; Hendrycks et
al. 2021 is the source of the form of the golds.
"""

from __future__ import annotations

import re
from fractions import Fraction

from ded.problems.answers import extract, normalise, number


class Unreadable(ValueError):
    """The rules cannot read this answer."""


_WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox|hbox|operatorname)\s*\{([^{}]*)\}"
)


def choice(text: str, options: list[str] | None = None) -> str | None:
    """The letter (A to Z) that a text chooses, with or without parentheses, boxes or the option's text, else None."""
    found = extract(text) or text
    found = re.sub(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{([^{}]*)\}", r"\1", found).strip(
        " \n*_$.{}"
    )
    match = re.match(
        r"(?:(?:option|choice|answer)\s*:?\s*)?[(\[]?\s*([a-z])\s*(?:[)\].:,]|$|\n|\s+[-–])",
        found,
        re.I,
    )
    last = ord("A") + len(options) - 1 if options else ord("Z")
    if match and ord(match[1].upper()) <= last:
        return match[1].upper()
    plain = [_words(option) for option in options or []]
    return chr(ord("A") + plain.index(_words(found))) if plain.count(_words(found)) == 1 else None


# --- units ------------------------------------------------------------------------------------------------------------
_UNITS = {
    alias: unit
    for unit, aliases in {
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
    }.items()
    for alias in (unit, *aliases.split())
}
_DIMENSION = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}


def _unit(text: str) -> tuple[tuple[str, ...], str]:
    """A unit as words and power: (("cm",), "2") for "square centimeters", "cm^2" and "cm²"; "units" say nothing."""
    words, power = [], ""
    for word in re.findall(r"[a-z]+|\d", text.lower().replace("per", " ").replace("mph", "mi h")):
        single = word if word in _UNITS else word[:-1] if word.endswith("s") else word
        if word in _DIMENSION or word.isdigit():
            power = _DIMENSION.get(word, word)
        elif single not in ("of", "the", "a", "an", "unit"):
            words.append(_UNITS.get(single, single))
    return tuple(words), power


def split_unit(text: str) -> tuple[str, tuple, bool]:
    """(value, unit, percent): what stands before or after a number as text, currency sign, degree or percent sign."""
    percent = bool(re.search(r"\\?%|\bper ?cent\b|\bpct\b", text))
    text = re.sub(r"\s*(?:\\?%|\\?(?:text\{)?\s*\b(?:per ?cent|pct)\b\s*\}?)\s*", "", text)
    unit: tuple = ()
    if match := re.match(r"(-?)\s*(?:\\?\$|([€£]))\s*(?=[\d.\\-])", text):
        unit, text = (
            (({"€": "euro", "£": "pound"}.get(match[2], "dollar"),), ""),
            match[1] + text[match.end() :],
        )
    if r"\degree" in text and not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        unit, text = (("degree",), ""), text.replace(r"\degree", "").strip()
    wrapped = rf"(?P<value>.*[\d)}}\]a-zI])\s*(?P<unit>{_WRAPPER.pattern}(?:\s*\^\s*\{{?\d\}}?)?)"
    known = "|".join(sorted(_UNITS, key=len, reverse=True))
    words = r"(?<=\s)(?!and\b|or\b|base\b)[A-Za-z]{3,}(?:\s[A-Za-z]{2,})*"
    bare = rf"(?P<value>.*[\d)}}\]])\s*(?P<unit>(?:{known})s?(?:\s*\^\s*\{{?\d\}}?)?|{words})"
    match = re.fullmatch(wrapped, text) or re.fullmatch(bare, text)
    if match and not re.search(r"=|\b(?:and|or)\b", match["unit"]):
        found = _unit(_WRAPPER.sub(r"\1", match["unit"]))
        unit, text = (
            unit if unit and set(found[0]) <= set(unit[0]) else found,
            match["value"].strip(),
        )
    return text, unit, percent


def _units_agree(one: tuple, other: tuple) -> bool:
    if not one or not other:
        return True
    words, others = set(one[0]), set(other[0])
    further = words ^ others if words and others and (words <= others or others <= words) else set()
    return (
        one[1] == other[1]
        and (not words or not others or bool(words & others))
        and not any(word in _UNITS.values() for word in further)
    )


# --- structure --------------------------------------------------------------------------------------------------------
_OPEN, _CLOSE = "([{", ")]}"


def _depths(text):
    depth = 0
    for character in text:
        depth -= character in _CLOSE
        yield depth
        depth += character in _OPEN


def split(text: str, separator: str) -> list[str]:
    """`text` cut where the pattern `separator` matches outside all brackets."""
    depths, parts, start = [*_depths(text), 0], [], 0
    for match in re.finditer(separator, text):
        if depths[match.start()] == 0:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [part for part in (*parts, text[start:].strip()) if part]


def _brackets(text: str) -> tuple[str, str, str] | None:
    """(opening, inside, closing) where one pair of brackets encloses all of `text`; None otherwise."""
    text = text.replace("\\{", "{").replace("\\}", "}")
    if len(text) < 2 or text[0] not in _OPEN or text[-1] not in _CLOSE:
        return None
    depths = list(_depths(text))
    return None if 0 in depths[1:-1] or depths[-1] else (text[0], text[1:-1].strip(), text[-1])


_LIST = r",|;|\\text\s*\{\s*,?\s*(?:and|or)\s*\}|\b(?:and|or)\b|\\(?:cup|lor|vee)(?![a-z])"
_RELATION = re.compile(r"\\le(?![a-z])|\\ge(?![a-z])|<|>")


def _interval(text: str) -> str | None:
    """An inequality in one letter as an interval: "x <= 3" is "(-\\infty,3]", "0 < x < 1" is "(0,1)"; so are all reals."""
    if re.fullmatch(r"\\mathbb ?\{?R\}?|ℝ|(?:\\text\{)?all real numbers\}?", text):
        return "(-\\infty,\\infty)"
    parts = [part.strip() for part in _RELATION.split(text)]
    signs = [sign.replace("\\le", "<=").replace("\\ge", ">=") for sign in _RELATION.findall(text)]
    if not signs or len(parts) > 3 or not all(parts) or len({sign[0] for sign in signs}) > 1:
        return None
    if signs[0][0] == ">":
        parts, signs = parts[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    letter = r"[a-zA-Z]|\\theta|\\alpha"
    left, right = ("[" if signs[0] == "<=" else "("), ("]" if signs[-1] == "<=" else ")")
    if len(parts) == 3 and re.fullmatch(letter, parts[1]):
        return f"{left}{parts[0]},{parts[2]}{right}"
    if len(parts) == 2 and re.fullmatch(letter, parts[0]):
        return f"(-\\infty,{parts[1]}{right}"
    if len(parts) == 2 and re.fullmatch(letter, parts[1]):
        return f"{left}{parts[0]},\\infty)"
    return None


def _matrix(text: str) -> list[list[str]] | None:
    match = re.fullmatch(
        r"\\begin\{([pb]?matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\1\}", text.strip("[]() "), re.S
    )
    rows = re.split(r"\\\\|\\cr", match[2]) if match else []
    return [[cell.strip() for cell in row.split("&")] for row in rows if row.strip()] or None


def _words(text: str) -> str:
    text = re.sub(r"[\s\\$*_.,;:!?'\"{}()]+", " ", _WRAPPER.sub(r"\1", text)).casefold().strip()
    return re.sub(r"\b(?:the|a|an) ", "", text)


def _textual(text: str) -> bool:
    """Whether this is words rather than mathematics: \\text{...} around letters, or bare words."""
    bare = _WRAPPER.sub("", text).strip(" ().")
    words = re.fullmatch(r"[A-Za-z][a-z']+(?:[ -][A-Za-z0-9,']+)*", bare)
    return bool(words or (not bare and _WRAPPER.search(text)))


# --- equality ---------------------------------------------------------------------------------------------------------
def compare(gold: str, answer: str, leaf, tolerance: float = 0.0) -> bool:
    """Whether `answer` is equal to `gold` by the rules of docs/grading.md.

    leaf(gold, answer, tolerance) -> bool decides on two expressions that are neither plain numbers nor equal texts.
    Raises Unreadable where the answer cannot be read.
    """
    return _equal(normalise(gold), normalise(answer), leaf, tolerance)


def _closed(text):
    """Without spaces, but those between digits: 2 3 is not 23."""
    return re.sub(r"(?<!\d) +| +(?!\d)", "", text)


def _equal(gold, answer, leaf, tolerance):
    def same(one, other):
        return _equal(one, other, leaf, tolerance)

    if _closed(gold) == _closed(answer):
        return True
    if _textual(gold):
        return _words(gold) == _words(answer)

    if (one := _matrix(gold)) or (other := _matrix(answer)):
        one, other = one or [], _matrix(answer) or []
        return list(map(len, one)) == list(map(len, other)) and all(
            same(a, b) for rows in zip(one, other) for a, b in zip(*rows)
        )

    gold, answer = (re.sub(r"^\S{1,6} ?\\in(?![a-z])", "", text).strip() for text in (gold, answer))
    gold, answer = (_interval(text) or text for text in (gold, answer))
    if sides := _sides(gold, answer):
        return same(*sides)

    one, other = _items(gold), _items(answer)
    if len(one) > 1 or len(other) > 1 or _brackets(gold) or _brackets(answer):
        return _lists(gold, answer, one, other, same)

    (gold, unit, percent), (answer, unit2, percent2) = split_unit(gold), split_unit(answer)
    if percent != percent2 or not _units_agree(unit, unit2):
        return False
    if (
        bool(unit) != bool(unit2) and (("degree",), "") in (unit, unit2) and r"\pi" in gold + answer
    ):  # against radians
        gold, answer = (
            f"({text}) \\pi / 180" if u else text for text, u in ((gold, unit), (answer, unit2))
        )
    (gold, base), (answer, base2) = _base(gold), _base(answer)
    if base or base2:
        return base == base2 and gold.upper() == answer.upper()
    if _closed(gold) == _closed(answer):
        return True
    if ":" in gold + answer:  # times and ratios: as written
        return False
    one, other = number(gold), number(answer)
    if one is not None and other is not None:
        return one == other or abs(one - other) <= Fraction(tolerance) * max(1, abs(one))
    if _textual(answer):
        if _words(gold) == _words(answer):
            return True
        raise Unreadable(f"words, not mathematics: {answer[:60]!r}")
    return leaf(gold, answer, tolerance)


def _sides(gold, answer):
    """What is left of equations: the right sides, where only one is an equation or the left sides are the same."""
    one, other = (split(text, r"(?<![<>!:\\])=") for text in (gold, answer))
    if (
        any(len(split(text, _LIST)) > 1 for text in (gold, answer))
        or len(one) < 2
        and len(other) < 2
    ):
        return None
    if len(one) < 2:
        return gold, other[-1]
    if len(other) < 2:
        return (
            (one[-1], answer)
            if re.fullmatch(r"\\?[A-Za-z]\w{0,7}(?:_\{?\w+\}?)?(?:\([^()]*\))?", one[0])
            else None
        )
    return (
        (one[-1], other[-1])
        if one[0].replace(" ", "") == other[0].replace(" ", "") and len(one) == 2
        else None
    )


def _items(text):
    """The elements of a bare or braced list, with every plus-minus as two of them."""
    enclosed = _brackets(text)
    if enclosed and enclosed[0] == "{":
        text = enclosed[1]
    items = []
    for item in split(text, _LIST):
        if r"\pm" in item or r"\mp" in item:
            plus, minus = (
                item.replace(r"\pm", a).replace(r"\mp", b) for a, b in (("+", "-"), ("-", "+"))
            )
            items += [plus.strip().removeprefix("+").strip(), minus.strip()]
        else:
            items.append(item)
    return items


def _lists(gold, answer, one, other, same):
    """Tuples and intervals element by element with their brackets; sets and bare lists in any order."""
    a, b = _brackets(gold), _brackets(answer)
    tuples = [x and x[0] != "{" and len(split(x[1], ",|;")) > 1 for x in (a, b)]
    if any(tuples):
        if a and b and (a[0], a[2]) != (b[0], b[2]):  # an interval is not a point, nor a set
            return False
        first, second = (
            split(x[1], ",|;") if tup else list_
            for x, tup, list_ in zip((a, b), tuples, (one, other))
        )
        return len(first) == len(second) and all(map(same, first, second))
    if len(one) == len(other) == 1:
        inner = [x[1] if x and x[0] in "({" else text for x, text in ((a, gold), (b, answer))]
        if inner == [gold, answer]:
            raise Unreadable("brackets")
        return same(*inner)
    left = list(other)
    for item in one:
        match = next(
            (position for position, candidate in enumerate(left) if same(item, candidate)), None
        )
        if match is None:
            return False
        del left[match]
    return not left


def _base(text):
    """(digits, base) of a number with a base subscript; base "" without one, and for base ten."""
    match = re.fullmatch(r"(-?[0-9A-Za-z]+) ?_ ?\{?(\d+|\\?[a-z]*\{?\s*[a-z]+\}?)\}?", text)
    if not match or not match[1].lstrip("-")[0].isdigit():
        return text, ""
    names = "zero one two three four five six seven eight nine ten eleven twelve".split()
    base = _WRAPPER.sub(r"\1", match[2]).strip(" {}")
    base = str(names.index(base)) if base in names else base
    return match[1], "" if base == "10" else base
