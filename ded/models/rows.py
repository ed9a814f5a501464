"""A row of recorded traces, read by a column map: its question and its trajectories
(docs/sources.md, "Recorded traces").
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

from ded.errors import SourceError
from ded.problems import texts

CUT = ("length", "max_tokens", "max_output_tokens")  # finish reasons of a trace that was cut off
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # keys of a turn beside its content

Columns = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class Map(BaseModel):
    """Which columns hold what; see params/recorded.yml."""

    model_config = ConfigDict(extra="forbid")
    question: Columns
    text: Columns
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


class Cell(NamedTuple):
    """A column of a row, and what stands there."""

    name: str
    value: Any


class Turn(NamedTuple):
    """One of a conversation, its thinking where that stands apart."""

    role: str
    text: str
    thinking: str


def read_row(place: str, cells: dict[str, Any], columns: Map) -> tuple[str, list[Trace]]:
    """(the question, its traces) of a row; SourceError, with `place`, for what cannot be used."""
    row = Row(place, cells, columns)
    asked, answered, thinking = (row.cell(key) for key in ("question", "text", "thinking"))
    if _is_conversation(asked.value):
        asked = Cell(asked.name, row.turn(asked, "user").text)
    if _is_conversation(answered.value):
        turn = row.turn(answered, "assistant")
        answered, thinking = Cell(answered.name, turn.text), Cell(answered.name, turn.thinking)
    n = len(answered.value) if isinstance(answered.value, list) else 1
    samples = zip(
        row.each(answered, n),
        row.each(thinking, n),
        row.each(row.cell("finish_reason"), n),
        row.each(row.cell("complete"), n, bool, "true or false"),
        row.each(row.cell("n_tokens"), n, (int, float), "a number"),
        strict=True,
    )
    return row.each(asked, 1)[0] or "", [_trace(*sample) for sample in samples]


def _trace(
    text: str | None,
    thinking: str | None,
    finish: str | None,
    complete: bool | None,
    n_tokens: float | None,
) -> Trace:
    """The trace of one sample; a text with a think block of its own needs no `thinking`."""
    text, thinking = texts.plain(text or ""), texts.plain(thinking or "")
    cut = finish.lower() in CUT if finish else complete is False
    if thinking and texts.split(text).thinking is None:
        thinking = thinking.removeprefix(texts.THINK).removesuffix(texts.CLOSE).strip()
        in_thought = cut and not text  # cut off before it came to an answer
        text = f"{texts.THINK}\n{thinking}" + ("" if in_thought else f"\n{texts.CLOSE}\n{text}")
    return Trace(text, "length" if cut else "stop", math.nan if n_tokens is None else n_tokens)


@dataclass(frozen=True)
class Row:
    """A row and the map that it is read by; SourceError for what it lacks or what is of another
    type.
    """

    place: str
    cells: dict[str, Any]
    columns: Map

    def cell(self, key: str) -> Cell:
        """Of the columns for `key` the first that is not null; null where all are."""
        names: tuple[str, ...] = getattr(self.columns, key)
        there = [name for name in names if name.partition("+")[0] in self.cells]
        if key == "text" and not there:
            there = [name for name in self.columns.text_with_thinking if self._thinks(name)]
        if not there and key in ("question", "text"):
            raise self._lacks(key, names)
        filled = (Cell(name, self._joined(name)) for name in there)
        return next((cell for cell in filled if cell.value is not None), Cell(key, None))

    def _lacks(self, key: str, names: tuple[str, ...]) -> SourceError:
        lack = f"no column {' or '.join(map(repr, names))} for the {key}; it has "
        mend = "name another map after '#', or write one in params/recorded.yml, "
        mend += "as mine: {question: <column>, text: <column>}"
        return SourceError(f"{self.place}: {lack}{', '.join(self.cells)}: {mend}")

    def _joined(self, name: str) -> Any:
        """What stands in a column; of "a+b" the second text below the first."""
        first, *more = (self.cells.get(part) for part in name.split("+"))
        if any(more):
            return "\n".join(map(str, filter(None, [first, *more])))
        return first.tolist() if isinstance(first, np.ndarray) else first

    def _thinks(self, name: str) -> bool:
        """Whether a column holds an answer with its thinking, in it or in a column beside."""
        value = self.cells.get(name)
        beside = isinstance(value, str) and self.cell("thinking").value
        return bool(beside) or texts.CLOSE in texts.plain(str(value))

    def each(self, cell: Cell, n: int, kind: Any = str, what: str = "text") -> list[Any]:
        """A cell's values for n samples, None for null; one that is no list is that of each."""
        values = cell.value if isinstance(cell.value, list) else [cell.value] * n
        if len(values) != n:
            lengths = f"{cell.name} has {len(values)} values for {n} traces"
            raise SourceError(f"{self.place}: {lengths}: lists of a row need the same length")
        for value in values:
            if value is not None and not isinstance(value, kind):
                raise SourceError(f"{self.place}: {cell.name} is {value!r:.40}, not {what}")
        return values

    def turn(self, cell: Cell, role: str) -> Turn:
        """The first turn of the assistant's, or the last of the user's before it."""
        try:
            turns = [_turn(turn) for turn in cell.value]
        except (AttributeError, TypeError):
            raise SourceError(f"{self.place}: {cell.name} is no conversation of texts") from None
        roles = [turn.role for turn in turns]
        end = roles.index("assistant") if "assistant" in roles else len(turns)
        candidates = turns[end:][:1] if role == "assistant" else turns[:end]
        for turn in reversed(candidates):
            if turn.role == role:
                return turn
        raise SourceError(f"{self.place}: {cell.name} has no turn of the {role}'s, but {roles}")


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(turn, dict) for turn in value)


def _turn(turn: dict[str, Any]) -> Turn:
    role = str(turn.get("role") or turn.get("from")).lower()
    content = turn.get("content", turn.get("value"))
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    thoughts = [turn.get(name) for name in THOUGHTS] + [part.get("thinking") for part in parts]
    text = "".join(part.get("text") or "" for part in parts)
    return Turn(ROLES.get(role, role), text, next(filter(None, thoughts), ""))
