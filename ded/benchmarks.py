"""A model's pass@1 on a problem source, with its interval and its settings, beside published ones.

    scores, samples = run("lab:student_1", "lab:sum/7-9", samples=4, limit=100)

scores: one row a (model, benchmark, group), group "all" first: metric, value with low and high
  (shares, 95 % interval), n (questions), samples (a question), the count of each verdict, pass@2,
  pass@4, ..., maj@<samples> (not of code), judged (answers that a judge decided, where any),
  n_tokens (mean), note (why a number is not to be judged), settings (a dict: everything that makes
  the number what it is). What was not measured is nan.
samples: one row a (benchmark, question, seed): group, value (1, 0, nan for a failure of the
  grader), verdict, n_tokens. No texts.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ded import __version__, evaluation, files, generation, home, jobs, models, problems
from ded import grading as grader
from ded.errors import BenchmarkError
from ded.models.spec import WITHOUT_WEIGHTS, bare
from ded.options import Engine, Grading
from ded.stats import Interval, crossed_bootstrap, numbers, paired_questions, pass_at_k

LONGEST = 32_768  # tokens of an answer, unless the model's context ends before
SAMPLES = ["benchmark", "group", "question", "seed", "value", "verdict", "n_tokens"]
BESIDE = ["model", "benchmark", "group", "metric", "ours", "low", "high", "n", "samples", "note"]
BESIDE += ["published", "published_settings", "source", "settings"]
# of ours, beside the published ones
SETTINGS_SHOWN = ["split", "prompt", "samples", "temperature", "top_p", "max_tokens", "dates"]
SETTINGS_SHOWN += ["n_problems", "fewshot", "chat", "lm_eval"]


# ---- a run -------------------------------------------------------------------------------------


def run(
    model: str,
    source: str,
    *,
    samples: int = 4,
    limit: int = 0,
    max_tokens: int = 0,
    temperature: float = 0.6,
    top_p: float = 0.95,
    seed: int = 0,
    engine: Engine = Engine(),
    grading: Grading = Grading(),
    workers: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, samples) of a model on a problem source: `samples` answers a question, each graded.

    limit: this many questions, the same for every model; 0 is all that the source has. max_tokens:
    0 is the model's context, at most LONGEST. workers: processes of the grader, 0 one a core.
    Answers and verdicts are stored: of a run with more samples, only those that are new are drawn.
    Raises ModelError, SourceError and BenchmarkError before any work.
    """
    identity = generation.identity(model, engine)
    questions = problems.load(source, limit, "test", "benchmark")
    if not questions:
        raise BenchmarkError(f"source {source!r} has no end: give a limit, the number of questions")
    context, chat_template = _context(model)
    sampling: dict[str, Any] = {"samples": samples, "max_tokens": max_tokens or context}
    sampling |= {"temperature": temperature, "top_p": top_p, "seed": seed}
    scoring: dict[str, Any] = {"workers": jobs.count(workers), "grading": grading}
    suite = {name_of(source): questions}
    table = evaluation.per_question(model, suite, **sampling, **scoring, engine=engine)
    table = table.rename(columns={"family": "benchmark"})
    levels = {q.id: f"level {q.level}" if q.level else "" for q in questions}
    groups = {q.id: str(q.meta.get("group") or levels[q.id]) for q in questions}
    table["group"] = table["question"].map(groups)
    dates = sorted(str(q.meta["date"])[:10] for q in questions if q.meta.get("date"))
    settings: dict[str, Any] = {"source": _without_folders(source), "split": "test"}
    # what identifies the questions, without their texts
    settings |= {"problems": problems.fingerprint(questions), "n_problems": len(questions)}
    settings["dates"] = [dates[0], dates[-1]] if dates else None
    settings["prompt"] = sorted({str(q.meta.get("template") or q.kind) for q in questions})
    settings |= {"chat_template": chat_template, **sampling}
    settings["engine"] = engine.model_dump(exclude_defaults=True)
    asked = {"isolation": grading.isolation} | grading.model_dump()
    settings["grader"] = {"version": grader.VERSION, **asked}
    settings |= {"ded": __version__, "model": identity}
    scored = table.filter([*SAMPLES, "vote", "judged"])
    return summarise(scored, model, settings), table[SAMPLES]


def name_of(source: str) -> str:
    """What a source is called in the tables: "aime_2024" for "data:aime_2024@copy.jsonl"; options
    are part of it, folders are not."""
    place, mark, options = _without_folders(source).partition("?{")
    return re.sub(r"^data:([^@]*)(@.*)?", r"\1", place) + mark + options


