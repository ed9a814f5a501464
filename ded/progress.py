"""How far the work is: jobs, rows that are sampled, steps that are trained.

Work shows itself by a `bar`, which counts and tells the time that is left. In a terminal and in
JupyterLab it is drawn; where lines are read later (papermill's log, a file) it is a line now and
then. Where somebody watches, who sees more of the work than one process does, it is a file in the
folder $DED_PROGRESS: `jobs.run` watches its workers, `ded run` the notebook's kernel.
"""

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tqdm

from ded import files

FOLDER = "DED_PROGRESS"
LOOK, LINE = 0.5, 30.0  # seconds between two looks at the folder, and between two lines
STATE = "{desc}: {n_fmt}/{total_fmt} {unit}s, {remaining} left{postfix}"
State = dict[str, Any]  # tqdm's format_dict


class Told(tqdm.tqdm):
    """A bar that is a file in $DED_PROGRESS."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.state = Path(os.environ[FOLDER], f"{time.time_ns()}-{os.getpid()}.json")
        super().__init__(*arguments, **options | {"file": io.StringIO()})

    def display(self, *_: Any, **__: Any) -> None:
        with suppress(OSError):  # whoever watched has gone
            files.write_text(self.state, json.dumps(self.format_dict))

    def close(self) -> None:
        super().close()
        self.state.unlink(missing_ok=True)


class Lines(tqdm.tqdm):
    """A bar that is a line now and then."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.printed = time.monotonic()
        super().__init__(*arguments, **options | {"file": io.StringIO()})

    def display(self, *_: Any, **__: Any) -> None:
        if time.monotonic() - self.printed >= LINE:
            self.printed = time.monotonic()
            print(self, file=sys.stdout if _in_kernel() else sys.stderr, flush=True)


def bar(iterable: Any = None, **options: Any) -> tqdm.tqdm:
    """A tqdm bar of the kind that this process's work is shown by; options: tqdm's. What ends at
    once is not shown."""
    kind: Any = tqdm.tqdm if sys.stderr.isatty() else Lines
    if FOLDER in os.environ:
        kind = Told
    elif _in_kernel() and "JPY_SESSION_NAME" in os.environ:  # of JupyterLab, not of papermill
        from tqdm.notebook import tqdm as in_notebook

        kind = in_notebook
    usual = {"leave": False, "delay": LOOK, "mininterval": LOOK, "miniters": 0, "smoothing": 0}
    made = kind(iterable, **usual | {"disable": False} | options)
    if hasattr(made, "container"):  # a long text goes below the bar, not in its place
        made.container.layout.flex_flow = "row wrap"
    return made


@contextmanager
def watched(folder: Path, look: Callable[[list[State]], None]) -> Iterator[None]:
    """Calls `look` twice a second with the states of the bars that are told in `folder`, by
    processes whose $DED_PROGRESS it is."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK):
            look(_states(folder))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look([])  # nothing is under way any more


@contextmanager
def inside(outer: tqdm.tqdm) -> Iterator[None]:
    """A context: what is under way in this process, and in those that it starts meanwhile, is shown
    behind the bar `outer`, unless both are watched."""
    if FOLDER in os.environ:
        yield
        return
    os.environ[FOLDER] = _own_folder().name
    try:
        with watched(Path(os.environ[FOLDER]), lambda s: outer.set_postfix_str(under_way(s, 1))):
            yield
    finally:
        del os.environ[FOLDER]


def under_way(states: list[State], most: int = 2) -> str:
    """What the oldest of the bars tell, jobs first."""
    shown = sorted(states, key=lambda state: state["unit"] != "job")[:most]
    return "; ".join(tqdm.tqdm.format_meter(**state | {"bar_format": STATE}) for state in shown)


def _states(folder: Path) -> list[State]:
    states = []
    for file in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):  # it has just gone
            states.append(json.loads(file.read_text(encoding="utf-8")))
    return states


@cache
def _own_folder() -> TemporaryDirectory:
    """One for all calls: workers, which are kept, go on telling where they did."""
    return TemporaryDirectory(prefix="ded-progress-")


def _in_kernel() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None
