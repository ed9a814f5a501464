"""Final answers: their delimiters, one form for what differs in typography only, plain numbers
(docs/grading.md).

Plain text work: nothing is evaluated. Hendrycks et al. 2021 is the source of the form of the golds.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from ded.files import beside

LONGEST = 2000  # characters of a final answer; no task asks for more, and parsers fear it
_WRITTEN = beside(__file__, "typography.yml")
_MOST_MATCHES = 49  # looked at from the end: bounds against texts full of boxes that never close


# --- delimiters -----------------------------------------------------------------------------------
# in braces, or a number or a letter without them
_BOX = re.compile(
    r"\\(?:boxed|fbox|framebox)\s*(?:(\{)|(-?\.?\d[\d.,/]*(?<![.,/])|[A-Z](?![A-Za-z])))"
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BLANK = re.compile(
    r"(?:[\s.?_\u2026]|\\[lc]?dots|\\text\{\s*\})*|(?:your |the |final )*answer", re.I
)
# a closing dollar sign before a letter or digit opens the next formula, or is a price
FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\$((?:\\\$|[^$])+)(?<!\\)\$(?!\w)"
    r"|(?<!\\)\\\((.+?)\\\)|(?<!\\)\\\[(.+?)\\\]",
    re.DOTALL,
)
# full-width characters and the punctuation of Chinese and Japanese
_FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_FULL_WIDTH |= {0x3000: " ", 0x3001: ", ", 0x3002: ". ", ord("和"): " and ", ord("或"): " or "}


class Box(NamedTuple):
    """Where a box stands in a text, and what is in it."""

    start: int
    end: int
    content: str


def boxes(text: str) -> list[Box]:
    """The last boxes of a text whose braces close and that hold something, the last one first."""
    closed = []
    for box in last_matches(_BOX, text):
        end = _closing(text, box.end()) if box[1] else box.end()
        content = text[box.end() : end - 1].strip() if box[1] else box[2]
        if end and not _BLANK.fullmatch(content):
            closed.append(Box(box.start(), end, content))
    return closed


def last_box(text: str) -> str | None:
    """The content of the last box that holds something."""
    return next((box.content for box in boxes(text)), None)


def _closing(text: str, start: int) -> int:
    """Where the brace that opens before `start` has closed, 0 if it does not."""
    depth = 1
    for brace in _BRACE.finditer(text, start, start + 2 * LONGEST):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.end()
    return 0


def last_matches(pattern: re.Pattern, text: str, start: int = 0) -> list[re.Match]:
    """The last matches in a text from `start` on, the last one first."""
    return list(pattern.finditer(text, start))[: -_MOST_MATCHES - 1 : -1]


def inside(formula: re.Match) -> str:
    """What stands between the delimiters of a match of FORMULA."""
    return next(filter(None, formula.groups())).strip()


def half_width(text: str) -> str:
    """Full-width digits, letters and punctuation as plain ones."""
    return text if text.isascii() else text.translate(_FULL_WIDTH)


# --- normal form ----------------------------------------------------------------------------------
_IN_LIST = re.compile(
    r"\([^()]*,[^()]*\)|\[[^\[\]]*,[^\[\]]*\]|\\\{.*?\\\}"
)  # whose commas part elements
_THOUSANDS = re.compile(
    r"(?<![\d.,])(?<!\d )[1-9]\d{0,2}(?:(?:,\d{3})+(?!,?\d)|(?: \d{3})+(?! ?\d))"
)


_TYPOGRAPHY = [(re.compile(pattern), form) for pattern, form in _WRITTEN["patterns"]]


@lru_cache(maxsize=4096)  # a gold meets many answers
def normalise(text: str) -> str:
    """One form for what differs in typography only: delimiters, \\dfrac, Unicode, spacing,
    thousands separators.
    """
    text = half_width(text).strip(" \n*")
    for _ in range(3):  # nested delimiters
        if formula := FORMULA.fullmatch(text):
            text = inside(formula)
        elif box := _BOX.match(text) and last_box(text):
            text = box
    if r"\begin" not in text:  # no rows to end: these are commands escaped twice
        text = re.sub(r"\\\\(?=[a-zA-Z]{2})", r"\\", text)
    for pattern, form in _TYPOGRAPHY:
        if pattern.search(text):  # cheaper than a replacement that replaces nothing
            text = pattern.sub(form, text)
    text = text.strip()
    if not text.endswith("\\."):
        text = text.rstrip(".,;:").strip()
    if not _IN_LIST.search(text):  # 1,234 outside brackets is one number
        text = _THOUSANDS.sub(lambda number: re.sub("[ ,]", "", number[0]), text)
    return text


# --- plain numbers --------------------------------------------------------------------------------
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)"
_FRACTION = re.compile(r"\\frac(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d))(?![\d.])")
_TIMES_TEN = re.compile(r"(?:\\times|\\cdot|\*|x)10\^\{?(-?\d{1,3})\}?(?!\d)")
_NUMBER = re.compile(
    rf"([-+]?) ?(?:(\d+) (?=\d+/\d+\Z))?({_DECIMAL}(?:[eE][-+]?\d{{1,3}}(?!/))?)(?:/({_DECIMAL}))?"
)
_REPEATING = re.compile(r"([-+]?)(\d*)\.(\d*)\\overline\{?(\d+)\}?")


def number(text: str) -> Fraction | None:
    """The exact value of a plain number, None for all else.

    Integers, decimals (also 0.\\overline{3}), fractions, mixed numbers and powers of ten, with or
    without a sign.
    """
    # "2 1/3" is a mixed number, "1. 42" the first of a list: their spaces say something
    text = text.strip() if re.search(r"[\d.] [\d.]", text) else text.replace(" ", "")
    if len(text) > 400:
        return None
    if repeating := _REPEATING.fullmatch(text):
        sign, whole, once, period = repeating.groups()
        repeated = Fraction(int(period), 10 ** len(period) - 1)
        value = (int(f"{whole}{once}" or 0) + repeated) / 10 ** len(once)
        return -value if sign == "-" else value
    text = _TIMES_TEN.sub(r"e\1", _FRACTION.sub(r" \1\2/\3\4", text)).strip()
    plain = _NUMBER.fullmatch(text)
    if not plain or not Fraction(plain[4] or 1):
        return None
    value = int(plain[2] or 0) + Fraction(plain[3]) / Fraction(plain[4] or 1)
    return -value if plain[1] == "-" else value


# --- references that are none ---------------------------------------------------------------------
def is_answer(reference: str) -> bool:
    """Whether a reference can be compared with, rather than stand for one that nobody gave.

    NuminaMath and what was made from it write "proof" and "notfound".
    """
    bare = re.sub(r"\\(?:text|mathrm|boxed)\b|[{}$*\"']", "", reference)
    return bare.strip(" \t\r\n.").lower() not in _WRITTEN["no_answers"]
