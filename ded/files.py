"""Files written whole or not at all, and YAML read strictly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ded import home
from ded.errors import ParameterError


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary path beside `file` that takes its place when the block has ended without an error."""
    work = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield work
        os.replace(work, file)
    finally:
        work.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> Path:
    """Writes a text file whole or not at all; returns its path."""
    with replacing(file) as work:
        work.write_text(text, encoding="utf-8")
    return file


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file ({} for an empty one). ParameterError, with the line, for anything else."""

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
        seen: set = set()
        for key_node, _ in node.value:
            key = loader.construct_object(key_node)
            if key in seen:
                problem = f"the key {key!r} stands twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        value = yaml.load(file.read_text(encoding="utf-8"), Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParameterError(f"{shown(file)}{line}: {error.problem or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise ParameterError(f"{shown(file)}: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ParameterError(f"{shown(file)}: not a mapping; allowed: lines of 'key: value'")
    return value


def shown(path: Path) -> str:
    """The path as a reader in the repository would write it."""
    try:
        return path.resolve().relative_to(home()).as_posix()
    except ValueError:
        return str(path)
