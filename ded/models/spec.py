"""The grammar of model specs, and what identifies the content of files.

`lab:<name>` (a tiny model of `ded.lab`), `hf:<org>/<name>[@revision]`, `path:<directory>`,
`package:<name>` (see `ded.models.package`); `store:<key>` is a checkpoint that an earlier stage
trained. All are ordinary Hugging Face directories. Without weights: `openai:<model>` (served at the
engine's base_url), `recorded:<file or data set>[#<map>]` (see `ded.models.traces`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ded.errors import ModelError, near

KINDS = ("lab", "hf", "path", "store", "package", "openai", "recorded")
WITHOUT_WEIGHTS = {"openai": "an endpoint gives texts", "recorded": "recorded traces are texts"}
THINK = "<think>"


class Spec(NamedTuple):
    """A model spec, read."""

    kind: str
    name: str
    revision: str | None  # of a hub model

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" + (f"@{self.revision}" if self.revision else "")


def parse(spec: str) -> Spec:
    """What a spec says; ModelError for an unknown kind or an empty name."""
    kind, _, name = str(spec).partition(":")
    if kind not in KINDS or not name:
        raise ModelError(
            f"model {spec!r}: a model is written as <kind>:<name> with kind one of "
            f"{', '.join(KINDS)}, e.g. 'lab:student_1'{near(kind, KINDS) if name else ''}"
        )
    name, _, revision = name.partition("@") if kind == "hf" else (name, "", "")
    return Spec(kind, name, revision or None)


def digest(files: Iterable[Path]) -> str:
    """A hash of names and contents; files that did not change since are not read again."""
    stats = [(str(file), file.stat()) for file in files]
    return _hash(tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats))


@lru_cache(maxsize=256)
def _hash(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, _ in files:
        digest.update(Path(file).name.encode() + b"\0" + Path(file).read_bytes())
    return digest.hexdigest()[:24]
