"""Jobs side by side, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any


def mapped(executor: Executor, function: Callable, jobs: list, title: str, progress: bool) -> list:
    """[function(job) for job in jobs]; after a failure or an interrupt no further job is begun."""
    from tqdm.auto import tqdm

    results: Any = executor.map(function, jobs)  # a generator
    try:
        return list(tqdm(results, desc=title, total=len(jobs), delay=2, disable=not progress))
    finally:
        results.close()  # which cancels what waits
