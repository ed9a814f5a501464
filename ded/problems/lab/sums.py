"""The lab's in-domain family: signed digits summed modulo 7, in many orders of work.

Any two neighbouring terms may be combined first, so a question with n terms has (n - 1)! different
correct orders of work.
"""

import random
from dataclasses import dataclass
from functools import partial

from ded.problems.lab.letters import DIGITS, LETTERS
from ded.problems.record import Candidate, Problem

MODULUS = 7
SIGNED = [sign + digit for sign in "+-" for digit in DIGITS[:MODULUS]]
STYLES = ("left", "ends", "pairs", "random", "facts", "totals")
PERTURBATIONS = ("shuffled", "zero", "preamble")
FILLERS = ("so", "now", "ok", "then")

Terms = tuple[tuple[int, int], ...]  # (sign, digit below MODULUS), the first sign always +1


@dataclass(frozen=True)
class Manner:
    """How a solution is told, and how it errs, whatever its style: probabilities, each a step.

    filler: a word of `FILLERS` comes first. check: what is about to be combined is said before it
    is done. restate: what there is to add up is written once more. slip: the step comes to a wrong
    number, and what follows goes on from that. code_filler: as filler, for the lines of a program.
    """

    filler: float = 0.0
    check: float = 0.0
    restate: float = 0.0
    slip: float = 0.0
    code_filler: float = 0.0


PLAIN = Manner()


def make(level: int, rng: random.Random) -> Candidate:
    """A problem of `level` terms.

    In the canonical text order and zeros do not count, so that a perturbed evaluation question is
    in no corpus either.
    """
    first = (1, rng.randrange(MODULUS))
    rest = [(rng.choice((1, -1)), rng.randrange(MODULUS)) for _ in range(level - 1)]
    terms = (first, *rest)
    signed = sorted(f"{sign * digit:+d}" for sign, digit in terms if digit)
    return f"sum {' '.join(signed)}", partial(problem_of, terms)


def problem_of(terms: Terms, prompt: str | None = None) -> Problem:
    """The problem that asks for the value of `terms`, by another prompt where one is given."""
    prompt = prompt or f"{show(terms)} ="
    return Problem.made("sum", len(terms), prompt, str(value(terms)), terms=[*map(list, terms)])


def terms_of(problem: Problem) -> Terms:
    """The terms that a problem of this family adds up."""
    return tuple((sign, digit) for sign, digit in problem.meta["terms"])


# ---- arithmetic on terms -----------------------------------------------------------------------


def value(terms: Terms) -> int:
    """The sum of the signed terms, modulo `MODULUS`."""
    return sum(sign * digit for sign, digit in terms) % MODULUS


def show(terms: Terms) -> str:
    """'7 -5 +2' for ((1, 7), (-1, 5), (1, 2)): a signed digit is one token."""
    rest = [f"{'+' if sign > 0 else '-'}{digit}" for sign, digit in terms[1:]]
    return " ".join([str(terms[0][1]), *rest])


def combine(terms: Terms, i: int, wrong: int = 0) -> Terms:
    """Terms i and i + 1 combined into one, which is positive, and too large by `wrong`.

    6 -5 +2 with i = 1 is 6 +4, as -5 + 2 = 4 modulo 7.
    """
    total = (value(terms[i : i + 2]) + wrong) % MODULUS
    return (*terms[:i], (1, total), *terms[i + 2 :])


def _fact(terms: Terms, i: int, combined: Terms) -> str:
    """'-5 +2 = 4': what combining terms i and i + 1 comes to in `combined`."""
    words = show(((1, 0), *terms)).split()[1:] if i else show(terms).split()
    return f"{words[i]} {words[i + 1]} = {combined[i][1]}"


def _parse(text: str) -> Terms | None:
    first, *rest = text.split() or [""]
    words = [f"+{first}", *rest]  # the first term bears no sign
    signed = tuple((1 if word[0] == "+" else -1, int(word[1])) for word in words if word in SIGNED)
    return signed if len(signed) == len(words) else None


# ---- variants ----------------------------------------------------------------------------------


def perturb(problem: Problem, name: str, seed: int = 0) -> Problem:
    """An answer-preserving variant; ValueError for one that is not among `PERTURBATIONS`.

    Its terms `shuffled`, a `zero` added, or an irrelevant `preamble` before it.
    """
    rng = random.Random(f"{name} {seed} {problem.id}")
    terms = terms_of(problem)
    if name == "shuffled":
        first, *rest = rng.sample(terms, len(terms))
        if first[0] < 0:  # the leading term has no sign: one that is positive comes first
            rest.append(first)
            first = rest.pop(next(i for i, (sign, _) in enumerate(rest) if sign > 0))
        return problem_of((first, *rest))
    if name == "zero":
        i = rng.randrange(1, len(terms) + 1)
        return problem_of((*terms[:i], (rng.choice((1, -1)), 0), *terms[i:]))
    if name == "preamble":
        return problem_of(terms, f"{' '.join(rng.choices(LETTERS, k=3))} , {show(terms)} =")
    raise ValueError(f"unknown perturbation {name!r}; known: {', '.join(PERTURBATIONS)}")


