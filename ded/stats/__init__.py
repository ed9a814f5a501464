"""The statistics of the house: intervals over bases, Holm, verdicts, the notebooks' tests.

The rules and the reasons for them are in ``docs/statistics.md``. Words used here:

- *base*: a student base, the unit: claims are about students.
- *replicate*: a full rerun of all arms of one base with fresh questions, which the arms share. The
  unit where there are too few bases, and then conclusions hold for these bases alone.
- *arm*: what is compared (a teacher, a corpus size, a selection rule).
- *cell table*: a DataFrame with one row per (arm, base, replicate) and a value column, a fraction
  in 0..1. Without a ``base`` column all replicates are of one base. A missing value makes the
  result 'not judged'; it is never skipped.
"""

from .benchmarks import crossed_bootstrap, paired_questions, pass_at_k
from .claims import DELTA, Claim, Part, any_of, claim, detectable, judge, verdict, withheld
from .intervals import (
    ALPHA,
    Interval,
    arm_interval,
    chance,
    error_rate,
    headroom,
    macro,
    numbers,
    paired,
    pooled,
    rise,
    unbeaten,
    unit_of,
)
from .teachers import interaction, regret, top_against_rest, transfer_regret, without_each
