"""How a row of each named public data set becomes a question (docs/sources.md).

datasets.yml tells where they lie; a new one is an entry there, and a reader here.
"""

import base64
import io
import json
import pickle
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

from jinja2 import Template

from ded.files import beside
from ded.problems.extraction import extract

Difficulty = Literal["easy", "medium", "hard"]
DIFFICULTIES = get_args(Difficulty)
TOLERANCE = 1e-6  # of decimals in the outputs of contests


@dataclass
class Question:
    """What a row says: its kind, the question, its answer, level, further facts."""

    kind: str
    text: str
    answer: str = ""
    level: int = 0
    meta: dict[str, Any] = field(default_factory=dict)


def _aime(row: dict) -> Question:
    """Of 2024, whose columns have capitals, and of 2025."""
    cells = {name.lower(): cell for name, cell in row.items()}
    return Question("math", cells["problem"], str(int(cells["answer"])))


def _math_500(row: dict) -> Question:
    meta = {"group": row["subject"]}
    return Question("math", row["problem"], row["answer"], int(row["level"]), meta)


def _gsm8k(row: dict) -> Question:
    _, mark, number = row["answer"].rpartition("####")
    if not mark:
        raise ValueError("the answer has no '####'")
    answer = number.strip().replace(",", "")
    return Question("math", row["question"], answer, meta={"last_number": True})


def _gpqa_diamond(row: dict) -> Question:
    """The right option stands first: they are shuffled when the question is asked."""
    options = [row[name].strip() for name in SETS["gpqa_diamond"].columns[1:]]
    return Question("choice", row["Question"].strip(), meta={"hide": True, "options": options})


def _livecodebench(row: dict) -> Question:
    """A program of stdin and stdout; with starter code, a method of `Solution`."""
    difficulty, preamble = row["difficulty"], SETS["livecodebench"].preamble
    meta = {"preamble": preamble, "group": difficulty, "date": row["contest_date"][:10]}
    meta["tolerance"] = TOLERANCE
    tests = [*_tests(row["public_test_cases"]), *_tests(row["private_test_cases"])]
    text = row["question_content"]
    if row["starter_code"].strip():
        text += f"\n\nStart from:\n```python\n{row['starter_code']}\n```"
        tests = [_call(test) for test in tests]
        meta["entry"] = f"Solution.{json.loads(row['metadata'])['func_name']}"
    level = DIFFICULTIES.index(difficulty) + 1
    return Question("code", text, level=level, meta=meta | {"tests": tests})


def _call(test: dict) -> dict:
    """A test of a function from one of stdin and stdout: an argument a line."""
    arguments = [json.loads(line) for line in test["input"].split("\n") if line.strip()]
    return {"args": arguments, "expected": json.loads(test["output"])}


class _TextOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"names {module}.{name}")


def _tests(text: str) -> list[dict]:
    """Tests from JSON, or from base64 of zlib of a pickle of that JSON.

    The pickle may hold a text and nothing else, so that none runs code.
    """
    if not text.lstrip().startswith("["):
        try:
            text = _TextOnly(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load()
        except Exception as error:  # whatever a broken stream makes of itself
            raise ValueError(f"the private tests cannot be decoded: {error}") from None
        if type(text) is not str:
            raise ValueError(f"the private tests are a pickled {type(text).__name__}, not a text")
    return [{"input": test["input"], "output": test["output"]} for test in json.loads(text)]


def _humaneval(row: dict) -> Question:
    entry, prompt = row["entry_point"], row["prompt"]
    preamble = prompt.rpartition(f"def {entry}")[0]
    assertions = f"{preamble}\n{row['test']}\ncheck({entry})"
    text = f"Complete this function.\n\n```python\n{prompt}```"
    meta = {"entry": entry, "preamble": preamble, "assertions": assertions}
    return Question("code", text, meta=meta)


def _mbpp(row: dict) -> Question:
    """The function is the first name that the tests call and the reference code defines."""
    tests = "\n".join(row["test_list"])
    called = re.findall(r"(\w+)\s*\(", tests)
    entry = next(name for name in called if re.search(rf"def\s+{name}\b", row["code"]))
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or [])
    task = row.get("text") or row["prompt"]
    text = f"{task}\n\nThe code must pass these tests:\n```python\n{tests}\n```"
    return Question("code", text, meta={"entry": entry, "assertions": f"{setup}\n{tests}"})


def _s1k(row: dict) -> Question:
    """Ground truths are answers, solutions that end in one, or prose, left to a judge."""
    answer = extract(row["solution"]) or row["solution"].strip()
    words = re.sub(r"\\[a-zA-Z]+\{[^{}]*\}|\\[a-zA-Z]+", " ", answer)
    sentence = re.search(r"[a-z]{2,}\s+[a-z]{2,}\s+[a-z]{2,}", words, re.I)
    meta: dict[str, Any] = {"group": row["cot_type"]}
    if len(answer) > 120 or "\n" in answer or sentence:
        meta["prose"] = True
    return Question("math", row["question"], answer, meta=meta)


@cache
def _statement() -> Template:
    return Template(SETS["codeforces"].statement)


def _codeforces(row: dict) -> Question:
    text = _statement().render(row, row=row)
    meta = {name: row[name] for name in ("time_limit", "memory_limit", "input_mode")}
    meta["tests"] = list(row["official_tests"] or row["examples"] or [])
    meta["complete"] = bool(row["official_tests_complete"])
    if row["generated_checker"]:
        meta["checker"] = row["generated_checker"]
    else:
        meta["tolerance"] = TOLERANCE
    return Question("code", text, level=int(row["rating"] or 0), meta=meta)


# ---- the registry ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set of datasets.yml, which says what the fields mean, and the reader of its rows."""

    name: str
    read: Callable[[dict], Question]
    hub: str
    hub_split: str
    split: str
    columns: list[str]
    licence: str
    n: int = 0
    config: str | None = None
    code: bool = False
    preamble: str = ""
    statement: str = ""


READERS = {
    "aime_2024": _aime,
    "aime_2025": _aime,
    "math_500": _math_500,
    "gsm8k": _gsm8k,
    "gpqa_diamond": _gpqa_diamond,
    "livecodebench": _livecodebench,
    "humaneval": _humaneval,
    "mbpp": _mbpp,
    "s1k": _s1k,
    "codeforces": _codeforces,
}
SETS = {
    name: DataSet(name, READERS[name], **about)
    for name, about in beside(__file__, "datasets.yml").items()
}
