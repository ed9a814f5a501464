"""Code graded by execution: the program runs in the sandbox, its results are compared out here.

What a problem's ``meta`` may hold:

- ``tests``: a list of ``{"input": text, "output": text}`` (stdin/stdout programs) or ``{"args":
  [...], "expected": value}`` (functions; then ``entry`` is the function's name, or
  "Solution.method");
- or ``assertions``: Python source that uses the program's names (``candidate`` is its ``entry``)
  and asserts, as in HumanEval and MBPP; it runs in a process of its own and talks with the program,
  which runs once;
- ``preamble``: source run before the program (LiveCodeBench's imports); ``input_mode``: "stdio" or
  "file" (input.txt, output.txt);
- ``tolerance``: numbers may be written differently, and differ by this; ``checker``: a program
  run as ``checker.py input.txt correct_output.txt solution_output.txt`` that prints 1 or 0 (exit
  code 0 or 1 if it prints nothing);
- ``time_limit`` (CPU seconds) and ``memory_limit`` (MiB) of one test, in place of the defaults.

No expected output enters the program's process. Tests run in order and stop at the first that
fails.
"""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from decimal import Decimal
from itertools import chain, groupby, islice
from typing import Any

from ded.grading.decision import CORRECT, Decision, Pair, Settings, mapped
from ded.grading.sandbox import Limits, Result, Sandbox, why_not
from ded.grading.talk import AT_FAULT, ENDED
from ded.problems.record import Problem

AGAIN = "again"  # the verdict in here on what a quieter machine might decide
ASLEEP = "asleep"  # and on what ended by the clock and wanted no CPU
BRIEF = 0.5  # seconds that a program may wait at the first try, in which it holds up others
_FENCE = re.compile(r"([\s>]*(?:[-*+]\s+|\d+[.)]\s+)?)(`{3,}|~{3,})[ \t{.]*([\w+#-]*)[^`]*")
_TEXT = re.compile(
    r'#[^\n]*|("""|\'\'\').*?(?:(?<!\\)\1|(?P<open>\Z))|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
    re.DOTALL,
)
_READS = re.compile(r"\b(?:input|stdin|fileinput)\b(?!\s*=)|\b(?:open|read\w*)\s*\(")
_DEFINITION = re.compile(
    r"(?:import|from)\s+(.+)|(?:async\s+)?(?:def|class)\s+(\w+)"
    r"|([A-Z][A-Z0-9_]*)\s*=|(\w+)\s*=[^(]*$|[@)\]}]"
)
# as Python prints them; 007 is a text, and so are nan and inf
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def extract(answer: str, problem: Problem | None = None) -> str | None:
    """The program in an answer; None without one.

    Of the fenced blocks marked as Python, else of those not marked, the last that does what is
    asked for: that defines the entry, or reads input and does more than define; else the last of
    all. Blocks of nothing but definitions go before it where it uses a name of theirs; sessions of
    an interpreter are none. An answer without fences is a program.
    """
    blocks = _blocks(answer)
    if not blocks:
        return answer.strip("\n") if answer.strip() else None
    programs = [each for each in blocks if each[1] and not each[1].startswith(">>>")]
    bodies = [body for language, body in programs if not language]
    bodies += [body for language, body in programs if "py" in language]
    if not bodies:
        return None
    meta = problem.meta if problem else {}
    entry = meta.get("entry") or meta.get("assertions", "")
    name = "|".join(set(re.findall(r"[^\W\d]\w*", entry)))
    defines = rf"^(?:(?:async +)?def|class) +(?:{name})\b|^(?:{name}) *(?::[^=]+)?="
    asked = re.compile(defines, re.MULTILINE) if entry else _READS
    fitting = [i for i, body in enumerate(bodies) if asked.search(_bare(body))]
    if not entry:
        fitting = [i for i in fitting if not _definitions(bodies[i])[1]]
    program = bodies.pop(fitting[-1] if fitting else -1)
    names, _ = _definitions(program)
    used = set(re.findall(r"\w+", _bare(program)))
    for body in reversed(bodies):
        defined, pure = _definitions(body)
        if pure and defined & (used - names):
            program = f"{body}\n\n{program}"
            names |= defined
            used |= set(re.findall(r"\w+", _bare(body)))
    return program