# ---- worked solutions and their check ----------------------------------------------------------


def solve(terms: Terms, style: str, rng: random.Random, manner: Manner = PLAIN) -> str:
    """A worked solution (the text inside the think block) in one of `STYLES`; else ValueError.

    Its last word is the answer that it comes to. left: combine the two leftmost terms, write what
    remains, repeat. ends: the two leftmost or the two rightmost. pairs: all neighbouring pairs at
    once. random: any two neighbours. facts: 'a + b = c' for each step from the left, no rewriting.
    totals: the running totals alone.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
    lines = []
    while len(terms) > 1:
        if rng.random() < manner.restate:
            lines.append(show(terms))
        facts = []
        for i in _places(len(terms), style, rng):
            wrong = rng.randrange(1, MODULUS) if rng.random() < manner.slip else 0
            following = combine(terms, i, wrong)
            facts.append(_fact(terms, i, following))
            terms = following
        if rng.random() < manner.check:
            lines += [f"check {fact}" for fact in facts]
        line = {"facts": facts[0], "totals": show(terms[:1])}.get(style, show(terms))
        lines.append(spoken(line, manner.filler, rng))
    return " ; ".join(lines)


def spoken(line: str, filler: float, rng: random.Random) -> str:
    """The line, with this probability after a word of `FILLERS`."""
    return f"{rng.choice(FILLERS)} {line}" if rng.random() < filler else line


def _places(n_terms: int, style: str, rng: random.Random) -> range:
    """Where the pairs of one step stand, each counted when those before it are combined."""
    if style == "pairs":
        return range(n_terms // 2)
    i, last = 0, n_terms - 2
    if style == "random":
        i = rng.randint(0, last)
    elif style == "ends":
        i = rng.choice((0, last))
    return range(i, i + 1)


def trace(problem: Problem, text: str) -> tuple[Terms, ...] | None:
    """The states a worked solution passes through, or None where a step is invalid.

    Fillers, checks and what is restated leave no state, so two solutions with equal traces are the
    same work told differently. A solution is step-valid when every written line follows from the
    line before by combining neighbours, every fact and check is true, and the last line is the
    answer.
    """
    states, valid = states_of(problem, text)
    last = states[-1]
    return states if valid and len(last) == 1 and last[0][1] == int(problem.answer) else None


def states_of(problem: Problem, text: str) -> tuple[tuple[Terms, ...], bool]:
    """The states that a text passes through up to its first invalid step, the question's first; and
    whether no step is invalid (see `trace`).
    """
    state = terms_of(problem)
    states = [state]
    for step in text.split(" ; "):
        words = [word for word in step.split() if word not in FILLERS]
        if words[:1] == ["check"]:
            if " ".join(words[1:]) not in _facts(state):
                return tuple(states), False
            continue
        if len(state) > 1 and words == show(state).split():
            continue
        following = _after(state, words)
        if following is None:
            return tuple(states), False
        state = following
        states.append(state)
    return tuple(states), True


def _facts(state: Terms) -> set[str]:
    """Every true fact about two neighbours."""
    return {_fact(state, i, combine(state, i)) for i in range(len(state) - 1)}


def _after(state: Terms, words: list[str]) -> Terms | None:
    """The state after one written step: a fact, a running total, or the sum rewritten.

    None where the step does not follow from `state`.
    """
    if len(state) < 2:
        return None
    from_the_left = combine(state, 0)
    if "=" in words:
        return from_the_left if " ".join(words) == _fact(state, 0, from_the_left) else None
    new = _parse(" ".join(words))
    if new is None:
        return None
    if len(new) == 1 and len(state) > 2:  # a running total
        return from_the_left if from_the_left[0] == new[0] else None
    return new if _follows(state, new) else None


def _follows(old: Terms, new: Terms) -> bool:
    """Whether `new` is `old` with one or more disjoint neighbouring pairs combined."""
    if len(new) >= len(old):
        return False
    reach = {0}  # how many old terms the new terms so far may stand for
    for term in new:
        kept = {i + 1 for i in reach if old[i : i + 1] == (term,)}
        pairs = {i for i in reach if i + 1 < len(old)}
        reach = kept | {i + 2 for i in pairs if combine(old, i)[i] == term}
    return len(old) in reach
