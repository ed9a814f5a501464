"""A model's pass@1 on a problem source, with its interval and its settings, beside published ones.

    scores, samples = run("lab:student_1", "lab:sum/7-9", samples=4, limit=100)

scores: one row a (model, benchmark, group), group "all" first: metric, value with low and high
  (shares, 95 % interval), n (questions), samples (a question), the count of each verdict, pass@2,
  pass@4, ..., n_tokens (mean), note (why a number is not to be judged), settings (a dict:
  everything that makes the number what it is). What was not measured is nan.
samples: one row a (benchmark, question, seed): group, value (1, 0, nan for a failure of the
  grader), verdict, n_tokens. No texts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ded import __version__, evaluation, generation, grading, jobs, models, problems
from ded.benchmarks.published import beside, markdown, published
from ded.benchmarks.record import SAMPLES, read, save
from ded.benchmarks.scores import compare, summarise
from ded.errors import BenchmarkError
from ded.models.spec import WITHOUT_WEIGHTS
from ded.options import Engine

if TYPE_CHECKING:
    import pandas as pd

    from ded.problems import Problem

LONGEST = 32_768  # tokens of an answer, unless the model's context ends before


def run(
    model: str,
    source: str,
    *,
    samples: int = 4,
    limit: int = 0,
    split: str = "test",
    max_tokens: int = 0,
    temperature: float = 0.6,
    top_p: float = 0.95,
    seed: int = 0,
    engine: Engine = Engine(),
    isolation: str = "bubblewrap",
    workers: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, samples) of a model on a problem source: `samples` answers a question, each graded.

    limit: this many questions, the same for every model; 0 is all that the source has. max_tokens:
    0 is the model's context, at most LONGEST. workers: processes of the grader, 0 one a core.
    Answers and verdicts are stored: of a run with more samples, only those that are new are drawn.
    Raises ModelError, SourceError and BenchmarkError before any work.
    """
    identity = generation.identity(model, engine)
    questions = problems.load(source, limit, split, "benchmark")
    if not questions:
        raise BenchmarkError(f"source {source!r} has no end: give a limit, the number of questions")
    sampling = {
        "max_tokens": max_tokens or _context(model),
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
    }
    table = evaluation.per_question(
        model,
        {name_of(source): questions},
        samples=samples,
        workers=jobs.count(workers),
        isolation=isolation,
        engine=engine,
        **sampling,
    ).rename(columns={"family": "benchmark"})
    table["group"] = table["question"].map({q.id: _group(q) for q in questions})
    settings = {
        "source": _without_folders(source),
        "split": split,
        **_about(questions),
        "chat_template": _chat_template(model),
        "samples": samples,
        **sampling,
        "engine": engine.model_dump(exclude_defaults=True),
        "grader": {"version": grading.VERSION, "isolation": isolation},
        "ded": __version__,
        "model": identity,
    }
    return summarise(table[SAMPLES], model, settings), table[SAMPLES]


def name_of(source: str) -> str:
    """What a source is called in the tables: "aime_2024" for "data:aime_2024@copy.jsonl"; options
    are part of it, folders are not."""
    kind, _, rest = source.partition(":")
    if kind == "data":
        return re.sub(r"^([^?@]*)@[^?]*", r"\1", rest)
    return f"file:{Path(rest).name}" if kind == "file" else source


def _group(question: Problem) -> str:
    level = f"level {question.level}" if question.level else ""
    return str(question.meta.get("group") or level)


def _about(questions: list[Problem]) -> dict[str, Any]:
    """What identifies the questions, without their texts."""
    dates = sorted(str(q.meta["date"])[:10] for q in questions if q.meta.get("date"))
    return {
        "problems": problems.fingerprint(questions),
        "n_problems": len(questions),
        "dates": [dates[0], dates[-1]] if dates else None,
        "prompt": sorted({str(q.meta.get("template") or q.kind) for q in questions}),
    }


def _without_folders(source: str) -> str:
    if not source.startswith(("data:", "file:")):
        return source
    return re.sub(r"([@:])[^?@]*/", r"\1", source)


def _chat_template(model: str) -> str | None:
    """The template's hash; what an endpoint does to a prompt is not ours to know."""
    if models.parse(model).kind in WITHOUT_WEIGHTS:
        return None
    template = models.load_tokenizer(model).chat_template
    return f"{problems.content_hash(str(template)):016x}" if template else None


def _context(model: str) -> int:
    """Tokens of the longest answer that is asked for."""
    spec = models.parse(model)
    if spec.kind in WITHOUT_WEIGHTS:
        return LONGEST
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        models.locate(model), revision=spec.revision
    ).get_text_config()
    return min(LONGEST, getattr(config, "max_position_embeddings", None) or LONGEST)
