"""The steps that the notebooks share and those of each: questions of a replicate, corpora, distilled and scored students.

`common` holds what every notebook uses; each notebook's own arms stand in a module of their own.
"""

from ded.study.common import *  # noqa: F403
from ded.study.diversity import (
    RULES,
    diversity_arm,
    diversity_before,
    diversity_corpora,
    diversity_pool,
)
from ded.study.recipe import (
    advice,
    cheap_score_table,
    cheap_scores,
    recipe_arm,
    recipe_arms,
    recipe_choice,
    recipe_equal,
    recipe_jobs,
    recipe_pool,
    recipe_smoke,
)
from ded.study.teachers import own_score, smoke_test
from ded.study.tradeoff import tradeoff_arm, tradeoff_arms, tradeoff_corpora, tradeoff_pool
from ded.study.valley import (
    completion,
    valley_arm,
    valley_arms,
    valley_corpora,
    valley_curve,
    valley_pool,
)
