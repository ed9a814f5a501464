"""The lab's task families: problems generated from a seed, and worked solutions to them in several styles.

* `sum` (in-domain): a flat sum of n signed digits modulo 7, "6 -5 +2 +6 =" -> 2. Any two neighbouring terms may be combined
  first, so a question with n terms has (n - 1)! different correct orders of work. The level is n.
* `code`: write a Python function from a list of operations, graded by running it. The level is the number of operations.
* six out-of-domain families on letters and digits (`OOD`): reverse, sort, maximum, shift, swap, filter. The level is the length.

All text is made of tokens separated by single spaces, so that it can be read, run (code) and tokenised word by word.
"""

from __future__ import annotations

import random
import string
from functools import partial

from ded.problems.record import Problem, content_hash, draw, split_of

MODULUS = 7
LETTERS, DIGITS = list(string.ascii_lowercase), list(string.digits)
SIGNED = [sign + d for sign in "+-" for d in DIGITS[:MODULUS]]
OOD = ("reverse", "sort", "maximum", "shift", "swap", "filter")
LEVELS = {
    "sum": range(5, 13),
    "code": range(3, 6),
    **{family: range(5, 8) for family in OOD},
}  # 20,000 problems or more each
STYLES = ("left", "pairs", "random", "facts", "totals", "checked")
PERTURBATIONS = ("shuffled", "zero", "preamble")

Terms = tuple[tuple[int, int], ...]  # (sign, digit below MODULUS), the first sign always +1


# --- sums -----------------------------------------------------------------------------------------------------------------
def value(terms: Terms) -> int:
    """The sum of the signed terms, modulo `MODULUS`."""
    return sum(s * d for s, d in terms) % MODULUS


def show(terms: Terms) -> str:
    """'7 -5 +2' for ((1, 7), (-1, 5), (1, 2)): a signed digit is one token."""
    return " ".join([str(terms[0][1]), *(f"{'+' if s > 0 else '-'}{d}" for s, d in terms[1:])])


def combine(terms: Terms, i: int) -> Terms:
    """Terms i and i + 1 combined into one, which is positive: 6 -5 +2 with i = 1 is 6 +4, as -5 + 2 = 4 modulo 7."""
    return (*terms[:i], (1, value(terms[i : i + 2])), *terms[i + 2 :])


def _fact(terms: Terms, i: int) -> str:
    """'-5 +2 = 4': what combining terms i and i + 1 comes to."""
    words = show(((1, 0), *terms)).split()[1:] if i else show(terms).split()
    return f"{words[i]} {words[i + 1]} = {combine(terms, i)[i][1]}"


def sum_problem(terms: Terms, prompt: str | None = None) -> Problem:
    """The problem that asks for the value of `terms`, with another prompt where a perturbation needs one."""
    prompt = prompt or f"{show(terms)} ="
    return Problem(
        f"sum:{content_hash(prompt):016x}",
        "sum",
        len(terms),
        prompt,
        str(value(terms)),
        "exact",
        {"terms": [list(t) for t in terms]},
    )


def _sum(level: int, rng: random.Random) -> tuple[str, Problem]:
    terms = (
        (1, rng.randrange(MODULUS)),
        *((rng.choice((1, -1)), rng.randrange(MODULUS)) for _ in range(level - 1)),
    )
    # canonical: order and zeros do not count, so that a perturbed evaluation question is in no corpus either
    return "sum " + " ".join(sorted(f"{s * d:+d}" for s, d in terms if d)), sum_problem(terms)


def perturb(problem: Problem, name: str, seed: int = 0) -> Problem:
    """An answer-preserving variant of a sum: its terms `shuffled`, a `zero` added, or an irrelevant `preamble` before it."""
    rng = random.Random(f"{name} {seed} {problem.id}")
    terms = tuple((s, d) for s, d in problem.meta["terms"])
    if name == "shuffled":
        first, *rest = rng.sample(terms, len(terms))
        if (
            first[0] < 0
        ):  # the leading term has no sign: start with a positive one (the first term always is)
            rest.append(first)
            first = rest.pop(next(i for i, t in enumerate(rest) if t[0] > 0))
        return sum_problem((first, *rest))
    if name == "zero":
        i = rng.randrange(1, len(terms) + 1)
        return sum_problem((*terms[:i], (rng.choice((1, -1)), 0), *terms[i:]))
    if name == "preamble":
        return sum_problem(terms, " ".join(rng.choices(LETTERS, k=3)) + f" , {show(terms)} =")
    raise ValueError(f"unknown perturbation {name!r}; known: {', '.join(PERTURBATIONS)}")


