"""Farthest-P on token ids against the double loop on text, question by question; prints a table.

    python tests/benchmarks/bench_curation.py                  # 4 questions of full length, about a
    minute python tests/benchmarks/bench_curation.py --questions 237  # the size of the paper's
    corpus, up to an hour

The trajectories of a question are made of phrases from a pool they share, with a vocabulary as
skewed as that of text, about 3.5 characters a token. Both sides find all distances and choose P;
the double loop gets its texts decoded for free. Identity: the same choice, from the same distances,
as brute force over all subsets on the unchanged ids.
"""

import argparse
import random
import resource
import sys
import time
from itertools import combinations

import pandas as pd
from rapidfuzz.distance import Levenshtein

from ded import curation

VOCABULARY = 3000


def make_question(rng, trajectories, tokens):
    """Token ids of each trajectory: three quarters phrases of 15 tokens from the question's pool,
    the rest free."""
    weights = [1 / rank for rank in range(1, VOCABULARY + 1)]
    names = rng.sample(range(150_000), VOCABULARY)
    pool = [rng.choices(names, weights, k=15) for _ in range(max(1, tokens // 15))]
    made = []
    for _ in range(trajectories):
        ids = []
        while len(ids) < tokens:
            ids += rng.choice(pool) if rng.random() < 0.75 else rng.choices(names, weights, k=15)
        made.append(ids[: tokens - rng.randrange(tokens // 10 + 1)])
    return made


def spell(token):
    rng = random.Random(token)
    return "".join(rng.choices("etaoinshrdlu ", k=rng.choice((2, 3, 4, 5))))


def double_loop(sequences, n_kept):
    """All pairs one by one, all subsets one by one: (indices, distances)."""
    pairs = combinations(range(len(sequences)), 2)
    distances = {(i, j): Levenshtein.distance(sequences[i], sequences[j]) for i, j in pairs}

    def rank(subset):
        pairs = [distances[pair] for pair in combinations(subset, 2)]
        return -min(pairs), -sum(pairs), subset

    return list(min(combinations(range(len(sequences)), n_kept), key=rank)), distances


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("questions", 4),
        ("trajectories", 16),
        ("tokens", 12_000),
        ("kept", 4),
        ("workers", -1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    args = parser.parse_args()
    rng = random.Random(0)
    spelling: dict[int, str] = {}
    seconds, identical, relative, peaks = {"ours": 0.0, "ids": 0.0, "text": 0.0}, True, [], {}
    for _ in range(args.questions):
        ids = make_question(rng, args.trajectories, args.tokens)
        table = pd.DataFrame({"problem_id": "q", "sample_index": range(len(ids)), "token_ids": ids})
        texts = ["".join(spelling.setdefault(t, spell(t)) for t in x) for x in ids]
        start = time.perf_counter()
        apart = curation.pairwise_distances(table, workers=args.workers)
        chosen, statistics = curation.select_trajectories(
            table, args.kept, "farthest", distances={"q": apart}
        )
        seconds["ours"] += time.perf_counter() - start
        peaks.setdefault("ours", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        start = time.perf_counter()
        brute, distances = double_loop(ids, args.kept)
        seconds["ids"] += time.perf_counter() - start
        start = time.perf_counter()
        double_loop(texts, args.kept)
        seconds["text"] += time.perf_counter() - start
        identical &= chosen.sample_index.tolist() == brute
        identical &= statistics.min_distance[0] == min(
            distances[pair] for pair in combinations(brute, 2)
        )
        relative += [d / args.tokens for d in distances.values()]
    peaks["text"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"farthest-{args.kept}: {args.questions} questions x {args.trajectories} trajectories x "
        f"{args.tokens} tokens, distances {min(relative):.2f} to {max(relative):.2f} of the length"
    )
    print(f"{'':38} {'seconds':>9} {'ratio':>7}")
    labels = {
        "text": "double loop on text",
        "ids": "double loop on ids (brute force)",
        "ours": "ded.curation",
    }
    for name, label in labels.items():
        print(f"{label:38} {seconds[name]:9.1f} {seconds['text'] / seconds[name]:6.1f}x")
    print(f"identical to brute force: {'yes' if identical else 'NO'}; target: 5x")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(
        f"peak memory: {peaks['ours'] / unit:.0f} MB after our first question, "
        f"{peaks['text'] / unit:.0f} at the end"
    )
    raise SystemExit(0 if identical else 1)


if __name__ == "__main__":
    main()
