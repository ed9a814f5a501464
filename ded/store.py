"""Content-addressed store: an expensive stage runs once for one set of inputs.

    key = store.key("generation", 1, model=fingerprint, problems=problems, temperature=0.8)
    table = store.table(key, lambda: sample(...))

One entry is one directory, `<root>/<key[:2]>/<key>/`, with the artefact's files and `entry.json`,
which records the size and SHA-256 of each. An entry is written under `<root>/tmp/` and renamed into
place, so it is there whole or not at all: a process killed at any moment leaves at most a folder
under tmp/, which nobody reads. What a power cut or a bad disk damages no longer matches entry.json,
and is recomputed with a warning; this check, not fsync, is the guard (fsync would cost more than
many of the small entries take to compute). A lock per key lets concurrent writers compute an entry
once; readers take no lock.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json as _json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ded import files, home
from ded.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd  # not at run time: the command line starts without it

ENTRY = "entry.json"
MISSING = "there is no such entry"
KINDS = {"table.parquet": "table", "value.json": "numbers"}  # by the files of an entry
_only_stored: list[bool] = []
RUN = "DED_STORE_RUN"  # the run whose needs are noted, here and in the processes started from here


class Missing(Exception):
    """There is no such entry, and none is to be made: see `only_stored`."""


def key(stage: str, version: int, **inputs: Any) -> str:
    """24 hexadecimal digits (96 bits of SHA-256): the artefact of one stage for these inputs.

    `version` is that of the stage's code: raise it when the code's results change. Inputs may be
    None, bool, int, float, str, bytes, lists, tuples, dicts with string keys, dataclasses (a
    `Problem`), DataFrames and numpy values, nested at will. 1 and 1.0 differ, as do lists in
    another order; the order of dict keys and a DataFrame's index do not count. Raises TypeError for
    anything else: a path, say, names a place and not a content.
    """
    return _hash(["ded", stage, version, _canonical(inputs, stage)])[:24]


def root() -> Path:
    """Where entries lie: $DED_STORE, else outputs/store in the repository."""
    return Path(os.environ.get("DED_STORE") or home() / "outputs" / "store")


def folder(key: str) -> Path:
    """Where the entry of this key lies, or would lie. Who asks needs it: see `note_run`."""
    if run := os.environ.get(RUN):
        _note(root() / "runs" / run, key)
    return root() / key[:2] / key


def has(key: str) -> bool:
    """Whether a whole, undamaged entry is there: ask before starting what would find it done."""
    return _fault(folder(key)) is None


def table(key: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The DataFrame of this key, from the store or else from `compute()`, then stored as Parquet.

    What is returned was always read back from the file, so that a first and a later run see the
    same values and types. The index is not kept; list columns come back as lists.
    """

    def fill(work: Path) -> None:
        compute().to_parquet(work / "table.parquet", index=False)

    return _read_parquet(directory(key, fill) / "table.parquet")


def read_table(key: str) -> pd.DataFrame:
    """The DataFrame that `table` stored under this key. StoreError where it is not, or damaged."""
    entry = folder(key)
    if fault := _fault(entry):
        raise StoreError(f"store entry {entry} cannot be read: {fault}; run the stage again")
    return _read_parquet(entry / "table.parquet")


def json(key: str, compute: Callable[[], Any]) -> Any:
    """The JSON value of this key, from the store or else from `compute()` (numpy values too)."""

    def fill(work: Path) -> None:
        text = _json.dumps(compute(), default=methodcaller("tolist"), ensure_ascii=False)
        (work / "value.json").write_text(text, encoding="utf-8")

    return _json.loads((directory(key, fill) / "value.json").read_text(encoding="utf-8"))


def directory(key: str, fill: Callable[[Path], None]) -> Path:
    """The folder of this key; where it is missing, `fill(work)` writes its files into an empty one.

    Do not change what lies in it: a changed entry counts as damaged. If `fill` raises, nothing is
    stored.
    """
    entry = folder(key)
    fault = _fault(entry)
    if fault is None:
        return entry
    if fault != MISSING:
        warnings.warn(
            f"store entry {entry} is damaged and will be computed again ({fault})", stacklevel=3
        )
    with lock(key):
        if not has(key):  # else another process wrote it while we waited
            _write(key, fill)
    return entry


@contextmanager
def only_stored() -> Iterator[None]:
    """Nothing is computed in this process meanwhile: Missing where an entry is asked for that is
    not there, or damaged."""
    _only_stored.append(True)
    try:
        yield
    finally:
        _only_stored.pop()


def check() -> None:
    """FolderError where the store cannot be written to."""
    files.check_writable(root(), "the store, $DED_STORE or outputs/store,")


def lock(name: str) -> FileLock:
    """A lock between all processes that use the store; it opens when its holder ends, however."""
    locks = root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{name}.lock")


def sweep() -> int:
    """Removes what killed processes left under tmp/; how many folders. Safe beside writers."""
    removed = 0
    for leftover in (root() / "tmp").glob("*-*"):
        with suppress(Timeout), lock(leftover.name.partition("-")[0]).acquire(timeout=0):
            shutil.rmtree(leftover, ignore_errors=True)
            removed += 1  # else its writer is alive
    return removed


# ---- what may go: what no run needs ------------------------------------------------------------


