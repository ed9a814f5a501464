"""The processes in which vLLM runs, one a replica of the model: started, listened to, ended."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from ded.errors import EngineError
from ded.options import Engine

# On a CPU: the cache in GiB; no second process and no reserved core (a start of seconds instead of
# a minute); no compilation, which takes longer than it saves.
CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "TORCH_COMPILE_DISABLE": "1",
}
MEMORY = (
    "To mend it: lower engine.max_model_len or engine.gpu_memory, raise engine.tensor_parallel, or "
    "free what other processes hold; on a CPU VLLM_CPU_KVCACHE_SPACE is the cache in GiB"
)
# an error's message in a log, behind the mark of the process that wrote it
ERROR_LINE = re.compile(
    r"^(?:\[rank\d+\]: ?|\(\S+ pid=\d+\) ?)*(\S*(?:Error|Exception)\b.*: .*)$", re.M
)


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


def sampled(
    model: str, requests: list[dict[str, Any]], shared: dict[str, Any], engine: Engine
) -> Generator[list[Any], None, None]:
    """[number of the request, of the sample, row], as they are finished by one process a replica.

    requests: {ids, n, seed, max_tokens} each; shared: {llm, sampling}, see `ded.generation.vllm`.
    No process outlives the iterator. EngineError for one that ends before its work does.
    """
    from tqdm.auto import tqdm

    numbered = [request | {"number": i} for i, request in enumerate(requests)]
    done, total = 0, sum(request["n"] for request in requests)
    with TemporaryDirectory(prefix="ded-vllm-") as folder, ExitStack() as stack:
        replicas = []
        for i, gpus in enumerate(devices(engine, len(requests))):
            file = Path(folder) / f"{i}.json"
            part = {"parent": os.getpid(), "requests": numbered[i :: engine.data_parallel]}
            file.write_text(json.dumps(shared | part))
            replicas.append(stack.enter_context(_running(file, gpus)))
        bar = stack.enter_context(tqdm(total=total, desc=f"sampling {model}", unit="row"))
        while done < total:
            # before the last look: what a replica wrote before its end counts
            codes = [replica.child.poll() for replica in replicas]
            for replica in replicas:
                for row in replica.new_rows():
                    bar.update()
                    done += 1  # the bar does not count where bars are off, as in jobs
                    yield row
            if done < total:
                _check(replicas, codes, f"model {model!r}", f"{done} of {total} rows are stored")
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
        need = (
            f"engine.data_parallel {n_replicas} x engine.tensor_parallel {each} need {n_gpus} GPUs"
        )
        mend = "lower them, or let it name more"
        raise EngineError(f"{need}, and CUDA_VISIBLE_DEVICES names {len(gpus)}; {mend}")
    parts = [",".join(gpus[start : start + each]) for start in range(0, n_gpus, each)]
    return [{"CUDA_VISIBLE_DEVICES": part} for part in parts[:n_requests]]


def _check(replicas: list[Replica], codes: list[int | None], model: str, stored: str) -> None:
    """EngineError, with the end of its log, where a replica failed, or all ended too soon."""
    all_ended = None not in codes
    for replica, code in zip(replicas, codes, strict=True):
        if code is None or (code == 0 and not all_ended):
            continue
        log = replica.log.read_text(errors="replace")
        errors = ERROR_LINE.findall(log)
        cause = f": {errors[-1].strip()}" if errors else ""
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        mend = [MEMORY] if code == -signal.SIGKILL or re.search("memory|GiB", cause) else []
        go_on = f"{stored}; run again to go on from there. The end of its log:"
        end = [line for line in log.splitlines() if line.strip()][-12:]
        what = f"{model}: vLLM ended early ({how}){cause}"
        raise EngineError("\n".join([what, *mend, go_on, *end]))
