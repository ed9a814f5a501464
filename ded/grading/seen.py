"""Verdicts on programs that have been run before, in one SQLite file: each distinct program runs
once a problem.

Students of the same questions write the same programs over and over. Only *correct* and *wrong* are
kept: an error is tried again.
"""

import hashlib
import json
import platform
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ded.grading.decision import Decision, Pair

FINAL = ("correct", "wrong")  # an error may be none the next time


def grade(
    pairs: list[Pair], run: Callable[[list[Pair]], list[Decision]], file: Path, *settings: Any
) -> list[Decision]:
    """A decision on each (problem, program), looked up in `file` or else from `run(pairs)`.

    settings: all else that decides.
    """
    keys = _keys(pairs, settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=120)) as base:
        base.execute("create table if not exists programs (key primary key, verdict, reason)")
        query = "select verdict, reason from programs where key = ?"
        rows = {key: base.execute(query, (key,)).fetchone() for key in keys}
        decisions = {key: Decision(*row) for key, row in rows.items() if row}
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in decisions}
        ran = dict(zip(new, run(list(new.values())) if new else [], strict=True))
        final = [(key, *made[:2]) for key, made in ran.items() if made.verdict in FINAL]
        with base:
            base.executemany("insert or ignore into programs values (?, ?, ?)", final)
    decisions |= ran
    return [decisions[key] for key in keys]


def _keys(pairs: list[Pair], settings: tuple) -> list[str]:
    """A hash of all that decides on each pair: the program, the problem's meta, the settings and
    Python itself.
    """
    problems = {problem.id: problem for problem, _ in pairs}
    decides = [platform.python_version(), *map(repr, settings)]
    hashes = {
        name: _digest(json.dumps([*decides, problem.meta], sort_keys=True, default=repr))
        for name, problem in problems.items()
    }
    return [_digest(hashes[problem.id] + program)[:32] for problem, program in pairs]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
