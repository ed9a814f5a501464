"""Where trajectories come from: what every engine takes and gives.

A shard that carries `started` rows (drawn with a lower max_tokens) is continued: rows that ended
by themselves stay as they are, rows cut off go on from their stored tokens where the engine can,
else stay truncated with a warning. They are never drawn afresh, which would favour short outputs.

`text` is what follows the prompt as a template without reasoning would leave it:
`models.think_prefix(model)`, then what was sampled. (Some templates open the think block in the
prompt; token_ids and n_tokens are of what was sampled alone.)
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from ded import models
from ded.options import Engine
from ded.problems import Problem

Tables = Generator[tuple["Shard", pd.DataFrame], None, None]
MEASURED = ("text", "token_ids", "n_tokens", "finish_reason", "entropy_sum", "missing_mass")
COLUMNS = ("problem_id", "sample_index", "prompt", *MEASURED)
Row = dict[str, Any]  # what an engine says of one trajectory: a value for each of MEASURED


class EngineModule(Protocol):
    """An engine: a module with these two functions, named in `ded.generation.ENGINES`."""

    def identity(self, model: str, engine: Engine) -> dict[str, Any]:
        """What decides its results besides the request, "engine" among it: part of store keys."""

    def draw(self, model: str, shards: list[Shard], settings: Settings, engine: Engine) -> Tables:
        """Yields (shard, its table with the columns COLUMNS), as shards are finished; drawn as
        `settings` and `engine.sampling()` say.

        A shard that another process has put into the store meanwhile may be left out.
        """


def texts(model: str, sampled: list[str]) -> list[str]:
    """What was sampled behind the think block that the model's template opens in the prompt, once:
    some models open it again."""
    opened = models.think_prefix(model)
    return [text if text.lstrip().startswith(models.THINK) else opened + text for text in sampled]


@dataclass(frozen=True)
class Settings:
    """What a request fixes besides the prompts; temperature 0 is greedy."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:  # a store key tells 1 from 1.0
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "top_p", float(self.top_p))


@dataclass(frozen=True)
class Shard:
    """What is stored at once: sample number `index` of each of some problems, under a store key."""

    key: str
    problems: list[Problem]
    index: int
    started: pd.DataFrame | None = None

    def rows(self) -> list[Row | None]:
        """What is there of it, a row a problem; None for what nobody began."""
        if self.started is None:
            return [None] * len(self.problems)
        return [dict(row) for row in self.started[list(MEASURED)].to_dict("records")]

    def unfinished(self) -> list[Unfinished]:
        """The rows that nobody began and those that a lower max_tokens cut off."""
        return [
            Unfinished(self, place, row)
            for place, row in enumerate(self.rows())
            if row is None or row["finish_reason"] == "length"
        ]

    def table(self, rows: Sequence[Row | None]) -> pd.DataFrame:
        """The shard's table of a row a problem; None for a problem that has none."""
        records = [
            {"problem_id": problem.id, "sample_index": self.index, "prompt": problem.prompt} | row
            for problem, row in zip(self.problems, rows, strict=True)
            if row
        ]
        return pd.DataFrame(records, columns=list(COLUMNS))


@dataclass(frozen=True)
class Unfinished:
    """Row number `place` of a shard, to be drawn; `before` is the truncated row it goes on from."""

    shard: Shard
    place: int
    before: Row | None

    @property
    def problem(self) -> Problem:
        """Whose trajectory it is."""
        return self.shard.problems[self.place]

    @property
    def drawn(self) -> list[int]:
        """Token ids of the row so far; [] also where its engine gave none."""
        return list(self.before["token_ids"]) if self.before else []

    def continued(self, rest: Row) -> Row:
        """The whole row, `rest` being what was drawn now; its finish_reason counts."""
        if self.before is None:
            return rest
        sums = {name: self.before[name] + rest[name] for name in rest if name != "finish_reason"}
        return rest | sums | {"entropy_sum": round(sums["entropy_sum"], 6)}
