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

from ded import progress
from ded.grading.decision import Decision, Pair

FINAL = ("correct", "wrong")  # an error may be none the next time
CHUNK = 24  # programs between two looks: jobs side by side then share what they ran


def grade(
    pairs: list[Pair], run: Callable[[list[Pair]], list[Decision]], file: Path, *settings: Any
) -> list[Decision]:
    """A decision on each (problem, program), looked up in `file` or else from `run(pairs)`.

    settings: all else that decides.
    """
    jobs = list(zip(_keys(pairs, settings), pairs, strict=True))
    decisions: dict[str, Decision] = {}
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=120)) as base:
        base.execute("create table if not exists programs (key primary key, verdict, reason)")
        starts = range(0, len(jobs), CHUNK)
        for start in progress.bar(starts, desc="code", unit=f"{CHUNK} programs", delay=5):
            chunk = dict(jobs[start : start + CHUNK])
            query = f"select * from programs where key in ({','.join('?' * len(chunk))})"
            for key, verdict, reason in base.execute(query, list(chunk)):
                decisions[key] = Decision(verdict, reason)
            new = {key: pair for key, pair in chunk.items() if key not in decisions}
            ran = dict(zip(new, run(list(new.values())) if new else [], strict=True))
            decisions |= ran
            rows = [
                (key, *decision[:2]) for key, decision in ran.items() if decision.verdict in FINAL
            ]
            with base:
                base.executemany("insert or ignore into programs values (?, ?, ?)", rows)
    return [decisions[key] for key, _ in jobs]


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
