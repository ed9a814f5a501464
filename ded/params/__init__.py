"""Typed parameters of the notebooks, and one clear error for all that is wrong with them.

A notebook's cell tagged `parameters` holds the defaults, params/<preset>/<notebook>.yml what a preset changes, and
`ded.schemas` types and ranges. `ded` checks everything before any work (`load`); a notebook that is run in
any other way checks its own namespace in its first cell (`check`).
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ValidationError

from ded import home
from ded.errors import ParameterError, near
from ded.files import read_yaml, shown
from ded.params.schemas import SCHEMAS, Common, model_spec

IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}


# ---- checking --------------------------------------------------------------------------------------------------------


def check(schema: str | type[Common], namespace: Mapping[str, Any]) -> Common:
    """The frozen parameters among `namespace` (a notebook's globals()), checked.

    `schema` is a class, its name, or the notebook's. Every public plain global that is no parameter counts as a
    misspelt one, for that is how papermill passes an unknown key; in IPython only those set by the last parameters
    cell and by what papermill injected after it, so that the cell can be run again when the notebook has run.
    Raises ParameterError with all problems, each with key, value, what is allowed, and the nearest known name.
    """
    model = _schema(schema)
    known = set(model.model_fields)
    found = {name for name, value in namespace.items() if _plain(name, value)}
    if (cells := namespace.get("In")) and (assigned := _parameter_cells(cells, known)):
        found &= assigned | known
    return validated(model, {name: namespace[name] for name in found}, "parameters")


def load(preset: str, notebook: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The checked parameters of one run: the notebook's defaults, over them the preset's file, over them `overrides`.

    `notebook` is a name or an unambiguous beginning of one ('01'). Raises ParameterError, which names the file and
    the key, for an unknown preset or notebook, a file that is no YAML mapping of distinct keys, an unknown key, a
    value of the wrong type or out of range.
    """
    path = find_notebook(notebook)
    model = _schema(path.stem)
    file = preset_file(preset, path.stem)
    changed = read_yaml(file) if file.is_file() else {}
    if changed.get("preset", preset) != preset:
        raise ParameterError(
            f"{shown(file)}: preset is {changed['preset']!r}; allowed: {preset!r}, the folder's name"
        )
    if (overrides or {}).get("preset", preset) != preset:
        raise ParameterError(
            f"the command line: preset = {overrides['preset']!r}: choose it with --preset"
        )
    start = defaults(path)
    values = start | changed | {"preset": preset} | dict(overrides or {})
    sources = [("the command line", overrides or {}), (shown(file), changed), (shown(path), start)]
    where = {
        key: next((name for name, keys in sources if key in keys), shown(file)) for key in values
    }
    return validated(model, values, shown(path), where).model_dump()


def validated(
    model: type[Common], values: Mapping[str, Any], place: str, where: Mapping[str, str] = {}
) -> Common:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [
            _problem(model, item, where.get(str(item["loc"][0]), place)) for item in error.errors()
        ]
    raise ParameterError(
        "\n".join([f"{model.__name__}: {len(lines)} problem(s) with the parameters", *lines])
    )


def _problem(model: type[Common], error: Any, place: str) -> str:
    """One line for one of pydantic's errors."""
    key, *inside = error["loc"]
    name = key
    if (
        key in model.model_fields
        and _is_model(nested := model.model_fields[key].annotation)
        and inside
    ):
        model, key, *inside = nested, *inside  # a key inside `engine` or `trainer`
        name = f"{name}.{key}"
    if error["type"] == "missing":
        return f"  {place}: {name} is missing; allowed: {_allowed(model, key)}"
    if error["type"] == "secret":  # not to be repeated
        return f"  {place}: {name} {error['msg']}"
    value = error["input"]
    head = f"  {place}: {name}{''.join(f'[{i}]' for i in inside)} = {_short(value)}"
    if error["type"] == "extra_forbidden":
        return f"{head}: unknown parameter{near(str(key), model.model_fields)}"
    if error["type"] in ("model", "source", "distinct", "file"):
        return f"{head} {error['msg']}"
    hint = (
        near(value, get_args(model.model_fields[key].annotation)) if isinstance(value, str) else ""
    )
    if isinstance(value, str) and _is_number(value):
        hint = "; it is text here: write it without quotes"
        if "e" in value.lower():  # YAML 1.1 wants a point and a signed exponent
            mantissa, exponent = value.lower().split("e")
            hint = f"; YAML reads {value} as text: write {float(mantissa)}e{int(exponent):+d}"
    return f"{head}: allowed: {_allowed(model, key)}{hint}"


def _allowed(model: type[Common], key: str) -> str:
    field = model.model_fields[key]
    return _describe(field.annotation, field.metadata)


def _describe(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    if get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        metadata = [*metadata, *extra]
    if get_origin(annotation) is Literal:
        return " or ".join(map(repr, get_args(annotation)))
    if get_origin(annotation) is list:
        return f"a list, each {_describe(get_args(annotation)[0])}"
    if annotation is str and any(
        isinstance(m, AfterValidator) and m.func is model_spec for m in metadata
    ):
        return "a model spec such as 'lab:<name>'"
    if _is_model(annotation):
        return f"a mapping with keys among {', '.join(annotation.model_fields)}"
    kinds = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    text = kinds.get(annotation, str(annotation))
    bounds = []
    for item in metadata:
        for part in getattr(item, "metadata", [item]):
            for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
                if hasattr(part, name) and getattr(part, name) is not None:
                    bounds.append(f"{sign} {getattr(part, name)}")
    return " ".join([text, *([" and ".join(bounds)] if bounds else [])])


def _is_model(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _plain(name: str, value: Any) -> bool:
    """Whether a global could be a parameter: not private, not IPython's, not something imported or defined."""
    return not (
        name.startswith("_")
        or name in IPYTHON
        or callable(value)
        or isinstance(value, types.ModuleType)
        or inspect.isclass(value)
        or value.__class__.__name__ == "_Feature"
    )


def _parameter_cells(cells: Iterable[str], known: set[str]) -> set[str]:
    """Names set by the last cell of IPython's history that reads as a parameters cell, and by papermill's after it."""
    assigned: set[str] = set()
    for source in list(cells)[:-1]:  # the last one is being run
        try:
            names = {name for name, _ in _assignments(source)}
        except SyntaxError:  # a cell with magics
            continue
        if source.startswith("# Parameters"):  # papermill's heading for what it injects
            assigned |= names
        elif len(names & known) >= 2:
            assigned = names
    return assigned


# ---- files -----------------------------------------------------------------------------------------------------------


def notebooks() -> list[Path]:
    """The repository's notebooks, in order."""
    return sorted((home() / "notebooks").glob("[0-9]*.ipynb"))


def presets() -> list[str]:
    """The names of the presets: the folders of params/, but that of the launch configurations."""
    return sorted(p.name for p in (home() / "params").glob("*/") if p.name != "accelerate")


def find_notebook(name: str) -> Path:
    """The notebook of this name, path, or unambiguous beginning of a name. ParameterError where there is none."""
    stem = Path(name).name.removesuffix(".ipynb")
    names = {path.stem: path for path in notebooks()}
    matches = [stem] if stem in names else [known for known in names if known.startswith(stem)]
    if len(matches) == 1:
        return names[matches[0]]
    raise ParameterError(
        f"no notebook {name!r}; there are: {', '.join(names) or 'none'}{near(stem, names)}"
    )


def preset_file(preset: str, notebook: str) -> Path:
    """params/<preset>/<notebook>.yml; ParameterError for an unknown preset. A missing file changes nothing."""
    if preset not in presets():
        known = presets()
        raise ParameterError(
            f"no preset {preset!r}; there are: {', '.join(known) or 'none'}{near(preset, known)}"
        )
    return home() / "params" / preset / f"{notebook}.yml"


def defaults(notebook: Path) -> dict[str, Any]:
    """The literals that the notebook's cell tagged `parameters` assigns. Read with `ast`: nothing is run."""
    import json

    cells = [
        c
        for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "code"
    ]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(
            f"{shown(notebook)}: {len(tagged)} cells tagged 'parameters'; allowed: one"
        )
    values = {}
    for name, node in _assignments("".join(tagged[0]["source"])):
        try:
            values[name] = ast.literal_eval(node)
        except ValueError:
            raise ParameterError(
                f"{shown(notebook)}: {name} = {ast.unparse(node)}: the parameters cell holds literals only"
            ) from None
    return values


def _assignments(source: str) -> list[tuple[str, ast.expr]]:
    """(name, value) of the plain and annotated assignments at the top level of a cell."""
    found = []
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            found += [(target.id, node.value) for target in targets if isinstance(target, ast.Name)]
    return found


def parse_value(text: str) -> Any:
    """A value given on the command line: a number, or what YAML makes of it."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


# ---- small things ----------------------------------------------------------------------------------------------------


def _schema(schema: str | type[Common]) -> type[Common]:
    if isinstance(schema, type):
        return schema
    by_name = SCHEMAS | {cls.__name__: cls for cls in SCHEMAS.values()}
    if schema not in by_name:
        raise ParameterError(
            f"no schema for {schema!r}; there are: {', '.join(by_name)}{near(schema, by_name)}"
        )
    return by_name[schema]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
