"""What a kind of problem source has to offer, and the grammar that all share (docs/sources.md).

A new kind is a subclass of `Source` in a file of its own, and a line in `problems.SOURCES`.
"""

import re
from abc import ABC, abstractmethod
from typing import Any

from ded.errors import ParameterError, SourceError
from ded.files import parse_yaml
from ded.problems.prompts import PERTURBATIONS
from ded.problems.record import Problem, content_hash


class Source(ABC):
    """A source of questions, written as `<kind>:<name>[?{option: value}]`.

    text: as written; name and options: its parts, options {} where none are given; family: its name
    in tables and figures.
    """

    # how its kind is written; options are taken where it has a "?"
    form: str
    # whether it makes its questions from a seed, which keeps its splits apart by content
    procedural = False
    # the hub data set that it downloads, "" for none
    hub_id = ""
    # the terms of its questions
    licence = ""
    # whether answers are known to be programs before one is read
    code = False
    # whether worked solutions can be checked step by step
    steps = False
    # the names of the answer-preserving variants of its questions
    perturbations = PERTURBATIONS

    def __init__(self, text: str) -> None:
        """SourceError for an empty name, or options that are no mapping or not taken."""
        self.text = text
        match = re.fullmatch(r"(.*?)(?:\?(\{.*\}))?", text.partition(":")[2], re.DOTALL)
        assert match  # as any text does
        self.name, options = match.groups("")
        self.family = self.name
        try:
            self.options: dict[str, Any] = parse_yaml(options, text) if options else {}
        except ParameterError:
            raise self.error(f"options are no YAML mapping; written as {self.form}") from None
        named = all(isinstance(key, str) for key in self.options)
        if not self.name or not named or (self.options and "?" not in self.form):
            raise self.error(f"written as {self.form}")

    @abstractmethod
    def check(self) -> None:
        """SourceError where it cannot be read, as far as can be told without the network."""

    @abstractmethod
    def load(self, n: int, split: str, seed: str) -> list[Problem]:
        """n distinct problems of a split, drawn by `seed`.

        A longer draw starts with the shorter one.
        """

    def pick(self, ids: list[str], n: int, split: str, seed: str) -> list[str]:
        """The first n ids of a finite source, all for n = 0, in the order that the seed gives."""
        if n > len(ids):
            raise self.too_few(len(ids), n, split)
        return sorted(ids, key=lambda name: content_hash(f"{seed} {name}"))[: n or None]

    def look(self, n: int, split: str) -> bool:
        """Whether any of n questions of a split is answered by a program; SourceError where they
        are not there.
        """
        return any(problem.kind == "code" for problem in self.load(n, split, "look"))

    def too_few(self, there: int, n: int, split: str) -> SourceError:
        """The error of a finite source that is asked for more than it holds."""
        holds = f"holds {there} questions of split {split!r}"
        return self.error(f"{holds}, and {n} are asked for: ask for fewer")

    def note(self) -> str:
        """What a reader is to know of its questions, "" for nothing."""
        return ""

    def error(self, problem: str) -> SourceError:
        """The error that names this source."""
        return SourceError(f"problem source {self.text!r}: {problem}")
