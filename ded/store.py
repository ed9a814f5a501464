"""Content-addressed store: an expensive stage runs once for one set of inputs and is looked up again after.

    key = store.key("generation", 1, model=fingerprint, problems=problems, temperature=0.8)
    table = store.table(key, lambda: sample(...))

One entry is one directory, `<root>/<key[:2]>/<key>/`, with the artefact's files and `entry.json`, which records
the size and SHA-256 of each. An entry is written under `<root>/tmp/` and renamed into place, so it is there
whole or not at all: a process killed at any moment leaves at most a folder under tmp/, which nobody reads.
What a power cut or a bad disk damages no longer matches entry.json, and is recomputed with a warning; this check,
not fsync, is the guard (fsync would cost more than many of the small entries take to compute).
A lock per key lets concurrent writers compute an entry once; readers take no lock.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json as _json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from filelock import FileLock

ENTRY = "entry.json"


def key(stage: str, version: int, **inputs: Any) -> str:
    """24 hexadecimal digits (96 bits of SHA-256) that name the artefact of one stage for these inputs.

    `version` is that of the stage's code: raise it when the code's results change. Inputs may be None, bool, int,
    float, str, bytes, lists, tuples, dicts with string keys, dataclasses (a `Problem`), DataFrames and numpy values,
    nested at will. 1 and 1.0 differ, as do lists in another order; the order of dict keys and a DataFrame's
    index do not count. Raises TypeError for anything else: a path, say, names a place and not a content.
    """
    text = _json.dumps(
        ["ded", stage, version, _canonical(inputs, stage)], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def root() -> Path:
    """Where entries lie: $DED_STORE, else outputs/store in the repository."""
    if folder := os.environ.get("DED_STORE"):
        return Path(folder)
    from ded import home

    return home() / "outputs" / "store"


def has(key: str) -> bool:
    """Whether a whole, undamaged entry is there: ask before starting processes that would find it done."""
    return _intact(_folder(key), quiet=True)


def table(key: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The DataFrame of this key, from the store or else from `compute()`, which is then stored as Parquet.

    What is returned was always read back from the file, so that a first and a later run see the same values and
    types. The index is not kept; list columns come back as lists.
    """

    def fill(folder: Path) -> None:
        compute().to_parquet(folder / "table.parquet", index=False)

    return _read_table(directory(key, fill) / "table.parquet")


def json(key: str, compute: Callable[[], Any]) -> Any:
    """The JSON value of this key, from the store or else from `compute()`; numpy numbers are stored as numbers."""

    def fill(folder: Path) -> None:
        text = _json.dumps(compute(), default=_plain, ensure_ascii=False)
        (folder / "value.json").write_text(text, encoding="utf-8")

    return _json.loads((directory(key, fill) / "value.json").read_text(encoding="utf-8"))


def lock(name: str) -> FileLock:
    """A lock between all processes that use the store, which opens when its holder ends, however it ends."""
    from filelock import FileLock

    (locks := root() / "locks").mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{name}.lock")


def directory(key: str, fill: Callable[[Path], None]) -> Path:
    """The folder of this key; where it is missing, `fill(folder)` writes its files into an empty folder first.

    Do not change what lies in it: a changed entry counts as damaged. If `fill` raises, nothing is stored.
    """
    final = _folder(key)
    if _intact(final):
        return final
    with lock(key):
        if _intact(final, quiet=True):  # another process wrote it while we waited
            return final
        tmp = root() / "tmp"
        for left in tmp.glob(
            f"{key}-*"
        ):  # of a killed process: we hold the key's lock, so nobody writes there
            shutil.rmtree(left, ignore_errors=True)
        work = tmp / f"{key}-{uuid.uuid4().hex[:8]}"
        work.mkdir(parents=True)
        try:
            fill(work)
            entry = {"files": {name: [size, digest] for name, size, digest in _listing(work)}}
            (work / ENTRY).write_text(_json.dumps(entry, indent=1), encoding="utf-8")
            final.parent.mkdir(parents=True, exist_ok=True)
            if (
                final.exists()
            ):  # damaged: out of the way first, a rename does not replace a full folder
                final.rename(tmp / f"{key}-{uuid.uuid4().hex[:8]}")
            work.rename(final)
        finally:
            for left in tmp.glob(f"{key}-*"):
                shutil.rmtree(left, ignore_errors=True)
    return final


