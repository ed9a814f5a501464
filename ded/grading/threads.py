"""Jobs that wait for processes of their own, side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Job], Result],
    jobs: list[Job],
    threads: int,
    description: str = "",
    progress: bool = True,
) -> list[Result]:
    """[function(job) for job in jobs], up to `threads` at a time, with a progress bar. After a failure or an interrupt no
    further job is begun."""
    from tqdm.auto import tqdm

    bar = {"total": len(jobs), "desc": description, "delay": 2, "disable": not (progress and jobs)}
    with ThreadPoolExecutor(max(1, min(threads, len(jobs)))) as executor:
        try:
            return list(tqdm(executor.map(function, jobs), **bar))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
