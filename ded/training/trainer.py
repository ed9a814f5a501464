"""Training in this process, alone or as one of those that `accelerate launch` started, by TRL."""

import gc
import json
import logging
import math
import os
import re
import shutil
import time
from dataclasses import asdict
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ded import models, progress, spent
from ded.errors import TrainingError, first_line
from ded.options import Trainer
from ded.training import attention
from ded.training.job import MEND, Job
from ded.training.loss import completion_trainer
from ded.training.memory import Layout, layout

WHOLE = "whole"  # a file in every checkpoint that was written to its end
NO_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")
log = logging.getLogger("ded")


def fit(job: Job) -> None:
    """Trains in this process, alone or as one of several; the first one writes `job.folder`.

    TrainingError where the settings do not fit the machine, the memory does not suffice, or the
    loss is no number.
    """
    with spent.on("import"):
        import torch
        from transformers import set_seed

    world = int(os.environ.get("WORLD_SIZE", 1))
    _check_devices(job, world)
    chosen = layout(job, world)
    arguments = _arguments(job, world, chosen)
    set_seed(job.settings.seed)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        _freeze_imports()
    mark = max(job.work.glob(f"checkpoint-*/{WHOLE}"), key=os.path.getmtime, default=None)
    try:
        trainer = _trainer(job, arguments, world, chosen)
        start = time.perf_counter()
        trainer.train(resume_from_checkpoint=mark and str(mark.parent))
        seconds = time.perf_counter() - start
        losses = {"loss": _losses(trainer, job)}
        if job.held_out:
            losses["validation_loss"] = _logged(trainer, "eval_loss")
        net = _trained(trainer, job)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
            raise
        longest = max(len(example["input_ids"]) for example in job.examples)
        batch = f"{arguments.per_device_train_batch_size} example(s) of up to {longest} tokens"
        raise TrainingError(f"out of memory with {batch}: {MEND} ({first_line(error)})") from error
    if not trainer.is_world_process_zero():
        return
    net.to(getattr(torch, job.trainer.dtype)).save_pretrained(job.folder)
    models.load_tokenizer(job.student).save_pretrained(job.folder)
    speed = trainer._total_train_tokens / seconds  # both since this process began
    record = _record(job) | {
        "processes": world,
        "steps": arguments.max_steps,
        **losses,
        "resumed_from": mark and mark.parent.name,
        "seconds": round(seconds, 2),
        **({"layout": asdict(chosen)} if chosen.free_gib else {}),
        "tokens_per_s": round(speed, 1),
    }
    (job.folder / "training.json").write_text(json.dumps(record))
    log.info("trained %s: %d steps, %.0f tokens/s", job.student, arguments.max_steps, speed)


def _check_devices(job: Job, world: int) -> None:
    import torch

    n_gpus = torch.cuda.device_count()
    if world == 1 and n_gpus > 1:
        mend = "set trainer.processes, or CUDA_VISIBLE_DEVICES to one of them"
        raise TrainingError(f"{n_gpus} GPUs are visible to one process: {mend}")
    check_packages(job.trainer)


def check_packages(trainer: Trainer) -> None:
    """TrainingError where what the settings need is not installed."""
    import torch

    if trainer.liger and not (torch.cuda.is_available() and find_spec("liger_kernel")):
        needs = "a GPU and the package liger-kernel (requirements/gpu.lock)"
        raise TrainingError(f"trainer.liger needs {needs}; without them set it to false")
    if trainer.packing and torch.cuda.is_available() and trainer.dtype == "float32":
        mend = "set trainer.dtype: bfloat16, or packing to false"
        raise TrainingError(f"trainer.packing needs bfloat16 on a GPU: {mend}")
    reporter = trainer.report_to
    if reporter != "none" and not find_spec(reporter):
        mend = f"pip install {reporter}, or set it to 'none'"
        raise TrainingError(f"trainer.report_to needs the package {reporter}: {mend}")


