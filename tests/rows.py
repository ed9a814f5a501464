"""Tables of trajectories that no model drew, and the columns that every engine's tables have."""

from collections.abc import Callable

import pandas as pd

from ded.problems import Problem
from ded.problems import lab as tasks

COLUMNS = [
    "problem_id",
    "sample_index",
    "prompt",
    "text",
    "token_ids",
    "n_tokens",
    "finish_reason",
    "entropy_sum",
    "missing_mass",
    "model",
    "engine",
]


def trajectories(
    asked: list[Problem],
    n: int,
    write: Callable[[Problem, int, int], str],
    model: str = "lab:random",
) -> pd.DataFrame:
    """What `generation.sample` would give of a lab model that samples what `write` makes of a
    question, its number among `asked`, and the sample's index.
    """
    rows = []
    for number, question in enumerate(asked):
        for index in range(n):
            text = write(question, number, index)
            ids = [tasks.VOCABULARY.index(word) for word in text.split()]
            drawn = {"text": text, "token_ids": ids, "n_tokens": len(ids) + 1}
            drawn |= {"finish_reason": "stop", "entropy_sum": 0.5 * len(ids), "missing_mass": 0.0}
            place = {"problem_id": question.id, "sample_index": index, "prompt": question.prompt}
            rows.append(place | drawn | {"model": model, "engine": "transformers"})
    return pd.DataFrame(rows, columns=COLUMNS)
