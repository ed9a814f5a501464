"""The files that a preset's values come from, one over the other.

params/<preset>/all.yml holds for every notebook that has its keys, params/<preset>/<notebook>.yml
for one, over it. Either may say `extends:` another preset; then only what differs has to be
written.
"""

import datetime
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from ded import home
from ded.errors import ParameterError, no_such
from ded.files import read_yaml, shown, write_text
from ded.params.schemas import SCHEMAS, Fitted, Parameters

ALL = "all.yml"
HEAD = """\
# {name}: as {base}, but for what stands here. All values, and where each comes from:
# ded params --preset {name}. What each means stands in the notebooks' parameters cells.
# What holds for one notebook alone goes into {name}/<notebook>.yml.
"""


@dataclass(frozen=True)
class Layer:
    """Values that one place sets: a file, the command line, a notebook's defaults."""

    place: str
    values: Mapping[str, Any]

    @property
    def keys(self) -> set[str]:
        """The parameters that it sets, of mappings all (engine for engine.dtype)."""
        return {key.partition(".")[0] for key in self.values}


def presets() -> list[str]:
    """The names of the presets: the folders of params/, but that of the launch configurations."""
    folders = (home() / "params").glob("*/")
    return sorted(folder.name for folder in folders if folder.name != "accelerate")


def of_preset(preset: str, notebook: str) -> list[Layer]:
    """What the preset's files set for a notebook, later ones over earlier; [] for a preset without
    files. ParameterError for one that has files, but none for this notebook."""
    layers, folder = _read(preset, notebook), home() / "params" / preset
    for layer in layers:
        label = layer.values.get("preset", preset)
        if layer.place.startswith(f"{shown(folder)}/") and label != preset:
            raise ParameterError(f"{layer.place}: preset is {label!r}, but --preset {preset!r}")
    others = sorted(file.name for file in folder.glob("*.yml"))
    if others and not layers:
        all_yml = f"{shown(folder / ALL)}, which holds for all (`extends: lab`)"
        mend = f"write {all_yml}, or name one by --only"
        raise ParameterError(f"preset {preset!r} has {', '.join(others)}, not {notebook}: {mend}")
    return layers


def _read(preset: str, notebook: str, above: tuple[str, ...] = ()) -> list[Layer]:
    """The layers of a preset's files, what they extend first."""
    if preset not in presets():
        raise ParameterError(no_such("preset", preset, presets()))
    if preset in above:
        raise ParameterError(f"{' -> '.join([*above, preset])}: these extend each other in a ring")
    files = [home() / "params" / preset / name for name in (ALL, f"{notebook}.yml")]
    written = {file: read_yaml(file) for file in files if file.is_file()}
    below: list[Layer] = []
    if extending := [file for file in written if "extends" in written[file]]:
        file = extending[-1]  # the notebook's own word counts
        try:
            below = _read(str(written[file]["extends"]), notebook, (*above, preset))
        except ParameterError as error:
            raise ParameterError(f"{shown(file)}: extends: {error}") from None
    of_others = {key for schema in SCHEMAS.values() for key in schema.model_fields}
    if notebook in SCHEMAS:
        of_others -= SCHEMAS[notebook].model_fields.keys()
    own = []
    for file, values in written.items():
        left_out = {"extends"} | (of_others if file.name == ALL else set())
        left_out |= {"fixed_on"} if above else set()  # no preset was fixed when another was
        kept = {key: v for key, v in values.items() if key.partition(".")[0] not in left_out}
        own.append(Layer(shown(file), kept))
    return below + own


def left_from_the_lab(layers: Iterable[Layer], values: Parameters) -> str:
    """What is wrong where students that are not the lab's stand before values made for it; "" where
    nothing is.

    These are what names the lab (`lab:`) and what is `Fitted` to it, as far as it was set while the
    students were the lab's.
    """
    students: list[str] = []
    for_the_lab: dict[str, bool] = {}
    for _, of_one in groupby(layers, lambda layer: Path(layer.place).parent):  # a preset's folder
        together = list(of_one)
        for layer in together:
            students = layer.values.get("students", students)
        keys = set().union(*(layer.keys for layer in together))
        for_the_lab |= dict.fromkeys(keys, _of_the_lab(students))
    if _of_the_lab(students):
        return ""
    fields, dumped = type(values).model_fields, values.model_dump()
    left = [
        key
        for key in fields
        if for_the_lab.get(key)
        and (Fitted in fields[key].metadata or '"lab:' in json.dumps(dumped[key]))
    ]
    told = ", ".join(f"{key} {dumped[key]!s:.40}" for key in left)
    mend = "set them, or extend a preset that does (extends: gpu)"
    what = f"students {students} are not the lab's, but values made for the lab stand behind them"
    return f"{what}: {told}; {mend}" if left else ""


def _of_the_lab(students: Any) -> bool:
    """Whether all are: trained ones count as what they were trained from."""
    return all(str(student).startswith(("lab:", "store:")) for student in students)


def write(
    name: str, base: str, values: Mapping[str, Any], of_notebooks: Mapping[str, Mapping[str, Any]]
) -> Path:
    """Writes params/<name>/all.yml, a preset that extends `base` and sets these values, and a file
    for each notebook that has values of its own; returns the first."""
    today = datetime.date.today().isoformat()
    content = {"preset": name, "extends": base, "fixed_on": today, **values}
    lines = [line(key, value) for key, value in content.items()]
    text = HEAD.format(name=name, base=base) + "\n".join([*lines, ""])
    folder = home() / "params" / name
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in SCHEMAS:
        (folder / f"{notebook}.yml").unlink(missing_ok=True)
        if own := of_notebooks.get(notebook):
            lines = [line(key, value) for key, value in {"preset": name, **own}.items()]
            write_text(folder / f"{notebook}.yml", "\n".join([*lines, ""]))
    return write_text(folder / ALL, text)


def line(key: str, value: Any) -> str:
    """`key: value` in one line of YAML."""
    text = yaml.safe_dump({key: value}, default_flow_style=True, sort_keys=False, width=10**6)
    return re.sub(r"^\{(.*)\}\n$", r"\1", text, flags=re.DOTALL)