def note_run(preset: str, notebook: str, params: Any) -> None:
    """From here on the keys that are asked for are noted as needed by this run."""
    os.environ[RUN] = f"{preset}/{notebook}/{key('run', 1, params=params)}"


def end_run() -> None:
    """The run came to its end: what it needed with other parameters is needed no more."""
    notes = root() / "runs" / os.environ.pop(RUN, "")
    for earlier in notes.parent.iterdir() if notes.is_file() else ():
        if earlier != notes:
            earlier.unlink()


@cache
def _note(notes: Path, key: str) -> None:
    notes.parent.mkdir(parents=True, exist_ok=True)
    with lock(f"run-{notes.name}"), notes.open("a", encoding="utf-8") as stream:
        stream.write(f"{key}\n")


def entries() -> pd.DataFrame:
    """A row an entry: key, kind, bytes, presets whose runs need it."""
    import pandas as pd

    presets: dict[str, set[str]] = {}
    for notes in (root() / "runs").glob("*/*/*"):
        for key in notes.read_text(encoding="utf-8").split():
            presets.setdefault(key, set()).add(notes.parts[-3])
    rows = []
    for record in root().glob(f"??/*/{ENTRY}"):
        with suppress(OSError, ValueError, KeyError):  # damaged ones are replaced when asked for
            contents = _json.loads(record.read_text(encoding="utf-8"))["files"]
            key, kind = record.parent.name, KINDS.get("/".join(contents), "model")
            size = sum(n for n, _ in contents.values())
            rows.append((key, kind, size, ", ".join(sorted(presets.get(key, ())))))
    return pd.DataFrame(rows, columns=["key", "kind", "bytes", "needed_by"])


def remove(keys: Iterable[str]) -> int:
    """Removes these entries, but for those that a writer is at; how many. Nobody reads half of one:
    it is moved away first."""
    removed = 0
    for key in keys:
        with suppress(Timeout, FileNotFoundError), lock(key).acquire(timeout=0):
            work = root() / "tmp" / f"{key}-removed"
            work.parent.mkdir(exist_ok=True)
            folder(key).rename(work)
            shutil.rmtree(work)
            removed += 1
    return removed


def _write(key: str, fill: Callable[[Path], None]) -> None:
    """Writes an entry beside its place and moves it there. The caller holds the key's lock."""
    entry, work = folder(key), root() / "tmp" / f"{key}-{uuid.uuid4().hex[:8]}"
    work.mkdir(parents=True)
    try:
        fill(work)
        (work / ENTRY).write_text(_json.dumps({"files": _files(work)}, indent=1), encoding="utf-8")
        entry.parent.mkdir(parents=True, exist_ok=True)
        if entry.exists():  # damaged: a rename does not replace a full folder
            entry.rename(work.with_suffix(".damaged"))
        work.rename(entry)
    finally:
        # of a killed process too: we hold the lock, so nobody writes there
        for leftover in work.parent.glob(f"{key}-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _files(entry: Path) -> dict[str, list]:
    """{relative name: [bytes, SHA-256]} of every file below the folder but entry.json, by name."""
    files: dict[str, list] = {}
    for file in sorted(entry.rglob("*")):
        name = file.relative_to(entry).as_posix()
        if file.is_file() and name != ENTRY:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            files[name] = [file.stat().st_size, digest]
    return files


def _fault(entry: Path) -> str | None:
    """What is wrong with an entry: None where it is whole, MISSING where there is none."""
    fault = _checked(entry)
    if fault and _only_stored:
        raise Missing(fault)
    return fault


def _checked(entry: Path) -> str | None:
    if not entry.is_dir():
        return MISSING
    try:
        recorded = _json.loads((entry / ENTRY).read_text(encoding="utf-8"))["files"]
        return None if recorded == _files(entry) else "files differ from what was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not entry.is_dir():  # a writer has just moved the damaged entry away
            return MISSING
        return f"{type(error).__name__}: {error}"


def _read_parquet(file: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:  # most are small, and threads take longer to start
        arrow = parquet.read(use_threads=False)
    frame = arrow.to_pandas(use_threads=False)
    for field in arrow.schema:
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            frame[field.name] = arrow.column(field.name).to_pylist()
    return frame


def _hash(value: Any) -> str:
    text = _json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any, where: str) -> Any:
    """The value in JSON terms; types that JSON lacks are tagged, so as not to pass for others."""
    if hasattr(value, "to_parquet"):
        columns = {str(name): _column(value[name], f"{where}.{name}") for name in value.columns}
        return {"__table__": columns}
    if isinstance(value, bytes):
        return {"__bytes__": hashlib.sha256(value).hexdigest()}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # numpy.float64 is a float as well
        if getattr(value, "ndim", 0):
            return {"__array__": [str(value.dtype), value.tolist()]}
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _canonical(item, f"{where}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"__dataclass__": type(value).__name__, "fields": _canonical(fields, where)}
    allowed = "pass what it contains, or a hash of that; keys of a dict are strings"
    raise TypeError(f"{where}: {value!r:.80} cannot be part of a key: {allowed}")


def _column(column: pd.Series, where: str) -> str:
    """Hash of a column's values, by way of Arrow, so that it is the same before and after a round
    trip through Parquet (where a list comes back as an array, None as NaN)."""
    import pyarrow as pa

    return _hash(_canonical(pa.Array.from_pandas(column).to_pylist(), where))
