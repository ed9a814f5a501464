"""The vLLM engine: each call of `draw` starts vLLM in a process of its own, so that the GPU is free
for the next stage (docs/engines.md).

One queue holds all requests, n samples a prompt. Every row has a seed of its own, made of (seed,
problem, sample index), so that what it draws depends on no other row and a rerun draws only what is
missing. Rows are written into a journal as they are finished.
"""

import logging
import math
import os
import re
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

from ded import models, store
from ded.errors import EngineError
from ded.generation import journal, vllm_processes
from ded.generation.engines import Row, Settings, Shard, Tables, Unfinished
from ded.options import Engine
from ded.problems import content_hash

FULL = 256  # vocabularies up to this are seen whole where entropies are asked for
log = logging.getLogger("ded")


@dataclass
class Request:
    """Samples of one prompt that vLLM draws together, for the given rows. `ids`: the tokens of the
    prompt and of what was drawn before. vLLM gives sample i of a request the seed plus i."""

    ids: list[int]
    seed: int
    max_tokens: int
    rows: list[Unfinished] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """What a call of vLLM is to do; `llm`: arguments of `vllm.LLM`, `sampling`: those of
    `vllm.SamplingParams` that all requests share."""

    llm: dict[str, Any]
    sampling: dict[str, Any]
    requests: list[Request]


def identity(model: str, engine: Engine) -> dict[str, Any]:
    """The model's content, and what decides how probabilities are rounded or seen."""
    how = {name: getattr(engine, name) for name in ("dtype", "max_model_len", "entropy_top")}
    return {"engine": "vllm", "model": models.fingerprint(model)} | how


def draw(model: str, shards: list[Shard], settings: Settings, engine: Engine) -> Tables:
    """EngineError, with the end of vLLM's log, where vLLM is not installed or ends early."""
    if not find_spec("vllm"):
        raise EngineError(f"model {model!r}: {models.NO_VLLM}")
    begun, tok, opened = time.monotonic(), models.load_tokenizer(model), models.think_prefix(model)
    with ExitStack() as stack:
        if not vllm_processes.on_cpu():  # each engine takes engine.gpu_memory of its GPUs
            devices = re.sub(r"\W", "_", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
            stack.enter_context(store.lock(f"vllm-{devices}"))
        drawing = journal.Drawing(shards)
        job = plan(model, drawing.unfinished, settings, engine)
        asked = [row for request in job.requests for row in request.rows]
        drawn = stack.enter_context(closing(_drawn(model, job, engine)))
        for shard, table in drawing.tables(asked, drawn):
            texts = [opened + text for text in tok.batch_decode(table["token_ids"].tolist())]
            yield shard, table.assign(text=texts)
    log.info("%s: vllm, %d rows, %.0f s", model, len(asked), time.monotonic() - begun)


def _drawn(model: str, job: Job, engine: Engine) -> Generator[tuple[Unfinished, Row], None, None]:
    """The rows of the job as they are finished, each in the journal; their texts are left out, as
    the tokens hold them."""
    requests = [
        {"ids": r.ids, "n": len(r.rows), "seed": r.seed, "max_tokens": r.max_tokens}
        for r in job.requests
    ]
    shared = {"llm": job.llm, "sampling": job.sampling}
    with closing(vllm_processes.sampled(model, requests, shared, engine)) as samples:
        for number, sample, rest in samples:
            row = job.requests[number].rows[sample]
            whole = row.continued(rest)
            journal.add(row.shard, row.place, whole)
            yield row, whole


def plan(model: str, unfinished: list[Unfinished], settings: Settings, engine: Engine) -> Job:
    """The requests for these rows, and how vLLM is to be started for them.

    EngineError for a prompt that leaves no room in the context.
    """
    revision, config = models.parse(model).revision, models.config(model)
    room = engine.max_model_len or getattr(config, "max_position_embeddings", None) or math.inf
    requests = _requests(model, unfinished, settings, room)
    longest = max((len(request.ids) + request.max_tokens for request in requests), default=1)
    whole = engine.entropy_top and config.vocab_size <= FULL
    n_logprobs = config.vocab_size if whole else min(engine.entropy_top, config.vocab_size)
    llm = {
        "model": models.locate(model),
        "revision": revision,
        "tokenizer_revision": revision,
        "dtype": engine.dtype,
        "seed": 0,
        "logprobs_mode": "raw_logprobs",
        "max_logprobs": n_logprobs,
        "tensor_parallel_size": engine.tensor_parallel,
        "gpu_memory_utilization": engine.gpu_memory,
        "max_model_len": min(room, longest),  # no memory for contexts that nobody asks for
    }
    if vllm_processes.on_cpu():
        # chunks of prompts make vLLM turn back the generators of rows with seeds, which a CPU's
        # cannot
        llm |= {"enforce_eager": True, "enable_chunked_prefill": False}
    distribution = {"temperature": settings.temperature, "top_p": settings.top_p}
    outputs = {"detokenize": False, "flat_logprobs": True, "logprobs": n_logprobs or None}
    return Job(llm, distribution | outputs, requests)


def _requests(
    model: str, unfinished: list[Unfinished], settings: Settings, room: float
) -> list[Request]:
    prompt_ids = cache(partial(models.prompt_ids, model))
    requests: list[Request] = []
    latest: dict[str, Request] = {}  # of each problem, to which further samples may be added
    for row in unfinished:
        ids = prompt_ids(row.problem.prompt) + row.drawn
        if row.before and (len(row.drawn) >= settings.max_tokens or len(ids) >= room):
            continue  # it is at the new limit, or at that of the context
        if len(ids) >= room:
            fault = f"takes {len(ids)} tokens of a context of {room}, which leaves none for the "
            mend = "answer; raise engine.max_model_len if the model bears it, or leave it out"
            prompt = f"the prompt of problem {row.problem.id!r}"
            raise EngineError(f"model {model!r}: {prompt} {fault}{mend}")
        request = None if row.before else latest.get(row.problem.id)
        next_to_it = request is not None and request.rows[-1].shard.index + 1 == row.shard.index
        # vLLM takes no n with greedy decoding
        if request is None or not next_to_it or not settings.temperature:
            # a continued row must not meet the noise of its beginning again
            seed = content_hash(f"{settings.seed} {row.problem.id} {len(row.drawn)}") >> 2
            request = Request(ids, seed + row.shard.index, settings.max_tokens - len(row.drawn))
            requests.append(request)
            if not row.before:
                latest[row.problem.id] = request
        request.rows.append(row)
    return requests
