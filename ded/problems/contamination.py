"""Training questions that stand in an evaluation too: found by the n-grams of words that they
share.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ded.problems.prompts import question_of
from ded.problems.record import Problem

if TYPE_CHECKING:
    import pandas as pd


def contaminated(
    train: Sequence[Problem], evaluation: Sequence[Problem], n: int = 13, threshold: float = 0.5
) -> tuple[pd.DataFrame, list[Problem]]:
    """(overlaps: train_id, eval_id, share; the training questions in none of them).

    share: how much of the evaluation question's distinct n-grams stands in the training question; a
    pair is listed from `threshold` on. Compared are the questions without their templates, as
    lower-case words, numbers and signs of arithmetic; an evaluation question of fewer than n of
    these is one n-gram.
    """
    import pandas as pd

    index: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    sizes, lengths = [], set()
    for i, problem in enumerate(evaluation):
        words = _words(problem)
        length = max(1, min(n, len(words)))
        grams = _grams(words, length)
        lengths.add(length)
        sizes.append(len(grams))
        for gram in grams:
            index[gram].append(i)
    pairs, kept = [], []
    for problem in train:
        words = _words(problem)
        shared = Counter(
            i for length in lengths for gram in _grams(words, length) for i in index.get(gram, ())
        )
        shares = {i: count / sizes[i] for i, count in shared.items()}
        overlaps = [i for i, share in shares.items() if share >= threshold]
        pairs += [(problem.id, evaluation[i].id, shares[i]) for i in overlaps]
        if not overlaps:
            kept.append(problem)
    return pd.DataFrame(pairs, columns=["train_id", "eval_id", "share"]), kept


def _words(problem: Problem) -> list[str]:
    text = unicodedata.normalize("NFKC", question_of(problem)).lower()
    return re.findall(r"\w+|[-+*/^=<>]", text)


def _grams(words: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
