"""How fast the grader is, and how often it agrees with known verdicts.

    python tests/benchmarks/bench_grading.py [--workers 2] [--golds FOLDER]

--golds: a folder with .jsonl files whose rows have an "answer" (or "Answer"), such as MATH-500,
AIME and GSM8K: every gold is graded against itself, against rewritings that the rules allow, and
against near misses; disagreements are printed. Also read from the environment variable DED_GOLDS.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

from ded.grading import sandbox
from ded.grading.code import grade_programs
from ded.grading.decision import Settings
from ded.grading.math import grade_answers
from ded.grading.pool import CPU_SECONDS
from ded.options import Grading
from ded.problems import Problem

PATHOLOGICAL = [
    "9^{9^{9^{9}}}",
    "10^{10^{10}}!",
    "(" * 400 + "1" + ")" * 400,
    "1" * 1900,
    r"\sqrt{" * 150 + "2" + "}" * 150,
    r"\int_0^1 x^{x^{x^{x}}} dx",
    "(x+y+z+1)^{400}",
    "100000!",
    r"\sum_{k=1}^{10^9} k^{-k}",
    r"\binom{10^8}{5 \cdot 10^7}",
]


def answer(gold, **meta):
    return Problem("gold", "math", 1, "", gold, "math", meta)


def typical(n):
    """n pairs as MATH answers are: half plain numbers, half expressions, no two the same."""
    pairs = []
    for i in range(n):
        a, b = i + 2, 3 * i + 5
        pairs.append(
            [
                (f"{a}", f"{a}"),
                (f"\\frac{{{a}}}{{{b}}}", f"{a}/{b}"),
                (f"({a}, -{b})", f"({a}, {b})"),
                (f"{a}", f"{b}"),
                (f"{b}", f"x = {b}"),
                (f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}"),
                (f"{a}x^2 + {b}", f"{b} + {a}x^2"),
                (f"\\frac{{{a}\\pi}}{{{b}}}", f"{a}\\pi/{b}"),
                (f"x^2 - {a * a}", f"(x-{a})(x+{a})"),
                (f"{a} + {b}i", f"{b}i + {a}"),
            ][i % 10]
        )
    return [(answer(gold), given) for gold, given in pairs]


def programs(n, kind):
    if kind == "function":
        meta = {"entry": "f", "tests": [{"args": [x], "expected": x + 1} for x in range(8)]}
        program = "def f(x): return x + 1"
    else:
        meta = {"tests": [{"input": f"{x} 1", "output": f"{x + 1}"} for x in range(3)]}
        program = "a, b = map(int, input().split())\nprint(a + b)"
    return [(Problem("p", "code", 1, "", "", "code", meta), f"{program}  # {i}") for i in range(n)]


def clock(function, *args, **options):
    start = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - start, result


def speed(workers):
    print(f"{'what':<52}{'workers':>8}{'seconds':>9}{'each a second':>15}")

    def line(what, count, n, seconds):
        print(f"{what:<52}{n:>8}{seconds:>9.2f}{count / seconds:>15.1f}")

    for n in sorted({1, workers}):
        seconds, verdicts = clock(grade_answers, typical(1000), Settings(n, progress=False))
        line("1,000 typical math answers, start-up included", 1000, n, seconds)
    print("   verdicts:", dict(Counter(verdict for verdict, *_ in verdicts)))
    for bad in PATHOLOGICAL:
        pairs = [(answer("1"), bad)]
        seconds, (decision,) = clock(grade_answers, pairs, Settings(progress=False))
        what = f"   {bad[:30]!r:<36} {decision.verdict:<9} {decision.reason[:40]:<42}"
        print(f"{what}{seconds:>6.1f} s (limit {CPU_SECONDS:g})")
    for isolation in sandbox.ISOLATIONS:
        if reason := sandbox.why_not(isolation):
            print(f"{isolation}: {reason}")
            continue
        for kind, what in (
            ("function", "functions of 8 calls"),
            ("stdio", "stdin/stdout programs of 3 tests"),
        ):
            for n in sorted({1, workers}):
                settings = Settings(n, Grading(isolation=isolation), progress=False)
                seconds, verdicts = clock(grade_programs, programs(100, kind), settings)
                assert {verdict for verdict, *_ in verdicts} == {"correct"}, verdicts[0]
                line(f"100 {what}, {isolation}", 100, n, seconds)


# --- agreement ------------------------------------------------------------------------------------
FRACTION = r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}"


def rewritings(gold):
    """Forms of a gold that the rules allow."""
    yield from (
        gold,
        f"${gold}$",
        f"\\[ {gold} \\]",
        f"\\boxed{{{gold}}}",
        f"{gold}.",
        gold.replace(" ", r"\, "),
    )
    for old, new in (
        (r"\frac", r"\dfrac"),
        (r"\dfrac", r"\tfrac"),
        (r"\frac", r"\tfrac"),
        (r"^\circ", "°"),
        (r"^\circ", ""),
        (r"\$", ""),
        ("pmatrix", "bmatrix"),
    ):
        yield gold.replace(old, new)
    yield gold.replace("(", r"\left(").replace(")", r"\right)")
    for old, new in (
        (r"\\text\{([^}]*)\}", r"\1"),
        (r"(?<=[\dA-Za-z)}])([+=-])(?=[\dA-Za-z\\(])", r" \1 "),
        (r"(?<=\d) ?\\sqrt", r" \\cdot \\sqrt"),
    ):
        yield re.sub(old, new, gold)
    if re.fullmatch(r"-?\d+", gold):
        n = int(gold)
        yield from (
            f"{n}.0",
            f"{n:,}",
            f"{n:,}".replace(",", "{,}"),
            f"\\frac{{{2 * n}}}{{2}}",
            f"{n - 1}+1",
            f"{n}\\text{{ units}}",
            f"x = {n}",
        )
    if match := re.fullmatch(FRACTION, gold):
        sign, a, b = match[1], int(match[2]), int(match[3])
        yield from (f"{sign}{a}/{b}", f"{sign}\\frac{{{2 * a}}}{{{2 * b}}}")
        if Fraction(str(a / b)) == Fraction(a, b):
            yield f"{sign}{a / b}"


def near_misses(gold):
    """Answers that look like a gold and are not."""
    bare = re.fullmatch(r"(?:\\left)?\(\s*([^,]+?)\s*,\s*([^,]+?)\s*(?:\\right)?\)", gold)
    if re.fullmatch(r"-?\d+", gold):
        n = int(gold)
        yield from (
            f"{n + 1}",
            f"{n - 1}",
            f"{n * 10 + 1}",
            f"{n}.5",
            f"{n}\\%",
            f"{n}_7",
            f"{n + 1}\\pi",
            f"({n},{n})",
            f"{n}, {n + 1}",
            f"{-n or 7}",
            f"\\frac{{{3 * n + 1}}}{{3}}",
            f"{n}.{'0' * 12}1",
        )
    elif match := re.fullmatch(FRACTION, gold):
        sign, a, b = match[1], int(match[2]), int(match[3])
        yield from (
            f"{sign}\\frac{{{a + 1}}}{{{b}}}",
            f"{sign}\\frac{{{a}}}{{{b + 1}}}",
            f"{'' if sign else '-'}{a}/{b}",
            f"{sign}{a / b:.3f}1",
            f"{sign}{a}",
            f"{sign}\\frac{{{b}}}{{{a}}}" if a != b else "2",
        )
    elif bare:
        yield from (
            f"[{bare[1]},{bare[2]}]",
            f"({bare[1]},{bare[2]}]",
            f"({bare[1]}+1,{bare[2]})",
            bare[1],
        )
        if bare[1] != bare[2]:
            yield f"({bare[2]},{bare[1]})"
    elif r"\text{" in gold and not re.search(r"\d", gold):
        yield from (r"\text{none of these}", "blue")
    elif re.fullmatch(r"\d+_\{?\d\}?", gold):
        yield from (
            f"{gold.rstrip('}')[:-1]}3{'}' * gold.count('}')}",
            gold.split("_")[0],
            f"1{gold}",
        )
    elif "matrix" in gold:
        yield from (
            gold.replace("&", "+1 &") if "&" in gold else gold.replace(r"\\", r"+1 \\", 1),
            gold.replace(r"\begin{pmatrix}", r"\begin{pmatrix} -7 \\"),
        )
    elif r"\circ" in gold or "degrees" in gold:
        yield from (f"1{gold}", r"\pi")
    elif r"\cup" in gold:
        yield from (gold.split(r"\cup")[0], gold.replace("0", "1"))
    elif "," in gold and r"\!" not in gold:
        inside = gold.removeprefix(r"\{").removesuffix(r"\}")
        yield from (f"{inside}, 99", inside.split(",")[0])
    elif r"\$" in gold:
        yield from (f"{gold}1", f"{gold.replace(chr(92) + '$', '')} euros")
    else:
        yield from (f"{gold} + 1", f"{gold.replace('=', '= 2 +')}" if "=" in gold else f"-({gold})")


def agreement(folder, workers):
    golds = set()
    for file in sorted(Path(folder).glob("*.jsonl")):
        for text in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(text)
            gold = str(row.get("answer", row.get("Answer")))
            golds.add(
                gold.rpartition("####")[2].strip().replace(",", "") if "####" in gold else gold
            )
    cases = [
        (gold, given, truth)
        for gold in sorted(golds)
        for truth, given in [("correct", form) for form in dict.fromkeys(rewritings(gold))]
        + [("wrong", miss) for miss in dict.fromkeys(near_misses(gold))]
    ]
    jobs = [(answer(gold), given) for gold, given, _ in cases]
    seconds, verdicts = clock(grade_answers, jobs, Settings(workers, progress=False))
    table = Counter(
        (truth, verdict) for (_, _, truth), (verdict, *_) in zip(cases, verdicts, strict=True)
    )
    columns = ("correct", "wrong", "unparsed", "error")
    print(f"\n{len(golds)} distinct golds, {len(cases)} cases, {seconds:.0f} s")
    print(f"{'should be':<12}" + "".join(f"{column:>10}" for column in columns))
    for truth in ("correct", "wrong"):
        print(f"{truth:<12}" + "".join(f"{table[truth, column]:>10}" for column in columns))
    for (gold, given, truth), (verdict, reason, _) in zip(cases, verdicts, strict=True):
        if verdict != truth:
            print(f"   gold {gold}   given {given}   should be {truth}, is {verdict} {reason}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--golds", default=os.environ.get("DED_GOLDS"), help="folder of .jsonl files with answers"
    )
    options = parser.parse_args()
    speed(options.workers)
    if options.golds:
        agreement(options.golds, options.workers)
