"""How models are sampled and students trained: the parameters `engine` and `trainer`, which every room takes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_serializer
from pydantic_core import PydanticCustomError

from ded import home
from ded.errors import near


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
