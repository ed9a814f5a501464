"""The recorded engine: trajectories that others sampled, looked up by `ded.models.traces` instead
of being drawn."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from ded import models
from ded.generation.engines import Row, Settings, Shard
from ded.models.traces import Trace, traces

if TYPE_CHECKING:
    from ded.generation.engines import Tables
    from ded.options import Engine

log = logging.getLogger("ded")


def identity(model: str, engine: Engine) -> dict[str, Any]:
    """The content of the traces, column map included."""
    return {"engine": "recorded", "model": models.fingerprint(model)}


def draw(model: str, shards: list[Shard], settings: Settings, engine: Engine) -> Tables:
    """Tables without a row for a question that has too few traces."""
    problems = {problem.id: problem for shard in shards for problem in shard.problems}
    n = 1 + max(shard.index for shard in shards)
    traces_of = traces(model, problems.values(), n)
    log.info(
        "%s: %d of %d questions have no trace, %d trace(s) are empty",
        model,
        sum(not recorded for recorded in traces_of.values()),
        len(problems),
        sum(not trace.text for recorded in traces_of.values() for trace in recorded),
    )
    for shard in shards:
        yield (
            shard,
            shard.table([_row(traces_of[problem.id], shard.index) for problem in shard.problems]),
        )


def _row(recorded: list[Trace], index: int) -> Row | None:
    if index >= len(recorded):
        return None
    unmeasured = {"token_ids": [], "entropy_sum": math.nan, "missing_mass": math.nan}
    return recorded[index]._asdict() | unmeasured
