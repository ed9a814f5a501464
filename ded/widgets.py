"""The interactive view: what filters, threshold, P, metric and teacher make of stored trajectories, without a model.

    p = widgets.recorded("outputs/lab", "03")                  # the parameters of a run whose results lie there
    found = widgets.pool(p, base, replicate, teacher)          # its trajectories, pass rates and distances
    choice = widgets.choose(found, **widgets.start(p))         # every trajectory with the step and reason that dropped it
    widgets.figure(found, choice), widgets.browse(found, choice, problem_id)
    widgets.explorer("outputs/lab")                            # all of it under sliders, in JupyterLab
"""

from __future__ import annotations

import datetime
import html
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from ded import curation, evaluation, generation, home, params, problems, store, study
from ded.figures import parts
from ded.study import common

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ExploreError(ValueError):
    """Nothing to show, or nowhere to write; one line says what is lacking, in a notebook too."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True, eq=False)
class Pool:
    """One teacher's stored trajectories in one unit of a run; everything that a change of values needs again."""

    p: params.Common
    seed: int
    questions: dict[str, problems.Problem]
    trajectories: pd.DataFrame  # graded; with row (a number), level, and same_as (the first equal one's sample_index)
    rates: pd.DataFrame  # problem_id, pass_rate
    whose: str  # whose pass rates: "student", or "teacher" where the run stored no student's
    distances: dict[str, dict[str, np.ndarray]]  # metric: {problem_id: matrix by sample_index}
    valid: dict[tuple[str, str], bool]  # whether the steps of a question's solution are valid, as far as asked


class Choice(NamedTuple):
    """table: the pool's rows with step and reason, both "" for those in the corpus; funnel; statistics of each question."""

    table: pd.DataFrame
    funnel: pd.DataFrame
    statistics: pd.DataFrame
    values: dict[str, Any]


# ---- stored results --------------------------------------------------------------------------------------------------
def recorded(folder: str | Path = "outputs/lab", notebook: str = "03") -> Any:
    """The checked parameters of the complete run of a notebook under `folder` (relative to the repository)."""
    name = params.find_notebook(notebook).stem
    file = home() / folder / name / "manifest.json"
    if not file.is_file():
        raise ExploreError(f"no results of notebook {name[:2]} in {folder}: make them with `ded run {name[:2]} --preset {Path(folder).name}`, a few minutes in the lab")
    return params.check(name, json.loads(file.read_text(encoding="utf-8"))["params"])


def start(p: Any) -> dict[str, Any]:
    """The values that a run was made with, by the names of its parameters: what `choose` takes."""
    named = {"max_tokens": 0, "verification": "answer", "pass_rate_threshold": 1.0, "n_kept": 1, "metric": "levenshtein"}
    return {name: getattr(p, name, value) for name, value in named.items()}


@common.remembered
def pool(p: Any, base: str, replicate: int, teacher: str) -> Pool:
    """What `choose` chooses from; ExploreError where it is no longer in the store. Distances of long trajectories take a while, once."""
    questions = common.corpus_questions(p, base, replicate)
    n = getattr(p, "n_trajectories", getattr(p, "n_attempts", 1))
    if not generation.drawn(teacher, questions, n, **common.sampling(p, replicate)):
        raise ExploreError(f"the trajectories of {teacher} ({base}, replicate {replicate}) are not in the store {store.root()}: run the notebook again")
    table = common.trajectories(p, base, replicate, teacher, n, questions)
    rates, whose = _rates(p, base, replicate, questions), "student"
    if rates is None:
        judged = table[table["verdict"] != "error"]
        shares = (judged["verdict"] == "correct").groupby(judged["problem_id"]).mean().reindex([q.id for q in questions])
        rates, whose = shares.rename("pass_rate").rename_axis("problem_id").reset_index(), "teacher"
    by_id = {q.id: q for q in questions}
    table = table.assign(row=np.arange(len(table)), level=table["problem_id"].map({q.id: q.level for q in questions}))
    edits, relative = matrices(table)
    same = [int((edits[name][i, : i + 1] == 0).argmax()) for name, i in zip(table["problem_id"].tolist(), table["sample_index"].tolist())]
    found = {"levenshtein": edits, "normalised": relative}
    return Pool(p, p.seed * 1000 + replicate, by_id, table.assign(same_as=same), rates[["problem_id", "pass_rate"]], whose, found, {})


