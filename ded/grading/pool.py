"""Answers decided in worker processes that a bad one cannot hurt.

Each decision is made in a child, freshly forked from a process that has done nothing but import: it
starts from the same state whatever was graded before it and whoever its neighbours are, and ends at
its own limits of CPU time and memory, which the kernel enforces (math-verify's own time-outs are
alarms that a long computation in C ignores).
"""

import functools
import gc
import json
import logging
import os
import random
import resource
import signal
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from typing import Any

from ded.grading.decision import Decision, Settings, mapped

CPU_SECONDS = 5.0  # of one decision
MEMORY = 2 << 30  # bytes of address space of one decision
IDLE_SECONDS = 60  # after which a worker ends; another one starts in a second
# the hash seed decides the order in which SymPy tries things
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
Decide = Callable[..., Decision]


def decide_all(
    decide: Decide, load: Callable, arguments: list[tuple], settings: Settings
) -> list[Decision]:
    """The decision decide(*arguments) on each of the `arguments`, in order; *error* for one that
    hits a limit. load: imports what `decide` needs.
    """
    if not arguments:
        return []
    executor = _executor(max(1, min(settings.workers, len(arguments))), load)
    in_child = functools.partial(_in_child, decide, CPU_SECONDS)
    requests = [json.dumps(each) for each in arguments]  # as a problem that was stored would be
    try:
        return mapped(executor, in_child, requests, "math", settings.progress)
    except BrokenExecutor:  # a worker was killed: the next call starts others
        _executor.cache_clear()
        raise


@functools.cache
def _executor(workers: int, load: Callable) -> Any:
    from joblib.externals.loky import ProcessPoolExecutor

    start: Any = {"initializer": _prepare, "initargs": (load,), "env": ENVIRONMENT}
    return ProcessPoolExecutor(workers, timeout=IDLE_SECONDS, **start)


# --- in the worker --------------------------------------------------------------------------------
def _prepare(load: Callable) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = os.getppid()  # after whose end, a kill included, nobody needs us
    signal.signal(signal.SIGALRM, lambda *_: os.getppid() == parent or os._exit(1))
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    logging.disable(logging.CRITICAL)
    load()  # children inherit it
    gc.disable()  # children are short-lived, and a collection would copy the pages that they share


def _in_child(decide: Decide, cpu_seconds: float, arguments: str) -> Decision:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.write(writer, json.dumps(_limited(decide, cpu_seconds, arguments)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        decision = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if decision:
        return Decision(*json.loads(decision))
    out_of_time = code == -signal.SIGPROF
    return Decision("error", "time limit" if out_of_time else f"the comparison died (code {code})")


def _limited(decide: Decide, cpu_seconds: float, arguments: str) -> Decision:
    """The decision, in the child, which its limits may end before."""
    from sympy.core.random import seed

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    random.seed(0)
    seed(0)
    try:
        return decide(*json.loads(arguments))
    except MemoryError:
        return Decision("error", "memory limit")
    except BaseException as failure:  # whatever SymPy throws: the grader's fault
        return Decision("error", f"{type(failure).__name__}: {str(failure)[:200]}")
