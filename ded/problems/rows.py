"""A row of recorded traces, read by a column map: its question and its trajectories
(docs/sources.md, "Recorded traces").
"""

import math
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict

from ded.errors import SourceError
from ded.problems import texts
from ded.problems.answers import is_answer

CUT = ("length", "max_tokens", "max_output_tokens")  # finish reasons of a trace that was cut off
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # keys of a turn beside its content
# what a map has columns for: the type of its values, and what to call that
KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("question", "text", "thinking", "finish_reason"), (str, "text")),
    "complete": (bool, "true or false"),
    "n_tokens": ((int, float), "a number"),
}

Columns = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class Map(BaseModel):
    """Which columns hold what; see params/recorded.yml."""

    model_config = ConfigDict(extra="forbid")
    question: Columns
    text: Columns = ()  # not of what holds reference answers alone
    gold: Columns = ()
    text_with_thinking: Columns = ()
    thinking: Columns = ()
    finish_reason: Columns = ()
    complete: Columns = ()
    n_tokens: Columns = ()
    config: str | None = None
    split: str = "train"


class Trace(NamedTuple):
    """A recorded trajectory; n_tokens is NaN where nobody recorded it."""

    text: str
    finish_reason: str
    n_tokens: float


class Row(NamedTuple):
    """A row and the map that it is read by."""

    place: str
    cells: dict[str, Any]
    columns: Map

    def error(self, problem: str) -> SourceError:
        """The error that names its place."""
        return SourceError(f"{self.place}: {problem}")


def read(row: Row) -> tuple[str, list[Trace]]:
    """(the question, its traces) of a row; SourceError for what it lacks or what is of another
    type.
    """
    question = question_of(row)
    cells = {key: _cell(row, key) for key in KINDS if key != "question"}
    name, value = cells["text"]
    if _is_conversation(value):
        text, thinking = _turn(row, name, value, "assistant")
        cells |= {"text": (name, text), "thinking": (name, thinking)}
    answers = cells["text"][1]
    n = len(answers) if isinstance(answers, list) else 1
    samples = zip(*(_each(row, key, *cell, n) for key, cell in cells.items()), strict=True)
    return question, [_trace(*sample) for sample in samples]


def question_of(row: Row) -> str:
    """The question of a row; SourceError for none, or one of another type."""
    name, value = _cell(row, "question")
    if _is_conversation(value):
        value, _ = _turn(row, name, value, "user")
    (question,) = _each(row, "question", name, value, 1)
    return question or ""


def gold_of(row: Row) -> str:
    """The reference answer of a row, "" where it has none: a solution in prose is none."""
    _, value = _cell(row, "gold")
    gold = str(value).strip() if isinstance(value, str | int | float) else ""
    return gold if gold and "\n" not in gold and is_answer(gold) else ""


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(turn, dict) for turn in value)


def _cell(row: Row, key: str) -> tuple[str, Any]:
    """(name, value) of the first column for `key` that is not null, (key, None) where all are."""
    columns, cells = row.columns, row.cells
    names = [name for name in getattr(columns, key) if name.partition("+")[0] in cells]
    if key == "text" and not names:
        beside = any(cells.get(name) for name in columns.thinking)
        there = [name for name in columns.text_with_thinking if cells.get(name)]
        names = [n for n in there if beside or texts.thinks(texts.plain(str(cells[n])))]
    if not names and key in ("question", "text"):
        lack = f"no column {' or '.join(map(repr, getattr(columns, key)))} for the {key}; it has "
        mend = "name another map after '#', or write one in params/recorded.yml, "
        mend += "as mine: {question: <column>, text: <column>}"
        raise row.error(f"{lack}{', '.join(cells)}: {mend}")
    for name in names:
        value, *below = (cells.get(part) for part in name.split("+"))
        if value is not None:
            return name, f"{value}\n{below[0]}" if any(below) else value
    return key, None


def _each(row: Row, key: str, name: str, value: Any, n: int) -> list[Any]:
    """The values of a cell for n samples, None for null; one that is no list is that of each."""
    values, (kind, what) = value if isinstance(value, list) else [value] * n, KINDS[key]
    if len(values) != n:
        lengths = f"{name} has {len(values)} values for {n} traces"
        raise row.error(f"{lengths}: lists of a row need the same length")
    for item in values:
        if item is not None and not isinstance(item, kind):
            raise row.error(f"{name} is {item!r:.40}, not {what}")
    return values


def _turn(row: Row, name: str, turns: list[Any], role: str) -> tuple[str, str]:
    """(text, thinking) of the assistant's first turn, or of the user's last before it."""
    try:
        roles = [str(turn.get("role") or turn.get("from")).lower() for turn in turns]
        roles = [ROLES.get(of, of) for of in roles]
        end = roles.index("assistant") if "assistant" in roles else len(turns)
        places = [i for i, of in enumerate(roles[: end + 1]) if of == role]
        if not places:
            raise row.error(f"{name} has no turn of the {role}'s, but {roles}")
        turn = turns[places[-1]]
        content = turn.get("content", turn.get("value"))
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        thoughts = [*map(turn.get, THOUGHTS), *(part.get("thinking") for part in parts)]
        text = "".join(part.get("text") or "" for part in parts)
    except (AttributeError, TypeError):
        raise row.error(f"{name} is no conversation of texts") from None
    return text, next(filter(None, thoughts), "")


def _trace(text: str, thinking: str, finish: str, complete: bool | None, n_tokens: Any) -> Trace:
    """The trace of one sample, whose values may be None; a text with a think block of its own needs
    no `thinking`.
    """
    text, thinking = texts.plain(text or ""), texts.plain(thinking or "")
    cut = finish.lower() in CUT if finish else complete is False
    if thinking and not texts.thinks(text):
        thinking = thinking.removeprefix(texts.THINK).removesuffix(texts.CLOSE).strip()
        in_thought = cut and not text  # cut off before it came to an answer
        text = f"{texts.THINK}\n{thinking}" + ("" if in_thought else f"\n{texts.CLOSE}\n{text}")
    return Trace(text, "length" if cut else "stop", math.nan if n_tokens is None else n_tokens)
