"""The named public data sets (`data:<name>`), from the hub or from a local file in the same schema. See docs/sources.md."""

from __future__ import annotations

import base64
import io
import json
import logging
import pickle
import random
import re
import zlib
from collections.abc import Callable
from datetime import date
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ded.errors import SourceError
from ded.problems import files
from ded.problems.answers import extract
from ded.problems.prompts import render
from ded.problems.record import Problem, content_hash
from ded.problems.spec import Spec, parse

Made = tuple[
    str, str, str, dict[str, Any]
]  # template, question, answer, meta; its "level", a whole number, becomes the problem's
PREAMBLE = "".join(
    f"from {name} import *\n"
    for name in "typing string re collections functools heapq itertools bisect operator math".split()
)
PREAMBLE += "import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys\n"


# --- from a row to a question -----------------------------------------------------------------------------------------
def _s1k(row: dict) -> Made:
    """Ground truths are answers, worked solutions that end in one, or prose, which only a judge can compare."""
    found = extract(row["solution"]) or row["solution"].strip()
    words = re.sub(r"\\[a-zA-Z]+\{[^{}]*\}|\\[a-zA-Z]+", " ", found)
    prose = (
        len(found) > 120
        or "\n" in found
        or re.search(r"[a-z]{2,}\s+[a-z]{2,}\s+[a-z]{2,}", words, re.I)
    )
    return (
        "math",
        row["question"],
        found,
        {"group": row["cot_type"]} | ({"prose": True} if prose else {}),
    )


def _gsm8k(row: dict) -> Made:
    worked, mark, number = row["answer"].rpartition("####")
    if not mark:
        raise ValueError("the answer has no '####'")
    return "math", row["question"], number.strip().replace(",", ""), {"last_number": True}


def _codeforces(row: dict) -> Made:
    parts = [f"# {row['title']}", row["description"]]
    parts += [
        f"## {name.replace('_', ' ').capitalize()}\n\n{row[name]}"
        for name in ("input_format", "output_format", "interaction_format")
        if row[name]
    ]
    parts += [
        f"## Example\n\nInput:\n```\n{one['input']}\n```\nOutput:\n```\n{one['output']}\n```"
        for one in row["examples"] or []
    ]
    parts += [f"## Note\n\n{row['note']}"] if row["note"] else []
    parts.append(f"Time limit: {row['time_limit']:g} s. Memory limit: {row['memory_limit']:g} MB.")
    meta = {name: row[name] for name in ("time_limit", "memory_limit", "input_mode")} | {
        "tests": list(row["official_tests"] or row["examples"] or [])
    }
    meta |= {"complete": bool(row["official_tests_complete"]), "level": int(row["rating"] or 0)}
    meta |= {"checker": row["generated_checker"]} if row["generated_checker"] else {}
    return "files" if row["input_mode"] == "file" else "stdin", "\n\n".join(parts), "", meta


def _livecodebench(row: dict) -> Made:
    tests, question, template = (
        [*_tests(row["public_test_cases"]), *_tests(row["private_test_cases"])],
        row["question_content"],
        "stdin",
    )
    meta = {
        "preamble": PREAMBLE,
        "group": row["difficulty"],
        "date": row["contest_date"][:10],
        "level": DIFFICULTIES.index(row["difficulty"]) + 1,
    }
    if row["starter_code"].strip():
        question, template = (
            f"{question}\n\nStart from:\n```python\n{row['starter_code']}\n```",
            "function",
        )
        tests = [
            {
                "args": [json.loads(line) for line in one["input"].splitlines() if line.strip()],
                "expected": json.loads(one["output"]),
            }
            for one in tests
        ]
        meta["entry"] = f"Solution.{json.loads(row['metadata'])['func_name']}"
    return template, question, "", meta | {"tests": tests}


class _TextOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"names {module}.{name}")


def _tests(text: str) -> list[dict]:
    """Tests from JSON, or from base64 of zlib of a pickle of that JSON: of a text and nothing else, so that no pickle runs code."""
    if not text.lstrip().startswith("["):
        try:
            text = _TextOnly(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load()
        except Exception as error:  # whatever a broken stream makes of itself
            raise ValueError(f"the private tests cannot be decoded: {error}") from None
        if type(text) is not str:
            raise ValueError(f"the private tests are a pickled {type(text).__name__}, not a text")
    return [{"input": one["input"], "output": one["output"]} for one in json.loads(text)]


def _humaneval(row: dict) -> Made:
    before = row["prompt"].rpartition(f"def {row['entry_point']}")[0]
    meta = {
        "entry": row["entry_point"],
        "preamble": before,
        "assertions": f"{before}\n{row['test']}\ncheck({row['entry_point']})",
    }
    return "function", f"Complete this function.\n\n```python\n{row['prompt']}```", "", meta


def _mbpp(row: dict) -> Made:
    tests = "\n".join(row["test_list"])
    entry = next(
        name
        for name in re.findall(r"(\w+)\s*\(", tests)
        if re.search(rf"def\s+{name}\b", row["code"])
    )
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or [])
    question = f"{row.get('text') or row['prompt']}\n\nThe code must pass these tests:\n```python\n{tests}\n```"
    return "function", question, "", {"entry": entry, "assertions": f"{setup}\n{tests}"}


