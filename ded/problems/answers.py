"""Final answers: where they stand in a text, and one form for what differs in typography only (docs/grading.md).

Plain text work: nothing is evaluated. Hendrycks et al. 2021 is the source of the form of the golds.
"""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST = 2000  # characters of a final answer; no task asks for more, and parsers fear it


# --- extraction -------------------------------------------------------------------------------------------------------
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_PHRASE = re.compile(
    r"(?:\banswer\b[^\n.:=]{0,60}?(?:\bis\b(?:\s*:)?|:|=)|^\s*#{4})[ \t*_]*(.*)", re.I | re.M
)
_NUMBER = re.compile(r"(?<![\w.])-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?%?")
_MATH = re.compile(r"\$\$(.+?)\$\$|\$((?:\\\$|[^$])+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def last_box(text: str) -> str | None:
    """The content of the last `\\boxed{...}` whose braces close."""
    for match in list(_BOX.finditer(text))[
        :-50:-1
    ]:  # bounds against texts full of boxes that never close
        depth = 1
        for position in range(match.end(), min(len(text), match.end() + 2 * LONGEST)):
            depth += {"{": 1, "}": -1}.get(text[position], 0) if text[position - 1] != "\\" else 0
            if depth == 0:
                return text[match.end() : position].strip() or None
    return None


def extract(text: str, last_number: bool = False) -> str | None:
    """The final answer in a text, None if there is none: the last box, else what follows the last final-answer phrase
    ("the answer is", "Answer:", "####"), else a text that is nothing but one formula or number, else, where the task
    allows, the last number."""
    if box := last_box(text):
        return box
    for match in list(_PHRASE.finditer(text))[:-50:-1]:
        rest = text[match.start(1) : match.start(1) + 2 * LONGEST].strip(" \n*_")
        formula = _MATH.search(rest)
        if formula and re.fullmatch(r"[\s*_:,a-zA-Z]{0,20}", rest[: formula.start()]):
            rest = next(filter(None, formula.groups()))
        else:
            rest = re.split(r"(?<!\d)\.\s|\.$|\. (?=[A-Z])", rest.partition("\n")[0])[0]
        if rest.strip(" *_$."):
            return rest.strip(" \n*_")
    whole = text.strip(" \n*_.")
    if len(whole) <= LONGEST:
        if formula := _MATH.fullmatch(whole):
            return next(filter(None, formula.groups())).strip()
        if "\n" not in whole and number(normalise(whole)) is not None:
            return whole
    if last_number:
        found = [
            one for one in _NUMBER.findall(text) if any(character.isdigit() for character in one)
        ]
        return found[-1] if found else None
    return None


# --- normal form ------------------------------------------------------------------------------------------------------
_PLAIN = [
    (re.compile(pattern), new)
    for pattern, new in [
        (r"[−–]", "-"),
        (r"[×]", r"\\times "),
        (r"[·⋅]", r"\\cdot "),
        (r"π", r"\\pi "),
        (r"∞|\binfinity\b|\boo\b", r"\\infty "),
        (r"[°]|\\degree\b|\^\s*\{?\s*\\circ\s*\}?", r"\\degree "),
        (r"≤|<=|\\leqslant|\\leq\b", r"\\le "),
        (r"≥|>=|\\geqslant|\\geq\b", r"\\ge "),
        (r"\\lt\b", "<"),
        (r"\\gt\b", ">"),
        (r"∪", r"\\cup "),
        (r"∈", r"\\in "),
        (r"±", r"\\pm "),
        (r"²", "^2"),
        (r"³", "^3"),
        (r"√\s*(\d+)", r"\\sqrt{\1}"),
        (r"√", r"\\sqrt"),
        (r",\s*\\!\s*", ""),
        (r"(\\\\)|\\!", r"\1"),
        (r"\{,\}", ""),
        (r"(?<=\d)\\,(?=\d{3}(?!\d))", ""),
        (r"(\\\\)|\\[,;: ]|~|\\q?quad\b|[\u00a0\u2009\u202f]", r"\1 "),
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits)(?![a-zA-Z])\s*", ""),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\frac (\d) (\d)", r"\\frac\1\2"),
        (r"\^ ?(-\d+)", r"^{\1}"),
        (r"\\(?:lbrace|\{)", r"\\{"),
        (r"\\(?:rbrace|\})", r"\\}"),
        (r"\*\*", "^"),
        (r"\s+", " "),
    ]
]


def normalise(text: str) -> str:
    """One form for what differs in typography only: delimiters, spacing, \\dfrac, Unicode, thousands separators."""
    text = text.strip(" \n*")
    for _ in range(3):  # nested delimiters
        if match := _MATH.fullmatch(text):
            text = next(filter(None, match.groups())).strip()
        elif box := _BOX.match(text) and last_box(text):
            text = box
    for pattern, new in _PLAIN:
        text = pattern.sub(new, text)
    text = text.strip().rstrip(".,;:").strip() if not text.endswith("\\.") else text
    if re.fullmatch(
        r"[^\d(\[{]*\d{1,3}(?:[ ,]\d{3})+(?![\d,])[^(\[{]*", text
    ):  # 1,234 outside brackets is one number
        text = re.sub(r"(?<=\d)[ ,](?=\d{3}(?!\d))", "", text)
    return text


def number(text: str) -> Fraction | None:
    """The exact value of a plain number: integer, decimal, fraction, mixed number, power of ten; None for all else."""
    text = text.replace(" ", "") if not re.search(r"\d \d", text) else text.strip()
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-") if text[:1] in "+-" and text[1:2] not in "+-" else text
    if len(text) > 400:
        return None
    digits, decimal = r"(\d+)", r"(\d+\.?\d*|\.\d+)"
    fraction = rf"(?:\\frac(?:\{{{digits}\}}\{{{digits}\}}|(\d)(\d)|(\d)\{{{digits}\}}|\{{{digits}\}}(\d)))"
    try:
        if match := re.fullmatch(decimal, text):
            return sign * Fraction(match[1].rstrip(".") or "0")
        if match := re.fullmatch(r"(\d*)\.(\d*)\\overline\{?(\d+)\}?", text):  # repeating, so exact
            whole, once, again = match.groups()
            return (
                sign
                * (int((whole or "0") + once) + Fraction(int(again), 10 ** len(again) - 1))
                / 10 ** len(once)
            )
        if match := re.fullmatch(rf"(\d*) ?(?:{fraction}|(?<=\d )(\d+)/(\d+))", text):
            top, bottom = [int(part) for part in match.groups()[1:] if part]
            return sign * (int(match[1] or 0) + Fraction(top, bottom))
        if match := re.fullmatch(rf"{decimal}/{decimal}", text):
            return sign * Fraction(match[1]) / Fraction(match[2])
        power = rf"{decimal}(?:\\times|\\cdot|\*|x)10\^\{{?(-?\d{{1,3}})\}}?|{decimal}[eE]([+-]?\d{{1,3}})"
        if match := re.fullmatch(power, text):
            base, power = [part for part in match.groups() if part]
            return sign * Fraction(base) * Fraction(10) ** int(power)
    except (ZeroDivisionError, ValueError):
        return None
    return None
