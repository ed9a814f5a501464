"""Processor time by kind of work: where the core-seconds of a run go; and how fast it went.

Each second that this process works counts to the kind that it is at, the innermost one; what
workers did comes back with their results (`jobs.run`). By processor time, so that what else the
machine does counts for little. What was sampled and trained, and not looked up, is counted by model
(`work`), for later estimates.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# start: of an interpreter, up to its first work; import: later, of what only that work needs
KINDS = ("start", "import", "sample", "grade", "train", "evaluate", "draw", "other")
# of a kind of work the seconds, and of (kind, model, what is counted) how much
Amounts = dict[str | tuple[str, str, str], float]


class _Account:
    """What was spent so far, and what this process is at. children: programs in the sandbox, say,
    when they have ended; not where they are workers, who tell themselves."""

    def __init__(self) -> None:
        self.seconds: Amounts = defaultdict(float)
        self.kind, self.until, self.children = "start", 0.0, False

    def switch(self, kind: str) -> str:
        """From here on time counts to `kind`; the one before."""
        times = os.times()
        now = sum(times[:4] if self.children else times[:2])
        self.seconds[self.kind] += now - self.until
        before, self.kind, self.until = self.kind, kind, now
        return before


_account = _Account()


@contextmanager
def on(kind: str) -> Iterator[None]:
    """A context, or the decorator of a function, whose work is of this kind, one of KINDS."""
    before = _account.switch(kind)
    try:
        yield
    finally:
        _account.switch(before)


def begin() -> None:
    """A run of its own begins: of what was spent before, the start counts."""
    taken = take()
    _account.kind = "other"
    add({"start": taken.get("start", 0.0)})


def in_worker() -> None:
    """This process is a worker: programs that it started are its work."""
    _account.children = True


def take() -> Amounts:
    """{kind: seconds} spent since it was last asked, and what `work` counted."""
    _account.switch(_account.kind)
    taken = dict(_account.seconds)
    _account.seconds.clear()
    return taken


def add(seconds: Amounts) -> None:
    """What another process spent, and told."""
    for kind, more in seconds.items():
        _account.seconds[kind] += more


def so_far() -> dict[str, float]:
    """{kind: seconds} since the run began, of every kind."""
    _account.switch(_account.kind)
    return {kind: round(_account.seconds[kind], 2) for kind in KINDS}


# ---- work that was really done, for later estimates ----------------------------------------------

trained_from: dict[str, str] = {}  # the student before, of models that this process has trained


@contextmanager
def work(kind: str, model: str, n_gpus: int = 1) -> Iterator[defaultdict[str, float]]:
    """A context of sampling or training, by which a later estimate may count. The caller counts
    `tokens`, and how many these might have been (`limit`); what it counts none of is no work.
    """
    done, begun, before = defaultdict[str, float](float), time.perf_counter(), os.times()
    yield done
    done["cpu_seconds"] = sum(os.times()[:4]) - sum(before[:4])
    done["gpu_seconds"] = n_gpus * (time.perf_counter() - begun)  # where there are any
    for name, more in done.items() if done["tokens"] else ():
        _account.seconds[kind, trained_from.get(model, model), name] += more


def work_so_far() -> list[dict[str, Any]]:
    """[{kind, model, tokens, limit, cpu_seconds, gpu_seconds}] of the work since the run began;
    that of a trained student counts to what it was before."""
    rows: dict[tuple, dict[str, Any]] = {}
    for key, amount in _account.seconds.items():
        if isinstance(key, tuple):
            kind, model, name = key
            row = rows.setdefault((kind, model), {"kind": kind, "model": model})
            row[name] = round(amount, 2)
    return list(rows.values())
