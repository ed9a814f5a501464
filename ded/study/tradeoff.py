"""Notebook 02: the pool that the arms of the trade-off between in-domain and out-of-domain select
from.
"""

from dataclasses import dataclass

import pandas as pd

from ded import curation, jobs
from ded.params.schemas import OodTradeoff
from ded.study import pipeline
from ded.study.unit import Unit

SELECTIONS = ("hard", "middle", "easy", "hard-tokens", "fixed-random", "fixed-hard")
MASTERED = 0.9  # pass@1 before; the lab's bands lie on both sides: .50 to .85, and .95 or more


@dataclass(frozen=True)
class Pool:
    """One unit's verified trajectories, one a question, in random order, with level, pass_rate and
    part (`curation.difficulty_parts`; both NaN: not rated).

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
    small, large = min(params.sizes), max(params.sizes)
    counted = {f"random {size}": size for size in params.sizes}
    counted |= {f"{selection} {small}": small for selection in SELECTIONS}
    # the largest corpus for as many steps as the small ones: as much to train on
    return counted | {f"random-steps {large}": small}


@jobs.looked_up
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
    parts = curation.difficulty_parts(rates, len(compressed.kept), unit.seed)
    table = pipeline.shuffled(unit, pipeline.without_ids(curated.kept))
    table = table.assign(
        level=table["problem_id"].map({q.id: q.level for q in questions}),
        pass_rate=table["problem_id"].map(rates.set_index("problem_id")["pass_rate"]),
        part=table["problem_id"].map(parts),
    )
    return Pool(table, funnel.assign(**unit.row), rates.assign(**unit.row), curated.n_tokens)


def mastered_apart(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with those OOD families in a group of their own, "mastered", that the bases answer
    before at a mean of MASTERED or more: they can be forgotten, not learnt.

    Where no family would be left, all stay OOD.
    """
    before = scores[(scores["arm"] == "before") & (scores["group"] == "OOD")]
    mastered = before.groupby("family")["accuracy"].mean() >= MASTERED
    if mastered.all():
        return scores
    apart = scores["family"].isin(mastered.index[mastered])
    return scores.assign(group=scores["group"].mask(apart, "mastered"))
