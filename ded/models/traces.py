"""Recorded traces: trajectories that others sampled, looked up by their question instead of being
drawn.

`recorded:<file>[#<map>]` (JSONL, JSON, Parquet, CSV, or a folder of them; a relative path is also
looked for in the repository) or `recorded:<org>/<data set>[/<folder>][@revision][#<map>]`, read by
`ded.problems.records` and the column maps of params/recorded.yml. `recorded:worked#<style>` are
solutions made by rule (`ded.problems.worked`), for as many samples as are asked for, of new
questions too. Else several traces of one question are its samples 0, 1, ...; a question with fewer
than were asked for has fewer rows. Temperature, top_p, seed and max_tokens change nothing.
Entropies are not measured (NaN), nor lengths that nobody recorded (n_tokens NaN; token_ids always
empty): see `generation.counted`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from ded import store
from ded.errors import ModelError, SourceError, near
from ded.models.spec import digest, hub, parse
from ded.options import Engine
from ded.problems import Problem, records, rows, worked
from ded.problems.prompts import question_of
from ded.problems.records import Records
from ded.problems.rows import Trace
from ded.problems.texts import THINK

if TYPE_CHECKING:
    import pandas as pd  # not at run time: the command line starts without it

WORKED = "worked"  # in place of a file
VERSION = 2  # changes when texts may be read otherwise
NO_TEXT = {"gold"}  # columns of a map that change no text


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
        asked = records.normal(question_of(problem)), records.normal(problem.prompt)
        by_problem[problem.id] = (recorded.get(asked[0]) or recorded.get(asked[1], []))[:n]
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


def fingerprint(model: str) -> str:
    """The content of the file (or the commit of the hub data set), and the column map."""
    if style := _style(model):
        return f"worked {worked.VERSION} {style}"
    place = _records(model)
    if place.files:
        content = digest(place.files)
    else:
        commit = place.revision or hub(place.hub_id, kind="dataset")[0]
        content = f"{place.name}@{commit}"
    columns = place.columns.model_dump_json(exclude=NO_TEXT, exclude_defaults=True)
    return f"{content} {VERSION} {columns}"


def _records(model: str) -> Records:
    try:
        return records.find(parse(model).name)
    except SourceError as error:
        raise ModelError(f"model {model!r}: {error}", cause=error.cause) from None


def read(model: str) -> dict[str, list[Trace]]:
    """{normalised question: its traces, in the order of the source}; ModelError, with the place,
    for a row that cannot be used."""
    place = _records(model)
    try:
        part = {"rows": place.version(), "columns": place.columns.model_dump_json()}
        return _read(model, store.key("traces", VERSION, **part))
    except SourceError as error:
        raise ModelError(f"model {model!r}: {error}", cause=error.cause) from None


@lru_cache(maxsize=2)  # a teacher's may be hundreds of megabytes; from the store it is soon there
def _read(model: str, key: str) -> dict[str, list[Trace]]:
    def compute() -> pd.DataFrame:
        import pandas as pd

        traces = [
            (records.normal(question), *trace)
            for question, samples in map(rows.read, _records(model).rows())
            for trace in samples
        ]
        if not traces:
            raise ModelError(f"model {model!r}: it holds no traces")
        return pd.DataFrame(traces, columns=["question", *Trace._fields])

    recorded: dict[str, list[Trace]] = {}
    for question, *trace in store.table(key, compute).itertuples(index=False):
        recorded.setdefault(question, []).append(Trace(*trace))
    return recorded
