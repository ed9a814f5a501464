"""Local files of questions or traces: their rows, each with its place."""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ded.errors import SourceError, first_line

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
STDIN = "/dev/stdin"  # lines, as in a .jsonl
TESTS = '[{"input": text, "output": text}], or [{"args": [...], "expected": value}] with entry'


def find(path: str) -> Path:
    """The file of this path; SourceError where there is none, or none that can be read."""
    file = Path(path).expanduser()
    if path == STDIN:
        return file
    if file.suffix.lower() not in SUFFIXES or not file.is_file():
        raise SourceError(f"{path}: no such file here; a file ends in {', '.join(SUFFIXES)}")
    return file


def copy_of(hub_id: str) -> Path | None:
    """The local copy of a hub data set in the folder that DED_DATA names; None without one.

    It is <org>/<name> and a suffix, or a folder <org>/<name>.
    """
    root = os.environ.get("DED_DATA")
    if not root:
        return None
    place = Path(root).expanduser() / hub_id
    copies = [place, *(place.with_name(place.name + suffix) for suffix in SUFFIXES)]
    return next((path for path in copies if path.exists()), None)


def shards(place: Path, config: str | None, split: str) -> list[Path]:
    """The files that hold the rows of `place`: itself, or those of one kind in a folder.

    Of several kinds the first of Parquet, JSONL, JSON and CSV, for cards and statistics lie beside
    tables. Where folders bear the name of the configuration ("data" or "default" where none is
    given), or files or folders that of the split, as on the hub, those alone. SourceError for none.
    """
    if not place.is_dir():
        return [place]
    paths = {file: file.relative_to(place).as_posix() for file in sorted(place.rglob("*"))}
    for suffix in (".parquet", ".jsonl", ".json", ".csv"):
        kind = [file for file in paths if file.suffix.lower() == suffix and file.is_file()]
        kind = [file for file in kind if not re.search(r"(^|/)\.", paths[file])]
        for names in ({config} if config else {"data", "default"}, {split, split + suffix}):
            kind = [file for file in kind if names & set(re.split("[-/]", paths[file]))] or kind
        if kind:
            return kind
    raise SourceError(f"{place}: a folder without files that end in {', '.join(SUFFIXES)}")


def rows(path: str, columns: Iterable[str] = ()) -> Iterator[tuple[str, dict]]:
    """(place, row) of each row, place being `file:line`, or `file: row n` in a file without lines.

    SourceError, with the place, for a row that cannot be read or lacks one of `columns`.
    """
    import pyarrow

    try:
        for place, row in _rows(path, find(path)):
            if not isinstance(row, dict):
                raise SourceError(f"{place}: {str(row)[:40]!r} is no object with columns")
            if missing := [name for name in columns if name not in row]:
                there = f"it has {', '.join(row)} (docs/sources.md)"
                raise SourceError(f"{place}: no column {missing[0]!r}; {there}")
            yield place, row
    except SourceError:
        raise
    except (OSError, ValueError, csv.Error, pyarrow.ArrowException) as error:
        mend = "save it whole, as UTF-8 text or Parquet"
        raise SourceError(f"{path}: cannot be read ({first_line(error)}); {mend}") from None


def note(places: dict[str, str], name: str, place: str) -> None:
    """Notes at which place a question stands; SourceError where it stands at another already."""
    if name in places:
        before = f"stands already at {places[name]}"
        raise SourceError(f"{place}: the question {name!r} {before}; drop repeats")
    places[name] = place


def has_tests(meta: dict[str, Any]) -> bool:
    """Whether a program can be graded by what this meta holds: assertions, or `TESTS`."""
    match meta:
        case {"assertions": str(text)} if text:
            return True
        case {"tests": [_, *_] as tests}:
            return all(_is_test(test, bool(meta.get("entry"))) for test in tests)
    return False


def _is_test(test: Any, has_entry: bool) -> bool:
    match test:
        case {"args": args}:
            return has_entry and isinstance(args, list) and "expected" in test
        case {"input": str(), "output": str()}:
            return True
    return False


def _rows(path: str, file: Path) -> Iterator[tuple[str, Any]]:
    match file.suffix.lower():
        case ".parquet":
            from pyarrow import parquet

            batches = parquet.ParquetFile(file).iter_batches(256)
            yield from numbered(path, (row for batch in batches for row in batch.to_pylist()))
        case ".json":
            whole = _json(path, file.read_text(encoding="utf-8-sig"))
            yield from numbered(path, whole if isinstance(whole, list) else [whole])
        case ".csv":
            with file.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.DictReader(stream, restkey="")
                for row in reader:
                    place = f"{path}:{reader.line_num}"
                    if "" in row or None in row.values():
                        mend = "quote cells that hold commas or line ends"
                        raise SourceError(f"{place}: not as many cells as columns; {mend}")
                    yield place, row
        case _:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                for i, line in enumerate(stream, 1):
                    if line.strip():
                        yield f"{path}:{i}", _json(f"{path}:{i}", line)


def numbered(path: str, rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """(place, row) of each row of a file, or a data set, without lines."""
    return ((f"{path}: row {i}", row) for i, row in enumerate(rows, 1))


def _json(place: str, text: str) -> Any:
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():  # half a pair of surrogates is no text, and cannot be stored
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        mend = ".jsonl holds one object a line, .json a list of them"
        raise SourceError(f"{place}: not whole JSON ({error}); {mend}") from None
