"""Training in two processes through `accelerate launch`: the same as in one, and what a SIGKILL
leaves behind."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from ded import models, problems, store, training
from ded.options import Trainer
from ded.problems import lab as tasks
from ded.training import processes as launch
from ded.training import trainer

STUDENT = "lab:student_1"
SETTINGS = {"learning_rate": 2e-3, "batch_size": 8, "epochs": 60.0, "max_length": 128, "seed": 1}
TWO = Trainer(processes=2, micro_batch=2, save_steps=20)
pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.skipif(os.name == "nt", reason="needs gloo and signals"),
]


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def corpus():
    asked, rng = (
        problems.load("lab:sum/5-6", 12, "train", "training"),
        random.Random(0),
    )  # 12: every other batch is a short one
    return pd.DataFrame(
        {
            "prompt": [problem.prompt for problem in asked],
            "text": [tasks.solution(problem, "left", rng) for problem in asked],
        }
    )


def record(spec):
    return json.loads((Path(models.locate(spec)) / "training.json").read_text())


def weights(spec):
    return (Path(models.locate(spec)) / "model.safetensors").read_bytes()


def workers():
    """The processes that train into this store, the launcher left out."""
    training_here = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if (
            "ded.training.worker" in line
            and "accelerate.commands.launch" not in line
            and str(store.root()) in " ".join(line)
        ):
            training_here.append(process)
    return training_here


def when_a_checkpoint_is_there(act):
    """Calls `act` in a thread as soon as a checkpoint is whole."""

    def watch():
        while not list(store.root().glob(f"work/*/checkpoint-*/{trainer.WHOLE}")):
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_two_processes_learn_what_one_does_and_a_killed_one_is_an_error_to_resume_from(
    monkeypatch, tmp_path
):
    table = corpus()
    spec = training.sft(STUDENT, table, **SETTINGS)
    alone = record(spec)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "two"))
    assert training.sft(STUDENT, table, **SETTINGS, trainer=TWO) == spec
    shared, expected = record(spec), weights(spec)
    assert (
        shared["processes"] == 2
        and shared["steps"] == alone["steps"] == 90
        and shared["resumed_from"] is None
    )
    assert [entry["loss"] for entry in shared["loss"]] == pytest.approx(
        [entry["loss"] for entry in alone["loss"]], rel=1e-4
    )

    monkeypatch.setenv("DED_STORE", str(tmp_path / "killed"))
    when_a_checkpoint_is_there(lambda: workers()[0].kill())
    with pytest.raises(
        training.TrainingError,
        match=r"(?s)in 2 processes failed.*killed, most likely for want of memory: "
        r"lower trainer.micro_batch.*log ends",
    ):
        training.sft(STUDENT, table, **SETTINGS, trainer=TWO)
    assert not workers()
    assert training.sft(STUDENT, table, **SETTINGS, trainer=TWO) == spec
    assert record(spec)["resumed_from"].startswith("checkpoint-") and weights(spec) == expected
    assert not list((store.root() / "work").iterdir())


def test_no_worker_outlives_the_process_that_asked_for_the_training(tmp_path):
    corpus().to_parquet(tmp_path / "corpus.parquet")
    code = (
        f"import pandas as pd; from ded import training; from ded.options import Trainer; "
        f"corpus = pd.read_parquet({str(tmp_path / 'corpus.parquet')!r}); "
        f"training.sft({STUDENT!r}, corpus, **{SETTINGS | {'epochs': 10_000.0}!r}, "
        f"trainer=Trainer(processes=2, save_steps=20))"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    seen = []
    when_a_checkpoint_is_there(lambda: (seen.extend(workers()), owner.kill())).join(120)
    owner.wait(10)
    _, alive = psutil.wait_procs(seen, timeout=20)
    assert len(seen) == 2 and not alive


def test_a_named_configuration_is_read_and_processes_replace_its_count():
    assert launch.configuration(Trainer(accelerate="fsdp2_8gpu"))["num_processes"] == 8
    config = launch.configuration(Trainer(accelerate="fsdp2_8gpu", processes=4))
    assert (
        config["num_processes"] == 4
        and config["fsdp_config"]["fsdp_version"] == 2
        and config["main_process_port"] == 0
    )
    assert launch.configuration(Trainer(processes=2)) == launch.configuration(
        Trainer(accelerate="ddp_2cpu")
    )
