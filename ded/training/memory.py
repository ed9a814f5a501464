"""What a training takes of a GPU's memory, and how its batches are best worked off in what is free.

The estimate counts what autograd keeps of a decoder of Llama's or Qwen's kind. It is within 7 % of
the peaks measured on one H100 with full fine-tuning of 1.5B parameters (docs/scaling.md, "Speed");
adapters, other sizes and several GPUs were not measured.
"""

import logging
import math
import os
from dataclasses import dataclass
from typing import Any

from ded import models
from ded.options import Trainer
from ded.size import parameters
from ded.training.job import Job, micro_batch

USED = 0.9  # of what is free; the rest is for what the estimate misses, and for gaps
# What a micro batch costs beyond its tokens, in tokens, and how much more a token costs under a
# mask (rows of unlike length): fitted to the rates measured there.
LAUNCH = 1300
MASKED = 1.4
TILE = 2**28  # bytes of the part of the logits that TRL has at a time on a GPU
WIDE = {"float32": 4, "bfloat16": 2}  # bytes of a number in the passes
log = logging.getLogger("ded")


@dataclass(frozen=True)
class Layout:
    """How a process works off its share of an optimizer step, and what memory that takes."""

    micro_batch: int
    recomputed: bool  # activations are computed again in the backward pass
    gib: float = 0.0  # estimated
    free_gib: float = 0.0  # 0: there is no GPU


def free_bytes(world: int) -> int:
    """What may be taken of a GPU, the least of all processes'; 0 where there is none."""
    import torch

    if world == 1 or not torch.cuda.is_available():
        return models.free_on_gpu()
    from accelerate import PartialState
    from accelerate.utils import gather_object

    PartialState()  # gives each process a GPU of its own
    return min(gather_object([models.free_on_gpu()]))


def layout(job: Job, world: int) -> Layout:
    """What `trainer` says; what it leaves open is chosen on a GPU, in its log.

    Activations are kept where that fits at all, and of the micro batches that fit the one of least
    `cost` is taken.
    """
    trainer, micro, free = job.trainer, micro_batch(job, world), free_bytes(world)
    if not free:
        return Layout(micro, trainer.gradient_checkpointing is True)
    share, auto = job.settings.batch_size // world, trainer.gradient_checkpointing == "auto"
    micros = [n for n in range(1, share + 1) if share % n == 0]
    layouts = [
        Layout(n, again, round(needed(job, n, again, world) / 2**30, 1), round(free / 2**30, 1))
        for again in ([True, False] if auto else [bool(trainer.gradient_checkpointing)])
        for n in ([micro] if trainer.micro_batch else micros)
    ]
    fitting = [each for each in layouts if each.gib <= USED * each.free_gib]
    lengths = [len(example["input_ids"]) for example in job.examples]
    packed, batch = trainer.packing, job.settings.batch_size

    def rank(each: Layout) -> tuple[bool, float]:
        return each.recomputed, cost(lengths, batch, each.micro_batch, packed)

    chosen = min(fitting or layouts[:1], key=rank)
    kept = "computed again" if chosen.recomputed else "kept"
    batches = f"{chosen.micro_batch} example(s) of up to {max(lengths)} tokens at a time"
    memory = f"about {chosen.gib} GiB of {chosen.free_gib} free"
    level = logging.INFO if fitting else logging.WARNING
    log.log(level, "%s, activations %s: %s", batches, kept, memory)
    return chosen


def needed(job: Job, micro: int, recomputed: bool, world: int = 1) -> float:
    """Bytes that the training takes at most, with micro batches of so many examples."""
    config, size = models.config(job.student), parameters(job.student) or math.inf
    lengths = sorted((len(example["input_ids"]) for example in job.examples), reverse=True)
    n_tokens = sum(lengths[:micro]) if job.trainer.packing else micro * lengths[0]
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    states = state_bytes(config, size, job.trainer) / (world if sharded else 1)
    return states + activation_bytes(config, job.trainer, n_tokens, recomputed)


def state_bytes(config: Any, size: float, trainer: Trainer) -> float:
    """Of the weights, and of what is trained also gradients, two moments (float32) and, where
    autocast computes in bfloat16, its copies. size: parameters."""
    each = 16 + 2 * (trainer.dtype == "bfloat16")
    if not trainer.lora_rank:
        return each * size
    hidden, queries, keys, inner = widths(config)
    linear = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner)  # in and out
    adapters = trainer.lora_rank * linear * config.num_hidden_layers
    return WIDE[trainer.dtype] * size + each * adapters


def activation_bytes(config: Any, trainer: Trainer, n_tokens: int, recomputed: bool) -> float:
    """Of a micro batch of so many tokens: of the layers, what their linear maps, norms (float32),
    attention and gated products keep, or their float32 inputs alone; and of the head, its gradient
    and a part of the logits."""
    hidden, queries, keys, inner = widths(config)
    norms, gated = (8, 3) if trainer.liger else (16, 4)  # Liger's keep less
    layer = (norms + 10) * hidden + WIDE[trainer.dtype] * (2 * queries + 2 * keys + gated * inner)
    head = TILE + (0 if trainer.lora_rank else 4 * config.vocab_size * hidden)
    if not recomputed:
        return n_tokens * layer * config.num_hidden_layers + head
    return n_tokens * 4 * hidden * config.num_hidden_layers + max(head, n_tokens * layer)


def widths(config: Any) -> tuple[int, int, int, int]:
    """(of the residual stream, of all queries, of all keys, of the gated product) of a layer."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    width = getattr(config, "head_dim", None) or hidden // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    return hidden, heads * width, key_heads * width, inner


def cost(lengths: list[int], batch: int, micro: int, packed: bool) -> float:
    """What micro batches of so many examples cost, in tokens, padding, masks and starts included;
    `batch` examples go together and are laid out by length."""
    total = 0.0
    for start in range(0, len(lengths), batch):
        rows = sorted(lengths[start : start + batch])
        for part in (rows[i : i + micro] for i in range(0, len(rows), micro)):
            masked = not packed and part[0] < part[-1]
            n_tokens = sum(part) if packed else len(part) * part[-1]
            total += LAUNCH + n_tokens * (MASKED if masked else 1)
    return total
