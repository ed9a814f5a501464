"""Every figure: a function from tables to a matplotlib Figure, in one style.

Nothing is sampled or graded here. Tables are those of `ded.study`: score rows (base, arm,
replicate, family, group, accuracy, ...), arms' rows, funnels. Accuracies stay fractions in the data
and read as percent on the axes. Whiskers and bands are the 95 % intervals of `ded.stats` over
replicates; a base with a single replicate has none. Colour never stands alone: markers, line styles
or labels tell the same. The Figures are not registered with pyplot: a notebook shows one by
returning it, and none leaks.
"""

from .arms import ablation, arm_scores, claim_rows, forest, robustness
from .corpora import distances, funnel, pass_rates
from .parts import cells, measures, replicates, style
from .recipe import paper_figure_1, recipe_pareto
from .sizes import ood_families, pareto, size_curve
from .teachers import (
    latent_shift,
    predictors,
    rank_correlations,
    teacher_interaction,
    teacher_vs_student,
)