def sweep() -> int:
    """Remove what killed processes left under tmp/; returns how many folders. Safe beside running writers."""
    from filelock import FileLock, Timeout

    removed = 0
    for left in (root() / "tmp").glob("*-*"):
        try:
            with FileLock(root() / "locks" / f"{left.name.partition('-')[0]}.lock", timeout=0):
                shutil.rmtree(left, ignore_errors=True)
                removed += 1
        except Timeout:
            continue  # its writer is alive
    return removed


def _folder(key: str) -> Path:
    return root() / key[:2] / key


def _listing(folder: Path) -> list[tuple[str, int, str]]:
    """(relative name, bytes, SHA-256) of every file below the folder but entry.json, by name."""
    found = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name != ENTRY:
            with file.open("rb") as stream:
                found.append(
                    (name, file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())
                )
    return found


def _intact(folder: Path, quiet: bool = False) -> bool:
    """Whether the entry is there and its files are those that entry.json records; warns where it is damaged."""
    if not folder.is_dir():
        return False
    try:
        files = _json.loads((folder / ENTRY).read_text(encoding="utf-8"))["files"]
        if files == {name: [size, digest] for name, size, digest in _listing(folder)}:
            return True
        problem = "files differ from what was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not folder.is_dir():  # a writer has just moved the damaged entry away
            return False
        problem = f"{type(error).__name__}: {error}"
    if not quiet:
        warnings.warn(
            f"store entry {folder} is damaged and will be computed again ({problem})", stacklevel=3
        )
    return False


def _read_table(file: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pq.read_table(file)
    frame = arrow.to_pandas()
    for field in arrow.schema:
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            frame[field.name] = arrow.column(field.name).to_pylist()
    return frame


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as Python values, for JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON: {value!r:.80}")


def _canonical(value: Any, where: str) -> Any:
    """The value in JSON terms, types that JSON lacks being tagged so that they cannot pass for others."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return (
            value.item() if hasattr(value, "item") else value
        )  # numpy.float64 is a float, with another repr
    if isinstance(value, bytes):
        return {"__bytes__": hashlib.sha256(value).hexdigest()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise TypeError(f"{where}: the key {wrong[0]!r} of a dict is not a string")
        return {name: _canonical(item, f"{where}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: _canonical(getattr(value, f.name), f"{where}.{f.name}")
            for f in dataclasses.fields(value)
        }
        return {"__dataclass__": type(value).__name__, "fields": fields}
    if isinstance(value, PurePath):
        raise TypeError(
            f"{where}: a path cannot be part of a key ({value}): pass a hash of what lies there"
        )
    if hasattr(value, "columns") and hasattr(value, "to_parquet"):
        return {
            "__table__": {
                str(name): _digest(value[name], f"{where}.{name}") for name in value.columns
            }
        }
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return (
            {"__array__": [str(value.dtype), value.tolist()]}
            if getattr(value, "ndim", 0)
            else value.item()
        )
    raise TypeError(f"{where}: a {type(value).__name__} cannot be part of a key: {value!r:.80}")


def _digest(column: pd.Series, where: str) -> str:
    """Hash of a column's values, the same before and after a round trip through Parquet (where a list comes back
    as an array, None as NaN): hence by way of Arrow."""
    import pyarrow as pa

    values = pa.Array.from_pandas(column).to_pylist()
    text = _json.dumps(_canonical(values, where), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
