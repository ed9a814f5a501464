"""Where the final answer of a completion stands (docs/grading.md).

Boxes and phrases state answers, and the last statement counts that holds one. phrases.yml has the
phrases, of several languages.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ded.files import read_yaml
from ded.problems.answers import (
    FORMULA,
    LONGEST,
    Box,
    boxes,
    half_width,
    inside,
    last_matches,
    normalise,
    number,
)

_UNIT = re.compile(
    r"\s*\$?\s*(\\(?:text|mbox|mathrm)\s*\{(?!\W*(?:and|or)\b)[^{}\d]*[a-z][^{}\d]*\})"
)
_ANSWER_TEXT = re.compile(r"\\text\s*\{[^{}]*\banswer\b[^{}]*\}", re.I)
# boxes with no more than this between them are one list
_BETWEEN = re.compile(
    r"(?:[\s$,;&~]|\\[()\[\],;! \\]|\\q?quad|\\text\s*\{(?:[^{}]*\b(?:and|or)\b[^{}]*|[\s,;]*)\}"
    r"|(?:\w+\s+){0,2}\b(?:and|or)\b|\\?[a-zA-Z]\w{0,5}\s*(?:=|\bis\b))*"
)
_END = re.compile(
    r"(?<=\d)\.(?=\s)|[.!?](?!(?<=^[A-J]\.)\s+[-$\d\\])(?=[\s)\"'*_]*(?:$|\s[^a-z\s]))|\n|</answer>"
)
_LISTED = re.compile(r"[\s*_:]*(?:\n\s*(?:[-*\u2022]|\d+[.)]|\([a-z]\))\s+[^\n]+){2,}")
_VERB = re.compile(r"\b(?:is|are|was|be|equals?)\b\s*:?|[=:](?!=)")
_CLAUSE = re.compile(
    r"\b(?:that|there|is|are|was|were|we|you|I|it|this|these|which|than|depends?|follows?|has|have)\b"
)
_VALUE = re.compile(r"[-+\u00b1]?\s*[\d.$\u20ac\u00a3(\[{\\|\u221a]|\\?[A-Za-z]\w{0,2}\s*=")
# a value, or the letter of an option
_STRONG = re.compile(rf"{_VALUE.pattern}|\(?[A-Z]\)?(?![a-z])")
_NOT = re.compile(r"(?:not|n't)\s+(?:[^a-z]|[a-z]\b)")
_NOT_BUT = re.compile(
    r"(?:not|n't)\s.{1,40}?(?:\bbut\s+(?:rather\s+)?|[,;]\s*(?:rather\s+)?it(?:'s|\s+is)\s+)"
)
_CONNECTIVE = re.compile(
    r"(?:(?:therefore|thus|hence|so|then|and|finally|we (?:get|have)|it follows that|\\therefore"
    r"|[\u2234\u6545]|\u6240\u4ee5|\u56e0\u6b64)[\s,:]*)*=?\s*",
    re.I,
)


_MOST_WORDS = 6  # of an answer that is words
_TAIL = 300  # characters, in which the last line is looked for, and statements first
_OPAQUE = re.compile(FORMULA.pattern + r"|\\(?:text\w*|mbox|mathrm)\s*\{[^{}]*\}", re.DOTALL)
_LAST_LINE = re.compile(
    rf"^{_CONNECTIVE.pattern}(?P<value>{FORMULA.pattern}|[^\n]*)\Z", re.I | re.M | re.S
)
_NAMED = re.compile(r"\\?[A-Za-z]\w{0,2}\s*=[^=]*$")
_CALCULATION = re.compile(r"<<[^<>]*>>")  # as GSM8K has them
_TAG = re.compile(r"</?\w+>")
# what has a digit, up to the next space: digits in groups, mixed numbers, all else
_CHUNK = re.compile(
    r"(?<!\S)[-+(*]*\\?[$\u20ac\u00a3]?\d{1,3}(?: \d{3})+(?!\d)\S*"
    r"|(?<!\S)(?:\d+ (?=\d+/\d))?\S*\d\S*"
    r"(?:\s+(?:\\?%|(?:per ?cent|pct|hundred|thousand|million|billion)\b))?"
)
_MEASURE = re.compile(
    r"[-+\u2212]?\\?[$\u20ac\u00a3]?(?P<value>[-+\u2212]?[\d.,/:^eE{} +-]*\d\}?)"
    r"(?:st|nd|rd|th|\s*(?:\\?%|per ?cent|pct)|[\u00b0\u20ac\u00a2]|/\w+|[kcm]?m[\u00b2\u00b3]?|k?g"
    r"|m?[lL]|lbs?|oz|ft|in|h|hrs?|mins?|s|secs?|mph|[ap]m|[KMGT][bB])?"
)
_PERCENT = re.compile(r"\s*(?:\\?%|(?:per ?cent|pct)\b)")
_AS_WRITTEN = re.compile(r"\d+(?::\d+)+|\d+\^\{?-?\d+\}?")


class Statement(NamedTuple):
    """What a completion states as its final answer.

    text: None where what stands before is taken back. kind: "box", or the key of phrases.yml.
    position: where it stands in the completion. exact: False for "about 5".
    """

    text: str | None
    kind: str
    position: int
    exact: bool = True


def extract(text: str, last_number: bool = False) -> str | None:
    """The final answer in a text, None if there is none.

    In this order: the last statement that holds an answer; a text whose last line is nothing but a
    formula or a number; and, where the task allows `last_number`, the last number in the text.
    Nothing counts that stands before a retraction.
    """
    text = _CALCULATION.sub("", half_width(text))
    inexact = None
    for statement in statements(text):
        if statement.text is None:
            text = text[statement.position :]
            break
        answer = statement.text if statement.kind == "box" else _answer(statement)
        if answer and statement.exact and (statement.kind == "box" or _STRONG.match(answer)):
            return answer
        inexact = inexact or answer
    return inexact or _last_line(text) or (_last_number(text) if last_number else None)


def statements(text: str, *more: str) -> Iterator[Statement]:
    """The statements of a text, the last one first. more: further keys of phrases.yml."""
    text = half_width(text)
    boxed = {box.start: box.content for box in _lists(text)}
    seen: set[tuple[int, str]] = set()
    for start in dict.fromkeys((max(0, len(text) - _TAIL), 0)):  # mostly, the tail decides
        places = {(position, "box") for position in boxed if position >= start}
        places |= {(end, kind) for kind in ("answer", *more) for end in _ends(kind, text, start)}
        first = min(places, default=(len(text),))[0]
        corrected = {(end, "correction") for end in _ends("correction", text, first)}
        corrected |= {(end, "retraction") for end in _ends("retraction", text, first)}
        for position, kind in sorted((places | corrected) - seen, key=_order, reverse=True):
            if kind == "box":
                yield Statement(boxed[position], kind, position)
            elif kind == "retraction":
                yield Statement(None, kind, position)
            else:
                yield _sentence(text, position, kind)
        seen = places | corrected


def _order(place: tuple[int, str]) -> tuple[int, bool]:
    """A box right after a phrase is what the phrase announces."""
    position, kind = place
    return position, kind == "box"


@cache
def _phrases(kind: str) -> re.Pattern:
    phrases = read_yaml(Path(__file__).with_name("phrases.yml"))
    return re.compile("|".join(f"(?:{each})" for each in phrases[kind]), re.I | re.M)


def _ends(kind: str, text: str, start: int) -> list[int]:
    """Where the last phrases of a kind end, of those after `start`."""
    return [phrase.end() for phrase in last_matches(_phrases(kind), text, start)]


def _lists(text: str) -> list[Box]:
    """The boxes of a text, the last one first; boxes with nothing between them are one list, and a
    box has the unit that follows it.
    """
    grouped: list[list[Box]] = []
    for box in boxes(text):
        after = grouped[-1][0].start if grouped else 0
        if box.end <= after and _BETWEEN.fullmatch(text, box.end, after):
            grouped[-1].insert(0, box)
        else:
            grouped.append([box])
    return [_joined(group, text) for group in grouped]


def _joined(group: list[Box], text: str) -> Box:
    first, last = group[0], group[-1]
    contents = [_ANSWER_TEXT.sub("", box.content).strip() for box in group]
    contents = list(dict.fromkeys(contents))
    separator = " or " if re.search(r"\bor\b", text[first.end : last.start]) else ", "
    unit = _UNIT.match(text, last.end)
    return Box(last.start, last.end, separator.join(contents) + (unit[1] if unit else ""))


# --- phrases --------------------------------------------------------------------------------------
def _sentence(text: str, start: int, kind: str) -> Statement:
    """What is stated after a phrase: the rest of its sentence, without emphasis, delimiters of
    formulas and qualifiers. A line that ends with a colon goes on in the next one.
    """
    rest = text[start : start + 2 * LONGEST]
    if listed := _LISTED.match(rest):
        rest = re.sub(r"\n\s*\S+\s+", ", ", listed[0]).lstrip(" *_:,")
    rest = re.sub(r"(?<![\w)])\*\*|\*\*(?![\w(-])|`|^\s*-{3,}$", "", rest, flags=re.M)
    rest = re.sub(r":[\s_]*\n\s*", ": ", rest).lstrip(' \t\n*_>#=:~"\u201c')
    while lead := _phrases("lead").match(rest):
        rest = rest[lead.end() :]
    if about := _phrases("about").match(rest):
        rest = rest[about.end() :]
    rest = _NOT_BUT.sub("", rest, count=1) if _NOT_BUT.match(rest) else rest
    if _NOT.match(rest):  # says nothing about what is
        return Statement("", kind, start)
    for end in (_END, _phrases("qualifier")):
        if match := end.search(_hidden(rest)):
            rest = rest[: match.start()]
    return Statement(_plain(rest), kind, start, exact=not about)


def _hidden(text: str) -> str:
    """A text of the same length, in which nothing in formulas and \\text{...} can be read."""
    return _OPAQUE.sub(lambda formula: "$" * len(formula[0]), text)


def _plain(text: str) -> str:
    """A text without the delimiters of its formulas, nor of one whose other end is elsewhere."""
    text = FORMULA.sub(lambda formula: f" {inside(formula).strip()} ", text)
    text = re.split(r"\\[\])]", text)[0]
    return re.sub(r"(?<!\\)\$(?!\d)|\s+", " ", text).strip(' *_"\u201d')


def _answer(statement: Statement) -> str | None:
    """The answer in a sentence, None if it holds none: a value, or a few words; of a clause ("the
    largest n is 34"), the value after its last verb. A correction holds a plain number.
    """
    text = statement.text or ""
    if statement.kind == "correction":
        return text if _is_number(text) else None
    if _is_answer(text):
        return text
    *_, end = [0, *(verb.end() for verb in _VERB.finditer(text))]
    value = text[end:].strip()
    return value if end and _VALUE.match(value) and _is_answer(value) else None


def _is_answer(text: str) -> bool:
    prose = re.sub(r"\\(?:text\w*|mathrm|mbox)\s*\{[^{}]*\}|\\[a-zA-Z]+", " ", text)
    short = len(re.findall(r"[^\W\d_]{2,}", prose)) <= _MOST_WORDS or _VALUE.match(text)
    return bool(text.strip(".$") and short and not _CLAUSE.search(prose))


def _is_number(text: str) -> bool:
    return number(normalise(text)) is not None


# --- texts without a statement --------------------------------------------------------------------
def _last_line(text: str) -> str | None:
    """What a text ends with, or None: a formula (without its delimiters) or a number that has the
    last line to itself, or follows "so" or "x =" there.
    """
    text = text.lstrip(" \n*_").rstrip(" \n*_.")
    if formula := FORMULA.fullmatch(text[: LONGEST + 1]):
        return inside(formula).strip()
    last = _LAST_LINE.search(text, max(0, len(text) - _TAIL))
    if not last:
        return None
    line = _plain(last["value"])
    value = line.rpartition("=")[2] if _NAMED.match(line) else line
    is_value = _is_number(value) or ("=" not in value and FORMULA.fullmatch(last["value"]))
    return value.strip() if is_value else None


def _last_number(text: str) -> str | None:
    """The last number in a text as a whole (1/5, 1e-5, 5:30; of a formula, all of it), None where
    the last digits belong to something else: a range, a date, a version, a name.
    """
    text = _TAG.sub("", text[-2 * LONGEST :])
    chunks = last_matches(_CHUNK, _hidden(text))[:1]
    start = chunks[0].start() if chunks else -1
    formulas = [each for each in FORMULA.finditer(text) if re.search(r"\d", each[0])]
    if formulas and formulas[-1].start() > start:
        percent = _PERCENT.match(text, formulas[-1].end())
        return inside(formulas[-1]).strip() + (percent[0] if percent else "")
    if not chunks:
        return None
    chunk = chunks[0][0].rpartition("=")[2]
    chunk = chunk.lstrip("([{\"'*_~\u2248>").rstrip(")]}\"'*_~.,;:!?")
    match = _MEASURE.fullmatch(chunk)
    if _is_number(chunk):
        return chunk
    whole = match and (_is_number(match["value"]) or _AS_WRITTEN.fullmatch(match["value"]))
    return re.sub(r"(?<=\d)[a-zA-Z/\u20ac\u00a2\u00b0\u00b2\u00b3]+$", "", chunk) if whole else None
