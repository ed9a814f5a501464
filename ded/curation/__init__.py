"""From trajectories to a corpus: quality filters, question compression, and the choice of diverse
trajectories.
"""

from ded.curation.filters import (
    Filtered,
    compress_questions,
    compression,
    curate,
    difficulty_parts,
    drop,
    filter_branches,
    filter_format,
    funnel_row,
    join,
    repeats,
    split_think,
)
from ded.curation.selection import (
    METRICS,
    RULES,
    metric_named,
    pairwise_distances,
    select_trajectories,
)
