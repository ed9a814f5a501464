"""Local files of questions: their rows, each with its place, and the user's own problems (`file:<path>`)."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ded.errors import SourceError
from ded.problems.prompts import render
from ded.problems.record import Problem, content_hash, split_of

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")


def find(path: str) -> Path:
    """The file of this path; SourceError where there is none, or none that can be read."""
    file = Path(path).expanduser()
    if file.suffix.lower() not in SUFFIXES or not file.is_file():
        raise SourceError(
            f"{path}: no such file here; a file of questions ends in {', '.join(SUFFIXES)}"
        )
    return file


def copy_of(hub_id: str) -> Path | None:
    """The local copy of a hub data set in the folder that DED_DATA names: <org>/<name> and a suffix, or a folder <org>/<name>; None without one."""
    if not (root := os.environ.get("DED_DATA")):
        return None
    place = Path(root).expanduser() / hub_id
    return next(
        (
            path
            for path in [place, *(place.with_name(place.name + suffix) for suffix in SUFFIXES)]
            if path.exists()
        ),
        None,
    )


def rows(path: str, columns: Iterable[str] = ()) -> Iterator[tuple[str, dict]]:
    """(place, row) of each row, place being `file:line`, or `file: row n` where a file has no lines. SourceError, with the
    place, for a row that cannot be read or lacks one of `columns`."""
    import pyarrow

    try:
        for place, row in _rows(path, find(path)):
            if not isinstance(row, dict):
                raise SourceError(f"{place}: {str(row)[:40]!r} is no object with columns")
            if missing := [name for name in columns if name not in row]:
                raise SourceError(
                    f"{place}: no column {missing[0]!r}; it has {', '.join(row)}; docs/sources.md tells what it needs"
                )
            yield place, row
    except SourceError:
        raise
    except (OSError, ValueError, csv.Error, pyarrow.ArrowException) as error:
        raise SourceError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); save it whole, as UTF-8 text or Parquet"
        ) from None


def _rows(path: str, file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix.lower() == ".parquet":
        from pyarrow import parquet

        found = (
            row
            for batch in parquet.ParquetFile(file).iter_batches(256)
            for row in batch.to_pylist()
        )
        yield from ((f"{path}: row {i}", row) for i, row in enumerate(found, 1))
        return
    with file.open(encoding="utf-8-sig", newline="") as stream:
        if file.suffix.lower() == ".csv":
            for row in (reader := csv.DictReader(stream, restkey="")):
                if "" in row or None in row.values():
                    raise SourceError(
                        f"{path}:{reader.line_num}: not as many cells as columns; quote cells that hold commas or line ends"
                    )
                yield f"{path}:{reader.line_num}", row
        elif file.suffix.lower() == ".json":
            found = _json(path, stream.read())
            yield from (
                (f"{path}: row {i}", row)
                for i, row in enumerate(found if isinstance(found, list) else [found], 1)
            )
        else:
            yield from (
                (f"{path}:{i}", _json(f"{path}:{i}", line))
                for i, line in enumerate(stream, 1)
                if line.strip()
            )


def _json(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SourceError(
            f"{place}: not whole JSON ({error}); .jsonl holds one object a line, .json a list of them"
        ) from None


def add(found: dict, name: str, place: str, what: Any) -> None:
    """found[name] = (place, what); SourceError where the name is taken."""
    if name in found:
        raise SourceError(
            f"{place}: the question {name!r} stands already at {found[name][0]}; drop repeats, and give each its own id"
        )
    found[name] = place, what


def listing(options: list[str]) -> str:
    """Options as lettered lines below a question."""
    return "\n" + "".join(f"\n{chr(65 + i)}) {option}" for i, option in enumerate(options))


class Row(BaseModel):
    """One of the user's rows: `prompt` is shown as it is, `question` inside the template of its kind."""

    model_config = ConfigDict(coerce_numbers_to_str=True, str_strip_whitespace=True)
    prompt: str = ""
    question: str = ""
    answer: str = ""
    kind: Literal["exact", "choice", "math", "code"] = "math"
    level: int = Field(0, ge=0)
    id: str = ""
    split: Literal["train", "dev", "test", ""] = ""
    family: str = ""
    meta: dict[str, Any] = {}

    @field_validator("meta", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return json.loads(value or "{}") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> Row:
        letters = [chr(65 + i) for i in range(len(self.meta.get("options", [])))]
        for wrong, why in (
            (not self.prompt and not self.question, "no prompt and no question, or an empty one"),
            (self.kind != "code" and not self.answer, "no answer, or an empty one"),
            (
                self.kind == "code" and not (self.meta.get("tests") or self.meta.get("assertions")),
                "code needs meta.tests or meta.assertions",
            ),
            (
                self.kind == "choice" and self.answer not in letters,
                "a choice needs meta.options, and the letter of one of them as its answer",
            ),
        ):
            if wrong:
                raise ValueError(f"{why} (docs/sources.md)")
        return self

    def problem(self, family: str) -> Problem:
        template = {"code": "function" if "entry" in self.meta else "stdin"}.get(
            self.kind, self.kind
        )
        prompt, meta = (
            self.prompt
            or self.question + (listing(self.meta["options"]) if self.kind == "choice" else ""),
            self.meta,
        )
        if not self.prompt and self.kind != "exact":
            prompt, meta = render(template, prompt), meta | {"template": template}
        return Problem(
            self.id or f"{family}:{content_hash(prompt):016x}",
            family,
            self.level,
            prompt,
            self.answer,
            self.kind,
            meta,
        )


def load(path: str, split: str) -> list[Problem]:
    """The problems of one split of the user's file, in order; every row of the file is checked."""
    found: dict[str, tuple[str, tuple[str, Problem]]] = {}
    for place, row in rows(path):
        try:
            made = Row.model_validate(
                {key: value for key, value in row.items() if value is not None}
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = f"{first['loc'][0]} = {str(first['input'])[:40]!r}: " if first["loc"] else ""
            raise SourceError(
                f"{place}: {where}{first['msg'].removeprefix('Value error, ')}; its columns: {', '.join(row)}"
            ) from None
        problem = made.problem(made.family or Path(path).stem)
        add(
            found,
            problem.id,
            place,
            (made.split or split_of(made.prompt or made.question), problem),
        )
    if not found:
        raise SourceError(f"{path}: holds no questions")
    return [problem for _, (where, problem) in found.values() if where == split]
