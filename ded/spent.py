"""Processor time by kind of work: where the core-seconds of a run go.

Each second that this process works counts to the kind that it is at, the innermost one; what
workers did comes back with their results (`jobs.run`). By processor time, so that what else the
machine does counts for little.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

# start: of an interpreter, up to its first work; import: later, of what only that work needs
KINDS = ("start", "import", "sample", "grade", "train", "evaluate", "draw", "other")


class _Account:
    """What was spent so far, and what this process is at. children: programs in the sandbox, say,
    when they have ended; not where they are workers, who tell themselves."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
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


def take() -> dict[str, float]:
    """{kind: seconds} spent since it was last asked."""
    _account.switch(_account.kind)
    taken = dict(_account.seconds)
    _account.seconds.clear()
    return taken


def add(seconds: dict[str, float]) -> None:
    """What another process spent, and told."""
    for kind, more in seconds.items():
        _account.seconds[kind] += more


def so_far() -> dict[str, float]:
    """{kind: seconds} since the run began, of every kind."""
    _account.switch(_account.kind)
    return {kind: round(_account.seconds[kind], 2) for kind in KINDS}
