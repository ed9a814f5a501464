"""A unit: one student base and one full rerun of all its arms, with questions drawn for that unit
alone.

Its arms share the questions, so that they differ in their corpora only. Everything a unit gives
follows from its three fields: a job in another process, or after an interruption, gets the same,
and finds in the store what was made before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ded import problems
from ded.errors import SourceError
from ded.params.schemas import Common, Recipe
from ded.problems import Problem, contamination, files

if TYPE_CHECKING:
    import pandas as pd

Params = TypeVar("Params", bound=Common, covariant=True)


@dataclass(frozen=True)
class Unit(Generic[Params]):
    """One student base, one replicate, and the checked parameters of the notebook that they belong
    to.
    """

    params: Params = field(repr=False)
    base: str  # model spec of the student before distillation
    replicate: int
    _training: dict[str, tuple] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple:
        return Unit, (self.params, self.base, self.replicate)  # what was drawn is drawn again

    @property
    def seed(self) -> int:
        """Of all sampling and training in this unit."""
        return self.params.seed * 1000 + self.replicate

    @property
    def row(self) -> dict[str, Any]:
        """The columns that name the unit in every table."""
        return {"base": short(self.base), "replicate": self.replicate}

    def sampling(self, temperature: float | None = None) -> dict[str, Any]:
        """The arguments of `generation.sample` that the parameters fix; temperature: the teachers'
        unless given.
        """
        params = self.params
        return {
            "max_tokens": params.max_tokens,
            "temperature": params.temperature if temperature is None else temperature,
            "top_p": params.top_p,
            "seed": self.seed,
            "engine": params.engine,
        }

    def training(self) -> dict[str, Any]:
        """The arguments of `training.sft` that the parameters fix."""
        params = self.params
        return {
            "learning_rate": params.learning_rate,
            "batch_size": params.batch_size,
            "epochs": params.epochs,
            "max_length": params.max_length,
            "seed": self.seed,
            "trainer": params.trainer,
        }

    def questions(self, source: str = "") -> list[Problem]:
        """The training questions (train split), without those that stand in the evaluation; "":
        params.corpus_source.
        """
        return self._decontaminated(source)[1]

    def overlaps(self, source: str = "") -> pd.DataFrame | None:
        """Training questions that stand in the evaluation: train_id, eval_id, share of n-grams
        (docs/sources.md).

        None where nothing is compared: sources that make their questions keep their splits apart by
        content.
        """
        return self._decontaminated(source)[0]

    def suite(self, perturbations: Iterable[str] = ()) -> dict[str, list[Problem]]:
        """The evaluation questions (params.split): "ID", its perturbed copies, "ID code" in
        notebook 04, each OOD family.
        """
        asked = self._evaluation["ID"]
        perturbed = {name: [problems.perturb(q, name) for q in asked] for name in perturbations}
        return {"ID": asked} | perturbed | self._evaluation

    @cached_property
    def _sources(self) -> dict[str, str]:
        """{family of the suite: where its questions come from}."""
        sources = {"ID": self.params.id_source}
        if isinstance(self.params, Recipe) and self.params.code_id_source:
            sources["ID code"] = self.params.code_id_source
        for source in self.params.ood_sources:
            family = problems.source(source).family
            if family in sources:
                fault = f"ood_sources: {source!r} is the second family {family!r} of the suite"
                raise SourceError(f"{fault}; name each once")
            sources[family] = source
        return sources

    @cached_property
    def _evaluation(self) -> dict[str, list[Problem]]:
        params, seed = self.params, self._draw_seed("evaluation")
        counts = {"ID": params.eval_id, "ID code": getattr(params, "eval_code", 0)}
        return {
            family: problems.load(source, counts.get(family, params.eval_ood), params.split, seed)
            for family, source in self._sources.items()
        }

    def _decontaminated(self, source: str) -> tuple[pd.DataFrame | None, list[Problem]]:
        """(overlaps, the questions left) of one training source, drawn once."""
        params, source = self.params, source or self.params.corpus_source
        if source in self._training:
            return self._training[source]
        n = params.n_questions
        if isinstance(params, Recipe) and source == params.code_source:
            n = params.n_code_questions
        questions, overlaps = problems.load(source, n, "train", self._draw_seed("corpus")), None
        compared = [
            question
            for family, other in self._sources.items()
            if not (problems.source(source).procedural and problems.source(other).procedural)
            for question in self._evaluation[family]
        ]
        if compared:
            limits = params.contamination_ngram, params.contamination_threshold
            overlaps, questions = contamination.contaminated(questions, compared, *limits)
        self._training[source] = overlaps, questions
        return overlaps, questions

    def _draw_seed(self, purpose: str) -> str:
        return f"{self.params.seed} {purpose} {self.base} {self.replicate}"


def units(params: Common, select: bool = False) -> list[Unit]:
    """One for each student and replicate; `select`: those on which notebook 04 chooses, which come
    before its own.
    """
    n_select = getattr(params, "n_select", 0)
    last = n_select + params.n_replicates
    replicates = range(n_select) if select else range(n_select, last)
    return [Unit(params, base, replicate) for base in params.students for replicate in replicates]


def calls(units: Iterable[Unit], **axes: Iterable) -> list[dict[str, Any]]:
    """The arguments of one job for each unit and combination of `axes`: calls(units,
    teacher=params.teachers).
    """
    jobs = [{"unit": unit} for unit in units]
    for name, values in axes.items():
        jobs = [job | {name: value} for job in jobs for value in values]
    return jobs


def teachers_of(params: Common) -> list[str]:
    """The model specs of a notebook's teachers, whether it takes one or several."""
    specs = getattr(params, "teachers", None) or getattr(params, "teacher", [])
    return [specs] if isinstance(specs, str) else list(specs)


def short(model: str) -> str:
    """A model's name in tables and figures: its spec without the kind, a local path without its
    folders.

    Of recorded traces that a data set holds, it is the name of their column map.
    """
    kind, _, name = model.partition(":")
    place, _, column_map = name.partition("#")
    if kind == "recorded" and column_map and not place.lower().endswith(files.SUFFIXES):
        return column_map
    return name.rpartition("/")[2] if name.startswith(("/", "~", ".")) else name
