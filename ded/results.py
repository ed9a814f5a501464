"""What a notebook leaves behind: figures, tables, metrics.json and manifest.json.

Each file is written whole or not at all. metrics.json holds numbers, intervals and verdicts and
nothing else, so that the same parameters give the same bytes; what differs from run to run (wall
times, commit, machine) is in the manifest beside it. Whatever is recorded again under its name
takes the place of what was there, so that a cell can be run again. An earlier run's files stand
until `finish`, and a finished run of other parameters beyond it (`ded.folders`).

    record = Recorder(params.out_dir, "01_teacher_selection", params)
    with record.stage("generation") as stage: stage.tokens = ...
    record.figure("headline", figure)
    record.table("scores", frame)
    record.metric("own", {...})
    record.claim(claim)
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
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ded import __version__, files, folders, home, jobs, spent, store
from ded.errors import ParameterError, ReportError
from ded.params import whole
from ded.params.schemas import Common
from ded.wording import VERDICTS

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image
    from matplotlib.figure import Figure

    from ded.stats import Claim

SCHEMA = 2  # of metrics.json: one more when a key changes its meaning or goes, not when one comes
NO_CODE = (":(exclude)outputs", ":(exclude)README.md")  # what runs write, and what is made of that
WORK = "DED_RESULTS"  # names the folder within the run's to write to, of whoever then moves all
DPI = 150  # of recorded figures


@dataclasses.dataclass
class Stage:
    """Wall time in seconds and tokens of one stage; `tokens` is the notebook's to set."""

    seconds: float = 0.0
    tokens: int = 0


