"""The record of a model's scores and samples: <model>.json and <model>.csv in a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ded import files
from ded.errors import BenchmarkError

SAMPLES = ["benchmark", "group", "question", "seed", "value", "verdict", "n_tokens"]


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
    samples = pd.DataFrame(columns=SAMPLES) if samples is None else samples
    with FileLock(path.with_suffix(".lock")):
        record: dict[str, Any] = {"model": model, "benchmarks": {}}
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
        for name, rows in scores.groupby("benchmark", sort=False):
            cells = samples.loc[samples["benchmark"] == name, SAMPLES]
            record["benchmarks"][name] = {
                "scores": _json(rows, "records"),
                "samples": _json(cells, "split"),
            }
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
        cells = [row for entry in record["benchmarks"].values() for row in entry["samples"]["data"]]
        scores = _recorded_scores(record)
    except (OSError, ValueError, LookupError) as error:
        raise BenchmarkError(
            f"no results of model {model!r} at {path} ({type(error).__name__}); "
            f"run `ded bench {model} SOURCE` first"
        ) from error
    return scores, pd.DataFrame(cells, columns=SAMPLES).astype({"value": float})


def _file(folder: str | Path, model: str) -> Path:
    return Path(folder) / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', model)}.json"


def _json(table: pd.DataFrame, orient: Literal["records", "split"]) -> Any:
    return json.loads(table.to_json(orient=orient, index=False, double_precision=15))


def _recorded_scores(record: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([row for entry in record["benchmarks"].values() for row in entry["scores"]])
