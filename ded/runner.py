"""Runs notebooks with checked parameters, some side by side, and shows their verdicts.

One works while another starts, draws, or waits for its slowest job; the jobs of all go to the same
workers (`ded.workers`), one a core.
"""

import logging
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from tqdm import tqdm

from ded import files, folders, home, jobs, params, progress, results, store, wording, workers
from ded.errors import ParameterError, near
from ded.params.schemas import SCHEMAS

LEGEND = "Differences in points, with the interval that decides (docs/statistics.md, Verdicts)."
PROGRESS_BAR = "application/vnd.jupyter.widget-view+json"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
KERNEL: dict[str, Any] = {"kernel_name": "python3", "language": "python", "start_timeout": 120}
KERNEL["extra_arguments"] = ["--log-level=50"]  # its log repeats what the error says
KERNEL |= {"cwd": ".", "progress_bar": False}  # papermill's counts cells
MEMORY = 2**30  # bytes that must be free for each notebook and worker, for several at a time
BAR = "{desc} {percentage:3.0f}%|{bar:20}| {elapsed}{postfix}"
_interrupted = threading.Event()
_kernels: set[Any] = set()  # processes of the kernels that were started


@dataclass(frozen=True)
class Run:
    """One notebook with the parameters that it is to run with."""

    notebook: Path
    values: dict[str, Any]
    # where its results go; relative to the repository, so that no machine's folders are recorded
    folder: Path
    origins: dict[str, str] = field(default_factory=dict)  # the place that set each parameter

    @property
    def name(self) -> str:
        """The notebook's name."""
        return self.notebook.stem


def planned(preset: str, only: Iterable[str], changes: Mapping[str, Any]) -> list[Run]:
    """The runs of the notebooks named, or of all, with their checked parameters.

    A parameter that only some of the notebooks have is changed in those; all of them go to one
    folder, named by the preset and what differs from it. ParameterError, for all notebooks at once,
    where any is wrong.
    """
    paths = params.notebooks(only)
    if not paths:
        raise params.no_notebooks()
    schemas = [SCHEMAS[path.stem] for path in paths if path.stem in SCHEMAS]
    names = {name for schema in schemas for name in schema.model_fields}
    unknown = [key for key in changes if key.partition(".")[0] not in names]
    problems = [
        f"  {params.COMMAND_LINE}: {key}: unknown parameter{near(key, names)}" for key in unknown
    ]
    loaded: dict[Path, tuple[dict[str, Any], dict[str, str]]] = {}
    changed: dict[str, Any] = {}
    for path in paths:
        own = params.of_schema(SCHEMAS.get(path.stem), changes)
        try:
            checked = params.checked(preset, path.stem, own)
            values = checked.model_dump()
            if checked.arms:
                from ded import study  # loads pandas, which reading parameters need not

                study.arms(checked)
            pairs = params.differences(params.load(preset, path.stem), values) if own else {}
            loaded[path] = (values, params.origins(preset, path.stem, own))
            changed |= {key: now for key, (_, now) in pairs.items()}
        except ParameterError as error:
            problems.append(str(error))
    if problems:  # an unknown preset is told once
        raise ParameterError("\n".join(dict.fromkeys(problems)).lstrip())
    runs = []
    for path, (values, origins) in loaded.items():
        folder = home() / folders.place(values, path.stem, changed)
        runs.append(Run(path, values, Path(os.path.relpath(folder, home())), origins))
    return runs


