"""Typed parameters of the notebooks, and one clear error for all that is wrong with them.

A notebook's cell tagged `parameters` holds the defaults, params/<preset>/<notebook>.yml what a
preset changes, and `ded.params.schemas` types and ranges. `ded` checks everything before any work
(`load`); a notebook that is run in any other way checks its own namespace in its first cell
(`check`).
"""

import ast
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path, PurePath
from typing import Any, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ded import home
from ded.errors import DedError, ParameterError, near, no_such
from ded.files import parse_yaml, read_yaml, replacing, shown
from ded.options import Secret
from ded.params.layers import ALL, Layer, left_from_the_lab, line, of_preset, presets
from ded.params.layers import write as write_layers
from ded.params.schemas import SCHEMAS, TAGS, Parameters
from ded.params.whole import LABELS, with_choice

Model = TypeVar("Model", bound=BaseModel)
SHARE = (
    Path(__file__).parents[1] / "share"
)  # links to the repository's folders; in a wheel their files
COMMAND_LINE = "the command line"
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))  # what a parameter may be
IPYTHON = {"In", "Out"}  # IPython's history, plain values in every notebook's namespace
INJECTED = "# Parameters"  # papermill's heading of the cell with the parameters passed to it
# papermill writes down as text what it has no literal for (NumPy's numbers, tuples, sets), and
# reads files by YAML 1.1, where 1e-3 is text
AS_TEXT = (
    "; it is text: write it without quotes, and for papermill as a plain number (1.0e-3), list, "
    "dict, true or false: all else it hands on as text"
)


# ---- checking ----------------------------------------------------------------------------------


def check(schema: str | type[Parameters], namespace: Mapping[str, Any]) -> Parameters:
    """The frozen parameters among `namespace` (a notebook's globals()), checked.

    `schema` is a notebook's name, or a class. A public global that holds a plain value and is no
    parameter counts as a misspelt one, for that is how papermill passes an unknown key. In IPython
    only those count that the last parameters cell and papermill's after it set, so that the cell
    can be run again when the notebook has run. Raises ParameterError with all problems.
    """
    model = schema_of(schema) if isinstance(schema, str) else schema
    assigned, passed = parameter_names(namespace.get("In", []))
    if isinstance(schema, str) and "preset" in passed:
        return _passed(schema, {name: namespace[name] for name in passed})
    plain = {name for name, value in namespace.items() if isinstance(value, PLAIN)}
    candidates = {name for name in plain - IPYTHON if not name.startswith("_")}
    if assigned or passed:
        candidates &= assigned | passed
    names = candidates | model.model_fields.keys()
    values = {name: value for name, value in namespace.items() if name in names}
    params = validated(model, values, "parameters")
    if isinstance(schema, str) and assigned:
        find_notebook(schema)  # a wrong folder is told before any work
        _check_edited(schema, params, passed)
    return params


def _check_edited(notebook: str, params: Parameters, passed: set[str]) -> None:
    """ParameterError where students of a preset were changed in the cell, and what it has for the
    lab was not."""
    if params.preset in presets():
        start, now = load(params.preset, notebook), params.model_dump()
        own = {name: now[name] for name in now if name in passed or now[name] != start[name]}
        places = Layer(f"params/{params.preset}", start), Layer("parameters/cell", own)
        if wrong := left_from_the_lab(places, params):
            raise ParameterError(f"parameters: {wrong}, or give `preset` another name")


def parameter_names(history: Iterable[str]) -> tuple[set[str], set[str]]:
    """The names set by the last parameters cell of IPython's history, and by papermill's after it.

    The parameters cell is the one that assigns `preset`, as all notebooks' do.
    """
    names: set[str] = set()
    passed: set[str] = set()
    for source in list(history)[:-1]:  # the last cell is the one being run
        try:
            assigned = {name for name, _ in _assignments(source)}
        except SyntaxError:  # a cell that did not run
            continue
        if source.startswith(INJECTED):
            passed |= assigned
        elif "preset" in assigned:
            names, passed = assigned, set()
    return names, passed


def _passed(notebook: str, values: dict[str, Any]) -> Parameters:
    """What papermill passed, over the files of the preset that it names; a name without files is
    a label where all is passed, and else misspelt."""
    path, preset = find_notebook(notebook), values["preset"]
    label = preset not in presets() and schema_of(path.stem).model_fields.keys() <= values.keys()
    layers = [] if label else of_preset(preset, path.stem)
    return _merged(path, preset, [*layers, Layer("papermill", values)])


