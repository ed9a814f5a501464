"""Benchmarks: a model's pass@1 on a problem source with its interval, beside the settings that made it and the published number.

    scores, samples = run("lab:student_1", "lab:sum/7-9", samples=4, limit=100)

scores: one row a (model, benchmark, group), group "all" first: metric, value with low and high (shares, 95 % interval), n (questions),
  samples (a question), the count of each verdict, pass@2, pass@4, ..., n_tokens (mean), note (why a number is not to be judged),
  settings (a dict: everything that makes the number what it is). What was not measured is nan.
samples: one row a (benchmark, question, seed): group, value (1, 0, nan for a failure of the grader), verdict, n_tokens. No texts.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ded import __version__, evaluation, generation, grading, home, jobs, models, problems, stats
from ded.errors import BenchmarkError
from ded.grading import VERDICTS
from ded.options import Engine

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 32_768  # tokens of an answer, unless the model's context ends before
SAMPLES = ["benchmark", "group", "question", "seed", "value", "verdict", "n_tokens"]


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

    limit: this many questions, the same for every model; 0 is all that the source has. max_tokens: 0 is the model's context, at most
    LONGEST. workers: processes of the grader, 0 one a core. Answers and verdicts are stored: of a run with more samples, only those that
    are new are drawn. Raises ModelError, SourceError and BenchmarkError before any work.
    """
    who = generation.identity(model, engine)
    questions = problems.load(source, limit, split, "benchmark")
    if not questions:
        raise BenchmarkError(f"source {source!r} has no end: give a limit, the number of questions")
    sampling = {
        "max_tokens": max_tokens or _context(model),
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "engine": engine,
    }
    name = name_of(source)
    found = evaluation.per_question(
        model,
        {name: questions},
        samples=samples,
        workers=jobs.count(workers),
        isolation=isolation,
        **sampling,
    )
    groups = {
        q.id: str(q.meta.get("group") or (f"level {q.level}" if q.level else "")) for q in questions
    }
    found = found.rename(columns={"family": "benchmark"}).assign(
        group=found["question"].map(groups)
    )[SAMPLES]
    return summarise(
        found,
        model,
        _settings(model, source, split, questions, samples, isolation, sampling) | {"model": who},
    ), found


def name_of(source: str) -> str:
    """What a source is called in the tables: "aime_2024" for "data:aime_2024@copy.jsonl"; options are part of it, folders are not."""
    kind, _, rest = source.partition(":")
    rest, mark, options = rest.partition("?")
    rest = (
        rest.partition("@")[0]
        if kind == "data"
        else rest.rpartition("/")[2]
        if kind == "file"
        else rest
    )
    return f"{'' if kind == 'data' else kind + ':'}{rest}{mark}{options}"


def summarise(table: pd.DataFrame, model: str, settings: dict) -> pd.DataFrame:
    """The scores (see above) of a table of samples: pass@1 by crossed bootstrap over questions and seeds, unbiased pass@k."""
    import pandas as pd

    about = {"model": model, "settings": settings}
    return pd.DataFrame(
        [
            {"model": model, "benchmark": name, "group": g, **_row(cells)} | about
            for name, g, cells in _groups(table)
        ]
    )


