"""The committed reference run (outputs/reference) as the whole that others are slices of: the same
parameters, but for those that choose among its units and arms.
"""

import csv
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ded import home

LABELS = {"preset", "out_dir", "fixed_on", "n_jobs"}  # parameters that decide no result
LISTS = ("students", "teachers", "arms")  # of a slice as many as there are of the whole, or fewer
CHOOSING = {*LISTS, "n_replicates", "chosen"}
RECIPE = "04_ded_recipe"  # the notebook that chooses a teacher for each base
NEXT = "DED_NEXT_REFERENCE"  # variable of a run that is to take the place of the committed one
ASKED = "reference"  # the value of `chosen` for what the reference chose
Pairs = dict[str, tuple[Any, Any]]


def folder(notebook: str) -> Path:
    """Where a notebook's committed results lie."""
    return home() / "outputs" / "reference" / notebook


def manifest(notebook: str) -> dict[str, Any] | None:
    """That of the committed reference, None where there is none."""
    with suppress(OSError, ValueError):
        return json.loads((folder(notebook) / "manifest.json").read_text(encoding="utf-8"))
    return None


def beyond(whole: Mapping[str, Any], values: Mapping[str, Any]) -> Pairs:
    """{parameter: (the whole's, this run's)} of what makes a run no slice of the whole, if any."""
    names = [name for name in {**whole, **values} if name not in CHOOSING | LABELS]
    pairs = {name: (whole.get(name), values.get(name)) for name in names}
    pairs = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    for name in LISTS:
        there, here = whole.get(name, []), values.get(name, [])
        if (there or name != "arms") and not {*here} <= {*there}:
            pairs[name] = (there, here)
    if values["n_replicates"] > whole["n_replicates"]:
        pairs["n_replicates"] = (whole["n_replicates"], values["n_replicates"])
    if values.get("chosen") and values["chosen"] != (there := choice(values["students"])):
        pairs["chosen"] = (there, values["chosen"])
    return pairs


def joined(notebook: str, values: Mapping[str, Any]) -> str:
    """Why the claims of a run bear no verdict, "" where they do: it asks the questions of the
    committed reference, which are spent, of a model that no notebook of the reference used.
    """
    committed = manifest(notebook) if values.get("split") == "test" else None
    same = ("split", "seed", "id_source")
    if committed is None or any(committed["params"].get(name) != values.get(name) for name in same):
        return ""
    manifests = (manifest(path.parent.name) or {} for path in folder("").glob("*/manifest.json"))
    used = {spec for record in manifests for spec in record["models"]}
    specs = [*values["students"], *values.get("teachers", [values.get("teacher")])]
    if not (new := [spec for spec in specs if spec not in used]):
        return ""
    mend = "its questions are spent; another seed draws new ones"
    return f"exploratory: {', '.join(new)} joined after the reference run, and {mend}"


def choice(students: list[str]) -> dict[str, dict[str, Any]]:
    """`chosen` as the reference recorded it for these students, as far as it did."""
    file = folder(RECIPE) / "choice.csv"
    if not file.is_file():
        return {}
    specs = {student.partition(":")[2]: student for student in students}
    recorded: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
        if spec := specs.get(row["base"]):
            about: dict[str, Any] = {
                "teacher": row["teacher"],
                "top": [],
                "other": row.get("other", ""),
            }
            recorded.setdefault(spec, about)["top"].append(row["top"])
    return recorded


def with_choice(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters with what `chosen: reference` stands for: {}, and so smoke tests, where the
    committed reference is not the whole that they are of.
    """
    if values.get("chosen") != ASKED:
        return values
    values = values | {"chosen": {}}
    with suppress(OSError, LookupError, TypeError):  # what is wrong with them is for others to say
        if (committed := manifest(RECIPE)) and not beyond(committed["params"], values):
            return values | {"chosen": choice(values["students"])}
    return values
