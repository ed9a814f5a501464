"""Supervised fine-tuning (SFT) of a student on a corpus of trajectories, by TRL's `SFTTrainer`
(paper section "SFT").

The prompt is rendered with the student's own chat template, the completion is the trajectory's text
as it is, then the end token; the loss is on the completion only. Nothing is cut unless
`trainer.allow_truncation` says so. Small students are trained in this process, large ones by
several (`ded.training.processes`); how many, and how a batch is divided, changes rounding only.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ded import models, spent, store
from ded.errors import TrainingError
from ded.options import Trainer
from ded.training.job import (
    Job,
    Settings,
    build_examples,
    hold_out,
    length_histogram,
    optimizer_steps,
    show_example,
    trained_texts,
)
from ded.training.processes import configuration, launch
from ded.training.trainer import check_packages, fit

VERSION = 2
# of `trainer`: what decides not speed alone
IDENTITY = {"dtype", "lora_rank", "lora_alpha", "allow_truncation", "validation_share"}


@spent.on("train")
def sft(
    student: str, corpus: pd.DataFrame, *, trainer: Trainer = Trainer(), **settings: Any
) -> str:
    """Distils: trains `student` on `corpus` (columns prompt and text) and returns the spec of the
    trained model, "store:<key>".

    settings: the fields of `Settings`, of which learning_rate and batch_size are required. AdamW,
    cosine schedule after the warm-up, no weight decay. The same inputs give the same weights on the
    same machine. With `trainer.save_steps` a training that was killed goes on from its last whole
    checkpoint. With `trainer.validation_share` it takes as many steps as the whole corpus would.
    """
    if corpus.empty:
        raise TrainingError("the corpus is empty: no trajectory was correct and passed the filters")
    decisive = Settings(**settings)
    inputs = asdict(decisive)
    if identity := trainer.model_dump(include=IDENTITY):
        inputs["trainer"] = identity
    texts = corpus[["prompt", "text"]].to_numpy().tolist()
    fingerprint = models.fingerprint(student)
    key = store.key("training", VERSION, student=fingerprint, corpus=texts, **inputs)

    def train(folder: Path) -> None:
        examples = build_examples(student, corpus, decisive.max_length, trainer.allow_truncation)
        work = (store.root() / "work" / key).resolve()  # of checkpoints and logs, until all is done
        work.mkdir(parents=True, exist_ok=True)
        prompts, share = corpus["prompt"].tolist(), trainer.validation_share
        kept, held = hold_out(examples, prompts, share, decisive.seed)
        job = Job(student, kept, folder.resolve(), decisive, trainer, work, held_out=held)
        resumed = any(work.glob("checkpoint-*"))
        n_gpus = configuration(trainer).get("num_processes", 1)
        with spent.work("train", student, n_gpus) as done:
            if trainer.processes == 1 and not trainer.accelerate:
                fit(job)
            else:
                launch(job)
            if not resumed:  # else only a part of it was done now
                done |= job.tokens()
        shutil.rmtree(work, ignore_errors=True)

    store.directory(key, train)
    spent.trained_from[f"store:{key}"] = spent.trained_from.get(student, student)
    return f"store:{key}"
