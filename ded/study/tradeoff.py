"""Notebook 02: the pool that the arms of the trade-off between in-domain and out-of-domain select
from.
"""

from dataclasses import dataclass

import pandas as pd

from ded.params.schemas import OodTradeoff
from ded.study import pipeline
from ded.study.unit import Unit

SELECTIONS = ("hard", "easy", "hard-tokens", "random-steps", "fixed-random", "fixed-hard")


@dataclass(frozen=True)
class Pool:
    """One unit's verified trajectories, one a question, in random order, with level, pass_rate
    (NaN: not rated) and hard (whether question compression leaves it).

    funnel: what the filters kept, and what question compression would (a pool of its own); rates:
    see `pipeline.pass_rates`, and kept (by compression); tokens: sampled by the teacher.
    """

    table: pd.DataFrame
    funnel: pd.DataFrame
    rates: pd.DataFrame
    tokens: int


def arms(params: OodTradeoff) -> dict[str, int]:
    """{arm of notebook 02: examples that it trains on at most}, in order; the notebook says what
    makes each.
    """
    counted = {f"random {size}": size for size in params.sizes}
    for size in params.selection_sizes:
        counted |= {f"{selection} {size}": size for selection in SELECTIONS}
        counted[f"random-steps {size}"] = max(params.sizes)  # as many steps as the largest corpus
    return counted


def pool(unit: Unit[OodTradeoff]) -> Pool:
    """What the arms of notebook 02 select from; the student rates the first
    params.pass_rate_questions of the questions.
    """
    params, questions = unit.params, unit.questions()
    curated = pipeline.curate(unit, params.teacher, 1)
    rates = pipeline.pass_rates(unit, questions[: params.pass_rate_questions])
    compressed = pipeline.compressed(unit, rates)
    funnels = {"trajectories": curated.funnel, "questions": compressed.funnel}
    funnel = pd.concat([table.assign(pool=name) for name, table in funnels.items()])
    rates = rates.assign(kept=rates["problem_id"].isin(compressed.kept["problem_id"]))
    table = pipeline.shuffled(unit, pipeline.without_ids(curated.kept))
    table = table.assign(
        level=table["problem_id"].map({q.id: q.level for q in questions}),
        pass_rate=table["problem_id"].map(rates.set_index("problem_id")["pass_rate"]),
        hard=table["problem_id"].isin(compressed.kept["problem_id"]),
    )
    return Pool(table, funnel.assign(**unit.row), rates.assign(**unit.row), curated.n_tokens)
