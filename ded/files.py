"""Files written whole or not at all, and YAML read strictly."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from ded import home
from ded.errors import FolderError, ParameterError, first_line


def check_writable(folder: Path, setting: str) -> None:
    """FolderError, with the `setting` that names it, where nothing can be written into the folder,
    or it cannot be made; it is not made here."""
    full = folder.absolute()
    try:
        there = next(place for place in (full, *full.parents) if place.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        fault = f"{setting} {folder}: cannot be written to ({error.strerror})"
        raise FolderError(f"{fault}; name another folder") from None


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary path beside `file` (or a new folder), which replaces it when the block ends
    without an error."""
    work = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield work
        os.replace(work, file)
    finally:
        if work.is_dir():
            shutil.rmtree(work)
        work.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> Path:
    """Writes a text file whole or not at all; returns its path."""
    with replacing(file) as work:
        work.write_text(text, encoding="utf-8")
    return file


def parse_yaml(text: str | bytes, place: str) -> Any:
    """The value of a YAML 1.2 text, in which a date is the text that stands there; ParameterError,
    with `place` and the line, for all else."""
    return deepcopy(_parsed(text, place))


@lru_cache(maxsize=256)  # a preset's files are read again and again, and the parser is slow
def _parsed(text: str | bytes, place: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    class Constructor(SafeConstructor):  # its own: what is added stands in the class
        pass

    Constructor.add_constructor("tag:yaml.org,2002:timestamp", Constructor.construct_yaml_str)
    reader = YAML(typ="safe")
    reader.Constructor = Constructor
    try:
        return reader.load(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParameterError(f"{place}{line}: {error.problem}") from None
    except (YAMLError, ValueError) as error:  # ValueError: a tagged number that is none
        raise ParameterError(f"{place}: {first_line(error)}; write YAML, in UTF-8") from None


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file, {} for an empty one; ParameterError for all else."""
    value = parse_yaml(file.read_bytes(), shown(file))
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ParameterError(f"{shown(file)}: not a mapping; allowed: lines of 'key: value'")
    return value


def beside(module: str, name: str) -> dict[str, Any]:
    """The mapping in the YAML file of this name beside a module (its `__file__`)."""
    return read_yaml(Path(module).with_name(name))


def without_iri_grammar() -> None:
    """To be called before nbformat is imported: jsonschema, by which it checks notebooks, compiles
    a grammar of web addresses in all scripts, for a second, and no notebook's schema has one."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def shown(path: Path) -> str:
    """The path as a reader in the repository would write it."""
    full = path.resolve()
    return full.relative_to(home()).as_posix() if full.is_relative_to(home()) else str(path)
