"""Code graded by execution: the program runs in the sandbox, its results are compared out here.

What a problem's ``meta`` may hold:

- ``tests``: a list of ``{"input": text, "output": text}`` (stdin/stdout programs) or ``{"args": [...], "expected":
  value}`` (functions; then ``entry`` is the function's name, or "Solution.method");
- or ``assertions``: Python source that calls ``entry`` (or ``candidate``) and asserts, as in HumanEval and MBPP. It
  runs in a sandbox of its own and sees only what the program returned; each call of the program starts it afresh;
- ``preamble``: source put before the program (LiveCodeBench's imports); ``input_mode``: "stdio" or "file" (input.txt,
  output.txt);
- ``tolerance``: floats may differ by this, absolute or relative; ``checker``: source of a program run as
  ``checker.py input.txt correct_output.txt solution_output.txt`` that prints 1 or 0 (exit code 0 or 1 if it prints
  nothing);
- ``time_limit`` (CPU seconds) and ``memory_limit`` (MiB) of one test, in place of the defaults.

No expected output enters the program's sandbox. Tests run in order and stop at the first that fails.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Empty, SimpleQueue

from .sandbox import Limits, Result, Sandbox, why_not

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


def extract(answer: str) -> str | None:
    """The program in an answer: the last fenced block marked as Python, else the last fenced block, else all of it."""
    blocks = [
        (language.lower() in ("python", "python3", "py"), body)
        for language, body in _FENCE.findall(answer)
    ]
    marked = [body for python, body in blocks if python] or [body for _, body in blocks]
    program = marked[-1] if marked else answer
    return program.strip("\n") if program.strip() else None


def grade_programs(jobs, *, workers=1, isolation="bubblewrap", limits=None, progress=True):
    """Verdicts of (problem, program) pairs, in order: a list of (verdict, reason).

    A program that ends by the clock rather than by CPU time (a sleeper, or a machine out of breath) is retried once,
    alone, after all others. Without isolation nothing is run and every verdict is *error*.
    """
    from tqdm.auto import tqdm

    if reason := why_not(isolation):
        return [("error", f"not run: {reason}")] * len(jobs)
    limits, verdicts, queue = limits or Limits(), {}, SimpleQueue()
    bar = tqdm(total=len(jobs), desc="code", delay=2, disable=not progress)
    for item in enumerate(jobs):
        queue.put(item)

    def work():
        with Sandbox(limits, isolation) as box:
            for served in itertools.count(1):
                try:
                    position, job = queue.get_nowait()
                except Empty:
                    return
                verdicts[position] = grade_program(*job, box)
                bar.update()
                if served % 100 == 0:
                    box.close()  # whatever a program may have left in the namespace's IPC ends here

    with bar, ThreadPoolExecutor(max(1, min(workers, len(jobs)))) as pool:
        try:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()
        finally:  # on Ctrl-C or a failure: no new programs
            while not queue.empty():
                queue.get_nowait()
    with Sandbox(limits, isolation) as box:
        for position in [
            position for position in range(len(jobs)) if verdicts[position][0] == "again"
        ]:
            verdict, reason = grade_program(*jobs[position], box)
            verdicts[position] = ("error" if verdict == "again" else verdict), reason
    return [verdicts[position] for position in range(len(jobs))]


def grade_program(problem, program: str, box: Sandbox) -> tuple[str, str]:
    """(verdict, reason) of one program; the verdict "again" stands for an error that a quieter machine might not make.

    box: serves functions and lends its limits and isolation; programs that may write files get a sandbox of their own.
    """
    meta = problem.meta
    limits = replace(
        box.limits,
        cpu=meta.get("time_limit") or box.limits.cpu,
        memory=int(meta.get("memory_limit") or box.limits.memory),
    )
    source = "\n".join(filter(None, (meta.get("preamble"), program)))
    if meta.get("assertions"):
        return _assertions(source, meta, box, limits)
    spent, own = 0.0, None
    if not meta["tests"]:
        return "error", "the problem has no tests"
    try:
        for number, test in enumerate(meta["tests"], 1):
            if "args" in test:
                result = box.run(source, call=(meta["entry"], test["args"]), limits=limits)
                fault = _fault(result, limits) or _returned(result, test["expected"], meta)
            else:
                own = own or Sandbox(box.limits, box.isolation, writable=True)
                data = test["input"].encode()
                file = (
                    dict(files={"input.txt": data}, read="output.txt")
                    if meta.get("input_mode") == "file"
                    else {}
                )
                result = own.run(source, data, limits=limits, **file)
                fault = _fault(result, limits) or _printed(result.stdout, test, meta, box)
            if fault:
                return fault[0], f"test {number}: {fault[1]}"
            spent += result.cpu
            if spent > limits.total_cpu:
                return "error", f"all tests together take over {limits.total_cpu:g} s of CPU"
        return "correct", ""
    finally:
        if own:
            own.close()


def _fault(result: Result, limits: Limits) -> tuple[str, str] | None:
    """The verdict on a run that did not end well."""
    said = result.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
    match result.outcome:
        case "wall":
            return "again", f"slept: {result.wall:.0f} s by the clock, {result.cpu:.1f} s of CPU"
        case "lost":
            return "again", said
        case "cpu":
            return "wrong", f"over {limits.cpu:g} s of CPU"
        case "memory":
            return "wrong", f"over {limits.memory} MiB of memory"
        case "output":
            return "wrong", f"over {limits.output} MiB of output"
    if result.code:
        return "wrong", said or (
            f"killed by signal {-result.code}" if result.code < 0 else f"exit code {result.code}"
        )
    return None


# --- comparing --------------------------------------------------------------------------------------------------------
def same(expected, value, tolerance: float = 0.0) -> bool:
    """Whether a returned value, in the tagged JSON form of the sandbox, is the expected plain value.

    As == in Python, but a tuple is a list. The walk follows `expected`, so a hostile value costs no more than that.
    """
    if isinstance(expected, (set, frozenset, dict)):
        tag = "dict" if isinstance(expected, dict) else "set"
        items = value.get(tag) if isinstance(value, dict) else None
        if items is None or len(items) != len(expected):
            return False
        if tag == "set":
            return {_frozen(item) for item in items} == {_frozen(item) for item in expected}
        found = {_frozen(key): item for key, item in items}
        wanted = {_frozen(key): item for key, item in expected.items()}
        return wanted.keys() == found.keys() and all(
            same(wanted[key], found[key], tolerance) for key in wanted
        )
    if isinstance(value, dict):
        value = value.get("tuple")
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(value, list)
            and len(value) == len(expected)
            and all(same(one, other, tolerance) for one, other in zip(expected, value))
        )
    if tolerance and all(isinstance(number, (int, float)) for number in (expected, value)):
        return close(expected, value, tolerance)
    return type(value) in (bool, int, float, str, type(None)) and value == expected


def _frozen(value):
    if isinstance(value, dict):
        (value,) = value.values()
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def close(expected: float, value: float, tolerance: float) -> bool:
    """Within the tolerance, absolute or relative to what is expected; never for a nan or an infinity."""
    try:
        return math.isfinite(value) and abs(expected - value) <= tolerance * max(1.0, abs(expected))
    except OverflowError:
        return False


def same_output(expected: str, printed: str, tolerance: float = 0.0) -> bool:
    """Line by line and token by token, as contests compare: blank lines, the ends of lines and the width of gaps do not
    count; with a tolerance, numbers may differ by it."""

    def lines(text):
        return [tokens for line in text.splitlines() if (tokens := line.split())]

    def equal(one, other):
        if one == other or not tolerance:
            return one == other
        try:
            return close(float(one), float(other), tolerance)
        except ValueError:
            return False

    one, other = lines(expected), lines(printed)
    return len(one) == len(other) and all(
        len(a) == len(b) and all(map(equal, a, b)) for a, b in zip(one, other)
    )


def _returned(result, expected, meta):
    if not result.value:
        return "wrong", "ended without returning"
    try:
        fine = same(expected, json.loads(result.value), meta.get("tolerance", 0.0))
    except (ValueError, TypeError, RecursionError):
        fine = False
    return None if fine else ("wrong", f"returned {result.value[:100].decode('ascii', 'replace')}")


def _printed(stdout: bytes, test, meta, box):
    if checker := meta.get("checker"):
        verdict = _check(checker, test, stdout, box)
        if verdict == "error" and _check(checker, test, test["output"].encode(), box) == "correct":
            verdict = "wrong"  # a checker that is well otherwise stumbles over this output
        return None if verdict == "correct" else (verdict, f"the problem's checker says {verdict}")
    printed = stdout.decode("utf-8", "replace")
    if same_output(test["output"], printed, meta.get("tolerance", 0.0)):
        return None
    return "wrong", f"printed {' '.join(printed[:200].split())[:100]!r}"


def _check(checker: str, test, stdout: bytes, box) -> str:
    files = {
        "input.txt": test["input"].encode(),
        "correct_output.txt": test["output"].encode(),
        "solution_output.txt": stdout,
    }
    with Sandbox(box.limits, box.isolation, writable=True) as own:
        result = own.run(checker, argv=list(files), files=files)
    said = result.stdout.decode("utf-8", "replace").split()
    if result.outcome != "exit" or result.code not in (0, 1):
        return "again" if result.outcome in ("wall", "lost") else "error"
    if not said:
        return "error" if result.stderr else "wrong" if result.code else "correct"
    try:
        return "correct" if not result.code and float(said[-1]) >= 1 else "wrong"
    except ValueError:
        return "error"


def _assertions(source, meta, box, limits, most=200):
    """Run the assertions with a stand-in for the program that knows the calls made so far. When it meets a new one it
    stops, the program answers that call in a process of its own, and the assertions start again."""
    known, spent = {}, 0.0
    for _ in range(most):
        result = box.run(meta["assertions"], known=(meta["entry"], known), limits=limits)
        if not result.value:
            fault = _fault(result, limits)
            if fault and fault[1].startswith(
                ("SyntaxError", "NameError", "ImportError", "ModuleNotFoundError", "NotPlain")
            ):
                return "error", f"the assertions themselves fail: {fault[1]}"
            return fault or ("correct", "")
        question = result.value.decode()
        result = box.run(source, call=(meta["entry"], question), limits=limits)
        if result.outcome != "exit":
            return _fault(result, limits)
        known[question] = (
            result.value.decode("ascii", "replace") if result.value and not result.code else None
        )
        spent += result.cpu
        if spent > limits.total_cpu:
            break
    return (
        "error",
        f"the assertions make over {most} calls, or take over {limits.total_cpu:g} s of CPU",
    )
