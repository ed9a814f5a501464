"""Every figure: a function from tables to a matplotlib Figure, in one style.

Nothing is sampled or graded here. Tables are those of `ded.study`: score rows (base, arm,
replicate, family, group, accuracy, ...), arms' rows, funnels. Accuracies stay fractions in the data
and read as percent on the axes. Whiskers and bands are the 95 % intervals of `ded.stats` over
replicates; a base with a single replicate has none. Colour never stands alone: markers, line styles
or labels tell the same. The Figures are not registered with pyplot: a notebook shows one by
returning it, and none leaks.
"""

from .correlations import (
    cheap_score_ranks,
    cheap_scores,
    predictor_table,
    predictors,
    rank_correlations,
)
from .differences import ablation, claim_rows, forest
from .diversity import arm_scores, distances, distinct, robustness
from .parts import cells, style
from .recipe import paper_figure_1, recipe_pareto, same_axes
from .sizes import ood_families, size_curve, valley
from .teachers import funnel, latent_shift, teacher_interaction, teacher_rank, teacher_vs_student
from .tradeoff import pareto, pass_rates
