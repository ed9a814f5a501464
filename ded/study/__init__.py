"""The steps that the notebooks share, and those of each: units, pools, arms, distilled and scored
students.

A unit is one student base and one rerun with questions of its own. Its pool is what a teacher's
trajectories leave after the filters; an arm is a named part of it; `run_arm` is the one way from an
arm to scores. What belongs to one finding stands in a module of its own: `teachers` (01, and the
choice of a teacher in 04), `tradeoff` (02), `diversity` (03), `recipe` (04), `valley` (05).
"""

from ded.study import (
    conditions,
    diversity,
    pipeline,
    recipe,
    recorded,
    teachers,
    tradeoff,
    valley,
)
from ded.study.pipeline import (
    Arm,
    before,
    compressed,
    curate,
    filtered,
    graded,
    own_score,
    pass_rates,
    run_arm,
    shuffled,
    sized,
    steps_of,
    teacher_corpus,
)
from ded.study.preflight import (
    attempts,
    check,
    describe,
    recorded_teachers,
    unknown_signs,
    unusable,
)
from ded.study.registry import ARMS, arms
from ded.study.unit import (
    Unit,
    calls,
    engines_of,
    evaluation_questions,
    short,
    teachers_of,
    training_questions,
    units,
)
