"""What the notebooks will sample and train, counted from their parameters alone.

An upper bound: what is stored already costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ded import params, study
from ded.params import schemas
from ded.params.schemas import Parameters, Recipe
from ded.plan.sizes import size_of


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
    paths = [params.find_notebook(name) for name in only] or params.notebooks()
    return [(path.stem, params.checked(preset, path.stem)) for path in paths]


def workload(notebook: str, settings: Parameters) -> Iterator[Work]:
    """The work of one notebook with these parameters: of each base, then of each teacher."""
    for base in settings.students:
        if isinstance(settings, Recipe):
            yield from _smoke_tests(settings, base)
        yield from _arms(notebook, settings, base)
        if isinstance(settings, Recipe):
            yield _recipe_pools(settings)
    for teacher in study.teachers_of(settings):
        n_units = len(settings.students) * settings.n_replicates
        if isinstance(settings, Recipe):
            n_units = len(settings.students) * settings.n_select
        prompts = n_units * _asked_of_a_teacher(settings)
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
    n_id = settings.eval_id
    if isinstance(settings, schemas.TrajectoryDiversity):
        n_id *= 4  # the perturbed copies
    n_code = settings.eval_code if isinstance(settings, Recipe) and settings.code_source else 0
    return n_id + n_code + len(settings.ood_sources) * settings.eval_ood


def _rated(settings: Parameters) -> int:
    """Trajectories of the base for a unit's pass rates."""
    match settings:
        case schemas.OodTradeoff():
            return settings.pass_rate_questions * settings.pass_rate_samples
        case Recipe():
            return _parts(settings) * settings.pass_rate_questions * settings.pass_rate_samples
        case schemas.Valley(difficulty="pass_rate"):
            return settings.n_questions * settings.pass_rate_samples
    return 0


def _asked_of_a_teacher(settings: Parameters) -> int:
    """Trajectories of one teacher for one unit; in notebook 04 for its choice alone."""
    match settings:
        case schemas.TeacherSelection():
            own_score = settings.eval_id * settings.samples
            return settings.n_questions * settings.n_attempts + own_score
        case schemas.TrajectoryDiversity():
            return settings.n_questions * settings.n_trajectories
        case schemas.Valley():
            return settings.n_questions * settings.n_attempts
        case Recipe():
            return settings.smoke_questions + settings.eval_id * settings.samples
    return settings.n_questions


# ---- notebook 04: the choice of a teacher, then DED and its arms -------------------------------


def _parts(settings: Recipe) -> int:
    """Math, and code where there is a source of it."""
    return 2 if settings.code_source else 1


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
    parts = _parts(settings)
    diverse = settings.n_trajectories * settings.corpus_size * (parts + 2)
    pool = settings.n_questions + (parts - 1) * settings.n_code_questions + diverse
    largest = max(settings.teachers, key=lambda spec: size_of(spec, active=True))
    n = settings.n_replicates
    return Work("teachers' trajectories", largest, prompts=n * pool, loads=2 * n)
