"""What a move of each widget costs on a pool of 16,000 trajectories: the new corpus, the plots as a picture, a question's table; prints a table.

    python tests/benchmarks/bench_widgets.py                     # 1,000 questions x 16 worked solutions, wanted: within 200 ms
    python tests/benchmarks/bench_widgets.py --questions 250 --samples 64

Every move is made from the same start, with the caches that a session would have filled; the median of several moves.
"""

import argparse
import os
import random
import statistics
import time

import pandas as pd

from ded import explore as widgets
from ded import problems
from ded.explore import figure as figures
from ded.grading import grade
from ded.problems import lab as tasks

START = {
    "max_tokens": 128,
    "verification": "answer",
    "pass_rate_threshold": 1.0,
    "n_kept": 3,
    "metric": "levenshtein",
}
MOVES = {  # widget: the values that it moves through, back and forth
    "pass-rate threshold": ("pass_rate_threshold", [0.95, 0.85, 0.75]),
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("questions", 1000), ("samples", 16), ("repeats", 9)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = parser.parse_args()
    graded, asked, rates = make(options.questions, options.samples)
    started = time.perf_counter()
    pool = widgets.assemble(graded, asked, rates, "teacher", 0)
    print(
        f"{len(graded):,} trajectories, {graded['n_tokens'].mean():.0f} tokens on average; distances found once: {time.perf_counter() - started:.1f} s"
    )
    figure = figures.explored(pool, widgets.choose(pool, START))
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; milliseconds, the median of {options.repeats} moves\n"
    )
    print(
        f"{'move':24}{'corpus':>8}{'plots':>8}{'table':>8}{'together':>10}{'processor time':>16}{'examples':>10}"
    )
    for move, (name, values) in MOVES.items():
        start = START | ({"verification": "steps"} if "steps" in move else {})
        widgets.choose(pool, start)
        times = []
        for turn in range(options.repeats):
            cpu, begun = time.process_time(), time.perf_counter()
            choice = widgets.choose(pool, start | {name: values[turn % len(values)]})
            chosen = time.perf_counter()
            figures.picture(figures.explored(pool, choice, figure))
            drawn = time.perf_counter()
            widgets.page(pool, choice, asked[turn].id)
            ended = time.perf_counter()
            times.append(
                [
                    1000 * t
                    for t in (
                        chosen - begun,
                        drawn - chosen,
                        ended - drawn,
                        ended - begun,
                        time.process_time() - cpu,
                    )
                ]
            )
        corpus, plots, table, both, cpu = (statistics.median(column) for column in zip(*times))
        print(
            f"{move:24}{corpus:8.0f}{plots:8.0f}{table:8.0f}{both:10.0f}{cpu:16.0f}{choice.statistics['chosen'].sum():10,}"
        )


if __name__ == "__main__":
    main()
