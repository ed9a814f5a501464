"""Independent jobs side by side: one process a core, one thread a process.

Small models run 10 to 40 times slower when every process brings as many threads as there are cores,
so each job gets one thread unless told otherwise; results then do not depend on the number of cores
or processes either.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ded.errors import JobError

THREAD_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")]
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
    """How many processes `n_jobs` means: itself, or for 0 one a usable core (affinity, cgroup)."""
    if n_jobs < 0:
        raise ValueError(f"n_jobs is {n_jobs}; allowed: 0 (one a core), 1, 2, ...")
    import joblib

    return n_jobs or joblib.cpu_count()


def run(
    function: Callable[..., Any],
    calls: Sequence[dict[str, Any]],
    n_jobs: int = 0,
    description: str = "",
    threads: int = 1,
) -> list[Any]:
    """[function(**kwargs) for kwargs in calls], in order, `n_jobs` side by side (0: one a core).

    n_jobs=1 runs in this process. Workers are kept for the next call, so heavy imports are paid
    once. The first job to fail stops the others and raises JobError; what finished jobs put into
    the store stays there. An interrupt stops the workers, and they end by themselves when this
    process is killed.
    """
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    calls = list(calls)
    n_workers = max(1, min(count(n_jobs), len(calls)))
    parallel = Parallel(
        n_workers,
        backend="loky",
        return_as="generator_unordered",
        batch_size=1,
        max_nbytes=None,  # arguments travel as they are, never as read-only maps of a file
        inner_max_num_threads=threads,
        initializer=_start_worker,
        initargs=(os.getpid(),),
    )
    # of loky, when idle workers have timed out between two stages, as they are to do
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    tasks = (delayed(_job)(function, index, kwargs) for index, kwargs in enumerate(calls))
    results: dict[int, Any] = {}
    with tqdm(total=len(calls), desc=description or function.__name__, unit="job") as bar:
        try:
            # closed at once: the traceback of an interrupt would keep the workers going
            with _threads(threads), closing(parallel(tasks)) as finished:
                for index, result in finished:
                    results[index] = result
                    bar.update()
        except Exception as error:
            waiting = [index for index in range(len(calls)) if index not in results]
            raise JobError(_failure(function, calls, waiting[:n_workers], error)) from error
    return [results[index] for index in range(len(calls))]


def _job(function: Callable, index: int, kwargs: dict) -> tuple[int, Any]:
    """One call, here or in a worker: its number and result. An error carries number and place."""
    try:
        return index, function(**kwargs)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        error.job = index, place  # type: ignore[attr-defined]
        raise


def _failure(function: Callable, calls: list[dict], running: list[int], error: Exception) -> str:
    name = getattr(function, "__name__", "job")
    what = f"{type(error).__name__}: {error}"
    if not hasattr(error, "job"):  # a killed worker cannot say which job it had
        numbers = " or ".join(str(index + 1) for index in running)
        return f"job {numbers} of {len(calls)} failed: {name}: {what}"
    index, place = error.job
    arguments = ", ".join(f"{key}={_short(value)}" for key, value in calls[index].items())
    return f"job {index + 1} of {len(calls)} failed: {name}({arguments}): {what} ({place})"


def _short(value: Any, limit: int = 40) -> str:
    if hasattr(value, "shape"):
        return f"<{type(value).__name__} {'x'.join(map(str, value.shape))}>"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _start_worker(parent: int) -> None:
    """In a new worker: quiet libraries, and an end when the parent has gone (SIGKILL)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    os.environ.update(QUIET)
    threading.Thread(target=watch, daemon=True, name="ded-parent-watch").start()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """As many threads in this process, for a while: n_jobs=1 then gives the same numbers."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch else None
    # for a torch that a job is about to import
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if torch:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if torch:
            torch.set_num_threads(torch_before)
