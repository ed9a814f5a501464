"""The openai engine: any server that speaks the OpenAI chat API, `vllm serve` included (docs/engines.md, "Endpoints").

One request a row. Each row is written into a journal beside the store as soon as it is here, so that a kill, a full disk or a dead
server loses no row that was paid for. A server that gives token ids (vLLM's does) continues rows that a lower max_tokens cut off,
from their tokens, through its completions API; what another server cut off stays truncated. The key is read from the environment
where it is used, and is in no file, log or message.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ded import models, store
from ded.errors import EngineError
from ded.generation import journal
from ded.models import THINK, endpoint
from ded.problems import Problem, content_hash

if TYPE_CHECKING:
    import pandas as pd

    from ded.generation.engines import Settings, Shard
    from ded.options import Engine

ENDS = {
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",
}
BROKEN = (
    None,
    "",
    "error",
    "abort",
    "cancelled",
    "insufficient_system_resource",
)  # the server's failure, and not the model's end
log = logging.getLogger("ded")


def identity(model: str, engine: Engine) -> dict:
    return {"engine": "openai", "model": models.fingerprint(model), "base_url": engine.base_url}


def drawn_from(model: str, engine: Engine) -> bool:
    """Whether the store may hold rows of this model: what is finished needs its endpoint no more."""
    return _place(model, engine).with_suffix(".drawn").is_file()


def _place(model: str, engine: Engine):
    return store.root() / "locks" / store.key("endpoint", 1, **identity(model, engine))


def draw(
    model: str, shards: list[Shard], settings: Settings, engine: Engine
) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """See `ded.generation.engines`. One process at a time draws from a model at an endpoint: engine.concurrency is that of the whole machine."""
    from tqdm.auto import tqdm

    ended, counts, begun = threading.Event(), Counter(), time.monotonic()
    place = _place(model, engine)
    drawn = place.with_suffix(".drawn")
    with store.lock(place.name), endpoint.connect(model, engine, ended, counts) as post:
        tables, left, todo, cut = {}, {}, [], 0
        for shard in shards:
            if store.has(shard.key):  # another process drew it while this one waited
                yield shard, store.read_table(shard.key)
                continue
            rows = (
                [None] * len(shard.problems)
                if shard.started is None
                else shard.started.to_dict("records")
            )
            paid = journal.read(shard)
            unfinished = [
                i
                for i, row in enumerate(rows)
                if i not in paid and (row is None or row["finish_reason"] == "length")
            ]
            asked = [i for i in unfinished if rows[i] is None or len(rows[i]["token_ids"])]
            todo += [(shard, i, rows[i]) for i in asked]
            tables[shard.key], left[shard.key] = (
                [paid.get(i, row) for i, row in enumerate(rows)],
                len(asked),
            )
            cut += len(unfinished) - len(asked)
        if cut:
            warnings.warn(
                f"{model}: {cut} rows that a lower max_tokens cut off stay truncated, as {engine.base_url} gave no token ids to go on "
                f"from; serve the model with vLLM, or draw all rows anew with this max_tokens and another seed",
                stacklevel=2,
            )

        def one(shard: Shard, i: int, before: dict | None) -> tuple[Shard, int, dict]:
            row = _row(
                post,
                shard.problems[i],
                shard.index,
                settings,
                min(engine.entropy_top, 20),
                before,
                counts,
            )
            journal.add(shard, i, row)
            counts["rows"] += 1
            drawn.touch()
            return shard, i, row

        yield from (
            pair
            for shard in shards
            if left.get(shard.key) == 0
            for pair in journal.whole(shard, tables[shard.key])
        )
        try:
            for shard, i, row in tqdm(
                _side_by_side(one, todo, engine.concurrency, ended),
                f"sampling {model}",
                len(todo),
                unit="row",
            ):
                tables[shard.key][i] = row
                left[shard.key] -= 1
                if not left[shard.key]:
                    yield from journal.whole(shard, tables[shard.key])
        except (EngineError, OSError) as error:
            raise EngineError(
                f"model {model!r}: {error}. {counts['rows']} of {len(todo)} rows are stored; run again to go on from there"
            ) from None
        finally:
            ended.set()
        log.info("%s: %.0f s, %s", model, time.monotonic() - begun, dict(counts))


def _side_by_side(
    one: Callable, tasks: list[tuple], workers: int, ended: threading.Event
) -> Iterator[tuple]:
    """one(*task) for all tasks, as they finish. After a failure nothing new is sent; it is raised when what is under way is in."""
    found, waiting = queue.SimpleQueue(), iter(tasks)

    def work() -> None:
        for task in waiting:
            if ended.is_set():
                return
            try:
                found.put(one(*task))
            except BaseException as error:
                ended.set()
                found.put(error)

    threads = [
        threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(tasks)))
    ]  # an interrupt does not wait for them
    for thread in threads:
        thread.start()
    for _ in tasks:
        if isinstance(result := found.get(), BaseException):
            for thread in threads:
                thread.join()
            raise result
        yield result


def _row(
    post: Callable,
    problem: Problem,
    index: int,
    settings: Settings,
    top: int,
    before: dict | None,
    counts: Counter,
) -> dict:
    """One trajectory; `before` is the truncated row that it goes on from."""
    drawn = list(before["token_ids"]) if before else []
    chat = {"messages": [{"role": "user", "content": problem.prompt}]}
    body = {
        "max_tokens": settings.max_tokens - len(drawn),
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": content_hash(f"{settings.seed} {problem.id} {index} {len(drawn)}") % 2**31,
        "return_token_ids": True,
    }
    try:
        if before is None:
            row = post(
                "chat/completions",
                body | chat | ({"logprobs": True, "top_logprobs": top} if top else {}),
                _from_chat,
            )
        else:  # by tokens: a template may change what an assistant message holds (some drop or add a think block)
            prompt = post(
                "chat/completions",
                chat | {"max_tokens": 1, "return_token_ids": True},
                lambda reply: list(reply["prompt_token_ids"]),
            )
            row = post(
                "completions",
                body | {"prompt": prompt + drawn} | ({"logprobs": top} if top else {}),
                _from_completion,
            )
            row |= {
                k: before[k] + row[k]
                for k in ("text", "token_ids", "n_tokens", "entropy_sum", "missing_mass")
            }
    except EngineError as error:
        raise EngineError(f"problem {problem.id!r}: {error}") from None
    if (reason := row["finish_reason"]) not in ("stop", "length"):
        counts[f"finish_reason {reason}, counted as stop"] += 1
        row |= {"finish_reason": "stop"} | (
            {"text": "", "token_ids": []} if reason == "content_filter" else {}
        )
    if (
        "</think>" in row["text"] and THINK not in row["text"]
    ):  # the template opens it in the prompt
        row["text"] = f"{THINK}\n{row['text']}"
    return row


def _from_chat(reply: dict) -> dict:
    choice = reply["choices"][0]
    said = choice["message"].get("content") or ""
    if thought := choice["message"].get("reasoning_content") or choice["message"].get("reasoning"):
        said = (
            f"{THINK}\n{thought.strip()}\n</think>\n{said.strip()}"
            if said
            else f"{THINK}\n{thought.lstrip()}"
        )
    return _measured(
        reply,
        said.lstrip(),
        [
            [t["logprob"] for t in p["top_logprobs"]]
            for p in (choice.get("logprobs") or {}).get("content") or []
        ],
    )


def _from_completion(reply: dict) -> dict:
    choice = reply["choices"][0]
    return _measured(
        reply,
        choice["text"],
        [list(p.values()) for p in (choice.get("logprobs") or {}).get("top_logprobs") or []],
    )


def _measured(reply: dict, text: str, seen: list[list[float]]) -> dict:
    """A row, NaN for what the server did not say; `seen`: log-probabilities of the likeliest tokens, for each position."""
    finish, ids = reply["choices"][0]["finish_reason"], reply["choices"][0].get("token_ids") or []
    if finish in BROKEN:
        raise ValueError  # as half a reply is
    finish = ENDS.get(finish, finish)
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be stored
    n = (reply.get("usage") or {}).get("completion_tokens")
    n = math.nan if n is None else n
    whole = len(seen) > 0 and abs(len(seen) - n) <= 1  # some servers leave the end token out
    entropy = (
        round(-sum(p * math.exp(p) for position in seen for p in position), 6)
        if whole
        else math.nan
    )
    missing = (
        round(sum(max(0.0, 1 - sum(map(math.exp, position))) for position in seen), 6)
        if whole
        else math.nan
    )
    return dict(
        zip(
            journal.MEASURED,
            (
                text,
                ids[:-1] if finish == "stop" and len(ids) == n else ids,
                n,
                finish,
                entropy,
                missing,
            ),
        )
    )