def _groups(table: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """(benchmark, group, rows): of each benchmark all rows, then those of each group where there are several."""
    found = []
    for name, part in table.groupby("benchmark", sort=False):
        groups = sorted(set(part["group"]) - {""})
        found += [
            (name, "all", part),
            *((name, g, part[part["group"] == g]) for g in groups if len(groups) > 1),
        ]
    return found


def _row(cells: pd.DataFrame) -> dict[str, Any]:
    interval = stats.crossed_bootstrap(cells)
    drawn = cells.groupby("question")["value"].agg(["size", "count", "sum"])  # count: judged
    samples, counts, row = int(drawn["size"].max()), cells["verdict"].value_counts(), {}
    for k in (
        2**i for i in range(1, samples.bit_length())
    ):  # a question with fewer than k judged samples has no pass@k, and so has the mean
        row[f"pass@{k}"] = (
            float(stats.pass_at_k(drawn["count"], drawn["sum"], k).mean())
            if (drawn["count"] >= k).all()
            else math.nan
        )
    return {
        "metric": "pass@1",
        "value": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "n": len(drawn),
        "samples": samples,
        **{v: int(counts.get(v, 0)) for v in VERDICTS},
        **row,
        "n_tokens": float(cells["n_tokens"].mean()),
        "note": _note(interval),
    }


def _note(interval: stats.Interval) -> str:
    problem = "one question has no interval" if interval.n == 1 else interval.problem
    return (
        f"not judged: {problem}"
        if problem
        else "all alike: the interval says nothing"
        if interval.flat
        else ""
    )


def _context(model: str) -> int:
    if models.parse(model)[0] in ("openai", "recorded"):
        return LONGEST
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(models.locate(model), revision=models.parse(model)[2])
    return min(
        LONGEST, getattr(config.get_text_config(), "max_position_embeddings", None) or LONGEST
    )


def _settings(
    model: str,
    source: str,
    split: str,
    questions: list,
    samples: int,
    isolation: str,
    sampling: dict,
) -> dict:
    dates = sorted(str(q.meta["date"])[:10] for q in questions if q.meta.get("date"))
    local = models.parse(model)[0] not in (
        "openai",
        "recorded",
    )  # what an endpoint does to a prompt is not ours to know
    template = models.load_tokenizer(model).chat_template if local else None
    return {
        "source": re.sub(r"[@:][^?@]*/", lambda m: m[0][0], source)
        if source.startswith(("data:", "file:"))
        else source,
        "split": split,
        "problems": problems.fingerprint(questions),
        "n_problems": len(questions),
        "dates": [dates[0], dates[-1]] if dates else None,
        "prompt": sorted({str(q.meta.get("template") or q.kind) for q in questions}),
        "chat_template": f"{problems.content_hash(str(template)):016x}" if template else None,
        "samples": samples,
        **sampling,
        "engine": sampling["engine"].model_dump(exclude_defaults=True),
        "grader": {"version": grading.VERSION, "isolation": isolation},
        "ded": __version__,
    }


def compare(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Model a minus model b on the same questions, from their samples: one row a (benchmark, group) that both have.

    benchmark, group, a, b (pass@1), difference with low and high (95 %, questions paired; see `stats.paired_questions`), n, better
    ("a", "b" or "" where the interval holds 0 or nothing can be judged), note. The intervals are plain: with many rows some will leave 0
    out by chance. Raises BenchmarkError where no benchmark is shared, or the questions of one differ.
    """
    import pandas as pd

    left, right = (
        {(name, group): cells for name, group, cells in _groups(table)} for table in (a, b)
    )
    if not set(left) & set(right):
        raise BenchmarkError(
            f"no benchmark in common: {', '.join(sorted(set(a['benchmark'])))} against {', '.join(sorted(set(b['benchmark'])))}"
        )
    rows = []
    for name, group, one, other in ((*key, left[key], right[key]) for key in left if key in right):
        try:
            interval = stats.paired_questions(one, other)
        except ValueError as error:
            raise BenchmarkError(
                f"{name} ({group}): {error}. Run both with the same source and limit"
            ) from error
        better = (
            ""
            if interval.problem
            else "a"
            if interval.low > 0
            else "b"
            if interval.high < 0
            else ""
        )
        a_mean, b_mean = (
            cells.groupby("question")["value"].mean().mean() for cells in (one, other)
        )
        rows.append(
            {
                "benchmark": name,
                "group": group,
                "a": a_mean,
                "b": b_mean,
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "n": interval.n,
                "better": better,
                "note": _note(interval),
            }
        )
    return pd.DataFrame(rows)


def published() -> pd.DataFrame:
    """params/published.yml as a table: model, benchmark, group, metric, published (per cent), published_settings, source."""
    import pandas as pd
    import yaml

    file = home() / "params" / "published.yml"
    known = (
        yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {"scores": []}
    )  # outside the repository nothing is known
    rows = [
        {
            "group": "all",
            "metric": "pass@1",
            **row,
            "settings": known["settings"].get(row["settings"], row["settings"]),
            "source": known["sources"].get(row["source"], row["source"]),
        }
        for row in known["scores"]
    ]
    columns = ["model", "benchmark", "group", "metric", "value", "settings", "source"]
    return pd.DataFrame(rows, columns=columns).rename(
        columns={"value": "published", "settings": "published_settings"}
    )


def beside(scores: pd.DataFrame, names: dict[str, str] | None = None) -> pd.DataFrame:
    """Our numbers beside the published ones, in columns of their own: model, benchmark, group, metric, ours, low, high (all per cent), n,
    samples, note, published, published_settings, source, settings (ours, as text).

    A row for each of our scores and each published number of these models, nan where a side is missing. names: the published name
    of a model spec; without one it is the last part of the spec, so hf:<org>/QwQ-32B is QwQ-32B. Options of a source (a date window)
    are not matched: read the settings.
    """
    ours = scores.rename(columns={"value": "ours"}).assign(
        model=[
            (names or {}).get(m, re.split("[:/]", m.partition("@")[0])[-1]) for m in scores["model"]
        ],
        settings=scores["settings"].map(_text),
        match=scores["benchmark"].str.replace(r"^lm_eval:|\?.*", "", regex=True),
    )
    ours[["ours", "low", "high"]] *= 100
    known = published().rename(columns={"benchmark": "match"})
    table = ours.merge(
        known[known["model"].isin(ours["model"])],
        how="outer",
        on=["model", "match", "group", "metric"],
        sort=False,
    )
    table["benchmark"] = table["benchmark"].fillna(table["match"])
    columns = "model benchmark group metric ours low high n samples note published published_settings source settings"
    return table[columns.split()].sort_values(
        ["model", "benchmark", "group"],
        key=lambda c: c.replace("all", ""),
        kind="stable",
        ignore_index=True,
    )


def _text(settings: dict) -> str:
    shown = (
        "split",
        "prompt",
        "samples",
        "temperature",
        "top_p",
        "max_tokens",
        "dates",
        "n_problems",
        "fewshot",
        "chat",
        "lm_eval",
    )
    return ", ".join(
        f"{k} {' to '.join(v) if isinstance(v, list) else v}"
        for k in shown
        if (v := settings.get(k)) is not None
    )


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown; numbers with two decimals, nothing where nothing was measured."""

    def cell(value: Any) -> str:
        text = (
            f"{value:.2f}".removesuffix(".00")
            if isinstance(value, float)
            else str(value).replace("|", "\\|")
        )
        return "" if value is None or value != value else text

    return "\n".join(
        f"| {' | '.join(map(cell, row))} |"
        for row in [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)]
    )


def _file(folder: str | Path, model: str) -> Path:
    return Path(folder) / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', model)}.json"


def save(
    folder: str | Path, model: str, scores: pd.DataFrame, samples: pd.DataFrame | None = None
) -> Path:
    """Put results into the model's record, <model>.json (each benchmark's scores with their settings, and its samples), in place of earlier
    ones of the same benchmarks; <model>.csv lists the scores of them all. Each file is replaced whole or not at all."""
    import pandas as pd
    from filelock import FileLock

    path = _file(folder, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        record = (
            json.loads(path.read_text(encoding="utf-8"))
            if path.is_file()
            else {"model": model, "benchmarks": {}}
        )
        for name, rows in scores.groupby("benchmark", sort=False):
            cells = (
                samples.loc[samples["benchmark"] == name, SAMPLES]
                if samples is not None
                else pd.DataFrame(columns=SAMPLES)
            )
            record["benchmarks"][name] = {
                "scores": json.loads(rows.to_json(orient="records", double_precision=15)),
                "samples": json.loads(
                    cells.to_json(orient="split", index=False, double_precision=15)
                ),
            }
        every = pd.DataFrame(
            [
                row | {"settings": json.dumps(row["settings"])}
                for one in record["benchmarks"].values()
                for row in one["scores"]
            ]
        )
        for target, text in (
            (path, json.dumps(record, indent=1)),
            (path.with_suffix(".csv"), every.to_csv(index=False)),
        ):
            work = target.with_name(f".{target.name}.{os.getpid()}")
            work.write_text(text, encoding="utf-8")
            os.replace(work, target)
    return path


def read(folder: str | Path, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, samples) of a model's record, as `run` returns them; BenchmarkError where there is none."""
    import pandas as pd

    path = _file(folder, model)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["benchmarks"].values()
    except (OSError, ValueError, LookupError) as error:
        raise BenchmarkError(
            f"no results of model {model!r} at {path} ({type(error).__name__}); run `ded bench {model} SOURCE` first"
        ) from error
    samples = pd.DataFrame(
        [cells for one in found for cells in one["samples"]["data"]], columns=SAMPLES
    )
    return pd.DataFrame([row for one in found for row in one["scores"]]), samples.astype(
        {"value": float}
    )