def run_all(
    runs: list[Run],
    begin: Callable[[Run], None] | None = None,
    replace: bool = False,
    end: Callable[[Run], None] | None = None,
    after: Callable[[Run], None] | None = None,
    side_by_side: int = 1,
) -> int:
    """Runs the notebooks, each after `begin` and, where it has run, before `end`, and in any case
    before `after`, and prints their verdicts.

    side_by_side: how many at a time; fewer where memory is short, one where jobs run one at a time
    too. Returns the exit code: 0, 1 where one failed. Before any work ParameterError where
    finished runs of other parameters lie in their folders, unless those are to be replaced, and
    FolderError for a folder that cannot be written to.
    """
    others = [other for run in runs if (other := folders.taken(home() / run.folder, run.values))]
    if others and not replace:
        mend = "--replace: they stand until the new run is complete"
        raise ParameterError("\n".join([*others, f"to have it replaced: {mend}"]))
    os.chdir(home())
    store.check()
    for run in runs:
        files.check_writable(run.folder, "out_dir")
    store.sweep()
    failed, turn = set(), threading.Lock()

    def attempt(run: Run) -> None:
        started = time.perf_counter()
        with turn:
            if begin:
                begin(run)
        problem = execute(run, replace)
        seconds = f"{time.perf_counter() - started:.0f} s"
        ended = f"FAILED in {seconds}\n{problem}" if problem else f"done in {seconds}"
        with turn:
            if _interrupted.is_set():
                return
            tqdm.write(f"{run.name}: {ended}", file=sys.stderr)
            if problem:
                failed.add(run.name)
            elif end:
                end(run)
            if after:
                after(run)

    _each(attempt, runs, side_by_side)
    for run in runs:
        verdicts = ["  failed: no verdicts"] if run.name in failed else _verdicts(run.folder)
        if run.name in failed and results.read_metrics(run.folder):
            verdicts = [f"{verdicts[0]}; those of an earlier run stand in {run.folder}"]
        print("", run.name, *verdicts, sep="\n")
    print(f"\n{LEGEND}")
    return 1 if failed else 0


def _each(attempt: Callable[[Run], None], runs: list[Run], side_by_side: int) -> None:
    """Attempts the runs, so many at a time. An interrupt, or an error of ours, ends all of them."""
    asked = [run.values.get("n_jobs", 1) for run in runs]
    counts = [jobs.count(n) if isinstance(n, int) else 1 for n in asked]  # else a cluster's
    n_cores = max(counts, default=1)
    fit = int(psutil.virtual_memory().available / MEMORY) - n_cores
    at_a_time = min(side_by_side, len(runs), fit)
    if min(at_a_time, *counts) < 2:
        for run in runs:
            attempt(run)
        return
    # what has the most stages to go through one after the other would be the last to end
    by_stages = sorted(runs, key=lambda run: -_n_stages(run))
    with workers.shared(n_cores, jobs.ENVIRONMENT), ThreadPoolExecutor(at_a_time) as pool:
        attempts = [pool.submit(attempt, run) for run in by_stages]
        try:
            for ended in attempts:
                ended.result()
        except BaseException:
            _interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            while wait(attempts, timeout=0).not_done:
                for kernel in _kernels:
                    kernel.kill()
                wait(attempts, timeout=1)
            raise
        finally:
            _interrupted.clear()


def _n_stages(run: Run) -> int:
    return run.notebook.read_text(encoding="utf-8").count("record.stage(")


def _kernel_class(variables: dict[str, str]) -> type:
    """A kernel manager whose kernels see these variables: two side by side see different ones."""
    import jupyter_client

    manager: Any = jupyter_client.AsyncKernelManager

    class Kernel(manager):
        environment = variables

        async def start_kernel(self, **options: Any) -> None:
            await super().start_kernel(env=ONE_THREAD | os.environ | variables, **options)
            _kernels.add(self.provisioner.process)

    return Kernel


@cache
def _engine() -> str:
    """The name of papermill's engine, but that it writes the notebook at its start and end, and not
    before and after each cell, which then waits."""
    from papermill import engines

    client: Any = engines.NBClientEngine

    class Engine(client):
        @classmethod
        def execute_managed_notebook(cls, notebook: Any, *args: Any, **options: Any) -> None:
            path, notebook.output_path = notebook.output_path, None
            try:
                super().execute_managed_notebook(notebook, *args, **options)
            finally:
                notebook.output_path = path

    engines.papermill_engines.register("ded", Engine)
    return "ded"


