"""Where trajectories come from: one module an engine, all with the same two names.

identity(model, engine)                 what decides its results besides the request: part of every store key
draw(model, shards, settings, engine)   yields (shard, table) as shards are finished; columns as in `generation.sample`

A shard that carries `started` rows (drawn with a lower max_tokens) is continued: rows that ended by themselves stay as they are,
rows cut off go on from their stored tokens where the engine can, else stay truncated with a warning. They are never drawn afresh,
which would favour short outputs.

`text` is what follows the prompt as a template without reasoning would leave it: `models.think_prefix(model)`, then what was sampled.
(Some templates open the think block in the prompt; token_ids and n_tokens are of what was sampled alone.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from ded.problems import Problem


@dataclass(frozen=True)
class Settings:
    """What a request fixes besides the prompts: max_tokens, temperature (0 is greedy), top_p, seed."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True)
class Shard:
    """What is stored at once: one sample (number `index`) of each of some problems, under a store key."""

    key: str
    problems: list[Problem]
    index: int
    started: pd.DataFrame | None = None
