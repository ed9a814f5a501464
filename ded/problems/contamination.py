"""Training questions that stand in an evaluation too: found by the n-grams of words that they
share.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

import pandas as pd

from ded.problems.prompts import question_of
from ded.problems.record import Problem

Gram = tuple[str, ...]


def contaminated(
    train: Sequence[Problem], evaluation: Sequence[Problem], n: int = 13, threshold: float = 0.5
) -> tuple[pd.DataFrame, list[Problem]]:
    """(overlaps: train_id, eval_id, share; the training questions in none of them).

    share: how much of the evaluation question's distinct n-grams stands in the training question; a
    pair is listed from `threshold` on. Compared are the questions without their templates, as
    lower-case words, numbers and signs of arithmetic; an evaluation question of fewer than n of
    these is one n-gram.
    """
    evaluated = [_grams(words, max(1, min(n, len(words)))) for words in map(_words, evaluation)]
    holders: defaultdict[Gram, list[int]] = defaultdict(list)
    for i, grams in enumerate(evaluated):
        for gram in grams:
            holders[gram].append(i)
    lengths = {len(gram) for gram in holders}
    pairs, kept = [], []
    for problem in train:
        words = _words(problem)
        grams = {gram for length in lengths for gram in _grams(words, length)}
        shared = Counter(i for gram in grams for i in holders.get(gram, ()))
        shares = {i: shared[i] / len(evaluated[i]) for i in sorted(shared)}
        overlaps = [i for i, share in shares.items() if share >= threshold]
        pairs += [(problem.id, evaluation[i].id, shares[i]) for i in overlaps]
        if not overlaps:
            kept.append(problem)
    return pd.DataFrame(pairs, columns=["train_id", "eval_id", "share"]), kept


def _words(problem: Problem) -> list[str]:
    text = unicodedata.normalize("NFKC", question_of(problem)).lower()
    return re.findall(r"\w+|[-+*/^=<>]", text)


def _grams(words: list[str], n: int) -> set[Gram]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
