"""The lab's six out-of-domain families, on letters and digits."""

import random
import string

from ded.problems.record import Problem

LETTERS, DIGITS = list(string.ascii_lowercase), list(string.digits)
OOD = ("reverse", "sort", "maximum", "shift", "swap", "filter")


def make(family: str, level: int, rng: random.Random) -> tuple[str, Problem]:
    """(canonical text, a problem of `level` symbols) of a family of `OOD`."""
    if family in ("sort", "maximum"):
        items = rng.choices(DIGITS, k=level)
    elif family == "filter":
        items = [rng.choice(LETTERS if rng.random() < 0.6 else DIGITS) for _ in range(level + 1)]
        items[rng.randrange(len(items))] = rng.choice(DIGITS)
    else:
        items = rng.choices(LETTERS, k=level)
    prompt = f"{family} {' '.join(items)}"
    return prompt, Problem.made(family, level, prompt, " ".join(_solve(family, items)))


def _solve(family: str, items: list[str]) -> list[str]:
    match family:
        case "sort":
            return sorted(items)
        case "maximum":
            return [max(items)]
        case "filter":  # keep the digits
            return [item for item in items if item in DIGITS]
        case "reverse":
            return items[::-1]
        case "shift":  # each letter to the next of the alphabet
            return [LETTERS[(LETTERS.index(item) + 1) % 26] for item in items]
        case _:  # swap the first and the last
            return [items[-1], *items[1:-1], items[0]]
