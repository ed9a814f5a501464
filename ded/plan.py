"""What a preset will cost, told before anything is run: the work that its parameters ask for, at
the rates of `ded.rates`.

It reads no model and samples nothing. An upper bound: what is stored already costs nothing.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ded import runner, study
from ded.errors import ParameterError
from ded.params import schemas
from ded.params.schemas import SCHEMAS, Parameters, Recipe
from ded.rates import Rates, device_of
from ded.size import parameters as size_of

STORED = 12  # bytes a sampled token in the store: its text and its id, compressed
NO_CHANGES: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Work:
    """One kind of work of a notebook: sampling (tokens out of `model`) or training (through it)."""

    kind: str
    model: str
    prompts: int = 0  # trajectories sampled
    examples: int = 0  # training examples times epochs
    loads: int = 1  # how many times the model is loaded for it; of training as many stay stored


def planned(
    preset: str, only: Iterable[str], changes: Mapping[str, Any] = NO_CHANGES
) -> list[tuple[str, Parameters]]:
    """(notebook, checked parameters) of the notebooks named, or of all."""
    runs = runner.planned(preset, only, changes)
    return [(run.name, SCHEMAS[run.name].model_validate(run.values)) for run in runs]


def estimate(
    preset: str, only: Iterable[str] = (), changes: Mapping[str, Any] = NO_CHANGES, card: str = ""
) -> pd.DataFrame:
    """A row a notebook and kind of work: the source of its rate, jobs, prompts, tokens in millions,
    hours of the device, disk.

    device: "cpu" (hours of one core) where the models are small enough, else "gpu" (hours of one
    GPU, or of a `card` of params/throughput.yml); "none" where trajectories are recorded or come
    from an endpoint, "?" (and NaN) where nothing tells how large a model is.
    """
    runs, rates, rows = planned(preset, only, changes), Rates(card), []
    for notebook, settings in runs:
        for work in workload(notebook, settings):
            about = {"notebook": notebook, "work": work.kind, "model": work.model}
            rows.append(about | _cost(work, settings, rates))
    keys = ["notebook", "work", "model", "device", "rate"]
    table = pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).sum(min_count=1)
    return table[[*table.columns.drop("rate"), "rate"]]


def schedule(
    preset: str,
    only: Iterable[str] = (),
    changes: Mapping[str, Any] = NO_CHANGES,
    nodes: int = 1,
    gpus: int = 8,
    card: str = "",
) -> pd.DataFrame:
    """How long the estimated GPU-hours take on a cluster: a row a notebook, and one for all of them
    one after the other. hours: wall time; held: the share of the GPUs' time that jobs hold them.

    Simulated: one kind of work of a notebook after the other, its jobs, taken to be alike, in as
    many rounds as there are places for them; a job is as much faster as it has GPUs. ParameterError
    where a node has too few for a job.
    """
    each = {notebook: gpus_a_job(settings) for notebook, settings in planned(preset, only, changes)}
    for notebook, n in each.items():
        if n > gpus:
            raise ParameterError(f"{notebook}: a job takes {n} GPUs, and a node has {gpus}")
    table = estimate(preset, only, changes, card)
    table = table[(table["device"] == "gpu") & (table["jobs"] > 0)]
    work = table.groupby(["notebook", "work"], sort=False, as_index=False)[["jobs", "hours"]].sum()
    of_job = work["notebook"].map(each)
    rounds = (work["jobs"] / (nodes * (gpus // of_job))).map(math.ceil)
    work["gpu_hours"] = work["hours"]
    work["hours"] = rounds * work["hours"] / work["jobs"] / of_job
    columns = ["jobs", "gpu_hours", "hours"]
    table = work.groupby("notebook", sort=False)[columns].sum().reset_index()
    table.loc[len(table)] = ["all", *table[columns].sum()]
    return table.assign(held=table["gpu_hours"] / (table["hours"] * nodes * gpus))


def gpus_a_job(settings: Parameters) -> int:
    """GPUs that a job whose models are too large for a CPU works on."""
    engine = settings.engine
    return max(engine.tensor_parallel * engine.data_parallel, settings.trainer.processes)


def totals(table: pd.DataFrame, card: str = "") -> list[str]:
    """What `estimate` comes to: hours of a core and of a GPU (a `card`), what is not in them, and
    the disk."""
    texts, hours = [], table.groupby("device")["hours"].sum()
    for device, unit in {"cpu": "core", "gpu": card or "GPU"}.items():
        if device in hours:
            n = hours[device]
            time = f"{n:.2f} hours" if n >= 0.1 else f"{short(60 * n)} minutes"
            texts.append(f"{time} of one {unit}")
    if unknown := list(table.loc[table["device"] == "?", "model"].unique()):
        texts.append(f"not counted, for nothing tells their size: {', '.join(unknown)}")
    disk, at_least = table["disk_gib"], "at least " if table["disk_gib"].isna().any() else ""
    return [*texts, f"{at_least}{short(disk.sum())} GiB of disk"]


def short(number: float) -> str:
    """Three digits of a number, never zero."""
    return f"{float(f'{number:.3g}'):,g}"


def _cost(work: Work, settings: Parameters, rates: Rates) -> dict[str, Any]:
    device = device_of(work.model, settings, rates.assumed)
    kind = "train" if work.examples else "sample"
    n = work.examples or work.prompts
    rate = rates.of(kind, work.model, device, settings)
    tokens = n * rate.share * (settings.max_length if work.examples else settings.max_tokens)
    of_kind = {"sample": 0.0, "train": 0.0, kind: tokens}
    disk = of_kind["sample"] * STORED
    if work.examples:
        size = size_of(work.model) or math.nan
        disk += work.loads * size * rates.assumed["bytes_a_parameter"][settings.trainer.dtype]
    hours = (tokens / rate.speed + work.loads * rate.start) / 3600
    millions = {"sampled_m": of_kind["sample"] / 1e6, "trained_m": of_kind["train"] / 1e6}
    about = {"device": device, "rate": rate.source, "jobs": work.loads, "prompts": work.prompts}
    return about | millions | {"hours": hours, "disk_gib": disk / 2**30}


# ---- what the notebooks will sample and train, counted from their parameters alone --------------


def workload(notebook: str, settings: Parameters) -> Iterator[Work]:
    """The work of one notebook with these parameters: of each base, then of each teacher."""
    # in notebook 04 teachers are asked for their choice alone
    n_each = _selecting(settings) if isinstance(settings, Recipe) else settings.n_replicates
    for base in settings.students:
        if isinstance(settings, Recipe):
            yield from _smoke_tests(settings, base)
        yield from _arms(notebook, settings, base)
        if isinstance(settings, Recipe):
            yield _recipe_pools(settings)
    n_units = len(settings.students) * n_each
    for teacher in study.teachers_of(settings):
        prompts = n_units * _asked_of_a_teacher(settings, teacher)
        yield Work("teachers' trajectories", teacher, prompts=prompts, loads=n_units)


def _arms(notebook: str, settings: Parameters, base: str) -> Iterator[Work]:
    """The arms of all replicates of a base, and the base before them."""
    arms, n = study.arms(settings), settings.n_replicates
    examples = round(sum(arms.values()) * settings.epochs * n)
    students, scored = n * len(arms), n * (len(arms) + 1)
    yield Work("students trained", base, examples=examples, loads=students)
    prompts = scored * _suite_size(settings) * settings.samples
    yield Work("students scored", base, prompts=prompts, loads=scored)
    if rates := n * _rated(settings):
        yield Work("pass rates", base, prompts=rates, loads=n)


def _suite_size(settings: Parameters) -> int:
    """Evaluation questions of a unit, with the perturbed copies of notebook 03."""
    copies = settings.eval_id * len(getattr(settings, "perturbations", ()))
    return copies + sum(asked.n for asked in study.evaluation_questions(settings).values())


def _rated(settings: Parameters) -> int:
    """Trajectories of the base for a unit's pass rates."""
    if isinstance(settings, schemas.OodTradeoff | Recipe):
        n_parts = len(study.training_questions(settings))  # math, and code where there is any
        return n_parts * settings.pass_rate_questions * settings.pass_rate_samples
    if isinstance(settings, schemas.Valley) and settings.difficulty == "pass_rate":
        return settings.n_questions * settings.pass_rate_samples
    return 0


