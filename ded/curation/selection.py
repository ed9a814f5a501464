"""The choice of diverse trajectories among those of a question: metrics, rules, and exact or greedy
max-min dispersion.

A metric or a rule is one function and one line in `METRICS` or `RULES`. Paper: "diversity".
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, combinations, groupby
from typing import NamedTuple

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from ded import progress
from ded.curation.filters import split_think
from ded.errors import ParameterError, no_such
from ded.problems import content_hash

EXACT = 5000  # subsets of one question up to which the best is found by looking at all of them
PROSE = re.compile(r"[a-z]{2,}[.,:;!?]*")  # a word that says nothing of what is worked out


def levenshtein(trajectories: pd.DataFrame, workers: int = 1) -> np.ndarray:
    """Edits in tokens (paper: "diversity"): int64."""
    return _edits(trajectories["token_ids"].tolist(), workers)


def normalised(trajectories: pd.DataFrame, workers: int = 1) -> np.ndarray:
    """Edits in tokens over the longer length (0 for two empty lists): float64 between 0 and 1.

    No metric in the strict sense: the triangle inequality can fail.
    """
    lengths = trajectories["token_ids"].map(len).to_numpy()
    longer = np.maximum(1, np.maximum.outer(lengths, lengths))
    return levenshtein(trajectories, workers) / longer


def steps(trajectories: pd.DataFrame, workers: int = 1) -> np.ndarray:
    """Edits in steps (`steps_of`): int64; 0 also for one solution told in other words.

    After Reasoning Path Divergence (arXiv 2510.26122), where a model summarises the steps, embeds
    them and matches each with the nearest. Here two steps are the same or not, in their order: in
    the lab that is exact, while two long solutions of a real model share few steps to the letter.
    """
    return _edits([steps_of(text) for text in trajectories["text"]], workers)


def steps_of(text: str) -> list[str]:
    """The steps of a solution: what is worked out on each line (or between " ; ") of its think
    block, without prose around it; a line of prose alone is a step as it stands, one that repeats
    the line before is none.

    Of a correct solution to a lab sum that writes down what remains these are the states of
    `problems.trace`, which is not asked: it has no states for a solution with a slip, and none
    outside the lab.
    """
    think, _ = split_think(text) or (text, "")
    lines = filter(None, map(str.split, re.split(r"\n| ; ", think.lower())))
    worked = [[word for word in line if not PROSE.fullmatch(word)] or line for line in lines]
    return [step for step, _ in groupby(map(" ".join, worked))]


def _edits(sequences: Sequence[Sequence[Hashable]], workers: int) -> np.ndarray:
    """Symmetric (n, n) matrix of int64: edits between n sequences; workers: threads, -1: all."""
    matrix = np.zeros((len(sequences), len(sequences)), dtype=np.int64)
    rows, columns = np.triu_indices(len(sequences), 1)
    if len(rows):
        # rapidfuzz looks characters below 256 up in an array and all others in a hash table: with
        # the most frequent items there it is about twice as fast as on token ids themselves.
        # Distances do not change when items are renamed.
        counts = Counter(chain.from_iterable(sequences))
        rename = {item: chr(rank) for rank, (item, _) in enumerate(counts.most_common())}
        texts = ["".join(map(rename.__getitem__, sequence)) for sequence in sequences]
        first, second = [texts[i] for i in rows], [texts[i] for i in columns]
        edits = cpdist(first, second, scorer=Levenshtein.distance, dtype=np.int32, workers=workers)
        matrix[rows, columns] = matrix[columns, rows] = edits
    return matrix


# A metric: (trajectories of one question: token_ids, text; threads) -> their symmetric matrix of
# distances, 0 for equal texts.
METRICS: dict[str, Callable[[pd.DataFrame, int], np.ndarray]] = {
    "levenshtein": levenshtein,
    "normalised": normalised,
    "steps": steps,
}


def pairwise_distances(
    trajectories: pd.DataFrame, metric: str = "levenshtein", workers: int = 1
) -> np.ndarray:
    """Symmetric (n, n) matrix of distances between n trajectories of a question (token_ids, text),
    by one of `METRICS`.
    """
    return METRICS[metric_named(metric)](trajectories, workers)


def metric_named(name: str) -> str:
    """The name, where it is one of `METRICS`; ParameterError where it is not."""
    if name not in METRICS:
        raise ParameterError(no_such("metric", name, METRICS))
    return name


@dataclass(frozen=True)
class Candidates:
    """The trajectories of one question among which a rule chooses, and the draw that is the
    question's own.
    """

    trajectories: pd.DataFrame  # token_ids, text
    rng: random.Random
    metric: str = "levenshtein"
    distances: np.ndarray | None = None  # between all of them, where they were computed before

    @cached_property
    def distinct(self) -> list[int]:
        """Places of the different ones: equal token ids count once, by the first of them."""
        return np.flatnonzero(~self.trajectories["token_ids"].map(tuple).duplicated()).tolist()

    def between(self, places: Sequence[int]) -> np.ndarray:
        """Distances between the trajectories at some places, computed for these alone where need
        be.
        """
        if self.distances is not None:
            return self.distances[np.ix_(places, places)]
        return pairwise_distances(self.trajectories.iloc[places], self.metric)


def farthest(candidates: Candidates, n: int) -> list[int]:
    """The n distinct ones whose smallest pairwise distance is largest (max-min dispersion,
    `choose_farthest`).
    """
    apart = candidates.between(candidates.distinct)
    return [candidates.distinct[i] for i in choose_farthest(apart, n)]


def nearest(candidates: Candidates, n: int) -> list[int]:
    """The n distinct ones whose largest pairwise distance is smallest (`choose_nearest`)."""
    apart = candidates.between(candidates.distinct)
    return [candidates.distinct[i] for i in choose_nearest(apart, n)]


def any_distinct(candidates: Candidates, n: int) -> list[int]:
    """Any n distinct ones."""
    return sorted(candidates.rng.sample(candidates.distinct, n))


def single(candidates: Candidates, n: int) -> list[int]:
    """One of all, drawn at random and repeated n times."""
    return [candidates.rng.choice(range(len(candidates.trajectories)))] * n


def least(column: str, sign: int = 1) -> Callable[[Candidates, int], list[int]]:
    """The rule that takes the n distinct ones with the least (sign -1: the most) in a column of the
    trajectories, the first of equals.
    """

    def rule(candidates: Candidates, n: int) -> list[int]:
        values = sign * candidates.trajectories[column].to_numpy()
        return sorted(sorted(candidates.distinct, key=values.__getitem__)[:n])

    return rule


# A rule: (the candidates of a question, n) -> the places of the n chosen, rising. At least n of
# them are distinct.
RULES: dict[str, Callable[[Candidates, int], list[int]]] = {
    "farthest": farthest,
    "random": any_distinct,
    "nearest": nearest,
    "single": single,
    "shortest": least("n_tokens"),
    # columns that `study.diversity` adds: scores under the student before training
    "rsr": least("rsr"),
    "lalp": least("lalp", -1),
}


class Selection(NamedTuple):
    """chosen: rows of the table of trajectories, by question in order of appearance and then by
    sample_index.

    statistics: one row a question: problem_id, candidates, distinct, chosen (rows), min_distance
    and mean_distance between the chosen (NaN for fewer than two).
    """

    chosen: pd.DataFrame
    statistics: pd.DataFrame


def select_trajectories(
    kept: pd.DataFrame,
    n_kept: int,
    rule: str = "farthest",
    metric: str = "levenshtein",
    seed: int = 0,
    short: str = "drop",
    distances: Mapping[str, np.ndarray] | None = None,
    memo: dict | None = None,
) -> Selection:
    """n_kept trajectories a question (the paper's P) by one of `RULES`, from those that passed the
    filters ("diversity").

    A question's draw depends on (seed, problem_id) and its own trajectories alone. All rules but
    `single` choose among distinct trajectories only, of which the lowest sample_index stands for
    its equals.

    short: "drop" leaves questions with fewer than n_kept distinct trajectories out, under every
    rule, so that all rules keep the same questions and equally many rows; "keep" takes the distinct
    ones there are (single: as many copies). distances: matrices by problem_id, indexed by
    sample_index, in the unit of `metric`, where they were computed before. memo: kept by a caller
    who chooses from parts of one table again and again: what was chosen among the same candidates.
    """
    memo = {} if memo is None else memo
    ordered = kept.sort_values("sample_index", kind="stable")
    sample_index = ordered["sample_index"].tolist()
    rows_of = ordered.groupby("problem_id", sort=False).indices
    chosen_rows, statistics = [], []
    bar = {"desc": f"choosing {rule}", "unit": "question", "delay": 2}
    for problem_id in progress.bar(kept["problem_id"].unique(), **bar):
        rows = rows_of[problem_id].tolist()
        indices = tuple(sample_index[row] for row in rows)
        key = (problem_id, indices, n_kept, rule, metric, seed, short)
        if key not in memo:
            matrix = distances[problem_id][np.ix_(indices, indices)] if distances else None
            rng = random.Random(content_hash(f"{seed} {problem_id}"))
            candidates = Candidates(ordered.iloc[rows], rng, metric, matrix)
            memo[key] = _choose(candidates, n_kept, rule, short)
        places, facts = memo[key]
        chosen_rows += [rows[place] for place in places]
        statistics.append([problem_id, *facts])
    table = pd.DataFrame(statistics, columns=["problem_id", *FACTS])
    return Selection(ordered.iloc[chosen_rows].reset_index(drop=True), table)


FACTS = ("candidates", "distinct", "chosen", "min_distance", "mean_distance")


def _choose(
    candidates: Candidates, n_kept: int, rule: str, short: str
) -> tuple[list[int], tuple[float, ...]]:
    """(places of the chosen among the candidates, the question's `FACTS`)."""
    n_distinct = len(candidates.distinct)
    n_chosen = min(n_kept, n_distinct) if short == "keep" or n_distinct >= n_kept else 0
    places = RULES[rule](candidates, n_chosen) if n_chosen else []
    pairs = candidates.between(places)[np.triu_indices(len(places), 1)].tolist()
    smallest, mean = (float(min(pairs)), sum(pairs) / len(pairs)) if pairs else (math.nan,) * 2
    return places, (len(candidates.trajectories), n_distinct, n_chosen, smallest, mean)


def choose_farthest(distances: np.ndarray, n: int) -> list[int]:
    """The n items (rising indices) whose smallest pairwise distance is largest: max-min dispersion.

    Ties go to the larger sum of distances, then to the lexicographically lowest indices. Exact
    where there are at most `EXACT` subsets. Above that greedy: the farthest pair first, then each
    time the item farthest from those chosen; its smallest distance is at least half the best one
    where the triangle inequality holds (Ravi, Rosenkrantz, Tayi 1994).
    """
    if n == 1:
        return [0]
    if math.comb(len(distances), n) <= EXACT:
        return _best_subset(distances, n)
    pair = np.unravel_index(int(np.triu(distances, 1).argmax()), distances.shape)
    chosen = [int(place) for place in pair]
    while len(chosen) < n:
        smallest, total = distances[:, chosen].min(axis=1), distances[:, chosen].sum(axis=1)
        others = [i for i in range(len(distances)) if i not in chosen]
        rank = {i: (smallest[i], round(total[i], 9), -i) for i in others}
        chosen.append(max(others, key=rank.__getitem__))
    return sorted(chosen)


def choose_nearest(distances: np.ndarray, n: int) -> list[int]:
    """The n items (rising indices) whose largest pairwise distance is smallest, ties to the smaller
    sum.

    Exact where `choose_farthest` is. Above that the best of the sets "an item and its n - 1
    nearest"; its largest distance is at most twice the best one where the triangle inequality
    holds.
    """
    if n == 1:
        return [0]
    if math.comb(len(distances), n) <= EXACT:
        return _best_subset(-distances, n)
    order = distances.argsort(axis=1, kind="stable").tolist()
    balls = [sorted([i, *(j for j in row if j != i)][:n]) for i, row in enumerate(order)]
    insides = [distances[np.ix_(ball, ball)] for ball in balls]
    ranks = [(inside.max(), round(inside.sum(), 9)) for inside in insides]
    return min(zip(ranks, balls, strict=True))[1]


def _best_subset(values: np.ndarray, n: int) -> list[int]:
    """The n-subset with the largest (smallest pairwise value, their sum), the lexicographically
    first of equals.
    """
    subsets, places = _subsets(len(values), n)
    pairs = values.ravel()[places]
    smallest = pairs.min(axis=0)
    best = np.flatnonzero(smallest == smallest.max())
    # sums of floats are rounded so that their order does not break ties; argmax is the first of
    # equals
    return subsets[best[pairs[:, best].sum(axis=0).round(9).argmax()]].tolist()


@lru_cache(maxsize=64)
def _subsets(n_items: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """All n-subsets of the items in order, a row each; and where their pairs lie in a flat matrix,
    a column each.
    """
    subsets = np.array(list(combinations(range(n_items), n)))
    pairs = [subsets[:, a] * n_items + subsets[:, b] for a, b in combinations(range(n), 2)]
    return subsets, np.stack(pairs)
