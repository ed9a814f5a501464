"""What of a GPU's memory a training takes, and how it is laid out in what is free; on a CPU."""

import json
import logging
from pathlib import Path

import pytest

from ded import models, training
from ded.options import Trainer
from ded.training import memory
from ded.training.job import Job, Settings

GIB = 2**30
LARGE = {  # Qwen2.5-1.5B's shape
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
EVEN, MIXED = [4096] * 8, [512 * n for n in range(1, 9)]
KEPT, AGAIN = {"gradient_checkpointing": False}, {"gradient_checkpointing": True}
MEASURED = [  # on one H100, docs/scaling.md: peak GiB
    (EVEN, AGAIN | {"micro_batch": 1}, 26.6),
    (EVEN, KEPT | {"micro_batch": 1}, 39.7),
    (EVEN, KEPT | {"micro_batch": 2}, 52.5),
    (EVEN, AGAIN | {"micro_batch": 4}, 29.1),
    (EVEN, KEPT | {"micro_batch": 2, "liger": True}, 45.9),
    (EVEN, KEPT | {"micro_batch": 4, "liger": True}, 65.1),
    (MIXED, KEPT | {"micro_batch": 1}, 39.7),
    (MIXED, AGAIN | {"micro_batch": 4}, 29.3),
    (MIXED, AGAIN | {"micro_batch": 4, "packing": True}, 27.8),
    (MIXED, KEPT | {"micro_batch": 2, "liger": True}, 48.8),
    ([16_384] * 2, AGAIN | {"micro_batch": 1}, 29.1),
    ([16_384] * 2, KEPT | {"micro_batch": 1, "liger": True}, 65.1),
]


@pytest.fixture
def job(tmp_path):
    """Makes a training of a large model, of which there is the configuration alone."""
    from transformers import LlamaConfig

    LlamaConfig(**LARGE).save_pretrained(tmp_path)
    settings = Settings(learning_rate=1e-5, batch_size=8, max_length=16_384)

    def build(lengths, **trainer):
        examples = [{"input_ids": [1] * n, "labels": [1] * n} for n in lengths]
        how = Trainer(**({"dtype": "bfloat16"} | trainer))
        return Job(f"path:{tmp_path}", examples, tmp_path, settings, how, tmp_path)

    return build


@pytest.mark.parametrize("lengths, how, peak", MEASURED)
def test_the_estimate_is_near_what_was_measured(job, lengths, how, peak):
    again, micro = how["gradient_checkpointing"], how["micro_batch"]
    assert memory.needed(job(lengths, **how), micro, again) / GIB == pytest.approx(peak, rel=0.07)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("rank", [0, 8])
def test_a_token_takes_what_autograd_keeps_of_it(dtype, rank):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 96, "intermediate_size": 560, "num_hidden_layers": 3}
    config = LlamaConfig(**LARGE | shape | {"vocab_size": 64})
    net = LlamaForCausalLM(config)
    if rank:
        adapters = LoraConfig("CAUSAL_LM", r=rank, target_modules="all-linear")
        net = get_peft_model(net.to(getattr(torch, dtype)), adapters).get_base_model()
    weights = {weight.untyped_storage().data_ptr() for weight in net.parameters()}

    def kept(n_tokens):
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor  # alive, so none is used twice
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
        ):
            net.model(input_ids=torch.ones(1, n_tokens, dtype=torch.long), use_cache=False)
        sizes = {at: each.untyped_storage().nbytes() for at, each in storages.items()}
        return sum(size for at, size in sizes.items() if at not in weights)

    trainer = Trainer(dtype=dtype, lora_rank=rank)
    few, many = (memory.activation_bytes(config, trainer, n, False) for n in (200, 300))
    assert many - few == pytest.approx(kept(300) - kept(200), rel=0.1)


@pytest.mark.parametrize(
    "free, lengths, how, micro, recomputed",
    [
        (78, EVEN, {"liger": True}, 4, False),
        (78, EVEN, {}, 2, False),
        (78, EVEN, KEPT | {"micro_batch": 1}, 1, False),
        (48, EVEN, {"liger": True}, 1, False),
        (40, EVEN, {}, 8, True),
        (40, EVEN, KEPT, 1, False),  # does not fit: as it was told
        (200, MIXED, {"liger": True}, 1, False),  # nothing padded, nothing masked
        (200, [40 * n for n in range(1, 9)], {}, 8, False),  # short ones
        (200, MIXED, {"packing": True}, 8, False),
        (24, EVEN, {"lora_rank": 16, "liger": True}, 1, False),
        (20, EVEN, {}, 1, True),  # does not fit: the least
    ],
)
def test_activations_are_kept_before_micro_batches_grow(
    job, monkeypatch, free, lengths, how, micro, recomputed
):
    monkeypatch.setattr(models, "free_on_gpu", lambda: free * GIB)
    chosen = memory.layout(job(lengths, **how), world=1)
    assert (chosen.micro_batch, chosen.recomputed, chosen.free_gib) == (micro, recomputed, free)


def test_without_a_gpu_nothing_is_chosen(job):
    assert memory.layout(job(EVEN), world=1) == memory.Layout(8, False)
    assert memory.layout(job(EVEN, **AGAIN), world=2) == memory.Layout(4, True)


@pytest.mark.usefixtures("tiny")
def test_batches_by_length_teach_the_same_and_what_was_chosen_is_recorded(
    monkeypatch, tmp_path, caplog
):
    import pandas as pd
    from transformers import Qwen3ForCausalLM

    rows = [(f"{n} +1 =", f"<think> {'1 ' * 3 * n}</think> {n}") for n in range(1, 12)]
    table = pd.DataFrame(rows, columns=["prompt", "text"])
    settings = {"learning_rate": 1e-2, "batch_size": 4, "epochs": 4.0, "max_length": 128}

    def train(**how):
        spec = training.sft("lab:student_1", table, **settings, trainer=Trainer(**how))
        record = json.loads(Path(models.locate(spec), "training.json").read_text())
        return record, [entry["loss"] for entry in record["loss"]]

    plain, losses = train()
    assert "layout" not in plain
    monkeypatch.setenv("DED_STORE", str(tmp_path / "other"))
    monkeypatch.setattr(models, "free_on_gpu", lambda: GIB)
    shapes, forward = [], Qwen3ForCausalLM.forward

    def watched(self, input_ids, **more):
        shapes.append(tuple(input_ids.shape))
        return forward(self, input_ids, **more)

    monkeypatch.setattr(Qwen3ForCausalLM, "forward", watched)
    with caplog.at_level(logging.INFO, "ded"):
        by_length, others = train(micro_batch=2)
    assert others == pytest.approx(losses, rel=1e-4) and losses[-1] < 0.8 * losses[0]
    widths = [width for _, width in shapes]
    assert len(widths) == 22 and all(
        first >= second for first, second in zip(widths[::2], widths[1::2], strict=True)
    )
    assert by_length["layout"]["micro_batch"] == 2 and not by_length["layout"]["recomputed"]
    chosen = by_length["layout"]
    words = f"activations kept: about {chosen['gib']} GiB of 1.0 free"
    assert [words in line for line in caplog.messages].count(True) == 1
