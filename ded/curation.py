"""From trajectories to a corpus: quality filters, question compression, and the choice of diverse
trajectories.

Every filter takes a table and returns `Filtered(kept, funnel, dropped)`: the rows kept, unchanged
and in their order; what it did, one row a step (step, kept, dropped, reason), reason being how
often each reason applied; and the rows dropped, each with its step and reason. Paper: "quality
check", "question compression", "diversity".

The diverse ones among a question's trajectories are chosen by a metric and a rule, each a function
and a line in `METRICS` or `RULES`: exact or greedy max-min dispersion.
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
from ded.errors import ParameterError, no_such
from ded.problems import Problem, content_hash, texts, trace

EXACT = 5000  # subsets of one question up to which the best is found by looking at all of them
PROSE = re.compile(r"[a-z]{2,}[.,:;!?]*")  # a word that says nothing of what is worked out


class Filtered(NamedTuple):
    kept: pd.DataFrame
    funnel: pd.DataFrame
    dropped: pd.DataFrame

    @property
    def n_tokens(self) -> int:
        """Of all that came in."""
        return int(self.kept["n_tokens"].sum() + self.dropped["n_tokens"].sum())


def curate(
    trajectories: pd.DataFrame,
    problems: Sequence[Problem],
    max_tokens: int,
    verify: str = "answer",
    drop_repeats: bool = False,
) -> Filtered:
    """The three quality checks in the paper's order: length, format, correctness (see the filters
    for the arguments); with `drop_repeats` a fourth, "repeats", before the last.

    The funnel opens with a row "sampled" that counts what came in.
    """
    sampled = drop(trajectories, "sampled", [""] * len(trajectories))
    length = filter_length(sampled.kept, max_tokens)
    steps = [sampled, length, filter_format(length.kept)]
    if drop_repeats:  # no paper's filter, so off by default
        loops = repeats(steps[-1].kept).map({True: "ends in a loop", False: ""})
        steps.append(drop(steps[-1].kept, "repeats", loops.tolist()))
    return join(*steps, filter_correct(steps[-1].kept, verify, problems))


def filter_length(trajectories: pd.DataFrame, max_tokens: int) -> Filtered:
    """Drops trajectories over `max_tokens` tokens, and those that sampling cut off, whose length
    nobody knows.
    """
    long = trajectories["n_tokens"] > max_tokens
    cut_off = trajectories["finish_reason"] == "length"
    why = [f"over {max_tokens} tokens", "cut off while sampling"]
    return drop(trajectories, "length", np.select([long, cut_off], why, "").tolist())


def filter_format(trajectories: pd.DataFrame) -> Filtered:
    """Keeps texts that are one well-paired <think> ... </think>, from the start on, then a
    non-empty answer.
    """
    return drop(trajectories, "format", [fault(text) for text in trajectories["text"]])


def repeats(trajectories: pd.DataFrame) -> pd.Series:
    """Whether each trajectory ends in a loop (`ded.problems.texts.loops`)."""
    return trajectories["text"].map(texts.loops).astype(bool).rename("repeats")


def filter_branches(trajectories: pd.DataFrame, most: float) -> Filtered:
    """Drops trajectories that open another attempt more than `most` times in a thousand tokens.

    After Li et al. (arXiv 2604.01702), where branch-heavy trajectories generalise worse; what opens
    an attempt is ours, the words of texts.yml.
    """
    branches = trajectories["text"].map(texts.branches).astype(float)  # of no trajectories too
    rates = 1000 * branches / trajectories["n_tokens"].clip(lower=1)
    why = f"over {most:g} branches in 1,000 tokens"
    return drop(trajectories, "branches", np.where(rates > most, why, "").tolist())


def filter_correct(
    graded: pd.DataFrame, require: str = "answer", problems: Sequence[Problem] = ()
) -> Filtered:
    """Keeps trajectories with the verdict "correct"; require "steps" drops those with an invalid
    step too (`problems.trace`), for which it needs `problems`.

    The second funnel row, "steps", then counts the lucky chains: right answers by way of a wrong
    step.
    """
    answer = drop(graded, "answer", graded["verdict"].replace("correct", "").tolist())
    if require == "answer":
        return answer
    by_id = {problem.id: problem for problem in problems}

    def reason(problem_id: str, text: str) -> str:
        think, _ = split_think(text) or ("", "")  # without a think block no step is valid
        return "" if _steps_valid(by_id[problem_id], think) else "invalid step"

    reasons = list(map(reason, answer.kept["problem_id"], answer.kept["text"]))
    return join(answer, drop(answer.kept, "steps", reasons))


@lru_cache(maxsize=100_000)  # asked again at each move of a slider
def _steps_valid(problem: Problem, think: str) -> bool:
    return trace(problem, think) is not None


def split_think(text: str) -> tuple[str, str] | None:
    """(think text, answer) of a well-formed text, both stripped; None where `filter_format` would
    drop it.
    """
    thinking, answer, _ = texts.split(text)
    return None if fault(text) or thinking is None or answer is None else (thinking, answer)


def fault(text: str) -> str:
    """What is wrong with the form of a text, "" if nothing; for tags see `texts.split`."""
    _, answer, tags = texts.split(text)
    faults = {
        "empty": not text.strip(),
        "no think block": not tags,
        "think block never opened": texts.THINK not in tags,
        "think block never closed": texts.CLOSE not in tags,
        "more than one think tag": len(tags) > 2,
        "text before the think block": not text.lstrip().startswith(texts.THINK),
        "no answer": not answer,
    }
    return next((name for name, holds in faults.items() if holds), "")


def compression(keep: float | Mapping[str, float]) -> tuple[float, float]:
    """What `keep` asks of question compression: (share of the rated questions, highest pass rate);
    ValueError for what is neither a share nor {"pass_rate": a share}."""
    match keep:
        case int() | float() as share if 0 < share <= 1:
            return share, 1.0
        case {"pass_rate": int() | float() as threshold, **others} if 0 <= threshold <= 1:
            if not others:
                return 1.0, threshold
    raise ValueError("is no share above 0, up to 1, nor such as {pass_rate: 0.75}")


def compress_questions(
    pass_rates: pd.DataFrame, keep: float | Mapping[str, float] = 1.0, seed: int = 0
) -> Filtered:
    """Question compression: drops questions that the student answers too often (paper; its
    threshold is not known, the share that it leaves is: 24 % of math, 23 % of code).

    pass_rates: one row a question with problem_id and pass_rate (0 to 1). keep: the share of the
    rated questions that stay, the lowest pass rates first, the seed drawing among those at the last
    one; or {"pass_rate": 0.75}: those with a pass rate up to it. Questions without one (grader
    errors only) are dropped. The kept ids are `.kept.problem_id`.
    """
    share, threshold = compression(keep)
    rates, order = pass_rates["pass_rate"], _hardest_first(pass_rates, seed)
    kept = order.head(round(share * len(order)))
    drawn = pass_rates.index.isin(kept.index)
    if share < 1:
        threshold = float(kept["pass_rate"].max()) if len(kept) else 0.0
    why = ["no pass rate", f"pass rate above {threshold:g}", f"pass rate {threshold:g}, by lot"]
    reasons = np.select([rates.isna(), rates > threshold, ~drawn], why, "")
    return drop(pass_rates, "compression", reasons.tolist())


def _hardest_first(pass_rates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rated questions, the lowest pass rate first; the seed draws the order of equals."""
    lot = pass_rates["problem_id"].map(lambda name: content_hash(f"{seed} {name}"))
    return pass_rates.assign(lot=lot).dropna(subset="pass_rate").sort_values(["pass_rate", "lot"])


