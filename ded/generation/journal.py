"""Rows of shards that are not whole yet, each written down beside the store as soon as it is finished: a kill loses none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ded import store

if TYPE_CHECKING:
    import pandas as pd

    from ded.generation.engines import Shard

MEASURED = ("text", "token_ids", "n_tokens", "finish_reason", "entropy_sum", "missing_mass")


def _file(shard: Shard):
    return store.root() / "journal" / f"{shard.key}.jsonl"


def read(shard: Shard) -> dict[int, dict]:
    """The rows written down, by number; half a line, left by a kill, is none."""
    rows = {}
    for line in (
        _file(shard).read_text(errors="replace").splitlines() if _file(shard).is_file() else []
    ):
        with suppress(ValueError, TypeError):
            number, row = json.loads(line)
            rows[number] = row
    return rows


def add(shard: Shard, number: int, row: dict) -> None:
    _file(shard).parent.mkdir(parents=True, exist_ok=True)
    with _file(shard).open(
        "ab", buffering=0
    ) as stream:  # unbuffered: one write, so that lines of several threads do not mix
        stream.write(
            f"\n{json.dumps([number, row])}\n".encode()
        )  # a line of its own, whatever half a line a kill has left


def whole(shard: Shard, rows: list[dict]) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """(shard, its table); once that is in the store, the journal goes."""
    import pandas as pd

    head = [
        {"problem_id": p.id, "sample_index": shard.index, "prompt": p.prompt}
        for p in shard.problems
    ]
    yield shard, pd.DataFrame([h | {k: row[k] for k in MEASURED} for h, row in zip(head, rows)])
    if store.has(shard.key):
        _file(shard).unlink(missing_ok=True)
