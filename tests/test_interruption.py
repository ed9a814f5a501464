"""Killed with SIGKILL at a bad moment, the next run goes on where it stopped and ends as if
nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from ded import generation, models, problems, store, training
from ded.generation import transformers

ROOT = Path(__file__).parents[1]
SHARDS = 12


def work(delay=0.0):
    """Samples 24 questions twice, in shards of 4, and trains on what came out: (trajectories,
    weights)."""
    real, size = transformers.draw_shard, generation.SHARD

    def slow(*arguments):
        time.sleep(delay)
        return real(*arguments)

    generation.SHARD, transformers.draw_shard = 4, slow
    try:
        table = generation.sample(
            "lab:student_1",
            problems.load("lab:sum/5", 24, "train", "killed"),
            2,
            max_tokens=16,
            seed=1,
        )
    finally:
        generation.SHARD, transformers.draw_shard = size, real
    spec = training.sft("lab:student_1", table, learning_rate=1e-3, batch_size=8, max_length=64)
    return table, (Path(models.locate(spec)) / "model.safetensors").read_bytes()


def entries(folder):
    return {
        file: (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in folder.glob("??/*/entry.json")
    }


def in_training(folder):
    return len(entries(folder)) == SHARDS and any((folder / "tmp").glob("*-*"))


@pytest.fixture(scope="module")
def undisturbed(tiny_models, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DED_LAB", str(tiny_models))
        patch.setenv("DED_STORE", str(tmp_path_factory.mktemp("undisturbed")))
        return work()


@pytest.mark.parametrize("moment", ["sampling", "training"])
def test_a_killed_run_goes_on_and_ends_the_same(tiny, undisturbed, moment):
    folder = store.root()
    command = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; "
        "import test_interruption; test_interruption.work(0.1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command], env=os.environ, start_new_session=True
    )
    reached = in_training if moment == "training" else lambda folder: len(entries(folder)) >= 3
    try:
        while process.poll() is None and not reached(folder):
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not ended by itself
    done = entries(folder)
    assert 3 <= len(done) < SHARDS if moment == "sampling" else len(done) == SHARDS

    table, weights = work()
    pd.testing.assert_frame_equal(table, undisturbed[0])
    assert weights == undisturbed[1]
    assert (
        entries(folder).items() >= done.items() and len(entries(folder)) == SHARDS + 1
    )  # what was finished was not done again
    assert not any((folder / "tmp").iterdir())  # and what was half done is gone
