"""Training in this process, alone or as one of those that `accelerate launch` started, by TRL's `SFTTrainer`."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import re
import shutil
import time
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ded import models
from ded.errors import TrainingError
from ded.options import Trainer

MEND = "lower trainer.micro_batch, set trainer.gradient_checkpointing, or share the model out with trainer.accelerate"
LARGE = (
    10**7
)  # parameters from which a forward pass costs more by what it computes than by being called
WHOLE = "whole"  # a file in every checkpoint that was written to its end
log = logging.getLogger("ded")


def share(batch: int, world: int, trainer: Trainer) -> int:
    """The examples of a batch that each of `world` processes takes at a time. TrainingError where they do not fill the batch."""
    micro = trainer.micro_batch or max(1, batch // world)
    if batch % (micro * world):
        raise TrainingError(
            f"batch_size={batch} is no multiple of {world} process(es) x trainer.micro_batch={micro}; change one of them"
        )
    return micro


def optimizer_steps(examples: int, epochs: float, batch_size: int) -> int:
    """How many optimizer steps `epochs` passes over so many examples are, at least one."""
    return max(1, round(examples * epochs / batch_size))


def in_order(examples: list[dict], steps: int, batch: int, seed: int):
    """The examples of all steps one after another, for several processes to share out: the batches that one process draws.

    Where an epoch ends within a batch, empty examples (no token of theirs is learnt) fill it up, so that all have the same to do.
    """
    import datasets
    import torch

    empty, order = examples[0] | {"labels": [-100] * len(examples[0]["labels"])}, []
    for epoch in range(math.ceil(steps / math.ceil(len(examples) / batch))):
        drawn = torch.randperm(
            len(examples), generator=torch.Generator().manual_seed(seed + epoch)
        )  # as accelerate draws them
        order += [*drawn.tolist(), *[len(examples)] * (-len(examples) % batch)]
    return datasets.Dataset.from_list([*examples, empty]).select(order)


@lru_cache(maxsize=1)
def _imports_are_no_garbage() -> None:
    """accelerate collects garbage after every training; to look through what the imports made takes a fifth of a small one's time."""
    gc.collect()
    gc.freeze()


