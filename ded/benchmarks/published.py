"""Published numbers (params/published.yml), and ours beside them."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from ded import files, home

SETTINGS_SHOWN = (  # of ours, beside the published ones
    "split prompt samples temperature top_p max_tokens dates n_problems fewshot chat lm_eval"
)


def published() -> pd.DataFrame:
    """params/published.yml: model, benchmark, group, metric, published (per cent),
    published_settings, source. Empty outside the repository."""
    file = home() / "params" / "published.yml"
    nothing: dict[str, Any] = {"scores": [], "settings": {}, "sources": {}}
    content = files.read_yaml(file) if file.is_file() else nothing
    columns = ["model", "benchmark", "group", "metric", "value", "settings", "source"]
    rows = [{"group": "all", "metric": "pass@1", **score} for score in content["scores"]]
    table = pd.DataFrame(rows, columns=columns)
    texts = {"settings": content["settings"], "source": content["sources"]}
    return table.replace(texts).rename(
        columns={"value": "published", "settings": "published_settings"}
    )


def beside(scores: pd.DataFrame, names: dict[str, str] | None = None) -> pd.DataFrame:
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
    columns = (
        "model benchmark group metric ours low high n samples note "
        "published published_settings source settings"
    )
    return table[columns.split()].sort_values(
        ["model", "benchmark", "group"],
        key=lambda names: names.replace("all", ""),  # first
        kind="stable",
        ignore_index=True,
    )


def _published_name(model: str) -> str:
    return re.split("[:/]", model.partition("@")[0])[-1]


def _text(settings: dict[str, Any]) -> str:
    texts = []
    for key in SETTINGS_SHOWN.split():
        value = settings.get(key)
        if value is not None:
            texts.append(f"{key} {' to '.join(value) if isinstance(value, list) else value}")
    return ", ".join(texts)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown; numbers to two decimals, nothing where nothing was measured."""
    shown = table.round(2).astype(object).replace(r"\|", r"\\|", regex=True)
    return shown.where(shown.notna(), None).to_markdown(index=False, floatfmt="g", missingval="")
