"""`ded reproduce` at the tests' tiny parameters, cold and then warm: seconds by the clock and of
the processor, and where the latter went; of this checkout, and of others in the same call.

    python tests/benchmarks/bench_reproduce.py [CHECKOUT ...] [--only 02 05]

Processor time is of the whole tree of processes, looked at twice a second. What else the machine
does counts for little in it, and for much in the other.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


def measured(checkout: Path, folder: Path, *arguments: str) -> tuple[float, float]:
    """(seconds by the clock, of the processor) that `ded` takes in a folder."""
    command, spent, started = [sys.executable, "-m", "ded", *arguments], {}, time.perf_counter()
    env = os.environ | THREADS | {"PYTHONPATH": str(checkout)}
    with (folder / "log").open("a") as log:
        process = psutil.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        while process.poll() is None:
            try:
                for each in (process, *process.children(recursive=True)):
                    spent[each.pid, each.create_time()] = sum(each.cpu_times()[:2])
            except psutil.Error:  # it has just gone
                pass
            time.sleep(0.5)
    if process.returncode:
        sys.exit(f"it failed: {folder}/log\n{(folder / 'log').read_text()[-2000:]}")
    return time.perf_counter() - started, sum(spent.values())


def prepare(checkout: Path, folder: Path) -> None:
    """Notebooks and presets of a checkout in a folder of its own, with a preset `tiny`."""
    from test_notebooks import CHANGES, TINY

    measured(checkout, folder, "new")
    (folder / "params" / "tiny").mkdir()
    for name, changes in CHANGES.items():
        values = {"extends": "lab", "preset": "tiny", **TINY, **changes}
        (folder / "params" / "tiny" / f"{name}.yml").write_text(json.dumps(values))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkouts", nargs="*", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    chosen = parser.parse_args()
    only = [item for name in chosen.only for item in ("--only", name)]
    for checkout in (ROOT, *(path.resolve() for path in chosen.checkouts)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(checkout, folder)
            for what in ("cold", "warm"):
                wall, processor = measured(checkout, folder, "reproduce", "--preset", "tiny", *only)
                print(f"{checkout.name} {what}: {wall:.1f} s, {processor:.1f} of the processor")
                if checkout == ROOT:
                    command = [sys.executable, "-m", "ded", "report", "--preset", "tiny", "--time"]
                    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)})


if __name__ == "__main__":
    main()
