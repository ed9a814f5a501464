"""How models are sampled, students trained and answers graded: the parameters `engine`, `trainer`
and `grading`.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_serializer

from ded import home
from ded.errors import near


class Secret(ValueError):
    """What is wrong with a value that may hold a key, and so is not to be repeated in a message."""


def _accelerate(name: str) -> str:
    names = sorted(file.stem for file in (home() / "params" / "accelerate").glob("*.yml"))
    if name and name not in names:
        there = f"there are: {', '.join(names) or 'none'}{near(name, names)}"
        raise ValueError(f"is no file of params/accelerate/; {there}")
    return name


def _base_url(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^\s@?#]+", url):
        raise Secret("must be http(s)://<host>[:<port>]/<path>; the key's place is api_key_env")
    return url.rstrip("/")


def _variable(name: str) -> str:
    if name and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise Secret("must be an environment variable's name, in capitals; never the key itself")
    return name


def _address(text: str) -> str:
    address = text if text.startswith("ray://") else re.sub("^ray:?", "", text) or "auto"
    if not re.fullmatch(r"auto|(ray://)?[\w.-]+:\d+", address):
        allowed = "ray (this machine's cluster), ray:<host>:<port>, ray://<host>:<port>"
        raise ValueError(f"is no address of a Ray cluster; allowed: {allowed}")
    return address


Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Options(BaseModel):
    """A parameter that is a mapping: keys that are left out have their defaults.

    Written down again, it leaves out what is as the default.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_serializer(mode="wrap")
    def _changed(self, dump: Callable[["Options"], dict[str, Any]]) -> dict[str, Any]:
        fields = type(self).model_fields
        changed = {key for key in fields if getattr(self, key) != fields[key].default}
        return {key: value for key, value in dump(self).items() if key in changed}


class Engine(Options):
    """How models are sampled: the parameter `engine`.

    What decides speed only is no part of a result's identity.
    """

    # one of `ded.generation.ENGINES` (`generation.named`)
    name: str = "transformers"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    # GPUs a replica of the model
    tensor_parallel: Count = 1
    # replicas of the model side by side
    data_parallel: Count = 1
    # tokens, prompt included; 0: the model's own
    max_model_len: Whole = 0
    # share of each GPU's memory
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.9
    # sample from the likeliest k tokens; 0: from all
    top_k: Whole = 0
    # sample from tokens at least this share as likely as the likeliest; 0: from all
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    # by which the scores of tokens that stand already are divided (multiplied below 0); 1: not
    repetition_penalty: Positive = 1.0
    # tokens after which a think block that is open is closed by force; 0: it may go on
    thinking_budget: Whole = 0
    # what closes it
    thinking_end: Annotated[str, Field(pattern="</think>")] = "\n</think>\n\n"
    # most probable tokens from which vLLM's and endpoints' entropies are estimated; 0: not measured
    entropy_top: Whole = 20
    # of the endpoint that serves openai:<model>
    base_url: Annotated[str, AfterValidator(_base_url)] = ""
    # name of the environment variable that holds its key; "": none is sent
    api_key_env: Annotated[str, AfterValidator(_variable)] = ""
    # requests in flight
    concurrency: Count = 8
    # seconds that a request may wait for its reply
    timeout: Positive = 600.0

    def sampling(self) -> dict[str, Any]:
        """What it changes of the distribution that is sampled from."""
        return self.model_dump(include={"top_k", "min_p", "repetition_penalty"})


class Trainer(Options):
    """How students are trained: the parameter `trainer`.

    Dtype, LoRA, truncation and what is held out alone are part of a result's identity.
    """

    # of the passes and of what is saved; full fine-tuning keeps float32 master weights
    dtype: Literal["float32", "bfloat16"] = "float32"
    # of the adapters on all linear layers, merged when saved; 0: full fine-tuning
    lora_rank: Whole = 0
    # 0: twice the rank
    lora_alpha: Whole = 0
    # less memory for about a third more computation; auto: on a GPU whose memory would not suffice
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    # the examples of a micro batch end to end instead of padded; the loss is the same
    packing: bool = False
    # Liger's layer kernels, on a GPU
    liger: bool = False
    # examples a process and forward pass; 0: all of its share of batch_size, an optimizer step's,
    # or on a GPU as many of them as fit and are fastest
    micro_batch: Whole = 0
    # one a GPU; above 1 through accelerate launch
    processes: Count = 1
    # a file of params/accelerate/, for FSDP2 or several machines
    accelerate: Annotated[str, AfterValidator(_accelerate)] = ""
    # optimizer steps between checkpoints to resume from; 0: none
    save_steps: Whole = 0
    # cut a sequence over max_length, instead of an error
    allow_truncation: bool = False
    # of the corpus, by whole questions: not trained on, its loss is logged; 0: all is trained on
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # where losses are shown while a student trains
    report_to: Literal["none", "trackio", "tensorboard", "wandb"] = "none"


class Cluster(Options):
    """Where jobs run, if not on this machine alone: the parameter `n_jobs` as text or a mapping.

    None of it is part of a result's identity.
    """

    # of a Ray cluster: "auto" (that of this machine, or $RAY_ADDRESS), host:port, ray://host:port
    address: Annotated[str, AfterValidator(_address)]
    # cores that a job holds; it has one thread all the same
    cpus_per_job: Count = 1
    # GPUs that a job holds, of one node; 0: it sees none
    gpus_per_job: Whole = 0
    # environment variables of all jobs
    environment: dict[str, str] = {}


class Grading(Options):
    """How answers are graded: the parameter `grading` (docs/grading.md).

    All of it is part of a verdict's identity.
    """

    # of the programs that are run; "rlimits", for code that is trusted, has limits without walls
    isolation: Literal["bubblewrap", "rlimits"] = "bubblewrap"
    # model spec of what is asked where the rules leave an answer unparsed; "": nobody
    judge: str = ""
    # how the judge is sampled
    judge_engine: Engine = Engine()
    # longest reply of the judge, tokens, what it thinks before included
    judge_max_tokens: Count = 1024
    # where a percentage is asked for: "strict" (50 % is not 50) or "same" (it is)
    percent: Literal["strict", "same"] = "strict"
    # distributions that programs may import, as installed here; []: the standard library alone
    packages: list[str] = []
