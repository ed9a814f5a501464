"""Independent jobs side by side: one process a core, one thread a process.

Small models run 10 to 40 times slower when every process brings as many threads as there are cores, so each job gets
one thread unless told otherwise; results then do not depend on the number of cores or processes either.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ded.errors import JobError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
QUIET = {
    "OMP_WAIT_POLICY": "passive",  # a waiting thread sleeps: spinning starves the neighbour
    "GOMP_SPINCOUNT": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",  # bars of the libraries inside a job: the parent shows the one that counts
}


def count(n_jobs: int) -> int:
    """How many processes `n_jobs` means: itself, or one a usable core (affinity and cgroup respected) for 0."""
    if n_jobs < 0:
        raise ValueError(f"n_jobs is {n_jobs}; allowed: 0 (one a core), 1, 2, ...")
    if n_jobs:
        return n_jobs
    import joblib

    return joblib.cpu_count()


def run(
    function: Callable[..., Any],
    calls: Sequence[dict[str, Any]],
    n_jobs: int = 0,
    description: str = "",
    threads: int = 1,
) -> list[Any]:
    """[function(**kwargs) for kwargs in calls], in that order, in up to `n_jobs` processes (0: one a core).

    n_jobs=1 runs in this process. Workers are kept for the next call, so heavy imports are paid once. The first job
    to fail stops the others and raises JobError; what finished jobs put into the store stays there. An interrupt
    stops the workers, and they end by themselves when this process is killed.
    """
    from tqdm.auto import tqdm

    calls = list(calls)
    n = min(count(n_jobs), len(calls))
    bar = tqdm(total=len(calls), desc=description or function.__name__, unit="job")
    results: list[Any] = [None] * len(calls)
    with bar:
        done = (
            _here(function, calls, threads)
            if n <= 1
            else _side_by_side(function, calls, n, threads)
        )
        for index, result in done:
            results[index] = result
            bar.update()
    return results


def _here(function: Callable, calls: list[dict], threads: int) -> Iterator[tuple[int, Any]]:
    with _threads(threads):
        for index, kwargs in enumerate(calls):
            try:
                result = function(**kwargs)
            except Exception as error:
                raise JobError(_failure(function, kwargs, index, len(calls), error)) from error
            yield index, result


def _side_by_side(
    function: Callable, calls: list[dict], n: int, threads: int
) -> Iterator[tuple[int, Any]]:
    from joblib.externals.loky import get_reusable_executor

    env = QUIET | dict.fromkeys(THREAD_VARIABLES, str(threads))
    # loky warns when idle workers have timed out between two stages, which is what they are to do
    warnings.filterwarnings(
        "ignore", message="A worker stopped while some jobs were given", category=UserWarning
    )
    executor = get_reusable_executor(
        max_workers=n,
        timeout=300,
        env=env,
        initializer=_start_worker,
        initargs=(os.getpid(), threads),
    )
    waiting = iter(enumerate(calls))
    running: dict[Any, int] = {}
    try:
        while True:
            # A few calls ahead of the workers, not all: loky trips over calls still queued when it kills its workers.
            for index, kwargs in islice(waiting, 2 * n - len(running)):
                running[executor.submit(function, **kwargs)] = index
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index = running.pop(future)
                try:
                    result = future.result()
                except Exception as error:
                    raise JobError(
                        _failure(function, calls[index], index, len(calls), error)
                    ) from error
                yield index, result
    except (
        BaseException
    ):  # a failed job, Ctrl-C, or the caller gone: no worker goes on in the background
        executor.shutdown(wait=True, kill_workers=True)
        raise


def _start_worker(parent: int, threads: int) -> None:
    """In a new worker: one thread, quiet libraries, and an end when the parent has gone without a word (SIGKILL)."""
    import logging

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="ded-parent-watch").start()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """The same number of threads in this process, so that n_jobs=1 gives the same numbers; put back afterwards."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch else None
    os.environ.update(
        dict.fromkeys(THREAD_VARIABLES, str(threads))
    )  # for a torch that a job is about to import
    if torch:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if torch:
            torch.set_num_threads(torch_before)


def _failure(function: Callable, kwargs: dict, index: int, total: int, error: Exception) -> str:
    arguments = ", ".join(f"{name}={_short(value)}" for name, value in kwargs.items())
    name = getattr(function, "__name__", "job")
    return f"job {index + 1} of {total} failed: {name}({arguments}): {type(error).__name__}: {error}{_place(error)}"


def _place(error: Exception) -> str:
    """' (file.py:12 in function)', where the job raised, in this process or in a worker."""
    remote = type(error.__cause__).__name__ == "_RemoteTraceback"
    text = str(error.__cause__) if remote else "".join(traceback.format_tb(error.__traceback__))
    frames = re.findall(r'File "(?:.*[/\\])?(.+?)", line (\d+), in (\S+)', text)
    return " ({}:{} in {})".format(*frames[-1]) if frames else ""


def _short(value: Any, limit: int = 40) -> str:
    if hasattr(value, "shape"):
        return f"<{type(value).__name__} {'x'.join(map(str, value.shape))}>"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
