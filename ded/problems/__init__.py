"""Questions: one record (`Problem`), and every source of them behind one door (docs/sources.md)."""

from __future__ import annotations

from ded.errors import SourceError, near
from ded.problems import lab, variants
from ded.problems.gym import ReasoningGym
from ded.problems.lab import Lab, sums
from ded.problems.own import OwnFile
from ded.problems.public import Public
from ded.problems.record import SPLITS, Problem, content_hash, draw, fingerprint, split_of
from ded.problems.source import Source

SOURCES: dict[str, type[Source]] = {
    "lab": Lab,
    "reasoning_gym": ReasoningGym,
    "data": Public,
    "file": OwnFile,
}
PERTURBATIONS = variants.PERTURBATIONS


def source(text: str) -> Source:
    """The source that is written so; SourceError for an unknown kind, or one written otherwise."""
    kind = text.partition(":")[0]
    if kind not in SOURCES:
        forms = ", ".join(reader.form for reader in SOURCES.values())
        hint = near(kind, SOURCES)
        raise SourceError(f"problem source {text!r}: written as one of {forms}{hint}")
    return SOURCES[kind](text)


def check(text: str) -> None:
    """SourceError where a source cannot be read, as far as can be told without the network."""
    source(text).check()


def load(text: str, n: int, split: str, seed: str) -> list[Problem]:
    """n distinct problems of a source and a split, drawn by `seed`.

    A longer draw starts with the shorter one. Lab families are spread evenly over their levels.
    Finite sources (data:, file:) give all their problems for n = 0. Raises SourceError for a source
    that cannot be read, lacks the split, or holds fewer than n problems.
    """
    return source(text).load(n, split, seed)


def family_of(text: str) -> str:
    """The name of a source in tables and figures: its family, task, data set, or file."""
    return source(text).family


def procedural(text: str) -> bool:
    """Whether a source makes its questions from a seed: its splits are then apart by content."""
    return source(text).procedural


def checks_steps(text: str) -> bool:
    """Whether `trace` can check the worked solutions of a source's problems."""
    return source(text).steps


def trace(problem: Problem, think: str) -> tuple[sums.Terms, ...] | None:
    """The states that a worked solution passes through, None where a step is invalid.

    SourceError where steps cannot be checked.
    """
    if "terms" not in problem.meta:
        raise SourceError(f"problem {problem.id!r}: steps can be checked for lab:sum alone")
    return sums.trace(problem, think)


def perturbations(text: str) -> tuple[str, ...]:
    """The names of the answer-preserving variants that `perturb` makes of a source's problems."""
    return source(text).perturbations


def perturb(problem: Problem, name: str, seed: int = 0) -> Problem:
    """An answer-preserving variant: of a lab sum by `lab.perturb`, else by `variants.perturb`."""
    maker = lab.perturb if "terms" in problem.meta else variants.perturb
    return maker(problem, name, seed)
