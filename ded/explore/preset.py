"""The values of the interactive view as a preset that the notebooks run with."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import yaml

from ded import home, params
from ded.errors import ExploreError
from ded.explore.pool import Values, values_of
from ded.files import shown, write_text
from ded.params.schemas import SCHEMAS, Common


def write_preset(
    run: Common, notebook: str, values: Values, name: str = "mine", replace: bool = False
) -> list[Path]:
    """Writes params/<name>/<notebook>.yml: the run's own values, over them `values` (of `Values`,
    and teacher).

    Every other notebook that takes a changed value gets such a file too, on top of the run's
    preset. Returns the files. Before anything is written: ParameterError for values out of range,
    ExploreError for files that are there already, unless `replace`.
    """
    if not name.replace("-", "_").isidentifier() or name in ("accelerate", run.preset):
        raise ExploreError(
            f"{name!r} cannot be the preset's name: letters, digits, - and _, and not "
            f"{run.preset!r}, from which it is made"
        )
    before = vars(values_of(run))
    changed = {key: value for key, value in vars(values).items() if value != before[key]}
    texts = {}
    for path in params.notebooks():
        taken = {k: v for k, v in changed.items() if k in SCHEMAS[path.stem].model_fields}
        own = path == params.find_notebook(notebook)
        if own or taken:
            start = run.model_dump() if own else params.load(run.preset, path.stem)
            file = home() / "params" / name / f"{path.stem}.yml"
            texts[file] = _preset_text(run.preset, path, start, taken)
    existing = ", ".join(shown(file) for file in texts if file.exists())
    if existing and not replace:
        raise ExploreError(f"{existing} would be replaced: allow that, or choose another name")
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    return list(texts)


def _preset_text(preset: str, path: Path, start: dict[str, Any], changed: dict[str, Any]) -> str:
    """A preset's file for the notebook at `path`: what differs from its defaults; ParameterError
    where it is not valid."""
    defaults = params.defaults(path)
    values = {key: value for key, value in start.items() if value != defaults[key]}
    values |= changed | {"fixed_on": datetime.date.today().isoformat()}
    values = {key: value for key, value in values.items() if key not in ("preset", "out_dir")}
    params.load(preset, path.stem, values)
    keys = ", ".join(changed) or "nothing"
    head = f"# Preset {preset}, changed in the interactive view: {keys}."
    text = yaml.safe_dump(values, sort_keys=False)
    return f"{head} Other values: the notebook's defaults.\n{text}"
