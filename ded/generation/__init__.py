"""Samples trajectories: n for each problem, from one model, with their token ids, finish reasons
and token entropies.

The shards in which work is done and stored are fixed by the request: one sample of up to `SHARD`
problems each. So more samples add to those that are there, an interrupted run goes on where it
stopped, and what was drawn never depends on what was drawn before. A request with a higher
max_tokens continues the rows that a lower one had cut off. Who draws is an engine
(`ded.generation.engines`).
"""

from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from ded import models, spent, store
from ded.errors import EngineError, ParameterError, no_such
from ded.generation import budget, journal, openai, recorded, transformers, vllm
from ded.generation.engines import EngineModule, Settings, Shard
from ded.options import Engine
from ded.problems import Problem

VERSION = 2
# problems a shard: the most that a kill repeats, and the batch of the transformers engine
SHARD = 256
Identity = dict[str, Any]

# A new engine is a module of this package and a line here.
ENGINES: dict[str, EngineModule] = {
    "transformers": transformers,
    "vllm": vllm,
    "openai": openai,  # of openai:<model>, whatever `engine` names
    "recorded": recorded,  # of recorded:<traces>, likewise
}


def engine_of(model: str, engine: Engine) -> EngineModule:
    """The engine that samples this model: endpoints and recorded traces have their own, whatever
    `engine` names."""
    kind = models.parse(model).kind
    return ENGINES[kind] if kind in ENGINES else named(engine.name)


def named(name: str) -> EngineModule:
    """The engine that the parameter `engine` names, which may be any but those that a kind of
    model has to itself; ParameterError where there is none."""
    names = [engine for engine in ENGINES if engine not in models.KINDS]
    if name not in names:
        raise ParameterError(no_such("engine", name, names))
    return ENGINES[name]


def identity(model: str, engine: Engine = Engine()) -> Identity:
    """What, besides prompts and sampling settings, decides what is drawn: for the keys of later
    stages."""
    decided = engine_of(model, engine).identity(model, engine)
    if decided["engine"] == "recorded":
        return decided
    forced = engine.model_dump(include={"thinking_budget", "thinking_end"})
    return decided | engine.sampling() | forced


@spent.on("sample")
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
    """n trajectories a problem (paper, "smoke test" and "diversity": several a question).

    Returns one row a trajectory, sorted by (problem, sample_index): problem_id, model,
    sample_index, prompt, text, token_ids (completion, without the end token), n_tokens (end token
    included), finish_reason ("stop" or "length"), engine, entropy_sum (nats, summed over the
    n_tokens next-token distributions at temperature 1; NaN where the engine cannot measure it) and
    missing_mass (probability outside what the engine could see, summed likewise). temperature 0 is
    greedy. Recorded traces may hold fewer than n rows of a problem; token_ids is empty and n_tokens
    NaN where nobody counted (see `counted`). With a thinking budget a column `forced` says whose
    thinking it ended (see `ded.generation.budget`). Raises EngineError or ModelError, before any
    work where that can be known.
    """
    engine = budget.within(engine, max_tokens)
    source, who = engine_of(model, engine), identity(model, engine)
    settings, limited = Settings(max_tokens, temperature, top_p, seed), None
    if end := budget.end_of(model, engine, max_tokens):
        limit = engine.thinking_budget
        request = asdict(settings) | {"max_tokens": limit, "engine": budget.within(engine, limit)}
        limited = budget.closed(sample(model, problems, n, **request), end)
    shards = _shards(problems, n, settings, who)
    if missing := [shard for shard in shards if not store.has(shard.key)]:
        with store.lock(f"draw-{missing[0].key}"):  # whoever asks for the same waits for it
            begun = [_begun(s, settings, who, limited) for s in missing if not store.has(s.key)]
            # closed at once: the traceback of an interrupt would keep it, its locks and requests
            drawn = closing(source.draw(model, begun, settings, engine))
            n_gpus = engine.tensor_parallel * engine.data_parallel
            with spent.work("sample", model, n_gpus) as done, drawn as drawing:
                for shard, table in drawing:
                    store.table(shard.key, table.copy)
                    before = 0 if shard.started is None else shard.started["n_tokens"].sum()
                    done["tokens"] += table["n_tokens"].sum() - before
                    done["limit"] += sum(max_tokens - len(row.drawn) for row in shard.unfinished())
    # there may be no traces for a shard
    tables = [table for shard in shards if len(table := store.read_table(shard.key))]
    if not tables:
        lack = f"no trajectory for any of {len(problems)} questions, the first being"
        mend = "name questions that its records hold, or a column map under which they are found"
        raise EngineError(f"{model}: {lack} {problems[0].prompt[:80]!r}; {mend}")
    table = pd.concat(tables, ignore_index=True).assign(model=model, engine=who["engine"])
    if limited is not None:
        table = table.merge(limited[["problem_id", "sample_index", "forced"]])
    table["order"] = table["problem_id"].map({problem.id: i for i, problem in enumerate(problems)})
    return table.sort_values(["order", "sample_index"], ignore_index=True).drop(columns="order")