def solve_sum(terms: Terms, style: str, rng: random.Random) -> str:
    """A worked solution (the text inside the think block) of a sum in one of `STYLES`.

    left: combine the two leftmost terms, write what is left, repeat. pairs: all neighbouring pairs at once. random: any two
    neighbours. facts: 'a + b = c' for each step from the left, no rewriting. totals: the running totals alone. checked: random
    order with spoken fillers and self-checks.
    """
    steps = []
    while len(terms) > 1:
        if style == "pairs":
            for i in range(len(terms) // 2):
                terms = combine(terms, i)
            steps.append(show(terms))
            continue
        i = rng.randrange(len(terms) - 1) if style in ("random", "checked") else 0
        fact, terms = _fact(terms, i), combine(terms, i)
        if style == "facts":
            steps.append(fact)
        elif style == "totals":
            steps.append(str(terms[0][1]))
        elif style == "checked":
            check = f"check {fact} ; " if rng.random() < 0.5 else ""
            steps.append(check + rng.choice(("", "so ", "now ", "ok ")) + show(terms))
        elif style in ("left", "random"):
            steps.append(show(terms))
        else:
            raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
    return " ; ".join(steps)


def _parse(text: str) -> Terms | None:
    first, *rest = text.split() or [""]
    words = [f"+{first}", *rest]  # the first term bears no sign
    if any(w not in SIGNED for w in words):
        return None
    return tuple((1 if w[0] == "+" else -1, int(w[1])) for w in words)


def _follows(old: Terms, new: Terms) -> bool:
    """Whether `new` is `old` with one or more disjoint neighbouring pairs combined."""
    if not new or len(new) >= len(old):
        return False
    reach = {0}  # how many old terms the new terms so far may stand for
    for term in new:
        reach = {i + 1 for i in reach if i < len(old) and old[i] == term} | {
            i + 2 for i in reach if i + 1 < len(old) and combine(old[i : i + 2], 0)[0] == term
        }
    return len(old) in reach


def trace(problem: Problem, text: str) -> tuple[Terms, ...] | None:
    """The states a worked solution passes through, or None where a step is invalid.

    Fillers and self-checks leave no state, so two solutions with equal traces are the same work told differently. A solution
    is step-valid when every written line follows from the line before by combining neighbours, every fact and check is true,
    and the last line is the answer.
    """
    state = tuple((s, d) for s, d in problem.meta["terms"])
    states = [state]
    for step in text.split(" ; "):
        words = [w for w in step.split() if w not in ("so", "now", "ok")]
        if words[:1] == ["check"]:
            if " ".join(words[1:]) not in {_fact(state, i) for i in range(len(state) - 1)}:
                return None
            continue
        if len(state) < 2:
            return None
        if "=" in words:
            if " ".join(words) != _fact(state, 0):
                return None
            state = combine(state, 0)
        else:
            new = _parse(" ".join(words))
            if new is None:
                return None
            if len(new) == 1 and len(state) > 2:  # a running total
                new = combine(state, 0) if combine(state, 0)[0] == new[0] else None
            elif not _follows(state, new):
                new = None
            if new is None:
                return None
            state = new
        states.append(state)
    return tuple(states) if len(state) == 1 and state[0][1] == int(problem.answer) else None


# --- code -----------------------------------------------------------------------------------------------------------------
_OPERATIONS = {"add": "+", "subtract": "-", "times": "*", "modulo": "%", "divide": "//"}
_ARGUMENTS = (
    -7,
    0,
    1,
    2,
    5,
    9,
    13,
    46,
)  # the test inputs: signs, zero, and values that tell // from % and order from order


def _code(level: int, rng: random.Random) -> tuple[str, Problem]:
    steps = []
    for _ in range(level):
        name = rng.choice((*_OPERATIONS, "square", "negate"))
        low = 2 if name in ("times", "modulo", "divide") else 1
        steps.append(name if name in ("square", "negate") else f"{name} {rng.randrange(low, 10)}")
    prompt = "python " + " , ".join(steps)
    tests = [{"args": [x], "expected": _run(steps, x)} for x in _ARGUMENTS]
    problem = Problem(
        f"code:{content_hash(prompt):016x}",
        "code",
        level,
        prompt,
        solve_code(steps, "statements")[1],
        "code",
        {"entry": "f", "tests": tests, "steps": steps},
    )
    return prompt, problem


def _apply(step: str, x: str) -> str:
    name, *number = step.split()
    return (
        f"{x} * {x}"
        if name == "square"
        else f"- {x}"
        if name == "negate"
        else f"{x} {_OPERATIONS[name]} {number[0]}"
    )


def _run(steps: list[str], x: int) -> int:
    for step in steps:
        name, *number = step.split()
        k = int(number[0]) if number else 0
        x = {
            "add": x + k,
            "subtract": x - k,
            "times": x * k,
            "modulo": x % k if k else 0,
            "divide": x // k if k else 0,
            "square": x * x,
            "negate": -x,
        }[name]
    return x


def solve_code(steps: list[str], style: str) -> tuple[str, str]:
    """(think text, program) in one of two styles: `statements` (x = ... ; x = ...) or `named` (each step into a new name)."""
    if style == "statements":
        return " ; ".join(steps), "def f ( x ) : " + " ; ".join(
            f"x = {_apply(s, 'x')}" for s in steps
        ) + " ; return x"
    names = ["x", *LETTERS[: len(steps)]]
    body = [f"{new} = {_apply(s, old)}" for s, old, new in zip(steps, names, names[1:])]
    return " ; ".join(body), "def f ( x ) : " + " ; ".join(body) + f" ; return {names[len(steps)]}"


# --- out-of-domain families -------------------------------------------------------------------------------------------------
def _ood(family: str, level: int, rng: random.Random) -> tuple[str, Problem]:
    if family in ("sort", "maximum"):
        items = rng.choices(DIGITS, k=level)
        answer = sorted(items) if family == "sort" else [max(items)]
    elif family == "filter":  # keep the digits
        items = [rng.choice(LETTERS if rng.random() < 0.6 else DIGITS) for _ in range(level + 1)]
        items[rng.randrange(len(items))] = rng.choice(DIGITS)
        answer = [x for x in items if x in DIGITS]
    else:
        items = rng.choices(LETTERS, k=level)
        if family == "reverse":
            answer = items[::-1]
        elif family == "shift":
            answer = [LETTERS[(LETTERS.index(x) + 1) % 26] for x in items]
        else:  # swap the first and the last
            answer = [items[-1], *items[1:-1], items[0]]
    prompt = f"{family} {' '.join(items)}"
    return prompt, Problem(
        f"{family}:{content_hash(prompt):016x}", family, level, prompt, " ".join(answer)
    )


# --- the two doors ----------------------------------------------------------------------------------------------------------
def maker(family: str, level: int):
    """make(rng) -> (canonical text, Problem) for one family and level; ValueError names the nearest known family."""
    if family == "sum":
        return partial(_sum, level)
    if family == "code":
        return partial(_code, level)
    if family in OOD:
        return partial(_ood, family, level)
    raise ValueError(f"unknown lab family {family!r}; known: {', '.join(LEVELS)}")


def one(family: str, level: int, split: str, rng: random.Random) -> Problem:
    """The next problem of a split from a running generator (for pre-training streams; `problems` draws distinct ones)."""
    make = maker(family, level)
    while True:
        canonical, problem = make(rng)
        if split_of(canonical) == split:
            return problem


def problems(family: str, levels: list[int], n: int, split: str, seed: str) -> list[Problem]:
    """n problems of a family, spread evenly over the levels (the first levels get the remainder), interleaved by level."""
    counts = [n // len(levels) + (i < n % len(levels)) for i in range(len(levels))]
    drawn = [
        draw(maker(family, lv), c, split, f"{seed} {family} {lv}") for lv, c in zip(levels, counts)
    ]
    return [ps[i] for i in range(max(counts)) for ps in drawn if i < len(ps)]


def solution(problem: Problem, style: str, rng: random.Random, reasoning: bool = True) -> str:
    """The text a model is trained to answer with: `<think> work </think> answer`, or the answer alone.

    style is one of `STYLES` for sums; for code the terse styles write `statements`, the others a new `named` value each step;
    the out-of-domain families need no work, their think block names the task.
    """
    answer = problem.answer
    if problem.family == "sum":
        think = solve_sum(tuple((s, d) for s, d in problem.meta["terms"]), style, rng)
    elif problem.family == "code":
        think, answer = solve_code(
            problem.meta["steps"],
            "statements" if style in ("pairs", "facts", "totals") else "named",
        )
    else:
        think = problem.family
    return f"<think> {think} </think> {answer}" if reasoning else answer


VOCABULARY = (
    "<pad>",
    "<unk>",
    "<eos>",
    "<user>",
    "<assistant>",
    "<think>",
    "</think>",
    *DIGITS,
    *SIGNED,
    *LETTERS,
    *"+-*%/=;:,()",
    "//",
    "**",
    "def",
    "return",
    "python",
    *_OPERATIONS,
    "square",
    "negate",
    *OOD,
    "so",
    "now",
    "ok",
    "check",
    "wait",
)
