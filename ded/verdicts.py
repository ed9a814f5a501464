"""Anyone's answers graded: a file of rows in, the same rows with a verdict out (`ded grade`).

A row has ``question``, ``gold`` (the reference answer) and ``answer`` (a whole completion, thinking
included). ``kind`` is "math" unless it is "choice" (with ``options``; the gold is a letter),
"exact", or "code", which has ``tests`` in place of a gold: `files.TESTS`, or assertions as text.
``finish_reason`` "length" marks what was cut off. What else `META` names is as in a problem's
meta (see `ded.grading.code`); other columns are handed on as they are.
"""

from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ded.errors import SourceError, first_fault
from ded.grading import grade
from ded.options import Grading
from ded.problems import files
from ded.problems.answers import is_answer
from ded.problems.record import Problem

META = {"options", "tests", "assertions", "entry", "tolerance", "last_number", "preamble"}
META |= {"checker", "input_mode", "time_limit", "memory_limit"}


class _Row(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True, extra="allow")

    question: str
    answer: str | None
    gold: str = ""
    kind: Literal["math", "choice", "code", "exact"]
    finish_reason: str | None = None
    options: list[str] = []
    entry: str = ""
    tests: Any = ()
    assertions: str = ""
    tolerance: float = Field(ge=0)

    def lack(self) -> str:
        """What the row lacks to be graded, "" for nothing."""
        letters = [chr(ord("A") + i) for i in range(len(self.options) or 26)]
        if self.kind == "choice" and self.gold not in letters:
            return f"the gold of a choice is a letter, {letters[0]} to {letters[-1]}"
        if self.kind != "code":
            return "" if self.gold.strip() else "no gold, or an empty one"
        if self.assertions:
            return "entry must name what check is to call" if "check()" in self.assertions else ""
        whole = files.has_tests({"tests": self.tests, "entry": self.entry})
        return "" if whole else f"tests must be {files.TESTS}, or assertions as text"

    def problem(self, name: str) -> Problem:
        """The problem that the row holds."""
        meta = self.model_dump(include=META, exclude_unset=True)
        if self.kind == "math" and not is_answer(self.gold):
            meta["prose"] = True
        return Problem(name, "row", 0, self.question, self.gold, self.kind, meta)


def graded(path: str, options: Grading, tolerance: float = 0.0, **settings: Any) -> list[dict]:
    """The rows of a file (JSON lines, .json, .csv, .parquet; "-": lines of the standard input),
    each with kind, verdict, extracted (the answer that was graded), rule (what decided) and reason.

    tolerance: of numbers, for rows without one. settings: as of `grade`. SourceError, with the
    place, for the first row that cannot be graded: all are read before any is.
    """
    given = list(files.rows(files.STDIN if path == "-" else path))
    if not given:
        raise SourceError(f"{path}: holds no rows")
    rows = [_checked(place, cells, tolerance) for place, cells in given]
    problems = [row.problem(f"row {i}") for i, row in enumerate(rows)]
    texts = pd.DataFrame(
        row.model_dump(include={"kind", "answer", "finish_reason"}) for row in rows
    )
    texts = texts.rename(columns={"answer": "text"})
    texts["problem_id"] = [problem.id for problem in problems]
    table = grade(texts, problems, options, **settings).rename(columns={"answer": "extracted"})
    table = table[["kind", "verdict", "extracted", "rule", "reason"]].astype(object)
    table["extracted"] = table["extracted"].where(table["rule"] != "")
    verdicts = table.where(table.notna(), None).to_dict("records")
    return [cells | verdict for (_, cells), verdict in zip(given, verdicts, strict=True)]


def _checked(place: str, cells: dict, tolerance: float) -> _Row:
    """A row as it is to be graded; SourceError where it cannot be."""
    given = {key: cell for key, cell in cells.items() if cell is not None or key == "answer"}
    kind = "code" if "tests" in given else "choice" if "options" in given else "math"
    tests = given.get("tests")
    if isinstance(tests, list) and all(isinstance(test, str) for test in tests):
        tests = "\n".join(tests)
    if isinstance(tests, str):
        uncalled = "def check(" in tests and "\ncheck(" not in tests  # HumanEval's
        given["assertions"] = tests + f"\ncheck({given.get('entry', '')})" * uncalled
    try:
        row = _Row.model_validate({"kind": kind, "tolerance": tolerance} | given)
        fault = row.lack()
    except ValidationError as error:
        fault = first_fault(error)
    if fault:
        raise SourceError(f"{place}: {fault} (docs/grading.md); its columns: {', '.join(cells)}")
    return row
