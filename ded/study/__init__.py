"""The steps that the notebooks share and those of each: questions of a replicate, corpora, distilled and scored students.

`common` holds what every notebook uses; each notebook's own arms stand in a module of their own.
"""

from ded.study.common import *  # noqa: F403
from ded.study.diversity import RULES, diversity_arm, diversity_before, diversity_corpora, diversity_pool
from ded.study.teachers import own_score, smoke_test
from ded.study.tradeoff import tradeoff_arm, tradeoff_arms, tradeoff_corpora, tradeoff_pool
