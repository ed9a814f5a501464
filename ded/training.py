"""Supervised fine-tuning (SFT) of a student on a corpus of trajectories, by TRL's `SFTTrainer` (paper section "SFT").

The prompt is rendered with the student's own chat template, the completion is the trajectory's text as it is, then the end
token; the loss is on the completion only. Nothing is ever cut: a sequence over `max_length` is an error.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ded import models, store

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
log = logging.getLogger("ded")


class TrainingError(ValueError):
    """A corpus that cannot be trained on as it is; the message names the row and the mend."""


def build_examples(student: str, corpus: pd.DataFrame, max_length: int) -> list[dict]:
    """[{input_ids, labels}] for the corpus rows (columns prompt and text); labels are -100 on the prompt.

    Raises TrainingError if a think block is lost in tokenisation or a sequence is longer than `max_length` tokens.
    """
    tok = models.load_tokenizer(student)
    examples = []
    for i, (prompt, text) in enumerate(zip(corpus["prompt"], corpus["text"])):
        before = tok(models.render(student, prompt), add_special_tokens=False)["input_ids"]
        after = tok(text, add_special_tokens=False)["input_ids"] + [tok.eos_token_id]
        if tok.decode(after).count("<think>") != text.count("<think>"):
            raise TrainingError(f"row {i}: <think> does not survive the tokenizer of {student!r}; add it to the vocabulary")
        if len(before) + len(after) > max_length:
            raise TrainingError(f"row {i}: {len(before) + len(after)} tokens, over max_length={max_length}; drop it or raise max_length")
        examples.append({"input_ids": before + after, "labels": [-100] * len(before) + after})
    return examples


def sft(
    student: str,
    corpus: pd.DataFrame,
    *,
    learning_rate: float,
    batch_size: int,
    epochs: float = 1.0,
    max_steps: int = 0,
    warmup: float = 0.1,
    max_length: int = 512,
    seed: int = 0,
) -> str:
    """Distils: trains `student` on `corpus` and returns the spec of the trained model, "store:<key>".

    Full-parameter AdamW, cosine schedule after `warmup` (a share of the steps), no weight decay. `max_steps` above 0 replaces
    `epochs`, for comparisons at equal steps. The same inputs give the same weights on the same machine.
    """
    if not len(corpus):
        raise TrainingError("the corpus is empty: the filters dropped everything, or no trajectory was correct")
    texts = [[p, t] for p, t in zip(corpus["prompt"], corpus["text"])]
    settings = {
        "learning_rate": float(learning_rate), "batch_size": batch_size, "epochs": float(epochs), "max_steps": max_steps,
        "warmup": float(warmup), "max_length": max_length, "seed": seed,
    }  # fmt: skip
    key = store.key("training", VERSION, student=models.fingerprint(student), corpus=texts, **settings)
    store.directory(key, lambda folder: _train(student, corpus, folder, settings))
    return f"store:{key}"


def _train(student: str, corpus: pd.DataFrame, folder: Path, settings: dict) -> None:
    import copy
    import json
    import tempfile

    import datasets
    import torch
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    set_seed(settings["seed"])
    examples = build_examples(student, corpus, settings["max_length"])
    steps = settings["max_steps"] or max(1, round(len(examples) * settings["epochs"] / settings["batch_size"]))
    gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            output_dir=scratch, learning_rate=settings["learning_rate"], per_device_train_batch_size=settings["batch_size"],
            max_steps=steps, warmup_steps=round(settings["warmup"] * steps), lr_scheduler_type="cosine", weight_decay=0.0,
            max_length=None, seed=settings["seed"], use_cpu=not gpu, bf16=False, gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True}, dataloader_pin_memory=False, save_strategy="no", report_to="none",
            disable_tqdm=True, logging_steps=max(1, steps // 20),
        )  # fmt: skip
        trainer = SFTTrainer(
            model=copy.deepcopy(models.load(student)), args=arguments, train_dataset=datasets.Dataset.from_list(examples),
            processing_class=models.load_tokenizer(student),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    trainer.model.save_pretrained(folder)
    models.load_tokenizer(student).save_pretrained(folder)
    history = [{k: h[k] for k in ("step", "loss") if k in h} for h in trainer.state.log_history if "loss" in h]
    tokens = sum(len(e["input_ids"]) for e in examples)
    (folder / "training.json").write_text(json.dumps({
        **settings, "steps": steps, "examples": len(examples), "corpus_tokens": tokens, "loss": history,
    }))  # fmt: skip