def _asked_of_a_teacher(settings: Parameters, teacher: str) -> int:
    """Trajectories of one teacher for one unit; in notebook 04 for its choice alone."""
    if isinstance(settings, Recipe):
        return settings.smoke_questions + settings.smoke_eval * settings.samples
    scored = isinstance(settings, schemas.TeacherSelection)
    own_score = scored and study.short(teacher) in study.arms(settings)
    n_own = settings.eval_id * settings.samples * own_score
    return settings.n_questions * study.attempts(settings) + n_own


# ---- notebook 04: the choice of a teacher, then DED and its arms -------------------------------


def _selecting(settings: Recipe) -> int:
    """Replicates of a base on which its teacher is chosen."""
    return 0 if settings.chosen else settings.n_select


def _smoke_tests(settings: Recipe, base: str) -> Iterator[Work]:
    n_tests = _selecting(settings) * len(settings.teachers)
    examples = round(settings.epochs * n_tests * settings.smoke_size)
    yield Work("students trained", base, examples=examples, loads=n_tests)
    prompts = (n_tests + _selecting(settings)) * settings.smoke_eval * settings.samples
    yield Work("students scored", base, prompts=prompts, loads=n_tests)


def _recipe_pools(settings: Recipe) -> Work:
    """What the chosen teacher, the highest scorer and another one, all taken to be the largest,
    sample for the pools of a base; and the highest scorer for its own score.

    Counted as if no two trajectories differed, so that all are asked for.
    """
    parts, n = len(study.training_questions(settings)), settings.n_replicates
    diverse = settings.n_trajectories * settings.corpus_size * (parts + 2)
    one_each = sum(asked.n for asked in study.training_questions(settings))
    own = _suite_size(settings) * settings.samples
    pool = 3 * one_each + diverse + own
    largest = max(settings.teachers, key=lambda spec: size_of(spec, active=True) or 0)
    return Work("teachers' trajectories", largest, prompts=n * pool, loads=2 * n)
