"""Seconds that `import ded` takes in a fresh process, beside an empty one; prints a table.

    python tests/benchmarks/bench_import.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def seconds(code, repeats=5):
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def main():
    rooms = "import ded.problems, ded.models, ded.generation, ded.training, ded.evaluation, ded.analysis"
    calls = {"nothing": "pass", "import ded": "import ded", "import its model rooms": rooms, "import ded.study": "import ded.study"}
    print(f"{'what':<26}{'seconds':>9}")
    for name, code in calls.items():
        print(f"{name:<26}{seconds(code):>9.2f}")


if __name__ == "__main__":
    main()
