"""The curated corpus as a Hugging Face data set directory, the student as a model directory.

Each comes with a card that says how it came about.

    about = facts(folder)                                 # of outputs/<preset>/<notebook>
    funnel = funnel_table(folder / "funnel.csv")
    corpus(recorded_corpus(folder), funnel, about, Path("my-corpus"))
    student(about["metrics"]["student"], about, Path("my-student"))

What is written is read back by `datasets.load_dataset(out)` and
`AutoModelForCausalLM.from_pretrained(out)`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from ded import models, problems, results
from ded.errors import ExportError, SourceError
from ded.report import TABLES, Table, score_table

NUMBERS = ("sample_index", "n_tokens", "replicate", "level", "pass_rate")
# of one machine's run, or what the text says already
UNPUBLISHED = ("token_ids", "logprobs", "entropy_sum", "missing_mass", "engine")
# where the hub's size categories end
SIZES = {1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M", math.inf: "n>1M"}
# how the parameters begin that name a source of questions to evaluate on
EVALUATED = ("id_", "ood_", "eval_", "code_id_")
PAPER = (
    "Wu et al., *Beyond Scaling Law: A Data-Efficient Distillation Framework for Reasoning*, "
    "arXiv 2508.09883"
)


def facts(folder: Path) -> dict[str, Any]:
    """What a notebook recorded of itself, for the cards.

    Its manifest, its metrics, and `scores`, its summary table (or None). ExportError where the run
    is not complete.
    """
    folder = Path(folder)
    metrics, summary = results.read_metrics(folder), folder / "summary.csv"
    if metrics is None:
        raise ExportError(
            f"{folder} holds no complete run (no metrics.json): run the notebook first"
        )
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    scores = score_table(summary, TABLES["findings"]["summary"]) if summary.is_file() else None
    return manifest | {"metrics": metrics["metrics"], "scores": scores}


def recorded_corpus(folder: Path, name: str = "corpus_ded") -> pd.DataFrame:
    """The corpus that a notebook recorded as <name>.csv: texts as they were, whatever they look
    like. ExportError without one."""
    file = Path(folder) / f"{name}.csv"
    if not file.is_file():
        raise ExportError(
            f"no corpus to export: {file} is not there; of the notebooks, 04 records one"
        )
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    for column in table.columns.intersection(NUMBERS):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    return table


def corpus(table: pd.DataFrame, funnel: Table | None, about: Mapping[str, Any], out: Path) -> Path:
    """Writes data/train.parquet and README.md into `out`, a new folder; returns it.

    table: trajectories with at least problem_id, prompt and text; a column `messages` (user,
    assistant) is added, `UNPUBLISHED` ones are left out. funnel: as `ded.report.funnel_table` gives
    it. about: as `facts` gives it. Raises ExportError for an empty corpus, and for one with
    questions that must not be published (`Problem.meta["hide"]`), which it names.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    lacking = [column for column in ("problem_id", "prompt", "text") if column not in table]
    if lacking or table.empty:
        raise ExportError(
            f"the corpus has no {', '.join(lacking) or 'rows'}: there is nothing to export"
        )
    sources = _corpus_sources(about["params"])
    _refuse_hidden(sources, set(table["problem_id"]))
    rows = table.drop(columns=table.columns.intersection(UNPUBLISHED))
    rows["messages"] = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
        for prompt, text in zip(rows["prompt"], rows["text"], strict=True)
    ]
    own = _all_own([*sources, *about["models"]])
    file = "data/train.parquet"
    card = DatasetCard.from_template(
        DatasetCardData(
            license="apache-2.0" if own else "other",
            task_categories=["text-generation"],
            language=["en"],
            tags=["reasoning", "distillation", "chain-of-thought"],
            size_categories=[next(name for end, name in SIZES.items() if len(rows) < end)],
            configs=[
                {"config_name": "default", "data_files": [{"split": "train", "path": file}]},
            ],
        ),
        template_path=str(Path(__file__).with_name("corpus_card.md.j2")),
        n_rows=len(rows),
        n_questions=rows["problem_id"].nunique(),
        columns=rows.columns.drop(["prompt", "text", "messages"]),
        funnel=funnel,
        own=own,
        licences={source: problems.source(source).licence for source in sources},
        made_by=_made_by(about),
        origin=_origin(about),
    )
    with _new_folder(out) as work:
        (work / file).parent.mkdir()
        rows.to_parquet(work / file, index=False)
        card.save(work / "README.md")
    return Path(out)