# --- the registry -----------------------------------------------------------------------------------------------------
class Public(NamedTuple):
    """split: "train" for a training seed, "test" for a benchmark; key: the first column, which names a question (texts are hashed)."""

    hub: str
    config: str | None
    hub_split: str
    split: str
    columns: str  # separated by "|"
    make: Callable[[dict], Made]
    licence: str


GPQA = "Question|Correct Answer|Incorrect Answer 1|Incorrect Answer 2|Incorrect Answer 3"
CODEFORCES = (
    "id|title|description|input_format|output_format|interaction_format|note|examples|time_limit|memory_limit|official_tests|"
    "official_tests_complete|input_mode|generated_checker|rating"
)
LCB = "question_id|question_content|contest_date|starter_code|difficulty|public_test_cases|private_test_cases|metadata"
SETS = {
    "aime_2024": Public(
        "Maxwell-Jia/AIME_2024",
        None,
        "train",
        "test",
        "ID|Problem|Answer",
        lambda row: ("math", row["Problem"], str(int(row["Answer"])), {}),
        "MIT; the problems are the MAA's",
    ),
    "aime_2025": Public(
        "MathArena/aime_2025",
        None,
        "train",
        "test",
        "problem_idx|problem|answer",
        lambda row: ("math", row["problem"], str(int(row["answer"])), {}),
        "CC BY-NC-SA 4.0: non-commercial; the problems are the MAA's",
    ),
    "math_500": Public(
        "HuggingFaceH4/MATH-500",
        None,
        "test",
        "test",
        "unique_id|problem|answer|subject|level",
        lambda row: (
            "math",
            row["problem"],
            row["answer"],
            {"group": row["subject"], "level": int(row["level"])},
        ),
        "MIT",
    ),
    "gsm8k": Public("openai/gsm8k", "main", "test", "test", "question|answer", _gsm8k, "MIT"),
    "gpqa_diamond": Public(
        "Idavidrein/gpqa",
        "gpqa_diamond",
        "train",
        "test",
        GPQA,
        lambda row: (
            "choice",
            row["Question"].strip(),
            "",
            {"hide": True, "options": [row[name].strip() for name in GPQA.split("|")[1:]]},
        ),
        "CC BY 4.0, gated; its items are never to be shown in plain text",
    ),
    "livecodebench": Public(
        "livecodebench/code_generation_lite",
        None,
        "test",
        "test",
        LCB,
        _livecodebench,
        "CC; the problems are the contest platforms'",
    ),
    "humaneval": Public(
        "openai/openai_humaneval",
        None,
        "test",
        "test",
        "task_id|prompt|test|entry_point",
        _humaneval,
        "MIT",
    ),
    "mbpp": Public(
        "google-research-datasets/mbpp",
        "full",
        "test",
        "test",
        "task_id|code|test_list",
        _mbpp,
        "CC BY 4.0",
    ),
    "s1k": Public(
        "simplescaling/s1K-1.1",
        None,
        "train",
        "train",
        "question|solution|cot_type",
        _s1k,
        "MIT; its questions have sources of their own",
    ),
    "codeforces": Public(
        "open-r1/codeforces", "verifiable", "train", "train", CODEFORCES, _codeforces, "CC BY 4.0"
    ),
}


# --- reading ----------------------------------------------------------------------------------------------------------
DIFFICULTIES = ("easy", "medium", "hard")
LCB_FILES = (
    "test.jsonl",
    "test2.jsonl",
    "test3.jsonl",
    "test4.jsonl",
    "test5.jsonl",
    "test6.jsonl",
)
_several = BeforeValidator(lambda value: value if isinstance(value, list) else [value])


class Window(BaseModel):
    """The options of LiveCodeBench: contest dates (both ends included), difficulties, files of the hub or of a local folder."""

    model_config = ConfigDict(extra="forbid")
    start: date = Field(date.min, alias="from")
    to: date = date.max
    difficulty: Annotated[list[Literal[DIFFICULTIES]], _several] = list(DIFFICULTIES)
    files: Annotated[list[Literal[LCB_FILES]], _several] = list(LCB_FILES)


