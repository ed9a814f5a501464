"""SFT: what is learnt (the completion, whole), what fixes the weights, and that TRL alone would do the same."""

import json
import random
from pathlib import Path

import pandas as pd
import pytest

from ded import models, problems, store, training
from ded.lab import tasks

STUDENT = "lab:student_1"
SETTINGS = {"learning_rate": 2e-3, "batch_size": 4, "epochs": 1.0, "max_length": 128, "seed": 1}
pytestmark = pytest.mark.usefixtures("tiny")


def corpus(n, style="left", split="train"):
    """n worked solutions, as a table that curation might hand over."""
    asked, rng = problems.load("lab:sum/5-6", n, split, "training"), random.Random(0)
    return pd.DataFrame({"problem_id": [p.id for p in asked], "prompt": [p.prompt for p in asked], "text": [tasks.solution(p, style, rng) for p in asked]})


def weights(spec):
    return (Path(models.locate(spec)) / "model.safetensors").read_bytes()


def record(spec):
    return json.loads((Path(models.locate(spec)) / "training.json").read_text())


# ---- examples


def test_the_loss_is_on_the_completion_and_its_end_token():
    table = corpus(6)
    tok = models.load_tokenizer(STUDENT)
    examples = training.build_examples(STUDENT, table, 128)
    assert len(examples) == 6
    for example, row in zip(examples, table.itertuples()):
        ids, labels = example["input_ids"], example["labels"]
        n = labels.count(-100)
        assert labels == [-100] * n + ids[n:]
        assert tok.decode(ids[:n]) == f"<user> {row.prompt} <assistant>"
        assert tok.decode(ids[n:]) == f"{row.text} <eos>" and "<think>" in row.text


def test_a_sequence_that_is_too_long_is_an_error_not_cut():
    table = corpus(4)
    longest = max(len(e["input_ids"]) for e in training.build_examples(STUDENT, table, 128))
    training.build_examples(STUDENT, table, longest)
    row = [len(e["input_ids"]) for e in training.build_examples(STUDENT, table, 128)].index(longest)
    with pytest.raises(training.TrainingError, match=rf"row {row}: {longest} tokens, over max_length={longest - 1}"):
        training.build_examples(STUDENT, table, longest - 1)


def test_a_tokenizer_that_eats_the_think_tag_is_an_error(monkeypatch):
    real = models.load_tokenizer(STUDENT)

    class Eats:
        eos_token_id = real.eos_token_id
        apply_chat_template = real.apply_chat_template
        decode = real.decode

        def __call__(self, text, **options):
            return real(text.replace("<think>", "?"), **options)

    monkeypatch.setattr(models, "load_tokenizer", lambda spec: Eats())
    with pytest.raises(training.TrainingError, match="row 0: <think> does not survive"):
        training.build_examples(STUDENT, corpus(1), 128)


def test_an_empty_corpus_is_an_error():
    with pytest.raises(training.TrainingError, match="corpus is empty"):
        training.sft(STUDENT, corpus(3).head(0), **SETTINGS)


# ---- training


def test_training_teaches_and_leaves_the_base_alone():
    table = corpus(8)
    before = models.load(STUDENT).get_input_embeddings().weight.clone()
    made = record(training.sft(STUDENT, table, **SETTINGS | {"epochs": 12.0}))
    losses = [h["loss"] for h in made["loss"]]
    assert losses[-1] < 0.8 * losses[0]
    assert made["steps"] == 24 and made["examples"] == 8
    assert made["corpus_tokens"] == sum(len(e["input_ids"]) for e in training.build_examples(STUDENT, table, 128))
    assert (models.load(STUDENT).get_input_embeddings().weight == before).all()


def test_the_same_inputs_give_the_same_weights(monkeypatch, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = training.sft(STUDENT, corpus(12), **SETTINGS)
    first = weights(spec)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "another"))
    assert training.sft(STUDENT, corpus(12), **SETTINGS) == spec
    assert weights(spec) == first

    folder = models.locate(spec)  # an ordinary Hugging Face directory
    net = AutoModelForCausalLM.from_pretrained(folder)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert AutoTokenizer.from_pretrained(folder).chat_template == models.load_tokenizer(STUDENT).chat_template
    assert models.render(spec, "1 +2 =") == models.render(STUDENT, "1 +2 =")


def test_max_steps_replace_epochs():
    spec = training.sft(STUDENT, corpus(8), **SETTINGS | {"max_steps": 5, "epochs": 100.0})
    assert record(spec)["steps"] == 5 and record(spec)["loss"][-1]["step"] == 5


def test_the_key_holds_what_determines_the_weights_and_nothing_else(monkeypatch):
    monkeypatch.setattr(store, "directory", lambda key, fill: None)  # keys alone
    table = corpus(6)
    base = training.sft(STUDENT, table, **SETTINGS)
    same = [
        training.sft(STUDENT, table.assign(verdict="correct", n_tokens=3), **SETTINGS),
        training.sft(STUDENT, table.set_axis(range(10, 16)), **SETTINGS),
        training.sft(STUDENT, table, **SETTINGS | {"epochs": 1}),
    ]
    other = [
        training.sft(STUDENT, table[::-1], **SETTINGS),
        training.sft(STUDENT, table.head(5), **SETTINGS),
        training.sft(STUDENT, table.assign(text="<think> a </think> b"), **SETTINGS),
        training.sft("lab:ancestor", table, **SETTINGS),
        *(training.sft(STUDENT, table, **SETTINGS | change) for change in (
            {"learning_rate": 1e-3}, {"batch_size": 3}, {"epochs": 2.0}, {"max_steps": 7}, {"warmup": 0.2}, {"seed": 2}
        )),
    ]  # fmt: skip
    assert set(same) == {base} and base.startswith("store:")
    assert len({base, *other}) == len(other) + 1


def test_trl_alone_does_the_same(tmp_path):
    """The bare script: conversations in, TRL renders, masks and trains them with the same settings."""
    import copy

    import datasets
    from safetensors.torch import load_file
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    table = corpus(8)
    rows = [
        {"prompt": [{"role": "user", "content": p}], "completion": [{"role": "assistant", "content": t}]} for p, t in zip(table["prompt"], table["text"])
    ]
    arguments = SFTConfig(
        output_dir=str(tmp_path / "bare"), learning_rate=2e-3, per_device_train_batch_size=4, max_steps=4, warmup_steps=0, lr_scheduler_type="cosine",
        max_length=None, completion_only_loss=True, seed=1, use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", report_to="none",
        logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    bare = SFTTrainer(
        model=copy.deepcopy(models.load(STUDENT)).cpu(), args=arguments, train_dataset=datasets.Dataset.from_list(rows),
        processing_class=models.load_tokenizer(STUDENT),
    )  # fmt: skip
    bare.remove_callback(PrinterCallback)
    bare.train()
    ours = training.sft(STUDENT, table, **SETTINGS | {"max_steps": 4, "warmup": 0.0})
    losses = [h["loss"] for h in bare.state.log_history if "loss" in h]
    assert [h["loss"] for h in record(ours)["loss"]] == pytest.approx(losses, abs=1e-4)
    trained, mine = dict(bare.model.named_parameters()), load_file(Path(models.locate(ours)) / "model.safetensors")
    for name, value in mine.items():
        assert (trained[name] - value).abs().max() < 1e-4
