"""Independent jobs side by side: one process a core, one thread a process.

Small models run 10 to 40 times slower when every process brings as many threads as there are cores,
so each job gets one thread; results then do not depend on the number of cores or processes either.
"""

import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import joblib

from ded import cluster, progress, spent, store, workers
from ded.errors import JobError, WorkerDiedError
from ded.options import Cluster

START = 20.0  # seconds that workers take to start, several times as many where cores are busy
Function = TypeVar("Function", bound=Callable[..., Any])
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
ENVIRONMENT = QUIET | dict.fromkeys(THREAD_VARIABLES, "1")  # of a worker


def count(n_jobs: int) -> int:
    """How many processes `n_jobs` means: itself, or for 0 one a usable core (affinity, cgroup)."""
    if n_jobs < 0:
        raise ValueError(f"n_jobs is {n_jobs}; allowed: 0 (one a core), 1, 2, ...")
    return n_jobs or joblib.cpu_count()


def run(
    function: Callable[..., Any],
    calls: Sequence[dict[str, Any]],
    n_jobs: int | Cluster = 0,
    description: str = "",
) -> list[Any]:
    """[function(**kwargs) for kwargs in calls], in order, `n_jobs` side by side (0: one a core), or
    as many as a cluster holds.

    n_jobs=1 runs in this process. Workers are kept for the next call, so heavy imports are paid
    once. The first job to fail stops the others and raises JobError; what finished jobs put into
    the store stays there. An interrupt stops the workers, and they end by themselves when this
    process is killed.
    """
    if not calls:
        return []
    n = len(calls)
    results = {} if n_jobs == 1 else dict(enumerate(_stored(function, calls)))
    waiting = range(len(results), n)
    if not waiting:
        return list(results.values())
    tasks = [joblib.delayed(_job)(function, i, n, calls[i]) for i in waiting]
    shown: dict[str, Any] = {"desc": description or function.__name__, "unit": "job"}
    shown |= {"leave": True, "delay": 0}
    with progress.bar(total=n, initial=len(results), **shown) as bar, progress.inside(bar):
        try:
            # closed at once: the traceback of an interrupt would keep the workers going
            with _one_thread(), closing(_finished(tasks, n_jobs)) as finished:
                for index, result, seconds in finished:
                    results[index] = result
                    spent.add(seconds)
                    bar.update()
        except Exception as error:
            notes = getattr(error, "__notes__", [])
            if isinstance(error, JobError) and not notes:
                raise  # of the cluster, not of a job
            # a killed worker cannot say which job it had
            n_workers = count(n_jobs) if isinstance(n_jobs, int) else n
            candidates = [str(i + 1) for i in waiting if i not in results][:n_workers]
            unknown = f"job {' or '.join(candidates)} of {n} failed: {function.__name__}: {error!r}"
            raise JobError([unknown, *notes][-1]) from error
    return [results[i] for i in range(n)]


def _finished(
    tasks: list[tuple], n_jobs: int | Cluster
) -> Generator[tuple[int, Any, spent.Amounts]]:
    """What the tasks return, as they end; to close it stops those that are under way."""
    if isinstance(n_jobs, Cluster):
        names = [f"job {i + 1} of {n}" for _, (_, i, n, _), _ in tasks]
        environment = ENVIRONMENT | workers.ours()
        return cluster.run(n_jobs, dict(zip(names, tasks, strict=True)), environment)
    how: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}
    how["n_jobs"] = n_workers = min(count(n_jobs), len(tasks))
    if workers.DOOR in os.environ and n_jobs != 1:  # each thread waits for what a worker does
        calls = [joblib.delayed(_shared_job)(*arguments) for _, arguments, _ in tasks]
        return joblib.Parallel(backend="threading", **how)(calls)
    parallel = joblib.Parallel(
        backend="loky",
        max_nbytes=None,  # arguments travel as they are, never as read-only maps of a file
        inner_max_num_threads=1,
        initializer=workers.start,
        initargs=(os.getpid(), n_workers, QUIET | workers.ours()),
        **how,
    )
    # of loky, when idle workers have timed out between two stages, as they are to do
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    return parallel(tasks)


def looked_up(function: Function) -> Function:
    """Marks what keeps its results in the store: where they are there, `jobs.run` takes them in
    this process, for a worker takes longer to start."""
    function.looked_up = True  # type: ignore[attr-defined]
    return function


def _stored(function: Callable[..., Any], calls: Sequence[dict[str, Any]]) -> Iterator[Any]:
    """The results of the first calls, as far as the store has them; no longer than workers would
    take to start, for those are several."""
    until = time.monotonic() + (START if getattr(function, "looked_up", False) else 0)
    with _one_thread(), store.only_stored():
        for kwargs in calls:
            if time.monotonic() >= until:
                return
            try:
                yield function(**kwargs)
            except Exception:  # it is not there; what is wrong beyond that, a worker says
                return


def _job(function: Callable, index: int, n: int, kwargs: dict) -> tuple[int, Any, spent.Amounts]:
    """One call, here or in a worker: its number, its result, and what was spent since the one
    before. An error carries a note that names the call and the place."""
    try:
        with spent.on("other"):
            return index, function(**kwargs), spent.take()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        arguments = ", ".join(f"{key}={_short(value)}" for key, value in kwargs.items())
        what = f"{function.__name__}({arguments}): {type(error).__name__}: {error}"
        error.add_note(f"job {index + 1} of {n} failed: {what} ({place})")
        raise


def _shared_job(function: Callable, index: int, n: int, kwargs: dict) -> Any:
    """`_job` in a worker that notebooks share."""
    try:
        return workers.call(_job, function, index, n, kwargs)
    except WorkerDiedError as error:
        error.add_note(f"job {index + 1} of {n} failed: {function.__name__}: {error}")
        raise


def _short(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"<{type(value).__name__} {'x'.join(map(str, value.shape))}>"
    return f"{value!r:.40}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread in this process too, for a while: n_jobs=1 then gives the same numbers."""
    before = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch else None
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # for a torch that a job imports
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        for name in THREAD_VARIABLES:
            del os.environ[name]
        os.environ.update(before)
        if torch:
            torch.set_num_threads(torch_before)
