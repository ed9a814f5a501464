"""What can go wrong, by room.

Each message names the culprit and the mend, and is shown to users as it is.
"""

import difflib
import traceback
from collections.abc import Iterable
from typing import Any


class DedError(Exception):
    """The root of all errors that a user can mend; in a notebook its message alone is shown.

    cause: the reason without the culprit, where many may share one, so that it can be said once.
    """

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class ParameterError(DedError, ValueError):
    """Parameters that cannot be run with; the message has a line for every problem."""


class StoreError(DedError, LookupError):
    """An entry of the store that is not there to be read, or is damaged."""


class SourceError(DedError, ValueError):
    """A problem source that cannot be read."""


class ModelError(DedError, ValueError):
    """A model spec that cannot be loaded or used as asked."""


class EngineError(DedError, RuntimeError):
    """An engine that cannot sample what was asked."""


class TrainingError(DedError, ValueError):
    """A corpus or a setting that cannot be trained with as it is."""


class FolderError(DedError, OSError):
    """A folder that cannot be written to."""


class WorkerDiedError(DedError, RuntimeError):
    """The process that a job was given to has gone."""


class JobError(DedError, RuntimeError):
    """A job failed; the message names its arguments, `__cause__` is what it raised."""

    def _render_traceback_(self) -> list[str]:
        cause = self.__cause__  # a fault of the program is shown with the way to it
        way = [] if isinstance(cause, DedError) else traceback.format_exception(cause)
        return [str(self), *"".join(way).splitlines()]


class BenchmarkError(DedError, ValueError):
    """A benchmark or a comparison that cannot be made."""


class ReportError(DedError, ValueError):
    """A folder that no report can be made from."""


class ExportError(DedError, ValueError):
    """Something that cannot or must not be exported."""


class ExploreError(DedError, ValueError):
    """Nothing to show, or nowhere to write."""


def near(name: object, names: Iterable[object]) -> str:
    """'; nearest: x' where one of `names` resembles this one, else ''."""
    texts = [text for text in names if isinstance(text, str)]
    matches = difflib.get_close_matches(str(name).lower(), texts, n=1, cutoff=0.5)
    return f"; nearest: {matches[0]}" if matches else ""


def no_such(what: str, name: object, names: Iterable[str]) -> str:
    """'no preset 'x'; there are: ...; nearest: y': the message for an unknown name."""
    names = list(names)
    return f"no {what} {name!r}; there are: {', '.join(names) or 'none'}{near(name, names)}"


def first_fault(error: Any) -> str:
    """'n = -1: ...': the first that pydantic's ValidationError says of a row or of options."""
    first = error.errors()[0]
    column, value = first["loc"][0], repr(first["input"])[:40]
    return f"no {column}" if first["type"] == "missing" else f"{column} = {value}: {first['msg']}"


def first_line(error: BaseException, most: int = 160) -> str:
    """The first line of an error's message, cut to `most` characters."""
    return (str(error).strip().splitlines() or [""])[0][:most]
