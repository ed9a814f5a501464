"""From trajectories to a corpus: quality filters, question compression, and the choice of diverse trajectories.

Every filter takes a table and returns `Filtered(kept, funnel, dropped)`: the rows kept, unchanged and in their order;
what it did, one row a step (step, kept, dropped, reason), reason being how often each reason applied; and the rows
dropped, each with its step and reason. Paper: "quality check", "question compression", "diversity".
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist
from tqdm.auto import tqdm

from ded.problems import Problem, content_hash

OPEN, CLOSE = "<think>", "</think>"
RULES = ("farthest", "random", "nearest", "single")
METRICS = ("levenshtein", "normalised")
EXACT = 5000  # subsets of one question up to which the best is found by looking at all of them

StepCheck = Callable[[Problem, str], bool]


class Filtered(NamedTuple):
    kept: pd.DataFrame
    funnel: pd.DataFrame
    dropped: pd.DataFrame


# --- quality filters --------------------------------------------------------------------------------------------------
def curate(
    trajectories: pd.DataFrame,
    problems: Sequence[Problem],
    *,
    max_tokens: int,
    verify: str = "answer",
    step_check: StepCheck | None = None,
    form: Callable[[str], str] | None = None,
) -> Filtered:
    """The three quality checks in the paper's order: length, format, correctness (see the filters for the arguments).

    form: stands for `fault`, which whoever curates the same texts again and again may remember.

    The funnel opens with a row "sampled" that counts what came in.
    """
    sampled = drop(trajectories, "sampled", [""] * len(trajectories))
    length = filter_length(sampled.kept, max_tokens)
    shaped = filter_format(length.kept, form)
    return join(sampled, length, shaped, filter_correct(shaped.kept, verify, problems, step_check))


def filter_length(trajectories: pd.DataFrame, max_tokens: int) -> Filtered:
    """Drops trajectories over `max_tokens` tokens, and those that sampling cut off, whose length nobody knows."""
    reasons = [
        f"over {max_tokens} tokens"
        if n > max_tokens
        else "cut off while sampling"
        if finish == "length"
        else ""
        for n, finish in zip(trajectories.n_tokens.tolist(), trajectories.finish_reason.tolist())
    ]
    return drop(trajectories, "length", reasons)


def filter_format(trajectories: pd.DataFrame, form: Callable[[str], str] | None = None) -> Filtered:
    """Keeps texts that are one well-paired <think> ... </think>, from the start on, then a non-empty answer."""
    return drop(trajectories, "format", [*map(form or fault, trajectories.text.tolist())])


def filter_correct(
    graded: pd.DataFrame,
    require: str = "answer",
    problems: Sequence[Problem] = (),
    step_check: StepCheck | None = None,
) -> Filtered:
    """Keeps trajectories with the verdict "correct"; require "steps" drops those with an invalid step too.

    step_check(problem, think text) says whether every step is valid; it and `problems` are needed for "steps" alone.
    The second funnel row, "steps", then counts the lucky chains: right answers by way of a wrong step.
    """
    if require not in ("answer", "steps"):
        raise ValueError(f"require must be 'answer' or 'steps', not {require!r}")
    if "verdict" not in graded:
        raise ValueError("the trajectories are not graded: they have no column 'verdict'")
    answer = drop(
        graded,
        "answer",
        ["" if v == "correct" else str(v) or "ungraded" for v in graded.verdict.tolist()],
    )
    if require == "answer":
        return answer
    if step_check is None:
        raise ValueError("require 'steps' needs a step_check(problem, think text)")
    known = {p.id: p for p in problems}
    reasons = []
    for name, text in zip(answer.kept.problem_id.tolist(), answer.kept.text.tolist()):
        if name not in known:
            raise ValueError(
                f"no problem {name!r} among the {len(known)} problems: its steps cannot be checked"
            )
        parts = split_think(text)
        valid = parts is not None and step_check(known[name], parts[0])
        reasons.append("" if valid else "invalid step" if parts else "no think block")
    return join(answer, drop(answer.kept, "steps", reasons))


def split_think(text: str) -> tuple[str, str] | None:
    """(think text, answer) of a well-formed text, both stripped; None where `filter_format` would drop it."""
    if fault(text):
        return None
    think, _, answer = text.strip()[len(OPEN) :].partition(CLOSE)
    return think.strip(), answer.strip()


def fault(text: str) -> str:
    """What is wrong with the form of a text, "" if nothing."""
    opened, closed, text = text.count(OPEN), text.count(CLOSE), text.strip()
    if not text:
        return "empty"
    if not opened:
        return "think block never opened" if closed else "no think block"
    if not closed:
        return "think block never closed"
    if opened > 1 or closed > 1:
        return "more than one think tag"
    if not text.startswith(OPEN):
        return "text before the think block"
    return "no answer" if text.endswith(CLOSE) else ""


# --- question compression ---------------------------------------------------------------------------------------------
def compress_questions(pass_rates: pd.DataFrame, threshold: float, keep: str = "hard") -> Filtered:
    """Question compression: drops questions that the student answers too often (paper; its threshold is not known).

    pass_rates: one row a question with problem_id and pass_rate (0 to 1). keep "hard" drops a pass rate above the
    threshold, "easy" keeps exactly those; a question without a pass rate (grader errors only) is dropped by both. The
    kept ids are `.kept.problem_id`.
    """
    if keep not in ("hard", "easy"):
        raise ValueError(f"keep must be 'hard' or 'easy', not {keep!r}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; a pass rate lies between 0 and 1")
    reason = f"pass rate {'above' if keep == 'hard' else 'not above'} {threshold:g}"
    reasons = [
        "no pass rate"
        if math.isnan(rate)
        else ""
        if (rate <= threshold) == (keep == "hard")
        else reason
        for rate in pass_rates.pass_rate
    ]
    return drop(pass_rates, "compression", reasons)


# --- diversity --------------------------------------------------------------------------------------------------------
def pairwise_distances(
    token_ids: Sequence[Sequence[int]], metric: str = "levenshtein", workers: int = 1
) -> np.ndarray:
    """Symmetric (n, n) matrix of the Levenshtein distances between n lists of token ids; workers: threads, -1 for all.

    "levenshtein": int64, edits in tokens. "normalised": float64, divided by the longer length (0 for two empty lists),
    so between 0 and 1, and no metric in the strict sense (the triangle inequality can fail).
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    matrix = np.zeros((len(token_ids), len(token_ids)), dtype=np.int64)
    rows, columns = np.triu_indices(len(token_ids), 1)
    if len(rows):
        # rapidfuzz looks characters below 256 up in an array and all others in a hash table: with the most frequent ids
        # there it is about twice as fast as on the ids themselves. Distances do not change when ids are renamed.
        counts = Counter(token for ids in token_ids for token in ids)
        rename = {token: chr(rank) for rank, (token, _) in enumerate(counts.most_common())}
        texts = ["".join(map(rename.__getitem__, ids)) for ids in token_ids]
        first, second = [texts[i] for i in rows], [texts[j] for j in columns]
        found = cpdist(first, second, scorer=Levenshtein.distance, dtype=np.int32, workers=workers)
        matrix[rows, columns] = matrix[columns, rows] = found
    return matrix if metric == "levenshtein" else normalised(matrix, token_ids)


