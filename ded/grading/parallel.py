"""Jobs side by side, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def mapped(
    executor: Executor,
    function: Callable[[Job], Outcome],
    jobs: list[Job],
    description: str,
    progress: bool,
) -> list[Outcome]:
    """[function(job) for job in jobs]; after a failure or an interrupt no further job is begun."""
    from tqdm.auto import tqdm

    results: Any = executor.map(function, jobs)  # a generator
    bar = {"total": len(jobs), "desc": description, "delay": 2, "disable": not progress}
    try:
        return list(tqdm(results, **bar))
    finally:
        results.close()  # which cancels what waits
