"""The statistics of the house: intervals over replicates, Holm, verdicts, the notebooks' tests.

The rules and the reasons for them are in ``docs/statistics.md``. Words used here:

- *replicate*: a full rerun of all arms of one student base with fresh questions, which the arms
  share. The unit.
- *base*: a student base, a fixed stratum. Conclusions hold for the bases at hand, each with equal
  weight.
- *arm*: what is compared (a teacher, a corpus size, a selection rule).
- *cell table*: a DataFrame with one row per (arm, base, replicate) and a value column, a fraction
  in 0..1. Without a ``base`` column all replicates form one stratum. A missing value makes the
  result 'not judged'; it is never skipped.
"""

from .benchmarks import crossed_bootstrap, maj_at_k, paired_questions, pass_at_k, spearman
from .claims import (
    DELTA,
    Claim,
    Part,
    any_of,
    claim,
    detectable,
    judge,
    not_below,
    verdict,
    withheld,
)
from .intervals import (
    ALPHA,
    Interval,
    arm_interval,
    by_base,
    effects_by_base,
    error_rate,
    macro,
    numbers,
    paired,
    rise,
    stratified,
    unbeaten,
)
from .teachers import interaction, rank_inversions, regret, transfer_regret
