"""The recorded engine: trajectories that others sampled, looked up by `ded.models.traces` instead of being drawn."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ded import models
from ded.models.traces import traces

if TYPE_CHECKING:
    import pandas as pd

    from ded.generation.engines import Settings, Shard
    from ded.options import Engine

log = logging.getLogger("ded")


def identity(model: str, engine: Engine) -> dict:
    return {"engine": "recorded", "model": models.fingerprint(model)}


def draw(
    model: str, shards: list[Shard], settings: Settings, engine: Engine
) -> Iterator[tuple[Shard, pd.DataFrame]]:
    import pandas as pd

    asked = {p.id: p for shard in shards for p in shard.problems}
    found = traces(model, asked.values(), 1 + max(shard.index for shard in shards))
    empty = sum(not trace.text for some in found.values() for trace in some)
    log.info(
        "%s: %d of %d questions have no trace, %d trace(s) are empty",
        model,
        sum(not some for some in found.values()),
        len(asked),
        empty,
    )
    for shard in shards:
        rows = [
            (p, found[p.id][shard.index]) for p in shard.problems if len(found[p.id]) > shard.index
        ]
        yield (
            shard,
            pd.DataFrame(
                {
                    "problem_id": pd.Series([p.id for p, _ in rows], dtype="str"),
                    "sample_index": pd.Series([shard.index] * len(rows), dtype="int64"),
                    "prompt": pd.Series([p.prompt for p, _ in rows], dtype="str"),
                    "text": pd.Series([t.text for _, t in rows], dtype="str"),
                    "token_ids": pd.Series([[] for _ in rows], dtype="object"),
                    "n_tokens": pd.Series([t.n_tokens for _, t in rows], dtype="float64"),
                    "finish_reason": pd.Series([t.finish_reason for _, t in rows], dtype="str"),
                    "entropy_sum": math.nan,
                    "missing_mass": math.nan,
                }
            ),
        )
