"""The curated corpus as a Hugging Face data set directory, the student as a model directory, each with a card that says how it came about.

    about = facts(folder)                                 # of outputs/<preset>/<notebook>
    corpus(recorded_corpus(folder), funnel_table(folder / "funnel.csv"), about, Path("my-corpus"))
    student(about["metrics"]["student"], about, Path("my-student"))

What is written is read back by `datasets.load_dataset(out)` and `AutoModelForCausalLM.from_pretrained(out)`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ded import models, results
from ded.errors import ExportError

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("sample_index", "n_tokens", "replicate", "level", "pass_rate")
UNPUBLISHED = (
    "token_ids",
    "logprobs",
    "entropy_sum",
    "missing_mass",
    "engine",
)  # of one machine's run, or what the text says already
SIZES = {
    "n<1K": 1e3,
    "1K<n<10K": 1e4,
    "10K<n<100K": 1e5,
    "100K<n<1M": 1e6,
    "n>1M": float("inf"),
}  # the hub's names


def facts(folder: Path) -> dict[str, Any]:
    """What a notebook recorded of itself, for the cards: its manifest, its metrics, and `scores`, its summary table (or None)."""
    from ded.report import TABLES, score_table

    folder = Path(folder)
    metrics, summary = results.read_metrics(folder), folder / "summary.csv"
    if metrics is None:
        raise ExportError(
            f"{folder} holds no complete run (no metrics.json): run the notebook first"
        )
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest | {
        "metrics": metrics["metrics"],
        "scores": score_table(summary, TABLES["summary"]) if summary.is_file() else None,
    }


def recorded_corpus(folder: Path, name: str = "corpus_ded") -> pd.DataFrame:
    """The corpus that a notebook recorded as <name>.csv: texts as they were, whatever they look like. ExportError without one."""
    import pandas as pd

    file = Path(folder) / f"{name}.csv"
    if not file.is_file():
        raise ExportError(
            f"no corpus to export: {file} is not there; of the notebooks, 04 records one"
        )
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return table.assign(
        **{c: pd.to_numeric(table[c], errors="coerce") for c in NUMBERS if c in table}
    )


def corpus(
    table: pd.DataFrame, funnel: Mapping[str, Any] | None, about: Mapping[str, Any], out: Path
) -> Path:
    """Writes data/train.parquet and README.md into `out`, a new folder; returns it.

    table: trajectories with at least problem_id, prompt and text; a column `messages` (user, assistant) is added, `UNPUBLISHED` ones are
    left out. funnel: as `ded.report.funnel_table` gives it. about: as `facts` gives it. Raises ExportError for an empty corpus, and for
    one with questions that must not be published (`Problem.meta["hide"]`), which it names.
    """
    if lacking := [c for c in ("problem_id", "prompt", "text") if c not in table] or (
        ["rows"] if table.empty else []
    ):
        raise ExportError(f"the corpus has no {', '.join(lacking)}: there is nothing to export")
    named = [
        v
        for k, v in about["params"].items()
        if "source" in k and not k.startswith(("id_", "ood_", "eval_", "code_id_"))
    ]
    sources = list(
        dict.fromkeys(
            s for value in named for s in (value if isinstance(value, list) else [value]) if s
        )
    )
    _refuse_hidden(sources, set(table["problem_id"]))
    rows = table.drop(columns=[c for c in UNPUBLISHED if c in table])
    rows["messages"] = [
        [{"role": "user", "content": p}, {"role": "assistant", "content": t}]
        for p, t in zip(rows["prompt"], rows["text"])
    ]
    own = all(name.startswith("lab:") for name in [*sources, *about["models"]])
    front = {
        "license": "apache-2.0" if own else "other",
        "task_categories": ["text-generation"],
        "language": ["en"],
        "tags": ["reasoning", "distillation", "chain-of-thought"],
        "size_categories": [next(s for s, most in SIZES.items() if len(rows) < most)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train.parquet"}],
            }
        ],
    }
    with _new_folder(out) as work:
        (work / "data").mkdir()
        rows.to_parquet(work / "data" / "train.parquet", index=False)
        _card(
            work,
            front,
            about,
            kind="corpus",
            rows=len(rows),
            questions=rows["problem_id"].nunique(),
            funnel=funnel,
            own=own,
            columns=[c for c in rows if c not in ("prompt", "text", "messages")],
            sources={s: _licence(s) for s in sources},
        )
    return Path(out)


def student(spec: str, about: Mapping[str, Any], out: Path) -> Path:
    """Copies the model `spec`, a checkpoint on this machine, into `out`, a new folder, with a model card; returns it. Its base is the
    recorded metric `student_base`, else one of the run's students."""
    folder = Path(models.locate(spec))
    if not folder.is_dir():
        raise ExportError(
            f"{spec!r} is no checkpoint on this machine: only a student that was trained here can be exported"
        )
    record = (
        json.loads((folder / "training.json").read_text(encoding="utf-8"))
        if (folder / "training.json").is_file()
        else {}
    )
    base, own = (
        about["metrics"].get("student_base"),
        all(name.startswith("lab:") for name in about["models"]),
    )
    front = {
        "license": "apache-2.0" if own else "other",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["reasoning", "distillation", "sft"],
    }
    bases = [base] if base else about["params"].get("students", [])
    if len(bases) == 1 and bases[0].startswith("hf:"):
        front["base_model"] = models.parse(bases[0])[1]
    with _new_folder(out) as work:
        shutil.copytree(
            folder, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("entry.json")
        )
        _card(work, front, about, kind="student", spec=spec, bases=bases, record=record)
    return Path(out)


def _card(work: Path, front: dict, about: Mapping[str, Any], **more: Any) -> None:
    import yaml
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = lambda value: " ".join(str(value).replace("|", "\\|").split())
    text = environment.get_template("card.md.j2").render(
        front=yaml.safe_dump(front, sort_keys=False), about=about, **more
    )
    (work / "README.md").write_text(text + "\n", encoding="utf-8")


def _licence(source: str) -> str:
    from ded import problems

    return problems.source(source).licence


def _refuse_hidden(sources: list[str], ids: set[str]) -> None:
    """ExportError where a finite source says that questions of these ids are not to be shown; those made from a seed never are."""
    from ded import problems

    for source in sources:
        if problems.procedural(source):
            continue
        try:
            found = problems.load(source, 0, "train", "")
        except problems.SourceError:  # a benchmark, or a file without that split
            found = problems.load(source, 0, "test", "")
        if hidden := sorted(p.id for p in found if p.meta.get("hide") and p.id in ids):
            raise ExportError(
                f"{source!r}: {len(hidden)} of its questions in this corpus must not be published, {hidden[0]} first"
            )


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when its writer has ended without an error."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is there already: name a new folder, or remove it")
    work = out.absolute().with_name(f".{out.name}.{os.getpid()}")
    work.mkdir(parents=True)
    try:
        yield work
        os.replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
