"""The user's own problems, from a local file (`file:<path>`)."""

import json
import logging
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ded.errors import SourceError, first_fault
from ded.problems import files
from ded.problems.answers import is_answer
from ded.problems.prompts import worded
from ded.problems.record import Problem, content_hash, split_of
from ded.problems.source import Source

log = logging.getLogger("ded")
# as a mapping, or as text in CSV
_mapping = BeforeValidator(lambda cell: json.loads(cell or "{}") if isinstance(cell, str) else cell)


class Row(BaseModel):
    """One row: `prompt` is shown as it is, `question` inside the template of its kind."""

    model_config = ConfigDict(coerce_numbers_to_str=True, str_strip_whitespace=True)

    prompt: str = ""
    question: str = Field("", validation_alias=AliasChoices("question", "problem"))
    answer: str = ""
    kind: Literal["exact", "choice", "math", "code"] = "math"
    level: int = Field(0, ge=0)
    id: str = ""
    split: Literal["train", "dev", "test", ""] = ""
    family: str = ""
    meta: Annotated[dict[str, Any], _mapping] = {}

    def lack(self) -> str:
        """What the row lacks to be asked and graded, "" for nothing."""
        if not self.prompt and not self.question:
            return "no prompt and no question, or an empty one"
        if self.kind == "code":
            lack = f"code needs meta.tests, {files.TESTS}, or meta.assertions, a text"
            return "" if files.has_tests(self.meta) else lack
        if not self.answer:
            return "no answer, or an empty one"
        options = self.meta.get("options")
        letters = ascii_uppercase[: len(options)] if isinstance(options, list) else ""
        if self.kind == "choice" and self.answer not in [*letters]:
            return "a choice needs meta.options, and the letter of one of them as its answer"
        return ""

    def problem(self, family: str) -> Problem:
        """The problem of this row, of its own family or else `family`."""
        prompt, meta, family = self.prompt, self.meta, self.family or family
        if not prompt:
            prompt, meta = worded(self.kind, self.question, meta)
        name = self.id or f"{family}:{content_hash(prompt):016x}"
        return Problem(name, family, self.level, prompt, self.answer, self.kind, meta)


class OwnFile(Source):
    """A file of the user's: `file:<path>`. Every row of it is checked."""

    form = "file:<path>"
    licence = "the file's own terms"

    def __init__(self, text: str) -> None:
        """The family is the file's name."""
        super().__init__(text)
        self.family = Path(self.name).stem

    def check(self) -> None:
        """SourceError where there is no such file."""
        files.find(self.name)

    def load(self, n: int, split: str, seed: str) -> list[Problem]:
        """n problems of those that the column `split`, else a hash of the question, puts there.

        Rows whose answer is none ("proof", "notfound", empty) are left out, with a warning.
        """
        places: dict[str, str] = {}
        problems, without = {}, []
        for place, cells in files.rows(self.name):
            row = _checked(place, cells)
            if row.kind == "math" and not is_answer(row.answer):
                without.append(f"{row.answer!r} at {place}")
                continue
            problem = row.problem(self.family)
            files.note(places, problem.id, place)
            if split == (row.split or split_of(row.prompt or row.question)):
                problems[problem.id] = problem
        if without:
            why = f"their answers are none, the first being {without[0]}"
            log.warning("%s: %d row(s) are left out: %s", self.text, len(without), why)
        if not places:
            raise SourceError(f"{self.name}: holds no questions that can be graded")
        return [problems[name] for name in self.pick(list(problems), n, split, seed)]


def _checked(place: str, cells: dict) -> Row:
    try:
        given = {key: cell for key, cell in cells.items() if cell not in (None, "")}
        row = Row.model_validate(given)
        none = row.kind == "math" and "answer" in cells and not is_answer(row.answer)
        problem = "" if none else row.lack()
        if not problem:
            return row
    except ValidationError as error:
        problem = first_fault(error)
    raise SourceError(f"{place}: {problem} (docs/sources.md); its columns: {', '.join(cells)}")
