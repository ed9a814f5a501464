"""From trajectories to a corpus: quality filters, question compression, and the choice of diverse
trajectories.
"""

from ded.curation.filters import (
    Filtered,
    compress_questions,
    curate,
    drop,
    equal_tokens,
    fault,
    filter_correct,
    filter_format,
    filter_length,
    funnel_row,
    join,
    split_think,
)
from ded.curation.selection import (
    METRICS,
    RULES,
    Candidates,
    Selection,
    choose_farthest,
    choose_nearest,
    levenshtein,
    normalised,
    pairwise_distances,
    select_trajectories,
)