def difficulty_parts(pass_rates: pd.DataFrame, n_hard: int, seed: int = 0) -> dict[str, str]:
    """{problem_id: "hard", "middle", "easy" or ""} of the rated questions; the parts share none.

    hard: the n_hard with the lowest pass rates, as `compress_questions` keeps them with this seed;
    easy: as many with the highest; middle: as many around the median (the zone of proximal
    development). Where less than twice n_hard are left for these two, they halve the rest.
    """
    ids = _hardest_first(pass_rates, seed)["problem_id"].tolist()
    n_each = min(n_hard, (len(ids) - n_hard) // 2)
    begins = max(n_hard, (len(ids) - n_each) // 2)
    slices = {"hard": ids[:n_hard], "middle": ids[begins : begins + n_each]}
    slices["easy"] = ids[len(ids) - n_each :]
    parts = {problem_id: part for part, members in slices.items() for problem_id in members}
    return dict.fromkeys(ids, "") | parts


def drop(table: pd.DataFrame, step: str, reasons: list[str]) -> Filtered:
    """Drops the rows whose reason is not ""; `reasons` has one a row."""
    keep = np.array([not reason for reason in reasons], dtype=bool)
    given = [reason for reason in reasons if reason]
    kept = table[keep].reset_index(drop=True)
    dropped = table[~keep].assign(step=step, reason=pd.array(given, dtype=object))
    why = "; ".join(f"{text}: {n}" for text, n in Counter(given).most_common())
    funnel = funnel_row(step, len(kept), len(dropped), why)
    return Filtered(kept, funnel, dropped.reset_index(drop=True))


def funnel_row(step: str, kept: int, dropped: int, reason: str = "") -> pd.DataFrame:
    """One row of a funnel."""
    return pd.DataFrame([{"step": step, "kept": kept, "dropped": dropped, "reason": reason}])


def join(*steps: Filtered) -> Filtered:
    """Consecutive steps as one: each took what the one before it kept."""
    funnel = pd.concat([step.funnel for step in steps], ignore_index=True)
    dropped = pd.concat([step.dropped for step in steps], ignore_index=True)
    return Filtered(steps[-1].kept, funnel, dropped)


# ---- the choice of diverse trajectories --------------------------------------------------------


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
    by one of `METRICS`; ParameterError for another.
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
    between the chosen (NaN for fewer than two).
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


FACTS = ("candidates", "distinct", "chosen", "min_distance")


def _choose(
    candidates: Candidates, n_kept: int, rule: str, short: str
) -> tuple[list[int], tuple[float, ...]]:
    """(places of the chosen among the candidates, the question's `FACTS`)."""
    n_distinct = len(candidates.distinct)
    n_chosen = min(n_kept, n_distinct) if short == "keep" or n_distinct >= n_kept else 0
    places = RULES[rule](candidates, n_chosen) if n_chosen else []
    pairs = candidates.between(places)[np.triu_indices(len(places), 1)]
    smallest = float(pairs.min()) if len(pairs) else math.nan
    return places, (len(candidates.trajectories), n_distinct, n_chosen, smallest)


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