def _blocks(answer: str) -> list[tuple[str, str]]:
    """(language, body) of each fenced block.

    Fences as in CommonMark, indented by as much as you like. One within a text in triple quotes
    closes nothing, if another follows; one marked as Python opens a block, whatever is open.
    """
    lines = answer.replace("\r\n", "\n").split("\n")
    blocks, i = [], 0
    while i < len(lines):
        opening = _FENCE.fullmatch(lines[i])
        i += 1
        if not opening:
            continue
        indent, mark, language = opening.groups()
        close = re.compile(rf"[\s>]*{mark[0]}{{{len(mark)},}}\s*(?:py.*)?", re.IGNORECASE)
        closing = (j for j in range(i, len(lines)) if close.fullmatch(lines[j]))
        ends = list(islice(closing, 9)) or [len(lines)]
        end = next((j for j in ends if not _open("\n".join(lines[i:j]))), ends[0])
        margin = re.compile(rf"[\s>]{{,{len(indent.expandtabs(4))}}}")
        body = "\n".join(margin.sub("", line, count=1) for line in lines[i:end])
        blocks.append((language.lower(), body.strip("\n") if body.strip() else ""))
        i = end + (end < len(lines) and "py" not in lines[end].lower())
    return blocks


def _bare(program: str) -> str:
    """Without comments and texts."""
    return _TEXT.sub("", program)


def _open(program: str) -> bool:
    """Whether it ends within a text in triple quotes."""
    return any(text["open"] is not None for text in _TEXT.finditer(program))


def _definitions(program: str) -> tuple[set[str], bool]:
    """The names that are defined at the margin, and whether nothing else stands there."""
    lines = [line for line in _bare(program).split("\n") if line[:1].strip()]
    matches = [_DEFINITION.match(line) for line in lines]
    named = [text or "" for match in matches if match for text in match.groups()]
    return set(re.findall(r"\w+", " ".join(named))), all(matches)


def rule(problem: Problem) -> str:
    """What decides on a problem's programs."""
    meta = problem.meta
    if meta.get("assertions"):
        return "assertions"
    if any("args" in test for test in meta["tests"]):
        return "function tests"
    return "checker" if meta.get("checker") else "stdin tests"


def grade_programs(pairs: list[Pair], settings: Settings) -> list[Decision]:
    """Decisions on (problem, program) pairs, in order.

    What ends by the clock is tried again: first side by side, for who waits needs no CPU, and there
    a program that waits to its limit is wrong; then, what got too little CPU, alone. Without
    isolation nothing is run and every verdict is *error*.
    """
    if reason := why_not(settings.options.isolation):
        return [Decision("error", f"not run: {reason}")] * len(pairs)
    limits = settings.limits or Limits()
    brief = replace(limits, idle=min(limits.idle, BRIEF))
    tries = [(settings.workers, brief), (4 * settings.workers, limits), (1, limits)]
    decisions = [Decision(AGAIN)] * len(pairs)
    for width, bounds in tries:
        again = [i for i, decision in enumerate(decisions) if decision.verdict == AGAIN]
        tried = _try([pairs[i] for i in again], width, replace(settings, limits=bounds))
        asleep = AGAIN if bounds is brief else "wrong"
        for i, decision in zip(again, tried, strict=True):
            slept = decision.verdict == ASLEEP
            decisions[i] = decision._replace(verdict=asleep) if slept else decision
    return [each._replace(verdict="error") if each.verdict == AGAIN else each for each in decisions]


def _try(pairs: list[Pair], workers: int, settings: Settings) -> list[Decision]:
    options = settings.options
    where = settings.limits, options.isolation, tuple(options.packages)
    threads = threading.local()

    def run(pair: Pair) -> Decision:
        if not hasattr(threads, "box"):  # one each
            threads.box = stack.enter_context(Sandbox(*where))
        return grade_program(*pair, threads.box)

    with ExitStack() as stack, ThreadPoolExecutor(max(1, workers)) as executor:
        return mapped(executor, run, pairs, "code", settings.progress)


def grade_program(problem: Problem, program: str, box: Sandbox) -> Decision:
    """The decision on one program; the verdict `AGAIN` stands for an error that a quieter machine
    might not make.

    box: where it runs, and whose limits count where the problem has none.
    """
    meta = problem.meta
    cpu, memory = meta.get("time_limit"), meta.get("memory_limit")
    limits = replace(box.limits, cpu=cpu or box.limits.cpu, memory=int(memory or box.limits.memory))
    how = {"source": program, "preamble": meta.get("preamble") or ""}
    if meta.get("assertions"):
        return _assertions(how, meta, box, limits)
    if not meta["tests"]:
        return Decision("error", "the problem has no tests")
    spent = 0.0
    runs = chain.from_iterable(
        _called(list(tests), how, meta, box, limits)
        if called
        else (_fed(test, how, meta, box, limits) for test in tests)
        for called, tests in groupby(meta["tests"], lambda test: "args" in test)
    )
    for number, (fault, cpu) in enumerate(runs, 1):
        if fault:
            return Decision(fault.verdict, f"test {number}: {fault.reason}")
        spent += cpu
        if spent > limits.total_cpu:
            return Decision("wrong", f"all tests together: over {limits.total_cpu:g} s of CPU")
    return CORRECT