def normalised(distances: np.ndarray, token_ids: Sequence[Sequence[int]]) -> np.ndarray:
    """A matrix of distances in edits, each divided by the longer of the two lengths."""
    lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
    return distances / np.maximum(1, np.maximum.outer(lengths, lengths))


def select_trajectories(
    kept: pd.DataFrame,
    p: int,
    rule: str = "farthest",
    metric: str = "levenshtein",
    seed: int = 0,
    short: str = "drop",
    workers: int = 1,
    distances: Mapping[str, np.ndarray] | None = None,
    memo: dict | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """p trajectories a question by one of `RULES` (paper section "diversity"), from those that passed the filters.

    farthest: the p whose smallest pairwise distance is largest (max-min dispersion, `choose_farthest`). nearest: its
    opposite. random: p distinct ones. single: one of all, drawn at random and repeated p times. All but single look
    at distinct trajectories only (equal token ids count once, the lowest sample_index stands for them). A question's
    draw depends on (seed, problem_id) and its own trajectories alone.

    short: "drop" leaves questions with fewer than p distinct trajectories out, under every rule, so that all rules
    keep the same questions and equally many rows; "keep" takes the distinct ones there are (single: as many copies).
    distances: matrices by problem_id, indexed by sample_index, in the unit of `metric`, where they were found before.
    memo: kept by a caller who chooses from parts of one table again and again: what was found for each question's candidates.

    Returns the chosen rows of `kept`, by question in order of appearance and then by sample_index, and a table with one
    row a question: problem_id, candidates, distinct, chosen (rows), min_distance and mean_distance between the chosen
    (nan for fewer than two). Rules that need no distances compute those of the chosen only.
    """
    for name, value, known in (
        ("rule", rule, RULES),
        ("metric", metric, METRICS),
        ("short", short, ("drop", "keep")),
    ):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; known: {', '.join(known)}")
    if p < 1:
        raise ValueError(f"p is {p}; at least one trajectory a question is chosen")
    ids, order, memo = (
        kept.token_ids.tolist(),
        kept.sample_index.tolist(),
        {} if memo is None else memo,
    )
    questions: dict[str, list[int]] = {}
    for row, name in enumerate(kept.problem_id.tolist()):
        questions.setdefault(name, []).append(row)

    def choose(name: str, rows: list[int], at: tuple[int, ...]) -> tuple[list[int], tuple]:
        """(places of the chosen in `rows`, what the table says of the question)."""

        def between(places: Sequence[int]) -> np.ndarray:
            if distances is None:
                return pairwise_distances([ids[rows[i]] for i in places], metric, workers)
            return distances[name][np.ix_(found := [at[i] for i in places], found)]

        if (distinct := memo.get((name, at))) is None:
            if distances is None:
                first: dict[tuple, int] = {}
                for i, row in enumerate(rows):
                    first.setdefault(tuple(ids[row]), i)
                distinct = list(first.values())
            else:
                distinct = sorted(set((between(range(len(rows))) == 0).argmax(1).tolist()))
            memo[name, at] = distinct
        size = min(p, len(distinct)) if short == "keep" or len(distinct) >= p else 0
        if rule in ("random", "single") or size in (0, len(distinct)):
            rng = random.Random(content_hash(f"{seed} {name}"))
            picks = sorted(
                [rng.choice(range(len(rows)))] * size
                if rule == "single"
                else rng.sample(distinct, size)
            )
            apart = between(picks)
        else:
            every = between(distinct)
            best = (
                choose_farthest(every, size) if rule == "farthest" else choose_nearest(every, size)
            )
            picks, apart = [distinct[i] for i in best], every[np.ix_(best, best)]
        pairs = [pair for i, row in enumerate(apart.tolist()) for pair in row[i + 1 :]]
        mean = sum(pairs) / len(pairs) if pairs else math.nan
        return picks, (len(rows), len(distinct), size, float(min(pairs, default=math.nan)), mean)

    chosen, statistics = [], []
    for name, rows in tqdm(
        questions.items(), desc=f"choosing {rule}", unit="question", delay=2, leave=False
    ):
        rows.sort(key=order.__getitem__)
        key = (name, at := tuple(order[row] for row in rows), p, rule, metric, seed, short)
        if key not in memo:
            memo[key] = choose(name, rows, at)
        picks, facts = memo[key]
        chosen += [rows[i] for i in picks]
        statistics.append((name, *facts))
    columns = ["problem_id", "candidates", "distinct", "chosen", "min_distance", "mean_distance"]
    return kept.iloc[chosen].reset_index(drop=True), pd.DataFrame(statistics, columns=columns)


def choose_farthest(distances: np.ndarray, p: int) -> list[int]:
    """The p of n items (rising indices) whose smallest pairwise distance is largest: max-min dispersion.

    Ties go to the larger sum of distances, then to the lexicographically lowest indices. Exact where there are at most
    `EXACT` subsets. Above that greedy: the farthest pair first, then each time the item farthest from those chosen; its
    smallest distance is at least half the best one where the triangle inequality holds (Ravi, Rosenkrantz, Tayi 1994).
    """
    if p == 1:
        return [0]
    if math.comb(len(distances), p) <= EXACT:
        return _best_subset(distances, p)
    n = len(distances)
    chosen = list(np.unravel_index(int(np.triu(distances, 1).argmax()), (n, n)))
    while len(chosen) < p:
        near, total = distances[:, chosen].min(1), distances[:, chosen].sum(1)
        left = [i for i in range(n) if i not in chosen]
        chosen.append(max(left, key=lambda i: (near[i], round(total[i], 9), -i)))
    return sorted(map(int, chosen))


def choose_nearest(distances: np.ndarray, p: int) -> list[int]:
    """The p of n items (rising indices) whose largest pairwise distance is smallest, ties to the smaller sum.

    Exact where `choose_farthest` is. Above that the best of the n sets "an item and its p - 1 nearest"; its largest
    distance is at most twice the best one where the triangle inequality holds.
    """
    if p == 1:
        return [0]
    if math.comb(len(distances), p) <= EXACT:
        return _best_subset(-distances, p)
    order = distances.argsort(axis=1, kind="stable").tolist()
    balls = [sorted([i, *(j for j in row if j != i)][:p]) for i, row in enumerate(order)]
    return min(
        balls, key=lambda b: (distances[b][:, b].max(), round(distances[b][:, b].sum(), 9), b)
    )


def _best_subset(values: np.ndarray, p: int) -> list[int]:
    """The p-subset with the largest (smallest pairwise value, their sum), the lexicographically first of equals."""
    subsets, places = _subsets(len(values), p)
    pairs = values.ravel()[places]
    smallest = pairs.min(0)
    best = np.flatnonzero(smallest == smallest.max())
    # sums of floats are rounded so that their order does not break ties; argmax is the first of equals
    return subsets[best[pairs[:, best].sum(0).round(9).argmax()]].tolist()


@lru_cache(maxsize=64)
def _subsets(n: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """All p-subsets of n items in order, a row each; and where their pairs lie in a flat (n, n) matrix, a column each."""
    subsets = np.array(list(combinations(range(n), p)))
    return subsets, np.stack(
        [subsets[:, a] * n + subsets[:, b] for a, b in combinations(range(p), 2)]
    )


# --- equal budgets ----------------------------------------------------------------------------------------------------
def equal_tokens(table: pd.DataFrame, budget_tokens: int, seed: int = 0) -> pd.DataFrame:
    """Whole questions of `table` whose n_tokens together stay within the budget, for arms of equal tokens.

    Questions are taken in a random order that (seed, problem_id) fixes, up to the first that would exceed the budget:
    so no length is preferred, a larger budget adds to a smaller one, and arms over the same questions share them as far
    as their budgets reach. Rows keep their order. Raises ValueError where not even one question fits.
    """
    totals = table.groupby("problem_id", sort=False).n_tokens.sum()
    order = sorted(totals.index, key=lambda name: content_hash(f"{seed} {name}"))
    fits = totals[order].cumsum() <= budget_tokens
    if not fits.any():
        raise ValueError(
            f"no question fits into {budget_tokens} tokens: the first has {totals[order[:1]].sum()}"
        )
    return table[table.problem_id.isin(fits.index[fits])].reset_index(drop=True)


def drop(table: pd.DataFrame, step: str, reasons: list[str]) -> Filtered:
    """Drops the rows whose reason is not ""; `reasons` has one a row."""
    keep, given = (
        np.array([not reason for reason in reasons], dtype=bool),
        [reason for reason in reasons if reason],
    )
    kept, dropped = (
        table[keep].reset_index(drop=True),
        table[~keep].assign(step=step, reason=pd.array(given, dtype=object)),
    )
    why = "; ".join(f"{text}: {n}" for text, n in Counter(given).most_common())
    funnel = pd.DataFrame(
        [{"step": step, "kept": len(kept), "dropped": len(dropped), "reason": why}]
    )
    return Filtered(kept, funnel, dropped.reset_index(drop=True))


def join(*steps: Filtered) -> Filtered:
    """Consecutive steps as one: each took what the one before it kept."""
    funnel, dropped = (pd.concat([step[i] for step in steps], ignore_index=True) for i in (1, 2))
    return Filtered(steps[-1].kept, funnel, dropped)