def fit(
    student: str, examples: list[dict], folder: Path, settings: dict, trainer: Trainer, work: Path
) -> None:
    """Trains in this process, alone or as one of those that `accelerate launch` started; the first one writes `folder`."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, PrinterCallback, set_seed
    from transformers.utils.logging import disable_progress_bar
    from trl import SFTConfig, SFTTrainer

    gpu, world, batch = (
        torch.cuda.is_available(),
        int(os.environ.get("WORLD_SIZE", 1)),
        settings["batch_size"],
    )
    if world == 1 and torch.cuda.device_count() > 1:
        raise TrainingError(
            f"{torch.cuda.device_count()} GPUs are visible to one process: set trainer.processes, or CUDA_VISIBLE_DEVICES to one of them"
        )
    micro = share(batch, world, trainer)
    if trainer.liger and not (gpu and find_spec("liger_kernel")):
        raise TrainingError(
            "trainer.liger needs a GPU and the package liger-kernel (requirements/gpu.lock); without them set it to false"
        )
    datasets.disable_progress_bars(), disable_progress_bar()
    if not gpu:
        _imports_are_no_garbage()
    steps = settings["max_steps"] or optimizer_steps(len(examples), settings["epochs"], batch)
    rows = (
        datasets.Dataset.from_list(examples)
        if world == 1
        else in_order(examples, steps, batch, settings["seed"])
    )
    arguments = SFTConfig(
        output_dir=str(work),
        learning_rate=settings["learning_rate"],
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // (micro * world),
        max_steps=steps,
        warmup_steps=round(settings["warmup"] * steps),
        lr_scheduler_type="cosine",
        weight_decay=0.0,
        max_length=None,
        seed=settings["seed"],
        use_cpu=not gpu,
        ddp_backend=None if gpu or world == 1 else "gloo",
        bf16=trainer.dtype == "bfloat16",
        gradient_checkpointing=trainer.gradient_checkpointing,
        padding_free=trainer.packing,
        use_liger_kernel=trainer.liger,
        train_sampling_strategy="random" if world == 1 else "sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        save_strategy="steps" if trainer.save_steps else "no",
        save_steps=trainer.save_steps or steps,
        report_to="none",
        disable_tqdm=True,
        logging_steps=max(1, steps // 20),
        logging_nan_inf_filter=False,
    )

    def load(
        dtype: str,
    ):  # not models.load: what is trained is nobody else's, and each process moves it to a device of its own
        path, revision = models.locate(student), models.parse(student)[2]
        return AutoModelForCausalLM.from_pretrained(
            path, revision=revision, dtype=getattr(torch, dtype)
        )

    lora = None
    if trainer.lora_rank:
        from peft import LoraConfig

        lora = LoraConfig(
            r=trainer.lora_rank,
            lora_alpha=trainer.lora_alpha or 2 * trainer.lora_rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
    set_seed(settings["seed"])
    torch.cuda.reset_peak_memory_stats() if gpu else None
    with _enough_memory(
        f"{micro} example(s) of up to {max(len(e['input_ids']) for e in examples)} tokens a forward pass"
    ):
        sft_trainer = (SFTTrainer if gpu else _trainer_without_kernels())(
            model=load(trainer.dtype if trainer.lora_rank else "float32"),
            args=arguments,
            train_dataset=rows,
            peft_config=lora,
            processing_class=models.load_tokenizer(student),
            callbacks=[_checkpoints()],
        )
        sft_trainer.remove_callback(PrinterCallback)
        start = time.perf_counter()
        sft_trainer.train(resume_from_checkpoint=(resumed := _last_whole(work)))
        seconds = time.perf_counter() - start
        history = [
            {k: h[k] for k in ("step", "loss") if k in h}
            for h in sft_trainer.state.log_history
            if "loss" in h
        ]
        if bad := [h["step"] for h in history if not math.isfinite(h["loss"])]:
            raise TrainingError(
                f"the loss is no number from step {bad[0]} on: lower the learning_rate ({settings['learning_rate']}), or train in float32"
            )
        net = _trained(sft_trainer, load, trainer, work)
    if not sft_trainer.is_world_process_zero():
        return
    net.to(getattr(torch, trainer.dtype)).save_pretrained(folder)
    models.load_tokenizer(student).save_pretrained(folder)
    seen, eos = (
        sft_trainer._total_train_tokens,
        models.load_tokenizer(student).eos_token_id,
    )  # seen since this process began, as are the seconds
    (folder / "training.json").write_text(
        json.dumps(
            {
                **settings,
                "trainer": trainer.model_dump(),
                "processes": world,
                "steps": steps,
                "examples": len(examples),
                "corpus_tokens": sum(len(e["input_ids"]) for e in examples),
                "truncated": sum(e["labels"][-1] != eos for e in examples),
                "loss": history,
                "resumed_from": resumed and Path(resumed).name,
                "seconds": round(seconds, 2),
                "tokens_per_s": round(seen / seconds, 1),
                "peak_gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3)
                if gpu
                else None,  # None: not measured
            }
        )
    )
    log.info(
        "trained %s: %d steps on %d process(es), %.0f tokens/s, loss %.3f",
        student,
        steps,
        world,
        seen / seconds,
        history[-1]["loss"],
    )


def _trainer_without_kernels():
    """TRL's trainer with transformers' loss. TRL's own, fast where Triton is, elsewhere projects every position, prompts included, to the
    vocabulary, again in the backward pass, for an entropy and an accuracy that nothing here reads. Here those from the first learnt one do.
    Rows of a batch of a large model go by twos of like length, so that little is computed on padding; the loss is their sum, the same."""
    import torch
    from transformers import Trainer as Transformers
    from trl import SFTTrainer

    class CompletionTrainer(SFTTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            padded = "attention_mask" in inputs
            self._total_train_tokens += (
                int(inputs["attention_mask"].sum()) if padded else inputs["input_ids"].numel()
            )
            parts = [inputs]
            if (
                padded
                and num_items_in_batch is not None
                and self.args.world_size == 1
                and self.model.num_parameters() > LARGE
            ):
                lengths = inputs["attention_mask"].sum(1)
                parts = [
                    {k: v[rows, : lengths[rows].max()] for k, v in inputs.items()}
                    for rows in lengths.argsort(stable=True).split(2)
                ]
            return sum(self.loss_of(model, part, num_items_in_batch) for part in parts)

        def loss_of(self, model, inputs, num_items_in_batch):
            labels = torch.nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=-100)
            learnt = (labels != -100).any(0).nonzero()
            first = int(learnt[0]) if len(learnt) else labels.shape[1] - 1
            kept = {
                "labels": labels,
                "shift_labels": labels[:, first:].contiguous(),
                "logits_to_keep": labels.shape[1] - first,
                "use_cache": False,
            }
            return Transformers.compute_loss(
                self, model, {**inputs, **kept}, num_items_in_batch=num_items_in_batch
            )

    return CompletionTrainer


def _trained(sft_trainer, load, trainer: Trainer, work: Path):
    """The trained model as one ordinary model, on the first process: adapters merged, shards gathered. None on the others."""
    if not sft_trainer.is_fsdp_enabled:
        net = sft_trainer.accelerator.unwrap_model(sft_trainer.model)
        return net.merge_and_unload() if trainer.lora_rank else net
    sft_trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    sft_trainer.save_model(str(work / "gathered"))  # by all processes together
    if not sft_trainer.is_world_process_zero():
        return None
    if trainer.lora_rank:
        from peft import PeftModel

        return PeftModel.from_pretrained(load(trainer.dtype), work / "gathered").merge_and_unload()
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(work / "gathered")


def _checkpoints():
    """A callback that marks each checkpoint once every process has written its part, and only then removes the one before."""
    from accelerate import PartialState
    from transformers import TrainerCallback

    class Checkpoints(TrainerCallback):
        def on_save(self, args, state, control, **_):
            PartialState().wait_for_everyone()
            if state.is_world_process_zero:
                newest = Path(args.output_dir, f"checkpoint-{state.global_step}")
                (newest / WHOLE).touch()
                for other in set(newest.parent.glob("checkpoint-*")) - {newest}:
                    shutil.rmtree(other, ignore_errors=True)

    return Checkpoints()


def _last_whole(work: Path) -> str | None:
    found = sorted(
        work.glob(f"checkpoint-*/{WHOLE}"), key=lambda f: int(f.parent.name.partition("-")[2])
    )
    return str(found[-1].parent) if found else None


@contextmanager
def _enough_memory(what: str):
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search(
            "out of memory|can't allocate memory|not enough memory", str(error)
        ):
            raise
        raise TrainingError(
            f"out of memory with {what}: {MEND} ({str(error).splitlines()[0]})"
        ) from error
