"""The steps that the notebooks share, and those of each: units, pools, arms, distilled and scored
students.

A unit is one student base and one rerun with questions of its own. Its pool is what a teacher's
trajectories leave after the filters; an arm is a named part of it; `run_arm` is the one way from an
arm to scores. What belongs to one finding stands in a module of its own: `teachers` (01),
`tradeoff` (02), `diversity` (03), `choice`, `recipe` and `predictors` (04), `valley` (05).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ded.study import choice, diversity, pools, predictors, recipe, teachers, tradeoff, valley
from ded.study.arms import (
    Arm,
    Outcome,
    before,
    distil,
    own_score,
    run_arm,
    score,
    sized,
    steps_of,
    unscored,
)
from ded.study.manifest import describe
from ded.study.pools import Corpus, curate, graded, pass_rates, step_valid, teacher_corpus
from ded.study.unit import Unit, calls, short, teachers_of, units

# What each notebook distils: a function from its parameters to {arm: examples that it trains on at
# most}. Plans count these.
ARMS: dict[str, Callable[[Any], dict[str, int]]] = {
    "01_teacher_selection": teachers.arms,
    "02_ood_tradeoff": tradeoff.arms,
    "03_trajectory_diversity": diversity.arms,
    "04_ded_recipe": recipe.arms,
    "05_valley": valley.arms,
}