def student(spec: str, about: Mapping[str, Any], out: Path) -> Path:
    """Copies the model `spec`, a checkpoint on this machine, into `out`, a new folder, with a card.

    Returns `out`. The student's base is the recorded metric `student_base`, else one of the run's
    students. ExportError for a model that was not trained here.
    """
    from huggingface_hub import ModelCard, ModelCardData

    folder = Path(models.locate(spec))
    if not folder.is_dir():
        raise ExportError(
            f"{spec!r} is no checkpoint on this machine: "
            "only a student that was trained here can be exported"
        )
    record = folder / "training.json"
    base = about["metrics"].get("student_base")
    bases = [base] if base else about["params"].get("students", [])
    on_hub = len(bases) == 1 and bases[0].startswith("hf:")
    card = ModelCard.from_template(
        ModelCardData(
            license="apache-2.0" if _all_own(about["models"]) else "other",
            library_name="transformers",
            pipeline_tag="text-generation",
            tags=["reasoning", "distillation", "sft"],
            base_model=models.parse(bases[0]).name if on_hub else None,
        ),
        template_path=str(Path(__file__).with_name("student_card.md.j2")),
        spec=spec,
        bases=bases,
        record=json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {},
        about=about,
        made_by=_made_by(about),
        origin=_origin(about),
    )
    with _new_folder(out) as work:
        not_entry = shutil.ignore_patterns("entry.json")
        shutil.copytree(folder, work, dirs_exist_ok=True, ignore=not_entry)
        card.save(work / "README.md")
    return Path(out)


def _made_by(about: Mapping[str, Any]) -> str:
    preset, commit = about["params"]["preset"], about["commit"]
    run = f"notebook `{about['notebook']}`, preset `{preset}`, commit `{commit}`"
    return f"`ded` {about['ded']} ({run}), after {PAPER}"


def _origin(about: Mapping[str, Any]) -> str:
    """The two last sections of both cards."""
    model_lines = [f"- `{name}`: content `{content}`" for name, content in about["models"].items()]
    param_lines = [f"- {name}: `{value}`" for name, value in about["params"].items()]
    return "\n".join(["## Models", "", *model_lines, "", "## Parameters", "", *param_lines])


def _corpus_sources(params: Mapping[str, Any]) -> list[str]:
    """The sources that a run's parameters name for its corpus, each once."""
    sources: list[str] = []
    for key, value in params.items():
        if "source" in key and not key.startswith(EVALUATED):
            sources += value if isinstance(value, list) else [value]
    return list(dict.fromkeys(source for source in sources if source))


def _all_own(names: Iterable[str]) -> bool:
    """Whether all sources and models are the lab's, and so under this package's licence."""
    return all(name.startswith("lab:") for name in names)


def _refuse_hidden(sources: list[str], ids: set[str]) -> None:
    """ExportError where a finite source says that questions of these ids are not to be shown; those
    made from a seed never are."""
    for source in sources:
        if problems.procedural(source):
            continue
        try:
            questions = problems.load(source, 0, "train", "")
        except SourceError:  # a benchmark, or a file without that split
            questions = problems.load(source, 0, "test", "")
        kept = [question for question in questions if question.id in ids]
        hidden = sorted(question.id for question in kept if question.meta.get("hide"))
        if hidden:
            raise ExportError(
                f"{source!r}: {len(hidden)} of its questions in this corpus must not be published, "
                f"{hidden[0]} first"
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
