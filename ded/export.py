"""The curated corpus as a Hugging Face data set directory, the student as a model directory.

Each comes with a card that says how it came about.

    about = facts(folder)  # of outputs/<preset>/<notebook>
    corpus(recorded_corpus(folder), about, Path("my-corpus"))
    student(about["metrics"]["student"], about, Path("my-student"))

What is written is read back by `datasets.load_dataset(out)` and
`AutoModelForCausalLM.from_pretrained(out)`.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import TemplateError

from ded import files, models, problems, results, training
from ded.errors import ExportError, ModelError, SourceError
from ded.problems import texts
from ded.report.tables import TABLES, funnel_table, table

NUMBERS = ("sample_index", "n_tokens", "replicate", "level", "pass_rate")
# of one machine's run, or what the text says already
UNPUBLISHED = ("token_ids", "logprobs", "entropy_sum", "missing_mass", "engine")


def facts(folder: Path) -> dict[str, Any]:
    """What a notebook recorded of itself, for the cards.

    Its manifest, its metrics, and as tables (or None) `scores`, its summary, and `funnel`.
    ExportError where the run is not complete.
    """
    metrics = results.read_metrics(folder)
    if metrics is None:
        raise ExportError(results.not_there(folder.parent, folder.name))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    summary, funnel = folder / "summary.csv", folder / "funnel.csv"
    return manifest | {
        "metrics": metrics["metrics"],
        "scores": table(pd.read_csv(summary), **TABLES["summary"]) if summary.is_file() else None,
        "funnel": funnel_table(funnel) if funnel.is_file() else None,
    }


def recorded_corpus(folder: Path) -> pd.DataFrame:
    """The corpus that a notebook recorded as corpus_ded.csv: texts as they were, whatever they look
    like. ExportError without one."""
    file = folder / "corpus_ded.csv"
    if not file.is_file():
        raise ExportError(f"no corpus to export: {file} is not there; notebook 04 records one")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    for column in table.columns.intersection(NUMBERS):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    return table


def corpus(table: pd.DataFrame, about: Mapping[str, Any], out: Path) -> Path:
    """Writes data/train.parquet and README.md into `out`, a new folder; returns it.

    table: trajectories with at least problem_id, prompt and text; a column `messages` (user,
    assistant) is added, `UNPUBLISHED` ones are left out. Where a student's chat template would take
    the thinking out of `messages`, the texts that it was trained on are added: `prompt` (rendered)
    and `completion`; the question is then in `question`. about: as `facts` gives it. Raises
    ExportError for an empty corpus, and for one with questions that must not be published
    (`Problem.meta["hide"]`), which it names.
    """
    lacking = [column for column in ("problem_id", "prompt", "text") if column not in table]
    if lacking or table.empty:
        raise ExportError(f"nothing to export: the corpus has no {', '.join(lacking) or 'rows'}")
    named = (about["params"]["corpus_source"], about["params"].get("code_source"))
    sources = list(dict.fromkeys(filter(None, named)))
    _refuse_hidden(sources, set(table["problem_id"]))
    rows = table.drop(columns=table.columns.intersection(UNPUBLISHED))
    rows["messages"] = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
        for prompt, text in zip(rows["prompt"], rows["text"], strict=True)
    ]
    loses = next((s for s in about["params"].get("students", []) if _loses(s, rows)), "")
    if loses:
        pairs = zip(rows["prompt"], rows["text"], strict=True)
        trained = [training.trained_texts(loses, prompt, text) for prompt, text in pairs]
        end = models.load_tokenizer(loses).eos_token
        rows = rows.rename(columns={"prompt": "question"})
        rows["prompt"] = [prompt for prompt, _ in trained]
        rows["completion"] = [f"{completion}{end}" for _, completion in trained]
    file = Path("data", "train.parquet")
    with _new_folder(out) as work:
        (work / file).parent.mkdir()
        rows.to_parquet(work / file, index=False)
        _write_card(
            work,
            "corpus_card.md.j2",
            about,
            corpus=rows,
            loses=loses,
            file=file,
            own=_all_own([*sources, *about["models"]]),
            licences={source: problems.source(source).licence for source in sources},
        )
    return out


def _loses(student: str, rows: pd.DataFrame) -> bool:
    """Whether a student's chat template takes the thinking out of `messages`, as R1-Distill's does,
    or refuses them; False where the student cannot be asked."""
    with suppress(ModelError):
        tok = models.load_tokenizer(student)
        for messages, text in zip(rows["messages"], rows["text"], strict=True):
            try:
                rendered = tok.apply_chat_template(messages, tokenize=False)
            except TemplateError:
                return True
            if (texts.split(text).thinking or "") not in rendered:
                return True
    return False


def student(spec: str, about: Mapping[str, Any], out: Path) -> Path:
    """Copies the model `spec`, a checkpoint on this machine, into `out`, a new folder, with a card.

    Returns `out`. The student's base is the recorded metric `student_base`. ModelError where the
    model is not in the store.
    """
    folder, base = Path(models.locate(spec)), about["metrics"]["student_base"]
    with _new_folder(out) as work:
        not_entry = shutil.ignore_patterns("entry.json")
        shutil.copytree(folder, work, dirs_exist_ok=True, ignore=not_entry)
        _write_card(
            work,
            "student_card.md.j2",
            about,
            spec=spec,
            base=base,
            base_model=models.parse(base).name if base.startswith("hf:") else "",
            own=_all_own(about["models"]),
            record=json.loads((folder / "training.json").read_text(encoding="utf-8")),
        )
    return out


def _write_card(folder: Path, template: str, about: Mapping[str, Any], **content: Any) -> None:
    """README.md, with the hub's metadata above the text."""
    from jinja2 import Environment, FileSystemLoader

    templates = Environment(loader=FileSystemLoader(Path(__file__).parent))
    text = templates.get_template(template).render(about=about, **content)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _all_own(names: Iterable[str]) -> bool:
    """Whether all sources and models are the lab's, and so under this package's licence."""
    return all(name.startswith("lab:") for name in names)


def _refuse_hidden(sources: list[str], ids: set[str]) -> None:
    """ExportError where a finite source says that questions of these ids are not to be shown; those
    made from a seed never are."""
    for source in sources:
        if problems.source(source).procedural:
            continue
        try:
            questions = problems.load(source, 0, "train", "")
        except SourceError:  # a benchmark, or a file without that split
            questions = problems.load(source, 0, "test", "")
        hidden = sorted(q.id for q in questions if q.id in ids and q.meta.get("hide"))
        if hidden:
            what = f"{len(hidden)} of its questions in this corpus must not be published"
            raise ExportError(f"{source!r}: {what}, {hidden[0]} first")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when its writer has ended without an error."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is there already: name a new folder, or remove it")
    with files.replacing(out.absolute()) as work:
        work.mkdir(parents=True)
        yield work
