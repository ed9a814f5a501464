"""The user's own problems, from a local file (`file:<path>`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ded.errors import SourceError
from ded.problems import files
from ded.problems.prompts import listing, render
from ded.problems.record import Problem, content_hash, split_of
from ded.problems.source import Source


class Row(BaseModel):
    """One row: `prompt` is shown as it is, `question` inside the template of its kind."""

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
    def _from_text(cls, value: Any) -> Any:
        return json.loads(value or "{}") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> Row:
        letters = [chr(65 + i) for i in range(len(self.meta.get("options", [])))]
        problem = ""
        if not self.prompt and not self.question:
            problem = "no prompt and no question, or an empty one"
        elif self.kind == "code" and not (self.meta.get("tests") or self.meta.get("assertions")):
            problem = "code needs meta.tests or meta.assertions"
        elif self.kind != "code" and not self.answer:
            problem = "no answer, or an empty one"
        elif self.kind == "choice" and self.answer not in letters:
            problem = "a choice needs meta.options, and the letter of one of them as its answer"
        if problem:
            raise ValueError(f"{problem} (docs/sources.md)")
        return self

    def problem(self, family: str) -> Problem:
        """The problem of this row, of its own family or else `family`."""
        prompt, meta, family = self.prompt, self.meta, self.family or family
        if not prompt:
            choices = listing(self.meta["options"]) if self.kind == "choice" else ""
            prompt = self.question + choices
            if self.kind != "exact":
                template: str = self.kind
                if self.kind == "code":
                    template = "function" if "entry" in self.meta else "stdin"
                prompt, meta = render(template, prompt), meta | {"template": template}
        name = self.id or f"{family}:{content_hash(prompt):016x}"
        return Problem(name, family, self.level, prompt, self.answer, self.kind, meta)


class OwnFile(Source):
    """A file of the user's: `file:<path>`. Every row of it is checked."""

    form: ClassVar[str] = "file:<path>"
    licence = "the file's own terms"

    def __init__(self, text: str) -> None:
        """The family is the file's name."""
        super().__init__(text)
        self.family = Path(self.name).stem

    def _split(self, rest: str) -> tuple[str, str]:
        return rest, ""  # a path may hold any sign

    def check(self) -> None:
        """SourceError where there is no such file."""
        files.find(self.name)

    def load(self, n: int, split: str, seed: str) -> list[Problem]:
        """n problems of those that the column `split`, else a hash of the question, puts there."""
        places: dict[str, str] = {}
        problems = {}
        for place, row in files.rows(self.name):
            checked = _checked(place, row)
            problem = checked.problem(self.family)
            if problem.id in places:
                raise files.repeated(problem.id, place, places[problem.id])
            places[problem.id] = place
            if split == (checked.split or split_of(checked.prompt or checked.question)):
                problems[problem.id] = problem
        if not places:
            raise SourceError(f"{self.name}: holds no questions")
        return [problems[name] for name in self.pick(list(problems), n, split, seed)]


def _checked(place: str, row: dict) -> Row:
    try:
        return Row.model_validate({key: cell for key, cell in row.items() if cell is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{first['loc'][0]} = {str(first['input'])[:40]!r}: " if first["loc"] else ""
        why = first["msg"].removeprefix("Value error, ")
        raise SourceError(f"{place}: {where}{why}; its columns: {', '.join(row)}") from None
