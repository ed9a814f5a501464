"""Recorded traces that others sampled: where their rows lie, and their questions as a source
(`recorded:<place>[#<map>]`; docs/sources.md, "Recorded traces").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ded import home, store
from ded.errors import ParameterError, SourceError, near
from ded.files import read_yaml
from ded.problems import files
from ded.problems.own import Row as OwnRow
from ded.problems.public import from_hub
from ded.problems.record import Problem
from ded.problems.rows import Map, Row, gold_of, question_of
from ded.problems.source import Source

if TYPE_CHECKING:
    import pandas as pd  # not at run time: the command line starts without it

VERSION = 1  # changes when questions or golds may be read otherwise
HUB = re.compile(r"([\w.-]+/[\w.-]+?)((?:/[\w.-]+)*)(?:@([\w.-]+))?")


@dataclass(frozen=True)
class Records:
    """Where recorded rows lie: `files`, or else a folder (or all) of a hub data set."""

    name: str
    hub_id: str  # "" where they are local files
    folder: str
    revision: str | None
    files: list[Path]
    columns: Map

    def rows(self) -> Iterator[Row]:
        """Every row, file after file; SourceError, with the place, for one that cannot be read."""
        if self._is_table():
            parts = [files.numbered(self.name, self._table())]
        else:
            parts = [files.rows(str(file)) for file in self._downloaded()]
        for place, cells in chain.from_iterable(parts):
            yield Row(place, cells, self.columns)

    def version(self) -> list[Any]:
        """What changes when the rows do: paths, times and sizes of files; the hub's own stamp."""
        if self._is_table():
            return [self.name, self._table()._fingerprint]
        stats = [(str(file), file.stat()) for file in self._downloaded()]
        return [[file, stat.st_mtime_ns, stat.st_size] for file, stat in stats]

    def _is_table(self) -> bool:
        return bool(self.hub_id) and not self.folder

    def _table(self) -> Any:
        part = {"split": self.columns.split, "revision": self.revision}
        return from_hub(self.hub_id, self.columns.config, **part)

    def _downloaded(self) -> list[Path]:
        if self.files:
            return self.files
        local = Path(from_hub(self.hub_id, folder=self.folder, revision=self.revision))
        if not local.is_dir():
            raise _no_folder(self.hub_id, self.folder, self.revision)
        return files.shards(local, self.columns.config, self.columns.split)


def find(text: str) -> Records:
    """Where the rows of `<file, folder or hub data set>[#<map>]` lie; of a hub data set it may be a
    folder, `<org>/<name>/<folder>[@<revision>]`. SourceError for what is none of these.
    """
    place, _, name = text.partition("#")
    columns, hub_id, folder, revision = column_map(name or "default"), "", "", None
    file = home() / Path(place).expanduser()  # or where the process is
    local = next((path for path in (Path(place).expanduser(), file) if path.exists()), None)
    if not local:
        if file.suffix.lower() in files.SUFFIXES:
            raise SourceError(f"there is no file {file}; correct its path")
        match = HUB.fullmatch(place)
        if not match:
            kinds = f"a file ending in {', '.join(files.SUFFIXES)}, nor a folder of such files,"
            raise SourceError(f"neither {kinds} nor a hub data set <org>/<name>")
        hub_id, folder, revision = match[1], match[2].strip("/"), match[3]
        place = place.partition("@")[0]
        if copy := files.copy_of(hub_id):
            local = copy / folder
            if not local.exists():
                raise _no_folder(hub_id, folder)
    shards = files.shards(local, columns.config, columns.split) if local else []
    return Records(place, "" if local else hub_id, folder, revision, shards, columns)


def _no_folder(hub_id: str, folder: str, revision: str | None = None) -> SourceError:
    """The error of a folder that a hub data set, or its local copy, lacks: it lists those there."""
    if copy := files.copy_of(hub_id):
        there = sorted(path.name for path in copy.glob("*/"))
    else:
        names = from_hub(hub_id, listed=True, revision=revision)
        there = sorted({name.partition("/")[0] for name in names if "/" in name})
    hint = near(folder, there)
    return SourceError(f"{copy or hub_id} has no folder {folder!r}, but {', '.join(there)}{hint}")


