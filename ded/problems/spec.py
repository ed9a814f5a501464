"""The grammar of all problem sources (docs/sources.md)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from ded.errors import SourceError

FORMS = {
    "lab": "lab:<family>[/<from>-<to>]",
    "reasoning_gym": "reasoning_gym:<task>[?{setting: value}]",
    "data": "data:<name>[@<local file>][?{option: value}]",
    "file": "file:<path>",
}


class Spec(NamedTuple):
    """A parsed source; file is "" and options is {} where none are given."""

    kind: str
    name: str
    file: str
    options: dict[str, Any]


def parse(source: str) -> Spec:
    """The parts of a source; SourceError for an unknown kind, an empty name, or options that are no mapping."""
    kind, _, rest = source.partition(":")
    form = FORMS.get(kind) or "one of " + ", ".join(FORMS.values())
    name, options = re.fullmatch(r"(.*?)(?:\?(\{.*\}))?", rest, re.DOTALL).groups()
    if kind == "file" and rest:
        return Spec(kind, "", rest, {})
    try:
        options = yaml.safe_load(options) if options else {}
    except yaml.YAMLError:
        raise SourceError(
            f"problem source {source!r}: its options are no YAML mapping; it is written as {form}"
        ) from None
    name, _, file = name.partition("@") if kind == "data" else (name, "", "")
    if (
        kind not in FORMS
        or not name
        or not all(isinstance(key, str) for key in options)
        or (kind == "lab" and options)
    ):
        raise SourceError(f"problem source {source!r}: written as {form}")
    return Spec(kind, name, file, options)
