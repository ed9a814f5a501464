"""The lab's out-of-domain families, on letters and digits."""

import random
import string
from itertools import accumulate

from ded.problems.record import Candidate, Problem

LETTERS, DIGITS = list(string.ascii_lowercase), list(string.digits)
ALPHABET = LETTERS[:10]  # of the families: few, so that each is seen often enough to be learnt
OOD = (
    *("reverse", "sort", "maximum", "shift", "swap", "filter"),
    *("running", "even", "rotate", "merge", "neighbours", "replace"),
)


def make(family: str, level: int, rng: random.Random) -> Candidate:
    """A problem of `level` symbols of a family of `OOD`."""
    words = _words(family, level, rng)
    prompt = f"{family} {' '.join(words)}"
    return prompt, lambda: Problem.made(family, level, prompt, " ".join(solve(family, words)))


def _words(family: str, level: int, rng: random.Random) -> list[str]:
    """What stands in the prompt after the family's name."""
    match family:
        case "sort" | "maximum" | "running":
            return rng.choices(DIGITS, k=level)
        case "even":
            digits = rng.choices(DIGITS, k=level)
            digits[rng.randrange(level)] = rng.choice(DIGITS[::2])  # there is one to keep
            return digits
        case "filter":
            words = [rng.choice(ALPHABET if rng.random() < 0.6 else DIGITS) for _ in range(level)]
            return [*words, rng.choice(DIGITS)]
        case "merge":
            half = level // 2
            parts = rng.choices(DIGITS, k=half), rng.choices(DIGITS, k=level - half)
            return [*sorted(parts[0]), ",", *sorted(parts[1])]
        case "rotate":
            return [str(rng.randrange(1, min(level, 10))), *rng.choices(ALPHABET, k=level)]
        case "replace":
            words = rng.choices(ALPHABET[:6], k=level)
            return [rng.choice(words), rng.choice(ALPHABET), ",", *words]
        case _:
            return rng.choices(ALPHABET, k=level)


def solve(family: str, words: list[str]) -> list[str]:
    """The answer to what stands after the family's name in a prompt, word by word."""
    match family:
        case "sort":
            return sorted(words)
        case "maximum":
            return [max(words)]
        case "running":  # at each place the largest so far
            return list(accumulate(words, max))
        case "filter":  # keep the digits
            return [word for word in words if word in DIGITS]
        case "even":  # keep the even digits
            return [word for word in words if word in DIGITS[::2]]
        case "merge":  # two sorted lists into one
            return sorted(word for word in words if word != ",")
        case "reverse":
            return words[::-1]
        case "shift":  # each letter to the next of the alphabet
            return [LETTERS[LETTERS.index(word) + 1] for word in words]
        case "rotate":  # to the left, by as many as the first word says
            places, symbols = int(words[0]), words[1:]
            return symbols[places:] + symbols[:places]
        case "replace":  # the first letter by the second, wherever it stands after the comma
            old, new, _, *symbols = words
            return [new if symbol == old else symbol for symbol in symbols]
        case "neighbours":  # the first with the second, the third with the fourth ...
            pairs = [words[i : i + 2][::-1] for i in range(0, len(words), 2)]
            return [word for pair in pairs for word in pair]
        case _:  # swap the first and the last
            return [words[-1], *words[1:-1], words[0]]
