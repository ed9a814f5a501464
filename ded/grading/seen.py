"""Verdicts on programs that have been run before, in one SQLite file: each distinct program of a problem runs once.

Students of the same questions write the same programs over and over. Only *correct* and *wrong* are kept: an error is tried again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

CHUNK = 24  # programs between two looks: jobs side by side then share what they ran


def grade(
    pairs: Sequence[tuple],
    run: Callable[[list[tuple]], list[tuple[str, str]]],
    file: Path,
    *settings,
) -> list[tuple[str, str]]:
    """(verdict, reason) of each (problem, program), looked up in `file` or else from `run(pairs)`; `settings`: all else that decides."""
    from tqdm.auto import tqdm

    metas: dict[str, str] = {}
    keys = []
    for problem, program in pairs:
        if problem.id not in metas:
            text = json.dumps(
                [platform.python_version(), *map(repr, settings), problem.meta],
                sort_keys=True,
                default=repr,
            )
            metas[problem.id] = hashlib.sha256(text.encode()).hexdigest()
        keys.append(
            hashlib.sha256(
                (metas[problem.id] + program).encode("utf-8", "surrogatepass")
            ).hexdigest()[:32]
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, tuple[str, str]] = {}
    with closing(sqlite3.connect(file, timeout=120)) as base:
        with base:
            base.execute(
                "create table if not exists programs (key text primary key, verdict text, reason text)"
            )
        for start in tqdm(
            range(0, len(keys), CHUNK), desc="code", unit=f"{CHUNK} programs", delay=5, leave=False
        ):
            part = dict(zip(keys[start : start + CHUNK], pairs[start : start + CHUNK]))
            marks = ",".join("?" * len(part))
            found |= {
                k: (v, r)
                for k, v, r in base.execute(
                    f"select key, verdict, reason from programs where key in ({marks})", list(part)
                )
            }
            new = [key for key in part if key not in found]
            found |= dict(zip(new, run([part[key] for key in new]))) if new else {}
            with base:
                base.executemany(
                    "insert or ignore into programs values (?, ?, ?)",
                    [(k, *found[k]) for k in new if found[k][0] != "error"],
                )
    return [found[key] for key in keys]
