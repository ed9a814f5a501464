"""The worker process of `ded.grading.pool`: a child for each comparison, with limits that the kernel enforces.

Each child is freshly forked from a process that has done nothing but import: it starts from the same state whatever
was graded before it and whoever its neighbours are, and ends at its own limits of CPU time and memory (math-verify's
own time-outs are alarms that a long computation in C ignores).
"""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import resource
import signal
import sys

from ded.grading import expressions, gym
from ded.grading.decision import Decision
from ded.grading.pool import Request

MEMORY = 2 << 30  # bytes of address space of one comparison
DECIDE = {"math": expressions.decide, "gym": gym.score}


def serve() -> None:
    """Answer each line of stdin, a `Request` as JSON, with a line of JSON, a `Decision`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    logging.disable(logging.CRITICAL)
    expressions.warm_up()
    gc.collect()
    gc.freeze()
    gc.disable()  # children are short-lived, and a collection would copy the pages that they share
    while line := sys.stdin.buffer.readline():
        request = Request(**json.loads(line))
        if request.kind == "gym":
            gym.library()  # children inherit it
        sys.stdout.buffer.write(_in_child(request) + b"\n")
        sys.stdout.buffer.flush()


def _in_child(request: Request) -> bytes:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.write(writer, json.dumps(_decide(request)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        decision = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if decision:
        return decision
    why = "time limit" if code == -signal.SIGPROF else f"the comparison died (code {code})"
    return json.dumps(Decision("error", why)).encode()


def _decide(request: Request) -> Decision:
    """The decision, in the child, which its limits may end before."""
    from sympy.core.random import seed

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, request.cpu_seconds)
    random.seed(0)
    seed(0)
    try:
        return DECIDE[request.kind](**request.arguments)
    except MemoryError:
        return Decision("error", "memory limit")
    except BaseException as failure:  # whatever SymPy throws: the grader's fault
        return Decision("error", f"{type(failure).__name__}: {str(failure)[:200]}")


if __name__ == "__main__":
    serve()
