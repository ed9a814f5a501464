"""The interactive view: what filters, threshold, P, metric and teacher make of stored
trajectories, without a model.

run = explore.recorded("outputs/lab", "03")
pool = explore.read_pool(unit, teacher)
choice = explore.choose(pool, explore.values_of(run))
explore.explored(pool, choice), explore.browse(pool, choice, problem_id)
"""

from ded.errors import ExploreError
from ded.explore.choice import (
    Values,
    assemble,
    browse,
    choose,
    page,
    prompt,
    read_pool,
    recorded,
    values_of,
)
from ded.explore.figure import explored, png
from ded.explore.widgets import explorer, write_preset
