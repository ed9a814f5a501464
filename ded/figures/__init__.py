"""Every figure: a function from tables to a matplotlib Figure, in one style; nothing is sampled or graded here.

Tables are those of `ded.study`: score rows (base, arm, replicate, family, group, accuracy, ...), arms' rows, funnels.
Accuracies stay fractions in the data and read as percent on the axes. Whiskers and bands are the 95 % intervals of
`ded.stats` over replicates; a base with a single replicate has none. Colour never stands alone: markers, line styles or
labels tell the same. The Figures are not registered with pyplot: a notebook shows one by returning it, and none leaks.
"""

from .diversity import arm_scores, distances, distinct, robustness
from .parts import cells, claim_rows, forest, style
from .recipe import (
    ablation,
    cheap_score_ranks,
    cheap_scores,
    paper_figure_1,
    recipe_pareto,
    same_axes,
)
from .teachers import (
    funnel,
    latent_shift,
    predictor_table,
    predictors,
    rank_correlations,
    teacher_interaction,
    teacher_rank,
    teacher_vs_student,
)
from .tradeoff import ood_families, pareto, pass_rates, size_curve
from .valley import valley

__all__ = [
    "ablation",
    "arm_scores",
    "cells",
    "cheap_score_ranks",
    "cheap_scores",
    "claim_rows",
    "distances",
    "distinct",
    "forest",
    "funnel",
    "latent_shift",
    "ood_families",
    "paper_figure_1",
    "pareto",
    "pass_rates",
    "predictor_table",
    "predictors",
    "rank_correlations",
    "recipe_pareto",
    "robustness",
    "same_axes",
    "size_curve",
    "style",
    "teacher_interaction",
    "teacher_rank",
    "teacher_vs_student",
    "valley",
]
