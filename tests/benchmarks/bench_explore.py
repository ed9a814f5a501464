"""What a move of each widget costs on a pool of 16,000 trajectories: the new corpus, the plots as a
picture, a question's table; prints a table.

    python tests/benchmarks/bench_explore.py                     # 1,000 questions x 16 worked
    solutions, wanted: within 200 ms python tests/benchmarks/bench_explore.py --questions 250
    --samples 64

Every move is made from the same start, with the caches that a session would have filled; the median
of several moves.
"""

import argparse
import os
import random
import statistics
import time
from dataclasses import replace

import pandas as pd

from ded import explore, problems
from ded.grading import grade
from ded.problems import lab as tasks

START = explore.Values(max_tokens=128, n_kept=3)
MOVES = {  # widget: the values that it moves through, back and forth
    "questions kept": ("keep_questions", [0.96, 0.86, 0.76]),
    "P": ("n_kept", [2, 4, 5]),
    "P, greedy": ("n_kept", [6, 7, 8]),
    "metric": ("metric", ["normalised"]),
    "longest": ("max_tokens", [*range(60, 100)]),
    "longest, steps checked": ("max_tokens", [*range(60, 100)]),
}


def make(questions, samples):
    """A graded table of worked solutions in all styles, 15 % of them wrong."""
    asked, rows = problems.load("lab:sum/6-9", questions, "train", "bench"), []
    for q in asked:
        for i in range(samples):
            rng = random.Random(f"{q.id} {i}")
            text = tasks.solution(q, rng.choice(tasks.STYLES), rng)
            text = (
                text[:-1] + str((int(q.answer) + 1) % tasks.MODULUS)
                if rng.random() < 0.15
                else text
            )
            ids = [tasks.VOCABULARY.index(word) for word in text.split()]
            rows.append(
                {
                    "problem_id": q.id,
                    "sample_index": i,
                    "text": text,
                    "token_ids": ids,
                    "n_tokens": len(ids) + 1,
                    "finish_reason": "stop",
                }
            )
    table = grade(pd.DataFrame(rows), asked)
    rates = (
        (table["verdict"] == "correct")
        .groupby(table["problem_id"], sort=False)
        .mean()
        .rename("pass_rate")
        .reset_index()
    )
    return table, asked, rates


def measured(pool, figure, values, problem_id):
    """Milliseconds of one move (corpus, plots, table, together, processor time), and its Choice."""
    cpu, begun = time.process_time(), time.perf_counter()
    choice = explore.choose(pool, values)
    chosen = time.perf_counter()
    explore.png(explore.explored(pool, choice, figure))
    drawn = time.perf_counter()
    explore.page(pool, choice, problem_id)
    ended, cpu_ended = time.perf_counter(), time.process_time()
    seconds = [chosen - begun, drawn - chosen, ended - drawn, ended - begun, cpu_ended - cpu]
    return [1000 * value for value in seconds], choice


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("questions", 1000), ("samples", 16), ("repeats", 9)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = parser.parse_args()
    graded, asked, rates = make(options.questions, options.samples)
    started = time.perf_counter()
    pool = explore.assemble(graded, asked, rates, "teacher", 0)
    seconds = time.perf_counter() - started
    tokens = graded["n_tokens"].mean()
    print(f"{len(graded):,} trajectories, {tokens:.0f} tokens on average")
    print(f"distances computed once: {seconds:.1f} s")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"milliseconds, the median of {options.repeats} moves\n")
    print(f"{'move':24}{'corpus':>8}{'plots':>8}{'table':>8}{'together':>10}", end="")
    print(f"{'processor time':>16}{'examples':>10}")
    figure = explore.explored(pool, explore.choose(pool, START))
    for move, (name, values) in MOVES.items():
        start = replace(START, verification="steps" if "steps" in move else "answer")
        explore.choose(pool, start)
        times = []
        for turn in range(options.repeats):
            moved = replace(start, **{name: values[turn % len(values)]})
            milliseconds, choice = measured(pool, figure, moved, asked[turn].id)
            times.append(milliseconds)
        corpus, plots, table, together, cpu = map(statistics.median, zip(*times, strict=True))
        print(f"{move:24}{corpus:8.0f}{plots:8.0f}{table:8.0f}{together:10.0f}", end="")
        print(f"{cpu:16.0f}{choice.statistics['chosen'].sum():10,}")


if __name__ == "__main__":
    main()