def column_map(name: str) -> Map:
    """A map of params/recorded.yml; SourceError for none of that name, or one that is wrong."""
    try:
        maps = read_yaml(home() / "params" / "recorded.yml")
        if name not in maps:
            there = f"params/recorded.yml has {', '.join(maps)}{near(name, maps)}"
            raise SourceError(f"no column map {name!r}; {there}")
        return Map.model_validate(maps[name])
    except (OSError, ParameterError, ValidationError) as error:
        fault = f"map {name!r} cannot be read ({' '.join(str(error).split())[:200]})"
        mend = f"a map holds {', '.join(Map.model_fields)}"
        raise SourceError(f"params/recorded.yml: {fault}; {mend}") from None


def normal(question: str) -> str:
    """The form under which a question is looked up: white space does not count."""
    return " ".join(unicodedata.normalize("NFC", question).split())


class Recorded(Source):
    """The questions of recorded traces that have a reference answer, their own or that of `golds`,
    where the same question (white space aside) has one.
    """

    form = "recorded:<file, folder or hub data set>[#<map>][?{golds: <another>}]"
    licence = "the data set's own terms"

    def __init__(self, text: str) -> None:
        """SourceError for a place that is none, or an unknown option."""
        super().__init__(text)
        self.joined = self.options.pop("golds", "")
        if self.options or not isinstance(self.joined, str):
            raise self.error(f"written as {self.form}")
        try:
            self.traces = find(self.name)
            self.golds = find(self.joined) if self.joined else self.traces
        except SourceError as error:
            raise self.error(str(error)) from None
        self.family = Path(self.traces.name).stem
        self.hub_id = self.traces.hub_id or self.golds.hub_id

    def check(self) -> None:
        """Nothing: a place that is missing is no source."""

    def look(self, n: int, split: str) -> bool:
        """As of any source; nothing is downloaded for it."""
        self._check_split(split)
        return False if self.hub_id else super().look(n, split)

    def load(self, n: int, split: str, seed: str) -> list[Problem]:
        """n of the questions with a reference answer."""
        self._check_split(split)
        golds = self._golds()
        if n > len(golds):
            raise self.error(
                f"{self.note()}; {n} are asked for: ask for fewer, or name other golds"
            )
        rows = [
            OwnRow.model_validate({"question": question, "answer": golds[question]})
            for question in self.pick(list(golds), n, split, seed)
        ]
        return [row.problem(self.family) for row in rows]

    def note(self) -> str:
        """How many of the questions have a reference answer, and from where."""
        n, joined = len(self._table()), len(self._golds())
        where = f"{self.golds.name}, joined by the question's text" if self.joined else "its own"
        share = f"{joined:,} of {n:,} questions ({joined / max(1, n):.0%}) have a reference answer"
        return f"{self.traces.name}: {share} ({where}); the others are left out"

    def _check_split(self, split: str) -> None:
        if split != "train":
            raise self.error(f"has no {split} split: what traces answer is for training")

    def _golds(self) -> dict[str, str]:
        table = self._table()
        return {row.question: row.gold for row in table.itertuples() if row.gold}

    def _table(self) -> pd.DataFrame:
        """question, gold ("" for none): a row a question, in the order of the traces."""

        def compute() -> pd.DataFrame:
            import pandas as pd

            questions: dict[str, str] = {}
            golds: dict[str, str] = {}
            for row in self.traces.rows():
                question = question_of(row)
                questions.setdefault(normal(question), question.strip())
            for row in self.golds.rows():
                golds.setdefault(normal(question_of(row)), gold_of(row))
            joined = [(question, golds.get(form, "")) for form, question in questions.items()]
            return pd.DataFrame(joined, columns=["question", "gold"])

        places = [self.traces, self.golds]
        maps = [place.columns.model_dump_json() for place in places]
        versions = [place.version() for place in places]
        return store.table(store.key("golds", VERSION, maps=maps, versions=versions), compute)
