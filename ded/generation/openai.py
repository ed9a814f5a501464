"""The openai engine: any server that speaks the OpenAI chat API, `vllm serve` included
(docs/engines.md, "Endpoints").

One request a row. Each row is written into a journal beside the store as soon as it is here, so
that a kill, a full disk or a dead server loses no row that was paid for. A server that gives token
ids (vLLM's does) continues rows that a lower max_tokens cut off, from their tokens, through its
completions API; what another server cut off stays truncated.
"""

import logging
import math
import time
import warnings
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from ded import models, progress, store
from ded.errors import EngineError
from ded.generation import journal
from ded.generation.engines import Row, Settings, Shard, Tables, Unfinished
from ded.models import THINK
from ded.models.chat import turns, variables
from ded.models.endpoint import Endpoint
from ded.options import Engine
from ded.problems import content_hash, texts

# other names that servers give to the end of a row
ENDS = dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence"), "stop")
ENDS |= dict.fromkeys(("max_tokens", "model_length"), "length")
# the server's failure, and not the model's end
BROKEN = (None, "", "error", "abort", "cancelled", "insufficient_system_resource")
MOST_LOGPROBS = 20  # that the API gives a token
log = logging.getLogger("ded")


def identity(model: str, engine: Engine) -> dict[str, Any]:
    """The model's name and the server: what is behind them nobody here knows."""
    return {"engine": "openai", "model": models.fingerprint(model), "base_url": engine.base_url}


def drawn_file(model: str, engine: Engine) -> Path:
    """A file that is there once the store may hold rows of this model: finished work needs its
    endpoint no more."""
    key = store.key("endpoint", 1, **identity(model, engine))
    return store.root() / "locks" / f"{key}.drawn"


def draw(model: str, shards: list[Shard], settings: Settings, engine: Engine) -> Tables:
    """One process at a time draws from a model at an endpoint: engine.concurrency is that of the
    whole machine."""
    begun, server = time.monotonic(), Endpoint(model, engine)
    paid = drawn_file(model, engine)
    with store.lock(paid.stem):
        drawing = journal.Drawing(shards)
        asked = [row for row in drawing.unfinished if row.before is None or row.drawn]
        if n_cut := len(drawing.unfinished) - len(asked):
            fault = f"{n_cut} rows that a lower max_tokens cut off stay truncated, having no token "
            mend = "ids to go on from; serve it with vLLM, or draw anew with another seed"
            warnings.warn(f"{model}: {fault}{mend}", stacklevel=2)

        def ask(row: Unfinished) -> tuple[Unfinished, Row] | None:
            if server.ended.is_set():  # by a failure: nothing new is asked
                return None
            try:
                measured = _row(server, row, settings)
                journal.add(row.shard, row.place, measured)
            except BaseException:
                server.ended.set()
                raise
            server.counts["rows"] += 1
            paid.touch()
            return row, measured

        # its threads are daemons: an interrupt does not wait for them
        pool = ThreadPool(max(1, min(engine.concurrency, len(asked))))
        try:
            drawn = filter(None, pool.imap_unordered(ask, asked))
            bar = progress.bar(drawn, total=len(asked), desc=f"sampling {model}", unit="row")
            yield from drawing.tables(asked, bar)
        except (EngineError, OSError) as error:
            pool.close()
            pool.join()  # what is under way will be paid for
            stored = f"{server.counts['rows']} of {len(asked)} rows are stored"
            mend = "run again to go on from there"
            raise EngineError(f"model {model!r}: {error}. {stored}; {mend}") from None
        finally:
            server.ended.set()
            pool.close()
    server.close()
    log.info("%s: %.0f s, %s", model, time.monotonic() - begun, dict(server.counts))


def _row(server: Endpoint, row: Unfinished, settings: Settings) -> Row:
    """One trajectory, whole or as long as max_tokens."""
    top = min(server.engine.entropy_top, MOST_LOGPROBS)
    seed = content_hash(f"{settings.seed} {row.problem.id} {row.shard.index} {len(row.drawn)}")
    own = {"max_tokens": settings.max_tokens - len(row.drawn), "seed": seed % 2**31}
    sampling = vars(settings) | server.engine.sampling() | own | {"return_token_ids": True}
    chat: dict[str, Any] = {"messages": turns(server.model, row.problem.prompt)}
    if template := variables(server.model):
        chat["chat_template_kwargs"] = template
    try:
        if row.before is None:
            logprobs = {"logprobs": True, "top_logprobs": top} if top else {}
            measured = server.post("chat/completions", chat | sampling | logprobs, from_reply)
        else:
            # by tokens: a template may change what an assistant message holds (some drop or add a
            # think block), so the prompt's are asked for first
            first = chat | {"max_tokens": 1, "return_token_ids": True}
            prompt = server.post(
                "chat/completions", first, lambda reply: list(reply["prompt_token_ids"])
            )
            logprobs = {"logprobs": top} if top else {}
            body = {"prompt": prompt + row.drawn} | sampling | logprobs
            measured = row.continued(server.post("completions", body, from_reply))
    except EngineError as error:
        raise EngineError(f"problem {row.problem.id!r}: {error}") from None
    reason = measured["finish_reason"]
    if reason not in ("stop", "length"):
        server.counts[f"finish_reason {reason}, counted as stop"] += 1
        measured["finish_reason"] = "stop"
    if reason == "content_filter":
        measured |= {"text": "", "token_ids": []}
    return measured | {"text": texts.opened(measured["text"])}


def from_reply(reply: dict[str, Any]) -> Row:
    """The row that a reply of chat/completions or completions holds, NaN for what the server did
    not say; ValueError, KeyError ... for half a reply."""
    choice, usage = reply["choices"][0], reply.get("usage") or {}
    logprobs, token_ids = choice.get("logprobs") or {}, choice.get("token_ids") or []
    # log-probabilities of the likeliest tokens, for each position
    if "message" in choice:
        text, positions = _with_thought(choice["message"]), logprobs.get("content") or []
        seen = [[token["logprob"] for token in position["top_logprobs"]] for position in positions]
    else:
        text, positions = choice["text"], logprobs.get("top_logprobs") or []
        seen = [list(position.values()) for position in positions]
    finish = choice["finish_reason"]
    if finish in BROKEN:
        raise ValueError(f"the server broke it off: {finish}")
    finish = ENDS.get(finish, finish)
    n_tokens = usage.get("completion_tokens")
    n_tokens = math.nan if n_tokens is None else n_tokens
    if finish == "stop" and len(token_ids) == n_tokens:
        token_ids = token_ids[:-1]  # without the end token
    entropy = missing = math.nan
    if seen and abs(len(seen) - n_tokens) <= 1:  # some servers leave the end token out
        entropy = -sum(logp * math.exp(logp) for position in seen for logp in position)
        missing = sum(max(0.0, 1 - sum(map(math.exp, position))) for position in seen)
    return {
        "text": text.encode("utf-8", "replace").decode(),  # half a surrogate pair cannot be stored
        "token_ids": token_ids,
        "n_tokens": n_tokens,
        "finish_reason": finish,
        "entropy_sum": round(entropy, 6),
        "missing_mass": round(missing, 6),
    }


def _with_thought(message: dict[str, Any]) -> str:
    """A message's text, its reasoning before it where the server took the two apart."""
    text = message.get("content") or ""
    if thought := message.get("reasoning_content") or message.get("reasoning"):
        closed = f"{thought.strip()}\n</think>\n{text.strip()}"
        text = f"{THINK}\n{closed if text else thought.lstrip()}"
    return text.lstrip()
