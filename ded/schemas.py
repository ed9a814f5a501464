"""What the notebooks' parameters are: a schema each, types and ranges only.

Defaults, units and meanings stand in the notebooks' `parameters` cells; `ded.params` reads and checks them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from ded import home

# ---- the kinds of values ---------------------------------------------------------------------------------------------


def near(name: Any, known: Iterable[Any], prefix: str = "") -> str:
    """'; nearest: x' where a known name resembles this one, else ''."""
    found = difflib.get_close_matches(
        str(name).lower(), [k for k in known if isinstance(k, str)], n=1, cutoff=0.5
    )
    return f"; nearest: {prefix}{found[0]}" if found else ""


def model_spec(spec: str) -> str:
    from ded.models import KINDS

    kind, _, name = spec.partition(":")
    if kind not in KINDS or not name:
        hint = near(kind, KINDS) if name else ""
        kinds = ", ".join(f"{k}:..." for k in KINDS)
        context = {"kinds": kinds, "hint": hint}
        raise PydanticCustomError("model", "is not a model spec; allowed: {kinds}{hint}", context)
    if kind == "lab":
        from ded import lab

        known = list(lab.names()) if hasattr(lab, "names") else [name]
        if name not in known:
            hint = near(name, known, prefix="lab:")
            raise PydanticCustomError(
                "model", "names no lab model; see `ded lab list`{hint}", {"hint": hint}
            )
    return spec


def _source(source: str) -> str:
    from ded import problems

    try:
        problems.check(source)
    except problems.SourceError as error:
        raise PydanticCustomError("source", "{reason}", {"reason": str(error)}) from None
    return source


def _distinct(values: list) -> list:
    if repeated := [v for i, v in enumerate(values) if v in values[:i]]:
        context = {"value": repr(repeated[0])}
        raise PydanticCustomError(
            "distinct", "names {value} twice; allowed: distinct values", context
        )
    return values


def _accelerate(name: str) -> str:
    known = sorted(f.stem for f in (home() / "params" / "accelerate").glob("*.yml"))
    if name and name not in known:
        context = {"known": ", ".join(known) or "none", "hint": near(name, known)}
        raise PydanticCustomError(
            "file", "is no file of params/accelerate/; there are: {known}{hint}", context
        )
    return name


def _base_url(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^\s@?#]+", url):
        raise PydanticCustomError(
            "secret",
            "must be http(s)://<host>[:<port>]/<path>; keys go into the variable that api_key_env names",
        )
    return url.rstrip("/")


def _variable(name: str) -> str:
    if name and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise PydanticCustomError(
            "secret",
            "must be the name of an environment variable, in capitals; never the key itself",
        )
    return name


Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Model = Annotated[str, AfterValidator(model_spec)]
Models = Annotated[list[Model], Field(min_length=1), AfterValidator(_distinct)]
Source = Annotated[str, AfterValidator(_source)]
Sources = Annotated[list[Source], Field(min_length=1), AfterValidator(_distinct)]
NoSource = Annotated[
    str, AfterValidator(lambda source: _source(source) if source else "")
]  # "" is none
Sizes = Annotated[list[Count], Field(min_length=1), AfterValidator(_distinct)]
Accelerate = Annotated[str, AfterValidator(_accelerate)]


class Options(BaseModel):
    """A parameter that is a mapping: keys that are left out have their defaults, and are left out again when it is written down."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_serializer(mode="wrap")
    def _changed(self, dump: Any) -> dict:
        return {
            key: value
            for key, value in dump(self).items()
            if value != type(self).model_fields[key].default
        }


class Engine(Options):
    """How models are sampled: the parameter `engine`. What decides speed only is no part of a result's identity."""

    name: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    tensor_parallel: Count = 1  # GPUs a replica of the model
    data_parallel: Count = 1  # replicas of the model side by side
    max_model_len: Whole = 0  # tokens, prompt included; 0: the model's own
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.9  # share of each GPU's memory
    entropy_top: Whole = 20  # most probable tokens from which vLLM's and endpoints' entropies are estimated; 0: not measured
    base_url: Annotated[str, AfterValidator(_base_url)] = (
        ""  # of the endpoint that serves openai:<model>
    )
    api_key_env: Annotated[str, AfterValidator(_variable)] = (
        ""  # name of the environment variable that holds its key; "": none is sent
    )
    concurrency: Count = 8  # requests in flight
    timeout: Positive = 600.0  # seconds that a request may wait for its reply


