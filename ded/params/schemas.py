"""What the notebooks' parameters are: a schema each, types and ranges only.

Defaults, units and meanings stand in the notebooks' `parameters` cells; `ded.params` reads and
checks them.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from ded import problems
from ded.errors import near, no_such
from ded.lab import catalogue
from ded.models.spec import bare, parse, with_options
from ded.options import Cluster, Count, Engine, Grading, Options, Positive, Trainer, Whole

# ---- the kinds of values -----------------------------------------------------------------------


def _checked(spec: str) -> str:
    kind, name, _ = parse(spec)
    if kind == "lab" and name not in catalogue.names():
        raise ValueError(f"names {no_such('lab model', name, catalogue.names())}")
    return spec


def _model(spec: str, info: ValidationInfo) -> str:
    """The spec, with the options that the parameter `chat` has for it."""
    prompted = parse(_checked(spec)).kind != "recorded"
    chat = info.data.get("chat", {}) if prompted else {}
    return with_options(spec, chat.get(DEFAULT, {}) | chat.get(bare(spec), {}))


def _source(source: str) -> str:
    problems.source(source).check()
    return source


def _distinct(values: list) -> list:
    if repeated := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"names {repeated[0]!r} twice; allowed: distinct values")
    return values


# Rooms that load pandas, which reading parameters need not, are imported when they are asked.
def _metric(name: str) -> str:
    from ded import curation

    return curation.metric_named(name)


def _compression(keep: Any) -> Any:
    from ded import curation

    curation.compression(keep)
    return keep


def _registered(engine: Engine) -> Engine:
    from ded import generation

    generation.named(engine.name)
    return engine


def _judged(grading: Grading) -> Grading:
    from ded.grading import judge

    _registered(grading.judge_engine)
    judge.check(grading)
    if grading.judge:
        _checked(grading.judge)
    return grading


def _checkable(verification: str, info: ValidationInfo) -> str:
    source = info.data.get("corpus_source", "lab:sum")  # absent where it is wrong itself
    if verification == "steps" and not problems.source(source).steps:
        raise ValueError(f"needs questions whose steps can be checked (lab:sum), not {source}")
    return verification


def _perturbed(names: list[str], info: ValidationInfo) -> list[str]:
    """Those that the source has; all of them where none is named that it has."""
    existing = list(problems.source(info.data.get("id_source", "lab:sum")).perturbations)
    elsewhere = [*problems.source("lab:sum").perturbations, *problems.PERTURBATIONS]
    for name in names:
        if name not in elsewhere:
            raise ValueError(no_such("perturbation", name, existing))
    return [name for name in existing if name in names] or existing


def _with_code_source(source: str, info: ValidationInfo) -> str:
    """ "" without a code_source, which alone makes a study one of mathematics."""
    code_source = info.data.get("code_source", source)
    if code_source and not source:
        raise ValueError(f"is asked of students of {code_source!r}: name one, or no code_source")
    return source if code_source else ""


class Fitted:
    """Marks a parameter whose default fits the lab's models and questions alone."""


DEFAULT = "default"  # the key of `chat` for all models
Share = Annotated[float, Field(ge=0, le=1)]
Model = Annotated[str, AfterValidator(_model)]
Models = Annotated[list[Model], Field(min_length=1), AfterValidator(_distinct)]
Source = Annotated[str, AfterValidator(_source)]
Sources = Annotated[list[Source], Field(min_length=1), AfterValidator(_distinct)]
SourceOrNone = Annotated[str, AfterValidator(lambda source: source and _source(source))]
KeepQuestions = Annotated[Any, AfterValidator(_compression)]
NUMBER, PLACE = TAGS = "a number", "a cluster"
# text is a cluster's address
Jobs = Annotated[
    Annotated[Whole, Tag(NUMBER)] | Annotated[Cluster, Tag(PLACE)],
    Discriminator(lambda n_jobs: PLACE if isinstance(n_jobs, dict | Cluster) else NUMBER),
    BeforeValidator(lambda n_jobs: {"address": n_jobs} if isinstance(n_jobs, str) else n_jobs),
]
Metric = Annotated[str, AfterValidator(_metric)]
Sizes = Annotated[list[Count], Field(min_length=1), AfterValidator(_distinct)]


# ---- the schemas: one line a parameter; unit and meaning stand in the notebooks' cells ----------


