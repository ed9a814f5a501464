"""The recorded engine: trajectories that others sampled, looked up by `ded.models.traces` instead
of being drawn."""

import logging
import math
from typing import Any

from ded import models
from ded.generation.engines import Settings, Shard, Tables
from ded.models.traces import traces
from ded.options import Engine

log = logging.getLogger("ded")


def identity(model: str, engine: Engine) -> dict[str, Any]:
    """The content of the traces, column map included."""
    return {"engine": "recorded", "model": models.fingerprint(model)}


def draw(model: str, shards: list[Shard], settings: Settings, engine: Engine) -> Tables:
    """Tables without a row for a question that has too few traces."""
    problems = {problem.id: problem for shard in shards for problem in shard.problems}
    traces_of = traces(model, problems.values(), 1 + max(shard.index for shard in shards))
    n_missing = sum(not recorded for recorded in traces_of.values())
    n_empty = sum(not trace.text for recorded in traces_of.values() for trace in recorded)
    of_all = f"{n_missing} of {len(problems)} questions have no trace"
    log.info("%s: %s, %d trace(s) are empty", model, of_all, n_empty)
    unmeasured = {"token_ids": [], "entropy_sum": math.nan, "missing_mass": math.nan}
    for shard in shards:
        recorded = [traces_of[problem.id] for problem in shard.problems]
        rows = [
            samples[shard.index]._asdict() | unmeasured if shard.index < len(samples) else None
            for samples in recorded
        ]
        yield shard, shard.table(rows)
