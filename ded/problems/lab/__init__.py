"""The lab's task families: problems generated from a seed, and worked solutions to them.

* `sum` (in-domain): a flat sum of n signed digits modulo 7, "6 -5 +2 +6 =" -> 2. The level is n.
* `code`: write a Python function from a list of operations. The level is their number.
* twelve out-of-domain families on letters and digits (`OOD`). The level is the length.

All text is made of tokens separated by single spaces, so that it can be read, run (code) and
tokenised word by word.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain, zip_longest

from ded.errors import no_such
from ded.problems.lab import letters, programs, sums
from ded.problems.lab.letters import DIGITS, LETTERS, OOD
from ded.problems.lab.sums import MODULUS, PERTURBATIONS, PLAIN, STYLES, Manner, perturb, trace
from ded.problems.record import Candidate, Problem, draw, split_of
from ded.problems.source import Source

# 20,000 problems or more at each level
LEVELS = {"sum": range(5, 13), "code": range(3, 8)} | dict.fromkeys(OOD, range(5, 10))
LEVELS["merge"] = range(6, 10)
SPECIAL = ("<pad>", "<unk>", "<eos>", "<user>", "<assistant>", "<think>", "</think>")
PYTHON = ("//", "**", "def", "return", "python")
# the order is that of the token ids of the models that are trained
_symbols = chain(SPECIAL, DIGITS, sums.SIGNED, LETTERS, "+-*%/=;:,()", PYTHON)
_words = chain(programs.OPERATIONS, programs.ALONE, OOD, sums.FILLERS, ("check",))
VOCABULARY = (*_symbols, *_words)


class Lab(Source):
    """A task family of the lab, at all its levels or some: `lab:sum/7-9`."""

    form = "lab:<family>[/<from>-<to>]"
    procedural = True
    licence = "made by this package, Apache-2.0"

    def __init__(self, text: str) -> None:
        """The family is what stands before the levels."""
        super().__init__(text)
        self.family = self.name.partition("/")[0]
        self.steps = self.family == "sum"
        if self.steps:
            self.perturbations = PERTURBATIONS

    def levels(self) -> Sequence[int]:
        """The levels that the source names, else all of the family; SourceError for others."""
        if self.family not in LEVELS:
            raise self.error(f"families are {', '.join(LEVELS)}")
        existing = LEVELS[self.family]
        if self.name == self.family:
            return existing
        match = re.fullmatch(r"/(\d+)(?:-(\d+))?", self.name.removeprefix(self.family))
        levels = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not levels or not set(levels) <= set(existing):
            raise self.error(f"levels lie between {existing[0]} and {existing[-1]}")
        return levels

    def check(self) -> None:
        """SourceError for an unknown family or level."""
        self.levels()

    def load(self, n: int, split: str, seed: str) -> list[Problem]:
        """n problems spread evenly over the levels and interleaved; the first get the remainder."""
        levels = self.levels()
        drawn = []
        for i, level in enumerate(levels):
            count, name = n // len(levels) + (i < n % len(levels)), f"{self.family} {level}"
            drawn.append(_drawn(self.family, level, count, split, f"{seed} {name}"))
        turns = zip_longest(*drawn)
        return [replace(q, meta={**q.meta}) for turn in turns for q in turn if q]


@lru_cache(maxsize=128)
def _drawn(family: str, level: int, n: int, split: str, seed: str) -> list[Problem]:
    """n problems of one level. They are kept, for each job of a unit asks for the same."""
    return draw(maker(family, level), n, split, seed)


def maker(family: str, level: int) -> Callable[[random.Random], Candidate]:
    """make(rng), what `draw` takes, of one family and level; else ValueError."""
    if family not in LEVELS:
        raise ValueError(no_such("lab family", family, LEVELS))
    makers = {"sum": sums.make, "code": programs.make}
    return partial(makers.get(family, partial(letters.make, family)), level)


def next_problem(family: str, level: int, split: str, rng: random.Random) -> Problem:
    """The next problem of a split from a running generator, for pre-training; it may repeat."""
    make = maker(family, level)
    while True:
        canonical, build = make(rng)
        if split_of(canonical) == split:
            return build()


def solution(
    problem: Problem, style: str, rng: random.Random, reasoning: bool = True, manner: Manner = PLAIN
) -> str:
    """The text a model is trained to answer with: `<think> work </think> answer`, or the answer.

    style is one of `STYLES` for sums; for code the terse styles write `statements`, the others a
    new `named` value each step; the out-of-domain families need no work, their think block names
    the task. With slips in `manner` the answer is what the work comes to, which may be wrong.
    """
    think, answer = problem.family, problem.answer
    if problem.family == "sum" and reasoning:
        think = sums.solve(sums.terms_of(problem), style, rng, manner)
        answer = think.split()[-1]
    elif problem.family == "code":
        steps = programs.slipped(problem.meta["steps"], manner.slip, rng)
        terse = style in ("pairs", "facts", "totals")
        think, answer = programs.solve(steps, "statements" if terse else "named")
        if manner.code_filler:
            lines = think.split(" ; ")
            think = " ; ".join(sums.spoken(line, manner.code_filler, rng) for line in lines)
    return f"<think> {think} </think> {answer}" if reasoning else answer
