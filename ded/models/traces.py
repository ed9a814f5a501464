"""Recorded traces: trajectories that others sampled, looked up by their question instead of being
drawn.

`recorded:<file>[#<map>]` (JSONL, JSON, Parquet, CSV, or a folder of them; a relative path is also
looked for in the repository) or `recorded:<org>/<data set>[@revision][#<map>]`, read by
`ded.models.rows` and the column maps of params/recorded.yml. `recorded:worked#<style>` are
solutions made by rule (`ded.problems.worked`), for as many samples as are asked for, of new
questions too. Else several traces of one question are its samples 0, 1, ...; a question with fewer
than were asked for has fewer rows. Temperature, top_p, seed and max_tokens change nothing.
Entropies are not measured (NaN), nor lengths that nobody recorded (n_tokens NaN; token_ids always
empty): see `generation.counted`.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ded import home
from ded.errors import ModelError, ParameterError, SourceError, near
from ded.files import read_yaml
from ded.models import rows
from ded.models.rows import Map, Row, Trace
from ded.models.spec import digest, hub, parse
from ded.options import Engine
from ded.problems import Problem, files, worked
from ded.problems.prompts import question_of
from ded.problems.public import from_hub
from ded.problems.texts import THINK

WORKED = "worked"  # in place of a file
VERSION = 2  # changes when texts may be read otherwise


@dataclass(frozen=True)
class Source:
    """Where the traces of a spec lie: a hub data set, or `files` (of a data set its local copy)."""

    place: str
    revision: str | None
    files: list[Path]
    columns: Map


def check(model: str, engine: Engine) -> None:
    """ModelError, with the place, where the traces cannot be read."""
    if not _style(model):
        read(model)


def all_think(model: str) -> bool:
    """Whether every trace opens a think block; worked solutions open none."""
    every = [] if _style(model) else [trace for traces in read(model).values() for trace in traces]
    return bool(every) and all(trace.text.lstrip().startswith(THINK) for trace in every)


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
    if source.files:
        content = digest(source.files)
    else:
        content = f"{source.place}@{source.revision or hub(source.place, kind='dataset')[0]}"
    return f"{content} {VERSION} {source.columns.model_dump_json(exclude_defaults=True)}"


def _source(model: str) -> Source:
    place, _, name = parse(model).name.partition("#")
    columns, revision = _map(model, name or "default"), ""
    file = home() / Path(place).expanduser()  # or where the process is
    local = next((path for path in (Path(place).expanduser(), file) if path.exists()), None)
    if not local:
        if file.suffix.lower() in files.SUFFIXES:
            raise ModelError(f"model {model!r}: there is no file {file}; correct its path")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", place):
            kinds = f"a file ending in {', '.join(files.SUFFIXES)}, nor a folder of such files,"
            raise ModelError(f"model {model!r}: neither {kinds} nor a hub data set <org>/<name>")
        place, _, revision = place.partition("@")
        local = files.copy_of(place)
    try:
        shards = files.shards(local, columns.config, columns.split) if local else []
    except SourceError as error:
        raise ModelError(f"model {model!r}: {error}") from None
    return Source(place, revision or None, shards, columns)


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
    return _read(model, fingerprint(model) if _source(model).files else "")


@lru_cache(maxsize=2)
def _read(model: str, content: str) -> dict[str, list[Trace]]:
    source = _source(model)
    recorded: dict[str, list[Trace]] = {}
    try:
        parts = [files.rows(str(file)) for file in source.files] or [_hub_rows(source)]
        for place, cells in chain.from_iterable(parts):
            question, samples = rows.read(Row(place, cells, source.columns))
            recorded.setdefault(_normal(question), []).extend(samples)
    except SourceError as error:
        raise ModelError(f"model {model!r}: {error}") from None
    if not recorded:
        raise ModelError(f"model {model!r}: it holds no traces")
    return recorded


def _hub_rows(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    part = {"split": source.columns.split, "revision": source.revision}
    return files.numbered(source.place, from_hub(source.place, source.columns.config, **part))
