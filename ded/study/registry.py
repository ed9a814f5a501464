"""What each notebook distils, and which of it a run does."""

from collections.abc import Callable
from typing import Any

from ded.errors import ParameterError, no_such
from ded.params.schemas import SCHEMAS, Common
from ded.study import diversity, recipe, teachers, tradeoff, valley

# Functions from a notebook's parameters to {arm: examples that it trains on at most}.
ARMS: dict[str, Callable[[Any], dict[str, int]]] = {
    "01_teacher_selection": teachers.arms,
    "02_ood_tradeoff": tradeoff.arms,
    "03_trajectory_diversity": diversity.arms,
    "04_ded_recipe": recipe.arms,
    "05_valley": valley.arms,
}


def arms(params: Common) -> dict[str, int]:
    """{arm: examples that it trains on at most} of those that a run does: what params.arms names.

    ParameterError for a name that is none of the notebook's arms.
    """
    notebook = next((name for name, schema in SCHEMAS.items() if isinstance(params, schema)), "")
    every = ARMS[notebook](params) if notebook else {}  # of parameters common to all: none
    for name in params.arms:
        if name not in every:
            raise ParameterError(f"{notebook}: arms: {no_such('arm', name, every)}; []: all")
    return {name: size for name, size in every.items() if name in (params.arms or every)}
