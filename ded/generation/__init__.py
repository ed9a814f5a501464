"""Samples trajectories: n for each problem, from one model, with their token ids, finish reasons and token entropies.

The shards in which work is done and stored are fixed by the request: one sample of up to `SHARD` problems each. So more samples add
to those that are there, an interrupted run goes on where it stopped, and what was drawn never depends on what was drawn before. A
request with a higher max_tokens continues the rows that a lower one had cut off. Who draws is an engine (`ded.generation.engines`).
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from types import ModuleType
from typing import TYPE_CHECKING

from ded import models, store
from ded.errors import EngineError
from ded.generation import openai, recorded, transformers, vllm
from ded.generation.engines import Settings, Shard
from ded.options import Engine
from ded.problems import Problem

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2
SHARD = (
    256  # problems a shard: the most that a kill repeats, and the batch of the transformers engine
)


ENGINES: dict[str, ModuleType] = {
    "transformers": transformers,
    "vllm": vllm,
    "openai": openai,  # of openai:<model>, whatever `engine` names
    "recorded": recorded,  # of recorded:<traces>, likewise
}


def engine_of(model: str, engine: Engine) -> ModuleType:
    """The engine that samples this model: endpoints and recorded traces have their own, whatever `engine` names."""
    kind = models.parse(model)[0]
    return ENGINES[kind if kind in ENGINES else engine.name]


def sample(
    model: str,
    problems: list[Problem],
    n: int = 1,
    *,
    max_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    engine: Engine = Engine(),
) -> pd.DataFrame:
    """n trajectories a problem (paper section "smoke test" and "diversity": several trajectories a question).

    Returns one row a trajectory, sorted by (problem, sample_index): problem_id, model, sample_index, prompt, text, token_ids
    (completion, without the end token), n_tokens (end token included), finish_reason ("stop" or "length"), engine,
    entropy_sum (nats, summed over the n_tokens next-token distributions at temperature 1; NaN where the engine cannot measure it)
    and missing_mass (probability outside what the engine could see, summed likewise). temperature 0 is greedy. Recorded traces
    may hold fewer than n rows of a problem; token_ids is empty and n_tokens NaN where nobody counted (see `counted`). Raises
    EngineError or ModelError, before any work where that can be known.
    """
    import pandas as pd

    source = engine_of(model, engine)
    who = source.identity(model, engine)
    settings = Settings(max_tokens, float(temperature), float(top_p), seed)
    shards = _shards(problems, n, settings, who)
    if missing := [s for s in shards if not store.has(s.key)]:
        with store.lock(f"draw-{missing[0].key}"):  # whoever asks for the same waits, and finds it
            missing = [_started(s, settings, who) for s in missing if not store.has(s.key)]
            # closed at once: the traceback of an interrupt would keep it alive, with its locks and requests
            with closing(source.draw(model, missing, settings, engine)) as drawn:
                for shard, table in drawn:
                    store.table(shard.key, lambda: table)
                    _note_length(shard, settings, who)
    for shard in shards:
        _note_length(shard, settings, who)
    table = pd.concat([store.read_table(shard.key) for shard in shards], ignore_index=True)
    if not len(table):
        raise EngineError(
            f"{model}: no trajectory for any of {len(problems)} questions, the first being {problems[0].prompt[:80]!r}; name "
            f"questions that its records hold, or a column map under which they are found"
        )
    order = {p.id: i for i, p in enumerate(problems)}
    table = table.assign(model=model, engine=who["engine"], _order=table.problem_id.map(order))
    return table.sort_values(["_order", "sample_index"], kind="stable", ignore_index=True).drop(
        columns="_order"
    )


def drawn(
    model: str,
    problems: list[Problem],
    n: int = 1,
    *,
    max_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    engine: Engine = Engine(),
) -> bool:
    """Whether `sample` would find all that it is asked for in the store, and so needs no model."""
    settings = Settings(max_tokens, float(temperature), float(top_p), seed)
    return all(
        store.has(shard.key) for shard in _shards(problems, n, settings, identity(model, engine))
    )


def counted(trajectories: pd.DataFrame, model: str) -> pd.DataFrame:
    """The table with token_ids and n_tokens where an engine knew none (recorded traces, endpoints): those of this model's tokenizer.

    With the student's, lengths, budgets and distances are those that the student meets. n_tokens counts an end token after "stop".
    """
    bare = [
        not len(ids) and bool(text)
        for ids, text in zip(trajectories["token_ids"], trajectories["text"])
    ]
    unknown = trajectories["n_tokens"].isna()
    if not any(bare) and not unknown.any():
        return trajectories
    found = iter(
        models.load_tokenizer(model)(
            [t for t, b in zip(trajectories["text"], bare) if b], add_special_tokens=False
        )["input_ids"]
    )
    ids = [next(found) if b else list(known) for b, known in zip(bare, trajectories["token_ids"])]
    lengths = [
        len(one) + (finish == "stop") for one, finish in zip(ids, trajectories["finish_reason"])
    ]
    lengths = [
        length if missing else n
        for length, missing, n in zip(lengths, unknown, trajectories["n_tokens"])
    ]
    return trajectories.assign(token_ids=ids, n_tokens=[int(n) for n in lengths])


def identity(model: str, engine: Engine = Engine()) -> dict:
    """What, besides prompts and sampling settings, decides what is drawn: for the keys of later stages."""
    return engine_of(model, engine).identity(model, engine)


def _key(problems: list[Problem], index: int, settings: Settings, who: dict) -> str:
    prompts = [[p.id, p.prompt] for p in problems]
    return store.key(
        "generation", VERSION, prompts=prompts, sample_index=index, **who, **asdict(settings)
    )


def _shards(problems: list[Problem], n: int, settings: Settings, who: dict) -> list[Shard]:
    parts = [problems[start : start + SHARD] for start in range(0, len(problems), SHARD)]
    return [
        Shard(_key(part, index, settings, who), part, index) for part in parts for index in range(n)
    ]


# Which max_tokens a shard was drawn with before: one small file a shard, a number a line. It only tells where to look.
def _lengths(shard: Shard, settings: Settings, who: dict):
    lineage = _key(shard.problems, shard.index, replace(settings, max_tokens=0), who)
    return store.root() / "lengths" / lineage[:2] / lineage


def _note_length(shard: Shard, settings: Settings, who: dict) -> None:
    file = _lengths(shard, settings, who)
    known = file.read_text().split() if file.is_file() else []
    if str(settings.max_tokens) not in known:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as stream:
            stream.write(f"{settings.max_tokens}\n")


def _started(shard: Shard, settings: Settings, who: dict) -> Shard:
    """The shard with the rows of the longest shorter draw, if there is one."""
    file = _lengths(shard, settings, who)
    known = {int(t) for t in file.read_text().split() if t.isdigit()} if file.is_file() else set()
    for shorter in sorted((t for t in known if t < settings.max_tokens), reverse=True):
        key = _key(shard.problems, shard.index, replace(settings, max_tokens=shorter), who)
        if store.has(key):
            return replace(shard, started=store.read_table(key))
    return shard
