"""Notebook 03: selection rules among M verified trajectories a question, and their students."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ded import curation, problems
from ded.study import pools
from ded.study.arms import Arm

if TYPE_CHECKING:
    from ded.params.schemas import TrajectoryDiversity
    from ded.study.unit import Unit

RULES = ("farthest", "random", "nearest", "single", "farthest-normalised", "farthest-tokens")


@dataclass(frozen=True)
class Pool:
    """What each rule chose in one unit (see `curation.select_trajectories`), and facts about the M
    samples a question.

    facts: base, replicate, sampled, correct (share), lucky (share of the correct ones with an
    invalid step), distinct (a list: how many genuinely different, step-valid trajectories each
    question has; spoken fillers and checks do not count as different), tokens. Where steps cannot
    be checked, lucky is NaN and trajectories that differ as texts are different.
    """

    chosen: dict[str, curation.Selection]
    facts: dict[str, Any]


def arms(params: TrajectoryDiversity) -> dict[str, int]:
    """{arm of notebook 03: examples that it trains on at most}, in order; the notebook says what
    makes each.
    """
    return dict.fromkeys(RULES, params.n_questions * params.n_kept)


def pool(unit: Unit[TrajectoryDiversity], rules: Mapping[str, Mapping[str, str]]) -> Pool:
    """The corpora of all rules, over the same questions and of equal size.

    rules: {arm: `rule` and `metric` of `curation.select_trajectories`}.
    """
    params, questions = unit.params, unit.questions()
    trajectories = pools.graded(unit, params.teacher, params.n_trajectories, questions)
    kept = pools.filtered(unit, trajectories, questions).kept
    chosen = {}
    for arm, rule in rules.items():
        selection = curation.select_trajectories(
            kept, params.n_kept, rule["rule"], rule["metric"], unit.seed
        )
        chosen[arm] = selection._replace(chosen=pools.without_ids(selection.chosen))
    return Pool(chosen, unit.row | _facts(unit, trajectories))


def _facts(unit: Unit, trajectories: pd.DataFrame) -> dict[str, Any]:
    correct = trajectories[trajectories["verdict"] == "correct"]
    traces = _traces(unit, correct)
    distinct: dict[str, set] = {question.id: set() for question in unit.questions()}
    for problem_id, trace in zip(correct["problem_id"], traces, strict=True):
        if trace:
            distinct[problem_id].add(trace)
    return {
        "sampled": len(trajectories),
        "correct": len(correct) / len(trajectories),
        "lucky": _lucky(unit, traces, empty=0.0),
        "distinct": [len(different) for different in distinct.values()],
        "tokens": int(trajectories["n_tokens"].sum()),
    }


def arm(unit: Unit, name: str, corpus: pd.DataFrame, max_steps: int) -> Arm:
    """An arm of notebook 03, with the share of lucky chains in its corpus among the facts."""
    return Arm(name, corpus, max_steps, facts={"lucky": lucky_share(unit, corpus)})


def lucky_share(unit: Unit, corpus: pd.DataFrame) -> float:
    """The share of a corpus's trajectories with an invalid step; NaN where steps cannot be checked
    or there are none.
    """
    return _lucky(unit, _traces(unit, corpus), empty=math.nan)


def _lucky(unit: Unit, traces: list, empty: float) -> float:
    if not problems.source(unit.params.corpus_source).steps:
        return math.nan
    return sum(trace is None for trace in traces) / len(traces) if traces else empty


def _traces(unit: Unit, table: pd.DataFrame) -> list:
    """What makes each trajectory differ from others: the states it passes through, or else its
    think text.

    None where the text has no think block, or a step is invalid.
    """
    by_id = {question.id: question for question in unit.questions()}
    checked = problems.source(unit.params.corpus_source).steps
    traces: list[object] = []
    for problem_id, text in zip(table["problem_id"], table["text"], strict=True):
        parts = curation.split_think(text)
        think = parts[0] if parts else None
        if think is not None and checked:
            traces.append(problems.trace(by_id[problem_id], think))
        else:
            traces.append(think)
    return traces