def _arguments(job: Job, world: int, chosen: Layout) -> Any:
    """TRL's settings (an SFTConfig): our own batches and examples, nothing cut, nothing
    reported."""
    import torch

    with spent.on("import"):
        from trl import SFTConfig

    settings, trainer, gpu = job.settings, job.trainer, torch.cuda.is_available()
    micro, steps = chosen.micro_batch, job.steps
    often = max(1, steps // 20)
    if trainer.report_to == "tensorboard":  # beside the work folder, which goes
        logs = job.work.parents[1] / "logs" / job.work.name
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs)
    return SFTConfig(
        output_dir=str(job.work),
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // (micro * world),
        max_steps=steps,
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="cosine",
        weight_decay=0.0,
        max_length=None,
        seed=settings.seed,
        use_cpu=not gpu,
        ddp_backend=None if gpu or world == 1 else "gloo",
        bf16=trainer.dtype == "bfloat16",
        gradient_checkpointing=chosen.recomputed,
        padding_free=trainer.packing,
        train_sampling_strategy="sequential" if world > 1 or chosen.free_gib else "random",
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        save_strategy="steps" if trainer.save_steps else "no",
        save_steps=trainer.save_steps or steps,
        report_to=trainer.report_to,
        run_name=job.work.name,
        project="ded",
        disable_tqdm=True,
        logging_steps=often,
        eval_strategy="steps" if job.held_out else "no",
        eval_steps=often,
        eval_on_start=bool(job.held_out),
        per_device_eval_batch_size=1,
        prediction_loss_only=True,
        logging_nan_inf_filter=False,
    )


