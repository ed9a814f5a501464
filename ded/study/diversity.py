"""Notebook 03: selection rules among M verified trajectories a question, and their students."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ded import analysis, curation, jobs, problems
from ded.params.schemas import TrajectoryDiversity
from ded.study import pipeline
from ded.study.unit import Unit

RULES = ("farthest", "random", "nearest", "single", "farthest by steps")
FURTHER = ("RSR", "LALP", "shortest", "few branches")  # run where params.arms names them


@dataclass(frozen=True)
class Pool:
    """What each rule chose in one unit, and facts about the M samples a question.

    chosen: {arm: trajectories}, of the same questions. distances: base, replicate, arm, problem_id,
    token_edits and step_edits, the smallest distances among those chosen of a question. facts:
    base, replicate, sampled, correct (share), lucky (share of the correct ones with an invalid
    step), distinct (a list: how many genuinely different, step-valid trajectories each question
    has; spoken fillers and checks do not count as different), tokens. Where steps cannot be
    checked, lucky is NaN and trajectories that differ as texts are different.
    """

    chosen: dict[str, pd.DataFrame]
    distances: pd.DataFrame
    facts: dict[str, Any]


def arms(params: TrajectoryDiversity) -> dict[str, int]:
    """{arm of notebook 03: examples that it trains on at most}, in order; the notebook says what
    makes each. All but `FURTHER` where params.arms names none.
    """
    names = [*RULES, *(FURTHER if params.arms else ())]
    return dict.fromkeys(names, params.n_questions * params.n_kept)


@jobs.looked_up
def pool(unit: Unit[TrajectoryDiversity], rules: Mapping[str, Mapping[str, Any]]) -> Pool:
    """The corpora of the rules, over the same questions and of equal size but for a rule with
    `most_branches`.

    rules: {arm: `rule` and `metric` of `curation.select_trajectories`, window (of LALP, tokens),
    most_branches (see `curation.filter_branches`; its arm has the questions that it leaves)}.
    """
    params, questions = unit.params, unit.questions()
    trajectories = pipeline.graded(unit, params.teacher, params.n_trajectories, questions)
    kept = pipeline.filtered(unit, trajectories, questions).kept
    left_out = set(FURTHER) - set(params.arms)
    chosen = {
        name: _chosen(unit, kept, **rule) for name, rule in rules.items() if name not in left_out
    }
    correct = trajectories[trajectories["verdict"] == "correct"]
    traces = _traces(unit, correct)
    different = set(zip(correct["problem_id"], traces, strict=True))
    distinct = Counter(problem_id for problem_id, trace in different if trace)
    facts = {
        "sampled": len(trajectories),
        "correct": len(correct) / len(trajectories),
        "lucky": _lucky(unit, traces, empty=0.0),
        "distinct": [distinct[question.id] for question in questions],
        "tokens": int(trajectories["n_tokens"].sum()),
    }
    corpora = {name: pipeline.without_ids(table) for name, table in chosen.items()}
    return Pool(corpora, _distances(unit, chosen), unit.row | facts)


def _chosen(
    unit: Unit[TrajectoryDiversity],
    kept: pd.DataFrame,
    rule: str,
    metric: str = "levenshtein",
    window: int = 0,
    most_branches: float = math.inf,
) -> pd.DataFrame:
    """What a rule takes of the verified trajectories, of which those columns are measured that it
    goes by.
    """
    kept = curation.filter_branches(kept, most_branches).kept
    scored = kept
    if rule == "rsr" and len(kept):
        scored = kept.join(analysis.trajectory_scores(unit.base, kept, unit.dtype)["rsr"])
    if rule == "lalp" and len(kept):
        scored = kept.join(analysis.trajectory_lalp(unit.base, kept, window, unit.dtype))
    selection = curation.select_trajectories(scored, unit.params.n_kept, rule, metric, unit.seed)
    return selection.chosen[[*kept]]


def _distances(unit: Unit, chosen: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    rows = [
        {
            "arm": name,
            "problem_id": problem_id,
            "token_edits": _smallest(trajectories, "levenshtein"),
            "step_edits": _smallest(trajectories, "steps"),
        }
        for name, table in chosen.items()
        for problem_id, trajectories in table.groupby("problem_id", sort=False)
    ]
    columns = ["arm", "problem_id", "token_edits", "step_edits"]
    return pd.DataFrame(rows, columns=columns).assign(**unit.row)


def _smallest(trajectories: pd.DataFrame, metric: str) -> float:
    apart = curation.pairwise_distances(trajectories, metric)
    return float(apart[np.triu_indices(len(apart), 1)].min())


def arm(unit: Unit, name: str, corpus: pd.DataFrame) -> pipeline.Arm:
    """An arm of notebook 03, with the share of lucky chains in its corpus among the facts (NaN
    where steps cannot be checked or there are none).
    """
    lucky = _lucky(unit, _traces(unit, corpus), empty=math.nan)
    steps = pipeline.steps_of(unit, len(corpus))  # the same for all: corpora are equally large
    return pipeline.Arm(name, corpus, steps, facts={"lucky": lucky})


def _lucky(unit: Unit, traces: list, empty: float) -> float:
    """The share of trajectories with an invalid step."""
    if not problems.source(unit.params.corpus_source).steps:
        return math.nan
    return traces.count(None) / len(traces) if traces else empty


def _traces(unit: Unit, table: pd.DataFrame) -> list:
    """What makes each trajectory differ from others: the states it passes through, or else its
    think text.

    None where the text has no think block, or a step is invalid.
    """
    by_id = {question.id: question for question in unit.questions()}
    parts = [curation.split_think(text) for text in table["text"]]
    thinks = [None if part is None else part[0] for part in parts]
    if not problems.source(unit.params.corpus_source).steps:
        return thinks
    return [
        None if think is None else problems.trace(by_id[problem_id], think)
        for problem_id, think in zip(table["problem_id"], thinks, strict=True)
    ]