def load(preset: str, notebook: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The checked parameters of one run: the notebook's defaults, the preset's file, `overrides`.

    Later ones replace earlier ones. `notebook` is a name or an unambiguous beginning of one ('01').
    Raises ParameterError, which names the file and the key, for an unknown preset or notebook, a
    file that is no YAML mapping of distinct keys, an unknown key, a value of the wrong type or out
    of range.
    """
    return checked(preset, notebook, overrides).model_dump()


def checked(preset: str, notebook: str, overrides: Mapping[str, Any] | None = None) -> Parameters:
    """As `load`, and as an instance of the notebook's schema."""
    path = find_notebook(notebook)
    layers = [*of_preset(preset, path.stem), Layer(COMMAND_LINE, overrides or {})]
    if (other := layers[-1].values.get("preset", preset)) != preset:
        raise ParameterError(f"{COMMAND_LINE}: preset is {other!r}, but --preset {preset!r}")
    return _merged(path, preset, layers)


def origins(
    preset: str, notebook: str, overrides: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The place that sets each parameter: a file, the command line; without one the default
    holds."""
    layers = [*of_preset(preset, notebook), Layer(COMMAND_LINE, overrides or {})]
    return {key: layer.place for layer in layers for key in layer.keys}


def _merged(path: Path, preset: str, layers: list[Layer]) -> Parameters:
    """A notebook's defaults with the layers over them, checked."""
    values = defaults(path)
    if "fixed_on" in values and preset != values["preset"]:
        values["fixed_on"] = ""  # its date is that of its own preset
    start = Layer(shown(path), values)
    places: dict[str, str] = {}
    for layer in layers:
        places |= dict.fromkeys(layer.keys, layer.place)
        for key, value in layer.values.items():
            values = _put(values, key, value)
    merged = validated(schema_of(path.stem), values | {"preset": preset}, shown(path), places)
    if wrong := left_from_the_lab([start, *layers], merged):
        raise ParameterError(f"{places.get('students', shown(path))}: {wrong}")
    return merged


def _put(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The values with one more: with a dot in `key` it goes into a mapping among them and leaves
    the others there as they are (engine.dtype).
    """
    name, dot, inside = key.partition(".")
    if dot:
        before = values.get(name)
        value = _put(before if isinstance(before, Mapping) else {}, inside, value)
    return {**values, name: value}


def validated(
    model: type[Model], values: Mapping[str, Any], place: str, places: dict[str, str] | None = None
) -> Model:
    """The values as an instance of `model`; ParameterError, a line a problem, where any is wrong.

    A line names the place that set the value: `places` by key, else `place`. NumPy's values, dates,
    paths and tuples are taken for the plain ones that they stand for, and `chosen: reference` for
    what the reference chose.
    """
    try:
        return model.model_validate(with_choice(plain(dict(values))))
    except ValidationError as error:
        problems = error.errors()
    lines = [f"{model.__name__}: {len(problems)} problem(s) with the parameters"]
    for problem in problems:
        setter = (places or {}).get(str(problem["loc"][0] if problem["loc"] else ""), place)
        lines.append(f"  {setter}: {_problem(model, problem)}")
    raise ParameterError("\n".join(lines))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(value before, value now) of each parameter that differs, but for `LABELS`; None for what is
    left at its default. Of a parameter with several keys, by key: engine.dtype.

    A parameter that only one of the two has is none: a run of an older ded did not write it down.
    """
    names = (before.keys() & now.keys()) - LABELS
    old, new = (dict(_flat({k: v for k, v in run.items() if k in names})) for run in (before, now))
    pairs = {key: (old.get(key), new.get(key)) for key in new | old}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def described(pairs: Mapping[str, tuple[Any, Any]], most: int = 6) -> str:
    """What `differences` gives, as text: 'seed 2 (was 1), ...'."""
    texts = [f"{key} {_short(now)} (was {_short(old)})" for key, (old, now) in pairs.items()]
    more = f", and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _short(value: Any) -> str:
    text = "the default" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def plain(value: Any) -> Any:
    """The number, text, list or dict that a value of NumPy, a date, a path or a tuple stands for;
    other values as they are."""
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case np.generic() | np.ndarray(shape=()):
            # float32's 0.1 is meant to be 0.1
            return float(str(value)) if isinstance(value, np.floating) else plain(value.item())
        case list() | tuple() | np.ndarray():
            return [plain(item) for item in value]
        case date():
            return value.isoformat()
        case PurePath():
            return str(value)
    return value


def _problem(model: type[BaseModel], error: ErrorDetails) -> str:
    """One of pydantic's errors as text: key, value, what is wrong, the nearest allowed name."""
    if not error["loc"]:  # of the parameters together
        return str(error["ctx"]["error"])
    key, *inside = (part for part in error["loc"] if part not in TAGS)
    name = f"{key}" + "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in inside)
    value, context = error["input"], error.get("ctx", {})
    head = f"{name} = {value!r:.60}"
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "value_error" if isinstance(context["error"], DedError):  # names its culprit
            return f"{name}: {context['error']}"
        case "value_error":  # of a validator of ours, which goes on with the sentence
            # the value of a secret is not to be repeated
            return f"{name if isinstance(context['error'], Secret) else head} {context['error']}"
        case "extra_forbidden":
            owner: Any = model
            for outer in error["loc"][:-1]:
                fields = getattr(owner, "model_fields", {})
                owner = fields[outer].annotation if fields else get_args(owner)[-1]
            # text may be a key that was put in the wrong place
            what = head if isinstance(value, int | float) else name
            return f"{what}: unknown parameter{near(error['loc'][-1], owner.model_fields)}"
    hint = ""
    if error["type"] == "string_type":
        hint = "; write it in quotes"
    elif isinstance(value, str) and error["type"] != "literal_error":
        hint = AS_TEXT
    return f"{head}: {error['msg']}{hint}"


# ---- files -------------------------------------------------------------------------------------


def unpack() -> list[str]:
    """Puts the notebooks and the presets that travel with the package into `home()`, where it has
    none; what was put there."""
    missing = [name for name in ("notebooks", "params") if not (home() / name).exists()]
    for name in missing:
        with replacing(home() / name) as work:
            shutil.copytree(SHARE / name, work, ignore=shutil.ignore_patterns(".*"))
    return missing


def write_preset(
    name: str,
    base: str,
    values: Mapping[str, Any],
    replace: bool = False,
    of_notebooks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Writes params/<name>/all.yml, a preset that extends `base` and sets these values, for each
    notebook those that it has, and for notebooks with values of their own files of theirs; returns
    its path. One with the same values is left as it stands.

    ParameterError, before anything is written, for a name that cannot be a folder's or has other
    values (unless `replace`), and for values that the preset's notebooks cannot be run with.
    """
    if not name.replace("-", "_").isidentifier() or name in ("accelerate", base):
        allowed = f"letters, digits, - and _, and not {base!r}, which it extends"
        raise ParameterError(f"{name!r} cannot be the preset's name: {allowed}")
    names = {key for schema in SCHEMAS.values() for key in schema.model_fields}
    if unknown := [key for key in values if key.partition(".")[0] not in names]:
        given = f"{unknown[0]} = {values[unknown[0]]}"
        raise ParameterError(f"{given}: unknown parameter{near(unknown[0], names)}")
    others: dict[str, tuple[Any, Any]] = {}
    if not (every := notebooks()):
        raise no_notebooks()
    for path in every:
        own = of_schema(schema_of(path.stem), values)
        wanted = load(base, path.stem, own | dict((of_notebooks or {}).get(path.stem, {})))
        if name in presets() and not replace:
            others |= differences(load(name, path.stem), wanted)
    if others:
        mend = "change its files, name another, or replace it"
        raise ParameterError(f"preset {name!r} is there already: {described(others)}; {mend}")
    if name in presets() and not replace:
        return home() / "params" / name / ALL
    return write_layers(name, base, values, of_notebooks or {})


def notebooks(only: Iterable[str] = ()) -> list[Path]:
    """The repository's notebooks in order, or those named (see `find_notebook`)."""
    every = (home() / "notebooks").glob("[0-9]*.ipynb")
    return [find_notebook(name) for name in only] or sorted(every)


def no_notebooks() -> ParameterError:
    """What is wrong in a folder that is neither the repository nor made by `ded new`."""
    mend = "run this in the repository, or put them here: ded new"
    return ParameterError(f"no notebooks in {home() / 'notebooks'}: {mend}")


def find_notebook(name: str) -> Path:
    """The notebook of this name, path, or unambiguous beginning of a name; else ParameterError."""
    stem = Path(name).name.removesuffix(".ipynb")
    stem = stem.zfill(2) if stem.isdigit() else stem
    paths = {path.stem: path for path in notebooks()}
    matches = [stem] if stem in paths else [other for other in paths if other.startswith(stem)]
    if len(matches) == 1:
        return paths[matches[0]]
    if not paths:
        raise no_notebooks()
    raise ParameterError(no_such("notebook", stem, paths))


def defaults(notebook: Path) -> dict[str, Any]:
    """The literals that the notebook's cell tagged `parameters` assigns. Nothing of it is run."""
    values = {}
    for name, node in _assignments(_parameters_cell(notebook)):
        try:
            values[name] = ast.literal_eval(node)
        except ValueError:
            given = f"{shown(notebook)}: {name} = {ast.unparse(node)}"
            raise ParameterError(f"{given}: the parameters cell holds literals only") from None
    return values


def _parameters_cell(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{shown(notebook)}: {len(tagged)} cells tagged 'parameters', not one")
    return "".join(tagged[0]["source"])


def _assignments(source: str) -> Iterator[tuple[str, ast.expr]]:
    """(name, value) of the plain and annotated assignments at the top level of a cell."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ((name, node.value) for name in names)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def parse_value(text: str) -> Any:
    """A value given on the command line: what YAML makes of it, the text itself where it is no
    YAML.
    """
    try:
        return parse_yaml(text, COMMAND_LINE) if text else text  # no text is YAML for null
    except ParameterError:
        return text


def of_schema(schema: type[BaseModel] | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of values for several notebooks those that one has, or keys of which ("engine.name"); None:
    a notebook without a schema, which has none."""
    fields = schema.model_fields if schema else {}
    return {key: value for key, value in values.items() if key.partition(".")[0] in fields}


def schema_of(notebook: str) -> type[Parameters]:
    """The schema of a notebook's parameters; ParameterError where there is none."""
    if notebook not in SCHEMAS:
        raise ParameterError(no_such("schema", notebook, SCHEMAS))
    return SCHEMAS[notebook]