def _trainer(job: Job, arguments: Any, world: int, chosen: Layout) -> Any:
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import PrinterCallback
    from transformers.integrations.liger import apply_liger_kernel
    from transformers.utils.logging import disable_progress_bar
    from trl import SFTTrainer

    disable_progress_bar()
    dtype, lora, rank = "float32", None, job.trainer.lora_rank
    if rank:
        dtype, alpha = job.trainer.dtype, job.trainer.lora_alpha or 2 * rank
        lora = LoraConfig("CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules="all-linear")
    trainer_class = SFTTrainer if torch.cuda.is_available() else completion_trainer()
    net = _load(job, dtype)
    if job.trainer.packing and torch.cuda.is_available():
        net.set_attn_implementation(attention.register())
    if job.trainer.liger:  # of its kernels the layers'; TRL has a head of its own
        apply_liger_kernel(net, {"fused_linear_cross_entropy": False})
    trainer = trainer_class(
        model=net,
        args=arguments,
        train_dataset=_rows(job, arguments.max_steps, world, chosen.free_gib > 0),
        eval_dataset=datasets.Dataset.from_list(job.held_out) if job.held_out else None,
        peft_config=lora,
        processing_class=models.load_tokenizer(job.student),
        callbacks=[_checkpoints(), _steps(job.student)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _load(job: Job, dtype: str) -> Any:
    """The student for this training alone, unlike `models.load`, and not yet on a device; without
    the flags of its generation config that transformers ignores, and then refuses to save."""
    from transformers import AutoModelForCausalLM

    net = models.pretrained(AutoModelForCausalLM, job.student, dtype=dtype)
    try:
        net.generation_config.validate(strict=True)
    except ValueError as error:
        for flag in re.findall(r"^- `(\w+)`:", str(error), re.M):
            setattr(net.generation_config, flag, None)
    return net


def _rows(job: Job, steps: int, world: int, on_gpu: bool) -> Any:
    """The examples, from which one process draws its batches. For several to share out: those of
    all steps one after another, the batches that one process draws. On a GPU one process has these
    too, each batch by length, so that the rows of a micro batch need little padding.

    Where an epoch ends within a batch, empty examples (no token of theirs is learnt) fill it up, so
    that all processes have the same to do.
    """
    import datasets
    import torch

    if world == 1 and not on_gpu:
        return datasets.Dataset.from_list(job.examples)
    n, batch = len(job.examples), job.settings.batch_size
    empty = {"input_ids": job.examples[0]["input_ids"][:2], "labels": [-100] * 2}
    examples = [*job.examples, empty]
    order: list[int] = []
    for epoch in range(math.ceil(steps / math.ceil(n / batch))):
        rng = torch.Generator().manual_seed(job.settings.seed + epoch)
        # as accelerate draws them
        order += torch.randperm(n, generator=rng).tolist() + [n] * (-n % batch)
    if world == 1:
        lengths = [len(example["input_ids"]) for example in examples]
        parts = (order[start : start + batch] for start in range(0, len(order), batch))
        # longest first: what lacks memory does so at once
        order = [row for part in parts for row in sorted(part, key=lambda row: -lengths[row])]
    return datasets.Dataset.from_list(examples).select(order)


def _losses(trainer: Any, job: Job) -> list[dict[str, float]]:
    """[{step, loss}] as logged. TrainingError where one is no finite number."""
    entries = _logged(trainer, "loss")
    for entry in entries:
        if not math.isfinite(entry["loss"]):
            mend = f"lower the learning_rate ({job.settings.learning_rate}), or train in float32"
            raise TrainingError(f"the loss is no number from step {entry['step']} on: {mend}")
    return entries


def _logged(trainer: Any, name: str) -> list[dict[str, float]]:
    entries = [entry for entry in trainer.state.log_history if name in entry]
    return [{"step": entry["step"], "loss": entry[name]} for entry in entries]


def _record(job: Job) -> dict[str, Any]:
    """What training.json says of the request and its examples."""
    import torch

    eos, gpu = models.load_tokenizer(job.student).eos_token_id, torch.cuda.is_available()
    return asdict(job.settings) | {
        "trainer": job.trainer.model_dump(),
        "examples": len(job.examples),
        "corpus_tokens": sum(len(example["input_ids"]) for example in job.examples),
        "truncated": sum(example["labels"][-1] != eos for example in job.examples),
        # None: not measured
        "peak_gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3) if gpu else None,
    }


def _trained(trainer: Any, job: Job) -> Any:
    """The trained model as one ordinary model, on the first process: adapters merged, shards
    gathered. None on the others."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if not trainer.is_fsdp_enabled:
        net = trainer.accelerator.unwrap_model(trainer.model)
        return net.merge_and_unload() if job.trainer.lora_rank else net
    gathered = job.work / "gathered"
    trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(gathered))  # by all processes together
    if not trainer.is_world_process_zero():
        return None
    if job.trainer.lora_rank:
        return PeftModel.from_pretrained(_load(job, job.trainer.dtype), gathered).merge_and_unload()
    return AutoModelForCausalLM.from_pretrained(gathered)


def _steps(student: str) -> Any:
    """A callback that shows the steps and the loss, on the first process."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            about: dict[str, Any] = {"desc": f"training {student}", "unit": "step"}
            about |= {"initial": state.global_step, "disable": not state.is_world_process_zero}
            self.bar = progress.bar(total=state.max_steps, **about)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" in logs:
                self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

    return Steps()


def _checkpoints() -> Any:
    """A callback that marks each checkpoint once every process has written its part, and only then
    removes the one before."""
    from accelerate import PartialState
    from transformers import TrainerCallback

    class Checkpoints(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            PartialState().wait_for_everyone()
            if state.is_world_process_zero:
                newest = Path(args.output_dir, f"checkpoint-{state.global_step}")
                (newest / WHOLE).touch()
                for other in set(newest.parent.glob("checkpoint-*")) - {newest}:
                    shutil.rmtree(other, ignore_errors=True)

    return Checkpoints()


@lru_cache(maxsize=1)
def _freeze_imports() -> None:
    """accelerate collects garbage after every training; to look through what the imports made takes
    a fifth of a small one's time."""
    gc.collect()
    gc.freeze()
