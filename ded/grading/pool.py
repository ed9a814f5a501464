"""Single expressions compared by math-verify, in worker processes that a bad one cannot hurt.

Each comparison runs in a child freshly forked from a process that has done nothing but import: it starts from the same
state whatever was graded before it and whoever its neighbours are, and ends at its own limits of CPU time and memory,
which the kernel enforces (math-verify's own time-outs are alarms that a long computation in C ignores).
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

from ded.grading.rules import Unreadable, compare
from ded.problems.answers import LONGEST

CPU_SECONDS = 5.0  # of one comparison
MEMORY = 2 << 30  # bytes of address space of one comparison


def grade_answers(jobs, *, workers=1, progress=True, cpu_seconds=CPU_SECONDS):
    """Verdicts of (problem, answer) pairs, in order: a list of (verdict, reason).

    A problem's ``meta`` may hold ``tolerance``: numbers may differ by it, absolute or relative. What text and whole
    numbers can decide is decided here; the rest goes to `workers` processes. A comparison that hits its limits ends as
    *error*. Problems of kind "gym" are scored in those processes too, by the scorer of ``meta["task"]``.
    """
    from tqdm.auto import tqdm

    verdicts, queue = {}, SimpleQueue()
    for position, (problem, answer) in enumerate(jobs):
        if problem.kind == "gym":
            queue.put(
                (position, [problem.meta["entry"], answer, problem.meta["task"], cpu_seconds])
            )
            continue
        tolerance = problem.meta.get("tolerance", 0.0)
        verdicts[position] = _at_once(problem.answer, answer, tolerance)
        if verdicts[position] is None:
            queue.put((position, [problem.answer, answer, tolerance, cpu_seconds]))
    waiting = queue.qsize()
    bar = tqdm(total=waiting, desc="math", delay=2, disable=not (progress and waiting))

    def work():
        worker = _idle.pop() if _idle else _start()
        try:
            while True:
                try:
                    position, task = queue.get_nowait()
                except Empty:
                    _idle.append(worker)
                    return
                worker.stdin.write(json.dumps(task).encode() + b"\n")
                worker.stdin.flush()
                verdicts[position] = tuple(json.loads(worker.stdout.readline()))
                bar.update()
        except BaseException:
            _stop(worker)
            raise

    workers = max(1, min(workers, waiting))
    with bar, ThreadPoolExecutor(workers) as pool:
        try:
            for future in [pool.submit(work) for _ in range(workers if waiting else 0)]:
                future.result()
        finally:  # on Ctrl-C or a failure: nothing new
            while not queue.empty():
                queue.get_nowait()
    return [verdicts[position] for position in range(len(jobs))]


_idle: list = []  # workers that wait for the next call; they start in a second, and end with this process


@atexit.register
def _stop_idle():
    while _idle:
        _stop(_idle.pop())


def _stop(worker):
    worker.kill()
    worker.communicate()


class _NeedsWorker(Exception):
    pass


def _at_once(gold, answer, tolerance):
    """The verdict where no expression has to be evaluated, else None. No limit holds here: short answers only."""

    def leaf(*_):
        raise _NeedsWorker

    if len(answer) > LONGEST:
        return "unparsed", f"a final answer of {len(answer)} characters"
    if len(answer) > 200:
        return None
    try:
        return ("correct", "") if compare(gold, answer, leaf, tolerance) else ("wrong", "differs")
    except Unreadable as reason:
        return "unparsed", str(reason)
    except (_NeedsWorker, RecursionError):
        return None


_TYPICAL = [
    (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
    ("x+1", "1+y"),
    (r"\sin \pi", "2^{k}"),
    ("2x+3y=6", "3y+2x=7"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    ("(a+5)(b+2)", "ab+2a+5b+10"),
    ("1-12i", "12i"),
    (r"\log_2 3", r"\ln 2"),
    (r"x \le 3", r"3 \ge x"),
    (r"\binom{5}{2}", "10"),
    ("5!", "e^{2}"),
    ("0.5x", "|x|"),
    (r"\tan 30^\circ", r"\pi"),
]


# --- in the worker ----------------------------------------------------------------------------------------------------
def _start():
    """A worker: a process that imports math-verify and then forks a child for each line of its stdin."""
    root = str(Path(__file__).resolve().parents[2])
    source = (
        f"import sys; sys.path.insert(0, {root!r}); from ded.grading.pool import serve; serve()"
    )
    # the hash seed decides the order in which SymPy tries things
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", source], stdin=pipe, stdout=pipe, env=environment
    )


def serve():
    """Answer lines of JSON, [gold, answer, tolerance, CPU seconds], with lines of JSON, [verdict, reason]; for reasoning-gym
    the gold is the task's entry and its name stands in place of the tolerance."""
    import gc
    import logging
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    logging.disable(logging.CRITICAL)
    for pair in _TYPICAL:  # loads what is loaded on first use, so that children inherit it
        expressions_equal(*pair)
    gc.collect()
    gc.freeze()
    gc.disable()  # children are short-lived, and a collection would copy the pages that they share
    while line := sys.stdin.buffer.readline():
        task = json.loads(line)
        if isinstance(task[0], dict):
            import reasoning_gym  # noqa: F401  children inherit it
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _decide(writer, *task)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if not said:
            why = "time limit" if code == -signal.SIGPROF else f"the comparison died (code {code})"
            said = json.dumps(["error", why]).encode()
        sys.stdout.buffer.write(said + b"\n")
        sys.stdout.buffer.flush()


