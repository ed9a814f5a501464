"""How far scores move by rounding alone, which is what `params/tolerance.yml` says; prints a table.

    python tests/benchmarks/bench_tolerance.py           # three students: three core-minutes
    python tests/benchmarks/bench_tolerance.py --write   # and writes params/tolerance.yml

For each student the way from a teacher to a score is gone twice, in a store of its own each
time: as it is by default, and with two threads, other rows in the batches that answer, and the
arithmetic of an older processor (`OTHER`). All else is the same, so that what differs is rounding.
A corpus that differs in a trajectory, or training, which amplifies what differs in the last digits,
gives another student: a share of its answers changes.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from scipy.stats import chi2

from ded import files, home

# base, seed, examples; ten passes over them
STUDENTS = [("lab:student_1", 1, 200), ("lab:student_2", 2, 200), ("lab:student_2", 3, 800)]
TEACHER, QUESTIONS, EPOCHS = "lab:ends", 1000, 10
# matrix products, vector operations and oneDNN's kernels without what this processor can do more
OTHER = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def answers(threads: int) -> list[list[bool]]:
    """Whether each question is answered rightly, by student."""
    import torch

    from ded import curation, generation, problems, training
    from ded.grading import grade

    torch.set_num_threads(threads)
    right = []
    for base, seed, size in STUDENTS:
        draw = {"max_tokens": 128, "temperature": 1.0, "seed": seed}
        asked = problems.load("lab:sum/6-9", size * 4 // 3, "train", f"tolerance {seed}")
        drawn = grade(generation.sample(TEACHER, asked, 1, **draw), asked)
        corpus = curation.curate(drawn, asked, max_tokens=128).kept.head(size)
        how = {"learning_rate": 2e-3, "batch_size": 12, "max_length": 192, "seed": seed}
        student = training.sft(base, corpus, epochs=EPOCHS, **how)
        scored = problems.load("lab:sum/6-8", QUESTIONS, "dev", f"tolerance {seed}")
        order = scored if threads == 1 else scored[::-1]  # other rows beside each
        table = grade(generation.sample(student, order, 1, **draw), order)
        verdicts = table.set_index("problem_id")["verdict"]
        right.append([bool(verdicts[question.id] == "correct") for question in scored])
    return right


def measured() -> np.ndarray:
    """(rerun, student, question): whether it is answered rightly."""
    reruns = []
    for threads in (1, 2):
        with tempfile.TemporaryDirectory() as store:
            env = os.environ | {"DED_STORE": store, "OMP_NUM_THREADS": str(threads)}
            env |= OTHER if threads > 1 else {}
            command = [sys.executable, __file__, "--threads", str(threads)]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
            reruns.append(json.loads(done.stdout.splitlines()[-1]))
    return np.array(reruns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.threads:
        print(json.dumps(answers(given.threads)))
        return
    first, second = measured()
    changed, moved = (first != second).mean(axis=1), second.mean(axis=1) - first.mean(axis=1)
    for (base, _, size), share, shift in zip(STUDENTS, changed, moved, strict=True):
        moves = f"{share:.1%} of the answers changed, {100 * shift:+.1f} points"
        print(f"{base}, {size} examples: {moves}")
    # beyond what as many changes, up or down alike, move by chance
    spread = float(np.sqrt(max(0.0, (moved**2).mean() - changed.mean() / QUESTIONS)))
    most = float(chi2.ppf(0.95, 2 * (changed.sum() * QUESTIONS + 1)) / 2 / changed.size / QUESTIONS)
    print(f"changed {changed.mean():.4f}, at most {most:.4f}; spread {spread:.4f}")
    if given.write:
        text = TEXT.format(
            date=datetime.date.today(),
            pairs=", ".join(f"{100 * shift:+.1f}" for shift in moved),
            share=f"{changed.mean():.2%}".replace("%", " %"),
            changed=round(most, 4),
            spread=round(spread, 4),
            questions=QUESTIONS,
            runs=len(changed),
        )
        files.write_text(home() / "params" / "tolerance.yml", text)


TEXT = """\
# How far a student's score may lie from that of a rerun, by rounding alone (another processor or
# thread count, other rows in a batch): for n answers z * sqrt(changed / n + spread^2), in 99 of 100
# cells. Measured on {date} by tests/benchmarks/bench_tolerance.py: {runs} students (corpora of 200
# and 800 examples) made and scored twice, {questions} dev questions each. {share} of the answers
# changed; the scores lay {pairs} points apart.
changed: {changed}  # share of answers right in one rerun and wrong in the other: 95 % upper limit
spread: {spread}  # beyond what so many changes move by chance, as a fraction
z: 2.58  # 99 % of a normal distribution
"""


if __name__ == "__main__":
    main()