def matrices(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """For each metric {problem_id: the matrix of its trajectories' distances, by sample_index} (inf where a sample is lacking)."""
    edits, relative = {}, {}
    for name, rows in table.groupby("problem_id", sort=False):
        at, ids = rows["sample_index"].to_numpy(), rows["token_ids"].tolist()
        small, shape = curation.pairwise_distances(ids, workers=-1), (at.max() + 1,) * 2
        for target, values in ((edits, small), (relative, curation.normalised(small, ids))):
            target[name] = np.full(shape, np.inf)
            target[name][np.ix_(at, at)] = values
    return edits, relative


def _rates(p: Any, base: str, replicate: int, questions: list) -> pd.DataFrame | None:
    """The student's pass rates, where the run stored them."""
    settings = common.sampling(p, replicate, p.eval_temperature)
    questions = questions[: getattr(p, "pass_rate_questions", None)]
    n = getattr(p, "pass_rate_samples", 0)
    return evaluation.pass_rates(base, questions, n, **settings) if n and generation.drawn(base, questions, n, **settings) else None


# ---- values -> corpus, and why each trajectory is in it or not -------------------------------------------------------
def choose(pool: Pool, *, max_tokens: int, verification: str = "answer", pass_rate_threshold: float = 1.0, n_kept: int = 3,
           metric: str = "levenshtein", rule: str = "farthest") -> Choice:  # fmt: skip
    """Quality filters, question compression (1.0: none) and the choice of n_kept a question, by the functions of `ded.curation`."""
    quality = _quality(pool, max_tokens, verification)
    steps = [quality]
    if pass_rate_threshold < 1:
        easy = curation.compress_questions(pool.rates, pass_rate_threshold).dropped
        why = dict(zip(easy["problem_id"], easy["reason"]))
        steps.append(curation.drop(quality.kept, "compression", [why.get(name, "") for name in quality.kept["problem_id"].tolist()]))
    left = steps[-1].kept
    chosen, statistics = curation.select_trajectories(left, n_kept, rule, metric, pool.seed, distances=pool.distances[metric])
    taken, distinct = set(chosen["row"]), dict(zip(statistics["problem_id"], statistics["distinct"]))
    few = set(statistics.loc[statistics["chosen"] == 0, "problem_id"])
    why = [
        "" if row in taken else f"{distinct[name]} distinct, {n_kept} needed" if name in few
        else f"equal to sample {first}" if first != index else f"not among the {n_kept} chosen"
        for row, name, index, first in zip(*(left[column].tolist() for column in ("row", "problem_id", "sample_index", "same_as")))
    ]  # fmt: skip
    steps.append(curation.drop(left, rule, why))
    _, funnel, dropped = curation.join(*steps)
    table = pool.trajectories.assign(step="", reason="")
    for column in ("step", "reason"):
        values = table[column].to_numpy(copy=True)
        values[dropped["row"]] = dropped[column]
        table[column] = values
    values = {"max_tokens": max_tokens, "verification": verification, "pass_rate_threshold": pass_rate_threshold, "n_kept": n_kept, "metric": metric}
    return Choice(table, funnel, statistics, values)


@lru_cache(maxsize=8)
def _quality(pool: Pool, max_tokens: int, verification: str) -> curation.Filtered:
    def valid(problem: problems.Problem, think: str) -> bool:
        key = (problem.id, think)
        if key not in pool.valid:
            pool.valid[key] = common.step_valid(problem, think)
        return pool.valid[key]

    return curation.curate(pool.trajectories, list(pool.questions.values()), max_tokens=max_tokens, verify=verification, step_check=valid)