def _called(tests: list[dict], how: dict, meta: dict, box: Sandbox, limits: Limits) -> Iterator:
    """(the decision where it is not *correct*, CPU seconds) on each test of a function: in one
    process where that can make no difference (`talk.forgets`), else in one each.
    """
    done, together = 0, len(tests)
    while done < len(tests):
        batch = tests[done : done + together]
        call = (meta["entry"], *(test["args"] for test in batch))
        result = box.run(**how, call=call, limits=limits)
        fault = _fault(result, limits)
        if fault and result.value and len(batch) > 1:
            together = 1  # alone, each shows whether the fault is its own
            continue
        values = result.value.splitlines()[: len(batch)] or [b""]
        for test, value in zip(batch, values, strict=False):
            yield fault or _returned(value, test["expected"], meta), result.cpu / len(values)
        done += len(values)


def _fed(test: dict, how: dict, meta: dict, box: Sandbox, limits: Limits) -> tuple:
    """(the decision where it is not *correct*, CPU seconds) on one test by input and output."""
    io: dict = {"stdin": test["input"].encode()}
    if meta.get("input_mode") == "file":
        io |= {"files": {"input.txt": io["stdin"]}, "read": "output.txt"}
    result = box.run(**how, limits=limits, **io)
    return _fault(result, limits) or _printed(result.stdout, test, meta, box), result.cpu


def _fault(result: Result, limits: Limits) -> Decision | None:
    """The decision on a run that did not end well."""
    last_line = _text(result.stderr).strip().rpartition("\n")[2][:200]
    reasons = {
        "wall": f"the machine was busy: {result.cpu:.1f} s of CPU in {result.wall:.0f} s",
        "lost": last_line,
        "cpu": f"over {limits.cpu:g} s of CPU",
        "memory": f"over {limits.memory} MiB of memory",
        "output": f"over {limits.output} MiB of output",
    }
    if result.outcome in reasons:
        verdict = AGAIN if result.outcome in ("wall", "lost") else "wrong"
        if result.outcome == "wall" and result.idle >= min(limits.idle, result.wall / 2):
            return Decision(ASLEEP, f"no answer in time: waited for {result.idle:.1f} s")
        return Decision(verdict, reasons[result.outcome])
    if result.code == 0:
        return None
    end = f"killed by signal {-result.code}" if result.code < 0 else f"exit code {result.code}"
    return Decision("wrong", last_line or end)


def _returned(value: bytes, expected: Any, meta: dict) -> Decision | None:
    """The decision on a function that did not return what is expected."""
    if not value:
        return Decision("wrong", "ended without returning")
    with suppress(ValueError, TypeError, RecursionError):
        if same_value(expected, json.loads(value), meta.get("tolerance", 0.0)):
            return None
    return Decision("wrong", f"returned {value[:100].decode('ascii', 'replace')}")


def _printed(stdout: bytes, test: dict, meta: dict, box: Sandbox) -> Decision | None:
    """The decision on a program that did not print what is expected."""
    if checker := meta.get("checker"):
        verdict = _check(checker, test, stdout, box)
        if verdict == "error" and _check(checker, test, test["output"].encode(), box) == "correct":
            verdict = "wrong"  # a checker that is well otherwise stumbles over this output
        reason = f"the problem's checker says {verdict}"
        return None if verdict == "correct" else Decision(verdict, reason)
    printed = _text(stdout)
    if same_output(test["output"], printed, meta.get("tolerance", 0.0)):
        return None
    return Decision("wrong", f"printed {' '.join(printed[:200].split())[:100]!r}")


def _check(checker: str, test: dict, stdout: bytes, box: Sandbox) -> str:
    """The verdict of a problem's own checker on an output."""
    names = ("input.txt", "correct_output.txt", "solution_output.txt")
    contents = (test["input"].encode(), test["output"].encode(), stdout)
    files = dict(zip(names, contents, strict=True))
    result = box.run(checker, argv=names, files=files)
    if result.outcome != "exit" or result.code not in (0, 1):
        return AGAIN if result.outcome in ("wall", "lost") else "error"
    words = _text(result.stdout).split()
    if not words and result.stderr:
        return "error"
    try:
        accepts = result.code == 0 and (not words or float(words[-1]) >= 1)
    except ValueError:
        return "error"
    return "correct" if accepts else "wrong"


