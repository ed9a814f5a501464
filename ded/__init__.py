"""ded: data-efficient distillation, re-measured.

Rooms, in the order in which data passes through them: problems, models, generation, grading, curation,
training, evaluation, analysis, stats, figures. Beside them: schemas, params, jobs, store, results, cli, and the lab.
Importing `ded` imports none of them and nothing heavy.
"""

from pathlib import Path

__version__ = "0.1.0"


def home() -> Path:
    """The repository that the working directory lies in: the nearest folder upwards whose pyproject.toml
    names `ded`; the working directory itself where there is none (an installed package used elsewhere)."""
    import tomllib

    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            try:
                if (
                    tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}).get("name")
                    == "ded"
                ):
                    return folder
            except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                continue  # another project's broken file is not ours to complain about
    return here