def _without_folders(source: str) -> str:
    place, mark, options = source.partition("?{")  # whose slashes are no folders
    return re.sub(r"^(file:|data:[^@]*@).*/(?=.)", r"\1", place) + mark + options


def _context(model: str) -> tuple[int, str | None]:
    """Tokens of the longest answer that is asked for, and the chat template's hash; what an
    endpoint does to a prompt is not ours to know."""
    if models.parse(model).kind in WITHOUT_WEIGHTS:
        return LONGEST, None
    context = getattr(models.config(model), "max_position_embeddings", None) or LONGEST
    template = models.load_tokenizer(model).chat_template
    content = f"{problems.content_hash(str(template)):016x}" if template else None
    return min(LONGEST, context), content


# ---- scores ------------------------------------------------------------------------------------


def summarise(table: pd.DataFrame, model: str, settings: dict[str, Any]) -> pd.DataFrame:
    """The scores (see above) of a table of samples: pass@1 by crossed bootstrap over questions and
    seeds, unbiased pass@k."""
    rows = [
        {"model": model, "benchmark": name, "group": group, **_score(cells), "settings": settings}
        for (name, group), cells in _groups(table).items()
    ]
    return pd.DataFrame(rows)


def _groups(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each (benchmark, group): of a benchmark all rows as group "all", then those of
    each of its groups where there are several."""
    groups = {}
    for name, part in table.groupby("benchmark", sort=False):
        groups[name, "all"] = part
        named = part[part["group"] != ""].groupby("group")
        if named.ngroups > 1:
            groups |= {(name, group): cells for group, cells in named}
    return groups


def _score(cells: pd.DataFrame) -> dict[str, Any]:
    interval = crossed_bootstrap(cells)
    questions = cells.groupby("question")["value"]
    samples, judged, correct = int(questions.size().max()), questions.count(), questions.sum()
    verdicts = cells["verdict"].value_counts().reindex(list(grader.VERDICTS), fill_value=0)
    votes = cells.get("vote", pd.Series(dtype=float)).dropna()  # none of code
    ballots = votes.groupby(cells["question"]).agg(tuple)
    pass_at = {}
    for k in (2**i for i in range(1, samples.bit_length())):
        # a question with fewer than k judged samples has no pass@k, and so has the mean
        enough = judged.min() >= k
        pass_at[f"pass@{k}"] = pass_at_k(judged, correct, k).mean() if enough else math.nan
    score: dict[str, Any] = {"metric": "pass@1", "value": interval.estimate}
    score |= {"low": interval.low, "high": interval.high, "n": len(judged), "samples": samples}
    score |= verdicts.to_dict() | pass_at
    if samples > 1 and judged.min() == samples and len(ballots) == len(judged):
        score[f"maj@{samples}"] = ballots.map(evaluation.majority).mean()
    if "judged" in cells and cells["judged"].any():
        score["judged"] = int(cells["judged"].sum())
    return score | {"n_tokens": float(cells["n_tokens"].mean()), "note": _note(interval)}


def _note(interval: Interval) -> str:
    problem = "one question has no interval" if interval.n == 1 else interval.problem
    if problem:
        return f"not judged: {problem}"
    return "all alike: the interval says nothing" if interval.flat else ""


def compare(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Model a minus model b on the same questions, from their samples.

    One row a (benchmark, group) that both have: benchmark, group, a, b (pass@1), difference with
    low and high (95 %, questions paired; see `stats.paired_questions`), n, better ("a", "b" or ""
    where the interval holds 0 or nothing can be judged), note. The intervals are plain: with many
    rows some will leave 0 out by chance. Raises BenchmarkError where no benchmark is shared, or the
    questions of one differ.
    """
    groups_a, groups_b = _groups(a), _groups(b)
    rows = []
    for name, group in (key for key in groups_a if key in groups_b):
        pair = groups_a[name, group], groups_b[name, group]
        try:
            interval = paired_questions(*pair)
        except ValueError as error:
            mend = "Run both with the same source and limit"
            raise BenchmarkError(f"{name} ({group}): {error}. {mend}") from error
        undecided = interval.problem or interval.low <= 0 <= interval.high
        better = "" if undecided else "a" if interval.low > 0 else "b"
        pass_at_1 = [cells.groupby("question")["value"].mean().mean() for cells in pair]
        place = {"benchmark": name, "group": group, "a": pass_at_1[0], "b": pass_at_1[1]}
        rows.append(place | numbers(interval) | {"better": better, "note": _note(interval)})
    if not rows:
        names = [", ".join(sorted(set(table["benchmark"]))) for table in (a, b)]
        raise BenchmarkError(f"no benchmark in common: {names[0]} against {names[1]}")
    table = pd.DataFrame(rows).drop(columns=["se", "df"])
    return table.rename(columns={"estimate": "difference"})


# ---- the record of a model: <model>.json and <model>.csv in a folder ---------------------------


def save(
    folder: str | Path, model: str, scores: pd.DataFrame, samples: pd.DataFrame | None = None
) -> Path:
    """Puts results into the model's record, in place of earlier ones of the same benchmarks.

    <model>.json holds each benchmark's scores with their settings, and its samples; <model>.csv
    lists the scores of them all. Each file is replaced whole or not at all. Returns the first.
    """
    from filelock import FileLock

    path = _file(folder, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = pd.DataFrame(columns=SAMPLES) if samples is None else samples[SAMPLES]
    with FileLock(path.with_suffix(".lock")):
        record: dict[str, Any] = {"model": model, "benchmarks": {}}
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
        for name, rows in scores.groupby("benchmark", sort=False):
            own = samples[samples["benchmark"] == name]
            entry = {"scores": _json(rows, "records"), "samples": _json(own, "split")}
            record["benchmarks"][name] = entry
        files.write_text(path, json.dumps(record, indent=1))
        table = _recorded_scores(record)
        table["settings"] = table["settings"].map(json.dumps)
        files.write_text(path.with_suffix(".csv"), table.to_csv(index=False))
    return path


def read(folder: str | Path, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, samples) of a model's record, as `run` returns them; BenchmarkError without one."""
    path = _file(folder, model)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rows = [row for entry in record["benchmarks"].values() for row in entry["samples"]["data"]]
        scores = _recorded_scores(record)
    except (OSError, ValueError, LookupError) as error:
        missing = f"no results of model {model!r} at {path} ({type(error).__name__})"
        raise BenchmarkError(f"{missing}; run `ded bench {model} SOURCE` first") from error
    return scores, pd.DataFrame(rows, columns=SAMPLES).astype({"value": float})


def _file(folder: str | Path, model: str) -> Path:
    return Path(folder) / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', model)}.json"


def _json(table: pd.DataFrame, orient: Literal["records", "split"]) -> Any:
    return json.loads(table.to_json(orient=orient, index=False, double_precision=15))


def _recorded_scores(record: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([row for entry in record["benchmarks"].values() for row in entry["scores"]])


# ---- ours beside published ---------------------------------------------------------------------


def published() -> pd.DataFrame:
    """params/published.yml: model, benchmark, group, metric, published (per cent),
    published_settings, source. Empty outside the repository."""
    file = home() / "params" / "published.yml"
    content = files.read_yaml(file) if file.is_file() else {}
    columns = ["model", "benchmark", "group", "metric", "value", "settings", "source"]
    rows = [{"group": "all", "metric": "pass@1", **score} for score in content.get("scores", ())]
    texts = {"settings": content.get("settings", {}), "source": content.get("sources", {})}
    headings = {"value": "published", "settings": "published_settings"}
    return pd.DataFrame(rows, columns=columns).replace(texts).rename(columns=headings)


def beside(scores: pd.DataFrame, names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Our numbers beside the published ones, in columns of their own.

    model, benchmark, group, metric, ours, low, high (all per cent), n, samples, note, published,
    published_settings, source, settings (ours, as text): a row for each of our scores and each
    published number of these models, nan where a side is missing. names: the published name of a
    model spec; without one it is the last part of the spec, so hf:<org>/QwQ-32B is QwQ-32B. Options
    of a source (a date window) are not matched: read the settings.
    """
    ours = scores.rename(columns={"value": "ours"}).assign(
        model=[(names or {}).get(model, _published_name(model)) for model in scores["model"]],
        settings=scores["settings"].map(_text),
        match=scores["benchmark"].str.replace(r"^lm_eval:|\?.*", "", regex=True),
    )
    ours[["ours", "low", "high"]] *= 100
    theirs = published().rename(columns={"benchmark": "match"})
    theirs = theirs[theirs["model"].isin(ours["model"])]
    table = ours.merge(theirs, how="outer", on=["model", "match", "group", "metric"], sort=False)
    table["benchmark"] = table["benchmark"].fillna(table["match"])
    by = ["model", "benchmark", "group"]  # "all" first
    table = table[BESIDE].sort_values(by, kind="stable", key=lambda names: names.replace("all", ""))
    return table.reset_index(drop=True)


def _published_name(model: str) -> str:
    name, options = bare(model), model[len(bare(model)) :]
    return re.split("[:/]", name.partition("@")[0])[-1] + options


def _text(settings: dict[str, Any]) -> str:
    shown = [key for key in SETTINGS_SHOWN if settings.get(key) is not None]
    return ", ".join(f"{key} {settings[key]}" for key in shown)
