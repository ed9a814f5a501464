"""Where the final answer of a completion stands (docs/grading.md).

Boxes and phrases state answers, and the last statement counts that holds one. phrases.yml has the
phrases, of several languages.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from ded.files import beside
from ded.problems import answers
from ded.problems.answers import FORMULA, LONGEST

_MOST_WORDS = 6  # of an answer that is words
_TAIL = 300  # characters, in which the last line is looked for, and statements first
_TEXT = r"\\(?:text\w*|mbox|mathrm)\s*\{[^{}]*\}"
_OPAQUE = re.compile(f"{FORMULA.pattern}|{_TEXT}", re.DOTALL)


def pattern(name: str) -> re.Pattern:
    """A regular expression of phrases.yml."""
    return _patterns()[name]


@cache
def _patterns() -> dict[str, re.Pattern]:
    written = beside(__file__, "phrases.yml")
    value = rf"(?P<value>(?s:{FORMULA.pattern})|[^\n]*?)"
    written["last line"] = rf"^{written['so']}{value}(?:{written['closing']})?\Z"
    flags = re.IGNORECASE | re.MULTILINE | re.VERBOSE
    return {name: re.compile(each, flags) for name, each in written.items()}


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
    text = _readable(text)
    inexact = None
    for statement in statements(text):
        if statement.text is None:
            text = text[statement.position :]
            break
        is_box = statement.kind == "box"
        answer = statement.text if is_box else _answer(statement)
        if answer and statement.exact and (is_box or _matches(answer, "value", "word")):
            return answer
        inexact = inexact or answer
    return inexact or _last_line(text) or (_last_number(text) if last_number else None)


def statements(text: str, *more: str) -> Iterator[Statement]:
    """The statements of a text, the last one first. more: further phrases of phrases.yml."""
    text = _readable(text)
    boxed = _boxed(text)
    seen: set[tuple[int, str]] = set()
    for start in dict.fromkeys((max(0, len(text) - _TAIL), 0)):  # mostly, the tail decides
        places = {(position, "box") for position in boxed if position >= start}
        places |= _ends(text, start, "answer", *more)
        if places:
            places |= _ends(text, min(places)[0], "correction", "retraction")
        # a box right after a phrase is what the phrase announces
        later = sorted((position, kind == "box", kind) for position, kind in places - seen)
        for position, is_box, kind in reversed(later):
            if is_box:
                yield Statement(boxed[position], kind, position)
            elif kind == "retraction":
                yield Statement(None, kind, position)
            else:
                yield _sentence(text, position, kind)
        seen = places


def _readable(text: str) -> str:
    if text.isascii() and "<" not in text:
        return text
    return pattern("noise").sub("", answers.half_width(text))


def _matches(text: str, *names: str) -> bool:
    return any(pattern(name).match(text) for name in names)


def _ends(text: str, start: int, *kinds: str) -> set[tuple[int, str]]:
    """Where the last phrases after `start` end, and their kinds."""
    return {
        (phrase.end(), kind)
        for kind in kinds
        for phrase in answers.last_matches(pattern(kind), text, start)
        if phrase.lastgroup != "other"
    }


def _boxed(text: str) -> dict[int, str]:
    """What is in the boxes of a text that are not denied ("not \\boxed{6}"), by where they begin;
    boxes with nothing between them are one list, and a box has the unit that follows it.
    """
    lists: list[list[answers.Box]] = []
    for box in answers.boxes(text):
        after = lists[-1][0].start if lists else 0
        if re.search(r"(?:\bnot|n['\u2019]t) \$?$", text[max(0, box.start - 6) : box.start]):
            continue
        if box.end <= after and pattern("between").fullmatch(text, box.end, after):
            lists[-1].insert(0, box)
        else:
            lists.append([box])
    return {boxes[-1].start: _joined(boxes, text) for boxes in lists}


def _joined(boxes: list[answers.Box], text: str) -> str:
    start, end = boxes[0].start, boxes[-1].end
    contents = (pattern("announced").sub("", box.content).strip() for box in boxes)
    separator = " or " if re.search(r"\bor\b", text[boxes[0].end : boxes[-1].start]) else ", "
    unit = pattern("unit").match(text, end)
    content = separator.join(dict.fromkeys(contents)) + (unit[1] if unit else "")
    frame = text[start - 1 : start] + text[end : end + 1]
    if len(boxes) > 1 and re.fullmatch(r"[(\[][)\]]", frame):
        return frame[0] + content + frame[1]
    return content


# --- phrases --------------------------------------------------------------------------------------
def _sentence(text: str, start: int, kind: str) -> Statement:
    """What is stated after a phrase: the rest of its sentence, without emphasis, delimiters of
    formulas and qualifiers. A line that ends with a colon goes on in the next one.
    """
    rest = text[start : start + 2 * LONGEST]
    if listed := pattern("listed").match(rest):
        rest = re.sub(r"\n\s*\S+\s+", ", ", listed[0]).lstrip(" *_:,")
    rest = re.sub(r"(?<![\w)])\*\*|\*\*(?![\w(-])|`|^\s*-{3,}$", "", rest, flags=re.M)
    rest = re.sub(r":[\s_]*\n\s*", ": ", rest).lstrip(" \t\n*_>#=:~\"'\u201c")
    rest = pattern("lead").sub("", rest)
    exact = not _matches(rest, "about")
    rest = pattern("instead").sub("", pattern("about").sub("", rest))
    if _matches(rest, "negated"):
        return Statement("", kind, start)
    for name in ("end", "qualifier"):
        if match := pattern(name).search(_hidden(rest)):
            rest = rest[: match.start()]
    return Statement(_plain(rest), kind, start, exact)


def _hidden(text: str) -> str:
    """A text of the same length, in which nothing in formulas and \\text{...} can be read."""
    return _OPAQUE.sub(lambda formula: "$" * len(formula[0]), text)


def _plain(text: str) -> str:
    """A text without the delimiters of its formulas, nor of one whose other end is elsewhere."""
    text = FORMULA.sub(lambda formula: f" {answers.inside(formula)} ", text)
    text = re.sub(r"(?<!\\)\$(?!\d)|\s+", " ", text).lstrip(" }")
    depth = 0
    for bracket in re.finditer(r"(?<!^[A-J])\\?[(\[{)\]}]", text):
        depth += 1 if bracket[0][-1] in "([{" else -1
        if depth < 0 and bracket.start() and text[0] != "]":  # ]0,1] is an interval in France
            text = text[: bracket.start()]
            break
    return text.strip(" *_`\"'\u201d")


def _answer(statement: Statement) -> str | None:
    """The answer in a sentence, None if it holds none: a value, or a few words; of a clause ("the
    largest n is 34"), the value after its last verb. A correction holds a plain number.
    """
    text = statement.text or ""
    if statement.kind == "correction":
        return text if _is_number(text) else None
    if _is_answer(text):
        return text
    *_, end = [0, *(verb.end() for verb in pattern("verb").finditer(text))]
    value = text[end:].strip()
    return value if end and _matches(value, "value") and _is_answer(value) else None


def _is_answer(text: str) -> bool:
    prose = re.sub(rf"{_TEXT}|\\[a-zA-Z]+", " ", text)
    short = len(re.findall(r"[^\W\d_]{2,}", prose)) <= _MOST_WORDS or _matches(text, "value")
    return bool(text.strip(".$") and short and not pattern("clause").search(prose))


def _is_number(text: str) -> bool:
    return answers.number(answers.normalise(text)) is not None


# --- texts without a statement --------------------------------------------------------------------
def _last_line(text: str) -> str | None:
    """What a text ends with, or None: a formula (without its delimiters) or a number that has the
    last line to itself, or follows "so" or "x =" there.
    """
    text = text.lstrip(" \n*_").rstrip(" \n*_.")
    if formula := FORMULA.fullmatch(text[: LONGEST + 1]):
        return answers.inside(formula)
    last = pattern("last line").search(text, max(0, len(text) - _TAIL))
    if not last:
        return None
    line = _plain(last["value"])
    value = (line.rpartition("=")[2] if _matches(line, "named") else line).strip()
    is_formula = "=" not in value and FORMULA.fullmatch(last["value"])
    return value if is_formula or _measure(value) == value else None


def _last_number(text: str) -> str | None:
    """The last number in a text as a whole (1/5, 1e-5, 5:30; of a formula, all of it), None where
    the last digits belong to something else: a range, a date, a version, a name.
    """
    text = re.sub(r"</?\w+>", "", text[-2 * LONGEST :])
    chunks = answers.last_matches(pattern("chunk"), _hidden(text))[:1]
    start = chunks[0].start() if chunks else -1
    formulas = [each for each in FORMULA.finditer(text) if re.search(r"\d", each[0])]
    if formulas and formulas[-1].start() > start:
        percent = pattern("percent").match(text, formulas[-1].end())
        return answers.inside(formulas[-1]) + (percent[0] if percent else "")
    if not chunks:
        return None
    chunk = chunks[0][0].rpartition("=")[2]
    chunk = chunk.lstrip("([{\"'*_~\u2248>").rstrip(")]}\"'*_~.,;:!?")
    return _measure(chunk)


def _measure(text: str) -> str | None:
    """A number, time, ratio or power with what stands right beside it (60%, $5), but for a unit
    (5km); None for other texts.
    """
    measure = pattern("measure").fullmatch(text)
    value, unit = measure.group("value", "unit") if measure else (text, None)
    if _is_number(value) or _matches(value, "as_written"):
        return text.removesuffix(unit or "")
    return None