def _assertions(program: dict, meta: dict, box: Sandbox, limits: Limits) -> Decision:
    """The assertions and the program run side by side and talk."""
    name, *method = meta.get("entry", "").replace("()", "").split(".")
    tests = {"source": meta["assertions"], "entry": name}
    if "candidate" in meta["assertions"]:
        tests["preamble"] = f"candidate = {'().'.join([name, *method])}"
    result = box.run(**program, entry=name, tests=tests, limits=limits)
    fault = _fault(result, limits) or CORRECT
    if (result.outcome, result.code) == ("exit", ENDED):
        return Decision("wrong", fault.reason if result.stderr else "ended before its tests")
    if (result.outcome, result.code) == ("exit", AT_FAULT):
        return Decision("error", f"the assertions themselves fail: {fault.reason}")
    return fault


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")


# --- comparing ------------------------------------------------------------------------------------
def same_value(expected: Any, value: Any, tolerance: float = 0.0) -> bool:
    """Whether a returned value, in the tagged JSON form of the sandbox, is the expected plain
    value.

    As == in Python, but a tuple is a list. The walk follows `expected`, so a hostile value costs no
    more than that.
    """
    if isinstance(expected, (dict, set, frozenset)):
        tag = "dict" if isinstance(expected, dict) else "set"
        items = value.get(tag) if isinstance(value, dict) else None
        if items is None or len(items) != len(expected):
            return False
        if not isinstance(expected, dict):
            return set(map(_frozen, items)) == set(map(_frozen, expected))
        given = {_frozen(key): item for key, item in items}
        wanted = {_frozen(key): item for key, item in expected.items()}
        return wanted.keys() == given.keys() and all(
            same_value(item, given[key], tolerance) for key, item in wanted.items()
        )
    if isinstance(value, dict):
        if "int" in value:  # a long one
            return int(value["int"], 16) == expected
        value = value.get("tuple", ...)
    if isinstance(expected, (list, tuple)):
        if not isinstance(value, list) or len(value) != len(expected):
            return False
        pairs = zip(expected, value, strict=True)
        return all(same_value(wanted, item, tolerance) for wanted, item in pairs)
    if type(value) not in (bool, int, float, str, type(None)):
        return False
    if value == expected or isinstance(expected, str) or isinstance(value, str):
        return value == expected
    return None not in (expected, value) and close(expected, value, tolerance)


def _frozen(value: Any) -> Any:
    """A hashable form of a value, the same for its plain and its tagged form, where it has both."""
    if isinstance(value, dict):
        ((tag, value),) = value.items()
        value = int(value, 16) if tag == "int" else value if tag == "tuple" else ...
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def close(expected: float | str, value: float | str, tolerance: float) -> bool:
    """Whether a number is within the tolerance of the expected one: absolute, and where that is no
    whole number as it is written, relative too. Decimals, so that digits of long integers count.
    """
    try:
        wanted, given = Decimal(expected), Decimal(value)
        whole = isinstance(expected, int) or str(expected).lstrip("+-").isdecimal()
        scale = 1 if whole else max(Decimal(1), abs(wanted))
        return given.is_finite() and abs(wanted - given) <= Decimal(tolerance) * scale
    except ArithmeticError:
        return False


def same_output(expected: str, printed: str, tolerance: float = 0.0) -> bool:
    """Line by line and token by token, as contests compare.

    Blank lines, the ends of lines and the width of gaps do not count; with a tolerance, numbers may
    be written differently, and differ by it.
    """
    wanted, given = _tokens(expected), _tokens(printed)
    if not tolerance or list(map(len, wanted)) != list(map(len, given)):
        return wanted == given
    pairs = zip(chain.from_iterable(wanted), chain.from_iterable(given), strict=True)
    return all(_same_token(*pair, tolerance) for pair in pairs)


def _tokens(text: str) -> list[list[str]]:
    """What stands between spaces and tabs in each line. Other signs, U+2028 say, end no line."""
    lines = (re.findall(r"[^ \t]+", line.removesuffix("\r")) for line in text.split("\n"))
    return [tokens for tokens in lines if tokens]


def _same_token(expected: str, printed: str, tolerance: float) -> bool:
    if expected == printed or not (_NUMBER.fullmatch(expected) and _NUMBER.fullmatch(printed)):
        return expected == printed
    return close(expected, printed, tolerance)