class Recorder:
    """Collects one notebook's results and writes them to its folder.

    `folder` is a path or "" (see `ded.folders.place`), `params` what `ded.params.check` returned,
    or a mapping. ParameterError where a finished run of other parameters lies there. The commit is
    the one at this moment, when the run starts.
    """

    def __init__(self, folder: str | Path, notebook: str, params: Common | Mapping[str, Any]):
        self.params = dict(params) if isinstance(params, Mapping) else params.model_dump()
        self.notebook, self._out_dir = notebook, str(folder)
        self.folder = self._free()
        self._work: tempfile.TemporaryDirectory | None = None
        files.check_writable(self.folder, "out_dir")
        store.check()
        if WORK not in os.environ:
            print(f"results: {files.shown(self.folder)}")
        self.claims: dict[str, dict] = {}
        self.metrics: dict[str, Any] = {}
        self.stages: dict[str, Stage] = {}
        self.fingerprints: dict[str, dict[str, str]] = {"models": {}, "data": {}}
        self._exploratory = whole.joined(notebook, self.params)
        self.files: set[str] = set()
        self.commit = commit()
        # what the folder of the preset's runs is called: lab, lab+seed=2
        label = self.params.get("preset", "default") if folder else self.folder.parent.name
        store.note_run(label, notebook, _plain(self.params))
        self._started = time.time()
        if WORK in os.environ:  # its process is there for this run alone
            self._started = psutil.Process().create_time()
        spent.begin()
        show_figures()

    @spent.on("draw")
    def figure(self, name: str, figure: Figure) -> Image:
        """Saves <name>.png (of DPI) and <name>.svg, the same bytes each time; returns the former
        for display, as wide as the figure: to draw it again would take as long."""
        import matplotlib
        from IPython.display import Image

        style = {"svg.hashsalt": name, "svg.fonttype": "none"}
        without = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
        # measured once: asked for "tight", matplotlib draws the figure for each format before
        box = figure.get_tightbbox().padded(0.1)
        with matplotlib.rc_context(style):
            for kind, metadata in without.items():
                with self._replacing(f"{name}.{kind}") as file:
                    figure.savefig(file, format=kind, dpi=DPI, bbox_inches=box, metadata=metadata)
        width = round(figure.get_figwidth() * figure.dpi)
        return Image(str(self._beside() / f"{name}.png"), width=width)

    def table(self, name: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Saves <name>.csv, without the index; returns the table for display.

        Of scores it notes the share that a judge decided, for metrics.json and the claims.
        """
        with self._replacing(f"{name}.csv") as file:
            frame.to_csv(file, index=False, lineterminator="\n")
        if {"judged", "n"} <= set(frame):
            self.metric("judged", frame["judged"].sum() / frame["n"].sum())
        return frame

    def metric(self, name: str, value: Any) -> None:
        """A number, or nested dicts and lists of numbers and texts, for metrics.json."""
        self.metrics[name] = _plain(value)

    def claim(self, claim: Claim | Mapping[str, Any]) -> Claim | Mapping[str, Any]:
        """A claim with its name and its verdict, one of VERDICTS, for metrics.json; returns it, not
        judged where the run is exploratory (`whole.joined`).
        """
        if self.metrics.get("judged"):
            claim = _noted(claim, f"a judge decided {self.metrics['judged']:.1%} of the answers")
        if self._exploratory:
            claim = _noted(claim, self._exploratory, verdict="not judged")
        record = _plain(claim)
        name, verdict = record.get("name"), record.get("verdict")
        if verdict not in VERDICTS:
            raise ValueError(f"claim {name!r}: verdict {verdict!r}; allowed: {', '.join(VERDICTS)}")
        self.claims[name] = record
        return claim

    def model(self, name: str, fingerprint: str) -> None:
        """The revision or content hash of a model that was used, for the manifest."""
        self.fingerprints["models"][name] = fingerprint

    def data(self, name: str, fingerprint: str) -> None:
        """The revision or content hash of a set of problems that was used, for the manifest."""
        self.fingerprints["data"][name] = fingerprint

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Times a stage and prints a line at its end. Entered again under its name, its seconds add
        up and its tokens, the same ones, are counted anew.
        """
        stage, started = self.stages.setdefault(name, Stage()), time.perf_counter()
        stage.tokens = 0
        yield stage
        seconds = time.perf_counter() - started
        stage.seconds = round(stage.seconds + seconds, 2)
        new = f", {stage.tokens:,} tokens" if stage.tokens else ""
        print(f"{name}: {seconds:.1f} s{new}", flush=True)

    def finish(self) -> Path:
        """Writes manifest.json and metrics.json, and moves all files to their folder, in the place
        of an earlier run's; returns the latter's path.
        """
        if work := spent.work_so_far():  # by workers, perhaps: see `hardware`
            import torch  # noqa: F401
        manifest = {
            "notebook": self.notebook,
            "params": self.params,
            "seeds": {key: value for key, value in self.params.items() if "seed" in key},
            **self.fingerprints,
            "ded": __version__,
            "commit": self.commit,
            "python": platform.python_version(),
            "packages": _versions(),
            "hardware": hardware(),
            "stages": self.stages,
            "wall_seconds": round(time.time() - self._started, 2),
            "core_seconds": spent.so_far(),
            "work": work,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "files": sorted(self.files),
        }
        run = {"schema": SCHEMA, "notebook": self.notebook, "preset": self.params.get("preset")}
        results = run | {"claims": list(self.claims.values()), "metrics": self.metrics}
        for name, content in (("manifest.json", manifest), ("metrics.json", results)):
            text = json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False)
            files.write_text(self._beside() / name, text + "\n")
        store.end_run()
        if WORK not in os.environ:
            self.folder = self._free()  # another run may have ended there meanwhile
            folders.publish(self._beside(), self.folder)
            self._work = None
        return self.folder / "metrics.json"

    def _free(self) -> Path:
        """The folder of this run; ParameterError where a finished one of other parameters lies."""
        if WORK in os.environ:
            return Path(os.environ[WORK]).parent
        folder = folders.place(self.params | {"out_dir": self._out_dir}, self.notebook)
        if other := folders.taken(folder, self.params):
            raise ParameterError(f"{other}; name another out_dir, or remove that folder")
        return folder

    def _beside(self) -> Path:
        """Where files are written until the run is complete."""
        if WORK in os.environ:
            return Path(os.environ[WORK])
        self._work = self._work or folders.working(self.folder)
        return Path(self._work.name)

    @contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        """A temporary path that becomes folder/name when its writer has ended without an error."""
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"{name!r} is no plain file name")
        with files.replacing(self._beside() / name) as work:
            yield work
        self.files.add(name)