class Trainer(Options):
    """How students are trained: the parameter `trainer`. Dtype, LoRA and truncation alone are part of a result's identity."""

    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of the passes and of what is saved; full fine-tuning keeps float32 master weights
    )
    lora_rank: Whole = (
        0  # of the adapters on all linear layers, merged when saved; 0: full fine-tuning
    )
    lora_alpha: Whole = 0  # 0: twice the rank
    gradient_checkpointing: bool = False  # less memory for about a third more computation
    packing: bool = (
        False  # the examples of a micro batch end to end instead of padded; the loss is the same
    )
    liger: bool = False  # Liger's layer kernels, on a GPU
    micro_batch: Whole = 0  # examples a process and forward pass, batch_size being that of an optimizer step; 0: all of its share
    processes: Count = 1  # one a GPU; above 1 through accelerate launch
    accelerate: Accelerate = ""  # a file of params/accelerate/, for FSDP2 or several machines
    save_steps: Whole = 0  # optimizer steps between checkpoints to resume from; 0: none
    allow_truncation: bool = False  # cut a sequence over max_length, instead of an error


# ---- the schemas: one line a parameter; unit and meaning stand in the notebooks' cells ------------------------------


class Common(BaseModel):
    """What every notebook takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    preset: str
    fixed_on: str  # the date on which these values were fixed, before the run that they are for
    out_dir: str  # "" is outputs/<preset>/<notebook>/ in the repository
    students: Models
    n_replicates: Count
    seed: Whole
    split: Literal["dev", "test"]
    n_jobs: Whole  # 0 is one a core
    engine: Engine = Engine()
    trainer: Trainer = Trainer()
    corpus_source: Source
    id_source: Source
    ood_sources: Sources
    n_questions: Count
    eval_id: Count
    eval_ood: Count
    verification: Literal["answer", "steps"]
    max_tokens: Count
    max_length: Count
    temperature: Annotated[float, Field(ge=0, le=5)]
    eval_temperature: Annotated[float, Field(ge=0, le=5)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    batch_size: Count
    epochs: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]
    contamination_ngram: Count
    contamination_threshold: Annotated[float, Field(gt=0, le=1)]

    @field_validator("verification")
    @classmethod
    def _checkable(cls, value: str, info: ValidationInfo) -> str:
        from ded import problems

        source = info.data.get("corpus_source", "lab:sum")  # absent where it is wrong itself
        if value == "steps" and not problems.checks_steps(source):
            raise PydanticCustomError(
                "source",
                "needs questions whose steps can be checked (lab:sum), not {source}",
                {"source": source},
            )
        return value


class TeacherSelection(Common):
    """Notebook 01."""

    teachers: Models
    corpus_size: Count
    n_attempts: Count
    samples: Count
    shift_inputs: Count


class OodTradeoff(Common):
    """Notebook 02."""

    teacher: Model
    sizes: Sizes
    selection_sizes: Sizes
    fixed_level: Whole
    pass_rate_threshold: Share
    pass_rate_samples: Count
    pass_rate_questions: Count
    samples: Count


class TrajectoryDiversity(Common):
    """Notebook 03."""

    teacher: Model
    n_trajectories: Annotated[int, Field(ge=2)]
    n_kept: Annotated[int, Field(ge=2)]
    metric: Literal["levenshtein", "normalised"]
    samples: Count


class Recipe(Common):
    """Notebook 04."""

    teachers: Models
    code_source: NoSource
    code_id_source: NoSource
    n_select: Count
    n_code_questions: Count
    smoke_questions: Count
    smoke_size: Count
    corpus_size: Annotated[int, Field(ge=2)]
    large_size: Count
    pass_rate_threshold: Share
    pass_rate_samples: Count
    pass_rate_questions: Count
    n_trajectories: Annotated[int, Field(ge=2)]
    n_kept: Annotated[int, Field(ge=2)]
    metric: Literal["levenshtein", "normalised"]
    samples: Count
    eval_code: Count
    shift_inputs: Count
    lalp_window: Count
    ood_margin: Annotated[float, Field(gt=0, lt=1)]

    @field_validator("code_id_source")
    @classmethod
    def _both(cls, value: str, info: ValidationInfo) -> str:
        if bool(value) != bool(info.data.get("code_source", value)):
            raise PydanticCustomError(
                "source", "and code_source go together: both name a source, or both are ''"
            )
        return value


class Valley(Common):
    """Notebook 05."""

    teacher: Model
    sizes: Sizes
    selection_sizes: Sizes
    n_attempts: Annotated[int, Field(ge=2)]
    difficulty: Literal["level", "pass_rate"]
    pass_rate_samples: Count
    samples: Count


SCHEMAS: dict[str, type[Common]] = {
    "01_teacher_selection": TeacherSelection,
    "02_ood_tradeoff": OodTradeoff,
    "03_trajectory_diversity": TrajectoryDiversity,
    "04_ded_recipe": Recipe,
    "05_valley": Valley,
}
