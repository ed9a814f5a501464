"""A unit: one student base and one full rerun of all its arms, with questions drawn for that unit
alone.

Its arms share the questions, so that they differ in their corpora only. Everything a unit gives
follows from its three fields: a job in another process, or after an interruption, gets the same,
and finds in the store what was made before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, Generic, NamedTuple, TypeVar

import pandas as pd

from ded import problems
from ded.errors import SourceError
from ded.models.spec import bare
from ded.options import Engine
from ded.params.schemas import Common, Recipe
from ded.problems import Problem, contamination, files

Params = TypeVar("Params", bound=Common, covariant=True)
LONGEST_OPTIONS = 30  # characters in a table
SAMPLING = ("max_tokens", "temperature", "top_p", "engine")  # parameters of `generation.sample`
TRAINING = ("learning_rate", "batch_size", "epochs", "max_length", "trainer")  # of `training.sft`


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

    @property
    def dtype(self) -> str:
        """That students are trained in, and looked into by `ded.analysis`."""
        return self.params.trainer.dtype

    def sampling(self, temperature: float | None = None) -> dict[str, Any]:
        """The arguments of `generation.sample` that the parameters fix; temperature: the teachers'
        unless given.
        """
        fixed = {name: getattr(self.params, name) for name in SAMPLING} | {"seed": self.seed}
        return fixed if temperature is None else fixed | {"temperature": temperature}

    def scoring(self) -> dict[str, Any]:
        """The arguments of `evaluation.evaluate` that the parameters fix."""
        return self.sampling(self.params.eval_temperature) | {"grading": self.params.grading}

    def training(self) -> dict[str, Any]:
        """The arguments of `training.sft` that the parameters fix."""
        return {name: getattr(self.params, name) for name in TRAINING} | {"seed": self.seed}

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

    def suite(self) -> dict[str, list[Problem]]:
        """The evaluation questions (params.split): "ID", its perturbed copies in notebook 03, "ID
        code" in notebook 04, each OOD family.
        """
        return {"ID": self._evaluation["ID"]} | self._perturbed | self._evaluation

    @cached_property
    def _perturbed(self) -> dict[str, list[Problem]]:
        asked, names = self._evaluation["ID"], getattr(self.params, "perturbations", ())
        return {name: [problems.perturb(q, name) for q in asked] for name in names}

    @cached_property
    def _evaluation(self) -> dict[str, list[Problem]]:
        seed = self._draw_seed("evaluation")
        return {
            family: problems.load(asked.source, asked.n, asked.split, seed)
            for family, asked in evaluation_questions(self.params).items()
        }

    def _decontaminated(self, source: str) -> tuple[pd.DataFrame | None, list[Problem]]:
        """(overlaps, the questions left) of one training source, drawn once."""
        params, source = self.params, source or self.params.corpus_source
        if source in self._training:
            return self._training[source]
        counts = {asked.source: asked.n for asked in training_questions(params)}
        n = counts.get(source, params.n_questions)
        questions = problems.load(source, n, "train", self._draw_seed("corpus"))
        procedural = problems.source(source).procedural
        compared = [
            question
            for family, other in evaluation_questions(params).items()
            if not (procedural and problems.source(other.source).procedural)
            for question in self._evaluation[family]
        ]
        overlaps = None
        if compared:
            limits = params.contamination_ngram, params.contamination_threshold
            overlaps, questions = contamination.contaminated(questions, compared, *limits)
        self._training[source] = overlaps, questions
        return overlaps, questions

    def _draw_seed(self, purpose: str) -> str:
        return f"{self.params.seed} {purpose} {self.base} {self.replicate}"


class Asked(NamedTuple):
    """How many questions of which source and split a unit asks."""

    source: str
    n: int
    split: str


def training_questions(params: Common) -> list[Asked]:
    """What the corpora of a unit are made from."""
    asked = [Asked(params.corpus_source, params.n_questions, "train")]
    if isinstance(params, Recipe) and params.code_source:
        asked.append(Asked(params.code_source, params.n_code_questions, "train"))
    return asked


def evaluation_questions(params: Common) -> dict[str, Asked]:
    """{family: what the suite asks of it}; SourceError where two sources are of one family."""
    asked = {"ID": Asked(params.id_source, params.eval_id, params.split)}
    if isinstance(params, Recipe) and params.code_id_source:
        asked["ID code"] = Asked(params.code_id_source, params.eval_code, params.split)
    for source in params.ood_sources:
        family = problems.source(source).family
        if family in asked:
            fault = f"ood_sources: {source!r} is the second family {family!r} of the suite"
            raise SourceError(f"{fault}; name each once")
        asked[family] = Asked(source, params.eval_ood, params.split)
    return asked


def units(params: Common, select: bool = False) -> list[Unit]:
    """One for each student and replicate; `select`: those on which notebook 04 chooses, which come
    before its own and are scored on params.smoke_eval ID questions; none with params.chosen.
    """
    n_select = getattr(params, "n_select", 0)
    replicates = range(n_select) if select else range(n_select, n_select + params.n_replicates)
    if select and isinstance(params, Recipe):
        replicates = range(0 if params.chosen else n_select)
        params = params.model_copy(update={"eval_id": params.smoke_eval})
    return [Unit(params, base, replicate) for base in params.students for replicate in replicates]


def calls(units: Iterable[Unit], **axes: Iterable) -> list[dict[str, Any]]:
    """The arguments of one job for each unit and combination of `axes`: calls(units,
    teacher=params.teachers).
    """
    combinations = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return [{"unit": unit} | values for unit in units for values in combinations]


def teachers_of(params: Common) -> list[str]:
    """The model specs of a notebook's teachers, whether it takes one or several."""
    specs = getattr(params, "teachers", None) or getattr(params, "teacher", [])
    return [specs] if isinstance(specs, str) else list(specs)


def engines_of(params: Common) -> dict[str, Engine]:
    """{model spec: the engine that samples it} of a notebook's students, teachers and judge."""
    engines = dict.fromkeys([*params.students, *teachers_of(params)], params.engine)
    judge = params.grading.judge
    return engines | ({judge: params.grading.judge_engine} if judge else {})


def short(model: str) -> str:
    """A model's name in tables and figures: its spec without the kind, a local path without its
    folders; options (`ded.models.chat`) behind it, long ones shortened.

    Of recorded traces in a data set it is the name of their column map, or of their folder.
    """
    options = model[len(bare(model)) :]
    if len(options) > LONGEST_OPTIONS:
        options = f"{options[:LONGEST_OPTIONS]}...{problems.content_hash(options) % 1000}}}"
    kind, _, name = bare(model).partition(":")
    place, _, column_map = name.partition("#")
    if kind == "recorded" and column_map and not place.lower().endswith(files.SUFFIXES):
        return column_map
    if kind == "recorded" and place.count("/") > 1:
        return place.rpartition("/")[2]
    return (name.rpartition("/")[2] if name.startswith(("/", "~", ".")) else name) + options
