"""The named public data sets as a source (`data:<name>`), from the hub or from a local copy."""

import logging
import random
from collections.abc import Callable, Iterator
from datetime import date
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ded.errors import SourceError, first_fault, first_line, near
from ded.problems import files
from ded.problems.answers import is_answer
from ded.problems.datasets import DIFFICULTIES, SETS, DataSet, Difficulty
from ded.problems.prompts import worded
from ded.problems.record import Problem, content_hash
from ded.problems.source import Source

LOG = logging.getLogger("ded")
LCB = "livecodebench"  # the one that has options, and comes in several files
LcbFile = Literal[
    "test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl", "test6.jsonl"
]
_several = BeforeValidator(lambda value: value if isinstance(value, list) else [value])


class Window(BaseModel):
    """The options of LiveCodeBench.

    Contest dates (both ends included), difficulties, files of the hub or of a local folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: date = Field(date.min, alias="from")
    to: date = date.max
    difficulty: Annotated[tuple[Difficulty, ...], _several] = DIFFICULTIES
    files: Annotated[tuple[LcbFile, ...], _several] = get_args(LcbFile)

    def admits(self, row: dict) -> bool:
        """Whether a question lies within dates and difficulties."""
        day = date.fromisoformat(row["contest_date"][:10])
        return self.start <= day <= self.to and row["difficulty"] in self.difficulty


class Public(Source):
    """A public data set: `data:math_500`, or a copy of it, `data:math_500@rows.jsonl`."""

    form = "data:<name>[@<local file>][?{option: value}]"

    def __init__(self, text: str) -> None:
        """SourceError for an unknown data set or option."""
        super().__init__(text)
        self.name, _, self.file = self.name.partition("@")
        if not self.name:
            raise self.error(f"written as {self.form}")
        if self.name not in SETS:
            raise self.error(f"the data sets are {', '.join(SETS)}{near(self.name, SETS)}")
        if self.options and self.name != LCB:
            raise self.error(f"it takes no options, and has {', '.join(self.options)}")
        try:
            self.window = Window.model_validate(self.options)
        except ValidationError as error:
            options = "from, to (dates as 2025-02-01), difficulty, files"
            raise self.error(f"{first_fault(error)}; options: {options}") from None
        self.family, self.entry = self.name, SETS[self.name]
        self.licence, self.code = self.entry.licence, self.entry.code
        self.file = self.file or str(files.copy_of(self.entry.hub) or "")
        self.hub_id = "" if self.file else self.entry.hub

    def check(self) -> None:
        """SourceError where a local file is missing."""
        if self.file and not (self.name == LCB and Path(self.file).is_dir()):
            files.find(self.file)

    def look(self, n: int, split: str) -> bool:
        """As of any source; of what would have to be downloaded, by what is known of it."""
        if not self.hub_id:
            return super().look(n, split)
        self._check_split(split)
        if self.entry.n and n > self.entry.n:
            raise self.too_few(self.entry.n, n, split)
        return self.code

    def _check_split(self, split: str) -> None:
        if split != self.entry.split:
            why = "a benchmark: nothing is trained or tuned on it"
            if self.entry.split == "train":
                why = "a training seed: score models on a benchmark"
            raise self.error(f"has no {split} split, only {self.entry.split}: it is {why}")

    def load(self, n: int, split: str, seed: str) -> list[Problem]:
        """n problems of the set's one split; `seed` shuffles the options of choices besides."""
        self.check()
        self._check_split(split)
        rows = index(self.entry, self.window, *map(_version, self._paths()))
        if not rows:
            raise self.error("holds no questions")
        names = self.pick(list(rows), n, split, seed)
        problems = [_problem(self.entry, name, *rows[name], seed) for name in names]
        if prose := sum("prose" in problem.meta for problem in problems):
            share = f"{prose} of {len(problems)} ground truths"
            LOG.info(f"{self.text}: {share} are prose, which only a judge can compare")
        return problems

    def _paths(self) -> list[str]:
        """The local files of the rows; none where they are read as a table of the hub."""
        if self.name != LCB or Path(self.file or ".").is_file():
            return [self.file] if self.file else []
        if self.file:
            return [str(Path(self.file) / name) for name in self.window.files]
        return [from_hub(self.entry.hub, file=name) for name in self.window.files]


