"""Held-out examples and reporters: what they show, and that they change nothing else."""

import json
import random
from pathlib import Path

import pandas as pd
import pytest
import transformers
from transformers.integrations import integration_utils

from ded import analysis, models, problems, training
from ded.errors import TrainingError
from ded.options import Trainer
from ded.problems import lab as tasks
from ded.training import trainer as fitting
from ded.training.validation import hold_out

STUDENT = "lab:student_1"
SETTINGS = {"learning_rate": 5e-3, "batch_size": 4, "epochs": 3.0, "max_length": 128, "seed": 1}
HELD = Trainer(validation_share=0.25)
pytestmark = pytest.mark.usefixtures("tiny")


def corpus(n):
    """Two worked solutions of each of n questions."""
    asked, rng = problems.load("lab:sum/5-6", n, "train", "validation"), random.Random(0)
    rows = [(q.prompt, tasks.solution(q, style, rng)) for q in asked for style in ("left", "pairs")]
    return pd.DataFrame(rows, columns=["prompt", "text"])


def weights(spec):
    return (Path(models.locate(spec)) / "model.safetensors").read_bytes()


def record(spec):
    return json.loads((Path(models.locate(spec)) / "training.json").read_text())


def test_the_loss_on_whole_questions_is_logged_and_they_are_not_trained_on():
    table = corpus(8)
    rows = table.index.tolist()
    kept, held = hold_out(rows, table["prompt"].tolist(), 0.25, 1)
    assert len(held) == 4 and not set(table["prompt"][held]) & set(table["prompt"][kept])
    spec = training.sft(STUDENT, table, **SETTINGS, trainer=HELD)
    entries = record(spec)["validation_loss"]
    assert [entry["step"] for entry in entries] == list(range(13))  # 3 epochs of all 16 by 4
    before, after = (analysis.corpus_loss(model, table.loc[held]) for model in (STUDENT, spec))
    assert entries[0]["loss"] == pytest.approx(before, rel=1e-4)
    assert entries[-1]["loss"] == pytest.approx(after, rel=1e-4) and after < before
    alone = training.sft(STUDENT, table.loc[kept], **SETTINGS | {"max_steps": 12})
    assert weights(alone) == weights(spec) and "validation_loss" not in record(alone)
    shown = training.losses(spec)
    assert shown["step"].tolist() == list(range(13))
    assert shown["loss"].isna().tolist() == [True] + [False] * 12
    assert shown["validation_loss"].tolist() == [entry["loss"] for entry in entries]
    assert training.losses(alone)["validation_loss"].isna().all()


def test_what_is_held_out_is_drawn_by_the_seed_and_off_by_default():
    table, rows = corpus(8), list(range(16))
    prompts = table["prompt"].tolist()
    assert hold_out(rows, prompts, 0.0, 1) == (rows, [])
    assert hold_out(rows, prompts, 0.01, 1)[1] != hold_out(rows, prompts, 0.01, 5)[1]
    plain, *others = (
        training.sft(STUDENT, table.head(4), **SETTINGS | {"max_steps": 1}, trainer=way)
        for way in (Trainer(), Trainer(validation_share=0.0, report_to="none"), HELD)
    )
    assert others[0] == plain != others[1]


def test_nothing_to_train_on_is_an_error():
    for table, share in ((corpus(1), 0.1), (corpus(2), 0.9)):
        with pytest.raises(TrainingError, match=r"validation_share = .* leaves nothing of"):
            training.sft(STUDENT, table, **SETTINGS, trainer=Trainer(validation_share=share))


@pytest.mark.parametrize("name", ["trackio", "tensorboard", "wandb"])
def test_a_reporter_that_is_not_installed_is_an_error_with_the_mend(name, monkeypatch):
    monkeypatch.setattr(fitting, "find_spec", lambda package: None)
    words = f"report_to needs the package {name}: pip install {name}, or set it to 'none'"
    with pytest.raises(TrainingError, match=words):
        training.sft(STUDENT, corpus(2), **SETTINGS, trainer=Trainer(report_to=name))


def test_a_reporter_sees_both_losses_and_the_key_does_not_see_it(monkeypatch, tmp_path):
    shown = []

    class Reporter(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            shown.extend((args.run_name, args.project, name) for name in logs if "loss" in name)

    monkeypatch.setattr(fitting, "find_spec", lambda package: True)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Reporter)
    settings = SETTINGS | {"max_steps": 2}
    reported = Trainer(validation_share=0.25, report_to="trackio")
    spec = training.sft(STUDENT, corpus(4), **settings, trainer=reported)
    assert {(run, project) for run, project, _ in shown} == {(spec.removeprefix("store:"), "ded")}
    assert {name for *_, name in shown} >= {"loss", "eval_loss"}
    before = weights(spec)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "other"))
    assert training.sft(STUDENT, corpus(4), **settings, trainer=HELD) == spec
    assert weights(spec) == before


def test_tensorboard_files_outlive_the_training(tmp_path):
    pytest.importorskip("tensorboard")
    how = Trainer(report_to="tensorboard")
    spec = training.sft(STUDENT, corpus(2), **SETTINGS | {"max_steps": 2}, trainer=how)
    folder = tmp_path / "store" / "logs" / spec.removeprefix("store:")
    assert list(folder.glob("events.*"))
