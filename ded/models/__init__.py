"""Turns a model spec of a params file into something loadable; the grammar is that of
`ded.models.spec`."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ded import spent, store, workers
from ded.errors import ModelError, first_line
from ded.lab import catalogue
from ded.models import chat, endpoint, package, tokens, traces
from ded.models.spec import MENDS, WITHOUT_WEIGHTS, Spec, bare, digest, hub, options_of, parse
from ded.options import Engine
from ded.problems.texts import THINK

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

NO_VLLM = MENDS["vllm"]["missing"]
CONTENT = (".json", ".safetensors", ".jinja", ".model")  # suffixes of what a model is
RECORDS = ("lab.json", "training.json")  # how it was made: no part of what it is


@dataclass(frozen=True)
class Kind:
    """What is special about the specs of one kind."""

    # from a name to the directory, or the hub id, that transformers loads
    locate: Callable[[str], Path | str] | None = None
    # what identifies the content in a store key; None: a hash of the files in the directory
    fingerprint: Callable[[Spec], str] | None = None
    # of what has no weights: ModelError where the engine cannot sample it
    check: Callable[[str, Engine], None] | None = None


# A store checkpoint is identified by the key of the training that made it, a hub model by its
# commit, recorded traces by content and column map. Of an endpoint's model the name alone is known
# (its engine's identity adds the base_url).
KINDS = {
    "lab": Kind(catalogue.checkpoint),
    "hf": Kind(str, lambda spec: f"{spec.name}@{spec.revision or hub(spec.name)[0]}"),
    "path": Kind(lambda name: Path(name).expanduser()),
    "store": Kind(store.folder, lambda spec: spec.name),
    "package": Kind(package.directory, lambda spec: package.find(spec.name)[1]),
    "openai": Kind(None, lambda spec: spec.name, endpoint.check),
    "recorded": Kind(None, lambda spec: traces.fingerprint(f"recorded:{spec.name}"), traces.check),
}


def check(spec: str, need: Collection[str] = ("sample",), engine: Engine = Engine()) -> None:
    """ModelError, with the mend, where a model cannot be used here for all of `need`: "sample" (on
    `engine`), "train", "hidden".

    Looks at the id and its access, packages, tokenizer, chat template (see `render`), the weights'
    size against the free memory; for an endpoint or recorded traces asks their engine. Takes
    seconds: loads no weights (a package's are converted the first time).
    """
    kind, name, revision = parse(spec)
    if without_weights := KINDS[kind].check:
        if set(need) - {"sample"}:
            locate(spec)  # says what cannot be done without weights
        return without_weights(spec, engine)
    if "sample" in need and engine.name == "vllm" and not find_spec("vllm"):
        raise ModelError(f"model {spec!r}: {NO_VLLM}")
    if kind == "hf":
        hub(name, revision)
    tok = load_tokenizer(spec)
    render(spec, "a question")
    _check_sampling_settings(spec)
    think_ids = tok(THINK, add_special_tokens=False)["input_ids"]
    if "train" in need and THINK not in tok.decode(think_ids):
        mend = "so it cannot learn to write it; add it to the vocabulary"
        raise ModelError(f"model {spec!r}: {THINK} does not survive its tokenizer, {mend}")
    size, (free, where) = weights(spec, engine.dtype) / 2**30, free_memory()
    if size > free / 2**30:
        lack = f"take {size:.1f} GiB in {engine.dtype}, and {free / 2**30:.1f} GiB are free {where}"
        mend = "take a smaller model, engine.dtype 'bfloat16', or a machine with more memory"
        raise ModelError(f"model {spec!r}: its weights {lack}; {mend}")


def _check_sampling_settings(spec: str) -> None:
    """ModelError where transformers would not load the model for its generation config (flags that
    it merely ignores are mended in training)."""
    from transformers import GenerationConfig

    with suppress(OSError):  # there is none
        try:
            pretrained(GenerationConfig, spec)
        except ValueError as error:
            fault = f"its generation_config.json cannot be used ({first_line(error)}); correct it"
            raise ModelError(f"model {spec!r}: {fault}") from None


def locate(spec: str) -> str:
    """The directory (or hub id) that transformers loads this model from. ModelError where it is
    not there, or has no weights."""
    kind, name, _ = parse(spec)
    find = KINDS[kind].locate
    if find is None:
        limits = "it can be a teacher, but not be trained or looked into"
        mend = "name one with weights ('hf:<org>/<name>', 'path:<directory>')"
        raise ModelError(f"model {spec!r}: {WITHOUT_WEIGHTS[kind]}, no weights: {limits}; {mend}")
    place = find(name)
    if isinstance(place, Path) and not (place / "config.json").is_file():
        raise ModelError(f"model {spec!r}: no model directory at {place} (config.json is missing)")
    return str(place)


def pretrained(auto_class: Any, spec: str, **settings: Any) -> Any:
    """What one of transformers' classes loads of a model."""
    return auto_class.from_pretrained(locate(spec), revision=parse(spec).revision, **settings)


def fingerprint(spec: str) -> str:
    """What identifies the model's content in a store key: where it has no other identity, a hash of
    weights, configuration, tokenizer and template; and the options of the spec."""
    options = f"?{json.dumps(options_of(spec), sort_keys=True)}" if options_of(spec) else ""
    if identify := KINDS[parse(spec).kind].fingerprint:
        return identify(parse(spec)) + options
    files = [file for file in sorted(Path(locate(spec)).iterdir()) if file.name not in RECORDS]
    return digest(file for file in files if file.suffix in CONTENT) + options


def weights(spec: str, dtype: str) -> float:
    """Bytes that the weights take in `dtype`; NaN where only loading them would tell."""
    from safetensors import SafetensorError, safe_open

    kind, name, revision = parse(spec)
    bytes_each = 4 if dtype == "float32" else 2
    if kind == "hf":
        return hub(name, revision)[1] * bytes_each
    files = list(Path(locate(spec)).glob("*.safetensors"))
    count = 0 if files else math.nan
    for file in files:
        try:  # reads the header, and sees a file that is cut short
            with safe_open(file, framework="numpy") as stored:
                names = stored.keys()
                count += sum(math.prod(stored.get_slice(name).get_shape()) for name in names)
        except (OSError, SafetensorError) as error:
            damage = f"{file.name} cannot be read ({error}); copy or download it again"
            raise ModelError(f"model {spec!r}: {damage}") from None
    return count * bytes_each


def free_memory() -> tuple[float, str]:
    """(bytes, where) that a model may take: of all visible GPUs together, else of this machine.
    Leaves nothing on the GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible != "" and shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        command += ["-i", visible] if visible else []
        output = subprocess.run(command, capture_output=True, text=True).stdout
        if free := [int(line) for line in output.split() if line.isdigit()]:
            return sum(free) * 2**20, f"on {len(free)} GPU(s)"
    import psutil

    return psutil.virtual_memory().available, "in memory"


def free_on_gpu() -> int:
    """Bytes that this process may still take of its GPU, what PyTorch keeps for it included; of
    workers side by side each has its share. 0 where there is none."""
    import torch

    if not torch.cuda.is_available():
        return 0
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    free, all_of_it = torch.cuda.mem_get_info()
    return min(free + kept, all_of_it // workers.n_side_by_side)


@lru_cache(maxsize=16)
def load_tokenizer(spec: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; ModelError if it cannot be loaded or has no chat template."""
    place = locate(spec)
    try:
        tok = _tokenizer_class(place).from_pretrained(place, revision=parse(spec).revision)
        if len(tok) <= len(tok.all_special_ids):  # made of nothing, where files are missing
            raise ValueError("it has no words")
    except (OSError, ValueError) as error:
        cause = f"its tokenizer cannot be loaded ({first_line(error)})"
        mend = "it needs tokenizer.json and tokenizer_config.json beside the weights"
        raise ModelError(f"model {spec!r}: {cause}; {mend}") from error
    if not tok.chat_template:
        lack = "its tokenizer has no chat template to render prompts with"
        mend = "take the instruction-tuned variant, or put a chat_template.jinja beside it"
        raise ModelError(f"model {spec!r}: {lack}; {mend}")
    if options_of(spec):
        tok.chat_template = chat.with_defaults(spec, tok.get_chat_template())
    if tok.pad_token_id is None:
        tok.pad_token = tok.eos_token
    return tok


def _tokenizer_class(place: str) -> Any:
    """The class for a directory whose tokenizer is tokenizer.json and no more, as it says; else
    AutoTokenizer, whose import takes seconds, for it brings all that models are made of."""
    with spent.on("import"):
        with suppress(OSError, ValueError, LookupError):
            settings = json.loads(Path(place, "tokenizer_config.json").read_text(encoding="utf-8"))
            if settings["tokenizer_class"] == "TokenizersBackend" and "auto_map" not in settings:
                from transformers import TokenizersBackend

                return TokenizersBackend
        from transformers import AutoTokenizer

        return AutoTokenizer


def config(spec: str) -> PreTrainedConfig:
    """The configuration of a model, of what reads and writes text in it."""
    with spent.on("import"):
        from transformers import AutoConfig

    return pretrained(AutoConfig, spec).get_text_config()


def load(spec: str, dtype: str = "float32") -> PreTrainedModel:
    """The model, in evaluation mode, on the GPU where there is one, shared out over several where
    one cannot hold it.

    The last two stay loaded. Do not train this object: copy it.
    """
    # by content: a model trained anew under its old name is another model
    return _load(bare(spec), dtype, fingerprint(bare(spec)))


@lru_cache(maxsize=2)
def _load(spec: str, dtype: str, content: str) -> PreTrainedModel:
    with spent.on("import"):
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

    # loading and saving take a moment here; the notebook's own bar counts jobs
    logging.disable_progress_bar()
    several = torch.cuda.device_count() > 1
    shared = several and weights(spec, dtype) > 0.9 * torch.cuda.mem_get_info()[0]
    settings = {"dtype": getattr(torch, dtype), "device_map": "auto" if shared else None}
    model = pretrained(AutoModelForCausalLM, spec, **settings)
    if not shared:
        model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    return model.eval()


def render(spec: str, prompt: str) -> str:
    """The text that the model sees for a user's prompt, up to where its answer begins.

    ModelError for what its template refuses (some take no system prompt), and for an empty think
    block that it closes in the prompt, unless thinking is switched off.
    """
    from jinja2 import TemplateError

    tok, turns = load_tokenizer(spec), [{"role": "user", "content": prompt}]
    try:
        text = tok.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        refusal = f"its chat template refuses the prompt ({first_line(error)})"
        prompted = chat.SYSTEM in options_of(spec)
        mend = "leave system_prompt out" if prompted else "take another template"
        raise ModelError(f"model {spec!r}: {refusal}; {mend}") from None
    if fault := chat.fault(spec, tok, prompt, text):
        raise ModelError(f"model {spec!r}: {fault}")
    return text


def prompt_ids(spec: str, prompt: str) -> list[int]:
    """The token ids of `render(spec, prompt)`, without control tokens out of the prompt itself."""
    return list(_prompt_ids(spec, prompt, load_tokenizer(spec)))


@lru_cache(maxsize=10_000)  # a question is asked many times
def _prompt_ids(spec: str, prompt: str, tok: PreTrainedTokenizerBase) -> tuple[int, ...]:
    return tuple(tokens.encode(tok, render(spec, prompt), prompt))


def think_prefix(spec: str) -> str:
    """What a trajectory's text begins with before the first sampled token: "<think>\\n" or "".

    Some templates (DeepSeek-R1-Distill, QwQ) open the think block in the prompt, so what is sampled
    lacks the tag. An engine puts it back in front of a `text` that does not open it again
    (token_ids stay as sampled), and training takes it off for a student whose template writes it.
    """
    return f"{THINK}\n" if re.search(rf"{THINK}\s*$", render(spec, "")) else ""
