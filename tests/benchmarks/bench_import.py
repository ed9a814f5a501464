"""Seconds that `import ded` takes in a fresh process, beside an empty one; prints a table.

    python tests/benchmarks/bench_import.py

By the clock, and of the processor, where what else the machine does counts for little. Medians of
5.
"""

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def processor():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(code, repeats=5):
    clock, work = [], []
    for _ in range(repeats):
        start, before = time.perf_counter(), processor()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        clock.append(time.perf_counter() - start)
        work.append(processor() - before)
    return statistics.median(clock), statistics.median(work)


def main():
    names = ("problems", "models", "generation", "training", "evaluation", "analysis")
    rooms = "import " + ", ".join(f"ded.{name}" for name in names)
    calls = {
        "nothing": "pass",
        "import ded": "import ded",
        "import its model rooms": rooms,
        "import ded.study": "import ded.study",
    }
    print(f"{'what':<26}{'seconds':>9}{'processor':>11}")
    for name, code in calls.items():
        clock, work = seconds(code)
        print(f"{name:<26}{clock:>9.2f}{work:>11.2f}")


if __name__ == "__main__":
    main()