def drawn(
    model: str, problems: list[Problem], n: int = 1, *, engine: Engine = Engine(), **settings: Any
) -> bool:
    """Whether `sample`, called alike, would find all that it is asked for in the store, and so
    needs no model."""
    engine = budget.within(engine, settings["max_tokens"])
    shards = _shards(problems, n, Settings(**settings), identity(model, engine))
    return all(store.has(shard.key) for shard in shards)


def counted(trajectories: pd.DataFrame, model: str) -> pd.DataFrame:
    """The table with token_ids and n_tokens where an engine knew none (recorded traces,
    endpoints): those of this model's tokenizer.

    With the student's, lengths, budgets and distances are those that the student meets. n_tokens
    counts an end token after "stop".
    """
    unknown = trajectories["n_tokens"].isna()
    given = [list(ids) for ids in trajectories["token_ids"]]
    texts = ["" if ids else text for ids, text in zip(given, trajectories["text"], strict=True)]
    if not any(texts) and not unknown.any():
        return trajectories
    tokenised = models.load_tokenizer(model)(texts, add_special_tokens=False)["input_ids"]
    token_ids = [ids or list(new) for ids, new in zip(given, tokenised, strict=True)]
    ended = trajectories["finish_reason"] == "stop"
    counts = ended + [len(ids) for ids in token_ids]
    n_tokens = trajectories["n_tokens"].where(~unknown, counts).astype(int)
    return trajectories.assign(token_ids=token_ids, n_tokens=n_tokens)


def _key(problems: list[Problem], index: int, settings: Settings, who: Identity) -> str:
    prompts = [[problem.id, problem.prompt] for problem in problems]
    request = {"sample_index": index, **asdict(settings), **who}
    return store.key("generation", VERSION, prompts=prompts, **request)


def _shards(problems: list[Problem], n: int, settings: Settings, who: Identity) -> list[Shard]:
    parts = [problems[start : start + SHARD] for start in range(0, len(problems), SHARD)]
    return [
        Shard(_key(part, index, settings, who), part, index) for part in parts for index in range(n)
    ]


def _begun(shard: Shard, settings: Settings, who: Identity, limited: pd.DataFrame | None) -> Shard:
    """The shard with the rows of the longest shorter draw, if there is one; else with those of the
    thinking budget."""

    def key(max_tokens: int) -> str:
        return _key(shard.problems, shard.index, replace(settings, max_tokens=max_tokens), who)

    for length in journal.lengths(key(0), settings.max_tokens):
        if length < settings.max_tokens and store.has(key(length)):
            return replace(shard, started=store.read_table(key(length)))
    if limited is None:
        return shard
    ids = [problem.id for problem in shard.problems]
    own = limited["problem_id"].isin(ids) & (limited["sample_index"] == shard.index)
    return replace(shard, started=limited[own])
