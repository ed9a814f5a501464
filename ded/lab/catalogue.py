"""The lab: tiny language models, task families and teachers, trained for real on a CPU (see
`ded/lab/README.md`).
"""

import os
from functools import lru_cache
from pathlib import Path

from ded.errors import ModelError, no_such
from ded.files import read_yaml

HERE = Path(__file__).parent


@lru_cache(maxsize=1)
def recipes() -> dict:
    """recipes.yml: the models' recipes, by name and a parent before its children, and the rules
    they are held to.
    """
    return read_yaml(HERE / "recipes.yml")


def names(role: str | None = None) -> list[str]:
    """The lab's models, or those of one role: "student", "direct" (answers at once), "teacher",
    "ancestor".
    """
    return [name for name, recipe in recipes()["models"].items() if role in (None, recipe["role"])]


def checkpoint(name: str) -> Path:
    """The Hugging Face directory of a lab model: under $DED_LAB where that is set, else the one in
    the package.
    """
    if name not in recipes()["models"]:
        raise ModelError(no_such("lab model", name, names()))
    folder = Path(os.environ.get("DED_LAB") or HERE / "checkpoints") / name
    if not (folder / "model.safetensors").is_file():
        mend = f"`ded lab build {name}` trains it"
        raise ModelError(f"lab model {name!r} has no checkpoint at {folder}; {mend}")
    return folder