def read_metrics(folder: Path) -> dict | None:
    """The metrics.json of a run, or None where the run is not complete.

    One without a schema is of the first. ReportError for one that a newer ded wrote.
    """
    folders.settle(folder)
    file = folder / "metrics.json"
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if metrics.get("schema", 1) > SCHEMA:
        problem = f"{file} is of schema {metrics['schema']}; ded {__version__} reads up to {SCHEMA}"
        raise ReportError(f"{problem}: read it with the ded that wrote it, or a newer one")
    return metrics


def not_there(folder: Path, notebook: str = "") -> str:
    """What to do about results that are not in `folder`, outputs/<preset>: all, or a notebook's."""
    whose = f" of notebook {notebook[:2]}" if notebook else ""
    command = f"run {notebook[:2]}" if notebook else "reproduce"
    mend = f"to make them: ded {command} --preset {folder.name.partition('+')[0]}"
    return f"no results{whose} in {files.shown(folder)}; {mend}"


def finished_at(folder: Path) -> str:
    """When the run that lies in a folder was complete, 2026-01-31 12:00 (UTC); "" without one."""
    if read_metrics(folder) is None:
        return ""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest["finished"][:16].replace("T", " ")


def show_figures() -> None:
    """In a kernel: figures show as images, and tables with their texts in full.

    IPython sees to the first only where pyplot is imported, and ours are not pyplot's.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        import pandas as pd
        from IPython.core.pylabtools import select_figure_formats

        pd.set_option("display.max_colwidth", None)
        select_figure_formats(shell, {"png"}, bbox_inches="tight")


def _noted(claim: Any, note: str, **changes: str) -> Any:
    """The claim with one more note, and with these changes."""
    fields = claim if isinstance(claim, Mapping) else vars(claim)
    note = "; ".join(filter(None, (fields.get("note"), note)))
    if isinstance(claim, Mapping):
        return {**claim, "note": note, **changes}
    return dataclasses.replace(claim, note=note, **changes)


def _plain(value: Any) -> Any:
    """The value in strict JSON's terms: numpy and pandas as Python values, NaN and infinities as
    null, a dataclass by its to_dict or its fields, a DataFrame as a list of rows."""
    if hasattr(value, "to_dict"):
        value = value.to_dict("records") if hasattr(value, "columns") else value.to_dict()
    elif dataclasses.is_dataclass(value):
        value = vars(value)
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be recorded: {value!r:.80}")


def _key(key: Any) -> str:
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)


def commit() -> str | None:
    """The repository's commit, with '+changes' where files are `uncommitted`; None outside one."""
    head = git("rev-parse", "--verify", "HEAD")
    return (head + "+changes" if uncommitted() else head) or None


def uncommitted() -> list[str]:
    """Tracked files that differ from the commit, but for `NO_CODE`."""
    return git("diff", "--name-only", "HEAD", "--", ".", *NO_CODE).splitlines()


def git(*arguments: str) -> str:
    """What a command of git prints in the repository; "" where it fails or there is none."""
    command = ["git", "-C", str(home()), *arguments]
    with suppress(OSError):  # no git
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""


def _versions() -> dict[str, str]:
    """The version of each installed package that pyproject.toml names, but for the developers'."""
    versions: dict[str, str] = {}
    with suppress(PackageNotFoundError):  # ded itself: sources that are not installed
        for requirement in requires("ded") or ():
            if 'extra == "dev"' in requirement:
                continue
            name = re.split(r"[^\w.-]", requirement)[0]
            with suppress(PackageNotFoundError):  # of an extra
                versions[name] = version(name)
    return versions


def hardware() -> dict[str, Any]:
    """What the work is done on: system, cpu, cores, memory_gib, gpus (their names)."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    cpus = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text() if cpuinfo.exists() else "")
    torch: Any = sys.modules.get("torch")  # where nothing has imported it, nothing has used a GPU
    gpus = range(torch.cuda.device_count()) if torch else ()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpus[0] if cpus else platform.processor() or platform.machine(),
        "cores": jobs.count(0),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
    }