class Common(BaseModel):
    """What every notebook takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    preset: str
    fixed_on: str  # the date on which these values were fixed, before the run that they are for
    out_dir: str  # "" is outputs/<preset>/<notebook>/ in the repository
    # {model, or "default": {option: value}}: how models are prompted; before the models, which
    # take it up
    chat: dict[str, dict[str, Any]] = {}
    students: Models
    n_replicates: Count
    # which are run, [] for all; whether they are there is for `ded.study.arms` to say
    arms: Annotated[list[str], AfterValidator(_distinct)] = []
    seed: Whole
    split: Literal["dev", "test"]
    n_jobs: Jobs  # 0 is one a core
    engine: Annotated[Engine, AfterValidator(_registered)] = Engine()
    trainer: Trainer = Trainer()
    grading: Annotated[Grading, AfterValidator(_judged)] = Grading()
    corpus_source: Source
    id_source: Source
    ood_sources: Sources
    n_questions: Count
    samples: Count
    eval_id: Count
    eval_ood: Count
    verification: Annotated[Literal["answer", "steps"], AfterValidator(_checkable)]
    drop_repeats: bool = False
    max_tokens: Annotated[Count, Fitted]
    max_length: Annotated[Count, Fitted]
    temperature: Annotated[float, Field(ge=0, le=5)]
    eval_temperature: Annotated[float, Field(ge=0, le=5)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1), Fitted]
    batch_size: Count
    epochs: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]
    contamination_ngram: Count
    contamination_threshold: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _prompted(self) -> Self:
        teachers = getattr(self, "teachers", None) or [getattr(self, "teacher", "")]
        names = [DEFAULT, *map(bare, self.students), *map(bare, teachers)]
        for name in self.chat.keys() - set(names):
            raise ValueError(f"chat: {name!r} is no model of this notebook{near(name, names)}")
        return self


class TeacherSelection(Common):
    """Notebook 01."""

    teachers: Models
    corpus_size: Count
    n_attempts: Count
    shift_inputs: Count
    lalp_window: Count


class OodTradeoff(Common):
    """Notebook 02."""

    teacher: Model
    sizes: Annotated[Sizes, Field(min_length=2)]
    fixed_level: Annotated[Whole, Fitted]
    keep_questions: KeepQuestions
    pass_rate_samples: Count
    pass_rate_questions: Count
    ood_margin: Annotated[float, Field(gt=0, lt=1)]


class TrajectoryDiversity(Common):
    """Notebook 03."""

    teacher: Model
    n_trajectories: Annotated[int, Field(ge=2)]
    n_kept: Annotated[int, Field(ge=2)]
    metric: Metric
    most_branches: Annotated[float, Field(ge=0)] = 5.0
    perturbations: Annotated[list[str], AfterValidator(_perturbed)]


class Chosen(Options):
    """The teachers of a base, as a user or an earlier run knows them; top: one, or several that
    tie.
    """

    teacher: str
    top: Annotated[list[str], BeforeValidator(lambda top: [top] if isinstance(top, str) else top)]
    other: str = ""  # drawn


class Recipe(Common):
    """Notebook 04."""

    teachers: Models
    # {student base, or "default": its teachers}; {}: by smoke tests
    chosen: dict[str, Chosen] = {}
    code_source: SourceOrNone
    code_id_source: Annotated[SourceOrNone, AfterValidator(_with_code_source)]
    n_select: Count
    n_code_questions: Count
    smoke_questions: Count
    smoke_size: Count
    smoke_eval: Count
    corpus_size: Annotated[int, Field(ge=2)]
    large_size: Count
    keep_questions: KeepQuestions
    pass_rate_samples: Count
    pass_rate_questions: Count
    n_trajectories: Annotated[int, Field(ge=2)]
    n_kept: Annotated[int, Field(ge=2)]
    metric: Metric
    eval_code: Count
    shift_inputs: Count
    lalp_window: Count
    ood_margin: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _chosen_among(self) -> Self:
        bases, teachers = [DEFAULT, *map(bare, self.students)], self.teachers
        for base, given in self.chosen.items():
            named = [(base, bases, "students")]
            named += [(t, teachers, "teachers") for t in (given.teacher, *given.top, given.other)]
            for name, names, what in named:
                if name and name not in names:
                    raise ValueError(f"chosen: {name!r} is none of {what}{near(name, names)}")
        lacking = [base for base in bases[1:] if not {base, DEFAULT} & self.chosen.keys()]
        if self.chosen and lacking:
            raise ValueError(f"chosen: names no teachers of {lacking[0]!r}, and no default")
        return self

    @model_validator(mode="after")
    def _enough_questions(self) -> Self:
        n = self.n_questions + (self.n_code_questions if self.code_source else 0)
        if n < self.large_size:
            what = f"large_size: one trajectory of each of {n} training questions"
            raise ValueError(f"{what} makes no {self.large_size} examples; raise n_questions")
        return self


class Valley(Common):
    """Notebook 05."""

    teacher: Model
    sizes: Sizes
    selection_sizes: Sizes
    n_attempts: Annotated[int, Field(ge=2)]
    difficulty: Literal["level", "pass_rate"]
    pass_rate_samples: Count


# the parameters of any of the notebooks
Parameters = TeacherSelection | OodTradeoff | TrajectoryDiversity | Recipe | Valley

SCHEMAS: dict[str, type[Parameters]] = {
    "01_teacher_selection": TeacherSelection,
    "02_ood_tradeoff": OodTradeoff,
    "03_trajectory_diversity": TrajectoryDiversity,
    "04_ded_recipe": Recipe,
    "05_valley": Valley,
}
