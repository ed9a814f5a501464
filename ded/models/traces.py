"""Recorded traces: trajectories that others sampled, looked up by their question instead of being
drawn.

`recorded:<file>[#<map>]` (JSONL, JSON, Parquet, CSV; a relative path is also looked for in the
repository) or `recorded:<org>/<data set>[@revision][#<map>]`; params/recorded.yml holds the column
maps. `recorded:worked#<style>` are solutions made by rule (`ded.problems.worked`), for as many
samples as are asked for, of new questions too. Else several traces of one question are its samples
0, 1, ...; a question with fewer than were asked for has fewer rows. Temperature, top_p, seed and
max_tokens change nothing. Entropies are not measured (NaN), nor lengths that nobody recorded
(n_tokens NaN; token_ids always empty): see `generation.counted`.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ded import home
from ded.errors import ModelError, ParameterError, SourceError, first_line, near
from ded.files import read_yaml
from ded.models.spec import THINK, digest, hub, parse
from ded.options import Engine
from ded.problems import Problem, files, worked
from ded.problems.prompts import question_of

WORKED = "worked"  # in place of a file
CUT = ("length", "max_tokens")  # what finish_reason says of a trace that was cut off


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value)


Columns = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Map(BaseModel):
    """Which columns hold what; see params/recorded.yml."""

    model_config = ConfigDict(extra="forbid")
    question: Columns
    text: Columns
    thinking: Columns = ()
    finish_reason: Columns = ()
    n_tokens: Columns = ()
    config: str | None = None
    split: str = "train"


class Trace(NamedTuple):
    """A recorded trajectory; n_tokens is NaN where nobody recorded it."""

    text: str
    finish_reason: str
    n_tokens: float


@dataclass(frozen=True)
class Source:
    """Where the traces of a spec lie: a hub data set, or `file` (of a data set its local copy)."""

    place: str
    revision: str | None
    file: Path | None
    columns: Map


def check(model: str, engine: Engine) -> None:
    """ModelError, with the place, where the traces cannot be read."""
    if not _style(model):
        read(model)


def traces(model: str, problems: Iterable[Problem], n: int) -> dict[str, list[Trace]]:
    """{problem id: its first n traces, as many as there are}."""
    if style := _style(model):
        return {problem.id: _worked(problem, style, n) for problem in problems}
    recorded = read(model)
    by_problem = {}
    for problem in problems:
        by_question = recorded.get(_normal(question_of(problem)))
        by_problem[problem.id] = (by_question or recorded.get(_normal(problem.prompt), []))[:n]
    return by_problem


def _worked(problem: Problem, style: str, n: int) -> list[Trace]:
    texts = [worked.solve(problem, style, i) for i in range(n)]
    return [Trace(text, "stop", math.nan) for text in texts if text]


def _style(model: str) -> str:
    """The style of the solutions made by rule that a spec names, "" for any other; ModelError for
    an unknown style."""
    place, _, style = parse(model).name.partition("#")
    if place != WORKED:
        return ""
    if style not in worked.STYLES:
        styles = f"{', '.join(worked.STYLES)}{near(style, worked.STYLES)}"
        raise ModelError(f"model {model!r}: the styles of worked solutions are {styles}")
    return style


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def fingerprint(model: str) -> str:
    """The content of the file (or the commit of the hub data set), and the column map."""
    if style := _style(model):
        return f"worked {worked.VERSION} {style}"
    source = _source(model)
    if source.file:
        content = digest([source.file])
    else:
        content = f"{source.place}@{source.revision or hub(source.place, kind='dataset')[0]}"
    return f"{content} {source.columns.model_dump_json(exclude_defaults=True)}"


def _source(model: str) -> Source:
    place, _, name = parse(model).name.partition("#")
    columns = _map(model, name or "default")
    file = Path(place).expanduser()
    file = file if file.is_absolute() or file.exists() else home() / file
    if file.suffix.lower() in files.SUFFIXES:
        if not file.is_file():
            raise ModelError(f"model {model!r}: there is no file {file}; correct its path")
        return Source(place, None, file, columns)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", place):
        kinds = f"a file ending in {', '.join(files.SUFFIXES)} nor a hub data set <org>/<name>"
        raise ModelError(f"model {model!r}: neither {kinds}")
    place, _, revision = place.partition("@")
    return Source(place, revision or None, files.copy_of(place), columns)


def _map(model: str, name: str) -> Map:
    try:
        maps = read_yaml(home() / "params" / "recorded.yml")
        if name not in maps:
            there = f"params/recorded.yml has {', '.join(maps)}{near(name, maps)}"
            raise ModelError(f"model {model!r}: no column map {name!r}; {there}")
        return Map.model_validate(maps[name])
    except (OSError, ParameterError, ValidationError) as error:
        fault = f"map {name!r} cannot be read ({' '.join(str(error).split())[:200]})"
        mend = f"a map holds {', '.join(Map.model_fields)}"
        raise ModelError(f"params/recorded.yml: {fault}; {mend}") from None


def read(model: str) -> dict[str, list[Trace]]:
    """{normalised question: its traces, in the order of the source}; ModelError, with the place,
    for a row that cannot be used."""
    return _read(model, fingerprint(model) if _source(model).file else "")


@lru_cache(maxsize=2)
def _read(model: str, content: str) -> dict[str, list[Trace]]:
    source = _source(model)
    recorded: dict[str, list[Trace]] = {}
    try:
        for place, row in files.rows(str(source.file)) if source.file else _hub_rows(source):
            question, trace = _trace(partial(_value, place, row, source.columns))
            recorded.setdefault(_normal(question), []).append(trace)
    except SourceError as error:
        raise ModelError(f"model {model!r}: {error}") from None
    if not recorded:
        raise ModelError(f"model {model!r}: it holds no traces")
    return recorded


def _hub_rows(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    name, columns = source.place, source.columns
    part = {"split": columns.split, "revision": source.revision}
    try:
        table = datasets.load_dataset(name, columns.config, **part)
    except Exception as error:  # the clients' errors have no common root short of this
        hub(name, source.revision, "dataset")  # says why, if it is access or network
        mend = "set `config` and `split` of its column map in params/recorded.yml"
        fault = f"cannot be loaded ({first_line(error)})"
        raise ModelError(f"data set {name}: {fault}; {mend}") from error
    wanted = set(chain(*columns.model_dump(exclude={"config", "split"}).values()))
    table = table.select_columns([column for column in table.column_names if column in wanted])
    return ((f"{name}: row {i}", row) for i, row in enumerate(table, 1))


def _trace(value: Callable[[str], Any]) -> tuple[str, Trace]:
    """(its question, the trace) of a row, by what it has for each key of a column map."""
    question, n_tokens = value("question") or "", value("n_tokens")
    text, thinking = (value("text") or "").strip(), (value("thinking") or "").strip()
    cut = value("finish_reason") in CUT
    if thinking:
        in_thought = cut and not text  # cut off before it came to an answer
        text = f"{THINK}\n{thinking}" + ("" if in_thought else f"\n</think>\n{text}")
    length = math.nan if n_tokens is None else float(n_tokens)
    return question, Trace(text, "length" if cut else "stop", length)


def _value(place: str, row: dict[str, Any], columns: Map, key: str) -> Any:
    """What a row has under the first of the columns for `key` that it has, or None."""
    names: tuple[str, ...] = getattr(columns, key)
    name = next((name for name in names if name in row), None)
    if name is None:
        if key in ("question", "text"):
            lack = f"no column {' or '.join(map(repr, names))} for the {key}; it has "
            mend = "name another map after '#', or write one in params/recorded.yml"
            raise SourceError(f"{place}: {lack}{', '.join(row)}: {mend}")
        return None
    value = row[name]
    expected, what = ((int, float), "a number") if key == "n_tokens" else (str, "text")
    if value is not None and not isinstance(value, expected):
        raise SourceError(f"{place}: {name} is {value!r:.40}, not {what}")
    return value
