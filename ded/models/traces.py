"""Recorded traces: trajectories that others sampled, looked up by their question instead of being drawn.

`recorded:<file>[#<map>]` (JSONL, JSON, Parquet, CSV; a relative path is also looked for in the repository) or
`recorded:<org>/<data set>[@revision][#<map>]`; params/recorded.yml holds the column maps. `recorded:worked#<style>` are solutions made
by rule (`ded.problems.worked`), for as many samples as are asked for, of new questions too. Else several traces of one question are its
samples 0, 1, ...; a question with fewer than were asked for has fewer rows. Temperature, top_p, seed and max_tokens change nothing.
Entropies are not measured (NaN), nor lengths that nobody recorded (n_tokens NaN; token_ids always empty): see `generation.counted`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ded import home
from ded.errors import ModelError, ParameterError, SourceError, near
from ded.files import read_yaml
from ded.models.hub import hub
from ded.models.spec import THINK, digest, parse
from ded.problems import files, worked
from ded.problems.prompts import question_of

if TYPE_CHECKING:
    from ded.options import Engine
    from ded.problems.record import Problem

WORKED = "worked"  # in place of a file
CUT = ("length", "max_tokens")  # what finish_reason says of a trace that was cut off
Columns = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else tuple(value)),
]


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


Trace = NamedTuple("Trace", [("text", str), ("finish_reason", str), ("n_tokens", float)])


def check(model: str, engine: Engine) -> None:
    if not _style(model):
        read(model)


def _style(model: str) -> str:
    """The style of the solutions made by rule that a spec names, "" for any other; ModelError for an unknown style."""
    place, _, style = parse(model)[1].partition("#")
    if place == WORKED and style not in worked.STYLES:
        raise ModelError(
            f"model {model!r}: the styles of worked solutions are {', '.join(worked.STYLES)}{near(style, worked.STYLES)}"
        )
    return style if place == WORKED else ""


def traces(model: str, problems: Iterable[Problem], n: int) -> dict[str, list[Trace]]:
    """{problem id: its first n traces, as many as there are}."""
    if style := _style(model):
        texts = {p.id: [worked.solve(p, style, i) for i in range(n)] for p in problems}
        return {
            name: [Trace(text, "stop", math.nan) for text in found if text]
            for name, found in texts.items()
        }
    known = read(model)
    return {
        p.id: (known.get(_normal(question_of(p))) or known.get(_normal(p.prompt)) or [])[:n]
        for p in problems
    }


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def fingerprint(model: str) -> str:
    """The content of the file (or the commit of the hub data set), and the column map."""
    if style := _style(model):
        return f"worked {worked.VERSION} {style}"
    place, revision, file, columns = _parts(model)
    where = digest([file]) if file else f"{place}@{revision or hub(place, kind='dataset')[0]}"
    return f"{where} {columns.model_dump_json(exclude_defaults=True)}"


def _parts(model: str) -> tuple[str, str | None, Path | None, Map]:
    """(place, revision, the local file (of a hub data set its copy, or None), column map) of a spec."""
    place, name = re.fullmatch(r"(.+?)(?:#([\w.-]*))?", parse(model)[1]).groups()
    columns = _map(model, name or "default")
    file = Path(place).expanduser()
    file = file if file.is_absolute() or file.exists() else home() / file
    if file.suffix.lower() in files.SUFFIXES:
        if not file.is_file():
            raise ModelError(
                f"model {model!r}: there is no file {file}; name one that is here, or a hub data set as <org>/<name>"
            )
        return place, None, file, columns
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", place):
        raise ModelError(
            f"model {model!r}: neither a file ending in {', '.join(files.SUFFIXES)} nor a hub data set <org>/<name>"
        )
    place, _, revision = place.partition("@")
    return place, revision or None, files.copy_of(place), columns


def _map(model: str, name: str) -> Map:

    try:
        known = read_yaml(home() / "params" / "recorded.yml")
        if name not in known:
            raise ModelError(
                f"model {model!r}: no column map {name!r}; params/recorded.yml has {', '.join(known)}{near(name, known)}"
            )
        return Map.model_validate(known[name])
    except (OSError, ParameterError, ValidationError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"params/recorded.yml: map {name!r} cannot be read ({said}); a map holds {', '.join(Map.model_fields)}"
        ) from None


def read(model: str) -> dict[str, list[Trace]]:
    """{normalised question: its traces, in the order of the source}; ModelError, with the place, for a row that cannot be used."""
    _, _, file, _ = _parts(model)
    return _read(model, fingerprint(model) if file else "")


@lru_cache(maxsize=2)
def _read(model: str, content: str) -> dict[str, list[Trace]]:
    place, revision, file, columns = _parts(model)
    found: dict[str, list[Trace]] = {}
    try:
        for where, row in files.rows(str(file)) if file else _hub_rows(place, revision, columns):
            question, trace = _trace(where, row, columns)
            found.setdefault(_normal(question), []).append(trace)
    except SourceError as error:
        raise ModelError(f"model {model!r}: {error}") from None
    if not found:
        raise ModelError(f"model {model!r}: it holds no traces")
    return found


def _hub_rows(name: str, revision: str | None, columns: Map) -> Iterator[tuple[str, dict]]:
    import datasets

    try:
        table = datasets.load_dataset(name, columns.config, split=columns.split, revision=revision)
    except Exception as error:  # the clients' errors have no common root short of this
        hub(name, revision, "dataset")  # says why, if it is access or network
        said = (str(error).splitlines() or [""])[0][:160]
        raise ModelError(
            f"data set {name}: cannot be loaded ({said}); set `config` and `split` of its column map in params/recorded.yml"
        ) from error
    wanted = {
        *columns.question,
        *columns.text,
        *columns.thinking,
        *columns.finish_reason,
        *columns.n_tokens,
    }
    return (
        (f"{name}: row {i}", row)
        for i, row in enumerate(
            table.select_columns([c for c in table.column_names if c in wanted]), 1
        )
    )


def _trace(where: str, row: dict, columns: Map) -> tuple[str, Trace]:
    def value(key: str, kind: Any = str) -> Any:
        names = getattr(columns, key)
        name = next((name for name in names if name in row), None)
        if name is None and key in ("question", "text"):
            raise SourceError(
                f"{where}: no column {' or '.join(map(repr, names))} for the {key}; it has {', '.join(row)}: name another map of "
                f"params/recorded.yml after '#', or write one there"
            )
        if row.get(name) is not None and not isinstance(row[name], kind):
            raise SourceError(
                f"{where}: {name} is {row[name]!r:.40}, not {'text' if kind is str else 'a number'}"
            )
        return row.get(name)

    text, thinking, n_tokens = (
        (value("text") or "").strip(),
        (value("thinking") or "").strip(),
        value("n_tokens", (int, float)),
    )
    cut = value("finish_reason") in CUT
    closed = "" if cut and not text else f"\n</think>\n{text}"  # cut off while it was thinking
    whole = f"{THINK}\n{thinking}{closed}" if thinking else text
    return value("question") or "", Trace(
        whole, "length" if cut else "stop", math.nan if n_tokens is None else float(n_tokens)
    )