def _version(path: str) -> tuple[str, int, int]:
    """What changes when a file does: its path, time of change and size."""
    stat = Path(path).stat()
    return path, stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def index(
    entry: DataSet, window: Window, *versions: tuple[str, int, int]
) -> dict[str, tuple[str, Callable[[], dict]]]:
    """{id: (where its row stands, what reads it)} of the questions that the options admit; rows of
    the hub stay on the disk.

    versions: of the local files; without any, the hub's table is read, of which only the names are
    looked through: codeforces is 5 GB.
    """
    key = entry.columns[0]
    places: dict[str, str] = {}
    located = {}
    for place, row, read in _rows(entry, [path for path, *_ in versions]):
        if entry.name == LCB and not window.admits(row):
            continue
        own = f"{content_hash(row[key]):016x}" if key.lower() == "question" else row[key]
        name = f"{entry.name}:{own}"
        files.note(places, name, place)
        located[name] = place, read
    return located


def _rows(entry: DataSet, paths: list[str]) -> Iterator[tuple[str, dict, Callable[[], dict]]]:
    """(place, the row or at least its name, what reads the whole row) of each row."""
    for path in paths:
        for place, row in files.rows(path, entry.columns):
            yield place, row, partial(dict, row)
    if not paths:
        table, key = from_hub(entry.hub, entry.config, split=entry.hub_split), entry.columns[0]
        for i, name in enumerate(table[key]):
            yield f"{entry.hub}: row {i + 1}", {key: name}, partial(table.__getitem__, i)


def _problem(entry: DataSet, name: str, place: str, read: Callable[[], dict], seed: str) -> Problem:
    try:
        question = entry.read(read())
        if not question.text.strip():
            raise ValueError("the question is empty")
    except (LookupError, ValueError, TypeError, AttributeError, StopIteration) as error:
        why = f"{type(error).__name__}: {error}; docs/sources.md has the schema"
        raise SourceError(f"{place}: no question of {entry.name} can be read ({why})") from None
    kind, answer, meta = question.kind, question.answer, question.meta
    if kind == "choice":
        right, *_ = options = meta["options"]
        options = random.Random(f"{seed} {name}").sample(options, len(options))
        answer, meta = chr(65 + options.index(right)), meta | {"options": options}
    if kind == "math" and not is_answer(answer):
        meta = meta | {"prose": True}
    prompt, meta = worded(kind, question.text, meta)
    return Problem(name, entry.name, question.level, prompt, answer, kind, meta)


@lru_cache(maxsize=16)
def from_hub(
    name: str,
    config: str | None = None,
    file: str = "",
    folder: str = "",
    listed: bool = False,
    **part: Any,
) -> Any:
    """A data set as a table (part: split, revision), the path of one file or folder of it, or the
    names of all its files, from the hub or its local cache.

    SourceError, which tells what to do, where it does not come.
    """
    try:
        import datasets
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download

        if listed:
            return HfApi().list_repo_files(name, repo_type="dataset", **part)
        if file:
            return hf_hub_download(name, file, repo_type="dataset")
        if folder:
            only = {"repo_type": "dataset", "allow_patterns": f"{folder}/*"}
            return str(Path(snapshot_download(name, **only, **part)) / folder)
        return datasets.load_dataset(name, config, **part)
    except Exception as error:  # the clients' errors have no common root short of this
        why = f"{type(error).__name__}: {first_line(error, 200)}"
        copy = f"{name}/{folder}/" if folder else f"{name}.jsonl"
        cause = f"data set {name} does not come from the hub ({why})"
        raise SourceError(
            f"{cause}. Check the network, configuration and split; accept its terms and run "
            f"`hf auth login` if it is gated; or put a downloaded copy, {copy}, into the folder "
            "that DED_DATA names",
            cause=cause,
        ) from error