def _decide(writer, gold, answer, tolerance, cpu_seconds):
    import random
    import resource
    import signal

    from sympy.core.random import seed

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    random.seed(0)
    seed(0)
    try:
        if isinstance(gold, dict):
            from .gym import score

            said = score(tolerance, gold, answer)
        else:
            said = (
                ["correct", ""]
                if compare(gold, answer, expressions_equal, tolerance)
                else ["wrong", "differs"]
            )
    except Unreadable as reason:
        said = ["unparsed", str(reason)]
    except MemoryError:
        said = ["error", "memory limit"]
    except BaseException as failure:  # whatever SymPy throws: the grader's fault
        said = ["error", f"{type(failure).__name__}: {str(failure)[:200]}"]
    os.write(writer, json.dumps(said).encode())
    os._exit(0)


def _parse(text):
    """A SymPy object for LaTeX or plain mathematics, exact (decimals become fractions); None if it cannot be read."""
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    text = re.sub(r"(?<![\\a-zA-Z])(sqrt|sin|cos|tan|log|ln|exp)(?![a-zA-Z])", r"\\\1", text)
    while match := re.search(r"\\sqrt\s*\(([^()]*)\)", text):
        text = f"{text[: match.start()]}\\sqrt{{{match[1]}}}{text[match.end() :]}"
    text = re.sub(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])", r"\\pi ", text).replace("*", r" \cdot ")
    text = re.sub(
        r"(\d*)\.(\d+)", lambda m: rf"\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}}", text
    )
    config = LatexExtractionConfig(
        boxed_match_priority=-1,
        normalization_config=NormalizationConfig(
            basic_latex=True,
            units=False,
            malformed_operators=True,
            nits=True,
            boxed="none",
            equations=False,
        ),
    )
    found = parse(f"${text}$", [config], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def expressions_equal(gold: str, answer: str, tolerance: float = 0.0) -> bool:
    """math-verify's verdict on two expressions, with exact decimals and without its tolerance for near misses."""
    from math_verify import verify
    from sympy import Basic, N

    one, other = _parse(gold), _parse(answer)
    if one is None or other is None:
        raise Unreadable(f"cannot be read: {(gold if one is None else answer)[:80]!r}")
    numeric = all(isinstance(x, Basic) and x.is_number for x in (one, other))
    if numeric and tolerance:
        a, b = N(one), N(other)
        return bool(abs(a - b) <= tolerance * max(1, abs(a)))
    options = dict(
        float_rounding=15, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True
    )
    if not verify([one], [other], **options):
        return False
    if numeric:  # its numerical comparison is absolute: 1/2004! and 1/2006! are both nothing
        a, b = one.doit(), other.doit()
        return a == b or bool(abs(N(a - b, 30)) <= abs(N(a, 30)) * 10**-12)
    return True