def execute(run: Run, replace: bool = False) -> str:
    """Runs one notebook into its folder; the text of what went wrong, or "".

    All that it writes, and the executed notebook, is moved there when it is complete; of one that
    failed only <name>.failed.ipynb, beside the results of an earlier run. As failed counts one that
    ends where one of other parameters ended meanwhile, unless that is to be replaced.
    """
    files.without_iri_grammar()
    import nbformat
    import papermill

    # papermill's own check of parameters misreads annotated ones
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # asyncio's tells of the cell that an interrupt ended
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    notebook, file = run.notebook.relative_to(home()), f"{run.name}.ipynb"
    final, failed = run.folder / file, run.folder / f"{run.name}.failed.ipynb"
    start = params.defaults(notebook)
    changed = {k: v for k, v in run.values.items() if k in run.origins or v != start.get(k)}
    tqdm.write(f"{run.name}, into {run.folder}:", file=sys.stderr)
    problem = ""
    with folders.working(run.folder) as work:
        try:
            with _shown(run) as told:
                into = f"{work}/{file}"
                places = {results.WORK: os.path.abspath(work), progress.FOLDER: told}
                how = {"kernel_manager_class": _kernel_class(places), "stdout_file": _Echo(run)}
                how |= {"engine_name": _engine()}
                papermill.execute_notebook(notebook, into, changed, **how, **KERNEL)
        except papermill.PapermillExecutionError as error:
            problem = _excerpt(error, failed)
        except Exception as error:  # the kernel died, or did not start
            problem = f"  {type(error).__name__}: {error}"
        if _interrupted.is_set():
            return "interrupted"
        failed.unlink(missing_ok=True)
        executed = Path(work) / file
        if executed.is_file():
            document = nbformat.read(executed, as_version=4)
            _tidy(document, notebook, final)
            nbformat.write(document, executed)
        if not problem and not replace:  # another process may have ended there meanwhile
            problem = folders.taken(run.folder, run.values)
        if not problem:
            folders.publish(Path(work), run.folder)
        elif executed.is_file():
            executed.replace(failed)
    return problem


@contextmanager
def _shown(run: Run) -> Iterator[str]:
    """A bar of the jobs that the notebook is at, with what is under way behind it; the folder in
    which the notebook tells that."""
    about: dict[str, Any] = {"desc": run.name, "bar_format": BAR, "mininterval": 0, "delay": 0}

    def move(states: list[progress.State]) -> None:
        if at := next((state for state in states if state["unit"] == "job"), None):
            bar.total, bar.n = at["total"], at["n"]
        bar.set_postfix_str(progress.under_way(states))

    with (
        TemporaryDirectory(prefix="ded-progress-") as folder,
        progress.bar(total=1, **about) as bar,
        progress.watched(Path(folder), move),
    ):
        yield folder


class _Echo:
    """What a notebook prints, shown above the bar, and of two side by side which of them."""

    def __init__(self, run: Run) -> None:
        self.before = f"  {run.name[:2]} " if workers.DOOR in os.environ else "  "

    def write(self, text: str) -> None:
        for line in filter(str.strip, text.splitlines()):
            tqdm.write(f"{self.before}{line}", file=sys.stderr)

    def flush(self) -> None:
        pass


def _tidy(document: Any, notebook: Path, final: Path) -> None:
    """Takes out progress bars, which show 0 % without a kernel; names files as a reader does."""
    document.metadata.pop("widgets", None)
    document.metadata.papermill.update(input_path=notebook.as_posix(), output_path=final.as_posix())
    for cell in document.cells:
        if outputs := cell.get("outputs"):
            cell.outputs = [shown for shown in outputs if PROGRESS_BAR not in shown.get("data", {})]


def _excerpt(error: Any, kept: Path, n_lines: int = 14) -> str:
    """The failed cell, its exception and the end of its traceback: one screen."""
    head = f"  cell In [{error.exec_count}]: {error.ename}: {str(error.evalue)[:2000]}"
    if error.traceback == [str(error.evalue)]:  # one of ours, which says all by itself
        return head
    trace = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", "\n".join(error.traceback)).rstrip().splitlines()
    end = [f"  {line[:160]}" for line in trace[-n_lines:]]
    return "\n".join([head, "  ...", *end, f"  the whole of it: {kept}"])


def _verdicts(folder: Path) -> list[str]:
    """Each claim of a run: verdict and name, its differences in points, why, and which conditions
    are not the paper's; and how the run lies beside the reference.
    """
    metrics = results.read_metrics(folder)
    if metrics is None:
        return ["  wrote no metrics.json"]
    lines = []
    for outside, claims in groupby(metrics["claims"], lambda claim: claim.get("outside")):
        for claim in claims:
            lines.append(f"  {claim['verdict']:<15} {claim['name']}")
            for text in filter(None, (wording.differences(claim), wording.why(claim))):
                lines += _wrapped(text, 18)
        lines += _wrapped(outside or "", 18)  # once, below those that it is about
    for text in metrics["metrics"].get("replay", "").splitlines():
        lines += _wrapped(text, 2)
    return lines


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=" " * indent, subsequent_indent=" " * indent)
