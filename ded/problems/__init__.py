"""Questions: one record (`Problem`), and every source of them behind one door (docs/sources.md)."""

from ded.errors import SourceError, near
from ded.problems import lab, prompts, texts
from ded.problems.gym import ReasoningGym
from ded.problems.lab import Lab, sums, trace
from ded.problems.own import OwnFile
from ded.problems.prompts import PERTURBATIONS
from ded.problems.public import Public
from ded.problems.record import SPLITS, Problem, chance, content_hash, draw, fingerprint, split_of
from ded.problems.records import Recorded
from ded.problems.source import Source

SOURCES: dict[str, type[Source]] = {
    "lab": Lab,
    "reasoning_gym": ReasoningGym,
    "data": Public,
    "file": OwnFile,
    "recorded": Recorded,
}
REASONING_LINES = 3  # an answer alone has one line or two


def source(text: str) -> Source:
    """The source that is written so, and what is known of it; see `Source`.

    SourceError for an unknown kind, or one written otherwise.
    """
    kind = text.partition(":")[0]
    if kind not in SOURCES:
        forms = ", ".join(reader.form for reader in SOURCES.values())
        raise SourceError(f"problem source {text!r}: write one of {forms}{near(kind, SOURCES)}")
    return SOURCES[kind](text)


def load(text: str, n: int, split: str, seed: str) -> list[Problem]:
    """n distinct problems of a source and a split, drawn by `seed`.

    A longer draw starts with the shorter one. Lab families are spread evenly over their levels.
    Finite sources (data:, file:) give all their problems for n = 0. Raises SourceError for a source
    that cannot be read, lacks the split, or holds fewer than n problems.
    """
    return source(text).load(n, split, seed)


def reasons_untagged(problem: Problem, text: str) -> bool:
    """Whether a text that opens no think block works its answer out all the same.

    Of a lab sum: its first two written steps follow from the question (a single one may be an
    answer that was guessed). Of others: REASONING_LINES lines or more, before any code fence.
    """
    if text.lstrip().startswith(texts.THINK):
        return False
    if "terms" in problem.meta:
        steps = texts.split(text).thinking or text
        return len(sums.states_of(problem, steps)[0]) > 2
    lines = text.partition("```")[0].splitlines()
    return sum(bool(line.strip()) for line in lines) >= REASONING_LINES


def perturb(problem: Problem, name: str, seed: int = 0) -> Problem:
    """An answer-preserving variant: of a lab sum by `lab.perturb`, else by `prompts.perturb`."""
    maker = lab.perturb if "terms" in problem.meta else prompts.perturb
    return maker(problem, name, seed)