def check(spec: Spec) -> Window:
    """The options (the defaults where a data set has none). SourceError for an unknown data set or option, or a missing file."""
    from ded.errors import near

    if spec.name not in SETS:
        raise SourceError(
            f"problem source 'data:{spec.name}': the data sets are {', '.join(SETS)}{near(spec.name, SETS)}"
        )
    if spec.options and spec.name != "livecodebench":
        raise SourceError(
            f"problem source 'data:{spec.name}': it takes no options, and has {', '.join(spec.options)}"
        )
    if spec.file and not (spec.name == "livecodebench" and Path(spec.file).is_dir()):
        files.find(spec.file)
    try:
        return Window.model_validate(spec.options)
    except ValidationError as error:
        first = error.errors()[0]
        known = "from, to (dates as 2025-02-01), difficulty, files"
        raise SourceError(
            f"problem source 'data:{spec.name}': {first['loc'][0]}: {first['input']!r}: {first['msg']}; options: {known}"
        ) from None


def load(
    source: str, split: str, pick: Callable[[list[str]], list[str]], seed: str
) -> list[Problem]:
    """The problems whose ids `pick` takes from all ids, in its order; `seed` shuffles the options of choices."""
    spec = parse(source)
    window, known = check(spec), SETS[spec.name]
    if split != known.split:
        why = (
            "a training seed: score models on a benchmark"
            if known.split == "train"
            else "a benchmark: nothing is trained or tuned on it"
        )
        raise SourceError(
            f"problem source {source!r} has no {split} split, only {known.split}: it is {why}"
        )
    file = spec.file or str(files.copy_of(known.hub) or "")
    paths = [file] if file else []
    if spec.name == "livecodebench" and not Path(file or ".").is_file():
        paths = [str(Path(file) / name) if file else _hub(spec.name, name) for name in window.files]
    index = _index(
        source,
        *[(path, Path(path).stat().st_mtime_ns, Path(path).stat().st_size) for path in paths],
    )
    found = [_problem(spec, name, *index[name], seed) for name in pick(list(index))]
    if prose := sum("prose" in problem.meta for problem in found):
        logging.getLogger("ded").info(
            "%s: %d of %d ground truths are prose, which only a judge can compare",
            source,
            prose,
            len(found),
        )
    return found


@lru_cache(maxsize=4)
def _index(source: str, *files_of_it: tuple) -> dict[str, tuple[str, Callable[[], dict]]]:
    """{id: (place, what gives the row)} of the questions that the options admit. Rows of the hub stay on the disk: codeforces is 5 GB."""
    spec, found = parse(source), {}
    window, known = check(spec), SETS[spec.name]
    key = known.columns.partition("|")[0]
    if files_of_it:
        rows = (
            (place, row, partial(dict, row))
            for path, *_ in files_of_it
            for place, row in files.rows(path, known.columns.split("|"))
        )
    else:
        table = _hub(spec.name)
        rows = (
            (f"{known.hub}: row {i + 1}", {key: name}, partial(table.__getitem__, i))
            for i, name in enumerate(table[key])
        )
    for place, row, whole in rows:
        if spec.name == "livecodebench" and not (
            window.start <= date.fromisoformat(row["contest_date"][:10]) <= window.to
            and row["difficulty"] in window.difficulty
        ):
            continue
        name = f"{content_hash(row[key]):016x}" if key.lower() == "question" else row[key]
        files.add(found, f"{spec.name}:{name}", place, whole)
    if not found:
        raise SourceError(f"problem source {source!r}: holds no questions")
    return found


@lru_cache(maxsize=8)
def _hub(name: str, file: str = "") -> Any:
    """The data set, or the path of one of its files, from the hub or its local cache."""
    known = SETS[name]
    try:
        if file:
            from huggingface_hub import hf_hub_download

            return hf_hub_download(known.hub, file, repo_type="dataset")
        import datasets

        return datasets.load_dataset(known.hub, known.config, split=known.hub_split)
    except Exception as error:  # the clients' errors have no common root short of this
        said = (str(error).splitlines() or [""])[0][:200]
        raise SourceError(
            f"data set {known.hub} does not come from the hub ({type(error).__name__}: {said}). Check the network; accept its terms "
            f"and run `hf auth login` if it is gated; or name a downloaded copy: data:{name}@<file>, or "
            f"{known.hub}.jsonl in the folder that DED_DATA names"
        ) from error


def _problem(spec: Spec, name: str, place: str, row: Callable[[], dict], seed: str) -> Problem:
    try:
        template, question, answer, meta = SETS[spec.name].make(row())
        if not question.strip():
            raise ValueError("the question is empty")
    except (LookupError, ValueError, TypeError, AttributeError, StopIteration) as error:
        said = f"{type(error).__name__}: {error}"
        raise SourceError(
            f"{place}: no question of {spec.name} can be read from it ({said}); docs/sources.md has the schema"
        ) from None
    if template == "choice":
        options = random.Random(f"{seed} {name}").sample(meta["options"], len(meta["options"]))
        question, answer = (
            question + files.listing(options),
            chr(65 + options.index(meta["options"][0])),
        )
        meta["options"] = options
    kind = template if template in ("math", "choice") else "code"
    return Problem(
        name,
        spec.name,
        meta.pop("level", 0),
        render(template, question),
        answer,
        kind,
        meta | {"template": template},
    )
