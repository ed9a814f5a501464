"""What a kind of problem source has to offer, and the grammar that all share (docs/sources.md).

A new kind is a subclass of `Source` in a file of its own, and a line in `problems.SOURCES`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from ded.errors import ParameterError, SourceError
from ded.files import parse_yaml
from ded.problems import variants
from ded.problems.record import Problem, content_hash


class Source(ABC):
    """A source of questions, written as `<kind>:<name>[?{option: value}]`.

    text: as written; name and options: its parts, options {} where none are given; family: its name
    in tables and figures.
    """

    # how its kind is written
    form: ClassVar[str]
    # whether it makes its questions from a seed, which keeps its splits apart by content
    procedural: ClassVar[bool] = False
    # the hub data set that it downloads, "" for none
    hub_id: str = ""
    # the terms of its questions
    licence: str = ""
    # whether answers are known to be programs before one is read
    code: bool = False
    # whether worked solutions can be checked step by step
    steps: bool = False
    # the names of the answer-preserving variants of its questions
    perturbations: tuple[str, ...] = variants.PERTURBATIONS

    def __init__(self, text: str) -> None:
        """SourceError for an empty name, or options that are no mapping."""
        self.text = text
        self.name, options = self._split(text.partition(":")[2])
        try:
            self.options: dict[str, Any] = parse_yaml(options, text) if options else {}
        except ParameterError:
            raise self.error(f"options are no YAML mapping; written as {self.form}") from None
        self.family = self.name
        if not self.name or not all(isinstance(key, str) for key in self.options):
            raise self.error(f"written as {self.form}")

    def _split(self, rest: str) -> tuple[str, str]:
        """(name, options as YAML) of what follows the kind."""
        match = re.fullmatch(r"(.*?)(?:\?(\{.*\}))?", rest, re.DOTALL)
        return (match[1], match[2] or "") if match else (rest, "")

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
            there = f"holds {len(ids)} questions of split {split!r}"
            raise self.error(f"{there}, and {n} are asked for: ask for fewer")
        return sorted(ids, key=lambda name: content_hash(f"{seed} {name}"))[: n or None]

    def error(self, problem: str) -> SourceError:
        """The error that names this source."""
        return SourceError(f"problem source {self.text!r}: {problem}")
