"""ded: data-efficient distillation, re-measured.

Rooms, in the order in which data passes through them: problems, models, generation, grading,
curation, training, evaluation, analysis, stats, study, figures, report. Below them errors, files,
options, jobs and store; beside them params, plan, results, export, explore, the lab, and the
command line. The order in which they may import each other stands in pyproject.toml. Importing
`ded` imports none of them and nothing heavy.
"""

import gc
from pathlib import Path

# Python looks for garbage in cycles at every 700 new objects, of which tables make many and nearly
# none such: that took a tenth of a notebook's time
gc.set_threshold(10_000)

__version__ = "0.1.0"
MARK = Path("params", "throughput.yml")  # of the repository, and of a folder that `ded new` made


def home() -> Path:
    """The repository that the working directory lies in, or the folder that `ded new` made: the
    nearest folder upwards with such params/; the working directory itself where there is none."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / MARK).is_file()), here)
